"""The synchronous form: the same operations without a loop, and none is missing."""

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, DownloadRequest, NotInQueueError, QueueFullError
from gglib_nb.manager.manager import SyncOperations
from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import wait_until

SMALL = "demo/small-GGUF"
SPLIT = "demo/split-GGUF"


def operations() -> list[str]:
    """Every operation: the public functions of `sync`, except `close`."""
    members = inspect.getmembers(SyncOperations, inspect.isfunction)
    return [name for name, _ in members if not name.startswith("_") and name != "close"]


def public_coroutines() -> list[str]:
    members = inspect.getmembers(DownloadManager, inspect.iscoroutinefunction)
    return [name for name, _ in members if not name.startswith("_") and name != "aclose"]


def test_operations_and_coroutines_correspond_one_to_one() -> None:
    assert public_coroutines() == operations()


@pytest.mark.parametrize("name", operations())
def test_a_coroutine_has_the_signature_and_docstring_of_its_operation(name: str) -> None:
    waiting, awaiting = getattr(SyncOperations, name), getattr(DownloadManager, name)

    assert inspect.signature(awaiting) == inspect.signature(waiting)
    assert inspect.getdoc(awaiting) == inspect.getdoc(waiting)
    assert awaiting.__name__ == name


def test_a_script_downloads_without_a_loop(manager: DownloadManager) -> None:
    path = manager.sync.download(SMALL, "Q4_K_M")

    assert path.stat().st_size == 300_000


def test_a_script_queues_inspects_moves_and_cancels(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.set_speed(bytes_per_second=0)
    manager.sync.queue_and_process(DownloadRequest(SMALL, "Q4_K_M"))
    manager.sync.queue_download(DownloadRequest(SMALL, "Q8_0"))
    last = manager.sync.queue_smart(SPLIT)

    position = manager.sync.reorder_queue(last.id, 1)
    order = [str(item.id) for item in manager.sync.get_queue_snapshot().items]
    manager.sync.remove_from_queue(last.id)
    manager.sync.cancel_group("demo/small-GGUF:Q8_0")
    manager.sync.cancel_all()

    assert position == 1
    assert order == ["demo/small-GGUF:Q4_K_M", "demo/split-GGUF:Q4_K_M", "demo/small-GGUF:Q8_0"]
    assert (manager.sync.active_count(), manager.sync.pending_count()) == (0, 0)


@pytest.mark.slow
def test_a_script_changes_limits_pauses_and_resumes(manager: DownloadManager) -> None:
    manager.sync.queue_download(DownloadRequest(SMALL, "Q4_K_M"))
    manager.sync.set_max_queue_size(1)
    with pytest.raises(QueueFullError):
        manager.sync.queue_download(DownloadRequest(SPLIT))
    manager.sync.pause("demo/small-GGUF:Q4_K_M")
    manager.sync.set_bandwidth_limit(50_000_000)
    manager.sync.resume("demo/small-GGUF:Q4_K_M")
    manager.sync.join()

    assert manager.sync.get_max_queue_size() == 1
    assert manager.snapshot.bandwidth_limit_bytes_per_second == 50_000_000
    assert not manager.sync.has_download("demo/small-GGUF:Q4_K_M")
    with pytest.raises(NotInQueueError):
        manager.sync.retry("demo/small-GGUF:Q4_K_M")


def test_plan_and_search_queue_nothing(manager: DownloadManager) -> None:
    plan = manager.sync.plan(SMALL)
    found = manager.sync.search("small")

    assert [variant.key for variant in plan.variants] == ["Q4_K_M", "Q8_0"]
    assert plan.recommended is not None
    assert plan.recommended.key == "Q4_K_M"
    assert [row.repo_id for row in found] == [SMALL]
    assert manager.snapshot.items == ()


@pytest.mark.slow
def test_threads_share_one_manager(make_manager: Callable[..., DownloadManager], tmp_path: Path) -> None:
    manager = make_manager(max_concurrent=2)
    paths: list[Path] = []
    wanted = [(SMALL, "Q4_K_M"), (SMALL, "Q8_0"), (SPLIT, "Q4_K_M")]
    threads = [threading.Thread(target=lambda one=one: paths.append(manager.sync.download(*one))) for one in wanted]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(path.name for path in paths) == [
        "small-Q4_K_M.gguf",
        "small-Q8_0.gguf",
        "split-Q4_K_M-00001-of-00003.gguf",
    ]


class Progress:
    """A callback that calls an operation."""

    def __init__(self, manager: DownloadManager) -> None:
        self.has_called = threading.Event()
        self.manager = manager

    def __call__(self, _download: object) -> None:
        self.manager.sync.active_count()
        self.has_called.set()


async def test_a_cancelled_wait_ends_although_its_callback_called_an_operation(
    manager: DownloadManager, held: FaultyHub
) -> None:
    has_ended = threading.Event()

    async def wait_until_cancelled() -> None:
        progress = Progress(manager)
        weakref.finalize(progress, has_ended.set)  # the operation's thread holds it until its wait has ended
        waiting = asyncio.create_task(manager.download(SMALL, "Q4_K_M", progress=progress))
        assert await asyncio.to_thread(progress.has_called.wait, 60)
        waiting.cancel()
        await asyncio.wait([waiting])

    await wait_until_cancelled()

    await asyncio.to_thread(wait_until, lambda: gc.collect() >= 0 and has_ended.is_set(), 60, "the end of the wait")
    assert await manager.active_count() == 1


class WatchedLoop(asyncio.SelectorEventLoop):
    """A loop that counts how often it was asked whether it runs, as before each drawing."""

    looks = 0

    def is_running(self) -> bool:
        self.looks += 1
        return super().is_running()


def test_nothing_is_shown_while_the_loop_of_an_interrupted_cell_does_not_run(
    manager: DownloadManager, held: FaultyHub
) -> None:
    calls: list[object] = []
    loop = WatchedLoop()

    def let_it_look() -> None:
        """The thread that draws ends what it began before, and looks again."""
        seen = loop.looks
        wait_until(lambda: loop.looks >= seen + 2, 60, "two looks at the loop")

    waiting = loop.create_task(manager.download(SMALL, "Q4_K_M", progress=calls.append))
    while not calls:
        loop.run_until_complete(asyncio.sleep(0.05))
    let_it_look()
    shown = len(calls)
    manager.sync.pause_all()
    let_it_look()
    shown_while_stopped = len(calls) - shown
    manager.sync.resume_all()
    held.set_speed()
    path = loop.run_until_complete(waiting)
    loop.close()

    assert shown_while_stopped == 0
    assert path.exists()
