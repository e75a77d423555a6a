"""The books of a transfer: leases beaten, journals written, bytes brought to the disk from time to time.

Part of the coordinator and on its thread only; a sync runs in a thread of its own. Before every line of a journal the
lease is looked at, and a target whose lease was lost is named and not written to.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gglib_nb.engine.partial import Partial
from gglib_nb.engine.place import storage_error
from gglib_nb.engine.ranges import RangeSet
from gglib_nb.engine.target import Phase, Target

_KEEP_S: Final = 0.5
_BEAT_S: Final = 1.0


class Books:
    """Keeps the books of some targets."""

    def __init__(
        self, targets: Sequence[Target], start_sync: Callable[[Target, RangeSet, Callable[[], None]], None]
    ) -> None:
        """Nothing is due yet.

        Args:
            targets: All of the transfer.
            start_sync: Runs the function in the background and calls `synced` with the ranges afterwards.
        """
        self._targets = targets
        self._start_sync = start_sync
        self._next_keep_s = self._next_beat_s = time.monotonic()

    def keep(self, now_s: float) -> Iterator[Target]:
        """Do what is due; yields the targets whose lease turns out to be lost.

        Raises:
            TransferError: A journal cannot be written.
        """
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + _BEAT_S
            yield from [target for target in self._targets if not self.renew(target)]
        if now_s >= self._next_keep_s:
            self._next_keep_s = now_s + _KEEP_S
            yield from [target for target in self._targets if not self._record(target, now_s)]

    @staticmethod
    def renew(target: Target) -> bool:
        """Give a sign of life; False when another process has the file."""
        preparation = target.preparation
        if preparation is None or not preparation.has_lease or target.phase in (Phase.PENDING, Phase.DONE):
            return True
        is_ours = preparation.lease.beat(target.done.total_bytes)
        # A lease that is lost while the file is being finished is found out there.
        return is_ours or target.phase is not Phase.FETCHING

    @staticmethod
    def synced(target: Target, ranges: RangeSet) -> None:
        """These bytes have reached the disk: write that down."""
        if target.partial is not None and target.preparation is not None and target.preparation.lease.is_ours():
            try:
                target.partial.record_synced(ranges)
            except OSError as error:
                raise storage_error(error, target.path) from error

    def _record(self, target: Target, now_s: float) -> bool:
        partial = target.partial
        if target.phase is not Phase.FETCHING or partial is None or target.preparation is None:
            return True
        if not target.preparation.lease.is_ours():
            return False
        try:
            partial.record()
            self._sync_when_due(target, partial, now_s)
        except OSError as error:
            raise storage_error(error, partial.path) from error
        return True

    def _sync_when_due(self, target: Target, partial: Partial, now_s: float) -> None:
        if target.sync_is_due(now_s):
            target.begin_sync(now_s)
            self._start_sync(target, partial.done.copy(), partial.syncer())
