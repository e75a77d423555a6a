"""Calls on threads of their own: what ends them."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from gglib_nb.manager import calls
from gglib_nb.manager.calls import DaemonThreadPool, awaited, settled


def test_an_interrupt_before_the_wait_begins_cancels_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, reply = DaemonThreadPool("test"), Future[None]()
    has_begun, has_ended = threading.Event(), threading.Event()
    reply.add_done_callback(lambda _: has_ended.set())

    def operation() -> None:
        has_begun.set()
        settled(reply)

    def interrupted(_future: object) -> None:
        has_begun.wait(60)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(calls, "settled", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.run(operation)

    assert has_ended.wait(60)
    assert reply.cancelled()


def test_an_interrupt_while_its_thread_starts_cancels_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, done = DaemonThreadPool("test"), list[str]()

    def interrupted(_thread: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.run(done.append, "interrupted")
    pool.run(done.append, "next")

    assert done == ["next"]


def interrupted_at_a_lock(*_: object) -> None:
    """What `Condition.wait` of Python 3.13 does if an interrupt arrives as it takes its lock again."""
    try:
        raise KeyboardInterrupt
    finally:
        raise RuntimeError("cannot release un-acquired lock")


@pytest.mark.parametrize("place", [(calls, "settled"), (threading.Thread, "start")], ids=["the wait", "the start"])
def test_an_interrupt_at_a_lock_is_an_interrupt(monkeypatch: pytest.MonkeyPatch, place: tuple[object, str]) -> None:
    pool, done = DaemonThreadPool("test"), list[str]()

    with monkeypatch.context() as patched:
        patched.setattr(*place, interrupted_at_a_lock)
        with pytest.raises(KeyboardInterrupt):
            pool.run(done.append, "interrupted")
    pool.run(done.append, "next")

    assert "next" in done  # the other thread may append after it


def test_an_awaiter_whose_loop_was_closed_ends_without_an_error() -> None:
    """Python would print it as ignored, when it collects the awaiter."""
    waited, loop = Future[None](), asyncio.new_event_loop()
    awaiter = awaited(waited)
    task = loop.create_task(awaiter)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    awaiter.close()

    assert waited.cancelled()
    assert not task.done()


def test_a_wait_that_shows_progress_ends_at_once_when_its_caller_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_LOOK_EVERY_S", 600.0)
    has_begun, has_ended = threading.Event(), threading.Event()

    class Reply(Future[None]):
        def done(self) -> bool:  # is asked before each wait
            has_begun.set()
            return super().done()

    def operation() -> None:
        try:
            settled(Reply(), lambda: None)
        finally:
            has_ended.set()

    call = DaemonThreadPool("test").submit(operation)
    assert has_begun.wait(60)
    call.cancel()

    assert has_ended.wait(30)
