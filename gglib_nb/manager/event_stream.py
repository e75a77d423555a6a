"""`DownloadManager.events()`: the queue's events as an async iterator, on whatever loop it is read.

The queue thread puts, the loop takes. Of events that a later one replaces only the newest is kept, so a reader that does not
read, such as one whose loop a cell blocks, costs a bounded amount of memory; all others stay in their order.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from gglib_nb.domain.events import DownloadProgressed, NoticeChanged, QueueEvent, ShardProgressed, SnapshotChanged

if TYPE_CHECKING:
    from asyncio import Future

Subscribe = Callable[[Callable[[QueueEvent], None], Callable[[], None]], Callable[[], None]]


class EventStream:
    """Every event from its creation on, after a first one with the whole queue; ends when the manager closes.

    Args:
        subscribe: Takes what is called with each event and what is called at the end; gives what ends the subscription.
    """

    def __init__(self, subscribe: Subscribe) -> None:
        self._buffer: Final = _Buffer()
        # The subscription holds the buffer only, so that a stream that is dropped without `aclose` ends it.
        self._unsubscribe: Final = weakref.finalize(self, subscribe(self._buffer.put, self._buffer.end))
        self._unsubscribe.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QueueEvent:
        while (event := self._buffer.take()) is None:
            if self._buffer.has_ended:
                raise StopAsyncIteration
            await self._buffer.arrival()
        return event

    async def aclose(self) -> None:
        """Ends the stream; what was not read is dropped."""
        self._unsubscribe()
        self._buffer.end()


class _Buffer:
    """What was not read yet, of one reader. `put` and `end` may be called from any thread."""

    def __init__(self) -> None:
        self.has_ended = False
        self._has_begun = False
        self._events: Final[OrderedDict[object, QueueEvent]] = OrderedDict()
        self._lock: Final = threading.Lock()
        self._reader: Future[None] | None = None

    def put(self, event: QueueEvent) -> None:
        """Adds an event, in the place of the one it replaces, and wakes the reader."""
        key = (self._has_begun and _replaced_by_later(event)) or object()  # the first event stays the first
        with self._lock:
            self._has_begun = True
            self._events.pop(key, None)
            self._events[key] = event
        self._wake()

    def end(self) -> None:
        """Nothing more will come; the reader gets what is left and then the end."""
        self.has_ended = True
        self._wake()

    def take(self) -> QueueEvent | None:
        """The oldest event; None where there is none."""
        with self._lock:
            return self._events.popitem(last=False)[1] if self._events else None

    def arrival(self) -> "Future[None]":
        """Done when there is something to take, or nothing will come."""
        from asyncio import get_running_loop

        reader = get_running_loop().create_future()
        with self._lock:
            self._reader = reader
            is_there = bool(self._events) or self.has_ended
        if is_there:
            self._wake()
        return reader

    def _wake(self) -> None:
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(RuntimeError):  # the loop was closed, and with it the reader
                reader.get_loop().call_soon_threadsafe(_resolve, reader)


def _resolve(reader: "Future[None]") -> None:
    if not reader.done():
        reader.set_result(None)


def _replaced_by_later(event: QueueEvent) -> object | None:
    """What a later event of the same key replaces; None where every one counts."""
    match event:
        case SnapshotChanged():
            return SnapshotChanged
        case DownloadProgressed():
            return (DownloadProgressed, event.download.id)
        case ShardProgressed():
            return (ShardProgressed, event.id, event.shard.number)
        case NoticeChanged():
            return (NoticeChanged, event.id)
        case _:
            return None
