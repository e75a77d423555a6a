"""Files on this machine that may have the tensors of a file being fetched: finds, compares and copies from them.

Searches the folder of the repository (any commit, any variant, any split) and the files it is given. A donor is only
read; one that is unreadable, or that changes meanwhile, is left out and never makes a download fail.
"""

import os
import stat
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from gglib_nb.domain.gguf import KnownStrings, TensorTable, read_tensors
from gglib_nb.domain.gguf_reuse import (
    Copy,
    ReuseLimits,
    Sampling,
    choose_sources,
    find_candidates,
    is_same_model,
    plan_copies,
    plan_sampling,
)
from gglib_nb.domain.names import parse_path
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import Identity, found_in_time, identity, opened, reading, status_of
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.pieces import MIB, Pieces, Range
from gglib_nb.errors import GgufError
from gglib_nb.system import matching, read_at

# Variants are in the repository's folder or in one of their own; deeper folders are not searched.
_PATTERNS: Final = ("*.gguf", "*/*.gguf", "*/*/*.gguf")
# A header costs milliseconds to read, and a repository has dozens of files at most.
_MOST_FILES: Final = 128


class CopySource(Value, frozen=True):
    """A file that may be copied from, with its name for users, and its identity when it was checked."""

    path: Path
    name: str
    identity: Identity


class DonorFile(CopySource, frozen=True):
    """A file that may have tensors; its name is the quantization in the same repository, else its file name."""

    is_of_repository: bool  # whether it is in the folder of the repository that is fetched from
    table: TensorTable  # its header, and the positions of its tensors


def find_donors(
    target: Path, repo_id: str, others: Sequence[str], least_bytes: int, stop: threading.Event
) -> tuple[DonorFile, ...]:
    """The files that may have tensors of a target; none if all of them together could not have `least_bytes`.

    They are in the folder of the repository, among them a file of another commit at the target, or `others`, if they
    still exist and their disk does not hang.
    """
    names = tuple(repo_id.split("/"))
    folder = next((folder for folder in target.parents if folder.parts[-2:] == names), None)
    files: dict[Identity, Path] = {}
    own = () if folder is None else (path for pattern in _PATTERNS for path in sorted(matching(folder, pattern)))
    # A network disk that hangs may still state a file's status, so the header is read within the time too.
    there = (path for path in map(Path, others) if (found := status_of(path)) and _table(path, identity(found)))
    for path in (*own, *(found_in_time({"\n".join(others): lambda: there}) if others else ())):
        found = status_of(path)
        if found is not None and stat.S_ISREG(found.st_mode) and len(files) < _MOST_FILES:
            files.setdefault(identity(found), path)
    donors = [
        donor for one, path in files.items() if not stop.is_set() and (donor := _donor(path, one, folder)) is not None
    ]
    held_bytes = sum(tensor.span_bytes for donor in donors for tensor in donor.table.tensors)
    return tuple(donors) if held_bytes >= least_bytes else ()


def _donor(path: Path, known: Identity, folder: Path | None) -> DonorFile | None:
    if (table := _table(path, known)) is None:
        return None
    is_own = folder is not None and path.is_relative_to(folder)
    label = parse_path(path.relative_to(folder).as_posix()).label if is_own and folder is not None else None
    name = str(label or path.name).encode(errors="replace").decode()  # it is reported and recorded
    return DonorFile(path, name, known, is_own, table)


_known_strings: Final[KnownStrings] = {}


@lru_cache(maxsize=512)  # a folder's shards need the same headers
def _table(path: Path, _known: Identity) -> TensorTable | None:
    with suppress(OSError, GgufError), reading(path) as (read, size_bytes):
        return read_tensors(read, size_bytes, known_strings=_known_strings)
    return None


# --- Comparing --------------------------------------------------------------------------------------------------------

# Any shard but the first has a header of some kilobytes; that of a whole model contains its vocabulary and is about as
# long as a donor's. A header longer than the last of these is not read.
_FIRST_BYTES: Final = 64 * 1024
_MARGIN_BYTES: Final = 64 * 1024
_LAST_BYTES: Final = 64 * MIB


_Steps = Generator[tuple[Range, ...], Pieces, tuple[Copy, ...]]
"""Yields the ranges that its next step needs, is sent the bytes on the disk, and returns the runs to copy."""


class Comparison:
    """A comparison with donors, step by step. A step reads files, so it runs on a thread of its own."""

    def __init__(self, donors: Sequence[CopySource], steps: _Steps) -> None:
        self.donors: Final = donors
        self.began_s = 0.0  # when the present step began
        self.wanted = next(steps)  # only these bytes are fetched before the next step, in order
        self.copies: tuple[Copy, ...] | None = None  # the result; None before
        self._steps: Final = steps

    def step(self, fetched: Pieces) -> Self:
        """Take the next step, with the wanted bytes on the disk."""
        try:
            self.wanted = self._steps.send(fetched)
        except StopIteration as end:
            self.copies = end.value
        except OSError:  # of the partial file: a connection that writes to it reports the error
            self.copies = ()
        return self


def known_copies(copies: tuple[Copy, ...]) -> _Steps:
    """A comparison whose result is known already."""
    yield ()
    return copies


def compare_tensors(
    partial: Path, size_bytes: int, seed: str, donors: Sequence[DonorFile], limits: ReuseLimits
) -> _Steps:
    """Compares the header, then samples of the largest tensors, then all samples.

    `partial` is the file that is being fetched, `size_bytes` its size when complete. `seed` chooses the samples.
    """
    fetched = yield ()
    end, wanted = max(_FIRST_BYTES, fetched.reach(0)), None
    while wanted is None:
        fetched = yield ((0, min(end, size_bytes)),)
        try:
            with reading(partial, fetched.reach(0)) as (read, _):
                wanted = read_tensors(read, size_bytes)
        except GgufError:
            if end >= min(size_bytes, _LAST_BYTES):
                return ()
        end = max([2 * end, *(_MARGIN_BYTES + (donor.table.header.header_bytes or 0) for donor in donors)])
    tables = [one.table.tensors if one.is_of_repository or is_same_model(wanted, one.table) else () for one in donors]
    sampling = plan_sampling(find_candidates(wanted.tensors, tables), size_bytes, seed, limits)
    if sampling is None:
        return ()
    fetched = yield sampling.first
    known = _known(sampling.first, fetched)
    if known and not _agreeing(sampling, known, partial, donors):
        return ()
    fetched = yield sampling.ranges
    return plan_copies(_agreeing(sampling, _known(sampling.ranges, fetched), partial, donors))


def _known(ranges: Sequence[Range], fetched: Pieces) -> list[Range]:
    return [piece for start, end in ranges for piece in fetched.present(start, end)]


def _agreeing(sampling: Sampling, known: Sequence[Range], partial: Path, donors: Sequence[DonorFile]) -> list[Copy]:
    """The copies whose samples are equal in a donor."""
    with opened(partial) as fd, _OpenDonors(donors) as sources:

        def agrees(probe: Copy) -> bool:
            theirs = sources.read(probe.donor, probe.source_offset, probe.length)
            return len(theirs) == probe.length and theirs == read_at(fd, probe.length, probe.target_offset)

        return choose_sources(sampling.candidates, known, agrees)


# --- Copying ----------------------------------------------------------------------------------------------------------


class TensorCopy:
    """The copying into one partial file; `run` is a job of the transfer, whose thread calls the rest.

    It works like a very fast connection: it writes under its lock and only while it is not revoked, and the transfer
    collects the written ranges. Bytes that it did not copy are fetched.
    """

    def __init__(self, opened: PartialFile, donors: Sequence[CopySource], copies: Iterable[Copy]) -> None:
        """Only missing bytes are copied, in the order of the file."""
        self.copies: Final = [
            copy.within(start, end)
            for copy in copies
            for start, end in opened.pieces.missing(copy.target_offset, copy.target_end)
        ]
        counts: Counter[str] = Counter()
        for copy in self.copies:
            counts[donors[copy.donor].name] += copy.length
        self.donors: Final = donors
        self.names: Final = tuple(name for name, _ in counts.most_common())  # the file with most bytes first
        self.moved_s = time.monotonic()  # when it last read some
        self._opened: Final = opened
        self._lock: Final = threading.Lock()
        self._written: deque[Range] = deque()
        self._is_revoked = False

    def revoke(self) -> None:
        """Stop writing: once this returns, it writes nothing more."""
        with self._lock:
            self._is_revoked = True

    def take_written(self) -> list[Range]:
        """The ranges copied since the last call; does not wait for a copy in progress: the donor's disk may hang."""
        return [self._written.popleft() for _ in range(len(self._written))]

    def run(self) -> Self:
        """Copy until all is copied or it is revoked."""
        try:
            with _OpenDonors(self.donors) as donors:
                for copy in self.copies:  # in the order of the file, so that the digest can follow
                    for at, data in donors.chunks(copy):  # without the lock, because the donor's disk may hang
                        self.moved_s = time.monotonic()
                        with self._lock:
                            if self._is_revoked:
                                return self
                            self._opened.write(at, memoryview(data))
                            self._written.append((at, at + len(data)))
                            self._opened.hasher.offer(copy.target_offset, at, memoryview(data))
        except Exception as error:  # noqa: BLE001  # if it failed to write, a connection will try to and report the error
            sys.stderr.write(f"tensors were not copied: {error}\n")
        return self


class _OpenDonors(ExitStack):
    """Donors that are being read, by number; one that is deleted, changed or at its end is left out from then on."""

    def __init__(self, donors: Sequence[CopySource]) -> None:
        super().__init__()
        self._donors = donors
        self._descriptors: dict[int, int | None] = {}

    def chunks(self, copy: Copy) -> Iterator[tuple[int, bytes]]:
        """Bytes to copy, with their offsets in the target; they end early if the donor is left out."""
        at = 0
        while data := self.read(copy.donor, copy.source_offset + at, min(MIB, copy.length - at)):
            yield copy.target_offset + at, data
            at += len(data)

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a donor; empty if it is left out."""
        donor = self._donors[number]
        try:
            if number not in self._descriptors:
                self._descriptors[number] = self.enter_context(opened(donor.path))
            if (fd := self._descriptors[number]) is None:
                return b""
            data = read_at(fd, length, offset)
            if identity(os.fstat(fd)) == donor.identity:  # after reading: these bytes are those of the compared file
                return data
            reason: object = "another program has changed it"
        except OSError as error:
            reason = error
        sys.stderr.write(f"nothing more is copied from {donor.path}: {reason}\n")
        self._descriptors[number] = None
        return b""
