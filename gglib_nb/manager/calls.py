"""Operations: blocking functions, defined once, that run on daemon threads of the manager; every call is answered.

An operation never runs on the caller's thread: a models folder on a network share that hangs must not block the
kernel's main thread, and an interrupt has to end the wait. Inside an operation, `settled` waits: if the caller cancels,
so does the operation.

The threads are daemons, unlike those of `ThreadPoolExecutor`, which the interpreter waits for at exit: a kernel must be
able to exit while a request hangs.
"""

import logging
import math
import queue
import re
import threading
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache, partial, wraps
from inspect import BoundArguments, Parameter, Signature, formatannotation, iscoroutinefunction, signature
from signal import SIGINT, default_int_handler, getsignal, signal
from types import MethodType, UnionType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from msgspec import Struct
from msgspec.structs import fields
from typing_extensions import override

from gglib_nb.domain.units import python_number
from gglib_nb.errors import GglibError, InvalidConfigError, ManagerClosedError, copy_of

_LOOK_EVERY_S: Final = 0.1
# How long a call may take to notice that its manager closes; then its caller gets an error.
_GRACE_S: Final = 0.2
_WAKE_S: Final = 0.5

_log: Final = logging.getLogger("gglib_nb")

CLOSED: Final = "This download manager is closed. `gglib_nb.get_manager()` gives the current one."
FORKED: Final = "Downloads belong to the process that this one was forked from. Use that process, or start a new one."

_INTERRUPTED: Final = "Stopped waiting. A download that has started continues: %gguf status shows it."

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")
_Error = TypeVar("_Error", bound=BaseException)


def succeed(future: "Future[_Result]", value: _Result) -> None:
    """Gives a future its result, unless it was cancelled or answered before."""
    with suppress(InvalidStateError):
        future.set_result(value)


def fail(future: "Future[Any]", error: BaseException) -> None:
    """Gives a future its error, unless it was cancelled or answered before."""
    with suppress(InvalidStateError):
        future.set_exception(error)


class _Call(Future[Any]):
    """A function that runs on a thread of a pool; its future. Cancelling it cancels what the function waits for.

    Attributes:
        is_awaited: Whether the event loop that awaits it runs; True if no loop does. A terminal's IPython does not
            cancel a coroutine that is interrupted: its loop stops until the next one runs.
        is_over: Whether its caller waits no more, so the present or next wait of the function is cancelled.
        waits_for: The future that the function waits for now.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function
        self.is_awaited: Callable[[], bool] = lambda: True
        self.is_over = False
        self.waits_for: Future[Any] | None = None

    @override
    def cancel(self) -> bool:
        if is_cancelled := super().cancel():
            self.end_waits()
        return is_cancelled

    def wait_for(self, future: "Future[Any] | None") -> None:
        """Sets the future that the function waits for now; cancels it if the caller waits no more."""
        self.waits_for = future
        if future is not None and self.is_over:
            future.cancel()

    def end_waits(self) -> None:
        """Cancels the present or next wait of the function."""
        self.is_over = True
        if (waits_for := self.waits_for) is not None:
            waits_for.cancel()

    def run(self) -> None:
        """Runs the function on this thread and answers, unless it was cancelled before."""
        function = self._function
        del self._function  # the future may outlive what the function holds
        if self.done():
            return
        _here.call = self
        try:
            if (value := function()) is not self:  # else it is answered later
                succeed(self, value)
        except StopIteration as error:  # a future of asyncio cannot hold it, so its awaiter would never return
            fail(self, RuntimeError(f"A callback raised {error!r}."))
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            fail(self, error)
        finally:
            _here.call = None


class _Here(threading.local):
    """The state of this thread: the call it runs, and whether it may wait for one."""

    call: _Call | None = None
    may_wait = True


_here: Final = _Here()


def refuse_to_wait() -> None:
    """Forbids this thread to call an operation and wait for it, because the operation would wait for this thread."""
    _here.may_wait = False


def is_awaited() -> bool:
    """Whether the event loop that awaits the call on this thread runs; True if no loop does."""
    return _here.call is None or _here.call.is_awaited()


def is_interrupt(error: BaseException) -> bool:
    """Whether it is an interrupt; one that arrives as a lock is being released ends as an error about that lock."""
    ended = error.__context__ if isinstance(error, RuntimeError) else error
    return isinstance(ended, KeyboardInterrupt)


@contextmanager
def cancelled_by_interrupt() -> Iterator[None]:
    """Lets an interrupt cancel a cell of a terminal's IPython that awaits: IPython itself only stops its loop.

    Other tasks may outlive the cell: they would take the interrupts of later cells, or end these with their own.
    """
    from asyncio import CancelledError, current_task  # slow to import

    task, is_main = current_task(), threading.current_thread() is threading.main_thread()
    is_cell = task is not None and getattr(task.get_coro(), "__name__", "") == "run_cell_async"
    if task is None or not is_cell or not is_main or getsignal(SIGINT) is not default_int_handler:
        yield
        return

    def cancel(_number: int, _frame: object) -> None:
        signal(SIGINT, default_int_handler)
        task.cancel(_INTERRUPTED)

    signal(SIGINT, cancel)
    try:
        yield
    except CancelledError as error:
        if error.args != (_INTERRUPTED,) or task.uncancel():  # something else has cancelled it
            raise
        raise shown_in_one_line(KeyboardInterrupt()) from None
    finally:
        if getsignal(SIGINT) is cancel:
            signal(SIGINT, default_int_handler)


async def awaited(waited: "Future[_Result]") -> _Result:
    """Awaits a future of another thread; if the awaiter is cancelled, so is the future.

    Wakes the loop twice a second: an interrupt cancels a cell of ipykernel, but does not wake its loop.
    """
    from asyncio import CancelledError, wait, wrap_future  # slow to import

    future = wrap_future(waited)
    try:
        with cancelled_by_interrupt():
            while not future.done():
                await wait([future], timeout=_WAKE_S)
            return future.result()
    except CancelledError as error:
        raise shown_in_one_line(error) from None
    finally:
        waited.cancel()  # at once: the loop of a cell that ends now may not run again
        with suppress(RuntimeError):  # it is closed
            future.cancel()


def shown_in_one_line(error: _Error) -> _Error:
    """The error of a wait that ended early, which IPython shows in one line; its traceback starts at the caller's."""
    lines = [f"{type(error).__name__}: {_INTERRUPTED}"]
    vars(error)["_render_traceback_"] = lambda: lines
    return error.with_traceback(None)


def has_given_up() -> bool:
    """Whether the caller cancelled the call on this thread; for functions that work for a long time without waiting."""
    return _here.call is not None and _here.call.is_over


def settled(future: "Future[_Result]", meanwhile: Callable[[], None] | None = None) -> _Result:
    """Waits for a future of the queue, a thread pool or the engine; if the wait ends early, the future is cancelled.

    `meanwhile` is called ten times a second while waiting, and once more at the end, on this thread. Raises
    `CancelledError` if the caller of this operation cancelled it.
    """
    call = _here.call
    outer = None if call is None else call.waits_for  # if this is a callback of an operation
    if call is not None:
        call.wait_for(future)
    try:
        # A caller's thread wakes ten times a second, because a lock cannot be interrupted on every system, or by every
        # signal. (`futures.wait` would notice a cancelled future only then.)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while (meanwhile is not None or call is None) and not future.done():
            done.wait(_LOOK_EVERY_S)
            if meanwhile is not None:
                meanwhile()
        if meanwhile is not None:
            meanwhile()
        return future.result()
    finally:
        future.cancel()  # if the wait has ended early
        if call is not None:
            call.wait_for(outer)


class DaemonThreadPool:
    """Threads that run calls in the order of their submission. Every method may be called from any thread.

    Args:
        name: Of its threads.
        most: How many threads; one is a FIFO. By default, no call waits for another.
    """

    def __init__(self, name: str, most: float = math.inf) -> None:
        self._name: Final = name
        self._most: Final = most
        self._jobs: Final[queue.SimpleQueue[_Call | None]] = queue.SimpleQueue()
        self._idle: Final = threading.Semaphore(0)
        self._lock = threading.RLock()
        self._under_way: Final[weakref.WeakSet[_Call]] = weakref.WeakSet()
        self._threads: list[threading.Thread] = []
        self._refusal = ""

    def submit(
        self, function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> "Future[_Result]":
        """Runs a function in a copy of the caller's context; cancelling the future cancels it.

        After `close` the future holds `ManagerClosedError`.
        """
        call = _Call(partial(copy_context().run, function, *args, **kwargs))
        self._start(call)
        return call

    def _start(self, call: _Call) -> None:
        with self._lock:
            if self._refusal:
                fail(call, ManagerClosedError(self._refusal))
                return
            self._under_way.add(call)
            try:
                self._jobs.put(call)
                # In this order, because a semaphore is locked while it is asked: the collector may call back here.
                if len(self._threads) < self._most and not self._idle.acquire(blocking=False):
                    name = f"{self._name}-{len(self._threads) + 1}"
                    self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
                    self._threads[-1].start()
            except BaseException as error:
                self._threads = [one for one in self._threads if one.ident is not None]  # without one that cannot start
                if isinstance(error, RuntimeError) and not is_interrupt(error):
                    # There are too many threads, or the interpreter is ending.
                    fail(call, GglibError(f"This was not done: {error}."))
                    return
                call.cancel()  # an interrupted call must not run with a later one
                raise

    def run(
        self, function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Runs a function and waits for it; a call within a call runs as part of that one."""
        if self._refusal == FORKED:  # also in a child that a call's own thread forked
            raise ManagerClosedError(FORKED)
        if not _here.may_wait:
            raise RuntimeError(
                "A listener of the queue must not wait for an operation, because the operation waits for the queue. "
                "Use `manager.submit(manager.sync.…)`, which returns a future at once."
            )
        if _here.call is not None:
            return function(*args, **kwargs)
        call = _Call(partial(copy_context().run, function, *args, **kwargs))
        try:
            self._start(call)
            result: _Result = settled(call)
        except RuntimeError as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from None
            raise
        else:
            return result
        finally:
            call.cancel()  # an interrupt may come between the two

    def close(self) -> None:
        """Refuses new calls; those submitted before still run."""
        with self._lock:
            self._refusal = self._refusal or CLOSED
            self._jobs.put(None)

    def answer_all(self) -> None:
        """After `close`: fails the calls that do not end within a moment."""
        with self._lock:
            left = [call for call in self._under_way if not call.done()]
        futures.wait(left, timeout=_GRACE_S)
        for call in left:
            fail(call, ManagerClosedError(self._refusal))
            call.end_waits()

    def abandon(self) -> None:
        """In a forked child, where the threads do not exist and the lock may have been held: refuses every call."""
        self._lock = threading.RLock()
        self._refusal = FORKED

    def _work(self) -> None:
        while (call := self._jobs.get()) is not None:
            call.run()
            del call  # an idle thread must keep no reference
            self._idle.release()
        self._jobs.put(None)  # for the other threads


def each(function: Callable[[_Item], _Result], items: Iterable[_Item], most: int) -> list[_Result]:
    """The answers for items, `most` at a time; after an error, or if the caller gives up, the others are cancelled."""
    threads = DaemonThreadPool("gglib-each", most)
    answers = [threads.submit(function, item) for item in items]
    threads.close()
    try:
        return [settled(answer) for answer in answers]
    finally:
        for answer in answers:
            answer.cancel()


class InboxThread(DaemonThreadPool):
    """A pool of one thread that runs what is put into its inbox, in order, and what is due between.

    Every future from `_put` is answered: with the result, or at the end with `ManagerClosedError`.
    """

    @property
    def is_own_thread(self) -> bool:
        """Whether this is asked on the thread, as by a listener."""
        return threading.current_thread() in self._threads

    @override
    def close(self, timeout_s: float = 0.0) -> None:
        """Ends the thread, and waits for its end unless this is called on it."""
        super().close()
        for thread in () if self.is_own_thread else self._threads:
            thread.join(timeout_s)

    def _put(self, act: "Callable[[Future[Any]], Any]") -> "Future[Any]":
        """Runs a function on the thread; it returns the answer of its future, or the future, to be answered later."""
        call = _Call(lambda: act(call))
        self._start(call)
        return call

    @override
    def _work(self) -> None:
        refuse_to_wait()
        try:
            while True:
                rest_s = self._do_due()
                with suppress(queue.Empty):  # something is due
                    call = self._jobs.get(timeout=rest_s)
                    if call is None:
                        return
                    call.run()
                    del call  # a waiting thread must keep no reference
        except BaseException:  # noqa: BLE001 - it is logged, and every caller is answered
            _log.exception("%s has failed; this manager accepts no more downloads", self._name)
        finally:
            self._end()

    def _do_due(self) -> float | None:
        """Does what is due; returns in how many seconds something else is, None: not before something is put in."""
        return None

    def _end(self) -> None:
        """Answers every open future; nothing is run after this."""
        with self._lock:
            self._refusal = self._refusal or CLOSED
        while not self._jobs.empty():
            if (left := self._jobs.get()) is not None:
                fail(left, ManagerClosedError(self._refusal))


# The types of arguments -----------------------------------------------------------------------------------------------


def checked(body: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """The function, which first refuses arguments of other types than it states, with an `InvalidConfigError`."""

    @wraps(body)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        bound = _bound(body, args, kwargs)
        return body(*bound.args, **bound.kwargs)

    return call


def _bound(body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundArguments:
    """The arguments of a call, once they are checked; those that it does not have, or lacks, are a `TypeError`."""
    stated, kinds = _stated(body)
    try:
        bound = stated.bind(*args, **kwargs)
    except TypeError as error:
        names = ", ".join(name for name in stated.parameters if name != "self")
        raise TypeError(f"{body.__name__}: {error}. It takes: {names or 'nothing'}.") from None
    for name, given in bound.arguments.items():
        is_many = stated.parameters[name].kind is Parameter.VAR_POSITIONAL
        values = tuple(map(python_number, given if is_many else (given,)))
        for value in values:
            check_argument(name, value, kinds.get(name, object))
        bound.arguments[name] = values if is_many else values[0]
    return bound


@cache
def _stated(body: Callable[..., Any]) -> tuple[Signature, dict[str, Any]]:
    return signature(body), get_type_hints(body)


def check_argument(name: str, value: object, kind: Any) -> None:  # noqa: ANN401 - a type, in any form
    """Refuses, with an `InvalidConfigError`, a value of another type, and an async function."""
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(type(value), "__call__", None)):  # noqa: B004 - its code
        raise InvalidConfigError(
            f"{name} is an async function; it must be a plain one, because no event loop would run it."
        )
    if not _fits(value, kind):
        shown = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
        possible = re.sub(r"\w+\.", "", formatannotation(kind))
        raise InvalidConfigError(f"{name} is {shown}; it must be {possible}.")
    if isinstance(value, Struct):
        for field in fields(value):
            check_argument(f"{name}.{field.name}", getattr(value, field.name), field.type)


def _fits(value: Any, kind: Any) -> bool:  # noqa: ANN401 - any argument, and what is stated of it
    """Whether a value has a type; elements count, and a bool or NaN is no number."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin in (Any, object):
        return True
    if origin is Literal:
        return value in parts
    if origin in (int, float):
        return isinstance(value, (int, origin)) and not isinstance(value, bool) and value == value  # NaN is not
    if issubclass(origin, Iterable) and parts:
        elements = value if isinstance(value, Collection) else ()
        is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        return is_list and all(_fits(one, parts[0]) for one in elements)
    is_text = not isinstance(value, str) or value == value.encode(errors="ignore").decode()
    return isinstance(value, origin) and is_text


# Each operation once, as a call that waits and as a coroutine ---------------------------------------------------------


class Blocking:
    """An object whose operations wait, on threads of `_calls`."""

    _calls: DaemonThreadPool


class Coroutines:
    """An object whose operations are coroutines: those of `sync`."""

    _calls: DaemonThreadPool
    sync: Any


class operation(Generic[_Parameters, _Result]):  # noqa: N801 - a decorator, like `property`
    """A method that runs on its manager's thread: its caller waits for it, or awaits it on a subclass of `Coroutines`.

    Cancelling the awaiter cancels the operation.
    """

    def __init__(self, body: Callable[Concatenate[Any, _Parameters], _Result]) -> None:
        @wraps(body)
        def blocking(self: Any, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:  # noqa: ANN401
            try:
                bound = _bound(body, (self, *args), kwargs)
                return self._calls.run(body, *bound.args, **bound.kwargs)  # type: ignore[no-any-return]
            except GglibError as error:
                raise public_error(error) from None
            except KeyboardInterrupt as error:
                raise shown_in_one_line(error) from None

        @wraps(body)
        async def coroutine(self: Any, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:  # noqa: ANN401
            from asyncio import get_running_loop  # 30 ms, which would slow the import

            try:
                bound = _bound(body, (self.sync, *args), kwargs)
                call = self._calls.submit(body, *bound.args, **bound.kwargs)
                call.is_awaited = get_running_loop().is_running
                return await awaited(call)
            except GglibError as error:
                raise public_error(error) from None

        self._forms: Final = {False: blocking, True: coroutine}

    @overload
    def __get__(
        self, one: None, kind: type[Coroutines]
    ) -> Callable[Concatenate[Any, _Parameters], Coroutine[Any, Any, _Result]]: ...
    @overload
    def __get__(self, one: None, kind: type[Blocking]) -> Callable[Concatenate[Any, _Parameters], _Result]: ...
    @overload
    def __get__(self, one: Coroutines, kind: type) -> Callable[_Parameters, Coroutine[Any, Any, _Result]]: ...
    @overload
    def __get__(self, one: Blocking, kind: type) -> Callable[_Parameters, _Result]: ...
    def __get__(self, one: object, kind: type) -> Any:
        form: Any = self._forms[issubclass(kind, Coroutines)]
        return form if one is None else MethodType(form, one)


def public_error(error: GglibError) -> GglibError:
    """The error for a user's code, to be raised `from None`: its text says what happened and what to do next.

    The frames on our threads, and the errors of other libraries below it, would print a hundred more lines. They are
    logged at DEBUG, and kept as `__context__`.
    """
    _log.debug("An operation has failed", exc_info=error)
    return copy_of(error)
