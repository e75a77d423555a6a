"""`--to FOLDER`: one download in another folder than the models folder, with the embedded hub and real folders."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import (
    AlreadyQueuedError,
    DiskFullError,
    DownloadManager,
    DownloadRequest,
    QueueFullError,
    RequestError,
    StorageError,
)
from gglib_nb.manager.calls import settled
from gglib_nb.manager.library import made_home
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub
from tests.support.models import MB, one_model
from tests.support.partials import write_journal
from tests.support.queue_process import QueueProcess

REPO, SMALL = "demo/small-GGUF", "demo/small-GGUF:Q4_K_M"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder on a disk that can be unmounted."""
    path = tmp_path / "disk" / "models"
    path.mkdir(parents=True)
    return path


def downloaded(manager: DownloadManager, disk: Path) -> Path:
    return manager.sync.download(REPO, "Q4_K_M", to=disk)


def test_the_model_is_stored_and_found_in_the_folder(manager: DownloadManager, disk: Path) -> None:
    path = downloaded(manager, disk)

    assert path.is_relative_to(disk / "demo" / "small-GGUF")
    assert manager.sync.path("small") == path
    assert not manager.config.models_directory.exists()
    assert [row.state for row in manager.sync.models()] == ["verified"]


def test_a_plan_knows_that_the_model_is_in_the_folder(manager: DownloadManager, disk: Path) -> None:
    downloaded(manager, disk)

    plan = manager.sync.plan(REPO)

    assert [row.key for row in plan.variants if row.is_present] == ["Q4_K_M"]


def test_companions_and_shards_are_stored_in_the_folder(manager: DownloadManager, disk: Path) -> None:
    manager.sync.download("demo/vision-GGUF", to=str(disk), companions=("mmproj",))
    manager.sync.download("demo/split-GGUF", to=disk)

    assert all(Path(target).is_relative_to(disk) for model in manager.catalog.models() for target in model.targets)


def test_the_verb_takes_the_folder_and_the_row_shows_it(manager: DownloadManager, disk: Path) -> None:
    parse(f"queue {SMALL} --to {disk} --no-start").run(Session(lambda: manager))

    assert manager.snapshot.items[0].to == str(disk)
    assert "300.0 kB  to /" in parse("status").run(Session(lambda: manager)).text


def test_a_folder_with_control_characters_in_its_name_is_shown_without_them(
    manager: DownloadManager, disk: Path
) -> None:
    (disk / "a\x1b[2Jb").mkdir()
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", to=str(disk / "a\x1b[2Jb")))

    assert "\x1b" not in parse("status").run(Session(lambda: manager)).text


def test_a_missing_folder_is_refused_and_not_created(manager: DownloadManager, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="mount it and try again"):
        manager.sync.queue_smart(REPO, "Q4_K_M", to=tmp_path / "usb")

    assert not (tmp_path / "usb").exists()
    assert manager.snapshot.items == ()


@pytest.mark.parametrize("config", [{"max_queue_size": 1}, {"storage_limit_bytes": 400_000}])
def test_a_refused_request_leaves_no_folder_behind(
    make_manager: Callable[..., DownloadManager], disk: Path, config: dict[str, int]
) -> None:
    manager = make_manager(**config)
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M"))

    with pytest.raises(QueueFullError if "max_queue_size" in config else DiskFullError):
        manager.sync.queue_download(DownloadRequest(REPO, "Q8_0", to=disk))

    assert list(disk.iterdir()) == []


def test_a_refused_request_keeps_the_folder_that_a_queued_download_needs(
    make_manager: Callable[..., DownloadManager], disk: Path
) -> None:
    manager = make_manager(max_queue_size=1)
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", to=disk))

    with pytest.raises(QueueFullError):
        manager.sync.queue_download(DownloadRequest(REPO, "Q8_0", to=disk))

    assert (disk / REPO).is_dir()


def test_a_refused_request_keeps_the_folder_that_another_kernel_has_just_queued_to(disk: Path) -> None:
    def queue() -> None:
        with made_home(disk, REPO):
            pass

    other = threading.Thread(target=queue)
    with pytest.raises(QueueFullError), made_home(disk, REPO):  # noqa: PT012 - both are needed
        other.start()
        other.join(0.5)  # if it does not wait, it has ended now
        raise QueueFullError("The queue is full.")
    other.join(30)

    assert (disk / REPO).is_dir()


@pytest.mark.parametrize("leaves_mount_point", [True, False])
def test_a_disk_unmounted_before_the_start_is_reported_and_nothing_is_written_at_its_mount_point(
    manager: DownloadManager, disk: Path, leaves_mount_point: bool
) -> None:
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", to=str(disk)))
    shutil.rmtree(disk)
    if leaves_mount_point:
        disk.mkdir()

    with pytest.raises(StorageError, match="If its disk is not mounted"):
        manager.sync.download(REPO, "Q4_K_M")

    assert not list(disk.parent.rglob("*.gguf*"))


def test_a_retry_works_when_the_disk_is_mounted_again(manager: DownloadManager, disk: Path) -> None:
    id_ = manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", to=str(disk)))
    disk.parent.rename(disk.parent.with_name("unmounted"))
    with pytest.raises(StorageError):
        manager.sync.download(REPO, "Q4_K_M")
    disk.parent.with_name("unmounted").rename(disk.parent)

    manager.sync.retry(id_)

    assert manager.sync.wait(id_).paths[0].is_relative_to(disk)


def test_a_missing_disk_with_registered_models_is_reported_by_name(manager: DownloadManager, disk: Path) -> None:
    downloaded(manager, disk)
    shutil.rmtree(disk)
    disk.mkdir()

    with pytest.raises(StorageError, match="has none of its models"):
        manager.sync.queue_smart(REPO, "Q8_0", to=disk)


def test_a_model_is_verified_repaired_and_deleted_in_its_folder(manager: DownloadManager, disk: Path) -> None:
    path = downloaded(manager, disk)
    data = bytearray(path.read_bytes())
    data[1_000] ^= 1
    path.write_bytes(data)

    assert not manager.sync.verify(SMALL).is_right
    manager.sync.repair(SMALL)
    manager.sync.wait(SMALL)
    assert manager.sync.verify(SMALL).is_right
    manager.sync.delete(SMALL)

    assert list(disk.iterdir()) == []


def test_without_the_option_a_model_stays_in_its_folder(manager: DownloadManager, disk: Path) -> None:
    path = downloaded(manager, disk)

    assert manager.sync.download(REPO, "Q4_K_M") == path
    assert not manager.config.models_directory.exists()


def test_a_model_of_a_folder_that_was_deleted_is_downloaded_elsewhere_after_it_was_forgotten_as_the_error_says(
    manager: DownloadManager, disk: Path
) -> None:
    downloaded(manager, disk)
    shutil.rmtree(disk)

    with pytest.raises(StorageError, match=f"%gguf forget {SMALL}$"):
        manager.sync.queue_smart(REPO, "Q4_K_M")
    manager.sync.forget(SMALL)

    assert manager.sync.download(REPO, "Q4_K_M").is_relative_to(manager.config.models_directory)


def test_a_second_folder_is_refused_and_the_first_is_named(manager: DownloadManager, disk: Path) -> None:
    path = manager.sync.download(REPO, "Q4_K_M")

    with pytest.raises(RequestError, match="already stored in"):
        manager.sync.queue_smart(REPO, "Q4_K_M", to=disk)

    assert manager.sync.path(SMALL) == path


def test_a_queued_download_is_not_joined_for_another_folder(manager: DownloadManager, disk: Path) -> None:
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M"))

    with pytest.raises(AlreadyQueuedError, match="to be stored in the models folder"):
        manager.sync.queue_smart(REPO, "Q4_K_M", to=disk)


def test_the_models_folder_can_be_requested_as_well(manager: DownloadManager, disk: Path) -> None:
    id_ = manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", to=disk))
    models = manager.config.models_directory

    with pytest.raises(AlreadyQueuedError, match=f"to be stored in {disk}"):
        manager.sync.queue_smart(REPO, "Q4_K_M", to=models)
    manager.sync.run_now(id_)
    manager.sync.wait(id_)
    with pytest.raises(RequestError, match=f"already stored in {disk}"):
        manager.sync.queue_smart(REPO, "Q4_K_M", to=models)

    assert manager.sync.queue_smart(REPO, "Q4_K_M", to=disk).sync.wait().paths[0].is_relative_to(disk)


def test_a_cancelled_downloads_partial_file_in_the_folder_is_listed_resumed_and_discarded(
    make_manager: Callable[..., DownloadManager], make_hub: Callable[..., FaultyHub], disk: Path
) -> None:
    hub = make_hub([one_model("demo/long", 8 * MB)])
    manager = make_manager(endpoint=hub.url)
    hub.set_speed(2 * MB)
    queued = manager.sync.queue_smart("demo/long", to=disk)
    hub.wait_for(lambda _records: hub.bytes_sent() > MB)
    hub.set_speed(0)
    settled(manager.submit(manager.sync.cancel_all))

    assert [Path(one.target).is_relative_to(disk) for one in manager.sync.partials()] == [True]
    hub.set_speed(None)
    manager.sync.queue_partials()
    assert manager.sync.wait(queued.id).paths[0].is_relative_to(disk)
    assert manager.sync.partials() == []


@pytest.mark.slow
def test_the_folder_is_remembered_by_the_next_kernel(
    make_hub: Callable[..., FaultyHub], tmp_path: Path, disk: Path
) -> None:
    hub = make_hub([one_model("demo/long", 8 * MB)])
    hub.set_speed(2 * MB)
    with QueueProcess(tmp_path, hub.url) as first:
        first.value(f"manager.sync.queue_smart('demo/long', to={str(disk)!r}) and None")
        hub.wait_for(lambda _records: hub.bytes_sent() > MB)
        hub.set_speed(0)
        first.kill()
    hub.set_speed(None)

    with QueueProcess(tmp_path, hub.url) as second:
        path = second.value("str(manager.sync.download('demo/long'))")

    assert Path(path).is_relative_to(disk)
    assert Path(path).stat().st_size == 8 * MB


def test_a_waiting_download_does_not_write_to_the_mount_point_of_an_unmounted_disk(
    manager: DownloadManager,
) -> None:
    models = manager.config.models_directory
    manager.sync.download(REPO, "Q4_K_M")
    id_ = manager.sync.queue_download(DownloadRequest(REPO, "Q8_0"))
    models.rename(models.with_name("unmounted"))
    models.mkdir()

    manager.sync.run_now(id_)
    with pytest.raises(StorageError, match="If its disk is not mounted"):
        manager.sync.wait(id_)

    assert list(models.iterdir()) == []


def test_a_disk_that_is_unmounted_after_the_very_first_download_is_not_filled(manager: DownloadManager) -> None:
    models = manager.config.models_directory
    later = manager.sync.queue_download(DownloadRequest(REPO, "Q8_0"))
    manager.sync.pause(later)
    first = manager.sync.queue_smart(REPO, "Q4_K_M")
    first.sync.wait()
    models.rename(models.with_name("unmounted"))
    models.mkdir()

    manager.sync.resume(later)
    with pytest.raises(StorageError, match="If its disk is not mounted"):
        manager.sync.wait(later)

    assert list(models.iterdir()) == []


def test_a_bundle_is_not_imported_into_an_unmounted_models_folder(manager: DownloadManager, tmp_path: Path) -> None:
    models = manager.config.models_directory
    manager.sync.download(REPO, "Q4_K_M")
    manager.sync.download(REPO, "Q8_0")
    manager.sync.export([f"{REPO}:Q8_0"], tmp_path / "bundle")
    manager.sync.delete(f"{REPO}:Q8_0")
    models.rename(tmp_path / "unmounted")

    with pytest.raises(StorageError, match="If its disk is not mounted"):
        manager.sync.import_folder(tmp_path / "bundle")

    assert not models.exists()


def test_a_waiting_download_starts_after_the_last_registered_model_is_deleted(
    manager: DownloadManager,
) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    id_ = manager.sync.queue_download(DownloadRequest("demo/vision-GGUF"))
    manager.sync.delete(SMALL)
    shutil.rmtree(manager.config.models_directory / "demo", ignore_errors=True)

    manager.sync.run_now(id_)

    assert manager.sync.wait(id_).paths[0].exists()


@pytest.mark.parametrize("leaves_mount_point", [True, False])
def test_prune_includes_the_folder_and_names_it_while_it_is_not_mounted(
    manager: DownloadManager, disk: Path, leaves_mount_point: bool
) -> None:
    path, session = downloaded(manager, disk), Session(lambda: manager)
    disk.parent.rename(disk.parent.with_name("away"))
    if leaves_mount_point:
        disk.mkdir(parents=True)

    assert manager.sync.prune(keep_bytes=0, unused_s=0).models == ()
    text = parse("prune --keep 1kB").run(session).text
    assert f"Models in {disk} are kept" in text
    with pytest.raises(StorageError, match="If its disk is not mounted"):
        manager.sync.delete(SMALL)
    assert [row.id for row in manager.sync.models()] == [SMALL]

    if leaves_mount_point:
        shutil.rmtree(disk.parent)
    disk.parent.with_name("away").rename(disk.parent)
    plan = manager.sync.prune(keep_bytes=0)

    assert ([one.id for one in plan.models], plan.missing_folders) == ([SMALL], ())
    assert not path.exists()
    assert manager.sync.models() == []


def test_prune_and_delete_keep_the_models_of_an_empty_models_folder(manager: DownloadManager) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    models = manager.config.models_directory
    models.rename(models.with_name("away"))
    models.mkdir()

    plan = manager.sync.prune(unused_s=0)

    assert (plan.models, plan.missing_folders) == ((), (str(models),))
    with pytest.raises(StorageError, match=r"has none of its models\. If its disk is not mounted"):
        manager.sync.delete(SMALL)
    assert [row.id for row in manager.sync.models()] == [SMALL]


def test_prune_forgets_a_model_without_files_after_it_deleted_the_last_one_with_files(
    manager: DownloadManager,
) -> None:
    manager.sync.download("demo/vision-GGUF")
    manager.sync.download(REPO, "Q4_K_M").unlink()

    manager.sync.prune(unused_s=0)

    assert manager.sync.models() == []


def test_a_dead_mount_does_not_hide_the_partial_files_of_other_folders(
    manager: DownloadManager, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded(manager, disk)
    target = manager.config.models_directory / "demo" / "small-GGUF" / "small-Q8_0.gguf"
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(b"begun")
    write_journal(target)
    real = {name: getattr(os, name) for name in ("stat", "lstat", "scandir")}

    def dead(name: str) -> Callable[..., object]:
        def call(path: object = ".", *args: object, **options: object) -> object:
            if isinstance(path, str | Path) and Path(path).is_relative_to(disk):
                raise OSError(107, "Transport endpoint is not connected", str(path))
            return real[name](path, *args, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, dead(name))

    assert [one.target for one in manager.sync.partials()] == [str(target)]
    assert [one.target for one in manager.sync.prune(keep_bytes=10**9).unfinished] == [str(target)]
    assert [row.state for row in manager.sync.models()] == ["missing"]


def test_prune_deletes_unfinished_downloads_of_the_folder(manager: DownloadManager, disk: Path) -> None:
    downloaded(manager, disk)
    target = disk / "demo" / "small-GGUF" / "small-Q8_0.gguf"
    target.with_name(f"{target.name}.part").write_bytes(b"begun")
    write_journal(target)

    assert [one.target for one in manager.sync.prune(keep_bytes=10**9).unfinished] == [str(target)]
    assert manager.sync.partials() == []


def test_a_partial_of_a_folder_below_the_models_folder_is_listed_once_and_queued_there(
    manager: DownloadManager, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "work"
    folder.mkdir(parents=True)
    downloaded(manager, folder)
    target = folder / "demo" / "small-GGUF" / "small-Q8_0.gguf"
    target.with_name(f"{target.name}.part").write_bytes(b"begun")
    write_journal(target)

    assert [one.target for one in manager.sync.partials()] == [str(target)]
    assert list(map(str, manager.sync.queue_partials())) == [f"{REPO}:Q8_0"]
    assert manager.sync.wait(f"{REPO}:Q8_0").paths == (target,)


def test_prune_keeps_models_imported_from_another_folder(manager: DownloadManager, disk: Path) -> None:
    downloaded(manager, disk)
    manager.sync.forget(SMALL)
    manager.sync.import_folder(disk)

    plan = manager.sync.prune(keep_bytes=0)

    assert (plan.models, plan.missing_folders) == ((), ())
    assert len(manager.sync.models()) == 1


@pytest.mark.parametrize("line", ["delete small --yes", "prune --keep 1kB --yes"])
def test_a_deleted_model_is_no_longer_listed_as_downloaded(manager: DownloadManager, disk: Path, line: str) -> None:
    downloaded(manager, disk)
    manager.sync.download("demo/vision-GGUF")
    session = Session(lambda: manager)

    parse(line).run(session)

    assert "small-Q4_K_M.gguf" not in parse("status").run(session).text
    assert ("vision-Q4_K_M.gguf" in parse("status").run(session).text) == line.startswith("delete")


def test_a_cancelled_download_can_be_queued_to_another_folder_before_it_has_stopped(
    make_manager: Callable[..., DownloadManager], make_hub: Callable[..., FaultyHub], disk: Path, tmp_path: Path
) -> None:
    hub = make_hub([one_model("demo/long", 8 * MB)])
    manager = make_manager(endpoint=hub.url)
    hub.set_speed(2 * MB)
    (tmp_path / "other").mkdir()
    queued = manager.sync.queue_smart("demo/long", to=disk)
    hub.wait_for(lambda _records: hub.bytes_sent() > MB)
    hub.set_speed(0)
    assert manager.engine_pid is not None
    os.kill(manager.engine_pid, signal.SIGSTOP)
    try:
        manager.sync.cancel_download(queued.id)
        again = manager.sync.queue_smart("demo/long", to=tmp_path / "other")
        assert manager.snapshot.items[0].to == str(tmp_path / "other")
        manager.sync.cancel_download(again.id)
    finally:
        os.kill(manager.engine_pid, signal.SIGCONT)
