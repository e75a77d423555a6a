"""Which bytes of a file are where: every byte has one state, and the only operation changes states.

`Pieces` is the map of one file. Its runs are sorted, cover the file without a gap and never overlap, so that no byte can be
lost or taken twice. Requests are cut at the borders of pieces of 8 MiB (`next_missing`); copied tensors and
samples are shorter than a piece, so the map itself is exact to the byte. `RangeSet` is a plain set of bytes.

Pure: offsets in, offsets out. Ranges are half open, `start <= byte < end`.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

MIB: Final = 1024 * 1024
PIECE_BYTES: Final = 8 * MIB
UNKNOWN_END: Final = 1 << 62
"""The end of a file of unknown size, beyond any real one."""

Range = tuple[int, int]
Run = tuple[int, int, int]
"""Start, end and state."""

# The states of a byte. The bits of those on the disk say whether it was copied from another file, and whether it was synced.
MISSING: Final = 0
TAKEN: Final = 8
WRITTEN: Final = 1
SYNCED: Final = 3
COPIED: Final = 5
COPIED_SYNCED: Final = 7
_PRESENT: Final = 1
_SYNCED_BIT: Final = 2
_COPIED_BIT: Final = 4

_RUN: Final = struct.Struct("<QQB")


class Pieces:
    """The states of all bytes of one file; for one thread.

    Args:
        size_bytes: None: unknown, until `close_at`.
        runs: The bytes that an earlier run left; all others are missing, and any beyond the end are ignored.
    """

    def __init__(self, size_bytes: int | None, runs: Iterable[Run] = ()) -> None:
        self.end = UNKNOWN_END if size_bytes is None else size_bytes
        self._starts = [0]
        self._states = [MISSING]
        self._bytes = [0] * (TAKEN + 1)
        self._bytes[MISSING] = self.end
        for start, end, state in runs:
            self.set(start, min(end, self.end), state)

    @property
    def present_bytes(self) -> int:
        """How many bytes are on the disk."""
        return self._bytes[WRITTEN] + self._bytes[SYNCED] + self.copied_bytes

    @property
    def copied_bytes(self) -> int:
        """How many of them were copied from other files on this machine."""
        return self._bytes[COPIED] + self._bytes[COPIED_SYNCED]

    @property
    def unsynced_bytes(self) -> int:
        """How many of them a power cut may lose."""
        return self._bytes[WRITTEN] + self._bytes[COPIED]

    @property
    def missing_bytes(self) -> int:
        """How many bytes are neither on the disk nor being fetched or copied."""
        return self._bytes[MISSING]

    @property
    def is_complete(self) -> bool:
        """Whether every byte is on the disk."""
        return self.present_bytes == self.end

    def set(self, start: int, end: int, state: int) -> None:
        """Set the state of every byte of the range."""
        if start >= end:
            return
        first, last = bisect_right(self._starts, start) - 1, bisect_left(self._starts, end) - 1
        for its_start, its_end, its_state in self.runs(start, end):
            self._bytes[its_state] -= its_end - its_start
        self._bytes[state] += end - start
        # Includes the neighbours, so that runs of one state are joined.
        low, high = max(0, first - (self._starts[first] == start)), last + 1
        tail = [(end, self._states[last])] if end < self._end_of(last) else []
        if not tail and high < len(self._starts):
            tail = [(self._starts[high], self._states[high])]
            high += 1
        merged: list[tuple[int, int]] = []
        head = [(self._starts[low], self._states[low])] if self._starts[low] < start else []
        for run in (*head, (start, state), *tail):
            if not merged or merged[-1][1] != run[1]:
                merged.append(run)
        self._starts[low:high] = [one[0] for one in merged]
        self._states[low:high] = [one[1] for one in merged]

    def claim(self, start: int, end: int) -> None:
        """Mark missing bytes as being fetched or copied; raises `AssertionError` if others are among them."""
        if any(state != MISSING for _, _, state in self.runs(start, end)):
            raise AssertionError(f"bytes of {start} to {end} are not missing")
        self.set(start, end, TAKEN)

    def runs(self, start: int = 0, end: int | None = None) -> Iterator[Run]:
        """The runs of the range, in order."""
        end = self.end if end is None else min(end, self.end)
        if start >= end:
            return
        for index in range(bisect_right(self._starts, start) - 1, len(self._starts)):
            if self._starts[index] >= end:
                return
            yield max(start, self._starts[index]), min(end, self._end_of(index)), self._states[index]

    def present(self, start: int = 0, end: int | None = None, *, is_fetched: bool = False) -> "RangeSet":
        """The bytes on the disk, as a separate set; with `is_fetched` without those that were copied."""
        unwanted = _COPIED_BIT if is_fetched else 0
        return RangeSet((a, b) for a, b, state in self.runs(start, end) if state & _PRESENT and not state & unwanted)

    def missing(self, start: int, end: int) -> list[Range]:
        """The parts of the range that are neither on the disk nor being fetched or copied."""
        return [(a, b) for a, b, state in self.runs(start, end) if state == MISSING]

    def present_within(self, start: int, end: int) -> int:
        """How many bytes of the range are on the disk."""
        if start <= 0 and end >= self.end:
            return self.present_bytes
        return sum(b - a for a, b, state in self.runs(start, end) if state & _PRESENT)

    def is_present(self, start: int, end: int) -> bool:
        """Whether every byte of the range is on the disk."""
        return self.reach(start) >= end

    def reach(self, start: int) -> int:
        """One past the last byte on the disk without a gap from `start`; `start` if that byte is missing."""
        for _, end, state in self.runs(start):
            if not state & _PRESENT:
                break
            start = end
        return start

    @property
    def last_end(self) -> int:
        """One past the last byte on the disk; 0 without any."""
        for index in range(len(self._starts) - 1, -1, -1):
            if self._states[index] & _PRESENT:
                return self._end_of(index)
        return 0

    def next_missing(self, start: int, end: int, length_bytes: int) -> Range | None:
        """The first missing bytes of the range, up to the border of a piece; None if there are none.

        The lowest offset comes first, so that the digest can follow. A rest shorter than half of `length_bytes` is
        included, because it would cost another request.
        """
        gap = next(((a, b) for a, b, state in self.runs(start, end) if state == MISSING), None)
        if gap is None or gap[1] - gap[0] <= length_bytes + length_bytes // 2:
            return gap
        border = (gap[0] + length_bytes) // PIECE_BYTES * PIECE_BYTES
        return gap[0], border if border > gap[0] else gap[0] + length_bytes

    def settle(self, start: int, position: int, *, is_copied: bool = False) -> None:
        """Record that the taken bytes before `position` have been written."""
        self._change(start, position, {TAKEN: COPIED if is_copied else WRITTEN})

    def release(self, start: int, end: int) -> None:
        """Make bytes of the range missing again if they are still taken."""
        self._change(start, end, {TAKEN: MISSING})

    def forget(self, start: int, end: int, *, only_copied: bool = False) -> None:
        """Make bytes on the disk missing again, because they are wrong."""
        copied = {COPIED: MISSING, COPIED_SYNCED: MISSING}
        self._change(start, end, copied if only_copied else {WRITTEN: MISSING, SYNCED: MISSING, **copied})

    def synced(self, ranges: "RangeSet") -> None:
        """Record that these bytes have been synced to the disk."""
        for start, end in ranges:
            self._change(start, end, {WRITTEN: SYNCED, COPIED: COPIED_SYNCED})

    def _change(self, start: int, end: int, new_states: Mapping[int, int]) -> None:
        for a, b, state in list(self.runs(start, end)):
            if state in new_states:
                self.set(a, b, new_states[state])

    def close_at(self, end: int) -> None:
        """Set the size, which was unknown."""
        self.release(end, self.end)
        self._bytes[MISSING] -= self.end - end
        while len(self._starts) > 1 and self._starts[-1] >= end:
            del self._starts[-1], self._states[-1]
        self.end = end

    def steps(self, start: int, end: int, count: int) -> tuple[int, ...]:
        """Which steps of a bar the range's bytes cover: runs in `count` equal steps, start and end by turns.

        Empty if they are in order from the start of the range. Bytes on the disk show as at least one step, and so does a gap
        before the end, so that only a complete range reaches the last step.
        """
        ranges = self.present(start, end)
        if ranges.reach(start) - start >= ranges.total_bytes:
            return ()
        steps: list[int] = []
        for its_start, its_end in ranges:
            first = (its_start - start) * count // (end - start)
            last = max(first + 1, (its_end - start) * count // (end - start))
            if steps and first <= steps[-1]:
                steps[-1] = max(steps[-1], last)
            else:
                steps += (first, last)
        return tuple(steps)

    def _end_of(self, index: int) -> int:
        return self._starts[index + 1] if index + 1 < len(self._starts) else self.end


def encode_runs(pieces: Pieces, most_bytes: int) -> bytes:
    """The bytes on the disk, for the journal; if that is too long, the shortest runs are left out and not trusted."""
    runs = [run for run in pieces.runs() if run[2] & _PRESENT]
    most = most_bytes // _RUN.size
    if len(runs) > most:
        runs = sorted(sorted(runs, key=lambda run: run[0] - run[1])[:most])
    return b"".join(_RUN.pack(*run) for run in runs)


def decode_runs(data: bytes, *, only_synced: bool) -> list[Run]:
    """The runs that `encode_runs` encoded; raises `ValueError` for other bytes.

    With `only_synced`, bytes that were not synced are left out: a power cut may have lost them.
    """
    runs = list(_RUN.iter_unpack(data)) if len(data) % _RUN.size == 0 else [(1, 0, 0)]
    at = 0
    for start, end, state in runs:
        if not at <= start < end or state not in (WRITTEN, SYNCED, COPIED, COPIED_SYNCED):
            raise ValueError("these are not runs of a file")
        at = end
    return [run for run in runs if run[2] & _SYNCED_BIT or not only_synced]


class RangeSet:
    """A set of bytes, kept as sorted ranges that neither touch nor overlap."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._starts, self._ends, strict=True))

    @property
    def total_bytes(self) -> int:
        """How many bytes are in it."""
        return sum(end - start for start, end in self)

    def add(self, start: int, end: int) -> None:
        """Add the bytes; bytes that are already in it stay."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove the bytes; bytes that are not in it are ignored."""
        kept = [*self.within(0, start), *self.within(end, UNKNOWN_END)]
        self._starts = [piece[0] for piece in kept]
        self._ends = [piece[1] for piece in kept]

    def reach(self, start: int) -> int:
        """One past the last byte in the set without a gap from `start`; `start` if that byte is not in it."""
        index = bisect_right(self._starts, start) - 1
        return self._ends[index] if index >= 0 and self._ends[index] > start else start

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The parts of the range that are in the set, in order."""
        if start >= end:
            return
        for index in range(bisect_right(self._ends, start), len(self._ends)):
            if self._starts[index] >= end:
                return
            yield max(start, self._starts[index]), min(end, self._ends[index])
