"""Which tensors of a wanted GGUF file may be copied from files that are here, how to find out, and what to copy then.

A tensor of one name, type and shape in both files is a candidate. Samples of it, fetched from the Hub, are compared with
the file that is here; where they agree, the rest is copied. A guess that was wrong costs time and never a wrong byte: the
digest of the whole file decides. Pure: offsets in, offsets out; the engine reads, fetches and copies. Ranges are half open, `start <= byte < end`.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from gglib_nb.domain.gguf_tensors import Tensor, TensorTable
from gglib_nb.domain.values import Value

Range = tuple[int, int]

# How densely to sample, the densest first: random blocks of each tensor, bytes of a block, and up to what distance two
# ranges are fetched as one. The densest that keeps within the limits is taken.
_DENSITIES: Final = (
    (3, 4096, 16_384),
    (2, 4096, 8192),
    (1, 4096, 4096),
    (1, 2048, 4096),
    (1, 1024, 2048),
    (0, 1024, 2048),
    (0, 512, 1024),
)
# The first samples are of this many tensors, the largest ones.
_FIRST_TENSORS: Final = 8


class ReuseLimits(Value, frozen=True):
    """When it is worth it, and what it may cost.

    Attributes:
        least_gain_bytes: Less than this to gain of a download is fetched without asking.
        most_sample_bytes: The most that samples may cost, whatever the file's size.
        most_sample_share: The most that they may cost of the file; the smaller of the two counts.
        most_requests: The most ranges that are asked for.
    """

    least_gain_bytes: int = 64_000_000
    most_sample_bytes: int = 8_000_000
    most_sample_share: float = 0.005
    most_requests: int = 1024


class Source(Value, frozen=True):
    """Where a tensor may be copied from.

    Attributes:
        donor: Index of the file.
        offset_bytes: Where it begins there.
        size_bytes: How much may be copied: the shorter of the two spans, which holds all of its data.
    """

    donor: int
    offset_bytes: int
    size_bytes: int


class Candidate(Value, frozen=True):
    """A tensor of the wanted file and where it may be copied from, the likeliest first."""

    tensor: Tensor
    sources: tuple[Source, ...]

    @property
    def gain_bytes(self) -> int:
        """What need not be fetched, at most."""
        return max(source.size_bytes for source in self.sources)


class Sampling(Value, frozen=True):
    """What to fetch to find out which candidates are the same.

    Attributes:
        candidates: Those that are sampled, in the order of their offsets.
        first: Ranges to begin with; where they all differ, the rest need not be tried.
        ranges: All ranges, in order and apart from each other; those of `first` are within them.
    """

    candidates: tuple[Candidate, ...]
    first: tuple[Range, ...]
    ranges: tuple[Range, ...]


class Copy(Value, frozen=True):
    """Bytes of a donor and where they go in the wanted file; two of them never overlap there."""

    donor: int
    source_offset: int
    target_offset: int
    length: int

    @property
    def target_end(self) -> int:
        """One past its last byte in the wanted file."""
        return self.target_offset + self.length

    def within(self, start: int, end: int) -> "Copy":
        """That part of it which fills `start..end` of the wanted file."""
        return Copy(self.donor, self.source_offset + start - self.target_offset, start, end - start)


def is_same_model(wanted: TensorTable, other: TensorTable) -> bool:
    """Whether a file of another repository is the same model by its header: architecture, tensor names, shapes.

    A shard has only some of the tensors, and only the first one names the architecture; then what both have is compared.
    """
    architectures = {wanted.header.architecture, other.header.architecture} - {None}
    if len(architectures) > 1:
        return False
    one, two = ({tensor.name: tensor.shape for tensor in table.tensors} for table in (wanted, other))
    common = one.keys() & two.keys()
    is_split = any((table.header.split_count or 1) > 1 for table in (wanted, other))
    has_same_names = bool(common) if is_split else one.keys() == two.keys()
    return has_same_names and all(one[name] == two[name] for name in common)


_USUAL_LIMITS: Final = ReuseLimits()


def find_candidates(wanted: Sequence[Tensor], donors: Sequence[Sequence[Tensor]]) -> tuple[Candidate, ...]:
    """The tensors of a wanted file that some donor has too, by name, type and shape; in the order of their offsets.

    Of several donors the one with most of them comes first, so that neighbours come from one file.
    """
    found = [_sources_in(index, tensors, wanted) for index, tensors in enumerate(donors)]
    ranking = sorted(found, key=lambda sources: -sum(source.size_bytes for source in sources.values()))
    candidates = []
    for tensor in sorted(wanted, key=lambda one: one.offset_bytes):
        sources = tuple(sources[tensor.name] for sources in ranking if tensor.name in sources)
        if sources:
            candidates.append(Candidate(tensor, sources))
    return tuple(candidates)


def gain_bytes(candidates: Iterable[Candidate]) -> int:
    """What need not be fetched, at most: an upper bound before anything was sampled."""
    return sum(candidate.gain_bytes for candidate in candidates)


def plan_sampling(
    candidates: Sequence[Candidate], size_bytes: int, seed: str, limits: ReuseLimits = _USUAL_LIMITS
) -> Sampling | None:
    """What to fetch of the wanted file; None where that would not be worth it.

    The first and the last block of every candidate and some at random between them. Where the limits do not allow that
    for all of them, the smallest go without, and are fetched.

    Args:
        candidates: As `find_candidates` gives them.
        size_bytes: Of the wanted file.
        seed: Decides which blocks; the same seed gives the same, so that a resume finds them there.
        limits: What it may cost, and what it must gain.
    """
    most_bytes = min(limits.most_sample_bytes, int(size_bytes * limits.most_sample_share))
    chosen = tuple(candidates)
    while gain_bytes(chosen) >= limits.least_gain_bytes:
        for density in _DENSITIES:
            ranges = _joined((block for one in chosen for block in _blocks(one.tensor, seed, density)), density[2])
            if len(ranges) <= limits.most_requests and sum(end - start for start, end in ranges) <= most_bytes:
                return Sampling(chosen, _first(chosen, ranges), ranges)
        chosen = _larger_half(chosen)
    return None


def choose_sources(
    candidates: Iterable[Candidate], ranges: Sequence[Range], agrees: Callable[[Copy], bool]
) -> list[tuple[Candidate, Source]]:
    """Of each candidate the first source that agrees with every sample; those without one are left out.

    Args:
        candidates: What to choose for.
        ranges: The bytes of the wanted file that are known, in order and apart from each other. A tensor none of whose
            bytes is known is not chosen.
        agrees: Whether these known bytes are the same in the donor.
    """
    chosen = []
    for candidate in candidates:
        for source in candidate.sources:
            probes = list(_probes(candidate.tensor, source, ranges))
            if probes and all(map(agrees, probes)):
                chosen.append((candidate, source))
                break
    return chosen


def plan_copies(chosen: Iterable[tuple[Candidate, Source]]) -> tuple[Copy, ...]:
    """What to copy, in the order of the wanted file; neighbours in the wanted file that are neighbours in the donor are one run."""
    copies: list[Copy] = []
    for candidate, source in sorted(chosen, key=lambda pair: pair[0].tensor.offset_bytes):
        new = Copy(source.donor, source.offset_bytes, candidate.tensor.offset_bytes, source.size_bytes)
        last = copies[-1] if copies else None
        is_next = last is not None and (last.donor, last.target_end) == (new.donor, new.target_offset)
        if last is not None and is_next and last.source_offset + last.length == new.source_offset:
            copies[-1] = Copy(last.donor, last.source_offset, last.target_offset, last.length + new.length)
        else:
            copies.append(new)
    return tuple(copies)


def _sources_in(donor: int, tensors: Sequence[Tensor], wanted: Sequence[Tensor]) -> Mapping[str, Source]:
    named = {tensor.name: tensor for tensor in tensors}
    sources = {}
    for tensor in wanted:
        other = named.get(tensor.name)
        if other is not None and (other.type, other.shape) == (tensor.type, tensor.shape):
            size_bytes = min(tensor.span_bytes, other.span_bytes)
            sources[tensor.name] = Source(donor, other.offset_bytes, size_bytes)
    return sources


def _blocks(tensor: Tensor, seed: str, density: tuple[int, int, int]) -> Iterator[Range]:
    """The first and the last block, and in each of some equal stretches between them one at random."""
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
    """The blocks in order; those near each other as one."""
    ranges: list[Range] = []
    for start, end in blocks:
        if ranges and start - ranges[-1][1] <= distance_bytes:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return tuple(ranges)


def _first(candidates: Sequence[Candidate], ranges: Sequence[Range]) -> tuple[Range, ...]:
    """One range inside each of the largest candidates, the middle one of those in it."""
    largest = sorted(candidates, key=lambda one: -one.gain_bytes)[:_FIRST_TENSORS]
    found = set()
    for tensor in (one.tensor for one in largest):
        inside = [one for one in ranges if one[0] < tensor.end_bytes and one[1] > tensor.offset_bytes]
        found.add(inside[len(inside) // 2])
    return tuple(sorted(found))


def _larger_half(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    by_size = sorted(candidates, key=lambda one: -one.gain_bytes)[: len(candidates) // 2]
    return tuple(sorted(by_size, key=lambda one: one.tensor.offset_bytes))


def _probes(tensor: Tensor, source: Source, ranges: Sequence[Range]) -> Iterator[Copy]:
    """The known bytes of a tensor, as they would be copied."""
    whole = Copy(source.donor, source.offset_bytes, tensor.offset_bytes, source.size_bytes)
    first = bisect_right(ranges, whole.target_offset, key=lambda one: one[1])
    for start, end in islice(ranges, first, None):
        if start >= whole.target_end:
            return
        yield whole.within(max(start, whole.target_offset), min(end, whole.target_end))
