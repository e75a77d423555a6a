"""Hashes a file that stands on the disk and says whether it is what it should be, and where not. Changes nothing.

Reads from the disk and not from what the system remembers of it, since a verification is about the disk; and leaves that
memory as it was, since it is needed for the model that somebody works with.
"""

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gglib_nb.domain.content_index import wrong_ranges
from gglib_nb.domain.library import CheckedFile, FileVerdict
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.engine.storage.byte_ranges import MIB
from gglib_nb.engine.storage.digest import FrontDigest
from gglib_nb.engine.storage.filesystem import new_buffer
from gglib_nb.system import drop_cached, read_into

_DROP_BYTES: Final = 64 * MIB


def check_file(file: FileToCheck, on_read: Callable[[int], None], stop: threading.Event) -> CheckedFile | None:
    """Hashes one file.

    Args:
        file: Where it stands and what it is said to be.
        on_read: Told how many bytes were read of it so far.
        stop: Ends it.

    Returns:
        None where it was stopped.
    """
    try:
        if not stat.S_ISREG(Path(file.path).stat().st_mode):  # to open a pipe would be to wait
            return CheckedFile(file.path, "unreadable", reason="it is no file")
        with Path(file.path).open("rb", buffering=0) as opened:
            return _check(file, opened.fileno(), on_read, stop)
    except FileNotFoundError:
        return CheckedFile(file.path, "missing")
    except OSError as error:
        return CheckedFile(file.path, "unreadable", reason=error.strerror or str(error))


def _check(file: FileToCheck, fd: int, on_read: Callable[[int], None], stop: threading.Event) -> CheckedFile | None:
    before = os.fstat(fd)
    digest = FrontDigest([(0, before.st_size)])
    if not _hash(fd, digest, on_read, stop):
        return None
    after = os.fstat(fd)
    is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    seen = CheckedFile(file.path, "changed", size_bytes=after.st_size, mtime_ns=after.st_mtime_ns)
    if not is_same or not digest.is_complete:
        return seen
    if file.sha256 in (None, digest.whole):
        verdict: FileVerdict = "unstated" if file.sha256 is None else "right"
        return replace(seen, verdict=verdict, sha256=digest.whole, block_digests=digest.block_digests)
    return replace(seen, verdict="wrong", sha256=digest.whole, wrong_ranges=_wrong(file, digest))


def _wrong(file: FileToCheck, digest: FrontDigest) -> tuple[tuple[int, int], ...]:
    if not file.block_digests:
        return ()
    return wrong_ranges(bytes.fromhex(file.block_digests), bytes.fromhex(digest.block_digests), file.size_bytes)


def _hash(fd: int, digest: FrontDigest, on_read: Callable[[int], None], stop: threading.Event) -> bool:
    """Feeds the digest; False where it was stopped."""
    buffer = new_buffer(MIB)
    drop_cached(fd, 0, 0)
    dropped = 0
    while not stop.is_set():
        count = read_into(fd, buffer, digest.front)
        if count == 0:
            drop_cached(fd, dropped, 0)
            return True
        digest.feed(buffer[:count])
        on_read(digest.front)
        if digest.is_complete:
            return True
        if digest.front - dropped >= _DROP_BYTES:
            drop_cached(fd, dropped, digest.front - dropped)
            dropped = digest.front
    return False
