"""Copies bytes from one open file into another, as cheaply as the filesystem allows.

Linux copies by itself (`copy_file_range`), and where the filesystem can it only shares the blocks (a reflink of Btrfs or
XFS): that needs both offsets on a block's border, so a run is cut such that all of it but its ends has that. Elsewhere the
bytes are read and written.
"""

import errno
import os
from typing import Final

from gglib_nb.engine.storage.byte_ranges import MIB

# Long enough to cost nothing, short enough that a stop is seen soon on a slow disk.
_STEP_BYTES: Final = 8 * MIB
# The largest block of a common filesystem; those with larger ones (ZFS) share nothing this way.
_BLOCK_BYTES: Final = 4096
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def next_step(source_offset: int, target_offset: int, length: int) -> int:
    """How many bytes of a run to copy at once, so that as many as can be begin and end on a block's border in both files."""
    step = min(_STEP_BYTES, length)
    if (source_offset - target_offset) % _BLOCK_BYTES:
        return step
    if head := -target_offset % _BLOCK_BYTES:
        return min(head, length)
    return step // _BLOCK_BYTES * _BLOCK_BYTES or step


class RangeCopier:
    """Copies; remembers what this machine cannot do."""

    def __init__(self) -> None:
        self._copy_file_range: Final = getattr(os, "copy_file_range", None)
        self._is_native = self._copy_file_range is not None

    def copy(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        """Copy at most so many bytes between two descriptors; how many it was, 0 at the end of the source.

        Raises:
            OSError: They cannot be read or written.
        """
        if self._is_native and self._copy_file_range is not None:
            try:
                copied: int = self._copy_file_range(source, target, length, source_offset, target_offset)
            except OSError as error:
                if error.errno in _FULL:
                    raise
                self._is_native = False  # another filesystem, or one that cannot
            else:
                if copied:
                    return copied
        data = memoryview(os.pread(source, min(length, MIB), source_offset))
        done = 0
        while done < len(data):
            done += os.pwrite(target, data[done:], target_offset + done)
        return done
