"""Sets of bytes of a file on the disk: which are there, which are missing.

Pure: offsets in, offsets out. Ranges are half open, `start <= byte < end`. Who fetches what is chosen in
`engine.transfer.range_selection`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

MIB: Final = 1024 * 1024

Range = tuple[int, int]


class RangeSet:
    """A set of bytes, kept as sorted ranges that neither touch nor overlap."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._starts, self._ends, strict=True))

    def copy(self) -> "RangeSet":
        """Another set with the same bytes."""
        other = RangeSet()
        other._starts, other._ends = self._starts.copy(), self._ends.copy()
        return other

    @property
    def total_bytes(self) -> int:
        """How many bytes are in it."""
        return sum(end - start for start, end in self)

    @property
    def last_end(self) -> int:
        """One past the last byte in it; 0 when empty."""
        return self._ends[-1] if self._ends else 0

    def add(self, start: int, end: int) -> None:
        """Put the bytes in; those that are in already stay."""
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
        """Take the bytes out; those that are not in do not matter."""
        if start >= end:
            return
        kept = [piece for old in self for piece in _without(old, start, end)]
        self._starts = [piece[0] for piece in kept]
        self._ends = [piece[1] for piece in kept]

    def bytes_within(self, start: int, end: int) -> int:
        """How many bytes of the range are in the set."""
        return sum(its_end - its_start for its_start, its_end in self.within(start, end))

    def reach(self, start: int) -> int:
        """One past the last byte that is in the set without a gap from `start` on; `start` where that one is missing."""
        index = bisect_right(self._starts, start) - 1
        return self._ends[index] if index >= 0 and self._ends[index] > start else start

    def steps_within(self, start: int, end: int, count: int) -> tuple[int, ...]:
        """Where the bytes of the range stand, coarsely: runs in `count` equal steps of it, start and end by turns.

        Empty where they stand in their order from its start on. What is there shows as one step at least, and a gap
        before the end too, so that only what is complete reaches the last step.
        """
        if self.reach(start) - start >= self.bytes_within(start, end):
            return ()
        steps: list[int] = []
        for its_start, its_end in self:
            if its_end <= start or its_start >= end:
                continue
            first = (max(its_start, start) - start) * count // (end - start)
            last = max(first + 1, (min(its_end, end) - start) * count // (end - start))
            if steps and first <= steps[-1]:
                steps[-1] = max(steps[-1], last)
            else:
                steps += (first, last)
        return tuple(steps)

    def gaps(self, start: int, end: int) -> Iterator[Range]:
        """The parts of the range that are not in the set, in order."""
        for its_start, its_end in self.within(start, end):
            if start < its_start:
                yield start, its_start
            start = its_end
        if start < end:
            yield start, end

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The parts of the range that are in the set, in order."""
        if start >= end:
            return
        for index in range(bisect_right(self._ends, start), len(self._ends)):
            if self._starts[index] >= end:
                return
            yield max(start, self._starts[index]), min(end, self._ends[index])


def _without(piece: Range, start: int, end: int) -> Iterator[Range]:
    its_start, its_end = piece
    if its_start < min(its_end, start):
        yield its_start, min(its_end, start)
    if max(its_start, end) < its_end:
        yield max(its_start, end), its_end
