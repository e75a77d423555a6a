"""The one thread that owns the queue machine: handles events, carries out effects in order, publishes snapshots.

Other threads post: operations, the engine's reader, the keeper. So effects happen in the order of events, an interrupt
in a cell cannot corrupt the state, and the queue keeps running while a cell blocks the kernel. Nothing here waits for
the Hub, for SQLite or for a pipe; those have their own threads.

Every future returned from here is answered: by the event's reply, by what it waits for, or at the end by `_end`.
"""

import logging
import math
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from datetime import time as time_of_day
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

from msgspec.structs import replace
from typing_extensions import override

from gglib_nb.domain import reports
from gglib_nb.domain import snapshot as announced
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload, QueueNotice, QueueSnapshot
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import DownloadCancelledError, DownloadInterruptedError, ManagerClosedError, NotInQueueError
from gglib_nb.manager.calls import FORKED, InboxThread, awaited, fail, succeed
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.machine import QueueMachine

_PUBLISH_EVERY_S: Final = 0.1
"""At most ten snapshots a second: users see no more, and jupyter_server drops messages above a rate."""

# The wall clock may be changed, and a monotonic clock may not count while the machine sleeps.
_CLOCK_EVERY_S: Final = 30.0

_log: Final = logging.getLogger("gglib_nb")

_Result = TypeVar("_Result")
_Value = TypeVar("_Value")
Listener = Callable[[QueueSnapshot], None]
EventListener = Callable[[announced.QueueEvent], None]


def local_time() -> time_of_day:
    """The local time of day."""
    return datetime.now().astimezone().time()


def is_open_now(hours: DailyHours | None) -> bool:
    """Whether downloads run at this hour of the day."""
    return hours is None or hours.contains(local_time())


class QueueThread(InboxThread):
    """Runs a machine. Every method may be called from any thread; after the end it fails with `ManagerClosedError`.

    Args:
        machine: Used only by this thread from now on.
        run: Carries out an effect; must not block.
        beside: Fields of the snapshot that the machine does not have.
        clock: Returns the local time, for the hours in which downloads run.

    Attributes:
        snapshot: The queue, at least as new as the last reply.
    """

    def __init__(
        self,
        machine: QueueMachine,
        run: Callable[[do.Work], None],
        beside: Mapping[str, Any] = MappingProxyType({}),
        clock: Callable[[], time_of_day] = local_time,
    ) -> None:
        super().__init__("gglib-queue", 1)
        self._machine: Final = machine
        self._run_effect: Final = run
        self._clock: Final = clock
        self._beside: Final[dict[str, Any]] = {"notices": (), **beside}
        self.snapshot = self._published = self._seen()
        self._publish_at_s = 0.0
        self._clock_at_s = 0.0
        self._listeners: Final[dict[Listener, None]] = {}
        self._event_listeners: Final[dict[EventListener, Callable[[], None]]] = {}
        self._waiters: Final[dict[Future[QueuedDownload], DownloadId]] = {}
        # Futures that are answered when a condition holds, or at a deadline.
        self._conditions: Final[dict[Future[None], tuple[Callable[[QueueMachine], bool], float]]] = {}

    # From any thread ---------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether every call is refused from now on."""
        return bool(self._refusal)

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child's copy; the real one is in the parent."""
        return self._refusal == FORKED

    @property
    def is_watched(self) -> bool:
        """Whether there are subscribers to the snapshots."""
        return bool(self._listeners)

    def post(self, event: on.Event, finish: Callable[[Any], Any] = lambda reply: reply) -> "Future[Any]":
        """Gives the machine an event; the future gets its reply, or its refusal.

        If the future is cancelled before the machine handles the event, the event is dropped. `finish` is called with
        the reply before the machine handles another event; the future gets what it returns.
        """
        return self._put(lambda _: finish(self._take(event)))

    def notify(self, event: on.Event) -> None:
        """Gives the machine an event without a reply, such as a report of the engine."""
        self.post(event).add_done_callback(_log_error)

    def ask(self, question: Callable[[QueueMachine], _Result]) -> "Future[_Result]":
        """Reads something from the machine between two events; the call must not change it."""
        return self._put(lambda _: question(self._machine))

    def look(self) -> "Future[QueueSnapshot]":
        """The queue after everything that was posted before."""
        return self._put(lambda _: self._seen())

    def note(self, **fields: Any) -> "Future[None]":  # noqa: ANN401 - of the snapshot
        """Changes fields of the snapshot that the machine does not have: settings, and downloads of other kernels."""
        return self._put(lambda _: self._note(fields))

    def give_notice(self, kind: str, text: str) -> "Future[None]":
        """Shows a notice about the whole queue, instead of an earlier one of its kind; without a text, shows none."""

        def act(_: "Future[None]") -> None:
            others = tuple(one for one in self._beside["notices"] if one.kind != kind)
            self._note({"notices": (*others, QueueNotice(kind, text)) if text else others})

        return self._put(act)

    def wait(self, id: DownloadId) -> "Future[QueuedDownload]":  # noqa: A002 - the port's word
        """Done when the download has ended: completed, or with its error."""

        def act(ended: "Future[QueuedDownload]") -> "Future[QueuedDownload]":
            if (download := self._machine.find(id)) is not None:
                self._waiters[ended] = download.id
            elif (download := self._machine.find_ended(id)) is not None:
                _end_wait(ended, download)
            else:
                raise NotInQueueError(f"There is no download {id}. %gguf status shows the queue.")
            return ended

        return self._put(act)

    def until(self, holds: Callable[[QueueMachine], bool], timeout_s: float = math.inf) -> "Future[None]":
        """Done when a condition holds after an event, or after `timeout_s`."""

        def act(done: "Future[None]") -> "Future[None]":
            self._conditions[done] = (holds, time.monotonic() + timeout_s)
            return done

        return self._put(act)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` on this thread with a snapshot, at most ten times a second and after the last change."""
        own = partial(listener)  # so that the same listener may subscribe twice, and need not be hashable
        if self._refusal:
            raise ManagerClosedError(self._refusal)
        self._listeners[own] = None  # at once, not on the thread: the keeper has to see `is_watched` after this call
        return partial(self._listeners.pop, own, None)

    def subscribe_events(self, listener: EventListener, ended: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """Calls `listener` on this thread with the whole queue, then with every event; `ended` after the last one."""
        own = partial(listener)  # as above

        def act(_: "Future[None]") -> None:
            self._event_listeners[own] = ended
            _call(listener, announced.SnapshotChanged(self._seen()))

        def end() -> None:
            self._put(lambda _: self._event_listeners.pop(own, None))

        subscribed = self._put(act)
        if subscribed.done() and (error := subscribed.exception()) is not None:
            raise error
        return end

    # On the thread -----------------------------------------------------------------------------------------------

    @override
    def _do_due(self) -> float | None:
        now_s, hours = time.monotonic(), self._machine.limits.hours
        if hours is not None and now_s >= self._clock_at_s:
            self._look_at_clock(hours)
        if self._waiters or self._conditions:
            self._look_at_waits()
        if self._machine.version != self._published.version and now_s >= self._publish_at_s:
            self._publish()
        due_s = [deadline_s for _, deadline_s in self._conditions.values()]
        due_s.append(self._publish_at_s if self._machine.version != self._published.version else math.inf)
        due_s.append(self._clock_at_s if self._machine.limits.hours is not None else math.inf)
        rest_s = max(0.0, min(due_s) - time.monotonic())
        return rest_s if rest_s < math.inf else None

    def _take(self, event: on.Event) -> Any:  # noqa: ANN401 - each event has its own reply
        reply = None
        effects = self._machine.handle(event, time.time(), time.monotonic())
        if isinstance(event, on.LimitsChanged):
            self._clock_at_s = 0.0
        if isinstance(event, on.Request):  # notices of a single event disappear when the user changes the queue
            kept = (one for one in self._beside["notices"] if one.kind not in ("adopted", "partials"))
            self._beside["notices"] = tuple(kept)
        if not isinstance(event, reports.Progress):
            self.snapshot = self._seen()  # the callbacks below read it
        for effect in effects:
            if isinstance(effect, do.Reply):
                reply = effect.value
            elif isinstance(effect, announced.QueueEvent):
                self._announce(effect)
            else:
                try:
                    self._run_effect(effect)
                except Exception:  # noqa: BLE001 - the following effects have to be carried out anyway
                    _log.exception("The download queue could not start %s", type(effect).__name__)
        return reply

    def _announce(self, event: announced.QueueEvent) -> None:
        for listener in list(self._event_listeners):
            _call(listener, event)
        # Then the waits, because a script may end with its wait: what follows the download has begun.
        if isinstance(event, announced.DownloadEnded):
            for future in [future for future, id_ in self._waiters.items() if id_ == event.download.id]:
                del self._waiters[future]
                _end_wait(future, event.download)

    def _look_at_clock(self, hours: DailyHours) -> None:
        now = self._clock()
        self._clock_at_s = time.monotonic() + min(hours.seconds_until_turn(now), _CLOCK_EVERY_S)
        if (is_open := hours.contains(now)) != self._machine.limits.is_open:
            self._take(on.HoursTurned(is_open))

    def _look_at_waits(self) -> None:
        """Ends waits whose condition holds or whose time is over, and drops cancelled ones."""
        for waiter in [waiter for waiter in self._waiters if waiter.cancelled()]:
            del self._waiters[waiter]
        now_s = time.monotonic()
        for future, (holds, deadline_s) in list(self._conditions.items()):
            if future.cancelled() or holds(self._machine) or now_s >= deadline_s:
                del self._conditions[future]
                succeed(future, None)

    def _seen(self) -> QueueSnapshot:
        return replace(self._machine.snapshot(), **self._beside)

    def _note(self, fields: Mapping[str, Any]) -> None:
        self._beside.update(fields)
        self._machine.version += 1
        self.snapshot = self._seen()

    def _publish(self) -> None:
        self.snapshot = self._published = self._seen()
        self._publish_at_s = time.monotonic() + _PUBLISH_EVERY_S
        for listener in list(self._listeners):
            _call(listener, self.snapshot)
        for event_listener in list(self._event_listeners):
            _call(event_listener, announced.SnapshotChanged(self.snapshot))

    @override
    def _end(self) -> None:
        super()._end()
        for future, id_ in self._waiters.items():
            fail(future, DownloadInterruptedError(f"{id_} was stopped with its manager. Downloaded data is kept."))
        for condition in list(self._conditions):
            fail(condition, ManagerClosedError(self._refusal))
        for ended in list(self._event_listeners.values()):
            ended()


def _log_error(done: "Future[Any]") -> None:
    error = done.exception()
    if error is not None and not isinstance(error, ManagerClosedError):
        _log.error("The download queue could not handle a report", exc_info=error)


def _call(listener: Callable[[_Value], None], value: _Value) -> None:
    try:
        listener(value)
    except BaseException:  # noqa: BLE001 - a faulty listener must not end the queue
        _log.exception("A listener of the download queue failed")


def _end_wait(future: "Future[QueuedDownload]", download: QueuedDownload) -> None:
    if download.status is DownloadStatus.FAILED and download.error is not None:
        fail(future, download.error)
    elif download.status is DownloadStatus.CANCELLED:
        fail(future, DownloadCancelledError(f"{download.id} was cancelled."))
    else:
        succeed(future, download)


class EventStream:
    """Every event from its creation on, after a first one with the whole queue; ends when the manager closes.

    An unread event is replaced by a later one that makes it outdated. Dropping the stream ends the subscription.
    """

    def __init__(self, source: QueueThread) -> None:
        self._unread: Final[OrderedDict[object, announced.QueueEvent]] = OrderedDict()
        self._lock: Final = threading.RLock()
        self._has_begun = self._has_ended = False
        self._readers: set[Future[None]] = set()
        itself = weakref.WeakMethod(self._put)

        def put(event: announced.QueueEvent | None = None) -> None:
            if (put_in := itself()) is not None:
                put_in(event)

        self._unsubscribe: Final = weakref.finalize(self, source.subscribe_events(put, put))
        self._unsubscribe.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> announced.QueueEvent:
        while True:
            with self._lock:
                if self._unread:
                    return self._unread.popitem(last=False)[1]
                if self._has_ended:
                    raise StopAsyncIteration
                reader: Future[None] = Future()
                self._readers.add(reader)
            try:
                await awaited(reader)
            finally:
                self._readers.discard(reader)

    async def aclose(self) -> None:
        """Ends the stream; a waiting reader gets the unread events first."""
        self._unsubscribe()
        self._put(None)

    def _put(self, event: announced.QueueEvent | None) -> None:
        """Adds an event, or the end, on any thread, and wakes the readers."""
        with self._lock:
            if event is None:
                self._has_ended = True
            else:
                key = (self._has_begun and _replaced_by_later(event)) or object()  # the first event stays the first
                self._has_begun = True
                self._unread.pop(key, None)
                self._unread[key] = event
            readers, self._readers = self._readers, set()
        for reader in readers:
            succeed(reader, None)


def _replaced_by_later(event: announced.QueueEvent) -> object | None:
    """The key of events that a later one replaces; None if every event counts."""
    match event:
        case announced.SnapshotChanged():
            return announced.SnapshotChanged
        case announced.DownloadProgressed():
            return (announced.DownloadProgressed, event.download.id)
        case announced.ShardProgressed():
            return (announced.ShardProgressed, event.id, event.shard.number)
        case announced.NoticeChanged():
            return (announced.NoticeChanged, event.id)
        case _:
            return None
