"""Which bytes of a file are there, which are missing, and who fetches them next.

Pure: offsets in, offsets out. It knows no sockets, files, threads or clock. Ranges are half open,
`start <= byte < end`, in bytes of the file on the disk.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024

# Ranges of 16 to 64 MiB cost the fewest bytes of overhead and lose little with a dropped connection.
SMALLEST_RANGE_BYTES: Final = 16 * MIB
LARGEST_RANGE_BYTES: Final = 64 * MIB
# Towards the end they get shorter, so that little arrives out of order, which the digest would have to wait for.
SHORTEST_RANGE_BYTES: Final = 8 * MIB
# About so long a connection stays with one range: a lost one then costs little, a round trip per range little too.
RANGE_S: Final = 2.0
# A connection is idle until its answer begins: a range is not so short that this is more than a tenth of its time.
_ANSWERS_PER_RANGE: Final = 10

# A tail shorter than this is not worth another connection's round trips. Nor is one that saves less time: whoever loses
# its tail is closed with the bytes on their way, up to several round trips' worth.
SMALLEST_SPLIT_BYTES: Final = MIB
SMALLEST_SAVING_S: Final = 0.6

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
        return RangeSet(self)

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
        return sum(max(0, min(end, its_end) - max(start, its_start)) for its_start, its_end in self)

    def reach(self, start: int) -> int:
        """One past the last byte that is in the set without a gap from `start` on; `start` where that one is missing."""
        index = bisect_right(self._starts, start) - 1
        return self._ends[index] if index >= 0 and self._ends[index] > start else start

    def gaps(self, start: int, end: int) -> Iterator[Range]:
        """The parts of the range that are not in the set, in order."""
        for its_start, its_end in self:
            if its_start >= end:
                break
            if start < its_start:
                yield start, its_start
            start = max(start, its_end)
        if start < end:
            yield start, end


def _without(piece: Range, start: int, end: int) -> Iterator[Range]:
    its_start, its_end = piece
    if its_start < min(its_end, start):
        yield its_start, min(its_end, start)
    if max(its_start, end) < its_end:
        yield max(its_start, end), its_end


def range_bytes(
    bytes_per_second: float | None, free_bytes: int, connections: int, answer_s: float | None = None
) -> int:
    """How long the next range of a connection should be.

    Args:
        bytes_per_second: Of a connection lately; None where none has moved anything yet.
        free_bytes: What nobody fetches yet.
        connections: How many there are.
        answer_s: How long a request waits for the head of its answer; None where none has come yet.
    """
    rate = bytes_per_second or 0.0
    usual = max(SMALLEST_RANGE_BYTES, min(LARGEST_RANGE_BYTES, int(rate * RANGE_S)))
    shortest = max(SHORTEST_RANGE_BYTES, int(rate * (answer_s or 0.0) * _ANSWERS_PER_RANGE))
    fair = max(shortest, free_bytes // (2 * max(1, connections)))
    return min(usual, fair) // MIB * MIB


def next_range(done: RangeSet, taken: Iterable[Range], start: int, end: int, length_bytes: int) -> Range | None:
    """The first bytes of `start..end` that nobody has and nobody fetches, at most `length_bytes`; None without any.

    The lowest offset comes first, so that the digest can follow. A rest shorter than half a range is taken along,
    since it would cost a request of its own.
    """
    busy = done.copy()
    for its_start, its_end in taken:
        busy.add(its_start, its_end)
    gap = next(busy.gaps(start, end), None)
    if gap is None:
        return None
    gap_start, gap_end = gap
    is_short_rest = gap_end - gap_start <= length_bytes + length_bytes // 2
    return gap_start, gap_end if is_short_rest else gap_start + length_bytes


@dataclass(frozen=True, slots=True)
class Runner:
    """A range that is being fetched.

    Attributes:
        position: Next byte to be written.
        end: One past its last.
        bytes_per_second: Lately; 0 where nothing comes any more, None where that cannot be said yet.
    """

    position: int
    end: int
    bytes_per_second: float | None

    @property
    def remaining_bytes(self) -> int:
        """What is still to come."""
        return self.end - self.position

    @property
    def remaining_s(self) -> float:
        """How long that will take; infinite where nothing comes any more, 0 where that cannot be said yet."""
        if self.bytes_per_second is None:
            return 0.0
        return self.remaining_bytes / self.bytes_per_second if self.bytes_per_second > 0 else float("inf")


def choose_split(runners: Sequence[Runner], bytes_per_second: float | None) -> tuple[int, int] | None:
    """Which running range an idle connection should take the tail of, and from where.

    Args:
        runners: The ranges under way.
        bytes_per_second: What the idle connection can be expected to give; None where unknown: as fast as the other.

    Returns:
        Index of the range and the offset of the cut, so placed that both would end together; None where
        no tail is worth it.
    """
    worth = [
        index
        for index, runner in enumerate(runners)
        if runner.remaining_bytes >= 2 * SMALLEST_SPLIT_BYTES
        and runner.remaining_s * _tail_share(runner, bytes_per_second) > SMALLEST_SAVING_S
    ]
    if not worth:
        return None
    index = max(worth, key=lambda one: (runners[one].remaining_s, runners[one].remaining_bytes))
    runner = runners[index]
    given = int(runner.remaining_bytes * _tail_share(runner, bytes_per_second))
    given = max(SMALLEST_SPLIT_BYTES, min(runner.remaining_bytes - SMALLEST_SPLIT_BYTES, given))
    return index, runner.end - given


def _tail_share(runner: Runner, bytes_per_second: float | None) -> float:
    """How much of what is left another connection should take; it is also the part of the time that this saves."""
    its = runner.bytes_per_second or 0.0
    own = its if bytes_per_second is None else bytes_per_second
    return own / (own + its) if own + its > 0 else 0.5
