"""Stored models: listed, forgotten, deleted and loaded elsewhere, with real files and a real catalog."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gglib_nb
from gglib_nb import AlreadyQueuedError, DownloadManager, ModelNotFoundError, StorageError
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.engine import disk
from tests.support.catalog_models import model, stored
from tests.support.faulty_hub import FaultyHub

SMALL = "demo/small-GGUF:Q4_K_M"


async def test_models_are_listed_with_the_state_of_their_files(manager: DownloadManager) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")

    [row] = await manager.models()

    assert (row.id, row.state, row.path, row.size_bytes) == (SMALL, "verified", str(path), 300_000)
    assert row.architecture == "llama"
    assert row.context_length == 2048
    assert row.verified_at_s is not None


@pytest.mark.slow
async def test_a_touched_or_removed_file_is_shown_in_its_row(manager: DownloadManager) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")

    path.write_bytes(b"other")
    [touched] = await manager.models()
    path.unlink()
    [removed] = await manager.models()

    assert (touched.state, removed.state) == ("changed", "missing")


async def test_a_model_on_a_disk_that_hangs_holds_up_no_list_of_models(
    manager: DownloadManager, tmp_path: Path, monkeypatch
) -> None:
    answers, stat = threading.Event(), Path.stat

    def hangs(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "hung":
            answers.wait(60)
        return stat(path, **options)

    await manager.download("demo/small-GGUF", "Q4_K_M")
    manager.catalog.register(model("demo/hung-GGUF:Q4_K_M", stored(str(tmp_path / "hung" / "m.gguf"))))
    monkeypatch.setattr(Path, "stat", hangs)
    monkeypatch.setattr(disk, "_SEARCH_S", 0.3)

    rows = await asyncio.wait_for(manager.models(), 20)
    with pytest.raises(ModelNotFoundError):
        await asyncio.wait_for(manager.path("demo/hung-GGUF:Q4_K_M"), 20)
    await asyncio.wait_for(manager.prune(keep_bytes=0, dry_run=True), 20)

    answers.set()
    assert {row.id: row.state for row in rows} == {SMALL: "verified", "demo/hung-GGUF:Q4_K_M": "missing"}


@pytest.mark.slow
async def test_the_parameters_of_a_split_model_are_counted_over_its_shards(manager: DownloadManager) -> None:
    await manager.download("demo/split-GGUF", "Q4_K_M")

    [row] = await manager.models()

    [model] = manager.catalog.models()
    counted = [file.facts["tensor_parameters"] for file in model.files]
    assert len(counted) == 3
    assert row.parameter_count == sum(counted)


@pytest.mark.slow
def test_the_operations_also_work_without_an_event_loop(manager: DownloadManager) -> None:
    path = manager.sync.download("demo/small-GGUF", "Q4_K_M")

    assert [row.id for row in manager.sync.models()] == [SMALL]
    assert manager.sync.path("small") == path
    assert str(path) in manager.sync.loading_lines("small", "llama-server")
    manager.sync.forget("small")
    assert manager.sync.models() == []
    assert path.exists()


def test_disk_usage_counts_a_shared_file_once(manager: DownloadManager, tmp_path: Path) -> None:
    projector = stored(str(tmp_path / "mmproj.gguf"), 30, kind="mmproj")
    for name in ("a", "b"):
        files = (stored(str(tmp_path / f"{name}.gguf"), 100), projector)
        for file in files:
            Path(file.target).touch()
        manager.catalog.register(Model(DownloadId("x/y", name), None, None, files, 1.0))

    use = manager.sync.disk_use()

    assert use.models_bytes == 230
    assert use.free_bytes is not None


async def test_deleting_removes_files_row_and_empty_folders(manager: DownloadManager) -> None:
    path = await manager.download("demo/split-GGUF", "Q4_K_M")

    deletion = await manager.delete("split")

    assert len(deletion.deleted) == 3
    assert deletion.freed_bytes >= 300_000
    assert await manager.models() == []
    assert manager.config.models_directory.exists()
    assert not path.parent.parent.parent.exists()


@pytest.mark.slow
async def test_a_dry_run_reports_the_same_and_deletes_nothing(manager: DownloadManager) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")

    plan = await manager.delete("small", dry_run=True)

    assert plan.deleted == (str(path),)
    assert path.exists()
    assert replace(await manager.delete("small"), is_dry_run=True) == plan


@pytest.mark.slow
def test_a_companion_used_by_another_model_is_kept(manager: DownloadManager) -> None:
    path = manager.sync.download("demo/vision-GGUF", companions=("mmproj",))
    [model] = manager.catalog.models()
    projector, projector_path = model.files[1], Path(model.files[1].target)
    manager.catalog.register(Model(DownloadId("demo/other", "Q8_0"), None, None, (projector,), 1.0))

    deletion = manager.sync.delete("demo/vision-GGUF")

    assert [kept.path for kept in deletion.kept] == [projector.target]
    assert "demo/other:Q8_0 uses it" in deletion.kept[0].reason
    assert projector_path.exists()
    assert not path.exists()


@pytest.mark.slow
async def test_deleting_a_link_to_shared_bytes_frees_nothing(manager: DownloadManager, tmp_path: Path) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")
    (tmp_path / "elsewhere.gguf").hardlink_to(path)

    deletion = await manager.delete("small")

    assert deletion.freed_bytes == 0
    assert (tmp_path / "elsewhere.gguf").exists()


async def test_a_model_being_downloaded_is_not_deleted(manager: DownloadManager, hub: FaultyHub) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")
    hub.set_speed(bytes_per_second=0)
    await manager.queue_smart("demo/small-GGUF", "Q4_K_M", force=True)

    with pytest.raises(AlreadyQueuedError, match="%gguf cancel demo/small-GGUF:Q4_K_M"):
        await manager.delete("small")

    assert path.exists()
    await manager.cancel_all()


async def test_files_in_the_hub_cache_are_not_deleted(manager: DownloadManager, tmp_path: Path) -> None:
    path = tmp_path / "hub" / "models--a--b" / "snapshots" / ("c" * 40) / "b.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    manager.catalog.register(Model(DownloadId("a/b", "Q4"), None, None, (stored(str(path), 1),), 1.0))

    with pytest.raises(StorageError, match="hf cache rm model/a/b"):
        await manager.delete("a/b")

    assert path.exists()
    assert len(await manager.models()) == 1


async def test_a_path_of_a_missing_file_raises_with_advice(manager: DownloadManager) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")
    path.unlink()

    with pytest.raises(ModelNotFoundError, match=r"is missing.*%gguf queue"):
        await manager.path("small")


def test_a_path_of_a_split_model_that_lacks_a_later_shard_raises(manager: DownloadManager) -> None:
    first = manager.sync.download("demo/split-GGUF")
    second = first.with_name(first.name.replace("00001-of", "00002-of"))
    second.unlink()

    with pytest.raises(ModelNotFoundError, match=f"is missing: {second}"):
        manager.sync.path("split")


def test_the_package_returns_a_path_without_a_manager_or_the_hub(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager()
    path = manager.sync.download("demo/small-GGUF", "Q4_K_M")
    manager.close()
    asked = len(hub.requests)
    monkeypatch.setenv("GGLIB_STATE_DIR", str(tmp_path / "state"))

    assert gglib_nb.path(SMALL) == path
    assert gglib_nb.path("small") == path
    assert len(hub.requests) == asked
    from gglib_nb.manager.manager import existing_manager

    assert existing_manager() is None


async def test_operations_after_close_raise_without_waiting(make_manager: Callable[..., DownloadManager]) -> None:
    manager = make_manager()
    await manager.models()
    await manager.aclose()

    with pytest.raises(gglib_nb.GglibError):
        await asyncio.wait_for(manager.models(), 20)


def test_an_unmounted_models_folder_is_not_written_to(manager: DownloadManager, hub: FaultyHub, tmp_path: Path) -> None:
    manager.sync.download("demo/small-GGUF")
    folder = manager.config.models_directory
    folder.rename(tmp_path / "unmounted")

    with pytest.raises(StorageError, match="mount"):
        manager.sync.download("demo/split-GGUF")
    is_recreated = folder.exists()
    (tmp_path / "unmounted").rename(folder)
    path = manager.sync.download("demo/split-GGUF")

    assert not is_recreated
    assert path.is_file()


def test_an_empty_mount_point_is_not_written_to_until_its_models_are_declared_deleted(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    manager.sync.download("demo/small-GGUF")
    folder = manager.config.models_directory
    folder.rename(tmp_path / "unmounted")
    folder.mkdir()

    with pytest.raises(StorageError, match=f"create the folder {folder / 'demo'} "):
        manager.sync.download("demo/small-GGUF")
    is_filled = any(folder.iterdir())
    (folder / "demo").mkdir()

    assert not is_filled
    assert manager.sync.download("demo/small-GGUF").is_file()


async def test_all_stored_models_are_written_to_a_preset_and_user_sections_are_kept(
    manager: DownloadManager, tmp_path: Path
) -> None:
    path = await manager.download("demo/small-GGUF", "Q4_K_M")
    gone = await manager.download("demo/small-GGUF", "Q8_0")
    gone.unlink()
    file = tmp_path / "models.ini"
    file.write_text("; mine\n[*]\nctx-size = 4096\n")

    written = await manager.write_preset(file)

    assert (written.path, written.model_count, written.left_out) == (str(file), 1, ())
    assert "; mine\n[*]\nctx-size = 4096\n" in file.read_text()
    assert f"[{SMALL}]\n" in file.read_text()
    assert f"model = {path}\n" in file.read_text()
    assert str(gone) not in file.read_text()


async def test_an_unwritable_preset_is_refused(manager: DownloadManager, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written.* Name a file in a folder that you can write\.$"):
        await manager.write_preset(tmp_path / "no" / "folder" / "models.ini")


def test_an_unreadable_folder_stops_neither_plan_nor_partials(
    manager: DownloadManager, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.sync.download("demo/small-GGUF")
    forbidden = str(manager.config.models_directory / "demo")
    for name in ("stat", "lstat", "scandir", "open"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), forbidden))

    plan = manager.sync.plan("demo/small-GGUF")
    [row] = manager.sync.models()

    assert plan.variants
    assert row.state == "missing"
    assert manager.sync.partials() == []


def refusing(call: Callable[..., Any], folder: str) -> Callable[..., Any]:
    """The call as a user without permission to search the folder; root has it."""

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{folder}/"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return call(path, *args, **options)

    return refuse
