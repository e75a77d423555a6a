"""Which tensors of a wanted GGUF file can be copied from local files (donors).

A tensor with the same name, type and shape in both files is a candidate. Samples of it, downloaded from the Hub, are
compared with the donor; if they agree, the rest is copied. The digest of the whole file decides, so a wrong guess only
costs time. Ranges are half open, `start <= byte < end`.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Final

from gglib_nb.domain.gguf import Tensor, TensorTable
from gglib_nb.domain.values import Value

Range = tuple[int, int]

# How densely to sample: random blocks of each tensor, bytes of a block, and up to what distance two ranges are
# requested as one. The first within the limits is taken.
_DENSITIES: Final = (
    (3, 4096, 16_384), (2, 4096, 8192), (1, 4096, 4096), (1, 2048, 4096), (1, 1024, 2048), (0, 1024, 2048),
    (0, 512, 1024),
)  # fmt: skip
# The first samples are of this many tensors, the largest ones.
_FIRST_TENSORS: Final = 8


class ReuseLimits(Value, frozen=True):
    """When reusing is worth it, and what it may cost."""

    least_gain_bytes: int = 64_000_000  # of a download; for less, no sample is requested
    most_sample_bytes: int = 8_000_000
    most_sample_share: float = 0.005  # of the file; the smaller of the two counts
    most_requests: int = 1024


class Copy(Value, frozen=True):
    """Bytes of a donor and their place in the wanted file."""

    donor: int  # index of the file
    source_offset: int
    target_offset: int
    length: int

    @property
    def target_end(self) -> int:
        """One past its last byte in the wanted file."""
        return self.target_offset + self.length

    def within(self, start: int, end: int) -> "Copy":
        """The part that fills `start..end` of the wanted file."""
        return Copy(self.donor, self.source_offset + start - self.target_offset, start, end - start)


class Candidate(Value, frozen=True):
    """A tensor of the wanted file and the copies of it, one of each donor, the likeliest first."""

    tensor: Tensor
    sources: tuple[Copy, ...]

    @property
    def gain_bytes(self) -> int:
        """Most bytes that need not be downloaded."""
        return max(source.length for source in self.sources)


class Sampling(Value, frozen=True):
    """What to download to compare the candidates."""

    candidates: tuple[Candidate, ...]
    first: tuple[Range, ...]  # to begin with; if all differ, the rest need not be tried
    ranges: tuple[Range, ...]  # all, in order and disjoint; `first` is among them


def is_same_model(wanted: TensorTable, other: TensorTable) -> bool:
    """Whether a file of another repository is the same model by its header: architecture, tensor names, shapes.

    A shard has only some of the tensors, and only the first names the architecture; then the common ones are compared.
    """
    architectures = {wanted.header.architecture, other.header.architecture} - {None}
    if len(architectures) > 1:
        return False
    one, two = ({tensor.name: tensor.shape for tensor in table.tensors} for table in (wanted, other))
    common = one.keys() & two.keys()
    is_split = any((table.header.split_count or 1) > 1 for table in (wanted, other))
    has_same_names = bool(common) if is_split else one.keys() == two.keys()
    return has_same_names and all(one[name] == two[name] for name in common)


def find_candidates(wanted: Sequence[Tensor], donors: Sequence[Sequence[Tensor]]) -> tuple[Candidate, ...]:
    """The tensors of a wanted file that a donor has too, by offset; the donor with the most bytes comes first."""
    found = [_sources_in(index, tensors, wanted) for index, tensors in enumerate(donors)]
    ranking = sorted(found, key=lambda sources: -sum(source.length for source in sources.values()))
    each = ((one, tuple(sources[one.name] for sources in ranking if one.name in sources)) for one in wanted)
    candidates = (Candidate(tensor, sources) for tensor, sources in each if sources)
    return tuple(sorted(candidates, key=lambda one: one.tensor.offset_bytes))


def gain_bytes(candidates: Iterable[Candidate]) -> int:
    """Most bytes that need not be downloaded, before anything is sampled."""
    return sum(candidate.gain_bytes for candidate in candidates)


def plan_sampling(
    candidates: Sequence[Candidate],
    size_bytes: int,
    seed: str,
    limits: ReuseLimits = ReuseLimits(),  # noqa: B008 - immutable
) -> Sampling | None:
    """What to download of the wanted file; None: not worth it.

    The first and the last block of every candidate and some at random between them. If the limits do not allow that,
    the smallest candidates are left out. The same seed gives the same blocks, so that a resume finds them on the disk.
    """
    most_bytes = min(limits.most_sample_bytes, int(size_bytes * limits.most_sample_share))
    chosen = tuple(candidates)
    while gain_bytes(chosen) >= limits.least_gain_bytes:
        for density in _DENSITIES:
            ranges = _joined((block for one in chosen for block in _blocks(one.tensor, seed, density)), density[2])
            if len(ranges) <= limits.most_requests and sum(end - start for start, end in ranges) <= most_bytes:
                return Sampling(chosen, _first(chosen, ranges), ranges)
        larger = sorted(chosen, key=lambda one: -one.gain_bytes)[: len(chosen) // 2]
        chosen = tuple(sorted(larger, key=lambda one: one.tensor.offset_bytes))
    return None


def choose_sources(
    candidates: Iterable[Candidate], ranges: Sequence[Range], agrees: Callable[[Copy], bool]
) -> list[Copy]:
    """For each candidate the first source, if any, that agrees with all of its known bytes: the `ranges`, in order."""

    def is_same(source: Copy) -> bool:
        first = bisect_right(ranges, source.target_offset, key=lambda one: one[1])
        known = takewhile(lambda one: one[0] < source.target_end, islice(ranges, first, None))
        probes = [source.within(max(a, source.target_offset), min(b, source.target_end)) for a, b in known]
        return bool(probes) and all(map(agrees, probes))

    found = (next(filter(is_same, candidate.sources), None) for candidate in candidates)
    return [source for source in found if source is not None]


def plan_copies(chosen: Iterable[Copy]) -> tuple[Copy, ...]:
    """What to copy, in the order of the wanted file; what is adjacent in both files is one copy."""
    copies: list[Copy] = []
    for new in sorted(chosen, key=lambda copy: copy.target_offset):
        last = copies[-1] if copies else None
        if last and last.target_end == new.target_offset and last.within(new.target_offset, new.target_end) == new:
            copies[-1] = last.within(last.target_offset, new.target_end)
        else:
            copies.append(new)
    return tuple(copies)


def _sources_in(donor: int, tensors: Sequence[Tensor], wanted: Sequence[Tensor]) -> Mapping[str, Copy]:
    """Copies of the shorter of two spans, which contains all data."""
    named = {(tensor.name, tensor.type, tensor.shape): tensor for tensor in tensors}
    return {
        tensor.name: Copy(donor, other.offset_bytes, tensor.offset_bytes, min(tensor.span_bytes, other.span_bytes))
        for tensor in wanted
        if (other := named.get((tensor.name, tensor.type, tensor.shape))) is not None
    }


def _blocks(tensor: Tensor, seed: str, density: tuple[int, int, int]) -> Iterator[Range]:
    """The first and the last block, and one at random in each of some equal stretches between them."""
    count, block_bytes, _ = density
    start, end = tensor.offset_bytes, tensor.end_bytes
    if end - start <= (count + 2) * block_bytes:
        yield start, end
        return
    chance = random.Random(f"{seed} {tensor.name}")  # noqa: S311  # repeatable, guards nothing
    yield start, start + block_bytes
    inner = end - start - 2 * block_bytes
    for number in range(count):
        stretch = start + block_bytes + inner * number // count
        at = stretch + chance.randrange(max(1, inner // count - block_bytes))
        yield at, at + block_bytes
    yield end - block_bytes, end


def _joined(blocks: Iterable[Range], distance_bytes: int) -> tuple[Range, ...]:
    ranges: list[Range] = []
    for start, end in blocks:
        if ranges and start - ranges[-1][1] <= distance_bytes:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return tuple(ranges)


def _first(candidates: Sequence[Candidate], ranges: Sequence[Range]) -> tuple[Range, ...]:
    """The middle one of the ranges in each of the largest candidates."""
    found = set()
    for one in sorted(candidates, key=lambda one: -one.gain_bytes)[:_FIRST_TENSORS]:
        start, end = one.tensor.offset_bytes, one.tensor.end_bytes
        inside = [known for known in ranges if known[0] < end and known[1] > start]
        found.add(inside[len(inside) // 2])
    return tuple(sorted(found))
