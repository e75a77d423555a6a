"""The partial file: where arriving bytes are written, which of them survive, and how the file gets its final name.

`<name>.part` beside the target, with its journal (`engine.journal` explains the order of writes and syncs) and its lease.
Two processes never write the same file: bytes of other content, and bytes that an earlier process may still change, are
never continued but put into a new file. Opening and finishing may take long and run on a thread of their own; the
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

# Long enough to cost nothing, short enough that a stop is noticed soon on a slow disk.
_STEP_BYTES: Final = 8 * MIB
# The largest block of a common filesystem; those with larger blocks (ZFS) share none this way.
_BLOCK_BYTES: Final = 4096


class RenameGate:
    """Allows renames until it is closed: a stop and a rename are ordered here, and each knows which came first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_closed = False

    def close(self) -> None:
        """Forbid renames; one that has begun is over when this returns."""
        with self.lock:
            self.is_closed = True


class PartialFile:
    """An open partial file. Opening it continues what an earlier run left of the same content.

    Args:
        target: The final path.
        parts: The remote files it will contain.
        size_bytes: Its final size; None if unknown: it then starts empty.
        lease: The lease, held by this process.
        inbox: Gets `news`, an event, when a part has its digest.

    Attributes:
        path: Of the partial file.
        pieces: Which of its bytes are on the disk; for the transfer's thread.
        journal: Its journal.
        hasher: Hashes its bytes.
        left_end: One past the last byte that an earlier run left; up to there, the hasher has to read from the disk.
        is_renamed: Whether it has its final name.

    Raises:
        OSError: The folder cannot be written or the disk is full.
        StorageError: There is a link in a place where writing follows none.
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
        """A descriptor, and the trusted bytes in that file."""
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
        """Copy the trusted bytes to a new file, which replaces one that another process may still write to; its descriptor."""
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
        """Copy at most `length` bytes from another open file to `offset`; returns how many, 0 at its end."""
        self._check_lease()
        return copy_once(source, source_offset, self._fd, offset, length)

    @property
    def is_in_place(self) -> bool:
        """Whether its path still leads to it: another program may have deleted or replaced it. Asks the filesystem."""
        return is_at(self._fd, self.path)

    def came_from(self, names: Iterable[str]) -> None:
        """Record the names of files that bytes were copied from."""
        self.journal.donors = tuple(dict.fromkeys((*self.journal.donors, *names)))

    def record(self) -> None:
        """Record which bytes are on the disk, if that changed. The caller has just checked the lease. Raises `OSError`."""
        if (state := self._state()) != self._recorded:
            self.journal.record(self.pieces)
            self._recorded = state

    def forget(self, start: int, end: int, *, only_copied: bool = False) -> None:
        """Make wrong bytes missing (or only the copied ones of them); raises `OSError`."""
        self.pieces.forget(start, end, only_copied=only_copied)
        if only_copied:
            self.journal.donors, self.journal.is_copy_wrong = (), True
        self._begin_journal()

    def syncer(self) -> Callable[[], None]:
        """A function that syncs the present content to the disk; for any thread, also after `close`."""
        return syncer_of(self._fd, self.journal.fd)

    def close_at(self, end: int) -> None:
        """Set the size, which was unknown."""
        self.pieces.close_at(end)
        os.ftruncate(self._fd, end)
        self.hasher.close_at(end)

    def close(self, *, is_ours: bool) -> None:
        """Close the file; all requests are revoked before. If it is ours, write the journal and truncate it to the received bytes."""
        self.hasher.stop()
        with contextlib.suppress(OSError, StorageError):
            if is_ours:
                self.record()
                if self._size_bytes is not None and self.pieces.last_end < self._size_bytes:
                    os.ftruncate(self._fd, self.pieces.last_end)
        os.close(self._fd)
        self.journal.close()

    def check_folder(self) -> None:
        """Refuse a folder that was replaced since the file was opened: a new file would be written elsewhere.

        Raises:
            StorageError: It was replaced, or there is a link on the path to it.
        """
        check_way(self.path)
        with contextlib.suppress(FileNotFoundError):  # deleted, with the lease in it, which is checked next
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
        """A new descriptor for reading, to be closed by the caller."""
        return os.dup(self._fd)

    def finish(self, target: Path, sha256: str, gate: RenameGate, *, may_replace: bool) -> int | None:
        """Give it its final name: sync, record, rename, sync the folder. Takes as long as the disk takes.

        Returns:
            Its modification time in nanoseconds; None if the gate was closed.

        Raises:
            LeaseLostError: Another process took it over, or it was deleted or replaced.
            StorageError: Another file is at the target, or the folder was replaced.
            OSError: The disk refuses.
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
        # The name `.part` may at any moment lead to another process's file. So the file is first renamed to a name
        # that only this process knows, compared with the open descriptor, and only then renamed to the target.
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
    """Restore the name of a file, without replacing another one."""
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
    """Copy at most `length` bytes, as cheaply as the filesystem allows; returns how many, 0 at the end of the source."""
    copied = copy_range(source, source_offset, target, target_offset, length)
    if copied:
        return copied
    data = read_at(source, min(length, MIB), source_offset)
    write_all(target, data, target_offset)
    return len(data)
