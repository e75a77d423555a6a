"""What becomes of a range whose connection is done with it: bytes kept, failures counted, ways of fetching changed.

Part of the coordinator and on its thread only. How long to wait and when to give up is decided in `engine.retry`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gglib_nb.domain.http_rules import origin_of
from gglib_nb.engine.http import ExchangeError, LineError, MovedError, SilentError, host_text
from gglib_nb.engine.resolve import check_redirect, follow
from gglib_nb.engine.retry import Connectivity, Step
from gglib_nb.engine.storage.lease import LeaseLostError
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.checkpoints import renew_lease
from gglib_nb.engine.transfer.connection_worker import RequestEnded
from gglib_nb.engine.transfer.range_request import RangeRequest
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
            timeouts: How long a connection may bring nothing.
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
            silent_s = self._timeouts.stall_s if request.received_bytes else self._timeouts.answer_s
            error = SilentError(host_text(origin_of(request.source.url)), silent_s)
            self._failed(target, target.part_of(request), request, error, now_s)

    @staticmethod
    def _count(part: Part, request: RangeRequest) -> None:
        """Forgive earlier failures where it brought something."""
        # What a server that gives only the whole has sent is lost when it breaks off.
        has_gained = request.received_bytes >= _WORTH_BYTES and not part.is_sequential
        if has_gained or request.position == request.end:
            part.troubles.received()

    def _failed(self, target: Target, part: Part, request: RangeRequest, error: ExchangeError, now_s: float) -> None:
        if part.remote is None or part.remote.url != request.source.url:
            return  # it was about a URL that has been replaced meanwhile
        pool = self._scheduler.pool
        if part.is_sequential:
            self._scheduler.refetch_part(target, part, now_s)
        others_receive = bool(pool.busy) and now_s - pool.moved_s < 1
        if isinstance(error, LineError) and not others_receive:
            self._connectivity.failed(now_s)
        is_offline = self._connectivity.outage is not None
        step = part.troubles.failed(error, now_s, others_receive=others_receive, is_offline=is_offline)
        self._take_step(step, target, part, error)

    def _take_step(self, step: Step, target: Target, part: Part, error: ExchangeError) -> None:
        now_s = time.monotonic()
        match step:
            case Step.WHOLE:
                self._take_whole(target, part, now_s)
            case Step.RESOLVE:
                part.remote = None
            case Step.FOLLOW:
                _follow(part, error)
            case Step.FEWER:
                self._scheduler.pool.refused(now_s)
            case Step.AGAIN:
                pass

    def _take_whole(self, target: Target, part: Part, now_s: float) -> None:
        """The server gives the whole or nothing: begin again from its first byte, on one connection."""
        if not part.is_sequential and target.partial is not None:
            part.is_sequential = True
            self._scheduler.refetch_part(target, part, now_s)


def _follow(part: Part, error: ExchangeError) -> None:
    assert isinstance(error, MovedError)  # noqa: S101  # the only one with that step
    assert part.remote is not None  # noqa: S101  # its answer was the redirect
    url = follow(part.remote.url, error.location, part.planned.path_in_repo)
    check_redirect(part.remote.url, url, has_digest=part.sha256 is not None)
    part.remote = replace(part.remote, url=url)


def _length_is_known(target: Target, part: Part, end: int) -> None:
    part.end = end
    if target.partial is not None:
        target.update_done()
        target.partial.close_at(end)
