"""What is on the disk of a file, for those who only want to know: the kernel's side asks this before a download."""

from pathlib import Path

from gglib_nb.engine.journal import Journal
from gglib_nb.engine.place import journal_path, part_path


def present_bytes(target: Path, size_bytes: int) -> int:
    """How much of a file of that size is there: all of it, what its journal vouches for, or nothing.

    It goes by sizes and the journal and reads no content; only a download verifies.
    """
    try:
        if target.stat().st_size == size_bytes:
            return size_bytes
    except OSError:
        pass
    try:
        state = Journal.read(journal_path(target)) if part_path(target).exists() else None
    except (OSError, ValueError, KeyError):
        return 0
    return 0 if state is None else min(size_bytes, state.done.total_bytes)
