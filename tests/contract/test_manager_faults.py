"""Calls always return, a callback or a slow hub does not stop others, and the kernel's memory does not grow."""

import asyncio
import gc
import inspect
import os
import queue
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gglib_nb import (
    CatalogError,
    DownloadManager,
    DownloadRequest,
    GglibError,
    IntegrityError,
    ManagerClosedError,
    WorkProgress,
)
from gglib_nb.catalog.queues import Queues
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import DownloadInterruptedError
from gglib_nb.manager import advice, updating
from gglib_nb.manager import manager as managers
from gglib_nb.manager.keeper import QueueKeeper
from gglib_nb.manager.manager import SyncOperations
from gglib_nb.manager.operations import QueueOperations
from gglib_nb.manager.queue_thread import QueueThread
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Limits
from gglib_nb.queue.effects import RegisterModel
from gglib_nb.queue.machine import QueueMachine
from tests.support.faulty_hub import FaultyHub, Latency, WrongBytes
from tests.support.hub import make_files, make_repository
from tests.support.kernel import wait_until

SMALL = "demo/small-GGUF"
SPLIT = "demo/split-GGUF"
OPERATIONS = sorted(
    name for name, _ in inspect.getmembers(SyncOperations, inspect.isfunction) if name[0] != "_" and name != "close"
)
ARGUMENTS: dict[str, Any] = {
    "request": DownloadRequest(SMALL), "folder": ".", "file": "x", "new_position": 1, "max_size": 3, "max_concurrent": 1,
    "max_connections": 2, "network_wait_s": 5, "bytes_per_second": None, "hours": None, "engine": None, "targets": (),
    "status": "failed",
}  # fmt: skip


def arguments_of(operation: Callable[..., Any]) -> dict[str, Any]:
    required = [
        one
        for one in inspect.signature(operation).parameters.values()
        if one.default is one.empty and one.name != "self" and one.kind is not one.VAR_POSITIONAL
    ]
    return {one.name: ARGUMENTS.get(one.name, SMALL) for one in required}


# Every call is answered


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_of_a_closed_manager_raises(manager: DownloadManager, name: str) -> None:
    manager.close()
    operation = getattr(SyncOperations, name)

    future = manager.submit(operation, manager.sync, **arguments_of(operation))
    with pytest.raises(ManagerClosedError):
        future.result(timeout=60)
    with pytest.raises(ManagerClosedError):
        getattr(manager.sync, name)(**arguments_of(operation))


def test_listening_to_a_closed_manager_is_refused(manager: DownloadManager) -> None:
    manager.close()

    for listen in (manager.events, lambda: manager.subscribe(print), lambda: manager.subscribe_events(print)):
        with pytest.raises(ManagerClosedError):
            listen()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_every_operation_in_a_forked_child_is_refused_at_once(manager: DownloadManager) -> None:
    manager.sync.get_queue_snapshot()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        refused = 0
        for name in OPERATIONS:
            operation = getattr(SyncOperations, name)
            with suppress(Exception):
                try:
                    manager.submit(operation, manager.sync, **arguments_of(operation)).result(timeout=60)
                except ManagerClosedError:
                    refused += 1
        with suppress(Exception):
            try:
                manager.events()
            except ManagerClosedError:
                refused += 1
        os.write(writing, str(refused).encode())
        os._exit(0)

    os.waitpid(child, 0)

    assert int(os.read(reading, 20)) == len(OPERATIONS) + 1
    assert manager.sync.has_download(SMALL) is False


@pytest.mark.parametrize(
    "name", ["gglib-queue-keeper-1", "gglib-engine-writer", "gglib-engine-reader", "gglib-catalog-1"]
)
def test_a_thread_that_cannot_start_is_started_at_the_next_use(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start, refused = threading.Thread.start, list[str]()

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == name and not refused:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)

    path = manager.submit(manager.sync.download, SMALL, "Q4_K_M").result(60)

    assert refused == [name]
    assert path.exists()
    assert manager.submit(manager.sync.history).result(60)


class Seen(list[object]):
    """A listener that cannot be hashed and is equal to others."""

    def __call__(self, one: object) -> None:
        self.append(one)


@pytest.mark.parametrize("kind", ["subscribe", "subscribe_events"])
def test_a_listener_may_subscribe_twice_and_need_not_be_hashable(manager: DownloadManager, kind: str) -> None:
    seen, has_come, calls = Seen(), threading.Event(), list[int]()
    subscribe = getattr(manager, kind)

    def count(news: Any) -> None:
        """Called after the others: counts their calls with the news."""
        if (limit := getattr(news, "snapshot", news).max_size) != 10:
            calls.append(sum(getattr(one, "snapshot", one).max_size == limit for one in seen))
            seen.clear()
            has_come.set()

    first, _, _ = subscribe(seen), subscribe(seen), subscribe(count)
    manager.sync.set_max_queue_size(5)
    assert has_come.wait(30)
    first()
    manager.sync.get_queue_snapshot()
    has_come.clear()
    manager.sync.set_max_queue_size(6)

    assert has_come.wait(30)
    assert (calls[0], calls[-1]) == (2, 1)


def test_a_queue_is_watched_as_soon_as_subscribe_returns() -> None:
    thread = QueueThread(QueueMachine(), lambda _effect: None)
    end = thread.subscribe(lambda _snapshot: None)
    before_it_starts = thread.is_watched
    end()
    is_busy, go_on = threading.Event(), threading.Event()
    thread.ask(lambda _machine: is_busy.set() or go_on.wait(30))
    assert is_busy.wait(30)
    is_over = not thread.is_watched
    thread.subscribe(lambda _snapshot: None)
    while_it_is_busy = thread.is_watched
    go_on.set()
    thread.close(30)

    assert (before_it_starts, is_over, while_it_is_busy) == (True, True, True)
    with pytest.raises(ManagerClosedError):
        thread.subscribe(lambda _snapshot: None)


def test_a_subscription_may_be_dropped_at_any_line_of_a_post() -> None:
    thread = QueueThread(QueueMachine(), lambda _effect: None)
    end, answers = thread.subscribe_events(lambda _event: None), list[Future[Any]]()

    def drop(_frame: object, _kind: str, _value: object) -> Any:
        end()  # as by the garbage collector
        return drop

    def post() -> None:
        sys.settrace(drop)
        answers.append(thread.look())
        sys.settrace(None)

    posting = threading.Thread(target=post, daemon=True)
    posting.start()
    posting.join(30)

    assert not posting.is_alive()
    assert answers[0].result(30).max_size == 10
    thread.close(30)


@pytest.mark.slow
def test_requests_made_while_the_queue_ends_get_an_answer() -> None:
    given: list[Future[Any]] = []
    for _ in range(200):
        thread = QueueThread(QueueMachine(), lambda _effect: None)
        begin = threading.Barrier(3)

        def ask(thread: QueueThread = thread, begin: threading.Barrier = begin) -> None:
            begin.wait()
            for number in range(10):
                given.extend(
                    (
                        thread.post(on.RequestReceived(number, "x")),
                        thread.until(lambda machine: machine.is_drained),
                        thread.look(),
                    )
                )

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        begin.wait()
        thread.close(30)
        for asker in askers:
            asker.join()

    assert wait(given, timeout=60).not_done == set()


def test_a_failing_queue_answers_its_waiters() -> None:
    def broken_clock() -> Any:
        raise ZeroDivisionError

    night = DailyHours.parse("22-7")
    thread = QueueThread(QueueMachine(Limits(hours=night, is_open=False)), lambda _effect: None, clock=broken_clock)
    answered, joining, late = (
        thread.post(on.RequestReceived(1, "x")),
        thread.until(lambda machine: machine.is_drained),
        thread.look(),
    )

    assert wait([answered, joining, late], timeout=60).not_done == set()
    assert isinstance(joining.exception(), ManagerClosedError)
    with pytest.raises(ManagerClosedError):
        thread.post(on.RequestReceived(2, "y")).result(timeout=60)


def test_a_query_that_raises_does_not_end_the_queue(manager: DownloadManager) -> None:
    def exit_now(_machine: object) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        manager._parts.queue.ask(exit_now).result(timeout=60)

    assert manager.sync.pending_count() == 0


async def test_waiters_for_a_download_learn_that_the_manager_was_closed(
    manager: DownloadManager, held: FaultyHub
) -> None:
    queued = await manager.queue_smart(SMALL)
    waits = [manager.submit(manager.sync.wait, queued.id), manager.submit(queued.sync.wait)]
    joining = manager.submit(manager.sync.join)
    await manager.get_queue_snapshot()

    await manager.aclose()

    for one in waits:
        with pytest.raises((DownloadInterruptedError, ManagerClosedError)):
            one.result(timeout=60)
    with pytest.raises(ManagerClosedError):
        joining.result(timeout=60)


@pytest.mark.slow
def test_a_manager_closes_within_its_time_with_a_stopped_engine_and_a_locked_database(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch, held: FaultyHub
) -> None:
    monkeypatch.setattr("gglib_nb.catalog.database._BUSY_TIMEOUT_S", 60.0)
    manager = make_manager()
    manager.sync.adopt()
    manager.sync.queue_smart(SMALL)
    held.wait_for(lambda records: any(record.carries_file for record in records))
    pid = manager.engine_pid
    assert pid is not None
    locked = sqlite3.connect(manager.config.database_path, isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    os.kill(pid, signal.SIGSTOP)

    begun_s = time.monotonic()
    manager.close()
    took_s = time.monotonic() - begun_s
    locked.close()

    assert took_s < 20  # the lock is waited for a minute, and a silent engine for half of one


def test_a_queue_is_released_although_the_database_was_locked_while_its_manager_closed(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gglib_nb.manager.manager._KEEP_S", 0.1)
    manager = make_manager()
    manager.sync.adopt()
    id_ = manager.sync.queue_download(DownloadRequest(SMALL, "Q4_K_M"))
    manager.sync.see_others()  # it is stored
    with closing(sqlite3.connect(manager.config.database_path, isolation_level=None)) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        manager.sync.pause(id_)
        manager.close()

    following = make_manager()
    wait_until(lambda: following.sync.adopt().total == 1, 30, "the adoption")

    assert [item.status for item in following.snapshot.items] == ["paused"]


# Nothing stops others


def test_a_callback_that_raises_fails_only_its_own_operation(manager: DownloadManager, hub: FaultyHub) -> None:
    manager.sync.download(SMALL, "Q4_K_M", progress=False)

    def burst(_progress: WorkProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        manager.sync.verify(SMALL, on_progress=burst)

    assert manager.sync.download(SPLIT, progress=False).exists()


async def test_a_callback_whose_iterator_ends_fails_its_operation_although_asyncio_cannot_hold_that_error(
    manager: DownloadManager,
) -> None:
    await manager.download(SMALL, "Q4_K_M", progress=False)

    with pytest.raises(RuntimeError, match="StopIteration"):
        async with asyncio.timeout(60):
            await manager.verify(SMALL, on_progress=lambda _progress: next(iter(())))


def test_a_listener_that_raises_does_not_stop_the_manager(manager: DownloadManager) -> None:
    def burst(_news: object) -> None:
        raise ZeroDivisionError

    manager.subscribe(burst)
    manager.subscribe_events(burst)

    assert manager.sync.download(SMALL, "Q4_K_M", progress=lambda _download: 1 / 0).exists()


@pytest.mark.parametrize(
    ("name", "module", "reads"), [("check_updates", updating, "reading"), ("plan", advice, "free_bytes")]
)
def test_operations_that_wait_for_a_hanging_disk_leave_the_hub_to_others(
    manager: DownloadManager, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch, name: str, module: Any, reads: str
) -> None:
    manager.sync.download(SMALL, "Q4_K_M", progress=False)
    hub.move_branch(SMALL, "main", make_files({"small-Q4_K_M.gguf": 300_001, "small-Q8_0.gguf": 500_000}))
    hanging, has_answered, read = threading.Semaphore(0), threading.Event(), getattr(module, reads)

    def hang(*args: Any) -> Any:
        hanging.release()
        assert has_answered.wait(60)
        return read(*args)

    monkeypatch.setattr(module, reads, hang)
    waiting = [manager.submit(getattr(manager.sync, name), SMALL) for _ in range(6)]
    assert all(hanging.acquire(timeout=60) for _ in range(6))

    found = manager.submit(manager.sync.search, "small").result(60)
    has_answered.set()

    assert [row.repo_id for row in found] == [SMALL]
    assert all(one.result(60) for one in waiting)


async def test_operations_that_do_not_need_the_hub_do_not_wait_for_it(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.faults.add(WrongBytes(), path="*.gguf", origin="cdn", times=2)
    failed = await manager.queue_smart(SMALL, "Q4_K_M")
    with pytest.raises(IntegrityError):
        await manager.wait(failed.id)
    hub.faults.clear()
    for number in range(6):
        hub.add_repository(make_repository(f"demo/slow{number}-GGUF", {"slow-Q4_K_M.gguf": 1000}))
    hub.faults.add(Latency(30_000), path="*slow*", times=None)
    listings = [manager.submit(manager.sync.queue_smart, f"demo/slow{number}-GGUF") for number in range(6)]

    await manager.retry(failed.id)
    await manager.partials()
    await manager.models()
    is_listed = [listing.done() for listing in listings]
    for listing in listings:
        listing.cancel()

    assert not any(is_listed)


# Nothing grows


async def test_abandoned_waits_leave_nothing_behind(manager: DownloadManager, held: FaultyHub) -> None:
    queued = await manager.queue_smart(SMALL)

    for _ in range(200):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(manager.wait(queued.id), 0.001)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(manager.join(), 0.001)
    await manager.get_queue_snapshot()
    gc.collect()

    queue = manager._parts.queue
    deadline_s = time.monotonic() + 30
    while (
        queue._waiters or queue._conditions or len(manager._parts.calls._under_way) > 1
    ) and time.monotonic() < deadline_s:
        await manager.get_queue_snapshot()
    assert (queue._waiters, queue._conditions) == ({}, {})


# The kernel's main thread


@pytest.fixture
def watched_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The main thread's accesses to the models folder, the cache and the state folder."""
    seen: list[str] = []

    def watch(name: str, owner: Any = os) -> None:
        real = getattr(owner, name)

        def looked(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            is_watched = isinstance(path, str | os.PathLike) and any(
                part in os.fspath(path) for part in ("/models", "/state", "/cache")
            )
            if (
                is_watched
                and str(tmp_path) in os.fspath(path)
                and threading.current_thread() is threading.main_thread()
            ):
                seen.append(f"{name}({os.fspath(path)})")
            return real(path, *args, **kwargs)

        monkeypatch.setattr(owner, name, looked)

    for name in ("stat", "lstat", "scandir", "listdir", "open", "mkdir", "unlink", "readlink", "access", "statvfs"):
        watch(name)
    yield seen
    monkeypatch.undo()


def test_the_main_thread_never_accesses_the_models_cache_or_state_folder(
    hub: FaultyHub, tmp_path: Path, watched_disk: list[str]
) -> None:
    places = {name: tmp_path / name.partition("_")[0] for name in ("models_directory", "state_directory")}

    with DownloadManager(**places, hub_cache=tmp_path / "cache", endpoint=hub.url) as manager:
        manager.sync.adopt()
        manager.sync.plan(SMALL)
        manager.sync.download(SMALL, "Q4_K_M", progress=False)
        manager.sync.models()
        manager.sync.path(SMALL)
        manager.sync.verify(SMALL)
        manager.sync.partials()
        manager.sync.queue_smart(SPLIT).sync.cancel(discard=True)
        manager.sync.join()
        repr(manager)

    assert watched_disk == []


def test_an_interrupt_ends_a_call_blocked_by_a_disk(manager: DownloadManager, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, reached, is_over = threading.Event(), threading.Event(), threading.Event()

    def hang(*_args: object) -> None:
        reached.set()
        go_on.wait(60)
        is_over.set()
        raise GglibError("too late")

    monkeypatch.setattr("gglib_nb.manager.library.look_at", hang)
    interrupting = threading.Thread(target=lambda: reached.wait(30) and signal.raise_signal(signal.SIGINT))
    interrupting.start()

    with pytest.raises(KeyboardInterrupt):
        manager.sync.models()
    has_waited = is_over.is_set()
    go_on.set()

    assert not has_waited


def test_a_disk_that_hangs_while_its_model_is_registered_delays_no_model_of_another(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register, reached, go_on = managers.register_download, threading.Event(), threading.Event()

    def register_slowly(catalog: Any, config: Any, effect: Any) -> Any:
        if effect.plan.to is not None:
            reached.set()
            go_on.wait(60)
        return register(catalog, config, effect)

    monkeypatch.setattr(managers, "register_download", register_slowly)
    (tmp_path / "other").mkdir()
    slow = manager.sync.queue_smart(SMALL, "Q8_0", to=tmp_path / "other")
    assert reached.wait(60)

    path = manager.submit(manager.sync.download, SMALL, "Q4_K_M").result(30)
    is_registered = manager.sync.path("small-GGUF:Q4_K_M") == path
    go_on.set()

    assert is_registered
    assert slow.sync.wait().paths[0].is_relative_to(tmp_path / "other")


def test_a_download_that_ends_while_its_manager_closes_is_left_to_the_next_kernel(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store, parts_of = managers.Parts._run, QueueKeeper.close, list[managers.Parts]()
    late, reported = list[RegisterModel](), queue.SimpleQueue[BaseException | None]()

    def run_late(parts: managers.Parts, effect: Any) -> None:
        if isinstance(effect, RegisterModel):
            parts_of.append(parts)
            late.append(effect)
        else:
            run(parts, effect)

    def store_after_it(keeper: QueueKeeper, timeout_s: float) -> None:
        run(parts_of[0], late[0])
        store(keeper, timeout_s)

    monkeypatch.setattr(managers.Parts, "_run", run_late)
    monkeypatch.setattr(QueueKeeper, "close", store_after_it)
    monkeypatch.setattr(managers.Parts, "_report", lambda _, __, ended: reported.put(ended.exception()))
    manager = make_manager()
    manager.sync.queue_smart(SMALL, "Q4_K_M")
    wait_until(lambda: late, 60, "the last file")
    manager.close()

    assert isinstance(reported.get(timeout=30), ManagerClosedError)


def test_folders_of_downloads_do_not_each_keep_a_thread(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, effects, registered = manager._parts, list[RegisterModel](), list[str | None]()

    def register(_catalog: Any, _config: Any, effect: RegisterModel) -> on.ModelRegistered:
        effects.append(effect)
        registered.append(effect.plan.to)
        return on.ModelRegistered(effect.attempt)

    monkeypatch.setattr(managers, "register_download", register)
    manager.submit(manager.sync.download, SMALL, "Q4_K_M").result(60)
    folders = [str(number) for number in range(50)]
    for folder in folders:
        parts._run(replace(effects[0], plan=replace(effects[0].plan, to=folder)))
    wait_until(lambda: sorted(registered[1:]) == sorted(folders), 60, "their registration")

    assert sum(thread.name.startswith("gglib-catalog") for thread in threading.enumerate()) < 20


def test_a_slow_search_for_unfinished_downloads_lets_others_look_at_the_models_folder(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.submit(manager.sync.download, SMALL, "Q4_K_M").result(60)
    go_on = threading.Event()

    def search_slowly(*_: object) -> list[object]:
        go_on.wait(60)
        return []

    monkeypatch.setattr("gglib_nb.manager.keeper._DISK_S", 0.05)
    monkeypatch.setattr("gglib_nb.manager.keeper.partial_requests", search_slowly)
    manager.sync.adopt()

    try:
        assert manager.sync.queue_download(DownloadRequest(SMALL, "Q8_0"))
    finally:
        go_on.set()


# The stored state


def test_the_last_state_is_saved_after_earlier_database_failures(
    make_manager: Callable[..., DownloadManager], held: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager()
    manager.sync.adopt()
    with monkeypatch.context() as broken:

        def refuse(*_args: object) -> None:
            raise CatalogError("The disk is full.")

        broken.setattr(Queues, "write", refuse)
        manager.sync.queue_smart(SMALL, "Q8_0")
        manager.sync.see_others()
        notices = [notice.kind for notice in manager.sync.get_queue_snapshot().notices]

    manager.close()
    heir = make_manager()
    adopted = heir.sync.adopt()

    assert "not_kept" in notices
    assert adopted.total == 1
    assert [str(item.id) for item in heir.snapshot.items] == [f"{SMALL}:Q8_0"]


def test_a_manager_closed_by_its_listener_stores_its_queue(
    make_manager: Callable[..., DownloadManager], held: FaultyHub
) -> None:
    first = make_manager()
    first.sync.adopt()
    first.subscribe(lambda snapshot: first.close() if snapshot.items else None)
    with suppress(ManagerClosedError):
        first.sync.queue_smart(SMALL, "Q8_0")
    deadline_s = time.monotonic() + 30
    while not first.is_closed and time.monotonic() < deadline_s:
        time.sleep(0.05)
    first.close()

    assert make_manager().sync.adopt().total == 1


def test_download_hours_set_by_hand_apply_in_the_next_kernel(make_manager: Callable[..., DownloadManager]) -> None:
    first = make_manager()
    first.sync.adopt()
    hour = (datetime.now().astimezone().hour + 2) % 24
    first.sync.set_download_hours(f"{hour}:00-{(hour + 1) % 24}:00")
    first.sync.queue_smart(SMALL, "Q8_0")
    hours = first.sync.get_queue_snapshot().download_hours
    first.close()

    heir = make_manager()
    heir.sync.adopt()

    [item] = heir.sync.get_queue_snapshot().items
    assert (heir.snapshot.download_hours, item.status, item.notice_kind) == (hours, "queued", "hours")


def test_an_export_does_not_wait_for_slow_listings(manager: DownloadManager, hub: FaultyHub, tmp_path: Path) -> None:
    manager.sync.download(SMALL, "Q4_K_M")
    for number in range(5):
        hub.add_repository(make_repository(f"demo/slow{number}-GGUF", {"slow-Q4_K_M.gguf": 1000}))
    hub.faults.add(Latency(30_000), path="*slow*", times=None)
    listings = [manager.submit(manager.sync.queue_smart, f"demo/slow{number}-GGUF") for number in range(5)]

    manager.sync.export(SMALL, tmp_path / "bundle")
    is_listed = [listing.done() for listing in listings]
    for listing in listings:
        listing.cancel()

    assert not any(is_listed)
    assert (tmp_path / "bundle" / SMALL / "README.md").exists()


def test_a_request_cancelled_while_it_is_announced_is_dropped(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = QueueOperations._post

    def post_and_cancel(operations: QueueOperations, event: Any) -> None:
        post(operations, event)
        raise CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(QueueOperations, "_post", post_and_cancel)
        with pytest.raises(CancelledError):
            manager.sync.queue_smart(SMALL)

    assert manager.sync.get_queue_snapshot().resolving == ()
