"""The connection pool of one attempt: connections opened, measured, replaced, within the engine's bound.

Belongs to the coordinator's thread. It counts bytes and seconds; which ranges are fetched is decided in
`transfer.scheduler`, what an error means in `transfer.range_results`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gglib_nb.engine.http import Session
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.adaptation import Adaptation, ConnectionSpeed, Replacement
from gglib_nb.engine.transfer.connection_budget import ConnectionBudget
from gglib_nb.engine.transfer.connection_worker import ConnectionWorker, RequestEnded
from gglib_nb.engine.transfer.range_request import RangeRequest
from gglib_nb.engine.transfer.range_selection import RunningRange
from gglib_nb.engine.transfer.throttle import Throttle

# A connection's rate is that of about the last second, so it says something about its range once all of that second
# was after the warm-up: before, it is too low, and a range is split that would soon have ended by itself.
_RATE_S: Final = 1.0
# Closing a connection in the middle of a range loses what is on its way and the speed it has worked up to, so one
# whose range ends within this time may end it.
_SOON_S: Final = 2.0
# A new connection on a long line is slow at first (TCP's slow start): not judged for so many times what its first byte
# took beyond what is usual on a short line, seen ten times a second.
_WARM_UP_ANSWERS: Final = 4.0
_SHORT_ANSWER_S: Final = 0.15
# Connections that bring less are starved by each other: a packet may come seconds after the one before.
_THIN_BYTES_PER_SECOND: Final = 16 * 1024


@dataclass(eq=False)
class PooledConnection:
    """One connection as the pool sees it.

    Attributes:
        worker: Its thread.
        opened_s: When it was made.
        moved_s: When it last brought a byte or began.
        received_bytes: All it ever brought.
        flowing_since_s: When it brought its first byte; None before.
        closes_after_request: Its next range is to be fetched by a new connection.
    """

    worker: ConnectionWorker
    opened_s: float
    moved_s: float
    received_bytes: int = 0
    flowing_since_s: float | None = None
    closes_after_request: bool = False
    _ended_bytes: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def request(self) -> RangeRequest | None:
        """What it fetches; None while idle."""
        return self.worker.request

    @property
    def has_begun(self) -> bool:
        """Whether its request has brought a byte."""
        return self.request is not None and self.request.position > self.request.start

    def sample(self, now_s: float) -> int:
        """Take note of what came; returns the bytes since the last time."""
        request = self.request
        received = self._ended_bytes + (0 if request is None else request.position - request.start)
        new = received - self.received_bytes
        if new > 0:
            self.moved_s = now_s
            self.flowing_since_s = self.flowing_since_s or now_s
        self.received_bytes = received
        self._samples.append((now_s, received))
        while now_s - self._samples[0][0] > _RATE_S:
            self._samples.popleft()
        return new

    def end_request(self) -> None:
        """Its request is over."""
        if self.request is not None:
            self._ended_bytes += self.request.position - self.request.start
            self.worker.request = None

    def request_rate(self, now_s: float) -> float | None:
        """Bytes a second of its request; None while that has brought nothing or the connection is new."""
        speed = self.speed(now_s)
        return speed.bytes_per_second if self.has_begun and speed.flowing_s >= _RATE_S else None

    def ends_soon(self, now_s: float) -> bool:
        """Whether its request will end by itself in a moment."""
        left = None if self.request is None or self.request.end is None else self.request.end - self.request.position
        return left is not None and left <= self.speed(now_s).bytes_per_second * _SOON_S

    def speed(self, now_s: float) -> ConnectionSpeed:
        """How fast it is, and since when."""
        flowing_s = 0.0
        if self.flowing_since_s is not None:
            long_s = max(0.0, self.flowing_since_s - self.opened_s - _SHORT_ANSWER_S)
            flowing_s = max(0.0, now_s - self.flowing_since_s - long_s * _WARM_UP_ANSWERS)
        if len(self._samples) < 2:
            return ConnectionSpeed(flowing_s, 0.0)
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return ConnectionSpeed(flowing_s, (last - first) / (last_s - first_s) if last_s > first_s else 0.0)


class ConnectionPool:
    """The connections, and how many there should be.

    Attributes:
        received_bytes: What all of them, also the closed ones, ever brought.
        moved_s: When any of them last brought a byte.
    """

    def __init__(
        self,
        attempt: int,
        files: int,
        throttle: Throttle,
        budget: ConnectionBudget,
        report: Callable[[RequestEnded], None],
    ) -> None:
        now_s = time.monotonic()
        self.received_bytes = 0
        self.moved_s = now_s
        self._attempt = attempt
        self._throttle = throttle
        self._budget = budget
        self._report = report
        self._connections: list[PooledConnection] = []
        self._adaptation = Adaptation(files)
        self._replacement = Replacement(now_s)
        self._share = self._adaptation.wanted

    def __iter__(self) -> Iterator[PooledConnection]:
        return iter(self._connections)

    @property
    def busy(self) -> list[PooledConnection]:
        """Those with a request."""
        return [connection for connection in self._connections if connection.request is not None]

    def running(self, now_s: float) -> list[tuple[RangeRequest, RunningRange]]:
        """The ranges under way that could be split, for planning."""
        return [
            (request, RunningRange(request.position, request.end, connection.request_rate(now_s)))
            for connection in self._connections
            if (request := connection.request) is not None and request.end is not None and not request.source.is_whole
        ]

    def measure(self, now_s: float) -> None:
        """Sample every connection and decide anew how many are wanted."""
        for connection in self._connections:
            self._sample(connection, now_s)
        flowing = sum(now_s - connection.moved_s < 0.3 and connection.received_bytes > 0 for connection in self.busy)
        self._adaptation.observe(now_s, self.received_bytes, flowing, self.is_limited)

    def adjust_share(self, *, has_work: bool) -> None:
        """Ask for as many connections as are wanted, without work for them for one; idle ones above our share are closed."""
        self._share = self._budget.share(self._attempt, self._adaptation.wanted if has_work else 1)
        for connection in [connection for connection in self._connections if connection.request is None][
            : self._surplus()
        ]:
            self.close(connection)

    @property
    def is_limited(self) -> bool:
        """Whether there is a bandwidth limit."""
        return self._throttle.bytes_per_second is not None

    def to_be_closed(self, now_s: float) -> PooledConnection | None:
        """A busy connection that should be closed: above our share, or far slower than the best.

        Not one that brings a file as a whole, since that would begin again.
        """
        busy = [
            connection
            for connection in self.busy
            if connection.request is not None and not connection.request.source.is_whole
        ]
        staying = [connection for connection in busy if not connection.closes_after_request]
        if self._surplus() > len(busy) - len(staying):
            return min(staying, key=lambda connection: connection.speed(now_s).bytes_per_second, default=None)
        busy = [
            connection for connection in staying if connection.has_begun
        ]  # one that waits for its answer is not slow
        if self.is_limited or len(busy) < 2:
            return None
        speeds = [connection.speed(now_s) for connection in busy]
        index = self._replacement.slow_one(now_s, speeds)
        if index is None:
            probed = self._replacement.probe(now_s, speeds)
            if probed is not None:
                busy[probed].closes_after_request = True
            return None
        return busy[index]

    def stalled(self, now_s: float, timeouts: Timeouts) -> list[PooledConnection]:
        """Busy connections that have brought nothing for too long and wait neither for the bandwidth limit nor for the digest.

        The first byte of a range may take longer than the next: a CDN may have to fetch the file itself.
        """
        return [
            connection
            for connection in self.busy
            if not connection.worker.is_waiting
            and now_s - connection.moved_s > (timeouts.stall_s if connection.has_begun else timeouts.answer_s)
        ]

    @property
    def can_acquire(self) -> bool:
        """Whether a connection is idle or may be opened."""
        return len(self._connections) < self._share or any(
            connection.request is None for connection in self._connections
        )

    @property
    def share(self) -> int:
        """How many connections this transfer may hold now."""
        return self._share

    def typical_rate(self, now_s: float) -> float | None:
        """The median rate of those that bring bytes; None where nobody does."""
        rates = sorted(rate for connection in self.busy if (rate := connection.speed(now_s).bytes_per_second) > 0)
        return rates[len(rates) // 2] if rates else None

    @property
    def answer_s(self) -> float | None:
        """The shortest time that a request waits for the head of its answer; None before the first answer."""
        return min((wait_s for one in self._connections if (wait_s := one.worker.answer_s) is not None), default=None)

    def acquire(self, session: Session, now_s: float) -> PooledConnection | None:
        """An idle connection, opened if need be; None where all the share is busy."""
        idle = next((connection for connection in self._connections if connection.request is None), None)
        if idle is not None:
            return idle
        if len(self._connections) >= self._share or not self._budget.acquire(self._attempt):
            return None
        connection = PooledConnection(ConnectionWorker(session, self._throttle, self._report), now_s, now_s)
        self._connections.append(connection)
        return connection

    def assign(self, connection: PooledConnection, request: RangeRequest, now_s: float) -> None:
        """Have an idle connection fetch a range."""
        connection.moved_s = now_s
        connection.worker.assign(request)

    def release(self, worker: ConnectionWorker, now_s: float) -> PooledConnection | None:
        """A connection is done with its request; None where it was closed before."""
        connection = next((connection for connection in self._connections if connection.worker is worker), None)
        if connection is None:
            return None
        self._sample(connection, now_s)
        connection.end_request()
        if connection.closes_after_request:
            self.close(connection)
        return connection

    def refused(self, now_s: float) -> None:
        """A server wants fewer connections."""
        flowing = sum(now_s - connection.moved_s < 1 for connection in self.busy)
        if flowing:
            self._adaptation.refused(now_s, flowing)

    def note_stall(self, now_s: float) -> None:
        """A connection brought nothing for too long: on a line that is thin for all of them, go on with fewer."""
        rate = sum(connection.speed(now_s).bytes_per_second for connection in self.busy)
        if rate < _THIN_BYTES_PER_SECOND * max(1, len(self.busy)):
            self._adaptation.stalled(now_s)

    def close(self, connection: PooledConnection) -> None:
        """Close a connection's connection; its request, if any, must have been revoked."""
        self._connections.remove(connection)
        connection.worker.close()
        self._budget.release(self._attempt)

    def close_all(self) -> None:
        """Close every connection and give back the share; all requests must have been revoked."""
        for connection in list(self._connections):
            self.close(connection)
        self._budget.remove(self._attempt)

    def _sample(self, connection: PooledConnection, now_s: float) -> None:
        if (new := connection.sample(now_s)) > 0:
            self.received_bytes += new
            self.moved_s = now_s

    def _surplus(self) -> int:
        return len(self._connections) - self._share
