"""The partial file: where bytes are written while they arrive, what survives of it, and how it gets its final name.

`<name>.part` beside the target, with its journal (`engine.journal` explains the order of writes and syncs) and its lease.
No file is ever written by two processes: bytes of other content, and bytes that a process before us may still change, are
never continued but put into a new file. Opening and finishing may take long and belong on a thread of their own; the
transfer calls the rest, connections only `write`, the copying of tensors only `copy`, and never after they were revoked.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from gglib_nb.engine.digest import FrontDigest, Hasher
from gglib_nb.engine.disk import (
    check_way,
    create_beside,
    is_at,
    journal_path,
    open_beside,
    part_path,
    rescue_renamed,
    syncer_of,
    write_all,
)
from gglib_nb.engine.journal import Journal, PartIdentity, Verified
from gglib_nb.engine.lease import Lease, LeaseLostError
from gglib_nb.engine.pieces import MIB, Pieces, Run
from gglib_nb.errors import StorageError
from gglib_nb.system import allocate, copy_range, read_at, sync_folder

# Long enough to cost nothing, short enough that a stop is seen soon on a slow disk.
_STEP_BYTES: Final = 8 * MIB
# The largest block of a common filesystem; those with larger ones (ZFS) share nothing this way.
_BLOCK_BYTES: Final = 4096


class RenameGate:
    """Lets renames through until it is closed: a stop and a rename meet here, and each knows which came first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_closed = False

    def close(self) -> None:
        """No rename begins any more; one that has begun is over when this returns."""
        with self.lock:
            self.is_closed = True


class PartialFile:
    """An open partial file. Opening it continues what an earlier run left of the same content.

    Args:
        target: The final path.
        parts: What it will contain.
        size_bytes: Its final size; None where unknown: it then starts empty.
        lease: Ours.
        inbox: Gets `news`, an event, when a part has its digest.

    Attributes:
        path: Of the partial file.
        pieces: Which of its bytes are on the disk; for the transfer's thread.
        journal: What states them.
        hasher: Hashes what is written.
        left_end: One past the last byte that an earlier run left; up to there, the digest has to read from the disk.
        is_renamed: It has its final name.

    Raises:
        OSError: The folder cannot be written or the disk is full.
        StorageError: There is a link where nothing may be written through one.
    """

    def __init__(
        self,
        target: Path,
        parts: tuple[PartIdentity, ...],
        size_bytes: int | None,
        lease: Lease,
        inbox: "queue.SimpleQueue[Any]",
        news: object,
    ) -> None:
        self.path = part_path(target)
        self.is_renamed = False
        self._lease = lease
        self._size_bytes = size_bytes
        self._recorded: tuple[int, ...] = ()
        self.journal = journal = Journal(journal_path(target), parts)
        check_way(target)
        rescue_renamed(target)
        state = Journal.read(journal.path)
        runs: list[Run] = []
        if state is not None and state.record.parts == parts and size_bytes is not None:
            runs, journal.donors, journal.is_copy_wrong = state.runs, state.record.donors, state.record.is_copy_wrong
        self._fd, runs = self._open(runs)
        lease.has_other_writer = False
        self.pieces = Pieces(size_bytes, runs)
        self._folder = target.parent.stat()
        try:
            self._begin_journal()
            if size_bytes is not None:
                allocate(self._fd, size_bytes)
        except (OSError, StorageError):
            os.close(self._fd)
            journal.close()
            raise
        ends = [(part.offset_bytes, part.offset_bytes + part.size_bytes) for part in parts]
        digest = FrontDigest([(0, self.pieces.end)] if size_bytes is None else ends)
        self.left_end: Final = self.pieces.last_end
        self.hasher = Hasher(self._fd, digest, inbox, news)
        self.hasher.allow(self.pieces.reach(0))

    def _open(self, runs: list[Run]) -> tuple[int, list[Run]]:
        """A descriptor, and the bytes in that file which may be believed."""
        if runs:
            try:
                fd = open_beside(self.path, os.O_RDWR)
            except FileNotFoundError:
                runs = []
            else:
                if os.fstat(fd).st_size >= runs[-1][1]:
                    return (self._own_copy(fd, runs), runs) if self._lease.has_other_writer else (fd, runs)
                os.close(fd)
        return create_beside(self.path), []

    def _own_copy(self, shared: int, runs: list[Run]) -> int:
        """The believed bytes in a file of our own, in the place of one that another process may still write to."""
        own = self.path.with_name(f"{self.path.name}.{self._lease.owner}")
        fd = create_beside(own)
        try:
            for start, end, _ in runs:
                copy_bytes(shared, start, fd, start, end - start)
            os.fsync(fd)
            own.replace(self.path)
        except OSError:
            os.close(fd)
            own.unlink(missing_ok=True)
            raise
        finally:
            os.close(shared)
        return fd

    # While bytes come ------------------------------------------------------------------------------------------------

    def write(self, offset: int, view: memoryview) -> None:
        """Write bytes where they belong; raises `LeaseLostError` or `OSError`."""
        self._check_lease()
        write_all(self._fd, view, offset)

    def _check_lease(self) -> None:
        if not self._lease.is_fresh():
            raise LeaseLostError("the lease was not renewed in time")

    def copy(self, source: int, source_offset: int, offset: int, length: int) -> int:
        """Copy at most so many bytes from another open file to where they belong; how many it was, 0 at its end."""
        self._check_lease()
        return copy_once(source, source_offset, self._fd, offset, length)

    @property
    def is_in_place(self) -> bool:
        """Whether its path still leads to it: another program may have deleted or replaced it. Asks the filesystem."""
        return is_at(self._fd, self.path)

    def came_from(self, names: Iterable[str]) -> None:
        """Bytes were copied from files of these names."""
        self.journal.donors = tuple(dict.fromkeys((*self.journal.donors, *names)))

    def record(self) -> None:
        """Record which bytes are on the disk, if that changed. The caller has just looked at the lease. Raises `OSError`."""
        if (state := self._state()) != self._recorded:
            self.journal.record(self.pieces)
            self._recorded = state

    def forget(self, start: int, end: int, *, only_copied: bool = False) -> None:
        """These bytes were wrong (or those of them that were copied) and are missing from now on; raises `OSError`."""
        self.pieces.forget(start, end, only_copied=only_copied)
        if only_copied:
            self.journal.donors, self.journal.is_copy_wrong = (), True
        self._begin_journal()

    def syncer(self) -> Callable[[], None]:
        """A function that brings what is written now to the disk; for any thread, also after `close`."""
        return syncer_of(self._fd, self.journal.fd)

    def close_at(self, end: int) -> None:
        """The size was unknown and turned out to be this."""
        self.pieces.close_at(end)
        os.ftruncate(self._fd, end)
        self.hasher.close_at(end)

    def close(self, *, is_ours: bool) -> None:
        """Close the file; all requests are revoked before. If it is ours, write the journal and shorten it to what came."""
        self.hasher.stop()
        with contextlib.suppress(OSError, StorageError):
            if is_ours:
                self.record()
                if self._size_bytes is not None and self.pieces.last_end < self._size_bytes:
                    os.ftruncate(self._fd, self.pieces.last_end)
        os.close(self._fd)
        self.journal.close()

    def check_folder(self) -> None:
        """Refuse where the folder is another one since the file was opened: what is fetched anew would end up elsewhere.

        Raises:
            StorageError: It is, or there is a link in the way to it.
        """
        check_way(self.path)
        with contextlib.suppress(FileNotFoundError):  # gone, with the lease in it, which is looked at next
            if not os.path.samestat(self.path.parent.stat(), self._folder):
                raise StorageError(
                    f"{self.path.parent} was replaced during the download. Check the folder, then retry."
                )

    def _begin_journal(self) -> None:
        self.journal.begin(self.pieces)
        self._recorded = self._state()

    def _state(self) -> tuple[int, ...]:
        return self.pieces.present_bytes, self.pieces.unsynced_bytes, self.pieces.copied_bytes

    # At its end ------------------------------------------------------------------------------------------------------

    def head(self) -> bytes:
        """Its first four bytes."""
        return read_at(self._fd, 4, 0)

    def reader(self) -> int:
        """A descriptor of its own, to be closed by the caller."""
        return os.dup(self._fd)

    def finish(self, target: Path, sha256: str, gate: RenameGate, *, may_replace: bool) -> int | None:
        """Give it its final name: sync, record, rename, sync the folder. Takes as long as the disk takes.

        Returns:
            Its modification time in nanoseconds; None where the gate was closed.

        Raises:
            LeaseLostError: Another process took it over, or it was deleted or replaced.
            StorageError: There is another file at the target, or the folder was replaced.
            OSError: The disk cannot do it.
        """
        syncer_of(self._fd)()
        self.check_folder()
        if not self._lease.is_ours() or not self.is_in_place:
            raise LeaseLostError("another process took the file over, or it was moved")
        status = os.fstat(self._fd)
        verified = Verified(status.st_size, sha256, status.st_mtime_ns)
        self.journal.record(self.pieces, verified)
        with gate.lock:
            if gate.is_closed:
                return None
            self._rename(target, may_replace=may_replace)
        sync_folder(target.parent)
        return status.st_mtime_ns

    def _rename(self, target: Path, *, may_replace: bool) -> None:
        # The name `.part` may come to lead to another process's file at any moment. So the file is first renamed to a name
        # that only we know, compared with our own descriptor, and only then renamed to the target.
        own = self.path.with_name(f"{self.path.name}.{self._lease.owner}")
        try:
            self.path.rename(own)
        except FileNotFoundError:
            raise LeaseLostError("the file was moved") from None
        try:
            self._check_name(own, target, may_replace=may_replace)
            own.replace(target)
            self.is_renamed = True
        except BaseException:
            _put_back(own, self.path)
            raise

    def _check_name(self, own: Path, target: Path, *, may_replace: bool) -> None:
        if not is_at(self._fd, own):
            raise LeaseLostError("another process has the name of the file")
        if not may_replace and os.path.lexists(target) and not target.is_symlink():
            raise StorageError(f"Another file was created at {target}; move it, then retry.")


def _put_back(own: Path, path: Path) -> None:
    """Give a file its name back, without taking that from another one."""
    with contextlib.suppress(OSError):
        try:
            path.hardlink_to(own)
            own.unlink()
        except FileExistsError:
            own.unlink()
        except OSError:  # a filesystem without hard links
            if not os.path.lexists(path):
                own.rename(path)


def copy_step(source_offset: int, target_offset: int, length: int) -> int:
    """How many bytes of a run to copy at once: up to a block's border, because filesystems share only whole blocks."""
    step = min(_STEP_BYTES, length)
    if (source_offset - target_offset) % _BLOCK_BYTES:
        return step
    if head := -target_offset % _BLOCK_BYTES:
        return min(head, length)
    return step // _BLOCK_BYTES * _BLOCK_BYTES or step


def copy_bytes(source: int, source_offset: int, target: int, target_offset: int, length: int) -> None:
    """Copy a run of bytes between two open files; raises `OSError`."""
    while length > 0:
        count = copy_once(source, source_offset, target, target_offset, copy_step(source_offset, target_offset, length))
        if count == 0:
            raise OSError("the file is shorter than it was")
        source_offset, target_offset, length = source_offset + count, target_offset + count, length - count


def copy_once(source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
    """Copy at most so many bytes, as cheaply as the filesystem allows; how many it was, 0 at the end of the source."""
    copied = copy_range(source, source_offset, target, target_offset, length)
    if copied:
        return copied
    data = read_at(source, min(length, MIB), source_offset)
    write_all(target, data, target_offset)
    return len(data)
