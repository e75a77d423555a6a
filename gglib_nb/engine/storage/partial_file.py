"""The partial file: where bytes go while they arrive, and what survives of it.

`<name>.part` beside the target, as long as the target will be, its journal (`storage.journal` reasons the
order of writes and syncs) and its lease. The coordinator owns it; connection threads call `write` alone, and what copies
from other files `copy`, and only while they are not revoked, so the file is closed after the last of them.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from gglib_nb.engine.storage.byte_ranges import MIB, Range, RangeSet
from gglib_nb.engine.storage.digest import FrontDigest
from gglib_nb.engine.storage.filesystem import syncer_of
from gglib_nb.engine.storage.hasher import Hasher
from gglib_nb.engine.storage.journal import Copied, Journal, JournalState, PartIdentity, Verified
from gglib_nb.engine.storage.lease import Lease, LeaseLostError
from gglib_nb.engine.storage.paths import (
    check_way,
    delete_partial,
    journal_path,
    lease_path,
    open_beside,
    part_path,
)
from gglib_nb.engine.storage.range_copy import RangeCopier
from gglib_nb.errors import StorageError
from gglib_nb.system import allocate, write_at

SYNC_BYTES: Final = 256 * MIB
SYNC_S: Final = 5.0
# The end of a file of unknown length, beyond anything that can come.
UNKNOWN_END: Final = 1 << 62


class PartialFile:
    """An open partial file.

    Attributes:
        path: Of the partial file.
        done: Bytes that are written, as far as the coordinator has taken note.
        synced: Bytes that have reached the disk itself.
        copied: Of `done`, what was copied from other files of this machine and not fetched.
        hasher: Hashes along.
    """

    def __init__(
        self,
        target: Path,
        parts: tuple[PartIdentity, ...],
        size_bytes: int | None,
        lease: Lease,
        on_part: Callable[[], None],
    ) -> None:
        """Open it, and continue what an earlier run left of the same file.

        Args:
            target: The final path.
            parts: What it will hold.
            size_bytes: Its final size; None where unknown: it then starts empty.
            lease: Ours.
            on_part: Called by another thread when a part's digest is there.

        Raises:
            OSError: The folder cannot be written or the disk is full.
            StorageError: A link stands where nothing may be written through one.
        """
        self.path = part_path(target)
        self._lease = lease
        self._size_bytes = size_bytes
        self._journal = Journal(journal_path(target), parts)
        state = self._believed(parts)
        self.done, self.synced, self.copied = state.done, state.synced, state.copied
        check_way(target)
        self._fd = open_beside(self.path, os.O_RDWR | os.O_CREAT)
        self._folder = _identity(target.parent)
        self._real_folder = os.path.realpath(target.parent)
        try:
            self._prepare()
        except (OSError, StorageError):
            os.close(self._fd)
            self._journal.close()
            raise
        ends = [(part.offset_bytes, part.offset_bytes + part.size_bytes) for part in parts]
        if size_bytes is None:
            ends = [(0, UNKNOWN_END)]
        self.hasher = Hasher(self._fd, FrontDigest(ends), on_part, self.done.last_end)
        self._recorded_bytes = self.done.total_bytes
        self._has_forgotten = False

    def write(self, offset: int, view: memoryview) -> None:
        """Put bytes where they belong; called by connection threads.

        Raises:
            LeaseLostError: Nobody has looked at the lease for too long.
            OSError: They cannot be written.
        """
        if not self._lease.is_fresh():
            raise LeaseLostError("the lease was not renewed in time")
        while view:
            count = write_at(self._fd, view, offset)
            offset += count
            view = view[count:]

    @property
    def is_in_place(self) -> bool:
        """Whether its path still leads to it: somebody may have deleted it or put another file there. Asks the filesystem."""
        try:
            return os.path.samestat(os.fstat(self._fd), self.path.stat())
        except OSError:
            return False

    def copy(self, copier: RangeCopier, source: int, source_offset: int, offset: int, length: int) -> int:
        """Copy at most so many bytes from another open file to where they belong; how many it was, 0 at its end.

        Raises:
            LeaseLostError: Nobody has looked at the lease for too long.
            OSError: They cannot be read or written.
        """
        if not self._lease.is_fresh():
            raise LeaseLostError("the lease was not renewed in time")
        return copier.copy(source, source_offset, self._fd, offset, length)

    @property
    def fetched(self) -> RangeSet:
        """Of `done`, what came from the Hub: the only bytes that others can be compared with."""
        fetched = self.done.copy()
        for start, end in self.copied.ranges:
            fetched.remove(start, end)
        return fetched

    def take_copied(self, ranges: Iterable[Range], names: tuple[str, ...]) -> None:
        """These bytes were copied from files that are called so."""
        for start, end in ranges:
            self.done.add(start, end)
            self.copied.ranges.add(start, end)
        if not set(names) <= set(self.copied.names):
            self.copied = Copied(self.copied.ranges, tuple(dict.fromkeys((*self.copied.names, *names))))

    def record(self) -> None:
        """Write down what is there, if that grew. The caller has just looked at the lease.

        Raises:
            OSError: The journal cannot be written.
        """
        if self.done.total_bytes != self._recorded_bytes:
            self._journal.record(self.done, self.synced, copied=self.copied)
            self._recorded_bytes = self.done.total_bytes

    def record_synced(self, synced: RangeSet) -> None:
        """Write down what has reached the disk itself."""
        if self._has_forgotten:
            return  # some of it was found wrong since that sync began
        self.synced = synced
        self._journal.record(self.done, self.synced, copied=self.copied)
        self._recorded_bytes = self.done.total_bytes

    def record_verified(self, verified: Verified) -> None:
        """Write down that the whole was found right."""
        self._journal.record(self.done, self.done, verified, self.copied)

    def forget(self, start: int, end: int) -> None:
        """These bytes were wrong; they count as missing from now on.

        Raises:
            OSError: The journal cannot be written.
        """
        for ranges in (self.done, self.synced, self.copied.ranges):
            ranges.remove(start, end)
        self._begin_anew()

    def forget_copied(self) -> None:
        """The digest was wrong with bytes that were copied: they count as missing, and none are copied any more.

        Raises:
            OSError: The journal cannot be written.
        """
        for start, end in self.copied.ranges:
            self.done.remove(start, end)
            self.synced.remove(start, end)
        self.copied = Copied(is_wrong=True)
        self._begin_anew()

    def check_folder(self) -> None:
        """Refuse where another folder, or a link to one, stands in the place of the one in which the file was opened.

        Raises:
            StorageError: So it is.
        """
        self.check_links()
        try:
            is_another = _identity(self.path.parent) != self._folder
        except FileNotFoundError:
            return  # gone, with the lease in it, which is looked at next
        if is_another:
            raise self._replaced()

    def check_links(self) -> None:
        """Refuse where a link has come into the way since the file was opened: what is fetched anew would end up elsewhere.

        Raises:
            StorageError: So it is.
        """
        check_way(self.path)
        if os.path.realpath(self.path.parent) != self._real_folder:
            raise self._replaced()

    def _replaced(self) -> StorageError:
        return StorageError(
            f"{self.path.parent} was replaced while a file was fetched into it; look at it, then retry."
        )

    def sync(self) -> None:
        """Bring everything that is written to the disk itself; only while the file is complete and open."""
        os.fsync(self._fd)

    def syncer(self) -> Callable[[], None]:
        """A function that brings what is written now to the disk; it may run in any thread, also after `close`."""
        self._has_forgotten = False
        sync_bytes, sync_lines = syncer_of(self._fd), self._journal.syncer()

        def sync() -> None:
            try:
                sync_bytes()
            finally:
                sync_lines()

        return sync

    def close_at(self, end: int) -> None:
        """The length was unknown and turned out to be this."""
        os.ftruncate(self._fd, end)
        self.hasher.close_at(end)

    def close(self, *, is_ours: bool) -> None:
        """Let go of the file; all jobs are revoked before.

        Args:
            is_ours: Write the journal once more and give back the space of what never came. False where
                another process may be at the file.
        """
        self.hasher.stop()
        with contextlib.suppress(OSError, StorageError):
            if is_ours:
                self.record()
                if self._size_bytes is not None and self.done.last_end < self._size_bytes:
                    os.ftruncate(self._fd, self.done.last_end)
        os.close(self._fd)
        self._journal.close()

    def _begin_anew(self) -> None:
        self._has_forgotten = True
        self._journal.begin(self.done, self.synced, self.copied)
        self._recorded_bytes = self.done.total_bytes

    def _believed(self, parts: tuple[PartIdentity, ...]) -> JournalState:
        nothing = JournalState(parts, RangeSet(), RangeSet(), None)
        state = Journal.read(self._journal.path)
        if state is None or state.parts != parts or self._size_bytes is None:
            return nothing
        try:
            is_whole = self.path.stat().st_size >= state.done.last_end
        except OSError:
            is_whole = False
        return state if is_whole else nothing

    def _prepare(self) -> None:
        if not self.done.total_bytes:
            os.ftruncate(self._fd, 0)
        self._journal.begin(self.done, self.synced, self.copied)
        if self._size_bytes is not None:
            allocate(self._fd, self._size_bytes)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def delete_unowned(target: Path, lease_s: float) -> None:
    """Delete what a partial download of the target left, unless a process is at it.

    Raises:
        OSError: It cannot be deleted.
    """
    if any(path.exists() for path in (part_path(target), journal_path(target), lease_path(target))):
        lease = Lease(lease_path(target), lease_s)
        if lease.try_acquire() is None:
            delete_partial(target)
            lease.release()
