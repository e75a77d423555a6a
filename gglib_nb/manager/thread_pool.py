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
        self._jobs: Final[queue.SimpleQueue[_Job | None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], _Result]) -> "Future[_Result]":
        """Runs `call` on one of the threads; cancelling the future before it began skips it."""
        future: Future[_Result] = Future()
        self._jobs.put((call, future))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Lets every thread end after what it does now; what still waits is dropped."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)
