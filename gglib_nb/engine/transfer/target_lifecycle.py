"""Takes the targets of an attempt from stage to stage, as the table of `transfer.stages` says.

The next target is opened before the present one has given out all its ranges, so that connections never idle between
shards. Part of the coordinator and on its thread only; what takes long (the check before the first byte, the last sync
and rename) runs in the background and comes back through the mailbox. Errors that end the attempt are raised.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.storage.disk_space import Reservation
from gglib_nb.engine.storage.donors import DonorFile, find_donors
from gglib_nb.engine.storage.filesystem import storage_error
from gglib_nb.engine.storage.finalizer import FinalizeOutcome, Finalizer, RenameGate
from gglib_nb.engine.storage.lease import Lease, LeaseLostError
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.engine.storage.paths import delete_partial, lease_path
from gglib_nb.engine.storage.target_check import CheckResult, StoppedError, TargetCheck
from gglib_nb.engine.transfer.adaptation import MOST_CONNECTIONS
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.range_selection import LARGEST_RANGE_BYTES
from gglib_nb.engine.transfer.resources import Resources
from gglib_nb.engine.transfer.reuse import Reuse
from gglib_nb.engine.transfer.scheduler import Scheduler
from gglib_nb.engine.transfer.stages import Cause, Stage
from gglib_nb.engine.transfer.target import Target
from gglib_nb.errors import GglibError

_MOST_OPEN_TARGETS: Final = MOST_CONNECTIONS
# While one is copied the line is free for the next; more at once only make a disk seek.
_MOST_COPIED_TARGETS: Final = 2


class TargetLifecycle:
    """The targets of one attempt on their way.

    Attributes:
        gate: Closed when no file may be renamed any more.
    """

    def __init__(
        self,
        command: StartTransfer,
        targets: Sequence[Target],
        resources: Resources,
        scheduler: Scheduler,
        mailbox: Mailbox,
        stop: threading.Event,
    ) -> None:
        """Nothing is opened yet.

        Args:
            command: What to fetch.
            targets: All of the attempt, in the order in which they are opened.
            resources: What all attempts share.
            scheduler: Which the ranges of a target are taken back from.
            mailbox: Of the coordinator.
            stop: Set when the attempt shall end; what runs in the background looks at it.
        """
        self.gate = RenameGate()
        self._command = command
        self._targets = targets
        self._resources = resources
        self._scheduler = scheduler
        self._mailbox = mailbox
        self._stop = stop
        self._finalizers: dict[Target, Finalizer] = {}
        self._reuses: dict[Target, Reuse] = {}

    @property
    def is_renaming(self) -> bool:
        """Whether a file has its final name and is about to be done."""
        return any(finalizer.is_renamed for finalizer in self._finalizers.values())

    @property
    def fetching(self) -> list[Target]:
        """Those whose bytes are fetched now, be it only some to compare."""
        return [target for target in self._targets if target.stage.is_fetching]

    def open_next(self) -> None:
        """Open targets until those that are open have enough ranges to give."""
        for target in self._targets:
            if target.stage is Stage.PENDING:
                if not self._wants_another_target():
                    return
                target.advance(Cause.OPENED)
                self._check(target)

    def open_partial(self, target: Target) -> None:
        """Open the partial file of a target that is fetched, once it is known how long it will be, or that nobody says.

        Raises:
            TransferError: The disk is full, or the folder cannot be written.
        """
        lease = target.lease
        if not target.stage.is_fetching or target.partial is not None or lease is None:
            return
        if not lease.is_ours():
            self.lease_lost(target)
            return
        self._reserve_space()
        try:
            target.partial = PartialFile(target.path, target.identities, target.size_bytes, lease, self._mailbox.wake)
        except OSError as error:
            raise storage_error(error, target.path) from error

    def compare(self, target: Target) -> None:
        """Go on finding out what of a target is here already."""
        self._reuses[target].advance()

    def finalize(self, target: Target) -> None:
        """Sync and rename a target whose every digest was right."""
        partial, lease = target.partial, target.lease
        assert partial is not None and lease is not None  # noqa: S101, PT018  # it has been fetched
        first = target.parts[0]
        is_verified = all(part.sha256 is not None for part in target.parts)
        stored = StoredFile(
            target=str(target.path),
            path_in_repo=first.planned.path_in_repo,
            kind=first.planned.kind,
            size_bytes=target.size_bytes or 0,
            sha256=partial.hasher.digest.whole,
            is_verified=is_verified,
            mtime_ns=0,
            was_present=False,
            facts={},
            verified_at_s=time.time() if is_verified else None,
            block_digests=partial.hasher.digest.block_digests,
            reused_bytes=partial.copied.ranges.total_bytes,
            reused_from=partial.copied.names if partial.copied.ranges.total_bytes else (),
        )
        target.advance(Cause.VERIFIED)
        finalizer = Finalizer(partial, lease, stored, self.gate, may_replace=self._replaces)
        self._finalizers[target] = finalizer
        self._mailbox.in_background("finalize", finalizer.outcome, lambda outcome: self._finalized(target, outcome))

    def lease_lost(self, target: Target) -> None:
        """Another process has the file, or somebody took it away: write nothing more, and begin as at the beginning."""
        self._scheduler.abandon_all(target.requests, time.monotonic())
        target.end_copy()
        if target.partial is not None and target.stage.is_fetching:
            target.partial.check_links()
            target.partial.close(is_ours=False)
        if target.check is not None:
            target.check.lease.release()
        target.partial = None
        target.proven_parts = 0
        target.wanted_first = []
        target.advance(Cause.LEASE_LOST)
        self._check(target)

    def close(self) -> None:
        """Write the journals, close the files, give the leases back. Harmless when done twice."""
        self.gate.close()
        for target in self._targets:
            with contextlib.suppress(OSError):  # the attempt ends whatever the disk says
                _close(target)
        self._resources.disk_space.release(self._command.attempt)

    def _wants_another_target(self) -> bool:
        checks = [one.check for one in self._targets if one.stage is Stage.CHECKING]
        if any(check is not None and check.owner_bytes is not None for check in checks):
            return False  # another process is at this download: follow it file by file
        fetching = self.fetching
        if sum(target.copy is not None for target in fetching) >= _MOST_COPIED_TARGETS:
            return False
        free = sum(target.bytes_to_fetch for target in fetching) - self._scheduler.under_way_bytes
        open_targets = sum(not target.has_all_bytes for target in fetching)
        has_enough = free >= self._scheduler.pool.share * LARGEST_RANGE_BYTES
        return not checks and open_targets < _MOST_OPEN_TARGETS and not has_enough

    def _check(self, target: Target) -> None:
        target.check = check = TargetCheck(
            tuple(part.planned for part in target.parts),
            force=self._command.force,
            replaces=self._command.replaces,
            link_folders=self._resources.link_folders,
            find_donors=lambda: self._donors(target),
            lease=Lease(
                lease_path(target.path),
                self._resources.timeouts.lease_s,
                target.take_seen_lease(),
                self._command.gone_owners,
            ),
            stop=self._stop,
        )
        self._mailbox.in_background("check", check.outcome, lambda outcome: self._checked(target, outcome))

    def _checked(self, target: Target, outcome: CheckResult | GglibError | StoppedError) -> None:
        if isinstance(outcome, GglibError):
            raise outcome
        if isinstance(outcome, StoppedError):
            return
        target.is_linked = outcome.is_linked
        if outcome.stored is not None:
            self._done(target, outcome.stored, Cause.FOUND)
            return
        target.advance(Cause.HAS_DONORS if outcome.donors else Cause.LEASED)
        if target.size_bytes is not None or target.parts[0].remote is not None:
            self.open_partial(target)
        if target.stage is Stage.COMPARING and target.partial is not None:
            limits = self._reuse_limits(target)
            self._reuses[target] = Reuse(target, target.partial, outcome.donors, limits, self._mailbox, self.lease_lost)

    @property
    def _replaces(self) -> bool:
        return self._command.force or self._command.replaces

    def _reuse_limits(self, target: Target) -> ReuseLimits:
        """Those of one file: what must be gained is meant for the whole download, so a file answers for its part of it."""
        limits, size_bytes = self._resources.reuse_limits, target.size_bytes or 0
        all_bytes = sum(one.size_bytes or 0 for one in self._targets) or 1
        return replace(limits, least_gain_bytes=limits.least_gain_bytes * size_bytes // all_bytes)

    def _donors(self, target: Target) -> tuple[DonorFile, ...]:
        """What tensors may be copied from; in the check's thread.

        Raw pieces of a file have one header among them and are left alone. Where nobody states a digest, nobody could say
        whether a guess was right.
        """
        least_bytes = self._reuse_limits(target).least_gain_bytes
        (first, *others) = target.parts
        if self._command.force or others or first.sha256 is None or (target.size_bytes or 0) < least_bytes:
            return ()
        if target.path.suffix.lower() != ".gguf":
            return ()
        return find_donors(target.path, self._command.repo_id, self._command.donors, least_bytes, self._stop)

    def _reserve_space(self) -> None:
        self._resources.disk_space.reserve(
            self._command.attempt,
            [
                Reservation(one.path, one.size_bytes, may_be_there=not self._replaces)
                for one in self._targets
                if one.stage is not Stage.DONE and one.size_bytes is not None
            ],
        )

    def _finalized(self, target: Target, outcome: FinalizeOutcome) -> None:
        del self._finalizers[target]
        if isinstance(outcome, LeaseLostError):
            self.lease_lost(target)
        elif isinstance(outcome, GglibError):
            raise outcome
        elif outcome is not None:
            self._done(target, outcome, Cause.RENAMED)

    @staticmethod
    def _done(target: Target, stored: StoredFile, cause: Cause) -> None:
        target.advance(cause)
        target.stored = stored
        if target.lease is not None:
            target.lease.release()


def _close(target: Target) -> None:
    lease = target.lease
    if lease is None:
        return
    is_ours = lease.is_ours()
    target.end_copy()
    if target.partial is not None and target.stage.is_fetching:
        target.partial.close(is_ours=is_ours)
        if is_ours and not target.partial.done.total_bytes:
            delete_partial(target.path)
        target.partial = None
    lease.release()
