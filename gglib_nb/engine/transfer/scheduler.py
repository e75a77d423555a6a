"""Which connection fetches which range: ranges assigned, taken back, split.

Part of the coordinator and on its thread only. What a failure means is decided in `transfer.range_results`.
"""

from collections.abc import Sequence

from gglib_nb.engine.http import Session
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.connection_pool import ConnectionPool, PooledConnection
from gglib_nb.engine.transfer.connection_worker import RequestEnded
from gglib_nb.engine.transfer.range_request import RangeRequest
from gglib_nb.engine.transfer.range_selection import LARGEST_RANGE_BYTES, choose_split, range_bytes
from gglib_nb.engine.transfer.target import Part, Target


class Scheduler:
    """The range requests of one attempt.

    Attributes:
        pool: The connections that fetch them.
    """

    def __init__(self, pool: ConnectionPool, targets: Sequence[Target]) -> None:
        self.pool = pool
        self._targets = targets
        self._target_of: dict[RangeRequest, Target] = {}

    @property
    def under_way_bytes(self) -> int:
        """What the requests under way still have to bring, as far as it is known."""
        return sum(request.end - request.position for request in self._target_of if request.end is not None)

    def assign(self, now_s: float, session: Session) -> None:
        """Assign ranges as long as a connection can take one."""
        while self.pool.can_acquire and (request := self._next_request(now_s)) is not None:
            connection = self.pool.acquire(session, now_s)
            if connection is None:
                self.abandon(request, now_s)
                return
            self.pool.assign(connection, request, now_s)

    def take_back(self, ended: RequestEnded, now_s: float) -> Target | None:
        """A connection is done with a request; None where that was taken away from it before."""
        target = self._target_of.pop(ended.request, None)
        if target is not None:
            self.pool.release(ended.worker, now_s)
            target.end_request(ended.request)
        return target

    def abandon(self, request: RangeRequest, now_s: float) -> Target:
        """Take a request away from its connection; what it wrote stays, the rest can be assigned again."""
        target = self._target_of.pop(request)
        target.end_request(request)
        connection = next((connection for connection in self.pool if connection.request is request), None)
        if connection is not None:
            connection.closes_after_request = True
            self.pool.release(connection.worker, now_s)
        return target

    def abandon_all(self, requests: Sequence[RangeRequest], now_s: float) -> None:
        """Take several requests away."""
        for request in list(requests):
            self.abandon(request, now_s)

    def replace_slow(self, now_s: float) -> None:
        """Close a connection that is above our share or far slower than the best: after its request, or at once if that is long."""
        connection = self.pool.to_be_closed(now_s)
        if connection is None or connection.request is None:
            return
        if connection.ends_soon(now_s):
            connection.closes_after_request = True
        else:
            self.abandon(connection.request, now_s)

    def abandon_stalled(self, now_s: float, timeouts: Timeouts) -> list[tuple[Target, RangeRequest]]:
        """Take the requests of connections that bring nothing, and close those; returns the requests."""
        return [self._abandon_of(connection, now_s) for connection in self.pool.stalled(now_s, timeouts)]

    def refetch_part(self, target: Target, part: Part, now_s: float) -> None:
        """Have all bytes of a part fetched and hashed again.

        Raises:
            OSError: The journal cannot be written.
        """
        self.abandon_all([request for request in target.requests if request.part_offset == part.start], now_s)
        target.forget_part(target.parts.index(part))

    def close(self) -> None:
        """Take everything back and close all connections."""
        for request, target in self._target_of.items():
            target.end_request(request)
        self._target_of.clear()
        self.pool.close_all()

    def _abandon_of(self, connection: PooledConnection, now_s: float) -> tuple[Target, RangeRequest]:
        request = connection.request
        assert request is not None  # noqa: S101  # only busy connections stall
        return self.abandon(request, now_s), request

    def _next_request(self, now_s: float) -> RangeRequest | None:
        rate = self.pool.typical_rate(now_s)
        length_bytes = self._length_bytes(rate)
        # A file that nobody is at comes first: what one connection brings in order need not be read again for its digest.
        for target in sorted(self._targets, key=lambda one: bool(one.requests)):
            if target.stage.is_fetching and (request := target.next_request(now_s, length_bytes)) is not None:
                self._target_of[request] = target
                return request
        return None if any(target.is_about_to_give for target in self._targets) else self._split(now_s, rate)

    def _length_bytes(self, rate: float | None) -> int:
        missing = [count for target in self._targets if (count := target.bytes_to_fetch)]
        if len(missing) >= self.pool.share:
            return LARGEST_RANGE_BYTES  # each connection has a file for itself, in which nothing comes out of order
        return range_bytes(rate, sum(missing) - self.under_way_bytes, self.pool.share, self.pool.answer_s)

    def _split(self, now_s: float, rate: float | None) -> RangeRequest | None:
        """The tail of the slowest range, when nothing else is left to assign."""
        running = [
            (request, its_range)
            for request, its_range in self.pool.running(now_s)
            if self._target_of[request].part_of(request).troubles.retry_at_s <= now_s
        ]
        choice = choose_split([its_range for _, its_range in running], rate, self.pool.answer_s)
        if choice is None:
            return None
        request = running[choice[0]][0]
        target = self._target_of[request]
        tail = target.split(request, choice[1])
        if tail is not None:
            self._target_of[tail] = target
        return tail
