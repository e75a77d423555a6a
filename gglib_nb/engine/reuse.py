"""Files of this machine that may have the tensors of one that is fetched: found, compared with it, and copied from.

Looks into the folder of the repository (any commit, any variant, any split) and at the files that it is given. A donor is only ever
read; one that cannot be read, or that changes meanwhile, gives nothing, and never ends a download.
"""

import os
import queue
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from gglib_nb.domain.file_names import parse_path
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
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import open_regular, status_of
from gglib_nb.engine.lease import LeaseLostError
from gglib_nb.engine.partial import PartialFile, copy_step
from gglib_nb.engine.pieces import MIB, Range, RangeSet
from gglib_nb.errors import GgufError
from gglib_nb.system import matching, read_at

# Variants are in the repository's folder or in one of their own; deeper than that nothing is looked for.
_PATTERNS: Final = ("*.gguf", "*/*.gguf", "*/*/*.gguf")
# A header costs milliseconds to read, and a repository has dozens of files at most.
_MOST_FILES: Final = 128


class CopySource(Value, frozen=True):
    """A file that may be copied from, with its name for a person, and its size and modification time when it was looked at."""

    path: Path
    name: str
    size_bytes: int
    mtime_ns: int

    def is_unchanged(self, descriptor: int) -> bool:
        """Whether this open file is still the one that was looked at. Raises `OSError` where it cannot be asked any more."""
        found = os.fstat(descriptor)
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


class DonorFile(CopySource, frozen=True):
    """One that may give tensors; its name is the quantization where it is of the same repository, else its file name."""

    is_of_repository: bool  # whether it is in the folder of the repository that is fetched from
    table: TensorTable  # its header, and the positions of its tensors


def find_donors(
    target: Path, repo_id: str, others: Iterable[str], least_bytes: int, stop: threading.Event
) -> tuple[DonorFile, ...]:
    """The files that may give tensors to a target; none where all of them together could not give enough.

    Args:
        target: What is fetched; a file that is there, of another commit, is a donor too.
        repo_id: Where it is fetched from.
        others: Further files to look at, of which some may be gone.
        least_bytes: Less than this is not worth it.
        stop: Ends the search.
    """
    names = tuple(repo_id.split("/"))
    folder = next((folder for folder in target.parents if folder.parts[-2:] == names), None)
    seen: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
    own = () if folder is None else (path for pattern in _PATTERNS for path in sorted(matching(folder, pattern)))
    for path in (*own, *map(Path, others)):
        found = status_of(path)
        if found is not None and stat.S_ISREG(found.st_mode):
            seen.setdefault((found.st_dev, found.st_ino), (path, found))
    files = list(seen.values())[:_MOST_FILES]
    if sum(found.st_size for _, found in files) < least_bytes:
        return ()
    donors = [
        donor for path, found in files if not stop.is_set() and (donor := _donor(path, found, folder)) is not None
    ]
    return tuple(donors) if sum(donor.table.data_bytes for donor in donors) >= least_bytes else ()


_Identity = tuple[int, int, int, int]
_tables: dict[_Identity, TensorTable | None] = {}
"""Headers that were read before, by device, inode, size and modification time: a folder's shards need the same ones."""
_MOST_TABLES: Final = 512


def _donor(path: Path, found: os.stat_result, folder: Path | None) -> DonorFile | None:
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if identity not in _tables:
        if len(_tables) >= _MOST_TABLES:
            _tables.clear()
        _tables[identity] = _table(path, found.st_size)
    table = _tables.get(identity)
    if table is None:
        return None
    is_own = folder is not None and path.is_relative_to(folder)
    label = parse_path(path.relative_to(folder).as_posix()).label if is_own and folder is not None else None
    return DonorFile(path, str(label or path.name), found.st_size, found.st_mtime_ns, is_own, table)


def _table(path: Path, size_bytes: int) -> TensorTable | None:
    try:
        fd = open_regular(path)
    except OSError:
        return None
    try:
        return read_tensors(lambda offset, length: read_at(fd, length, offset), size_bytes)
    except (OSError, GgufError):
        return None
    finally:
        os.close(fd)


# --- Comparing --------------------------------------------------------------------------------------------------------

# A shard but the first has a header of some kilobytes; that of a whole model has its vocabulary in it and is about as long
# as a donor's.
_FIRST_BYTES: Final = 64 * 1024
_MARGIN_BYTES: Final = 64 * 1024
_COUNTS_END: Final = 24
_FEWEST_PAIRS_OF_A_MODEL: Final = 8


class Asked(Value, frozen=True):
    """These bytes of the wanted file have to come before the next step."""

    ranges: tuple[Range, ...]
    then: "Step"


class Decided(Value, frozen=True):
    """This is what can be copied, and from where."""

    copies: tuple[Copy, ...] = ()


Step = Callable[[RangeSet], Asked | Decided]
"""Takes which bytes of the wanted file have been fetched so far; reads files, so it belongs on a thread of its own."""


def compare_tensors(
    partial: Path, size_bytes: int, seed: str, donors: Sequence[DonorFile], limits: ReuseLimits
) -> Step:
    """The first step of a comparison, which looks at the header, then at samples of the largest tensors, then at all samples.

    Args:
        partial: The file that is being fetched.
        size_bytes: Its size when it is whole.
        seed: Decides where samples are taken; that of the same file is always the same.
        donors: What may be copied from.
        limits: What it may cost.
    """
    conversation = _compare(partial, size_bytes, seed, donors, limits)
    next(conversation)

    def step(fetched: RangeSet) -> Asked | Decided:
        try:
            return Asked(conversation.send(fetched), step)
        except StopIteration as end:
            return Decided(end.value)

    return step


def _compare(
    partial: Path, size_bytes: int, seed: str, donors: Sequence[DonorFile], limits: ReuseLimits
) -> Generator[tuple[Range, ...], RangeSet, tuple[Copy, ...]]:
    """Yields what has to be fetched, receives what has been, returns what can be copied."""
    fetched = yield ()
    wanted, last_reach, end = None, -1, max(_FIRST_BYTES, fetched.reach(0))
    while wanted is None:
        fetched = yield ((0, min(end, size_bytes)),)
        reach = fetched.reach(0)
        with partial.open("rb", buffering=0) as file:
            reader = _PrefixReader(file.fileno(), reach)
            try:
                wanted = read_tensors(reader.read, size_bytes)
            except GgufError:
                if reader.missing_end is None or reach <= last_reach:
                    return ()
                last_reach, end = reach, _next_reach(reader, reach, donors)
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


def _next_reach(reader: "_PrefixReader", reach: int, donors: Sequence[DonorFile]) -> int:
    """How far to read next: about as far as a donor's header goes, where this one has a vocabulary too."""
    needed = max(reach, reader.missing_end or 0)
    is_whole_model = int.from_bytes(reader.read(_COUNTS_END - 8, 8), "little") >= _FEWEST_PAIRS_OF_A_MODEL
    like = max(donor.table.header.header_bytes or 0 for donor in donors) + _MARGIN_BYTES
    if is_whole_model and like > needed:
        return like
    return needed + (MIB if is_whole_model else MIB // 4)


def _known(ranges: Sequence[Range], fetched: RangeSet) -> list[Range]:
    return [piece for start, end in ranges for piece in fetched.within(start, end)]


def _agreeing(
    sampling: Sampling, known: Sequence[Range], partial: Path, donors: Sequence[DonorFile]
) -> list[tuple[Candidate, Source]]:
    """The candidates whose samples are the same in a donor, with it."""
    with ExitStack() as stack:
        wanted = stack.enter_context(partial.open("rb", buffering=0)).fileno()
        opened = [stack.enter_context(closing(_OpenDonor(donor))) for donor in donors]

        def agrees(probe: Copy) -> bool:
            theirs = opened[probe.donor].read(probe.source_offset, probe.length)
            return len(theirs) == probe.length and theirs == read_at(wanted, probe.length, probe.target_offset)

        return choose_sources(sampling.candidates, known, agrees)


class _PrefixReader:
    """Reads a file up to some offset, and notes up to where bytes beyond it were asked for (`missing_end`; None: none were)."""

    def __init__(self, descriptor: int, reach: int) -> None:
        self.missing_end: int | None = None
        self._descriptor = descriptor
        self._reach = reach

    def read(self, offset: int, length: int) -> bytes:
        here = max(0, min(length, self._reach - offset))
        if here < length:
            self.missing_end = offset + 1
        return read_at(self._descriptor, here, offset) if here else b""


# --- Copying ----------------------------------------------------------------------------------------------------------

# More that is copied and not hashed yet has to be read from the disk again.
_FAR_BEHIND_BYTES: Final = 96 * MIB
_LOOK_S: Final = 0.01


class CopyEnded(Value, frozen=True):
    """Event: the copying is over; where the lease was not looked at for too long, the rest can be copied if it is still ours."""

    copy: "TensorCopy"
    is_lease_stale: bool


class TensorCopy:
    """The copying into one partial file, on a thread of its own. The coordinator makes, revokes and asks it.

    It works like a connection that is very fast: bytes are written under its lock and only while it is not revoked, what is
    written is taken over by the coordinator, and its end is an event. It decides nothing; what it did not copy is fetched.
    """

    def __init__(
        self, opened: PartialFile, donors: Sequence[CopySource], copies: Iterable[Copy], inbox: "queue.SimpleQueue[Any]"
    ) -> None:
        """Only missing bytes are copied, in the order of the file; the inbox gets one `CopyEnded`."""
        self.copies: Final = [
            copy.within(start, end)
            for copy in copies
            for start, end in opened.pieces.missing(copy.target_offset, copy.target_end)
        ]
        # What it has yet to copy, as far as the coordinator has taken note: it is not fetched meanwhile.
        self.pending: Final = RangeSet((copy.target_offset, copy.target_end) for copy in self.copies)
        counts: Counter[str] = Counter()
        for copy in self.copies:
            counts[donors[copy.donor].name] += copy.length
        self.names: Final = tuple(name for name, _ in counts.most_common())  # the file that gives most first
        self._opened: Final = opened
        self._donors: Final = donors
        self._inbox: Final = inbox
        self._lock: Final = threading.Lock()
        self._written: list[Range] = []
        self._revoked: Final = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="gglib-copy", daemon=True).start()

    def revoke(self) -> None:
        """Nothing is written any more once this has returned. Called by the coordinator."""
        with self._lock:
            self._revoked.set()

    def take_written(self) -> list[Range]:
        """What was copied since the last call. Called by the coordinator."""
        with self._lock:
            written, self._written = self._written, []
        for start, end in written:
            self.pending.remove(start, end)
        return written

    def _run(self) -> None:
        is_lease_stale = False
        try:
            self._copy_all()
        except LeaseLostError:
            is_lease_stale = True
        except Exception as error:  # noqa: BLE001  # what it could not write, a connection will try and report
            sys.stderr.write(f"tensors were not copied: {error}\n")
        self._inbox.put(CopyEnded(self, is_lease_stale))

    def _copy_all(self) -> None:
        """In the order of the file, so that the digest can follow; a donor that cannot be read is left out."""
        with ExitStack() as stack:
            opened: dict[int, _OpenDonor] = {}
            for copy in self.copies:
                if copy.donor not in opened:
                    opened[copy.donor] = stack.enter_context(closing(_OpenDonor(self._donors[copy.donor])))
                if not self._copy_run(opened[copy.donor], copy):
                    return

    def _copy_run(self, donor: "_OpenDonor", copy: Copy) -> bool:
        """Copy one run; False when revoked."""
        at, end = copy.target_offset, copy.target_end
        while at < end and donor.is_good():
            while self._is_far_ahead and not self._revoked.wait(_LOOK_S):
                pass
            source_at = copy.source_offset + at - copy.target_offset
            with self._lock:
                if self._revoked.is_set():
                    return False
                count = donor.copy(self._opened, source_at, at, copy_step(source_at, at, end - at))
                if count:
                    self._written.append((at, at + count))
            at += count
        return True

    @property
    def _is_far_ahead(self) -> bool:
        """Whether the digest should follow first; not while it reads what an earlier run left, which takes long."""
        hasher = self._opened.hasher
        return hasher.digest.front >= self._opened.left_end and hasher.behind_bytes > _FAR_BEHIND_BYTES


class _OpenDonor:
    """A donor that is being read; it is good until it is gone, changed or at its end."""

    def __init__(self, donor: CopySource) -> None:
        self._donor = donor
        self._descriptor: int | None = None
        try:
            self._descriptor = open_regular(donor.path)
        except OSError as error:
            self._give_up(str(error))

    def is_good(self) -> bool:
        """Whether it can be read, and is what it was."""
        try:
            if self._descriptor is None or self._donor.is_unchanged(self._descriptor):
                return self._descriptor is not None
            self._give_up("another program has changed it")
        except OSError as error:
            self._give_up(str(error))
        return False

    def read(self, offset: int, length: int) -> bytes:
        """Its bytes; empty where it is not good."""
        try:
            return read_at(self._descriptor, length, offset) if self.is_good() and self._descriptor is not None else b""
        except OSError as error:
            self._give_up(str(error))
            return b""

    def copy(self, opened: PartialFile, source_at: int, at: int, length: int) -> int:
        """Copy once; 0 where it turns out to be no longer what it was, and then what was written counts for nothing."""
        assert self._descriptor is not None  # noqa: S101  # the caller has asked whether it is good
        count = opened.copy(self._descriptor, source_at, at, length)
        if count and self.is_good():
            return count
        if self._descriptor is not None:
            self._give_up("it is shorter than it was")
        return 0

    def close(self) -> None:
        """Close it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _give_up(self, reason: str) -> None:
        sys.stderr.write(f"nothing more is copied from {self._donor.path}: {reason}\n")
        self.close()
