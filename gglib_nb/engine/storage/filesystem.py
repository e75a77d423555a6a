"""Calls to the filesystem, and what its errors mean: free space, allocation, syncs.

Order at the end of a file: its bytes are synced before it is renamed, the folder is synced after, so a
power cut leaves either the partial or the whole. Nothing here knows downloads.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from gglib_nb.domain import units
from gglib_nb.errors import DiskFullError, StorageError, TransferError

# What filesystems say that have no cheap allocation, or none of this form.
_NO_ALLOCATION: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def new_buffer(size_bytes: int) -> memoryview:
    """Memory to read into, which goes back to the system with the last reference to it.

    Not a `bytearray`: once glibc has freed one of a megabyte it takes the next ones from its threads' arenas and keeps them. After
    a minute of broken connections 103 MB stayed resident in an idle engine, against 49.
    """
    return memoryview(mmap.mmap(-1, size_bytes, access=mmap.ACCESS_COPY))


def free_bytes(folder: Path) -> int:
    """What a user may still write on the filesystem of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def storage_error(error: OSError, path: Path) -> TransferError:
    """What a failed write means: a full disk, or something a person has to look at."""
    if error.errno in _FULL:
        with contextlib.suppress(OSError):
            return disk_full(path.parent, None, free_bytes(path.parent))
        return disk_full(path.parent, None, None)
    if error.errno == errno.EFBIG:
        return StorageError(
            f"The disk of {path.parent} takes no file of that size (FAT ends at 4 GB); move the models folder, then retry."
        )
    at = error.filename or path
    return StorageError(f"{at} cannot be written: {error.strerror or error}. Look at the folder, then retry.")


def disk_full(folder: Path, needed_bytes: int | None, left_bytes: int | None) -> DiskFullError:
    """The error that says what is missing."""
    needed = "" if needed_bytes is None else f" {units.size(needed_bytes)} more are needed"
    left = "" if left_bytes is None else f", {units.size(left_bytes)} are free"
    detail = f":{needed}{left}" if needed else left.replace(", ", ": ", 1)
    return DiskFullError(
        f"The disk of {folder} is full{detail}. Make room, then retry; what is there is kept.",
        needed_bytes=needed_bytes,
        free_bytes=left_bytes,
    )


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """Linux's own call: `posix_fallocate` of glibc writes every block where the filesystem has no allocation."""
    function: Any = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    typed: Callable[[int, int, int, int], int] | None = function
    return typed


def allocate(fd: int, size_bytes: int) -> None:
    """Reserve the space of a file where that is cheap, and give it its size in any case.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    if os.fstat(fd).st_size == size_bytes:
        return
    function = _fallocate()
    if function is not None and size_bytes > 0 and function(fd, 0, 0, size_bytes) != 0:
        code = ctypes.get_errno()
        if code not in _NO_ALLOCATION:
            raise OSError(code, os.strerror(code))
    os.ftruncate(fd, size_bytes)


def allocated_bytes(path: Path) -> int:
    """What a file takes on its filesystem; 0 without one."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def sync_data(fd: int) -> None:
    """Bring a file's bytes to the disk; where the system has no call for the data alone (macOS), all of it."""
    getattr(os, "fdatasync", os.fsync)(fd)


def syncer_of(fd: int) -> Callable[[], None]:
    """A function that syncs what the file holds now; it has a descriptor of its own and must be called once."""
    own = os.dup(fd)

    def sync() -> None:
        try:
            sync_data(own)
        finally:
            os.close(own)

    return sync


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk; filesystems that cannot are left in peace."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
