"""One file of a transfer; `DownloadFile` is the only owner of its state.

It knows the remote parts, which bytes are on the disk (`pieces`), which `Request` fetches which of the others, the
lease, and what is proven right. Only the transfer's thread uses it. A `Request` is a run of pieces that one connection
fetches: it writes and hashes under its lock, only until it is revoked and only up to its end, which the transfer may
reduce. So two connections never write the same byte, and once `revoke` has returned, the request writes and hashes nothing more.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.download import PlannedFile, StoredFile
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.domain.values import TransitionTable
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
_BEHIND_BYTES: Final = 16 * MIB
# A connection that received less before it broke counts as one that received nothing. The value is small enough that a
# transfer on a slow line that breaks often never fails while bytes arrive.
_WORTH_BYTES: Final = 4 * 1024
# An arriving file's header is parsed at these lengths: it may have some megabytes, and each attempt reads all of it again.
_FIRST_LOOK_BYTES: Final = 256 * 1024
_LAST_LOOK_BYTES: Final = 64 * MIB
_LOOKS_GROW: Final = 4


class Stage(StrEnum):
    """The stage of a file."""

    PENDING = "pending"
    CHECKING = "checking"
    COMPARING = "comparing"
    FETCHING = "fetching"
    FINALIZING = "finalizing"
    DONE = "done"

    @property
    def is_fetching(self) -> bool:
        """Whether its partial file takes bytes from connections; during a comparison only the bytes that are compared."""
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
        # Another process writes the file: wait as at the beginning, then find the file finished or continue it.
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
        end: Where it ends there; None if its size is unknown.
        remote: Where its bytes are; None if the hub has to be asked (again).
        is_asked: The hub has answered once, so its digest is as known as it can be.
        is_whole: The server sends only the whole.
        is_refetched: It was wrong once.
        sha256: Its expected SHA-256, from the plan or the hub; None if the hub does not state it.
        wrong_sha256: Its actual SHA-256 when it was wrong.
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
        """Its size; None if unknown."""
        return None if self.end is None else self.end - self.start

    @property
    def needs_digest(self) -> bool:
        """Whether to ask the hub for its digest before a file on this machine is accepted in its place."""
        return self.sha256 is None and not self.is_asked

    @property
    def known(self) -> PlannedFile:
        """The planned file, with the facts that the hub has added since."""
        return replace(self.planned, size_bytes=self.size_bytes, sha256=self.sha256)

    def resolved(self, remote: Remote) -> None:
        """Record the hub's answer: where its bytes are, and perhaps how many."""
        self.remote = remote
        self.is_asked = True
        if self.sha256 is None and remote.sha256 is not None:
            self.sha256, self._is_guessed = remote.sha256, remote.has_guessed_sha256
        if self.end is None and remote.size_bytes is not None:
            self.end = self.start + remote.size_bytes
        self.is_whole = self.is_whole or not remote.takes_ranges or self.end is None

    def redirected(self, error: ExchangeError) -> None:
        """Record the address that the storage redirects to; it is asked next."""
        assert isinstance(error, MovedError) and self.remote is not None  # noqa: S101, PT018  # the only error for this
        url = follow(self.remote.url, error.location, self.address, has_digest=self.sha256 is not None)
        self.remote = replace(self.remote, url=url)

    def is_right(self, actual: str) -> bool:
        """Whether these are its bytes, by their SHA-256.

        A guessed digest (an `ETag` of a mirror) proves nothing against bytes that arrived twice with the same SHA-256: from then
        on the part has no known digest.
        """
        if self._is_guessed and actual == self.wrong_sha256:
            self.sha256 = None
        self.wrong_sha256 = None if self.sha256 in (None, actual) else actual
        return self.wrong_sha256 is None


class Request:
    """A run of pieces that a connection fetches, by offsets in the file; the end is None if unknown.

    The connection's thread moves `position`, the next byte to be written; the transfer's thread moves `end`. With `is_whole`,
    it asks the server for the whole part, without a range.
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
        """The range to request: start, end (None: the whole) and the size of the remote file (None if unknown)."""
        offset = self.part.start
        end = None if self.end is None or self.is_whole else self.end - offset
        return self.position - offset, end, self.part.size_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes received so far."""
        return self.position - self.start

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to fetch."""
        return self._is_revoked or self.position == self.end

    def forgive_if_received(self) -> None:
        """Reset the part's failures if the request received enough bytes, or all. Called by the transfer's thread."""
        # The bytes of a server that sends only the whole are lost when the connection breaks.
        has_gained = self.received_bytes >= _WORTH_BYTES and not self.is_whole
        if has_gained or self.position == self.end:
            self.part.troubles.received()

    def write(self, view: memoryview, free: Callable[[], None]) -> bool:
        """Write and hash the next bytes; bytes beyond the end are dropped. Called by the connection's thread.

        Returns:
            Whether the buffer is in use until `free` is called.

        Raises:
            LeaseLostError: Another process may own the file.
            TransferError: The bytes cannot be written.
        """
        with self._lock:
            if self._is_revoked:
                return False
            if self.end is not None:
                view = view[: self.end - self.position]
            at = self.position
            try:
                self._opened.write(at, view)
            except OSError as error:
                raise storage_error(error, self._opened.path) from error
            self.position = at + len(view)
            return self._opened.hasher.offer(self.start, at, view, free)

    def cut(self, end: int) -> bool:
        """Reduce the end; False if the connection has passed it already. Called by the transfer's thread."""
        with self._lock:
            if self._is_revoked or self.position > end:
                return False
            self.end = end
            return True

    def end_here(self) -> None:
        """Record the end of a body of unknown length. Called by the connection's thread."""
        with self._lock:
            self.end = self.position

    def revoke(self) -> None:
        """Stop the request: once this returns, it writes and hashes nothing. Called by the transfer's thread."""
        with self._lock:
            self._is_revoked = True


class DownloadFile:
    """One file on the disk.

    Attributes:
        indexes: The positions of its parts in the command's list.
        version: Grows when the partial file is replaced or loses bytes; results of jobs for an earlier version are ignored.
        check: The check before the first byte; None while pending.
        seen_lease: The state of its lease when the transfer began.
        opened: Its partial file while fetching and finalizing.
        left: The bytes that earlier runs left; counted until the file is open.
        stored: Set when done.
        proven_parts: How many parts have the right digest.
        facts: The facts in its GGUF header; None until it was read.
        mirrors: Hosts of the mirrors that sent bytes of it.
        wanted_first: During a comparison, the only bytes that are fetched, in order.
        comparison: Takes its next step once these bytes have arrived; None while a step runs.
        copy: The copying of tensors into it; None before and after.
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
        self.mirrors: list[str] = []
        self.stored: StoredFile | None = None
        self.is_linked = False
        self.donors: tuple[CopySource, ...] = ()
        self.copy: TensorCopy | None = None
        self.left = RangeSet()
        self._synced_s = 0.0
        self._begin()

    def _begin(self) -> None:
        """Reset what is known of the partial file."""
        self.version += 1
        self.proven_parts = 0
        self.facts: Facts | None = None
        self._next_look_bytes: int | None = _FIRST_LOOK_BYTES
        self.wanted_first: list[Range] = []
        self.comparison: Comparison | None = None
        self._is_syncing = False

    # Where it is -----------------------------------------------------------------------------------------------------

    def advance(self, cause: Cause) -> None:
        """Enter the next stage, from the table."""
        self.stage = TRANSITIONS.following(self.stage, cause)

    @property
    def lease(self) -> Lease | None:
        """Its lease once this process has acquired it; None before."""
        return self.check.lease if self.check is not None and self.check.has_lease else None

    @property
    def is_renaming(self) -> bool:
        """Whether it has its final name already, and the `Finalized` event is on its way."""
        return self.stage is Stage.FINALIZING and self.opened is not None and self.opened.is_renamed

    def is_ours(self) -> bool:
        """Whether this process still holds the lease and the path still leads to the open file; asks the filesystem."""
        return self.lease is not None and self.lease.is_ours() and self.opened is not None and self.opened.is_in_place

    def renew(self) -> bool:
        """Write the heartbeat of the lease, if it has one; False if another process has the file.

        A lease that is lost while the file is opened or finalized is detected by that job.
        """
        if self.lease is None or self.stage in (Stage.PENDING, Stage.DONE):
            return True
        return self.lease.renew(self.downloaded_bytes) or not self.stage.is_fetching or self.is_opening

    @property
    def size_bytes(self) -> int | None:
        """Size of the whole file; None if unknown."""
        return self.parts[-1].end

    @property
    def identities(self) -> tuple[PartIdentity, ...]:
        """The identities of its parts, as in its journal."""
        return tuple(PartIdentity.of(part.planned, part.size_bytes, part.address.revision or "") for part in self.parts)

    @property
    def needs_digest(self) -> bool:
        """Whether to ask the hub for a digest before a file on this machine is accepted in its place."""
        return any(part.needs_digest for part in self.parts)

    def scan(self, *, is_replaced: bool) -> None:
        """Read what earlier runs left, so that its bytes are counted before the file is opened.

        With `is_replaced`, a file at the target is not the wanted one.
        """
        self.seen_lease = SeenLease.of(self.path)
        if self.size_bytes is not None:
            self.left = present_at(self.path, self.identities, is_replaced=is_replaced)

    def take_opened(self, opened: PartialFile, now_s: float) -> None:
        """Store its opened partial file."""
        self.opened, self._synced_s = opened, now_s
        self.version += 1

    def lost(self) -> None:
        """Another process has the file, or it was deleted: write nothing more and start again from the first stage.

        Raises:
            StorageError: There is now a link on the path to it.
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
        """End the attempt: write the journal, close the file, release the lease. May be called again.

        Raises:
            OSError: The disk refuses.
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
        assert self.opened is not None  # noqa: S101  # the callers have checked
        return self.opened

    @property
    def downloaded_bytes(self) -> int:
        """Its bytes on the disk."""
        return self.left.total_bytes if self.opened is None else self.pieces.present_bytes

    @property
    def absent_bytes(self) -> int:
        """Bytes that have to arrive before it can be verified; 0 if the size is unknown."""
        if self.stage in (Stage.FINALIZING, Stage.DONE):
            return 0
        return max(0, (self.size_bytes or 0) - (0 if self.opened is None else self.pieces.present_bytes))

    @property
    def unassigned_bytes(self) -> int:
        """Bytes that are neither on the disk nor being fetched or copied; 0 if the size is unknown."""
        if self.opened is None:
            return self.absent_bytes
        return 0 if self.size_bytes is None or not self.stage.is_fetching else self.pieces.missing_bytes

    @property
    def has_all_bytes(self) -> bool:
        """Whether every byte is on the disk."""
        return self.opened is not None and self.size_bytes is not None and self.pieces.is_complete

    @property
    def reused(self) -> tuple[int, tuple[str, ...]]:
        """How many bytes were copied from files on this machine, in this run or an earlier one, and the files' names."""
        if self.opened is not None:
            count = self.pieces.copied_bytes
            return count, self.opened.journal.donors if count else ()
        return (0, ()) if self.stored is None else (self.stored.reused_bytes, self.stored.reused_from)

    def settle(self) -> None:
        """Record the bytes that connections and the copying have written, and let the hasher continue."""
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
        """Whether it will have bytes to fetch as soon as it is checked or the hub has answered."""
        is_early = self.stage in (Stage.PENDING, Stage.CHECKING, Stage.COMPARING) or self.is_opening
        return is_early or (self.stage is Stage.FETCHING and any(part.is_resolving for part in self.parts))

    def part_to_resolve(self, now_s: float) -> Part | None:
        """The first part whose location or digest is needed now and unknown; None while the hub is being asked."""
        part: Part | None = None
        if self.stage.is_fetching and not (self.is_opening and self.size_bytes is not None):
            # (Nothing is asked while the file is being opened, so that a full disk is reported first.)
            part = next(self._waiting_parts(now_s), None)
        elif self.stage is Stage.CHECKING and self.check is None:
            unknown = (one for one in self.parts if one.needs_digest and now_s >= one.troubles.retry_at_s)
            part = next(unknown, None)
        return part if part is not None and part.remote is None and not part.is_resolving else None

    def _waiting_parts(self, now_s: float) -> Iterator[Part]:
        """Parts with missing bytes whose wait, if any, is over."""
        for part in self.parts[self.proven_parts :]:
            is_there = self.opened is not None and part.end is not None and self.pieces.is_present(part.start, part.end)
            if not is_there and now_s >= part.troubles.retry_at_s:
                yield part

    def next_request(self, now_s: float, length_bytes: int, connections: int) -> Request | None:
        """The next missing pieces, at most this many connections' window ahead of the digest; None if there are none for now."""
        if self.opened is None or not self.stage.is_fetching:
            return None
        limit = self._window_end(connections)
        for part in self._waiting_parts(now_s):
            found = None if part.remote is None else self._next_range(part, length_bytes, limit)
            if found is not None and part.remote is not None:
                self.pieces.claim(found[0], self.pieces.end if found[1] is None else found[1])
                return self._request(part, part.remote.url, *found)
        return None

    def is_far_ahead(self, connections: int) -> bool:
        """Whether all bytes that may be fetched before the digest advances are fetched."""
        if self.stage is not Stage.FETCHING or self.opened is None or self.size_bytes is None:
            return False
        found = self.pieces.next_missing(0, self.size_bytes, 1)
        return found is not None and found[0] >= self._window_end(connections)

    @property
    def is_digest_behind(self) -> bool:
        """Whether it has many bytes to hash; otherwise its front waits for a slow connection."""
        return self._partial.hasher.behind_bytes >= _BEHIND_BYTES

    def _window_end(self, connections: int) -> int:
        """The end of the bytes that may be fetched now. Fetching does not wait until the bytes of an earlier run are hashed."""
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
        """The range for a server that sends only the whole: it starts at the first byte, whatever is on the disk."""
        if any(request.part is part for request in self.requests):
            return None
        if self.pieces.present_within(part.start, self._end_of(part)) or self.copy is not None:
            self.forget(part)
        return part.start, part.end

    def _next_wanted(self, length_bytes: int) -> Range | None:
        """The first bytes of the comparison that are neither on the disk nor being fetched."""
        while self.wanted_first and self.pieces.is_present(*self.wanted_first[0]):
            del self.wanted_first[0]
        found = (self.pieces.next_missing(start, end, length_bytes) for start, end in self.wanted_first)
        return next(filter(None, found), None)

    def _request(self, part: Part, url: str, start: int, end: int | None) -> Request:
        request = Request(self, self._partial, part, url, start, end)
        self.requests.append(request)
        return request

    def take_over(self, request: Request, at: int) -> Request | None:
        """The tail of a running request as a new request; None if the connection has passed that offset."""
        end = request.end
        return self._request(request.part, request.url, at, end) if end is not None and request.cut(at) else None

    def end_request(self, request: Request) -> None:
        """End a request that is complete or revoked: the bytes it wrote stay, the rest is missing."""
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
        """Set the end of the last part, whose size was unknown."""
        part.end = end
        if self.opened is not None:
            self.settle()
            self.opened.close_at(end)

    # Tensors of other files ------------------------------------------------------------------------------------------

    def begin_comparison(self, comparison: "Comparison") -> None:
        """Fetch only the bytes that the comparison needs."""
        self.comparison, self.wanted_first = comparison, list(next(comparison))

    def take_comparison(self) -> "tuple[Comparison, RangeSet] | None":
        """The comparison, for its next step, and the bytes it may read, once they are on the disk."""
        comparison = self.comparison
        if comparison is None or not all(self.pieces.is_present(*wanted) for wanted in self.wanted_first):
            return None
        self.comparison = None
        return comparison, self.pieces.present(is_fetched=True)

    def end_comparison(self) -> None:
        """Fetch all missing bytes from now on."""
        self.wanted_first, self.comparison = [], None
        self.advance(Cause.COMPARED)

    def begin_copy(self, copy: "TensorCopy") -> None:
        """Copy bytes that are neither on the disk nor being fetched."""
        self.copy = copy
        for start, end in copy.pending:
            self.pieces.claim(start, end)
        copy.start()

    def end_copy(self) -> None:
        """Stop copying and keep the copied bytes; connections may fetch the rest."""
        if self.copy is not None:
            self.copy.revoke()
            self.settle()
            for start, end in self.copy.pending:
                self.pieces.release(start, end)
            self.copy = None

    # Right or wrong --------------------------------------------------------------------------------------------------

    def verify(self) -> Part | None:
        """Compare the digests computed since the last call with those that the hub states.

        This is the one place that accepts bytes as right: `is_proven` follows from it, and only a proven file gets its
        final name.

        Returns:
            A wrong part, which has to be fetched again, by `forget_copied` or `forget`; None if there is none.

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
        """Whether every part has a digest, and it is equal to the hub's if the hub states one."""
        return self.proven_parts == len(self.parts)

    @property
    def is_verified(self) -> bool:
        """Whether the hub states the digest of every part; only then is a proven file called verified."""
        return all(part.sha256 is not None for part in self.parts)

    @property
    def may_be_a_model(self) -> bool:
        """Whether it is verified, is not named `.gguf`, or begins like a GGUF file."""
        return self.is_verified or self.path.suffix.lower() != ".gguf" or self._partial.head() == b"GGUF"

    def forget(self, part: Part) -> None:
        """Make all bytes of a part missing again, because it is wrong or has to be fetched whole; no request of it runs any more.

        Raises:
            OSError: The journal cannot be written.
        """
        self.end_copy()
        self._partial.forget(part.start, self._end_of(part))
        self._hash_again(part, part.start)

    def forget_copied(self, part: Part) -> bool:
        """Make the copied bytes of a wrong part missing again; False if none of its bytes was copied.

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
        """The error for a part that was wrong twice."""
        return IntegrityError(
            f"{part.planned.path_in_repo} failed its SHA-256 check twice and was deleted. Try again later.",
            expected=part.sha256 or "",
            actual=actual,
        )

    def as_stored(self) -> StoredFile:
        """The file as it will be once it has its final name."""
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
            mirrors=tuple(dict.fromkeys(self.mirrors)),
        )

    # Its header ------------------------------------------------------------------------------------------------------

    def reach_to_look_at(self) -> int | None:
        """How many bytes have arrived, if the header should be parsed now; the next attempt waits for `looked`."""
        wanted_bytes, size_bytes = self._next_look_bytes, self.size_bytes
        if self.opened is None or self.stage is not Stage.FETCHING or wanted_bytes is None or not size_bytes:
            return None
        reach = self.pieces.reach(0)
        if reach < min(wanted_bytes, size_bytes):
            return None
        self._next_look_bytes = None
        return reach

    def looked(self, facts: "Facts | None", reach: int) -> None:
        """Record a parsed header; None: the header was incomplete."""
        self.facts = facts
        self._next_look_bytes = reach * _LOOKS_GROW if facts is None and reach < _LAST_LOOK_BYTES else None

    # The disk --------------------------------------------------------------------------------------------------------

    def begin_sync(self, now_s: float) -> RangeSet | None:
        """The bytes that a sync starting now will bring to the disk; None if no sync is due."""
        new = self.pieces.unsynced_bytes
        if self._is_syncing or not (new >= _SYNC_BYTES or (new > 0 and now_s - self._synced_s >= _SYNC_S)):
            return None
        self._is_syncing, self._synced_s = True, now_s
        return self.pieces.present()

    def synced(self, version: int, ranges: RangeSet) -> None:
        """Record a finished sync: the bytes are on the disk, if the file is still the synced one. Raises `OSError`."""
        self._is_syncing = False
        if version == self.version and self.stage.is_fetching and self.lease is not None and self.lease.is_ours():
            self.pieces.synced(ranges)
            self._partial.record()


def files_of(command: StartTransfer, address: Callable[[str], Asked], timeouts: Timeouts) -> list[DownloadFile]:
    """The files of a command by target, in the order of their first part."""
    by_target: dict[str, list[tuple[int, PlannedFile]]] = {}
    for index, file in enumerate(command.files):
        by_target.setdefault(file.target, []).append((index, file))
    return [
        DownloadFile(sorted(files, key=lambda item: item[1].offset_bytes), address, timeouts)
        for files in by_target.values()
    ]
