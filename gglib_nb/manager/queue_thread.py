"""The one thread that owns the queue machine: events in, effects out in their order, snapshots published.

Everyone else posts: a coroutine on the kernel's loop, the engine's reader, a button's handler, a magic. So the order
of effects is the order of events, an interrupt in a cell cannot tear the state, and the queue goes on while a cell
blocks the kernel. Nothing here waits for the Hub, for SQLite or for a pipe; those have threads of their own.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, assert_never

from gglib_nb.domain import events as told
from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueSnapshot
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.stored_queue import StoredQueue
from gglib_nb.errors import (
    DownloadCancelledError,
    DownloadInterruptedError,
    GglibError,
    ManagerClosedError,
    NotInQueueError,
)
from gglib_nb.manager.thread_pool import fail, succeed
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.machine import QueueMachine

_PUBLISH_EVERY_S: Final = 0.1
"""At most ten snapshots a second: a person sees no more, and jupyter_server drops messages above a rate."""

_CLOSED: Final = "This download manager is closed. `gglib_nb.get_manager()` gives the live one."
_FORKED: Final = "Downloads belong to the process that this one was forked from; ask there, or start a new process."

_log: Final = logging.getLogger("gglib_nb")

_Result = TypeVar("_Result")
_Value = TypeVar("_Value")
Listener = Callable[[QueueSnapshot], None]
EventListener = Callable[[told.QueueEvent], None]


class EffectRunner(Protocol):
    """Does what the machine wants done; none of the calls may wait."""

    def start(self, effect: do.StartTransfer) -> None:
        """Have the engine fetch."""

    def stop(self, effect: do.StopTransfer) -> None:
        """Have the engine stop."""

    def discard(self, effect: do.DiscardPartials) -> None:
        """Have the engine delete what is left of targets."""

    def limit_bandwidth(self, effect: do.LimitBandwidth) -> None:
        """Tell the engine."""

    def limit_connections(self, effect: do.LimitConnections) -> None:
        """Tell the engine."""

    def limit_concurrency(self, effect: do.LimitConcurrency) -> None:
        """Tell whoever places transfers on several engines."""

    def wait_for_network(self, effect: do.WaitForNetwork) -> None:
        """Tell the engine."""

    def register(self, effect: do.RegisterModel) -> None:
        """Write to the catalog; an event comes back."""

    def store_queue(self) -> None:
        """Have what outlives the process written down."""


@dataclass(slots=True)
class _Posted:
    """Something for the thread to do, and who waits for it."""

    work: on.Event | Callable[[], Any] | None
    future: "Future[Any]"


@dataclass(slots=True)
class _Drain:
    """Somebody waits, until a deadline, for attempts to stop."""

    attempts: frozenset[int]
    deadline_s: float
    future: "Future[Any]"


class QueueThread:
    """Runs a machine. Every method may be called from any thread."""

    def __init__(self, machine: QueueMachine, runner: EffectRunner) -> None:
        self._machine: Final = machine
        self._runner: Final = runner
        self._inbox: Final[queue.SimpleQueue[_Posted]] = queue.SimpleQueue()
        self._snapshot = machine.snapshot()
        self._published = self._snapshot
        self._publish_at_s = 0.0
        self._listeners: tuple[Listener, ...] = ()
        self._event_listeners: tuple[EventListener, ...] = ()
        self._waiters: dict[DownloadId, list[Future[QueuedDownload]]] = {}
        self._joiners: list[Future[None]] = []
        self._drains: list[_Drain] = []
        self._is_closed = False
        self._is_forked = False
        self._thread: Final = threading.Thread(target=self._work, name="gglib-queue", daemon=True)
        self._thread.start()

    # From any thread ---------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> QueueSnapshot:
        """The queue, not older than the last answer that anybody got."""
        return self._snapshot

    @property
    def is_closed(self) -> bool:
        """Whether everything is refused, for good."""
        return self._is_closed

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child's copy; the living one is in the parent."""
        return self._is_forked

    def post(self, event: on.Event) -> "Future[Any]":
        """Has the machine take an event; the future gets its reply, or its refusal."""
        return self._put(event)

    def ask(self, question: Callable[[QueueMachine], _Result]) -> "Future[_Result]":
        """Asks the machine something between two events; the question must not change it."""
        return self._put(lambda: question(self._machine))

    def ask_stored(self) -> "Future[StoredQueue]":
        """What of the queue has to outlive the process."""
        return self._put(self._machine.stored)

    @property
    def is_watched(self) -> bool:
        """Whether anybody follows the snapshots."""
        return bool(self._listeners)

    def cancel_all(self, at_s: float, timeout_s: float) -> "Future[None]":
        """Cancels everything; ends when all of it has stopped, or after `timeout_s`."""
        done: Future[None] = Future()

        def act() -> None:
            try:
                attempts = self._take(on.AllCancelRequested(at_s))
            except GglibError as error:
                fail(done, error)
            else:
                self._drains.append(_Drain(attempts, time.monotonic() + timeout_s, done))

        self._put(act)
        return done

    def wait(self, id: DownloadId) -> "Future[QueuedDownload]":  # noqa: A002 - the port's word
        """Ends when the download does: completed, or with its error."""
        ended: Future[QueuedDownload] = Future()

        def act() -> None:
            if (download := self._machine.find(id)) is not None:
                self._waiters.setdefault(download.id, []).append(ended)
            elif (download := self._machine.find_ended(id)) is not None:
                _settle(ended, download)
            else:
                fail(ended, NotInQueueError(f"There is no download {id}. `status` shows what is there."))

        _pass_on_failure(self._put(act), ended)
        return ended

    def join(self) -> "Future[None]":
        """Ends when nothing is queued, active or being listed; paused downloads do not count."""
        drained: Future[None] = Future()
        _pass_on_failure(self._put(lambda: self._joiners.append(drained)), drained)
        return drained

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` on this thread with a snapshot, at most ten times a second and after the last change."""
        self._put(lambda: setattr(self, "_listeners", (*self._listeners, listener)))
        return lambda: self._put_quietly(
            lambda: setattr(self, "_listeners", tuple(one for one in self._listeners if one is not listener))
        )

    def subscribe_events(self, listener: EventListener) -> Callable[[], None]:
        """Calls `listener` on this thread with the whole queue, and then with every event as it happens."""

        def act() -> None:
            self._event_listeners = (*self._event_listeners, listener)
            _call(listener, told.SnapshotChanged(self._machine.snapshot()))

        self._put(act)
        return lambda: self._put_quietly(
            lambda: setattr(
                self, "_event_listeners", tuple(one for one in self._event_listeners if one is not listener)
            )
        )

    def close(self, timeout_s: float) -> None:
        """Ends the thread; whoever still waits for a download gets `DownloadInterruptedError`."""
        if not self._is_closed:
            self._is_closed = True
            self._inbox.put(_Posted(None, Future()))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist: refuses everything from now on."""
        self._is_closed = True
        self._is_forked = True

    def _put(self, work: on.Event | Callable[[], _Result]) -> "Future[Any]":
        future: Future[Any] = Future()
        if self._is_closed:
            future.set_exception(ManagerClosedError(_FORKED if self._is_forked else _CLOSED))
        else:
            self._inbox.put(_Posted(work, future))
        return future

    def _put_quietly(self, work: Callable[[], None]) -> None:
        self._put(work)

    # On the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (posted := self._next()) is None or posted.work is not None:
            if posted is not None:
                self._answer(posted)
            self._look_after_waiters()
            self._publish()
        self._interrupt_waiters()

    def _next(self) -> _Posted | None:
        """What was posted; None when it is time to publish or a deadline has come."""
        times = [drain.deadline_s for drain in self._drains]
        if self._machine_moved():
            times.append(self._publish_at_s)
        try:
            timeout_s = max(0.0, min(times) - time.monotonic()) if times else None
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _answer(self, posted: _Posted) -> None:
        try:
            value = posted.work() if callable(posted.work) else self._take(posted.work)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - it belongs to whoever posted; the thread must go on
            fail(posted.future, error)
        else:
            succeed(posted.future, value)

    def _take(self, event: on.Event) -> Any:  # noqa: ANN401 - each event has its own reply
        reply = None
        effects = self._machine.handle(event)
        if not isinstance(event, on.TransferProgressed):
            self._snapshot = self._machine.snapshot()  # whoever is told what happened finds it there
        for effect in effects:
            if isinstance(effect, do.Reply):
                reply = effect.value
            else:
                self._run(effect)
        return reply

    def _run(self, effect: do.Work | do.Announce) -> None:  # noqa: C901 - one case an effect, nothing else
        match effect:
            case do.StartTransfer():
                self._runner.start(effect)
            case do.StopTransfer():
                self._runner.stop(effect)
            case do.DiscardPartials():
                self._runner.discard(effect)
            case do.LimitBandwidth():
                self._runner.limit_bandwidth(effect)
            case do.LimitConnections():
                self._runner.limit_connections(effect)
            case do.LimitConcurrency():
                self._runner.limit_concurrency(effect)
            case do.WaitForNetwork():
                self._runner.wait_for_network(effect)
            case do.RegisterModel():
                self._runner.register(effect)
            case do.StoreQueue():
                self._runner.store_queue()
            case do.Announce():
                self._announce(effect.event)
            case _:
                assert_never(effect)

    def _announce(self, event: told.QueueEvent) -> None:
        if isinstance(event, told.DownloadCompleted | told.DownloadFailed | told.DownloadCancelled):
            for future in self._waiters.pop(event.download.id, ()):
                _settle(future, event.download)
        for listener in self._event_listeners:
            _call(listener, event)

    def _look_after_waiters(self) -> None:
        now_s = time.monotonic()
        for drain in list(self._drains):
            if now_s >= drain.deadline_s or not drain.attempts & self._machine.stopping:
                self._drains.remove(drain)
                succeed(drain.future, None)
        if self._joiners and self._machine.is_drained:
            for future in self._joiners:
                succeed(future, None)
            self._joiners.clear()

    def _machine_moved(self) -> bool:
        return self._machine.version != self._published.version

    def _publish(self) -> None:
        if not self._machine_moved() or time.monotonic() < self._publish_at_s:
            return
        self._snapshot = self._published = self._machine.snapshot()
        self._publish_at_s = time.monotonic() + _PUBLISH_EVERY_S
        for listener in self._listeners:
            _call(listener, self._snapshot)
        for event_listener in self._event_listeners:
            _call(event_listener, told.SnapshotChanged(self._snapshot))

    def _interrupt_waiters(self) -> None:
        for id_, futures in self._waiters.items():
            for future in futures:
                fail(
                    future, DownloadInterruptedError(f"{id_} was stopped with its manager; its partial files are kept.")
                )
        for waiting in [*self._joiners, *(drain.future for drain in self._drains)]:
            fail(waiting, ManagerClosedError(_CLOSED))
        while not self._inbox.empty():
            fail(self._inbox.get().future, ManagerClosedError(_CLOSED))


def _call(listener: Callable[[_Value], None], value: _Value) -> None:
    try:
        listener(value)
    except Exception:  # noqa: BLE001 - whatever is wrong with a listener, it must not take the queue with it
        _log.exception("A listener of the download queue failed")


def _settle(future: "Future[QueuedDownload]", download: QueuedDownload) -> None:
    if download.status is DownloadStatus.FAILED and download.error is not None:
        fail(future, download.error)
    elif download.status is DownloadStatus.CANCELLED:
        fail(future, DownloadCancelledError(f"{download.id} was cancelled; what was fetched is kept for a resume."))
    else:
        succeed(future, download)


def _pass_on_failure(source: "Future[Any]", target: "Future[Any]") -> None:
    def pass_on(done: "Future[Any]") -> None:
        if (error := done.exception()) is not None:
            fail(target, error)

    source.add_done_callback(pass_on)
