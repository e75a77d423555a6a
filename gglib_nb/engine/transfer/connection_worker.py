"""The thread of one connection: fetches one range after the other and reports how each ended; it decides nothing."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gglib_nb.engine.http import Answer, Connection, LineError, Session
from gglib_nb.engine.storage.filesystem import new_buffer
from gglib_nb.engine.transfer.range_request import RangeRequest
from gglib_nb.engine.transfer.slice_length import BUFFER_BYTES, READ_S, SliceLength
from gglib_nb.engine.transfer.throttle import Throttle

# Who waits for the hasher looks so often whether it has caught up.
_LOOK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A connection is done with a request.

    Attributes:
        worker: Its thread.
        request: What it had to fetch; its `position` says how far it came.
        error: What went wrong; None when it is complete, or when its rest should be given out anew.
    """

    worker: "ConnectionWorker"
    request: RangeRequest
    error: Exception | None


class ConnectionWorker:
    """One connection and its thread.

    Attributes:
        request: What it fetches; None while idle. Only the coordinator touches it.
        answer_s: What its last request took to the head of the answer, connecting included; None before the first.
        is_waiting: Waits for the bandwidth limit or the hasher, so that it does not stall.
    """

    def __init__(self, session: Session, throttle: Throttle, report: Callable[[RequestEnded], None]) -> None:
        """Start the thread; it opens its connection with the first request."""
        self.request: RangeRequest | None = None
        self.answer_s: float | None = None
        self.is_waiting = False
        self._session = session
        self._throttle = throttle
        self._report = report
        self._requests: queue.SimpleQueue[RangeRequest | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._buffer = new_buffer(BUFFER_BYTES)
        self._slice = SliceLength()
        self._narrowed_to: float | None = None
        threading.Thread(target=self._run, name="gglib-connection", daemon=True).start()

    def assign(self, request: RangeRequest) -> None:
        """Fetch this; the end is reported."""
        self.request = request
        self._requests.put(request)

    def close(self) -> None:
        """End the thread and its connection at once; a request under way is reported as broken. The caller revokes it."""
        self._stop.set()
        self._requests.put(None)
        if self._connection is not None:
            self._connection.abort()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None and not self._stop.is_set():
            error: Exception | None = None
            try:
                self._fetch(request)
            except Exception as raised:  # noqa: BLE001  # the coordinator sorts them, and a bug must reach it too
                error = raised
                self._drop_connection()
            self._report(RequestEnded(self, request, error))
        self._drop_connection()
        self._buffer.release()  # reports that nobody takes any more still refer to us

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._narrowed_to = None

    def _fetch(self, request: RangeRequest) -> None:
        connection = self._fresh_connection()
        # A server may give less than was asked for; the rest is asked for on the same connection.
        while not request.is_over and not self._stop.is_set():
            asked_s = time.monotonic()
            answer = connection.request(request.source.url, *request.wanted)
            self.answer_s = time.monotonic() - asked_s
            self._read(connection, answer, request)
            if self._is_narrowed_in_vain or request.end is None:
                return

    def _fresh_connection(self) -> Connection:
        if self._is_narrowed_in_vain:
            self._drop_connection()
        if self._connection is None:
            self._connection = Connection(self._session)
        return self._connection

    def _read(self, connection: Connection, answer: Answer, request: RangeRequest) -> None:
        while not request.is_over and not self._is_narrowed_in_vain:
            self._narrow(connection)
            length = self._slice.length_bytes
            wanted = length if request.end is None else min(length, request.end - request.position)
            began_s = time.monotonic()
            read = answer.readinto if self._slice.is_filled else answer.readinto1
            count = read(self._buffer[: max(1, wanted)])
            if self._stop.is_set():
                raise LineError("the connection was closed")
            if count == 0:
                if request.end is None:
                    request.end_here()
                break
            self._slice.observe(count, time.monotonic() - began_s)
            request.write(self._buffer[:count])
            self._wait(request, count)
        answer.finish()

    def _narrow(self, connection: Connection) -> None:
        """Under a bandwidth limit, let neither a slice nor the system's buffer run far ahead of it."""
        limit = self._throttle.bytes_per_second
        if limit is None:
            return
        self._slice.limit(limit)
        if limit != self._narrowed_to:
            connection.narrow(max(16 * 1024, min(BUFFER_BYTES, int(limit * READ_S))))
            self._narrowed_to = limit

    @property
    def _is_narrowed_in_vain(self) -> bool:
        """The connection was made slow for a limit that is gone, and cannot be made fast again."""
        return self._narrowed_to is not None and self._throttle.bytes_per_second is None

    def _wait(self, request: RangeRequest, count: int) -> None:
        self.is_waiting = True
        self._throttle.pay(count, self._stop)
        while request.is_far_ahead and not self._stop.wait(_LOOK_S):
            pass
        self.is_waiting = False
