"""One file of a transfer; `DownloadFile` is the only owner of its state. Only the transfer's thread uses it.

A `Request` is a run of pieces that one connection fetches, until it is revoked and up to its end, which the transfer
may reduce. So two connections never write the same byte.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from gglib_nb.domain.download import Facts, PlannedFile, StoredFile
from gglib_nb.domain.gguf_reuse import Copy
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine.disk import delete_partial, lease_path, storage_error
from gglib_nb.engine.http import WrongRangeError
from gglib_nb.engine.journal import PartIdentity, runs_at
from gglib_nb.engine.lease import SeenLease, read_lease
from gglib_nb.engine.local import TargetCheck
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.pieces import MIB, UNKNOWN_END, Pieces, Range
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.resolve import Remote, follow
from gglib_nb.engine.retry import Troubles
from gglib_nb.engine.reuse import Comparison, CopySource, TensorCopy
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.system import clock_s

_SYNC_BYTES: Final = 256 * MIB
_SYNC_S: Final = 5.0
_MOST_DONORS: Final = 8
# An arriving file's header is parsed at these lengths: it may have megabytes, and each attempt reads all of it.
_FIRST_LOOK_BYTES: Final = 256 * 1024
_LAST_LOOK_BYTES: Final = 64 * MIB
_LOOKS_GROW: Final = 4


class Stage(StrEnum):
    """The stages of a file, in their order; `DownloadFile.reopen` begins again with the check."""

    PENDING = "pending"
    CHECKING = "checking"  # asks the hub what is unknown, then finds the file on this machine or opens its partial file
    FETCHING = "fetching"
    FINALIZING = "finalizing"  # every part is proven
    DONE = "done"


class Part:
    """One remote file; most files on the disk have one, a joined byte split has several."""

    def __init__(self, planned: PlannedFile, address: Asked, timeouts: Timeouts, index: int = 0) -> None:
        self.planned = planned
        self.index = index  # in the command's list
        self.address = address
        self.start = planned.offset_bytes  # in the file on the disk
        self.end = UNKNOWN_END if planned.size_bytes is None else planned.offset_bytes + planned.size_bytes
        self.remote: Remote | None = None  # where its bytes are; None if the hub has to be asked (again)
        self.is_asked = False  # the hub has answered once, so its digest is as known as it can be
        self.is_whole = False  # the server sends only the whole
        self.sha256 = planned.sha256  # expected; None if the hub does not state it
        self.is_verified = False  # its bytes were compared with a stated digest, and are right
        self.wrong_sha256: str | None = None  # the actual one when it was wrong
        self.is_refetched = False  # it was wrong once
        self.troubles = Troubles(address, timeouts)  # what failed since its last new byte
        self._is_guessed = False

    @property
    def size_bytes(self) -> int | None:
        """Its size; None if unknown."""
        return None if self.end == UNKNOWN_END else self.end - self.start

    @property
    def needs_facts(self) -> bool:
        """Whether to ask the hub for its digest or size before a file on this machine is accepted in its place."""
        return None in (self.sha256, self.size_bytes) and not self.is_asked

    def resolved(self, remote: Remote, *, has_bytes: bool) -> None:
        """Record the hub's answer. Ranges are requested even if it ignored its range, with `has_bytes` on the disk."""
        self.remote = remote
        if self.sha256 is None and remote.sha256 is not None:
            self.sha256, self._is_guessed = remote.sha256, remote.has_guessed_sha256
        if not self.is_asked and self.size_bytes is None and remote.size_bytes is not None:
            self.end = self.start + remote.size_bytes
        self.is_asked = True
        self.is_whole = self.is_whole or not (remote.takes_ranges or has_bytes) or self.size_bytes is None

    def is_right(self, actual: str) -> bool:
        """Whether these are its bytes, by their SHA-256.

        A guessed digest (an `ETag` of a mirror) proves nothing against bytes that arrived twice with the same SHA-256.
        """
        if self._is_guessed and actual == self.wrong_sha256:
            self.sha256 = None
        self.wrong_sha256 = None if self.sha256 in (None, actual) else actual
        self.is_verified = self.sha256 == actual
        return self.wrong_sha256 is None


class Request:
    """A run of pieces that a connection fetches, by offsets in the file."""

    def __init__(
        self, file: "DownloadFile", opened: PartialFile, part: Part, remote: Remote, start: int, end: int
    ) -> None:
        self.file = file
        self.part = part
        self.resolved = remote  # when the request began
        self.remote = remote  # since a redirect of the storage, if any
        self.is_whole = part.is_whole  # it asks the server for the whole part, without a range
        self.start = self.position = start  # the next byte to be written; the connection's thread moves it
        self.end = end  # the transfer's thread moves it; `UNKNOWN_END` until the end of a body of unknown length
        self._opened = opened
        self._lock = threading.Lock()
        self._is_revoked = False

    @property
    def remote_range(self) -> tuple[int, int | None, int | None]:
        """The range to request: start, end (None: the whole) and the size of the remote file (None if unknown)."""
        offset = self.part.start
        end = None if self.is_whole else self.end - offset
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
        """Reset the part's failures if a byte arrived; of a server that sends only the whole, once all have arrived."""
        if self.position == self.end or (self.received_bytes and not self.is_whole):
            self.part.troubles.received()

    def accept(self, version: str) -> None:
        """Refuse, with a `WrongRangeError`, bytes of another version than those on the disk if no digest would find it.

        For the connection's thread, before it writes bytes of an answer.
        """
        with self._lock:
            if self.part.sha256 is not None or self._is_revoked:
                return
            versions, path = self._opened.journal.next.versions, self.part.planned.path_in_repo
            if self.is_whole:
                versions[path] = version
            elif version and versions.setdefault(path, version) != version:
                raise WrongRangeError("a range of another version of the file")

    def write(self, view: memoryview) -> None:
        """Write and hash the next bytes up to the end; `LeaseLostError`, `TransferError`. For a connection's thread."""
        with self._lock:
            if self._is_revoked:
                return
            at, view = self.position, view[: self.end - self.position]
            try:
                self._opened.write(at, view)
            except OSError as error:
                raise storage_error(error, self._opened.path) from error
            self.position = at + len(view)
            self._opened.hasher.offer(self.start, at, view)

    def follow(self, location: str) -> None:
        """Follow the storage's redirect; raises `HubUnavailableError`. For a connection's thread: it may block."""
        has_digest = self.part.sha256 is not None
        self.remote = replace(
            self.remote, url=follow(self.remote.url, location, self.part.address, has_digest=has_digest)
        )

    def cut(self, end: int) -> bool:
        """Reduce the end; False if the connection has passed it already."""
        with self._lock:
            if self._is_revoked or self.position > end:
                return False
            self.end = end
            return True

    def revoke(self) -> None:
        """Stop the request: once this returns, it writes and hashes nothing."""
        with self._lock:
            self._is_revoked = True


class DownloadFile:
    """One file on the disk, made of remote parts."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts  # in their order in the file
        self.path = Path(parts[0].planned.target)
        self.stage = Stage.PENDING
        self.jobs: set[str] = set()  # the names of those that run for it
        self.version = 0  # grows when bytes are lost; results of jobs for an earlier version are ignored
        self.check: TargetCheck | None = None  # None while pending
        self.seen_lease: SeenLease | None = None  # when the transfer began
        self.opened: PartialFile | None = None  # while fetching and finalizing
        self.pieces = Pieces(self.size_bytes)  # before it is open: what earlier runs left
        self.requests: list[Request] = []
        self.mirrors: set[str] = set()  # hosts of the mirrors that sent bytes of it
        self.resolving: Part | None = None  # the part that the job asks the hub for
        self.comparison: Comparison | None = None  # finds what can be copied; None before and after
        self.copy: TensorCopy | None = None  # None before and after
        self.stored: StoredFile | None = None  # once it is done
        self._is_copy_wrong = False  # as in the journal, which is deleted if nothing else was on the disk
        self._synced_s = 0.0
        self._begin_version()

    def _begin_version(self) -> None:
        self.version += 1
        self.jobs &= {"sync"}  # its error counts for any version: the system reports one only once
        self.proven_parts = 0  # how many parts have the right digest
        self.facts: Facts = {}  # of its GGUF header, once it was read
        self._parsed_bytes = 0

    # Where it is -----------------------------------------------------------------------------------------------------

    def renew(self) -> bool:
        """Write the heartbeat of the lease, if it has one; False if another process has the file."""
        check = self.check
        is_ours = check is None or not check.has_lease or check.lease.renew(self.pieces.present_bytes)
        # The jobs that check and finalize a file detect a lost lease themselves.
        return is_ours or self.stage is not Stage.FETCHING

    @property
    def size_bytes(self) -> int | None:
        """Size of the whole file; None if unknown."""
        end = self.parts[-1].end
        return None if end == UNKNOWN_END else end

    @property
    def identities(self) -> tuple[PartIdentity, ...]:
        """The identities of its parts, as in its journal."""
        return tuple(PartIdentity.of(part.planned, part.size_bytes, part.address.revision or "") for part in self.parts)

    def scan(self, *, is_replaced: bool) -> None:
        """Read what earlier runs left; with `is_replaced`, a file at the target is not the wanted one."""
        state = read_lease(lease_path(self.path))
        self.seen_lease = None if state is None else SeenLease(state, clock_s())
        if self.size_bytes is not None:
            self.pieces = Pieces(self.size_bytes, runs_at(self.path, self.identities, is_replaced=is_replaced))

    def begin(self, opened: PartialFile, now_s: float) -> None:
        """Fetch it, into this partial file."""
        self.stage, self.opened, self.pieces, self._synced_s = Stage.FETCHING, opened, opened.pieces, now_s
        self.comparison = None if self.check is None or self._is_copy_wrong else self.check.comparison

    def reopen(self) -> None:
        """Close it and check it again: another process has it, bytes were wrong, or its size has become known.

        Raises `OSError` or `StorageError`.
        """
        if (opened := self.opened) is not None:
            opened.journal.next.parts = self.identities
        self.close()
        self.opened = self.check = self.comparison = None
        if opened is not None:
            opened.check_folder()
        self._begin_version()
        self.stage = Stage.CHECKING

    def close(self) -> None:
        """End the attempt: write the journal, close the file, release the lease; raises `OSError`. May be called again.

        A check that still runs keeps the lease, because it may open the partial file; `transfer.release` closes it.
        """
        self._end_all()
        if self.check is None or "check" in self.jobs:
            return
        lease = self.check.lease
        try:
            if self.opened is not None and self.stage is Stage.FETCHING:
                opened, self.opened = self.opened, None
                opened.close(is_ours=lease.is_ours() and opened.is_in_place)
                if not opened.pieces.present_bytes:
                    delete_partial(self.path, lease.is_ours)
        finally:
            lease.release()

    # Its bytes -------------------------------------------------------------------------------------------------------

    @property
    def _partial(self) -> PartialFile:
        assert self.opened is not None  # noqa: S101  # the callers have checked
        return self.opened

    @property
    def absent_bytes(self) -> int:
        """Bytes that have to arrive before it can be verified; 0 if the size is unknown."""
        is_there = self.stage in (Stage.FINALIZING, Stage.DONE)
        return 0 if is_there or self.size_bytes is None else max(0, self.size_bytes - self.pieces.present_bytes)

    @property
    def reused(self) -> tuple[int, tuple[str, ...]]:
        """How many bytes were copied from files on this machine, now or in an earlier run, and the files' names."""
        if self.opened is not None:
            count = self.pieces.copied_bytes
            return count, self.opened.journal.next.donors if count else ()
        return (0, ()) if self.stored is None else (self.stored.reused_bytes, self.stored.reused_from)

    def settle(self) -> None:
        """Record the bytes that connections and the copying have written, and let the hasher continue."""
        if self.opened is None:
            return
        for request in self.requests:
            self._settle(request)
        if self.copy is not None and (written := self.copy.take_written()):
            for start, end in written:
                self.pieces.settle(start, end, is_copied=True)
            record = self.opened.journal.next
            record.donors = tuple(dict.fromkeys((*record.donors, *self.copy.names)))[:_MOST_DONORS]
        hasher = self.opened.hasher
        hasher.allow(self.pieces.reach(hasher.digest.front))

    def _settle(self, request: Request) -> None:
        self.pieces.settle(request.start, request.position)
        if request.received_bytes and request.remote.mirror:
            self.mirrors.add(request.remote.mirror)

    # Requests --------------------------------------------------------------------------------------------------------

    @property
    def will_have_requests(self) -> bool:
        """Whether it will have bytes to fetch as soon as a job is over."""
        is_early = self.stage in (Stage.PENDING, Stage.CHECKING) or self.comparison is not None
        return is_early or "resolve" in self.jobs

    def part_to_resolve(self, now_s: float) -> Part | None:
        """The first part that can begin now, if its address or digest is unknown; None while the hub is being asked."""
        parts: Iterator[Part] = iter(())
        if self.stage is Stage.FETCHING:
            waiting = self._waiting_parts(now_s)
            parts = (one for one in waiting if self.pieces.missing(one.start, one.end))
        elif self.stage is Stage.CHECKING and self.check is None:
            parts = (one for one in self.parts if one.needs_facts and now_s >= one.troubles.retry_at_s)
        part = next(parts, None)
        return None if part is None or part.remote is not None or "resolve" in self.jobs else part

    def _waiting_parts(self, now_s: float) -> Iterator[Part]:
        """Parts with missing bytes whose wait, if any, is over."""
        for part in self.parts[self.proven_parts :]:
            is_waiting = self.opened is None or now_s < part.troubles.retry_at_s  # `_whole` may have closed the file
            if not is_waiting and self.pieces.reach(part.start) < part.end:
                yield part

    def next_request(self, now_s: float, length_bytes: int, window_bytes: int) -> Request | None:
        """The next missing pieces, at most a window ahead of the digest; None if there are none for now."""
        if self.stage is not Stage.FETCHING:
            return None
        limit = self._window_end(window_bytes)
        for part in self._waiting_parts(now_s):
            if part.remote is not None and (found := self._next_range(part, length_bytes, limit)) is not None:
                self.pieces.claim(*found)
                return self._request(part, part.remote, *found)
        return None

    def _window_end(self, window_bytes: int) -> int:
        """The end of the bytes that may be fetched now. Does not wait for the hashing of an earlier run's bytes."""
        front = self._partial.hasher.digest.front
        if self.copy is not None:
            return self.pieces.end
        return (self.pieces.reach(front) if front < self._partial.left_end else front) + window_bytes

    def _next_range(self, part: Part, length_bytes: int, limit: int) -> Range | None:
        if part.is_whole:
            return self._whole(part)
        if self.comparison is not None:
            wanted = (self.pieces.next_missing(start, end, length_bytes) for start, end in self.comparison.wanted)
            return next(filter(None, wanted), None)
        found = self.pieces.next_missing(part.start, part.end, length_bytes)
        return found if found is not None and found[0] < limit else None

    def _whole(self, part: Part) -> Range | None:
        """The range for a server that sends only the whole: it starts at the first byte, whatever is on the disk."""
        if any(request.part is part for request in self.requests):
            return None
        if self.has_bytes_of(part) or self.copy is not None:
            self.forget(part)
            self.reopen()
            return None
        return part.start, part.end

    def _request(self, part: Part, remote: Remote, start: int, end: int) -> Request:
        request = Request(self, self._partial, part, remote, start, end)
        self.requests.append(request)
        return request

    def take_over(self, request: Request, at: int) -> Request | None:
        """The tail of a running request as a new request; None if the connection has passed that offset."""
        end = request.end
        return self._request(request.part, request.remote, at, end) if request.cut(at) else None

    def end_request(self, request: Request) -> None:
        """End a request that is complete or revoked: the bytes it wrote stay, the rest is missing. Idempotent."""
        request.revoke()
        if request not in self.requests:
            return
        self.requests.remove(request)
        if request.received_bytes and request.part.remote is request.resolved:
            request.part.remote = request.remote  # it has the bytes: later requests need no redirect
        self._settle(request)
        self.pieces.release(request.start, request.end)

    def _end_all(self) -> None:
        for request in list(self.requests):
            self.end_request(request)
        self.end_copy()

    def has_bytes_of(self, part: Part) -> bool:
        """Whether bytes of it are on the disk."""
        return self.pieces.present_within(part.start, part.end) > 0

    # Tensors of other files ------------------------------------------------------------------------------------------

    def begin_copy(self, donors: Sequence[CopySource], copies: Iterable[Copy]) -> TensorCopy:
        """Reserve, for a copy, those bytes of them that are neither on the disk nor being fetched; a job runs it."""
        self.copy = TensorCopy(self._partial, donors, copies)
        for copy in self.copy.copies:
            self.pieces.claim(copy.target_offset, copy.target_end)
        return self.copy

    def end_copy(self) -> None:
        """Stop copying and keep the copied bytes; connections may fetch the rest."""
        if self.copy is not None:
            self.copy.revoke()
            self.settle()
            for copy in self.copy.copies:
                self.pieces.release(copy.target_offset, copy.target_end)
            self.copy = None

    # Right or wrong --------------------------------------------------------------------------------------------------

    def verify(self) -> Part | None:
        """Compare the digests since the last call with those of the hub; returns a wrong part; raises `TransferError`.

        The one place that accepts downloaded or copied bytes. Those of a wrong part are to be forgotten.
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
        """Whether every part was compared with a stated digest; only then is a proven file called verified."""
        return all(part.is_verified for part in self.parts)

    def forget(self, part: Part, *, only_copied: bool = False) -> None:
        """Make a wrong part missing, or the file's copied bytes; the part has no request. Raises `OSError`."""
        self.end_copy()
        record = self._partial.journal.next
        if only_copied:
            self.pieces.forget(0, self.pieces.end, only_copied=True)
            record.donors, record.is_copy_wrong, self._is_copy_wrong = (), True, True
        else:
            self.pieces.forget(part.start, part.end)
            record.versions.pop(part.planned.path_in_repo, None)
        self._partial.restart_journal()

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
            facts=self.facts,
            verified_at_s=time.time() if self.is_verified else None,
            block_digests=digest.block_digests,
            reused_bytes=count,
            reused_from=names,
            mirrors=tuple(sorted(self.mirrors)),
        )

    # Work for jobs ---------------------------------------------------------------------------------------------------

    def begin_parsing(self) -> int | None:
        """How many bytes the header may have, if enough have arrived to parse it (again); None otherwise."""
        size_bytes, reach = self.size_bytes or 0, self.pieces.reach(0)
        wanted_bytes = min(max(_FIRST_LOOK_BYTES, self._parsed_bytes * _LOOKS_GROW), size_bytes)
        is_over = bool(self.facts) or self._parsed_bytes >= min(_LAST_LOOK_BYTES, size_bytes)
        if self.stage is not Stage.FETCHING or "header" in self.jobs or is_over or reach < wanted_bytes:
            return None
        self._parsed_bytes = reach
        return reach

    def begin_sync(self, now_s: float) -> list[Range] | None:
        """The bytes that a sync starting now will bring to the disk; None if no sync is due."""
        new = self.pieces.unsynced_bytes
        if "sync" in self.jobs or not (new >= _SYNC_BYTES or (new > 0 and now_s - self._synced_s >= _SYNC_S)):
            return None
        self._synced_s = now_s
        return self.pieces.present()

    def synced(self, ranges: list[Range]) -> None:
        """Record a finished sync: the bytes are on the disk, if the file is still ours. Raises `OSError`."""
        if self.stage is Stage.FETCHING and self.renew():
            self.pieces.synced(ranges)
            self._partial.record()


def files_of(command: StartTransfer, address: Callable[[str], Asked], timeouts: Timeouts) -> list[DownloadFile]:
    """The files of a command by target, in the order of their first part."""
    by_target: dict[str, list[Part]] = {}
    for index, file in enumerate(command.files):
        part = Part(file, address(file.path_in_repo), timeouts, index)
        by_target.setdefault(file.target, []).append(part)
    return [DownloadFile(sorted(parts, key=lambda part: part.start)) for parts in by_target.values()]
