"""Finds out which tensors of a file that is being fetched can be copied from files that are here.

A conversation in steps: each looks at what has come so far, and either asks for more bytes of the wanted file or says what
can be copied. First the header, then samples of the largest tensors, then all samples. Reads the partial file and the
donors with descriptors of its own and writes nothing; who fetches what it asks for is no business of it.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from gglib_nb.domain.gguf import read_tensors
from gglib_nb.domain.gguf_reuse import (
    Candidate,
    Copy,
    ReuseLimits,
    Sampling,
    Source,
    choose_sources,
    find_candidates,
    is_same_model,
    plan_copies,
    plan_sampling,
)
from gglib_nb.domain.gguf_tensors import TensorTable
from gglib_nb.engine.storage.byte_ranges import MIB, Range, RangeSet
from gglib_nb.engine.storage.donors import DonorFile
from gglib_nb.errors import GgufError
from gglib_nb.system import read_at

# A shard but the first has a header of some kilobytes; that of a whole model has its vocabulary in it and is about as long
# as a donor's.
_FIRST_BYTES: Final = 64 * 1024
_MARGIN_BYTES: Final = 64 * 1024
_COUNTS_END: Final = 24
_FEWEST_PAIRS_OF_A_MODEL: Final = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """These bytes of the wanted file have to come before the next step."""

    ranges: tuple[Range, ...]
    then: "Step"


@dataclass(frozen=True, slots=True)
class Decided:
    """This is what can be copied, and from where."""

    copies: tuple[Copy, ...] = ()


Step = Callable[[RangeSet], Asked | Decided]
"""Takes which bytes of the wanted file have been fetched so far."""


class TensorComparison:
    """The conversation about one file. Its steps read files, so they belong on a thread of their own."""

    def __init__(
        self, partial: Path, size_bytes: int, seed: str, donors: Sequence[DonorFile], limits: ReuseLimits
    ) -> None:
        """Nothing is read yet.

        Args:
            partial: The file that is being fetched.
            size_bytes: Its size when it is whole.
            seed: Decides where samples are taken; that of the same file is always the same.
            donors: What may be copied from.
            limits: What it may cost.
        """
        self._partial: Final = partial
        self._size_bytes: Final = size_bytes
        self._seed: Final = seed
        self._donors: Final = donors
        self._limits: Final = limits
        self._sampling: Sampling | None = None
        self._last_reach = -1

    def begin(self, fetched: RangeSet) -> Asked | Decided:
        """The first step: ask for the beginning of the header."""
        return self._ask_header(max(_FIRST_BYTES, fetched.reach(0)))

    def _ask_header(self, end: int) -> Asked:
        return Asked(((0, min(end, self._size_bytes)),), self._read_header)

    def _read_header(self, fetched: RangeSet) -> Asked | Decided:
        reach = fetched.reach(0)
        with self._partial.open("rb", buffering=0) as file:
            reader = _PrefixReader(file.fileno(), reach)
            try:
                wanted = read_tensors(reader.read, self._size_bytes)
            except GgufError:
                if reader.missing_end is None or reach <= self._last_reach:
                    return Decided()
                self._last_reach = reach
                return self._ask_header(self._next_reach(reader, reach))
        return self._sample(wanted)

    def _next_reach(self, reader: "_PrefixReader", reach: int) -> int:
        """How far to read next: about as far as a donor's header goes, where this one has a vocabulary too."""
        missing_end = reader.missing_end or 0
        is_whole_model = int.from_bytes(reader.read(_COUNTS_END - 8, 8), "little") >= _FEWEST_PAIRS_OF_A_MODEL
        like = max(donor.table.header.header_bytes or 0 for donor in self._donors) + _MARGIN_BYTES
        if is_whole_model and like > max(reach, missing_end):
            return like
        return max(reach, missing_end) + (MIB if is_whole_model else MIB // 4)

    def _sample(self, wanted: TensorTable) -> Asked | Decided:
        fitting = [one.is_of_repository or is_same_model(wanted, one.table) for one in self._donors]
        tables = [one.table.tensors if fits else () for one, fits in zip(self._donors, fitting, strict=True)]
        candidates = find_candidates(wanted.tensors, tables)
        self._sampling = plan_sampling(candidates, self._size_bytes, self._seed, self._limits)
        return Decided() if self._sampling is None else Asked(self._sampling.first, self._look_at_first)

    def _look_at_first(self, fetched: RangeSet) -> Asked | Decided:
        sampling = self._sampling
        assert sampling is not None  # noqa: S101  # the step before has made it
        known = _known(sampling.first, fetched)
        if known and not self._chosen(known):
            return Decided()
        return Asked(sampling.ranges, self._look_at_all)

    def _look_at_all(self, fetched: RangeSet) -> Decided:
        assert self._sampling is not None  # noqa: S101  # as above
        return Decided(plan_copies(self._chosen(_known(self._sampling.ranges, fetched))))

    def _chosen(self, known: Sequence[Range]) -> list[tuple[Candidate, Source]]:
        assert self._sampling is not None  # noqa: S101  # as above
        with _OpenFiles(self._partial, self._donors) as files:
            return choose_sources(self._sampling.candidates, known, files.agree)


def _known(ranges: Sequence[Range], fetched: RangeSet) -> list[Range]:
    return [piece for start, end in ranges for piece in fetched.within(start, end)]


class _PrefixReader:
    """Reads a file that is there up to some offset, and notes what was asked for beyond it.

    Attributes:
        missing_end: Up to where bytes were missing at the last look; None where none were.
    """

    def __init__(self, descriptor: int, reach: int) -> None:
        self.missing_end: int | None = None
        self._descriptor = descriptor
        self._reach = reach

    def read(self, offset: int, length: int) -> bytes:
        here = max(0, min(length, self._reach - offset))
        if here < length:
            self.missing_end = offset + 1
        return read_at(self._descriptor, here, offset) if here else b""


class _OpenFiles:
    """The partial file and its donors, open to be compared; a donor that is gone or changed agrees with nothing."""

    def __init__(self, partial: Path, donors: Sequence[DonorFile]) -> None:
        self._stack = ExitStack()
        self._wanted = self._stack.enter_context(partial.open("rb", buffering=0)).fileno()
        self._donors = [self._open(donor) for donor in donors]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def agree(self, probe: Copy) -> bool:
        donor = self._donors[probe.donor]
        if donor is None:
            return False
        try:
            theirs = read_at(donor, probe.length, probe.source_offset)
        except OSError:
            return False
        return len(theirs) == probe.length and theirs == read_at(self._wanted, probe.length, probe.target_offset)

    def _open(self, donor: DonorFile) -> int | None:
        try:
            descriptor = self._stack.enter_context(donor.path.open("rb", buffering=0)).fileno()
            return descriptor if donor.is_unchanged(descriptor) else None
        except OSError:
            return None
