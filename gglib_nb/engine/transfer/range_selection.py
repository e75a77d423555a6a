"""Which bytes are fetched next, in ranges of what length, and when a running range is split for an idle connection.

Pure: it knows no sockets, files, threads or clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gglib_nb.engine.storage.byte_ranges import MIB, Range, RangeSet

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
class RunningRange:
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


def choose_split(
    running: Sequence[RunningRange], bytes_per_second: float | None, answer_s: float | None = None
) -> tuple[int, int] | None:
    """Which running range an idle connection should take the tail of, and from where.

    Args:
        running: The ranges under way.
        bytes_per_second: What the idle connection can be expected to give; None where unknown: as fast as the other.
        answer_s: How long it waits for the head of its answer, while the other goes on alone; None where unknown.

    Returns:
        Index of the range and the offset of the cut, so placed that both would end together; None where
        no tail is worth it.
    """
    wait_s = answer_s or 0.0
    worth = [
        index
        for index, candidate in enumerate(running)
        if candidate.remaining_bytes >= 2 * SMALLEST_SPLIT_BYTES
        and (candidate.remaining_s - wait_s) * _tail_share(candidate, bytes_per_second) > SMALLEST_SAVING_S
    ]
    if not worth:
        return None
    index = max(worth, key=lambda one: (running[one].remaining_s, running[one].remaining_bytes))
    candidate = running[index]
    left_bytes = candidate.remaining_bytes - wait_s * (candidate.bytes_per_second or 0.0)
    given = int(left_bytes * _tail_share(candidate, bytes_per_second))
    given = max(SMALLEST_SPLIT_BYTES, min(candidate.remaining_bytes - SMALLEST_SPLIT_BYTES, given))
    return index, candidate.end - given


def _tail_share(candidate: RunningRange, bytes_per_second: float | None) -> float:
    """How much of what is left another connection should take; it is also the part of the time that this saves."""
    its = candidate.bytes_per_second or 0.0
    own = its if bytes_per_second is None else bytes_per_second
    return own / (own + its) if own + its > 0 else 0.5
