"""Daemon threads that run calls which wait: for the Hub, for the disk, for the database.

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

CLOSED: Final = "This download manager is closed. `gglib_nb.get_manager()` gives the current one."
FORKED: Final = "Downloads belong to the process that this one was forked from. Use that process, or start a new one."
# A thread of a pool without a limit ends after so long without work.
_IDLE_S: Final = 10.0

_Result = TypeVar("_Result")
_Job = tuple[Callable[[], Any], "Future[Any]"]


def succeed(future: "Future[_Result]", value: _Result) -> None:
    """Gives a future its result, unless it was cancelled or answered before."""
    with suppress(InvalidStateError):
        future.set_result(value)


def fail(future: "Future[Any]", error: BaseException) -> None:
    """Gives a future its error, unless it was cancelled or answered before."""
    with suppress(InvalidStateError):
        future.set_exception(error)


class DaemonThreadPool:
    """Threads that take calls in the order in which they came; with one thread a FIFO.

    Args:
        name: Prefix of the threads' names.
        count: Threads at most; None: as many as there are calls at once.
    """

    def __init__(self, name: str, count: int | None = None) -> None:
        self._name: Final = name
        self._count: Final = count
        self._jobs: Final[queue.SimpleQueue[_Job | None]] = queue.SimpleQueue()
        self._idle: Final = threading.Semaphore(0)
        self._lock = threading.RLock()
        self._started = 0
        self._running = 0
        self._refusal = ""

    def submit(self, call: Callable[[], _Result]) -> "Future[_Result]":
        """Runs `call` on one of the threads; cancelling the future before it began skips it.

        After `close` the future holds `ManagerClosedError`.
        """
        future: Future[_Result] = Future()
        with self._lock:
            if self._refusal:
                future.set_exception(ManagerClosedError(self._refusal))
                return future
            self._jobs.put((call, future))
            if not self._idle.acquire(blocking=False) and (self._count is None or self._running < self._count):
                self._start_thread()
        return future

    def close(self) -> None:
        """Lets every thread end after what it does now and what waits already."""
        with self._lock:
            self._refusal = self._refusal or CLOSED
            self._jobs.put(None)

    def abandon(self) -> None:
        """In a forked child, where the threads do not exist and the lock may have been held: refuses every call."""
        self._lock = threading.RLock()
        self._refusal = FORKED

    def _start_thread(self) -> None:
        self._started += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
        thread.start()
        self._running += 1

    def _work(self) -> None:
        while (job := self._next()) is not None:
            call, future = job
            if future.set_running_or_notify_cancel():
                try:
                    value = call()
                except BaseException as error:  # noqa: BLE001 - the future's owner gets it
                    fail(future, error)
                else:
                    succeed(future, value)
            del call, future, job  # an idle thread must keep nothing alive
            self._idle.release()

    def _next(self) -> _Job | None:
        """The next job; None when the thread is to end."""
        while True:
            try:
                job = self._jobs.get(timeout=None if self._count is not None else _IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._idle.acquire(blocking=False):  # otherwise a call counts on this thread
                        self._running -= 1
                        return None
            else:
                if job is None:
                    self._jobs.put(None)  # for the other threads
                return job
