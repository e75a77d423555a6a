"""Checkpoints: leases renewed, journals written, bytes brought to the disk itself from time to time.

Part of the coordinator and on its thread only; a sync runs in the background. Before every line of a journal the
lease is looked at, and whether the partial file is still there; a target that has lost one of them is named and not written to.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from gglib_nb.engine.storage.byte_ranges import RangeSet
from gglib_nb.engine.storage.filesystem import storage_error
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.stages import Stage
from gglib_nb.engine.transfer.target import Target

_RECORD_S: Final = 0.5
_RENEW_S: Final = 1.0


class Checkpoints:
    """The checkpoints of the targets of one attempt."""

    def __init__(self, targets: Sequence[Target], mailbox: Mailbox) -> None:
        """All are due at once.

        Args:
            targets: All of the attempt.
            mailbox: Of the coordinator.
        """
        self._targets = targets
        self._mailbox = mailbox
        self._next_record_s = self._next_renew_s = time.monotonic()

    def write_due(self, now_s: float) -> Iterator[Target]:
        """Do what is due; yields the targets whose lease or partial file turns out to be lost.

        Raises:
            TransferError: A journal cannot be written.
        """
        if now_s >= self._next_renew_s:
            self._next_renew_s = now_s + _RENEW_S
            yield from [target for target in self._targets if not renew_lease(target)]
        if now_s >= self._next_record_s:
            self._next_record_s = now_s + _RECORD_S
            yield from [target for target in self._targets if not self._record(target, now_s)]

    def _record(self, target: Target, now_s: float) -> bool:
        partial, lease = target.partial, target.lease
        if not target.stage.is_fetching or partial is None or lease is None:
            return True
        if not lease.is_ours() or not partial.is_in_place:
            return False
        try:
            partial.record()
            if target.sync_is_due(now_s):
                target.begin_sync(now_s)
                self._sync(target, partial)
        except OSError as error:
            raise storage_error(error, partial.path) from error
        return True

    def _sync(self, target: Target, partial: PartialFile) -> None:
        ranges, sync = partial.done.copy(), partial.syncer()

        def work() -> None:
            try:
                sync()
            except OSError as error:
                raise storage_error(error, target.path) from error

        self._mailbox.in_background("sync", work, lambda _: _synced(target, partial, ranges))


def renew_lease(target: Target) -> bool:
    """Write the heartbeat of the target's lease, if it has one; False when another process has the file.

    A lease that is lost while the file is being finalized is found out there.
    """
    if target.lease is None or target.stage in (Stage.PENDING, Stage.DONE):
        return True
    return target.lease.renew(target.done.total_bytes) or not target.stage.is_fetching


def _synced(target: Target, partial: PartialFile, ranges: RangeSet) -> None:
    """These bytes have reached the disk: write that down, if the file is still the one that was synced."""
    target.is_syncing = False
    is_same = target.stage.is_fetching and target.partial is partial
    if is_same and target.lease is not None and target.lease.is_ours():
        try:
            partial.record_synced(ranges)
        except OSError as error:
            raise storage_error(error, target.path) from error
