"""Daemon threads that run calls which wait: for the Hub, for the database.

Not `concurrent.futures.ThreadPoolExecutor`: the interpreter waits for its threads at exit, and a kernel must be
able to end while a request hangs.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final, TypeVar

from gglib_nb.errors import ManagerClosedError

_CLOSED: Final = "This download manager is closed. `gglib_nb.get_manager()` gives the live one."

_Result = TypeVar("_Result")
_Job = tuple[Callable[[], Any], "Future[Any]"]


def succeed(future: "Future[_Result]", value: _Result) -> None:
    """Gives a future its result, unless whoever waited has given up."""
    with suppress(InvalidStateError):
        future.set_result(value)


def fail(future: "Future[Any]", error: BaseException) -> None:
    """Gives a future its error, unless whoever waited has given up."""
    with suppress(InvalidStateError):
        future.set_exception(error)


class DaemonThreadPool:
    """A few threads that take calls in the order in which they came; with one thread a FIFO."""

    def __init__(self, name: str, count: int) -> None:
        self._name: Final = name
        self._count: Final = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def submit(self, call: Callable[[], _Result]) -> "Future[_Result]":
        """Runs `call` on one of the threads; cancelling the future before it began skips it.

        After `close` the future holds `ManagerClosedError`.
        """
        future: Future[_Result] = Future()
        if self._is_closed:
            future.set_exception(ManagerClosedError(_CLOSED))
            return future
        self._jobs.put((call, future))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Lets every thread end after what it does now and what waits already."""
        self._is_closed = True
        for _ in self._threads:
            self._jobs.put(None)

    def abandon(self) -> None:
        """In a forked child, where the threads do not exist: others take what comes from now on."""
        self._jobs = queue.SimpleQueue()
        self._threads = []

    def _work(self) -> None:
        jobs = self._jobs
        while (job := jobs.get()) is not None:
            call, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)
