"""Buffers, syncs in the background, and what errors of the filesystem mean. Knows no downloads."""

import contextlib
import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gglib_nb.domain import units
from gglib_nb.errors import DiskFullError, StorageError, TransferError
from gglib_nb.system import free_bytes, sync_data

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def new_buffer(size_bytes: int) -> memoryview:
    """Memory to read into, which goes back to the system with the last reference to it.

    Not a `bytearray`: once glibc has freed one of a megabyte it takes the next ones from its threads' arenas and keeps them. After
    a minute of broken connections 103 MB stayed resident in an idle engine, against 49.
    """
    return memoryview(mmap.mmap(-1, size_bytes, access=mmap.ACCESS_COPY))


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


def syncer_of(fd: int) -> Callable[[], None]:
    """A function that syncs what the file holds now; it has a descriptor of its own and must be called once."""
    own = os.dup(fd)

    def sync() -> None:
        try:
            sync_data(own)
        finally:
            os.close(own)

    return sync
