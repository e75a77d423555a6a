"""Which bytes of a file are where: each byte has one state. Pure: offsets in and out; a range excludes its end.

Requests are cut at the borders of pieces of 8 MiB; copied tensors and samples are not, so the map is exact to the byte.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

MIB: Final = 1024 * 1024
PIECE_BYTES: Final = 8 * MIB
UNKNOWN_END: Final = 1 << 63
"""The end of a file of unknown size, beyond any real one."""

Range = tuple[int, int]
Run = tuple[int, int, int]
"""Start, end and state."""

_PRESENT: Final = 1
_SYNCED_BIT: Final = 2
_COPIED_BIT: Final = 4
# A byte on the disk may be copied from another file and may be synced; a taken one is being fetched or copied.
MISSING: Final = 0
TAKEN: Final = 8
WRITTEN: Final = _PRESENT
SYNCED: Final = _PRESENT | _SYNCED_BIT
COPIED: Final = _PRESENT | _COPIED_BIT
COPIED_SYNCED: Final = _PRESENT | _COPIED_BIT | _SYNCED_BIT

_RUN: Final = struct.Struct("<QQB")


class Pieces:
    """The states of all bytes of one file; for one thread.

    Its runs are sorted, cover the file without a gap and never overlap, so that no byte can be lost or taken twice. It
    begins with the runs that an earlier run left; other bytes are missing.
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
        """How many bytes are neither on the disk nor taken; very many if the size is unknown."""
        return self._bytes[MISSING]

    @property
    def is_complete(self) -> bool:
        """Whether every byte is on the disk."""
        return self.present_bytes == self.end

    @property
    def last_end(self) -> int:
        """One past the last byte on the disk; 0 without any."""
        return max((end for _, end, state in self.runs() if state & _PRESENT), default=0)

    def runs(self, start: int = 0, end: int | None = None) -> Iterator[Run]:
        """The runs of the range, in order."""
        end = self.end if end is None else min(end, self.end)
        index = bisect_right(self._starts, start) - 1
        while start < end:
            is_last = index + 1 == len(self._starts)
            its_end = end if is_last else min(end, self._starts[index + 1])
            yield start, its_end, self._states[index]
            start, index = its_end, index + 1

    def set(self, start: int, end: int, state: int) -> None:
        """Set the state of every byte of the range."""
        if start >= end:
            return
        for its_start, its_end, its_state in self.runs(start, end):
            self._bytes[its_state] -= its_end - its_start
        self._bytes[state] += end - start
        first, last = bisect_left(self._starts, start), bisect_right(self._starts, end)
        borders = [(start, state), (end, self._states[last - 1])] if end < self.end else [(start, state)]
        before = self._states[first - 1] if first else None
        kept = [one for one, left in zip(borders, (before, state), strict=False) if one[1] != left]
        self._starts[first:last] = [at for at, _ in kept]
        self._states[first:last] = [its_state for _, its_state in kept]

    def claim(self, start: int, end: int) -> None:
        """Take missing bytes, to fetch or copy them; raises `AssertionError` if others are among them."""
        if any(state != MISSING for _, _, state in self.runs(start, end)):
            raise AssertionError(f"bytes of {start} to {end} are not missing")
        self.set(start, end, TAKEN)

    def settle(self, start: int, position: int, *, is_copied: bool = False) -> None:
        """Record that the taken bytes before `position` have been written."""
        self._change(start, position, {TAKEN: COPIED if is_copied else WRITTEN})

    def release(self, start: int, end: int) -> None:
        """Make bytes of the range missing again if they are still taken."""
        self._change(start, end, {TAKEN: MISSING})

    def forget(self, start: int, end: int, *, only_copied: bool = False) -> None:
        """Make bytes on the disk missing again, because they are wrong."""
        wrong = (COPIED, COPIED_SYNCED) if only_copied else (WRITTEN, SYNCED, COPIED, COPIED_SYNCED)
        self._change(start, end, dict.fromkeys(wrong, MISSING))

    def synced(self, ranges: Iterable[Range]) -> None:
        """Record that these bytes have been synced to the disk."""
        for start, end in ranges:
            self._change(start, end, {WRITTEN: SYNCED, COPIED: COPIED_SYNCED})

    def only(self, *states: int) -> "Pieces":
        """A copy in which bytes of all other states are missing."""
        return Pieces(self.end, (run for run in self.runs() if run[2] in states))

    def _change(self, start: int, end: int, new_states: Mapping[int, int]) -> None:
        for a, b, state in list(self.runs(start, end)):
            if state in new_states:
                self.set(a, b, new_states[state])

    def present(self, start: int = 0, end: int | None = None) -> list[Range]:
        """The bytes of the range that are on the disk, as sorted ranges that do not touch."""
        ranges: list[Range] = []
        for a, b, state in self.runs(start, end):
            if state & _PRESENT:
                ranges.append((ranges.pop()[0] if ranges and ranges[-1][1] == a else a, b))
        return ranges

    def present_within(self, start: int, end: int) -> int:
        """How many bytes of the range are on the disk."""
        return sum(b - a for a, b in self.present(start, end))

    def missing(self, start: int, end: int) -> list[Range]:
        """The parts of the range that are neither on the disk nor taken."""
        return [(a, b) for a, b, state in self.runs(start, end) if state == MISSING]

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

    def reach(self, start: int) -> int:
        """One past the last byte on the disk without a gap from `start`; `start` if that byte is missing."""
        return next((a for a, _, state in self.runs(start) if not state & _PRESENT), max(start, self.end))

    def steps(self, start: int, end: int, count: int) -> tuple[int, ...]:
        """Which steps of a bar the range's bytes cover: runs in `count` equal steps, start and end by turns.

        Empty if they are in order from the start of the range. Bytes on the disk show as at least one step, and so does
        a gap before the end, so that only a complete range reaches the last step.
        """
        ranges = self.present(start, end)
        if not ranges or (len(ranges) == 1 and ranges[0][0] == start):
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
