"""`DownloadManager.events()`: the queue's events as an async iterator, on whatever loop it is read.

The queue thread puts, the loop takes. While a cell blocks the loop nothing is lost that matters: of progress only
the newest is kept, everything else stays in its order.
"""

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import Final

from gglib_nb.domain.events import DownloadProgressed, NoticeChanged, QueueEvent, ShardProgressed, SnapshotChanged

_KEPT_WHOLE: Final = 1000
"""Up to here every event is kept; beyond it, only the newest of those that a later one replaces."""


class EventStream:
    """One reader's buffer. `put` may be called from any thread, the iterator from its loop only."""

    def __init__(self) -> None:
        self._events: Final[deque[QueueEvent]] = deque()
        self._lock: Final = threading.Lock()
        self._loop: Final = asyncio.get_running_loop()
        self._arrived: Final = asyncio.Event()
        self._has_ended = False

    def put(self, event: QueueEvent) -> None:
        """Adds an event and wakes the reader."""
        with self._lock:
            self._events.append(event)
            if len(self._events) > _KEPT_WHOLE:
                self._keep_newest()
        self._wake()

    def end(self) -> None:
        """Nothing more will come; the reader gets what is left and then the end."""
        self._has_ended = True
        self._wake()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> QueueEvent:
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self._has_ended:
                    raise StopAsyncIteration
                self._arrived.clear()
            await self._arrived.wait()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed, and with it the reader
            self._loop.call_soon_threadsafe(self._arrived.set)

    def _keep_newest(self) -> None:
        seen: set[object] = set()
        kept: deque[QueueEvent] = deque()
        for event in reversed(self._events):
            key = _replaced_by_later(event)
            if key is None or key not in seen:
                kept.appendleft(event)
                seen.add(key)
        self._events.clear()
        self._events.extend(kept)


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
