"""One file on the disk that a transfer is about: its parts, its partial file, what is under way for it.

State and arithmetic only; the coordinator's thread is the only one that touches it. What an error means is decided in
`transfer.range_results`, which connection fetches what in `transfer.scheduler`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gglib_nb.domain.download import BAR_STEPS, PlannedFile, ShardStatus, StoredFile
from gglib_nb.engine.protocol import FileProgress, StartTransfer
from gglib_nb.engine.resolve import FileAddress, Remote
from gglib_nb.engine.retry import Troubles
from gglib_nb.engine.storage.byte_ranges import Range, RangeSet
from gglib_nb.engine.storage.journal import Journal, PartIdentity
from gglib_nb.engine.storage.lease import Lease, SeenLease
from gglib_nb.engine.storage.partial_file import SYNC_BYTES, SYNC_S, PartialFile
from gglib_nb.engine.storage.paths import journal_path, lease_path, part_path
from gglib_nb.engine.storage.target_check import TargetCheck
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.range_request import RangeRequest, Source
from gglib_nb.engine.transfer.range_selection import next_range
from gglib_nb.engine.transfer.stages import TRANSITIONS, Cause, Stage
from gglib_nb.engine.transfer.tensor_copy import TensorCopy


@dataclass(eq=False)
class Part:
    """One remote file of the target; most targets have one.

    Attributes:
        planned: As told.
        address: Its name on the hub.
        start: Where it begins in the target.
        end: Where it ends there; None where its size is unknown.
        remote: Where its bytes are; None where that has to be asked (again).
        is_resolving: The hub is being asked.
        is_sequential: The server sends the whole only.
        is_refetched: It was wrong once.
        troubles: What failed since its last new byte.
    """

    planned: PlannedFile
    address: FileAddress
    start: int
    end: int | None
    troubles: Troubles
    remote: Remote | None = None
    is_resolving: bool = False
    is_sequential: bool = False
    is_refetched: bool = False

    @property
    def sha256(self) -> str | None:
        """What it must hash to; None where nobody says."""
        return self.planned.sha256 or (None if self.remote is None else self.remote.sha256)

    def resolved(self, remote: Remote) -> None:
        """The hub has said where its bytes are, and perhaps how many."""
        self.remote = remote
        if self.end is None and remote.size_bytes is not None:
            self.end = self.start + remote.size_bytes
        self.is_sequential = self.is_sequential or not remote.takes_ranges or self.end is None

    def source(self) -> Source:
        """Where to fetch it from; only while `remote` is known."""
        assert self.remote is not None  # noqa: S101  # the caller's promise
        size = None if self.end is None else self.end - self.start
        return Source(self.remote.url, size, is_whole=self.is_sequential)


class Target:
    """One file on the disk.

    Attributes:
        path: Its final path.
        parts: Its remote files in order.
        indexes: Their places in the command's list.
        check: What goes before the first byte; None while pending.
        partial: Open while fetching and finishing.
        requests: Ranges under way.
        stored: Set when done.
        left: What earlier runs left of it, as far as can be told without reading it.
        is_linked: It was linked from elsewhere on this machine.
        proven_parts: How many parts hashed right.
        is_syncing: A sync is under way.
        wanted_first: While comparing, the only bytes that are fetched, in order.
        copy: Tensors are being copied into it; None before and after.
    """

    def __init__(
        self, files: list[tuple[int, PlannedFile]], repo: Callable[[str], FileAddress], timeouts: Timeouts
    ) -> None:
        self.indexes = [index for index, _ in files]
        self.parts = [
            Part(
                planned,
                repo(planned.path_in_repo),
                planned.offset_bytes,
                None if planned.size_bytes is None else planned.offset_bytes + planned.size_bytes,
                Troubles(repo(planned.path_in_repo).asked, timeouts),
            )
            for _, planned in files
        ]
        self.path = Path(files[0][1].target)
        self.check: TargetCheck | None = None
        self.partial: PartialFile | None = None
        self.requests: list[RangeRequest] = []
        self.stored: StoredFile | None = None
        self.left = RangeSet()
        self.is_linked = False
        self.proven_parts = 0
        self.is_syncing = False
        self.wanted_first: list[Range] = []
        self.copy: TensorCopy | None = None
        self._stage = Stage.PENDING
        self._seen_lease: SeenLease | None = None
        self._synced_s = time.monotonic()

    @property
    def stage(self) -> Stage:
        """Where it is; `advance` changes it."""
        return self._stage

    def advance(self, cause: Cause) -> None:
        """Go on to the stage that the table of `transfer.stages` names."""
        self._stage = TRANSITIONS.following(self._stage, cause)

    @property
    def lease(self) -> Lease | None:
        """Its lease once this process has acquired it; None before."""
        return self.check.lease if self.check is not None and self.check.has_lease else None

    @property
    def size_bytes(self) -> int | None:
        """Of the whole; None unknown."""
        return self.parts[-1].end

    @property
    def identities(self) -> tuple[PartIdentity, ...]:
        """What its journal says it is."""
        return tuple(
            PartIdentity.of(part.planned, None if part.end is None else part.end - part.start, part.address.commit_sha)
            for part in self.parts
        )

    @property
    def done(self) -> RangeSet:
        """The bytes that are on the disk."""
        return RangeSet() if self.partial is None else self.partial.done

    @property
    def missing_bytes(self) -> int:
        """What has to come before it can be verified; 0 where the size is unknown."""
        if self._stage in (Stage.FINALIZING, Stage.DONE):
            return 0
        return max(0, (self.size_bytes or 0) - self.done.total_bytes)

    @property
    def bytes_to_fetch(self) -> int:
        """Of the missing bytes those that are not being copied."""
        return self.missing_bytes - (0 if self.copy is None else self.copy.pending.total_bytes)

    @property
    def reused_bytes(self) -> int:
        """What was copied from files of this machine, in this run or an earlier one."""
        if self.partial is not None:
            return self.partial.copied.ranges.total_bytes
        return 0 if self.stored is None else self.stored.reused_bytes

    @property
    def reused_from(self) -> tuple[str, ...]:
        """What those files are called."""
        if self.partial is not None:
            return self.partial.copied.names if self.reused_bytes else ()
        return () if self.stored is None else self.stored.reused_from

    @property
    def has_all_bytes(self) -> bool:
        """Whether every byte is on the disk."""
        size = self.size_bytes
        return size is not None and self.done.reach(0) >= size

    @property
    def is_about_to_give(self) -> bool:
        """Whether it will have a range to give as soon as it is checked or the hub has answered."""
        is_opening = self._stage in (Stage.PENDING, Stage.CHECKING, Stage.COMPARING)
        return is_opening or (self._stage is Stage.FETCHING and any(part.is_resolving for part in self.parts))

    def scan(self, *, is_replaced: bool) -> None:
        """See what earlier runs left, so that its bytes count before it is this target's turn.

        Args:
            is_replaced: A file that stands at the target is not the one that is wanted.
        """
        self._seen_lease = SeenLease.at(lease_path(self.path))
        size = self.size_bytes
        if size is None:
            return
        with contextlib.suppress(OSError):
            if not is_replaced and self.path.stat().st_size == size:
                self.left.add(0, size)
                return
        state = Journal.read(journal_path(self.path))
        if state is not None and state.parts == self.identities and part_path(self.path).exists():
            self.left = state.done

    def take_seen_lease(self) -> SeenLease | None:
        """What `scan` saw of its lease, once: all targets of an attempt are watched from its beginning."""
        seen, self._seen_lease = self._seen_lease, None
        return seen

    def update_done(self) -> None:
        """Bring `done` up to what the connections and the copying have written, and let the hasher follow."""
        if self.partial is None:
            return
        if self.copy is not None and (written := self.copy.take_written()):
            self.partial.take_copied(written, self.copy.names)
        for request in self.requests:
            self.partial.done.add(request.start, request.position)
        hasher = self.partial.hasher
        hasher.allow(self.partial.done.reach(hasher.digest.front))

    def waiting_parts(self, now_s: float) -> Iterator[Part]:
        """Parts whose bytes are missing and whose wait, if any, is over."""
        for part in self.parts[self.proven_parts :]:
            is_there = part.end is not None and self.done.reach(part.start) >= part.end
            if not is_there and now_s >= part.troubles.retry_at_s:
                yield part

    def next_request(self, now_s: float, length_bytes: int) -> RangeRequest | None:
        """The next range that nobody fetches; None without any that can be asked for now."""
        if self.partial is None:
            return None
        for part in self.waiting_parts(now_s):
            if part.remote is not None and (found := self._free_range(part, length_bytes)) is not None:
                request = RangeRequest(part.source(), self.partial, part.start, *found)
                self.requests.append(request)
                return request
        return None

    def split(self, request: RangeRequest, at: int) -> RangeRequest | None:
        """The tail of a running request as a new one; None where the connection is beyond that by now."""
        end = request.end
        if self.partial is None or end is None or not request.cut(at):
            return None
        tail = RangeRequest(request.source, self.partial, request.part_offset, at, end)
        self.requests.append(tail)
        return tail

    def part_of(self, request: RangeRequest) -> Part:
        """The part that a request belongs to."""
        return next(part for part in self.parts if part.start == request.part_offset)

    def end_request(self, request: RangeRequest) -> None:
        """It is over, one way or the other: keep what it wrote."""
        request.revoke()
        self.requests.remove(request)
        self.done.add(request.start, request.position)

    def end_copy(self) -> None:
        """Copy nothing more, and keep what was copied; the rest can be fetched."""
        if self.copy is not None:
            self.copy.revoke()
            self.update_done()
            self.copy = None

    def forget_copied(self, index: int) -> bool:
        """A part is wrong and some of it was copied: count that as missing and hash it again.

        Returns:
            False where nothing was copied.

        Raises:
            OSError: The journal cannot be written.
        """
        if self.partial is None or not self.partial.copied.ranges.total_bytes:
            return False
        self.partial.forget_copied()
        start = self.parts[index].start
        self.partial.hasher.rewind(index, self.done.reach(start))
        self.proven_parts = min(self.proven_parts, index)
        return True

    def forget_part(self, index: int) -> None:
        """The bytes of a part are wrong: count them as missing and hash it again; none of its requests runs any more.

        Raises:
            OSError: The journal cannot be written.
        """
        if self.partial is None:
            return
        self.end_copy()
        part = self.parts[index]
        self.partial.forget(part.start, self.done.last_end if part.end is None else part.end)
        self.partial.hasher.rewind(index, part.start)
        self.proven_parts = min(self.proven_parts, index)

    def sync_is_due(self, now_s: float) -> bool:
        """Whether enough was written since the last sync to begin another."""
        if self.partial is None or self.is_syncing:
            return False
        new = self.partial.done.total_bytes - self.partial.synced.total_bytes
        return new >= SYNC_BYTES or (new > 0 and now_s - self._synced_s >= SYNC_S)

    def begin_sync(self, now_s: float) -> None:
        """A sync starts now."""
        self.is_syncing = True
        self._synced_s = now_s

    def progress(self) -> list[FileProgress]:
        """One for each part."""
        return [FileProgress(*self._part_progress(part), *self._part_steps(part)) for part in self.parts]

    def _free_range(self, part: Part, length_bytes: int) -> tuple[int, int | None] | None:
        mine = [request for request in self.requests if request.part_offset == part.start]
        if part.is_sequential:
            return None if mine else (part.start, part.end)
        if part.end is None:
            return None
        taken = [(request.start, request.end) for request in mine if request.end is not None]
        if self._stage is Stage.COMPARING:
            return self._free_wanted_range(taken, length_bytes)
        if self.copy is not None:
            taken += self.copy.pending
        return next_range(self.done, taken, part.start, part.end, length_bytes)

    def _free_wanted_range(self, taken: list[Range], length_bytes: int) -> Range | None:
        """Of what is compared, the first bytes that nobody has and nobody fetches."""
        while self.wanted_first and self.done.reach(self.wanted_first[0][0]) >= self.wanted_first[0][1]:
            del self.wanted_first[0]
        found = (next_range(self.done, taken, start, end, length_bytes) for start, end in self.wanted_first)
        return next(filter(None, found), None)

    def _part_progress(self, part: Part) -> tuple[int, ShardStatus]:
        size = None if part.end is None else part.end - part.start
        if self._stage is Stage.DONE:
            return size or 0, ShardStatus.FINISHED
        if self._stage is Stage.CHECKING and self.check is not None:
            return self._check_progress(self.check, part, size)
        if self._stage is Stage.PENDING:
            return self._left_bytes(part), ShardStatus.QUEUED
        if self.partial is None:
            return self._left_bytes(part), ShardStatus.DOWNLOADING
        count = self.done.bytes_within(part.start, self.done.last_end if part.end is None else part.end)
        return count, ShardStatus.VERIFYING if count == size else ShardStatus.DOWNLOADING

    def _part_steps(self, part: Part) -> tuple[tuple[int, ...], int]:
        """Where its bytes stand and how far the digest is, in steps of its bar; of what is not fetched now, nothing."""
        if self.partial is None or part.end is None or part.end <= part.start or self._stage is Stage.DONE:
            return (), 0
        verified_bytes = min(max(0, self.partial.hasher.digest.front - part.start), part.end - part.start)
        verified_steps = verified_bytes * BAR_STEPS // (part.end - part.start)
        return self.done.steps_within(part.start, part.end, BAR_STEPS), verified_steps

    def _left_bytes(self, part: Part) -> int:
        return self.left.bytes_within(part.start, part.start if part.end is None else part.end)

    def _check_progress(self, check: TargetCheck, part: Part, size: int | None) -> tuple[int, ShardStatus]:
        hashed, owners = check.hashed_bytes, check.owner_bytes
        reached = hashed if hashed is not None else owners
        count = self._left_bytes(part) if reached is None else max(0, reached - part.start)
        status = ShardStatus.VERIFYING if hashed is not None else ShardStatus.DOWNLOADING
        return (count if size is None else min(count, size)), status


def targets_of(command: StartTransfer, endpoint: str, timeouts: Timeouts) -> Iterator[Target]:
    """The files of a command by target, in the order of their first part."""
    by_target: dict[str, list[tuple[int, PlannedFile]]] = {}
    for index, file in enumerate(command.files):
        by_target.setdefault(file.target, []).append((index, file))
    address = partial(FileAddress, endpoint, command.repo_id, command.commit_sha)
    for files in by_target.values():
        yield Target(sorted(files, key=lambda item: item[1].offset_bytes), address, timeouts)
