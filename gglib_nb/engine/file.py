"""One file of a transfer: the only owner of its state.

`DownloadFile` knows the remote parts, which bytes are on the disk (`pieces`), which `Request` fetches which of the others, the
lease, and how much is proven right. Only the transfer's thread uses it. A `Request` is a run of pieces that one connection
fetches: it writes and hashes under its lock, only while it is not revoked and only up to its end, which the transfer may pull
in. So no byte is written by two connections, and after `revoke` has returned nothing of it is written or hashed any more.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.download import PlannedFile, StoredFile
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.domain.transitions import TransitionTable
from gglib_nb.engine.disk import journal_path, part_path, storage_error
from gglib_nb.engine.http import ExchangeError, MovedError
from gglib_nb.engine.journal import PartIdentity, present_at
from gglib_nb.engine.lease import Lease, SeenLease
from gglib_nb.engine.pacing import window_bytes
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.pieces import MIB, Pieces, Range, RangeSet
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.resolve import Remote, follow
from gglib_nb.engine.retry import Troubles
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import IntegrityError

if TYPE_CHECKING:
    from gglib_nb.engine.local import Facts, TargetCheck
    from gglib_nb.engine.reuse import Comparison, CopySource, TensorCopy

_SYNC_BYTES: Final = 256 * MIB
_SYNC_S: Final = 5.0
# A connection that received less before it broke counts as one that received nothing. Little enough that a line which is
# slow and breaks off often is never given up while bytes come.
_WORTH_BYTES: Final = 4 * 1024
# The header of an arriving file is looked for at these lengths: it may have some megabytes, and each look reads all of it again.
_FIRST_LOOK_BYTES: Final = 256 * 1024
_LAST_LOOK_BYTES: Final = 64 * MIB
_LOOKS_GROW: Final = 4


class Stage(StrEnum):
    """Where a file is."""

    PENDING = "pending"
    CHECKING = "checking"
    COMPARING = "comparing"
    FETCHING = "fetching"
    FINALIZING = "finalizing"
    DONE = "done"

    @property
    def is_fetching(self) -> bool:
        """Whether its partial file takes bytes from connections; while comparing, only those that are compared."""
        return self in (Stage.COMPARING, Stage.FETCHING)


class Cause(StrEnum):
    """Why a file changes its stage."""

    OPENED = "its turn"
    FOUND = "already there, or linked"
    LEASED = "missing, lease acquired"
    HAS_DONORS = "missing, lease acquired, similar files on this disk"
    COMPARED = "comparison complete"
    LEASE_LOST = "lease lost to another process"
    VERIFIED = "all digests match"
    RENAMED = "renamed"


_S = Stage

TRANSITIONS: Final[TransitionTable[Stage, Cause]] = TransitionTable(
    "target",
    first=_S.PENDING,
    steps={
        (_S.PENDING, Cause.OPENED): _S.CHECKING,
        (_S.CHECKING, Cause.FOUND): _S.DONE,
        (_S.CHECKING, Cause.LEASED): _S.FETCHING,
        (_S.CHECKING, Cause.HAS_DONORS): _S.COMPARING,
        (_S.COMPARING, Cause.COMPARED): _S.FETCHING,
        # Another process writes the file now: wait for it as at the beginning, and find it there or continue.
        (_S.COMPARING, Cause.LEASE_LOST): _S.CHECKING,
        (_S.FETCHING, Cause.LEASE_LOST): _S.CHECKING,
        (_S.FETCHING, Cause.VERIFIED): _S.FINALIZING,
        (_S.FINALIZING, Cause.LEASE_LOST): _S.CHECKING,
        (_S.FINALIZING, Cause.RENAMED): _S.DONE,
    },
)


class Part:
    """One remote file; most files on the disk have one, a joined byte split has several.

    Attributes:
        start: Where it begins in the file on the disk.
        end: Where it ends there; None where its size is unknown.
        remote: Where its bytes are; None where the hub has to be asked (again).
        is_asked: The hub has answered once, so that its digest is as known as it can be.
        is_whole: The server sends only the whole.
        is_refetched: It was wrong once.
        sha256: What it must hash to, as far as the hub has said; None where it does not state it.
        wrong_sha256: What it hashed to when that was wrong.
        troubles: What failed since its last new byte.
    """

    def __init__(self, planned: PlannedFile, address: Asked, timeouts: Timeouts) -> None:
        self.planned = planned
        self.address = address
        self.start = planned.offset_bytes
        self.end = None if planned.size_bytes is None else planned.offset_bytes + planned.size_bytes
        self.remote: Remote | None = None
        self.is_resolving = self.is_asked = self.is_whole = self.is_refetched = False
        self.troubles = Troubles(address, timeouts)
        self.sha256 = planned.sha256
        self.wrong_sha256: str | None = None
        self._is_guessed = False

    @property
    def size_bytes(self) -> int | None:
        """Its size; None unknown."""
        return None if self.end is None else self.end - self.start

    @property
    def needs_digest(self) -> bool:
        """Whether the hub should be asked for its digest before any file here is taken for it."""
        return self.sha256 is None and not self.is_asked

    @property
    def known(self) -> PlannedFile:
        """What was planned, with what the hub has said since."""
        return replace(self.planned, size_bytes=self.size_bytes, sha256=self.sha256)

    def resolved(self, remote: Remote) -> None:
        """The hub has said where its bytes are, and perhaps how many."""
        self.remote = remote
        self.is_asked = True
        if self.sha256 is None and remote.sha256 is not None:
            self.sha256, self._is_guessed = remote.sha256, remote.has_guessed_sha256
        if self.end is None and remote.size_bytes is not None:
            self.end = self.start + remote.size_bytes
        self.is_whole = self.is_whole or not remote.takes_ranges or self.end is None

    def redirected(self, error: ExchangeError) -> None:
        """The storage redirects to another address, which is asked next."""
        assert isinstance(error, MovedError) and self.remote is not None  # noqa: S101, PT018  # the only error for this
        url = follow(self.remote.url, error.location, self.address, has_digest=self.sha256 is not None)
        self.remote = replace(self.remote, url=url)

    def is_right(self, actual: str) -> bool:
        """Whether these are its bytes, by their SHA-256.

        A digest that was only guessed (an `ETag` of a mirror) proves nothing against bytes that came twice in the same form:
        then none is known.
        """
        if self._is_guessed and actual == self.wrong_sha256:
            self.sha256 = None
        self.wrong_sha256 = None if self.sha256 in (None, actual) else actual
        return self.wrong_sha256 is None


class Request:
    """A run of pieces that a connection fetches, by offsets in the file; the end is None where unknown.

    The connection's thread moves `position`, the next byte to be written; the transfer's thread moves `end`. With `is_whole`,
    the server is asked for the whole part, without a range.
    """

    def __init__(
        self, file: "DownloadFile", opened: PartialFile, part: Part, url: str, start: int, end: int | None
    ) -> None:
        self.file = file
        self.part = part
        self.url = url
        self.is_whole = part.is_whole
        self.start = self.position = start
        self.end = end
        self._opened = opened
        self._lock = threading.Lock()
        self._is_revoked = False

    @property
    def remote_range(self) -> tuple[int, int | None, int | None]:
        """What to ask the server for: start, end (None: the whole) and the size of the remote file."""
        offset = self.part.start
        end = None if self.end is None or self.is_whole else self.end - offset
        return self.position - offset, end, self.part.size_bytes

    @property
    def received_bytes(self) -> int:
        """What it has brought."""
        return self.position - self.start

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to fetch."""
        return self._is_revoked or self.position == self.end

    def forgive_if_received(self) -> None:
        """Forgive earlier failures if it received something. Called by the transfer's thread."""
        # What a server that gives only the whole has sent is lost when it breaks off.
        has_gained = self.received_bytes >= _WORTH_BYTES and not self.is_whole
        if has_gained or self.position == self.end:
            self.part.troubles.received()

    def write(self, view: memoryview) -> None:
        """Write and hash the next bytes; what is beyond the end is dropped. Called by the connection's thread.

        Raises:
            LeaseLostError: The file may belong to another process.
            TransferError: The bytes cannot be written.
        """
        with self._lock:
            if self._is_revoked:
                return
            if self.end is not None:
                view = view[: self.end - self.position]
            at = self.position
            try:
                self._opened.write(at, view)
            except OSError as error:
                raise storage_error(error, self._opened.path) from error
            self._opened.hasher.offer(self.start, at, view)
            self.position = at + len(view)

    def cut(self, end: int) -> bool:
        """Pull the end in; False where the connection is beyond it already. Called by the transfer's thread."""
        with self._lock:
            if self._is_revoked or self.position > end:
                return False
            self.end = end
            return True

    def end_here(self) -> None:
        """The body of unknown length is at its end. Called by the connection's thread."""
        with self._lock:
            self.end = self.position

    def revoke(self) -> None:
        """Nothing is written or hashed any more once this has returned. Called by the transfer's thread."""
        with self._lock:
            self._is_revoked = True


class DownloadFile:
    """One file on the disk.

    Attributes:
        indexes: The places of its parts in the command's list.
        version: Grows when the partial file is another one or loses bytes: what a job read or synced before says nothing then.
        check: What is looked at before the first byte; None while pending.
        seen_lease: What was seen of its lease when the transfer began.
        opened: Its partial file while fetching and finalizing.
        left: What earlier runs left of it; counted until it is open.
        stored: Set when done.
        proven_parts: How many parts hashed right.
        facts: What its GGUF header says; None until it was read.
        wanted_first: While comparing, the only bytes that are fetched, in order.
        comparison: Takes its next step once these bytes have arrived; None while a step is under way.
        copy: Tensors are being copied into it; None before and after.
    """

    def __init__(
        self, files: list[tuple[int, PlannedFile]], address: Callable[[str], Asked], timeouts: Timeouts
    ) -> None:
        self.indexes = [index for index, _ in files]
        self.parts = [Part(planned, address(planned.path_in_repo), timeouts) for _, planned in files]
        self.path = Path(files[0][1].target)
        self.stage = Stage.PENDING
        self.version = 0
        self.check: TargetCheck | None = None
        self.seen_lease: SeenLease | None = None
        self.is_opening = False
        self.opened: PartialFile | None = None
        self.requests: list[Request] = []
        self.stored: StoredFile | None = None
        self.is_linked = False
        self.donors: tuple[CopySource, ...] = ()
        self.copy: TensorCopy | None = None
        self.left = RangeSet()
        self._synced_s = 0.0
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of the partial file."""
        self.version += 1
        self.proven_parts = 0
        self.facts: Facts | None = None
        self._next_look_bytes: int | None = _FIRST_LOOK_BYTES
        self.wanted_first: list[Range] = []
        self.comparison: Comparison | None = None
        self._is_syncing = False

    # Where it is -----------------------------------------------------------------------------------------------------

    def advance(self, cause: Cause) -> None:
        """Go to the stage that the table names."""
        self.stage = TRANSITIONS.following(self.stage, cause)

    @property
    def lease(self) -> Lease | None:
        """Its lease once this process has acquired it; None before."""
        return self.check.lease if self.check is not None and self.check.has_lease else None

    @property
    def is_renaming(self) -> bool:
        """Whether it has its final name already, and the event is under way."""
        return self.stage is Stage.FINALIZING and self.opened is not None and self.opened.is_renamed

    def is_ours(self) -> bool:
        """Whether the lease is still ours and the path still leads to the open file; asks the filesystem."""
        return self.lease is not None and self.lease.is_ours() and self.opened is not None and self.opened.is_in_place

    def renew(self) -> bool:
        """Write the heartbeat of the lease, if it has one; False when another process has the file.

        A lease that is lost while the file is being opened or finalized is noticed there.
        """
        if self.lease is None or self.stage in (Stage.PENDING, Stage.DONE):
            return True
        return self.lease.renew(self.downloaded_bytes) or not self.stage.is_fetching or self.is_opening

    @property
    def size_bytes(self) -> int | None:
        """Of the whole; None unknown."""
        return self.parts[-1].end

    @property
    def identities(self) -> tuple[PartIdentity, ...]:
        """What its journal says it is."""
        return tuple(PartIdentity.of(part.planned, part.size_bytes, part.address.revision or "") for part in self.parts)

    @property
    def needs_digest(self) -> bool:
        """Whether the hub should be asked for a digest before any file here is taken for it."""
        return any(part.needs_digest for part in self.parts)

    def scan(self, *, is_replaced: bool) -> None:
        """See what earlier runs left, so that its bytes count before it is this file's turn.

        With `is_replaced`, a file at the target is not the one that is wanted.
        """
        self.seen_lease = SeenLease.of(self.path)
        if self.size_bytes is not None:
            self.left = present_at(self.path, self.identities, is_replaced=is_replaced)

    def take_opened(self, opened: PartialFile, now_s: float) -> None:
        """Its partial file is open."""
        self.opened, self._synced_s = opened, now_s
        self.version += 1

    def lost(self) -> None:
        """Another process has the file, or it was taken away: write nothing more, and begin as at the beginning.

        Raises:
            StorageError: There is a link now on the way to it.
        """
        self._end_all()
        opened, self.opened = self.opened, None
        if self.check is not None:
            self.check.lease.release()
        if opened is not None and self.stage.is_fetching:
            opened.close(is_ours=False)
            opened.check_folder()
        self._begin()
        self.advance(Cause.LEASE_LOST)

    def close(self) -> None:
        """The attempt ends: write the journal, close the file, give the lease back. Harmless when repeated.

        Raises:
            OSError: The disk cannot do it.
        """
        self._end_all()
        lease, opened = self.lease, self.opened if self.stage.is_fetching else None
        if lease is None:
            return
        try:
            if opened is not None:
                is_ours, self.opened = lease.is_ours(), None
                opened.close(is_ours=is_ours)
                if is_ours and not opened.pieces.present_bytes:
                    part_path(self.path).unlink(missing_ok=True)
                    journal_path(self.path).unlink(missing_ok=True)
        finally:
            lease.release()

    # Its bytes -------------------------------------------------------------------------------------------------------

    @property
    def pieces(self) -> Pieces:
        """The states of its bytes, while it is open."""
        return self._partial.pieces

    @property
    def _partial(self) -> PartialFile:
        assert self.opened is not None  # noqa: S101  # the callers have looked
        return self.opened

    @property
    def downloaded_bytes(self) -> int:
        """Its bytes on the disk."""
        return self.left.total_bytes if self.opened is None else self.pieces.present_bytes

    @property
    def absent_bytes(self) -> int:
        """What has to come before it can be verified; 0 where the size is unknown."""
        if self.stage in (Stage.FINALIZING, Stage.DONE):
            return 0
        return max(0, (self.size_bytes or 0) - (0 if self.opened is None else self.pieces.present_bytes))

    @property
    def unassigned_bytes(self) -> int:
        """What neither is on the disk nor is being fetched or copied; 0 where the size is unknown."""
        if self.opened is None:
            return self.absent_bytes
        return 0 if self.size_bytes is None or not self.stage.is_fetching else self.pieces.missing_bytes

    @property
    def has_all_bytes(self) -> bool:
        """Whether every byte is on the disk."""
        return self.opened is not None and self.size_bytes is not None and self.pieces.is_complete

    @property
    def reused(self) -> tuple[int, tuple[str, ...]]:
        """How many bytes were copied from files of this machine, in this run or an earlier one, and their names."""
        if self.opened is not None:
            count = self.pieces.copied_bytes
            return count, self.opened.journal.donors if count else ()
        return (0, ()) if self.stored is None else (self.stored.reused_bytes, self.stored.reused_from)

    def settle(self) -> None:
        """Take note of what connections and the copying have written, and let the digest follow."""
        if self.opened is None:
            return
        for request in self.requests:
            self.pieces.settle(request.start, request.position)
        if self.copy is not None and (written := self.copy.take_written()):
            for start, end in written:
                self.pieces.settle(start, end, is_copied=True)
            self.opened.came_from(self.copy.names)
        hasher = self.opened.hasher
        hasher.allow(self.pieces.reach(hasher.digest.front))

    # Requests --------------------------------------------------------------------------------------------------------

    @property
    def will_have_requests(self) -> bool:
        """Whether it will have something to fetch as soon as it is checked or the hub has answered."""
        is_early = self.stage in (Stage.PENDING, Stage.CHECKING, Stage.COMPARING) or self.is_opening
        return is_early or (self.stage is Stage.FETCHING and any(part.is_resolving for part in self.parts))

    def part_to_resolve(self, now_s: float) -> Part | None:
        """The first part whose place, or whose digest, is needed now and not known; None while the hub is being asked."""
        part: Part | None = None
        if self.stage.is_fetching and not (self.is_opening and self.size_bytes is not None):
            # (While it is being opened nothing is asked, so that a full disk is noticed first.)
            part = next(self._waiting_parts(now_s), None)
        elif self.stage is Stage.CHECKING and self.check is None:
            unknown = (one for one in self.parts if one.needs_digest and now_s >= one.troubles.retry_at_s)
            part = next(unknown, None)
        return part if part is not None and part.remote is None and not part.is_resolving else None

    def _waiting_parts(self, now_s: float) -> Iterator[Part]:
        """Parts whose bytes are missing and whose wait, if any, is over."""
        for part in self.parts[self.proven_parts :]:
            is_there = self.opened is not None and part.end is not None and self.pieces.is_present(part.start, part.end)
            if not is_there and now_s >= part.troubles.retry_at_s:
                yield part

    def next_request(self, now_s: float, length_bytes: int, connections: int) -> Request | None:
        """The next missing pieces, at most a window for so many connections ahead of the digest; None without any for now."""
        if self.opened is None or not self.stage.is_fetching:
            return None
        limit = self._window_end(connections)
        for part in self._waiting_parts(now_s):
            found = None if part.remote is None else self._next_range(part, length_bytes, limit)
            if found is not None and part.remote is not None:
                self.pieces.claim(found[0], self.pieces.end if found[1] is None else found[1])
                return self._request(part, part.remote.url, *found)
        return None

    def _window_end(self, connections: int) -> int:
        """Up to where bytes are fetched now. What an earlier run left is hashed meanwhile and delays nothing."""
        front = self._partial.hasher.digest.front
        if self.copy is not None:
            return self.pieces.end
        if front < self._partial.left_end:
            front = self.pieces.reach(front)
        return front + window_bytes(connections)

    def _next_range(self, part: Part, length_bytes: int, limit: int) -> tuple[int, int | None] | None:
        if part.is_whole:
            return self._whole(part)
        if part.end is None:
            return None
        if self.stage is Stage.COMPARING:
            return self._next_wanted(length_bytes)
        found = self.pieces.next_missing(part.start, part.end, length_bytes)
        return found if found is not None and found[0] < limit else None

    def _whole(self, part: Part) -> tuple[int, int | None] | None:
        """A server that sends the whole begins with the first byte, whatever is on the disk."""
        if any(request.part is part for request in self.requests):
            return None
        if self.pieces.present_within(part.start, self._end_of(part)) or self.copy is not None:
            self.forget(part)
        return part.start, part.end

    def _next_wanted(self, length_bytes: int) -> Range | None:
        """The first bytes of what is compared that are neither on the disk nor being fetched."""
        while self.wanted_first and self.pieces.is_present(*self.wanted_first[0]):
            del self.wanted_first[0]
        found = (self.pieces.next_missing(start, end, length_bytes) for start, end in self.wanted_first)
        return next(filter(None, found), None)

    def _request(self, part: Part, url: str, start: int, end: int | None) -> Request:
        request = Request(self, self._partial, part, url, start, end)
        self.requests.append(request)
        return request

    def take_over(self, request: Request, at: int) -> Request | None:
        """The tail of a running request as a new one; None where the connection is beyond that by now."""
        end = request.end
        return self._request(request.part, request.url, at, end) if end is not None and request.cut(at) else None

    def end_request(self, request: Request) -> None:
        """It is complete, or taken away: what it wrote stays, the rest is missing."""
        request.revoke()
        self.requests.remove(request)
        if self.opened is not None:
            self.pieces.settle(request.start, request.position)
            self.pieces.release(request.start, self.pieces.end if request.end is None else request.end)

    def _end_all(self) -> None:
        for request in list(self.requests):
            self.end_request(request)
        self.end_copy()

    def _end_of(self, part: Part) -> int:
        return self.pieces.end if part.end is None else part.end

    def ended_at(self, part: Part, end: int) -> None:
        """The size of the last part was unknown and turned out to be this."""
        part.end = end
        if self.opened is not None:
            self.settle()
            self.opened.close_at(end)

    # Tensors of other files ------------------------------------------------------------------------------------------

    def begin_comparison(self, comparison: "Comparison") -> None:
        """Fetch only what the comparison wants."""
        self.comparison, self.wanted_first = comparison, list(next(comparison))

    def take_comparison(self) -> "tuple[Comparison, RangeSet] | None":
        """The comparison, for its next step, and what it may look at, once its bytes are on the disk."""
        comparison = self.comparison
        if comparison is None or not all(self.pieces.is_present(*wanted) for wanted in self.wanted_first):
            return None
        self.comparison = None
        return comparison, self.pieces.present(is_fetched=True)

    def end_comparison(self) -> None:
        """Fetch everything that is missing from now on."""
        self.wanted_first, self.comparison = [], None
        self.advance(Cause.COMPARED)

    def begin_copy(self, copy: "TensorCopy") -> None:
        """Copy what is neither on the disk nor being fetched."""
        self.copy = copy
        for start, end in copy.pending:
            self.pieces.claim(start, end)
        copy.start()

    def end_copy(self) -> None:
        """Copy nothing more, and keep what was copied; the rest can be fetched."""
        if self.copy is not None:
            self.copy.revoke()
            self.settle()
            for start, end in self.copy.pending:
                self.pieces.release(start, end)
            self.copy = None

    # Right or wrong --------------------------------------------------------------------------------------------------

    def verify(self) -> Part | None:
        """Compare the digests that have come since the last call with what the hub states.

        This is the one place where bytes are found right: `is_proven` follows from it, and only a file that is proven gets its
        name.

        Returns:
            A part that was wrong and has to be fetched again, by `forget_copied` or `forget`; None without one.

        Raises:
            TransferError: The partial file cannot be read.
        """
        hasher = self._partial.hasher
        if hasher.error is not None:
            raise storage_error(hasher.error, self.path) if isinstance(hasher.error, OSError) else hasher.error
        for actual in hasher.digest.digests[self.proven_parts :]:
            part = self.parts[self.proven_parts]
            if not part.is_right(actual):
                return part
            self.proven_parts += 1
        return None

    @property
    def is_proven(self) -> bool:
        """Whether every part has its digest, and it is the one that the hub states, where it states one."""
        return self.proven_parts == len(self.parts)

    @property
    def is_verified(self) -> bool:
        """Whether the hub states the digest of every part; only then a proven file is called verified."""
        return all(part.sha256 is not None for part in self.parts)

    @property
    def may_be_a_model(self) -> bool:
        """Whether a file without a stated digest is at least what its name says."""
        return self.is_verified or self.path.suffix.lower() != ".gguf" or self._partial.head() == b"GGUF"

    def forget(self, part: Part) -> None:
        """A part is wrong, or has to be fetched as a whole: its bytes are missing again; none of its requests runs any more.

        Raises:
            OSError: The journal cannot be written.
        """
        self.end_copy()
        self._partial.forget(part.start, self._end_of(part))
        self._hash_again(part, part.start)

    def forget_copied(self, part: Part) -> bool:
        """A part is wrong and some of it was copied: that is missing again; False where nothing was copied.

        Raises:
            OSError: The journal cannot be written.
        """
        if not self.pieces.copied_bytes:
            return False
        self._partial.forget(0, self.pieces.end, only_copied=True)
        self._hash_again(part, self.pieces.reach(part.start))
        return True

    def _hash_again(self, part: Part, reach: int) -> None:
        index = self.parts.index(part)
        self._partial.hasher.rewind(index, reach)
        self.proven_parts = min(self.proven_parts, index)
        self.version += 1
        self.facts, self._next_look_bytes = None, _FIRST_LOOK_BYTES

    def wrong_twice(self, part: Part, actual: str) -> IntegrityError:
        """The error of a part that was wrong twice."""
        return IntegrityError(
            f"{part.planned.path_in_repo} failed its SHA-256 check twice and was deleted. Try again later.",
            expected=part.sha256 or "",
            actual=actual,
        )

    def as_stored(self) -> StoredFile:
        """What it will be once it has its final name."""
        first, digest = self.parts[0].planned, self._partial.hasher.digest
        count, names = self.reused
        return StoredFile(
            target=str(self.path),
            path_in_repo=first.path_in_repo,
            kind=first.kind,
            size_bytes=self.size_bytes or 0,
            sha256=digest.whole,
            is_verified=self.is_verified,
            mtime_ns=0,
            was_present=False,
            facts=self.facts or {},
            verified_at_s=time.time() if self.is_verified else None,
            block_digests=digest.block_digests,
            reused_bytes=count,
            reused_from=names,
        )

    # Its header ------------------------------------------------------------------------------------------------------

    def reach_to_look_at(self) -> int | None:
        """How much has arrived, if the header should be looked for in it now; the next look then waits for `looked`."""
        wanted_bytes, size_bytes = self._next_look_bytes, self.size_bytes
        if self.opened is None or self.stage is not Stage.FETCHING or wanted_bytes is None or not size_bytes:
            return None
        reach = self.pieces.reach(0)
        if reach < min(wanted_bytes, size_bytes):
            return None
        self._next_look_bytes = None
        return reach

    def looked(self, facts: "Facts | None", reach: int) -> None:
        """The header was looked for; None: it was not there as a whole."""
        self.facts = facts
        self._next_look_bytes = reach * _LOOKS_GROW if facts is None and reach < _LAST_LOOK_BYTES else None

    # The disk --------------------------------------------------------------------------------------------------------

    def begin_sync(self, now_s: float) -> RangeSet | None:
        """What a sync that starts now will bring to the disk; None where none is due."""
        new = self.pieces.unsynced_bytes
        if self._is_syncing or not (new >= _SYNC_BYTES or (new > 0 and now_s - self._synced_s >= _SYNC_S)):
            return None
        self._is_syncing, self._synced_s = True, now_s
        return self.pieces.present()

    def synced(self, version: int, ranges: RangeSet) -> None:
        """A sync is over: those bytes have reached the disk, if the file is still what was synced; raises `OSError`."""
        self._is_syncing = False
        if version == self.version and self.stage.is_fetching and self.lease is not None and self.lease.is_ours():
            self.pieces.synced(ranges)
            self._partial.record()


def files_of(command: StartTransfer, endpoint: str, timeouts: Timeouts) -> list[DownloadFile]:
    """The files of a command by target, in the order of their first part."""
    by_target: dict[str, list[tuple[int, PlannedFile]]] = {}
    for index, file in enumerate(command.files):
        by_target.setdefault(file.target, []).append((index, file))
    address = partial(Asked, endpoint, command.repo_id, command.commit_sha)
    return [
        DownloadFile(sorted(files, key=lambda item: item[1].offset_bytes), address, timeouts)
        for files in by_target.values()
    ]
