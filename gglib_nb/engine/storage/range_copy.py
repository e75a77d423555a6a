"""Copies bytes from one open file into another, as cheaply as the filesystem allows.

Linux copies by itself (`copy_file_range`), and where the filesystem can it only shares the blocks (a reflink of Btrfs or
XFS): that needs both offsets on a block's border, so a run is cut such that all of it but its ends has that. Elsewhere the
bytes are read and written.
"""

from typing import Final

from gglib_nb.engine.storage.byte_ranges import MIB
from gglib_nb.system import copy_range, read_at, write_at

# Long enough to cost nothing, short enough that a stop is seen soon on a slow disk.
_STEP_BYTES: Final = 8 * MIB
# The largest block of a common filesystem; those with larger ones (ZFS) share nothing this way.
_BLOCK_BYTES: Final = 4096


def next_step(source_offset: int, target_offset: int, length: int) -> int:
    """How many bytes of a run to copy at once, so that as many as can be begin and end on a block's border in both files."""
    step = min(_STEP_BYTES, length)
    if (source_offset - target_offset) % _BLOCK_BYTES:
        return step
    if head := -target_offset % _BLOCK_BYTES:
        return min(head, length)
    return step // _BLOCK_BYTES * _BLOCK_BYTES or step


class RangeCopier:
    """Copies; remembers when the system's own copy does not work for these files."""

    def __init__(self) -> None:
        self._is_native = True

    def copy(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        """Copy at most so many bytes between two descriptors; how many it was, 0 at the end of the source.

        Raises:
            OSError: They cannot be read or written.
        """
        if self._is_native:
            copied = copy_range(source, source_offset, target, target_offset, length)
            self._is_native = copied is not None
            if copied:
                return copied
        data = memoryview(read_at(source, min(length, MIB), source_offset))
        done = 0
        while done < len(data):
            done += write_at(target, data[done:], target_offset + done)
        return done
