"""The copying of tensors from files of this machine into a partial file: a thread that obeys whoever may stop it.

Works like a connection that is very fast: bytes are written under its lock and only while it is not revoked, what is written
is taken over by the coordinator, how it ended is reported. It decides nothing; what it did not copy is fetched.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gglib_nb.domain.gguf_reuse import Copy
from gglib_nb.engine.storage.byte_ranges import Range, RangeSet
from gglib_nb.engine.storage.donors import DonorFile, used_names
from gglib_nb.engine.storage.lease import LeaseLostError
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.engine.storage.range_copy import RangeCopier, next_step
from gglib_nb.system import open_file

# Who waits for the hasher looks so often whether it has caught up.
_LOOK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """The copying is over.

    Attributes:
        copy: Which.
        is_lease_stale: Nobody has looked at the lease for too long; the rest can be copied if it is still ours.
    """

    copy: "TensorCopy"
    is_lease_stale: bool


class TensorCopy:
    """The copying into one partial file. The coordinator makes, revokes and asks it.

    Attributes:
        pending: What it has yet to copy, as far as the coordinator has taken note: nobody fetches that meanwhile.
        names: What the files are called that it copies from, the one that gives most first.
    """

    def __init__(
        self,
        partial: PartialFile,
        donors: Sequence[DonorFile],
        copies: Iterable[Copy],
        report: Callable[[CopyEnded], None],
    ) -> None:
        """Nothing is copied yet.

        Args:
            partial: Where to; what it holds already is left as it is.
            donors: Where from.
            copies: What, in the order of the file.
            report: Called once, by the thread, when it is over.
        """
        self._copies: Final = [
            copy.within(start, end)
            for copy in copies
            for start, end in partial.done.gaps(copy.target_offset, copy.target_end)
        ]
        self.pending: Final = RangeSet((copy.target_offset, copy.target_end) for copy in self._copies)
        counts = [sum(copy.length for copy in self._copies if copy.donor == one) for one in range(len(donors))]
        self.names: Final = used_names(donors, counts)
        self._partial: Final = partial
        self._donors: Final = donors
        self._report: Final = report
        self._lock: Final = threading.Lock()
        self._written: list[Range] = []
        self._revoked: Final = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="gglib-copy", daemon=True).start()

    def revoke(self) -> None:
        """Nothing is written any more once this has returned. Called by the coordinator."""
        with self._lock:
            self._revoked.set()

    def take_written(self) -> list[Range]:
        """What was copied since the last call. Called by the coordinator."""
        with self._lock:
            written, self._written = self._written, []
        for start, end in written:
            self.pending.remove(start, end)
        return written

    def remaining(self) -> list[Copy]:
        """What it has not copied. Called by the coordinator, after it has ended."""
        return [
            copy.within(start, end)
            for copy in self._copies
            for start, end in self.pending.within(copy.target_offset, copy.target_end)
        ]

    def _run(self) -> None:
        is_lease_stale = False
        try:
            self._copy_all()
        except LeaseLostError:
            is_lease_stale = True
        except OSError as error:  # what it could not write, a connection will try, and say what is wrong
            sys.stderr.write(f"tensors were not copied: {error}\n")
        self._report(CopyEnded(self, is_lease_stale))

    def _copy_all(self) -> None:
        """In the order of the file, so that the hasher can follow; a donor that cannot be read is left out."""
        opened: dict[int, _OpenDonor] = {}
        copier = RangeCopier()
        try:
            for copy in self._copies:
                if copy.donor not in opened:
                    opened[copy.donor] = _OpenDonor(self._donors[copy.donor])
                if not self._copy_run(copier, opened[copy.donor], copy):
                    return
        finally:
            for donor in opened.values():
                donor.close()

    def _copy_run(self, copier: RangeCopier, donor: "_OpenDonor", copy: Copy) -> bool:
        """Copy one run; False when revoked."""
        at, end = copy.target_offset, copy.target_end
        while at < end and donor.is_good():
            while self._partial.hasher.is_far_behind and not self._revoked.wait(_LOOK_S):
                pass
            source_at = copy.source_offset + at - copy.target_offset
            with self._lock:
                if self._revoked.is_set():
                    return False
                count = donor.copy(self._partial, copier, source_at, at, next_step(source_at, at, end - at))
                if count:
                    self._written.append((at, at + count))
            at += count
        return True


class _OpenDonor:
    """A donor that is being read; it is good until it is gone, changed or at its end."""

    def __init__(self, donor: DonorFile) -> None:
        self._donor = donor
        self._descriptor: int | None = None
        try:
            self._descriptor = open_file(Path(donor.path), os.O_RDONLY)
        except OSError as error:
            self._say(str(error))

    def is_good(self) -> bool:
        """Whether it can be copied from."""
        return self._descriptor is not None and self._is_unchanged()

    def copy(self, partial: PartialFile, copier: RangeCopier, source_at: int, at: int, length: int) -> int:
        """Copy once; 0 where it turns out to be no longer what it was, and then what was written counts for nothing.

        Raises:
            LeaseLostError: Nobody has looked at the lease for too long.
            OSError: The partial file cannot be written.
        """
        assert self._descriptor is not None  # noqa: S101  # the caller has asked whether it is good
        count = partial.copy(copier, self._descriptor, source_at, at, length)
        if count and self._is_unchanged():
            return count
        self._give_up("it is shorter than it was")
        return 0

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_unchanged(self) -> bool:
        assert self._descriptor is not None  # noqa: S101  # asked for before
        try:
            is_unchanged = self._donor.is_unchanged(self._descriptor)
        except OSError:
            is_unchanged = False
        if not is_unchanged:
            self._give_up("somebody has changed it")
        return is_unchanged

    def _give_up(self, reason: str) -> None:
        if self._descriptor is not None:
            self._say(reason)
        self.close()

    def _say(self, reason: str) -> None:
        sys.stderr.write(f"nothing more is copied from {self._donor.path}: {reason}\n")
