"""What becomes of a range whose connection is done with it: bytes kept, failures counted, ways of fetching changed.

Part of the coordinator and on its thread only. How long to wait and when to give up is decided in `transfer.retry`.
"""

import time
from collections.abc import Callable
from typing import Final

from gglib_nb.engine.http.errors import STALLED, BusyError, ExchangeError, LineError, RangeIgnoredError
from gglib_nb.engine.storage.lease import LeaseLostError
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.checkpoints import renew_lease
from gglib_nb.engine.transfer.connection_worker import RequestEnded
from gglib_nb.engine.transfer.connectivity import Connectivity
from gglib_nb.engine.transfer.range_request import RangeRequest
from gglib_nb.engine.transfer.retry import after_failure
from gglib_nb.engine.transfer.scheduler import Scheduler
from gglib_nb.engine.transfer.target import Part, Target

# A connection that brought less before it broke counts as one that brought nothing. Little enough that a line which is
# slow and breaks off often is never given up while bytes come.
_WORTH_BYTES: Final = 4 * 1024


class RangeResults:
    """The results of the ranges of one attempt."""

    def __init__(
        self,
        scheduler: Scheduler,
        timeouts: Timeouts,
        connectivity: Connectivity,
        on_lease_lost: Callable[[Target], None],
    ) -> None:
        """Nothing has ended yet.

        Args:
            scheduler: Which the ranges go back to.
            timeouts: How often and how long to try.
            connectivity: Told of failures of the line.
            on_lease_lost: Called with a target that another process has taken over.
        """
        self._scheduler = scheduler
        self._timeouts = timeouts
        self._connectivity = connectivity
        self._on_lease_lost = on_lease_lost

    def ended(self, ended: RequestEnded) -> None:
        """A connection reports.

        Raises:
            GglibError: The failure cannot be healed, or was tried often enough.
        """
        now_s = time.monotonic()
        target = self._scheduler.take_back(ended, now_s)
        if target is None:
            return
        target.update_done()  # the hasher should not wait for the next tick
        request, part = ended.request, target.part_of(ended.request)
        self._count(part, request)
        match ended.error:
            case None if part.end is None and request.end is not None:
                _length_is_known(target, part, request.end)
            case None:
                pass
            case LeaseLostError():
                if not renew_lease(target):
                    self._on_lease_lost(target)
            case ExchangeError() as error:
                self._failed(target, part, request, error, now_s)
            case error:
                raise error

    def take_stalled(self, now_s: float) -> None:
        """Take the ranges away from connections that bring nothing.

        Raises:
            GglibError: It was tried often enough.
        """
        for target, request in self._scheduler.abandon_stalled(now_s, self._timeouts):
            self._scheduler.pool.note_stall(now_s)
            self._count(target.part_of(request), request)
            self._failed(target, target.part_of(request), request, LineError(STALLED), now_s)

    @staticmethod
    def _count(part: Part, request: RangeRequest) -> None:
        """Forgive earlier failures where it brought something."""
        # What a server that gives only the whole has sent is lost when it breaks off.
        has_gained = request.received_bytes >= _WORTH_BYTES and not part.is_sequential
        if has_gained or request.position == request.end:
            part.succeeded()

    def _failed(self, target: Target, part: Part, request: RangeRequest, error: ExchangeError, now_s: float) -> None:
        if isinstance(error, RangeIgnoredError):
            self._take_whole(target, part, now_s)
        elif part.remote is not None and part.remote.url == request.source.url:
            # Otherwise it was about a URL that has been replaced meanwhile.
            pool = self._scheduler.pool
            if isinstance(error, BusyError):
                pool.refused(now_s)
            if part.is_sequential:
                self._scheduler.refetch_part(target, part, now_s)
            others_flow = bool(pool.busy) and now_s - pool.moved_s < 1
            if isinstance(error, LineError) and not others_flow:
                self._connectivity.failed(now_s)
            is_excused = others_flow or self._connectivity.outage is not None
            after_failure(part, error, now_s, self._timeouts, is_excused=is_excused)

    def _take_whole(self, target: Target, part: Part, now_s: float) -> None:
        """The server gives the whole or nothing: begin again from its first byte, on one connection."""
        if not part.is_sequential and target.partial is not None:
            part.is_sequential = True
            self._scheduler.refetch_part(target, part, now_s)


def _length_is_known(target: Target, part: Part, end: int) -> None:
    part.end = end
    if target.partial is not None:
        target.update_done()
        target.partial.close_at(end)
