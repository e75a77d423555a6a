"""Kernels on another machine or in another container: alive as long as their heartbeat changes."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gglib_nb import (
    AlreadyQueuedError,
    DownloadManager,
    DownloadManagerConfig,
    DownloadRequest,
    DownloadStatus,
    IntegrityError,
)
from gglib_nb.catalog import database
from gglib_nb.catalog.database import Database
from gglib_nb.catalog.queues import KernelRecord, Queues
from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.stored import StoredDownload, StoredQueue
from gglib_nb.manager import keeper
from gglib_nb.system import boot_id
from tests.support.faulty_hub import FaultyHub, WrongBytes
from tests.support.hub import make_repository
from tests.support.kernel import wait_until
from tests.support.partials import write_journal
from tests.support.plans import a_plan
from tests.support.snapshots import download


@dataclass
class Clock:
    """A clock that only the test moves."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(keeper, "time", clock)
    return clock


@pytest.fixture
def kernel(hub: FaultyHub, tmp_path: Path, clock: Clock) -> Iterator[DownloadManager]:
    models = tmp_path / "models"
    config = DownloadManagerConfig(models, state_directory=tmp_path / "state", endpoint=hub.url, max_concurrent=1)
    with DownloadManager(config) as manager:
        yield manager


@pytest.fixture
def elsewhere(kernel: DownloadManager) -> Callable[[], None]:
    """Writes the queue of a kernel in another container with its own clock, and returns its heartbeat."""
    config = kernel.config
    place = f"another-host {boot_id()} pid:[1]"
    record = KernelRecord("other", "other.ipynb", place, 1, "1", str(config.models_directory), config.endpoint)
    queues = Queues(Database(config.database_path), record, config.models_directory)
    plan = a_plan("owner/a:Q4")
    file = plan.files[0]
    target = str(config.models_directory / "owner" / "a" / file.path_in_repo)
    plan = replace(plan, files=(PlannedFile(file.path_in_repo, 100, None, target),))
    queue = StoredQueue((StoredDownload(plan, DownloadStatus.PAUSED, False, (), 1.0),))
    items = [download("owner/a:Q4", "downloading", bytes_per_second=1e6, eta_seconds=60.0)]
    queues.write(queue, items)

    def give_beat() -> None:
        queues.beat(items)

    return give_beat


def test_a_kernel_with_heartbeats_is_never_adopted_whatever_its_clock(
    kernel: DownloadManager, elsewhere: Callable[[], None], clock: Clock
) -> None:
    kernel.sync.adopt()
    for _ in range(8):
        clock.now_s += keeper.SILENT_S / 2
        elsewhere()
        kernel.sync.see_others()

    assert kernel.sync.adopt().total == 0
    assert [one.is_left for one in kernel.snapshot.elsewhere] == [False]


def test_partial_files_of_another_kernels_queue_are_neither_discarded_nor_pruned_nor_queued(
    kernel: DownloadManager, elsewhere: Callable[[], None]
) -> None:
    (file,) = a_plan("owner/a:Q4").files
    target = kernel.config.models_directory / "owner" / "a" / file.path_in_repo
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(b"begun")
    write_journal(target)

    kernel.sync.discard_partials([str(target)])
    plan = kernel.sync.prune(keep_bytes=0)

    assert plan.unfinished == ()
    assert kernel.sync.queue_partials() == []
    assert [one.target for one in kernel.sync.partials()] == [str(target)]


def test_a_kernel_silent_for_long_enough_by_our_clock_is_adopted(
    kernel: DownloadManager, elsewhere: Callable[[], None], clock: Clock
) -> None:
    first = kernel.sync.adopt().total
    clock.now_s += keeper.SILENT_S + 1
    kernel.sync.see_others()

    assert first == 0
    assert [str(item.id) for item in kernel.snapshot.items] == ["owner/a:Q4"]


@pytest.mark.usefixtures("elsewhere")
def test_a_queue_in_a_locked_database_is_adopted_once_that_can_be_used(
    kernel: DownloadManager, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(kernel.config.database_path, isolation_level=None)) as other:
        other.execute("UPDATE kernel SET is_released = 1")
        other.execute("BEGIN EXCLUSIVE")
        assert kernel.sync.adopt().total == 0
        other.execute("ROLLBACK")
    clock.now_s += keeper._RETRY_S
    kernel.sync.see_others()

    assert [str(item.id) for item in kernel.snapshot.items] == ["owner/a:Q4"]


def test_a_kernel_without_heartbeats_has_no_rate(
    kernel: DownloadManager, elsewhere: Callable[[], None], clock: Clock
) -> None:
    kernel.sync.see_others()
    (before,) = kernel.snapshot.elsewhere

    clock.now_s += keeper.OUTDATED_S + 1
    kernel.sync.see_others()
    (silent,) = kernel.snapshot.elsewhere
    elsewhere()
    kernel.sync.see_others()

    assert (before.bytes_per_second, before.eta_seconds) == (1e6, 60.0)
    assert (silent.bytes_per_second, silent.eta_seconds, silent.notice) == (None, None, "no news from its kernel")
    assert kernel.snapshot.elsewhere == (before,)


def test_downloads_completed_by_a_killed_kernel_are_not_resumed(
    kernel: DownloadManager, held: FaultyHub, make_manager: Callable[..., DownloadManager]
) -> None:
    """As a worker of a fork pool: it ends as soon as its function returns, before the end of the download is stored."""
    queued = kernel.sync.queue_smart("demo/small-GGUF", "Q4_K_M")
    kernel.sync.queue_smart("demo/small-GGUF", "Q8_0")
    stored = kernel._parts.queue.ask(lambda machine: machine.stored()).result()
    kernel.sync.pause("Q8_0")  # so that it is not complete, too, when the first one is
    held.set_speed()
    queued.sync.wait()
    kernel.sync.cancel_all()
    config = kernel.config
    record = KernelRecord("gone", "", "here", 1, "", str(config.models_directory), config.endpoint)
    queues = Queues(Database(config.database_path), record, config.models_directory)
    queues.write(stored, [])
    queues.release()

    with make_manager() as next_kernel:
        adopted = next_kernel.sync.adopt()

        assert (adopted.going_on, adopted.waiting) == (0, 1)
        assert [item.id.quantization for item in next_kernel.snapshot.items] == ["Q8_0"]


def test_a_kernel_with_only_failures_writes_nothing(kernel: DownloadManager, hub: FaultyHub) -> None:
    hub.faults.add(WrongBytes(), path="small-Q4_K_M*", origin="cdn", times=None)
    with pytest.raises(IntegrityError):
        kernel.sync.download("demo/small-GGUF", "Q4_K_M")
    kernel.sync.history()  # the keeper has stored the end

    assert [item.status for item in kernel.snapshot.recent_failures] == [DownloadStatus.FAILED]
    assert kernel._parts.keeper._rest_s() is None


def test_downloads_are_not_adopted_into_an_unmounted_models_folder(
    kernel: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    config = kernel.config
    kernel.sync.download("demo/small-GGUF", "Q4_K_M")
    record = KernelRecord("gone", "", "here", 1, "", str(config.models_directory), config.endpoint)
    queues = Queues(Database(config.database_path), record, config.models_directory)
    file = PlannedFile("a.gguf", 100, None, str(config.models_directory / "owner" / "a" / "a.gguf"))
    plan = replace(a_plan("owner/a:Q4"), files=(file,))
    queues.write(StoredQueue((StoredDownload(plan, DownloadStatus.PAUSED, False, (), 1.0),)), [])
    queues.release()
    config.models_directory.rename(tmp_path / "unmounted")

    adopted = kernel.sync.adopt()
    kinds = [notice.kind for notice in kernel.snapshot.notices]
    (tmp_path / "unmounted").rename(config.models_directory)

    assert (adopted.total, kinds) == (0, ["folder_missing"])
    assert kernel.sync.adopt().total == 1


def test_a_model_in_another_kernels_queue_is_neither_pruned_nor_deleted(
    make_manager: Callable[..., DownloadManager],
) -> None:
    owner, other = make_manager(), make_manager()
    path = owner.sync.download("demo/small-GGUF", "Q4_K_M")
    id_ = owner.sync.queue_download(DownloadRequest("demo/small-GGUF", "Q4_K_M", force=True))
    wait_until(lambda: other.sync.see_others() or bool(other.snapshot.elsewhere), 60, "the other queue")

    plan = other.sync.prune(keep_bytes=0)
    with pytest.raises(AlreadyQueuedError, match="Cancel it there"):
        other.sync.delete(id_)

    assert plan.models == ()
    assert path.exists()


def test_a_deletion_keeps_the_projector_that_another_kernel_downloads_a_model_with(
    make_manager: Callable[..., DownloadManager], held: FaultyHub
) -> None:
    held.add_repository(
        make_repository("demo/v-GGUF", {"v-Q4_K_M.gguf": 60_000, "v-Q8_0.gguf": 90_000, "mmproj-v-F16.gguf": 20_000})
    )
    manager, other = make_manager(), make_manager()
    held.set_speed()
    manager.sync.download("demo/v-GGUF", "Q4_K_M", companions=("mmproj",))
    held.set_speed(bytes_per_second=0)
    queued = other.sync.queue_smart("demo/v-GGUF", "Q8_0", companions=("mmproj",))
    other.sync.see_others()  # its queue is stored

    deletion = manager.sync.delete("demo/v-GGUF:Q4_K_M")
    held.set_speed()

    assert [Path(one.path).name for one in deletion.kept] == ["mmproj-v-F16.gguf"]
    assert queued.sync.wait().paths[0].is_file()
