"""Runs each operation of a manager, a blocking function, on its own thread, and answers every call.

An operation never runs on the caller's thread: a models folder on a network share that hangs must not block the kernel's main
thread, and an interrupt has to end the wait. Inside an operation, `settled` waits: if the caller cancels, so does the operation.

The threads are daemons, unlike those of `ThreadPoolExecutor`, which the interpreter waits for at exit: a kernel must be able to
exit while a request hangs.
"""

import inspect
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent import futures
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

from gglib_nb.errors import GglibError, ManagerClosedError, copy_of

_LOOK_EVERY_S: Final = 0.1
# How long an operation may take to notice that its manager closes; then its caller gets an error.
_GRACE_S: Final = 0.2

_log: Final = logging.getLogger("gglib_nb")

CLOSED: Final = "This download manager is closed. `gglib_nb.get_manager()` gives the current one."
FORKED: Final = "Downloads belong to the process that this one was forked from. Use that process, or start a new one."

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Result_co = TypeVar("_Result_co", covariant=True)
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
    """A few threads that run calls in the order of their submission; one thread is a FIFO."""

    def __init__(self, name: str, count: int) -> None:
        self._name: Final = name
        self._count: Final = count
        self._jobs: Final[queue.SimpleQueue[_Job | None]] = queue.SimpleQueue()
        self._idle: Final = threading.Semaphore(0)
        self._lock: Final = threading.RLock()
        self._started = 0
        self._is_closed = False

    def submit(self, call: Callable[[], _Result]) -> "Future[_Result]":
        """Runs `call` on one of the threads; cancelling the future before it begins skips it.

        After `close` the future holds `ManagerClosedError`.
        """
        future: Future[_Result] = Future()
        with self._lock:
            if self._is_closed:
                fail(future, ManagerClosedError(CLOSED))
                return future
            self._jobs.put((call, future))
            if not self._idle.acquire(blocking=False) and self._started < self._count:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def close(self) -> None:
        """Lets every thread end after its present call and the waiting ones."""
        with self._lock:
            self._is_closed = True
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            if future.set_running_or_notify_cancel():
                try:
                    succeed(future, call())
                except BaseException as error:  # noqa: BLE001 - the future's owner gets it
                    fail(future, error)
            del call, future, job  # an idle thread must keep no reference
            self._idle.release()
        self._jobs.put(None)  # for the other threads


class _Call:
    """One operation in progress.

    Attributes:
        answer: The caller's future; cancelling it cancels what the operation waits for.
        is_cancelled: Whether the caller cancelled it.
        waits_for: The future that the operation's thread waits for now.
    """

    __slots__ = ("answer", "is_cancelled", "waits_for")

    def __init__(self) -> None:
        self.answer: Final[Future[Any]] = Future()
        self.is_cancelled = False
        self.waits_for: Future[Any] | None = None

    def cancel(self) -> None:
        """Cancels the present or next wait of the operation."""
        self.is_cancelled = True
        if (waits_for := self.waits_for) is not None:
            waits_for.cancel()

    def run(self, operation: Callable[[], Any]) -> None:
        """Runs the operation on this thread and answers."""
        _here.call = self
        try:
            succeed(self.answer, operation())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            fail(self.answer, error)


class _Here(threading.local):
    """The state of this thread: the operation it runs, and whether it may wait for one."""

    call: _Call | None = None
    may_wait = True


_here: Final = _Here()


def settled(future: "Future[_Result]", meanwhile: Callable[[], None] | None = None) -> _Result:
    """Waits for a future of the queue, a thread pool or the engine; if the wait ends early, the future is cancelled.

    Args:
        future: The future.
        meanwhile: Called ten times a second while waiting, and once more at the end, on this thread.

    Raises:
        CancelledError: The caller of this operation cancelled it.
    """
    call = _here.call
    if call is not None:
        call.waits_for = future
        if call.is_cancelled:
            future.cancel()
    try:
        # A caller's thread wakes ten times a second, because a lock cannot be interrupted on every system, or by every signal.
        # (`futures.wait` never treats a future that was only cancelled as done.)
        while (meanwhile is not None or call is None) and not future.done():
            futures.wait([future], timeout=_LOOK_EVERY_S)
            if meanwhile is not None:
                meanwhile()
        if meanwhile is not None:
            meanwhile()
        return future.result()
    except BaseException:
        future.cancel()
        raise
    finally:
        if call is not None:
            call.waits_for = None


def has_given_up() -> bool:
    """Whether the caller cancelled the operation on this thread; for operations that work for a long time without waiting."""
    return _here.call is not None and _here.call.is_cancelled


def all_settled(waiting: "Iterable[Future[_Result]]") -> list[_Result]:
    """Waits for all of them, in their order; the first error, or the end of the wait, cancels the rest."""
    waiting = list(waiting)
    try:
        return [settled(future) for future in waiting]
    except BaseException:
        for future in waiting:
            future.cancel()
        raise


def public_error(error: GglibError) -> GglibError:
    """The error for a user's code, to be raised `from None`: its text says what happened and what to do next.

    The frames on our threads, and the errors of other libraries below it, would print a hundred more lines. They are logged
    at DEBUG, and kept as `__context__`.
    """
    _log.debug("An operation has failed", exc_info=error)
    return copy_of(error)


def refuse_to_wait() -> None:
    """Makes it an error for this thread to call an operation and wait for it: the operation would wait for this thread."""
    _here.may_wait = False


class Calls:
    """The operations in progress of one manager. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._under_way: Final[set[_Call]] = set()
        self._refusal = ""

    def submit(
        self, operation: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> "Future[_Result]":
        """Starts an operation, in a copy of the caller's context; cancelling the future cancels it.

        After `close` the future holds `ManagerClosedError`.
        """
        call, context = _Call(), copy_context()
        call.answer.add_done_callback(lambda done: self._forget(call, done))
        with self._lock:
            if self._refusal:
                fail(call.answer, ManagerClosedError(self._refusal))
                return call.answer
            self._under_way.add(call)
        try:
            body = partial(context.run, call.run, partial(operation, *args, **kwargs))
            threading.Thread(target=body, name="gglib-call", daemon=True).start()
        except RuntimeError as error:  # no thread can be started
            fail(call.answer, error)
        return call.answer

    def run(
        self, operation: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Runs an operation and waits for it; a call within an operation runs as part of that one."""
        if self._refusal == FORKED:  # also in a child that an operation's own thread forked
            raise ManagerClosedError(FORKED)
        if _here.call is not None:
            return operation(*args, **kwargs)
        if not _here.may_wait:
            raise RuntimeError(
                "A listener of the queue must not wait for an operation, because the operation waits for the queue. Use "
                "`manager.submit(manager.sync.…)`, which returns a future at once."
            )
        return settled(self.submit(operation, *args, **kwargs))

    def close(self) -> None:
        """Refuses new operations, and fails those that do not end within a moment."""
        with self._lock:
            self._refusal = self._refusal or CLOSED
            left = list(self._under_way)
        futures.wait([call.answer for call in left], timeout=_GRACE_S)
        for call in left:
            fail(call.answer, ManagerClosedError(self._refusal))
            call.cancel()

    def abandon(self) -> None:
        """In a forked child, where the threads do not exist and the lock may have been held: refuses every operation."""
        self._lock = threading.RLock()
        self._refusal = FORKED

    def _forget(self, call: _Call, done: "Future[Any]") -> None:
        with self._lock:
            self._under_way.discard(call)
        if done.cancelled():
            call.cancel()


class CoroutineMethod(Protocol[_Parameters, _Result_co]):
    """The type of a coroutine method."""

    def __get__(self, instance: object, owner: type) -> Callable[_Parameters, Coroutine[Any, Any, _Result_co]]:
        """The method of an instance."""


def coroutine(operation: Callable[Concatenate[Any, _Parameters], _Result]) -> CoroutineMethod[_Parameters, _Result]:
    """The coroutine of an operation, for a class that has the operation's object as `sync`, and `_calls`.

    Cancelling the awaiter cancels the operation.
    """
    body = inspect.unwrap(operation)

    @wraps(operation)
    async def awaiting(self: Any, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:  # noqa: ANN401
        from asyncio import wrap_future  # 30 ms, which would slow the import

        try:
            result: _Result = await wrap_future(self._calls.submit(body, self.sync, *args, **kwargs))
        except GglibError as error:
            raise public_error(error) from None
        return result

    return cast("CoroutineMethod[_Parameters, _Result]", awaiting)
