"""Begins a partial file with what is right of a damaged one, so that only the rest has to be fetched.

The damaged file is read and never written to: somebody may have it open. What is taken from it counts as copied on a guess,
which the digest of the whole confirms or refutes; then it is what is fetched first.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gglib_nb.engine.storage.byte_ranges import Range, RangeSet
from gglib_nb.engine.storage.journal import Copied, Journal, PartIdentity
from gglib_nb.engine.storage.paths import journal_path, open_beside, part_path
from gglib_nb.engine.storage.range_copy import RangeCopier, next_step
from gglib_nb.system import allocate

_NAME: Final = "the damaged file"


def salvage(target: Path, parts: tuple[PartIdentity, ...], wrong: Sequence[Range], stop: threading.Event) -> None:
    """Copies what is right of the file at the target into its partial file. Whoever calls holds the lease.

    A partial file of the same content that is there already is left as it is. The journal is written last, so that a kill
    leaves nothing to believe.

    Args:
        target: The damaged file.
        parts: What the file shall be.
        wrong: The ranges of it that are not right.
        stop: Ends it; nothing is left to believe then.

    Raises:
        OSError: The disk is full, or a file cannot be read or written.
    """
    state = Journal.read(journal_path(target))
    if state is not None and state.parts == parts and part_path(target).is_file():
        return
    journal_path(target).unlink(missing_ok=True)
    size = parts[-1].offset_bytes + parts[-1].size_bytes
    with target.open("rb", buffering=0) as source:
        right = RangeSet([(0, min(size, os.fstat(source.fileno()).st_size))])
        for start, end in wrong:
            right.remove(start, end)
        fd = open_beside(part_path(target), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            allocate(fd, size)
            if _copy(source.fileno(), fd, right, stop):
                os.fsync(fd)
                journal = Journal(journal_path(target), parts)
                journal.begin(right, right, Copied(right.copy(), (_NAME,)))
                journal.close()
        finally:
            os.close(fd)


def _copy(source: int, target: int, ranges: RangeSet, stop: threading.Event) -> bool:
    """Whether all was copied."""
    copier = RangeCopier()
    for start, end in ranges:
        at = start
        while at < end:
            count = 0 if stop.is_set() else copier.copy(source, at, target, at, next_step(at, at, end - at))
            if count == 0:
                return False
            at += count
    return True
