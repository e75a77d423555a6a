"""The partial file: where arriving bytes are written, which of them survive, and how the file gets its final name.

Two processes never write the same file: bytes of other content, and bytes that an earlier process may still change, are
never continued but put into a new file. Opening and finishing may take long and run on a thread of their own; the
transfer calls the rest; connections and the copying of tensors only `write`, and never after they were revoked.
"""

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from gglib_nb.engine import disk
from gglib_nb.engine.digest import FrontDigest, Hasher, check_file
from gglib_nb.engine.journal import Journal, PartIdentity, Verified
from gglib_nb.engine.lease import Lease, LeaseLostError
from gglib_nb.engine.pieces import COPIED_SYNCED, MIB, SYNCED, Pieces, Range, Run
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.errors import StorageError
from gglib_nb.system import allocate, copy_range, others_may_write, read_at, sync_data, sync_folder

# Long enough to cost nothing, short enough that a stop is noticed soon on a slow disk.
_STEP_BYTES: Final = 8 * MIB


class StoppedError(Exception):
    """The transfer was stopped meanwhile."""


class PartialFile:
    """An open partial file. Opening continues an earlier run's file of the same content, unless its size is unknown.

    This process holds the lease. The inbox receives `Digested`.

    Raises:
        OSError: The folder cannot be written or the disk is full.
        StorageError: There is a link in a place where writing follows none.
        LeaseLostError: The lease was lost meanwhile, because opening may take long.
        StoppedError: `stop` was set meanwhile.
    """

    def __init__(
        self,
        target: Path,
        parts: tuple[PartIdentity, ...],
        size_bytes: int | None,
        lease: Lease,
        inbox: "queue.SimpleQueue[Any]",
        stop: threading.Event,
    ) -> None:
        self.path = disk.part_path(target)
        self.lease = lease
        self._stop = stop
        self._size_bytes = size_bytes
        self.journal = journal = Journal(disk.journal_path(target), parts)
        disk.check_way(target)
        self._check_owner()
        disk.rescue_renamed(target)
        state = Journal.read(journal.path, must_know=True)  # without it, all bytes would be fetched again
        runs: list[Run] = []
        if state is not None and state.record.parts == parts and size_bytes is not None:
            runs, journal.next = state.runs, replace(state.record, boot=journal.next.boot)
        self._fd, runs = self._open(runs)
        lease.has_other_writer = False
        self.pieces = Pieces(size_bytes, runs)  # for the transfer's thread
        self.left_end = self.pieces.last_end  # of the bytes that the hasher has to read from the disk
        ends = [self.pieces.end] if size_bytes is None else [part.offset_bytes + part.size_bytes for part in parts]
        try:
            self._folder = target.parent.stat()
            journal.begin(self.pieces, self._check_owner)
            if size_bytes is not None:
                allocate(self._fd, size_bytes)
            self._check_disk()
            self.hasher = Hasher(self._fd, FrontDigest(ends), inbox)
        except Exception:
            os.close(self._fd)
            journal.close()
            if not runs:  # without a journal, nothing would show later that the new file is ours
                with contextlib.suppress(OSError):
                    disk.delete_partial(target, lease.is_ours)
            raise
        self.hasher.allow(self.pieces.reach(0))

    def _check_disk(self) -> None:
        """Refuse, with a `StorageError`, a disk that shows another file at the path than the one just opened there."""
        if not self.is_in_place and os.path.lexists(self.path):
            self._check_owner()
            raise StorageError(
                f"The disk of {self.path.parent} does not report the size or the identity of a file as it is; choose "
                "another models folder, then retry."
            )

    def _open(self, runs: list[Run]) -> tuple[int, list[Run]]:
        """A descriptor, and the trusted bytes in that file."""
        for flags in (os.O_RDWR, os.O_RDONLY) if runs else ():  # the file of another user may only be read
            try:
                fd = disk.open_beside(self.path, flags)
            except FileNotFoundError:
                break
            except PermissionError:
                is_denied = others_may_write(self.path) or not self.path.stat().st_mode & stat.S_IRUSR
                if flags == os.O_RDONLY and not is_denied:
                    raise  # perhaps a virus scanner has it open: it can be read soon
                continue
            with contextlib.ExitStack() as unused:
                unused.callback(os.close, fd)
                found = os.fstat(fd)
                if found.st_size < runs[-1][1]:
                    break
                if self.lease.has_other_writer or found.st_nlink > 1 or flags == os.O_RDONLY:
                    return self._own_copy(fd, runs), runs
                unused.pop_all()
                return fd, runs
        self._check_owner()  # a disk may have taken long until here
        return disk.create_beside(self.path), []

    def _own_copy(self, shared: int, runs: list[Run]) -> int:
        """Copy the trusted bytes to a new file, for one that another process may write to; returns its descriptor."""
        own = self._own_path
        fd = disk.create_beside(own)
        try:
            for start, end, _ in runs:
                copy_bytes(shared, fd, start, end, self._stop)
            sync_data(fd)
            self._check_owner()
            own.replace(self.path)
        except Exception:
            os.close(fd)
            own.unlink(missing_ok=True)
            raise
        return fd

    def _check_owner(self) -> None:
        if not self.lease.is_ours():
            raise LeaseLostError("another process took the file over")

    @property
    def _own_path(self) -> Path:
        """A name that only this process knows."""
        return self.path.with_name(f"{self.path.name}.{self.lease.owner}")

    # While bytes come ------------------------------------------------------------------------------------------------

    def write(self, offset: int, view: memoryview) -> None:
        """Write bytes where they belong; raises `LeaseLostError` or `OSError`."""
        if not self.lease.is_fresh():
            raise LeaseLostError("the lease was not renewed in time")
        disk.write_all(self._fd, view, offset)

    @property
    def is_in_place(self) -> bool:
        """Whether its path still leads to it, and it has its size. A network disk may first write everything out."""
        return disk.is_at(self._fd, self.path, self._size_bytes)

    def check_in_place(self) -> None:
        """Raise `LeaseLostError` unless it is in place: no other program may change it."""
        if not self.is_in_place:
            raise LeaseLostError("another program moved or changed the file")

    def record(self) -> None:
        """Record which bytes are on the disk. The caller has just checked the lease. Raises `OSError`."""
        self.journal.record(self.pieces)

    def distrust(self) -> None:
        """Count only bytes of earlier syncs: after a failed one, the system may have dropped the others."""
        self.pieces = self.pieces.only(SYNCED, COPIED_SYNCED)
        with contextlib.suppress(OSError, StorageError):
            self.restart_journal()

    def restart_journal(self) -> None:
        """Create the journal again, so that no older record counts bytes that are missing now; raises `OSError`."""
        with contextlib.suppress(LeaseLostError):  # then it is another process's; the next renewal finds that too
            self.journal.begin(self.pieces, self._check_owner)

    def reader(self) -> int:
        """A new descriptor, for any thread, also after `close`; the caller closes it."""
        return os.dup(self._fd)

    def close(self, *, is_ours: bool) -> None:
        """Close the file, whose requests are revoked. If it is ours, write the journal and truncate it to its bytes."""
        self.hasher.stop()
        if is_ours:
            with contextlib.suppress(OSError, StorageError):
                self.record()
        try:
            try:
                if is_ours:
                    self._truncate()
            finally:
                os.close(self._fd)
        except OSError:  # a network disk may report only now that it could not store the bytes
            self.distrust()
        self.journal.close()

    def _truncate(self) -> None:
        try:
            os.ftruncate(self._fd, self.pieces.last_end)
        except OSError:  # a full copy-on-write disk needs space for that too, but a network disk may have lost bytes
            sync_data(self._fd)

    def check_folder(self) -> None:
        """Refuse, with a `StorageError`, a folder replaced since the file was opened, or reached by a new link."""
        disk.check_way(self.path)
        with contextlib.suppress(FileNotFoundError):  # deleted, with the lease in it, which is checked next
            if not os.path.samestat(self.path.parent.stat(), self._folder):
                raise StorageError(
                    f"{self.path.parent} was replaced during the download. Check the folder, then retry."
                )

    # At its end ------------------------------------------------------------------------------------------------------

    def head(self) -> bytes:
        """Its first four bytes."""
        return read_at(self._fd, 4, 0)

    def finish(self, target: Path, sha256: str, rename_lock: threading.Lock, *, may_replace: bool) -> int | None:
        """Give it its final name: sync, record, rename under the lock, sync the folder. As slow as the disk.

        Returns its modification time in nanoseconds; None if it was stopped before the rename. Raises `LeaseLostError`,
        `StorageError` if another file is at the target or the folder was replaced, or `OSError`.
        """
        try:
            sync_data(self._fd)
        except OSError:
            self.distrust()
            raise
        self.check_folder()
        self._check_owner()
        self.check_in_place()
        status = os.fstat(self._fd)
        verified = Verified(status.st_size, sha256, status.st_mtime_ns, may_replace)
        self.journal.record(self.pieces, verified)
        with rename_lock:
            if self._stop.is_set():
                return None
            self._rename(target, sha256, may_replace=may_replace)
        sync_folder(target.parent)
        return status.st_mtime_ns

    def _rename(self, target: Path, sha256: str, *, may_replace: bool) -> None:
        # The name `.part` may at any moment lead to another process's file. So the file is first renamed to a name
        # that only this process knows, compared with the open descriptor, and only then renamed to the target.
        own = self._own_path
        try:
            self.path.rename(own)
        except FileNotFoundError:
            raise LeaseLostError("the file was moved") from None
        with contextlib.ExitStack() as failure:
            failure.callback(_put_back, own, self.path)
            if not disk.is_at(self._fd, own, self._size_bytes):
                self._check_owner()  # else it may be open in another process, which still writes it
                # Mounts of an object store copy a file to rename it, so there its content decides.
                wanted = FileToCheck(str(own), 0, sha256, "")
                if (checked := check_file(wanted, lambda _: None, self._stop)) is None or checked.verdict != "right":
                    raise LeaseLostError("another process has the name of the file")
            if not may_replace and os.path.lexists(target) and not target.is_symlink():
                raise StorageError(f"Another file was created at {target}; move it, then retry.")
            try:
                own.replace(target)
            except FileNotFoundError:
                self._check_owner()  # else another process has restored the name of the file
                raise
            failure.pop_all()


def _put_back(own: Path, path: Path) -> None:
    """Restore the name of a file, without replacing another one."""
    with contextlib.suppress(OSError):  # a file has the name, or the filesystem has no hard links
        path.hardlink_to(own)
    with contextlib.suppress(OSError):
        own.unlink() if os.path.lexists(path) else own.rename(path)


def copy_bytes(source: int, target: int, at: int, end: int, stop: threading.Event) -> None:
    """Copy a range between open files, as cheaply as the filesystem can; raises `OSError` or `StoppedError`."""
    while at < end:
        if stop.is_set():
            raise StoppedError
        count = copy_range(source, at, target, at, min(_STEP_BYTES, end - at))
        if not count:
            data = read_at(source, min(MIB, end - at), at)
            disk.write_all(target, data, at)
            count = len(data)
        if count == 0:
            raise OSError("the file is shorter than it was")
        at += count


def sync(descriptors: Sequence[int], ranges: list[Range]) -> list[Range]:
    """Sync these files to the disk, in order, and close them; these are the bytes in them."""
    try:
        for fd in descriptors:
            sync_data(fd)
    finally:
        for fd in descriptors:
            os.close(fd)
    return ranges
