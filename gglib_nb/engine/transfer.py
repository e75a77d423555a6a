"""One transfer: one thread, one inbox of typed events, and the reactions to them.

Each long operation (asking the hub, reading files, syncing, renaming) is a job on a thread of its own, which does not
know the transfer and ends with an event. So all state belongs to the transfer's thread, and tests need only events.
"""

import contextlib
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, assert_never

from msgspec import Struct

from gglib_nb.domain.download import Facts, StoredFile
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.domain.http_rules import host_text, origin_of
from gglib_nb.domain.reports import TransferFailed, TransferFinished, TransferStopped
from gglib_nb.domain.text import redacted
from gglib_nb.domain.values import Value
from gglib_nb.engine.connections import Connections, Pool, RequestEnded
from gglib_nb.engine.digest import Digested
from gglib_nb.engine.disk import DiskSpace, disk_full, lease_path, storage_error
from gglib_nb.engine.file import DownloadFile, Part, Request, Stage, files_of
from gglib_nb.engine.http import ExchangeError, LineError, Session, SilentError
from gglib_nb.engine.lease import Lease, LeaseLostError, delete_unowned
from gglib_nb.engine.local import TargetCheck, check_in_place, check_split_set, may_be_gguf, read_facts
from gglib_nb.engine.pacing import LONGEST_REQUEST_BYTES, MOST_CONNECTIONS
from gglib_nb.engine.partial import PartialFile, StoppedError, sync
from gglib_nb.engine.pieces import SYNCED, UNKNOWN_END, WRITTEN, Range
from gglib_nb.engine.progress import progress_of
from gglib_nb.engine.protocol import ProcessEvent, StartTransfer
from gglib_nb.engine.resolve import Remote, resolve
from gglib_nb.engine.retry import TEMPORARY, Connectivity, Outage, Step
from gglib_nb.engine.reuse import Comparison, TensorCopy
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import (
    DiskFullError,
    GglibError,
    IntegrityError,
    InvalidConfigError,
    InvalidTokenError,
    NetworkError,
    StorageError,
)
from gglib_nb.network.tunnels import ProxyRefusedError
from gglib_nb.system import free_bytes, log_path

_TICK_S: Final = 0.1
_RECORD_S: Final = 0.5
# How long the end waits altogether, for checks and for renames that have begun.
_END_WAIT_S: Final = 1.0
# While connections are busy, a hub or proxy that refused a request for an address is asked again after this long.
_ASK_AGAIN_S: Final = 2.0
# A proxy may count a tunnel for this long after its end.
_STILL_COUNTED_S: Final = 3.0
# After the last byte, an outage is believed only after this long.
_FLOWING_S: Final = 2.0
# While tensors are copied into one file, the network is free for the next; more copies at once only make a disk seek.
_MOST_COPIED_FILES: Final = 2
# A step of a comparison or of a copy reads some megabytes.
_LONGEST_STEP_S: Final = 60.0


class Shared(Struct):
    """The state that all transfers of an engine share. Each part is thread-safe; only the command loop sets fields."""

    session: Session
    connectivity: Connectivity
    pool: Pool
    disk_space: DiskSpace
    timeouts: Timeouts
    reuse_limits: ReuseLimits = ReuseLimits()
    link_folders: tuple[str, ...] = ()
    network_wait_s: float = 0.0


Result = StoredFile | PartialFile | Remote | Comparison | TensorCopy | list[Range] | Facts | None
"""What a job returns: of the check or the rename, the check, the hub, a comparison, a copy, a sync, the header."""


class JobEnded(Value, frozen=True):
    """A job for a file has ended: with its result, or with an error. `version` is that of the file when it began."""

    name: str
    file: DownloadFile
    version: int
    result: Result | Exception


Event = JobEnded | RequestEnded | Digested
Inbox = queue.SimpleQueue[Any]  # of events


class Transfer:
    """One attempt. `start`, `stop` and `join` may be called from any thread; the rest belongs to its own.

    `report` gets the progress, and one event that ends the attempt; it never blocks. It begins after these `discards`.
    """

    def __init__(
        self,
        command: StartTransfer,
        shared: Shared,
        report: Callable[[ProcessEvent], None],
        discards: Sequence[threading.Thread] = (),
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        address = shared.session.address_of(command.repo_id, command.commit_sha)
        self.files = files_of(command, address, shared.timeouts)
        self._command = command
        self._shared = shared
        self._send = report
        self._discards = discards
        self._stop = threading.Event()
        self._over = threading.Event()
        self._running_jobs = 0
        self._rename_lock = threading.Lock()
        self._connections = Connections(command.attempt, len(self.files), shared.pool, self.inbox, time.monotonic())
        self._replaces = command.force or command.replaces
        self._known_folders = command.known_folders
        self._outage: Outage | None = None
        self._next_record_s = 0.0
        self._thread = threading.Thread(target=self._main, name=f"gglib-transfer-{command.attempt}", daemon=True)

    # The thread ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; if there are too many threads, report that."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._send(self._failure(error))
            self._over.set()

    def stop(self) -> None:
        """Stop within a second; the end is reported."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; returns whether that is reported."""
        return self._over.wait(timeout_s)

    def _main(self) -> None:
        end: ProcessEvent | None = None
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  # a bug must end the attempt too, or its slot is occupied forever
            end = self._failure(error)
        try:
            self.close()
            end = end or self._end()
        except Exception as error:  # noqa: BLE001  # as above
            end = end or self._failure(error)
        self._send(end)
        self._over.set()
        while self._running_jobs:  # on a hung disk
            if isinstance(event := self.inbox.get(), JobEnded):
                self._running_jobs -= 1
                release(event)

    def _end(self) -> ProcessEvent:
        """The event that ends the attempt without an error; a rename wins over a stop. Raises `Exception`."""
        if not self.is_done:
            return TransferStopped(self._command.attempt)  # the rest is left for a resume
        stored = tuple(file.stored for file in self.files if file.stored is not None)
        check_in_place(stored)
        self._report(time.monotonic())
        for file in self.files:
            with contextlib.suppress(OSError):
                delete_unowned(file.path, keeps_bytes=True)
        check_split_set(stored)
        return TransferFinished(self._command.attempt, stored)

    def _work(self) -> None:
        """Handle events until every file has its final name, or until the stop; raises `Exception`."""
        for discard in self._discards:
            while discard.is_alive() and not self._stop.is_set():
                discard.join(_TICK_S)
        for file in self.files:
            if not self._stop.is_set():  # else the disk still hangs
                file.scan(is_replaced=self._replaces)
        next_tick_s = now_s = time.monotonic()
        while not self.is_done and not self._stop.is_set():
            if now_s >= next_tick_s:
                next_tick_s = now_s + _TICK_S
                self.tick(now_s)
            self.advance(now_s)
            with contextlib.suppress(queue.Empty):
                event = self.inbox.get(timeout=max(0.0, next_tick_s - now_s))
                while not self.is_done:
                    self.handle(event, time.monotonic())
                    event = self.inbox.get_nowait()
            now_s = time.monotonic()

    def _failure(self, error: Exception) -> TransferFailed:
        """The end by an error; a full disk states the missing space, and a bug's traceback goes to the log."""
        path = self.files[0].path
        if isinstance(error, OSError):
            error = storage_error(error, path)
        if isinstance(error, DiskFullError) and error.needed_bytes is None:
            error = disk_full(path.parent, sum(file.absent_bytes for file in self.files), free_bytes(path.parent))
        if not isinstance(error, GglibError):
            traceback.print_exception(error, file=sys.stderr)
            cause = f"{type(error).__name__}: {redacted(str(error))}"
            error = StorageError(f"The engine failed ({cause}); see {log_path() or 'its log'}.")
        return TransferFailed(self._command.attempt, error, isinstance(error, TEMPORARY))

    def close(self) -> None:
        """Forbid renames, revoke requests, write journals, close files, release leases. May be called again."""
        deadline_s = time.monotonic() + _END_WAIT_S
        self._stop.set()
        with self._rename_lock:
            pass  # a rename that had begun is over now
        # Once these jobs are over, their targets are free.
        while any(not file.jobs.isdisjoint(("check", "finalize")) for file in self._open):
            if (left_s := deadline_s - time.monotonic()) <= 0:
                break
            with contextlib.suppress(Exception):  # the attempt ends anyway
                self.handle(self.inbox.get(timeout=left_s), time.monotonic())
        for file in self._open:
            with contextlib.suppress(OSError, GglibError):  # the attempt ends even if the disk fails
                file.close()
        self._connections.close_all(time.monotonic())
        self._shared.disk_space.release(self._command.attempt)

    def _do(self, name: str, file: DownloadFile, work: Callable[..., Result], *args: Any) -> None:  # noqa: ANN401
        """Start a job for a file; raises `RuntimeError` if there are too many threads."""
        self.start_job(name, partial(run_job, name, file, file.version, work, *args))
        file.jobs.add(name)
        self._running_jobs += 1

    def start_job(self, name: str, job: Callable[[], JobEnded]) -> None:
        """Run a job on a thread of its own, and put its event into the inbox; a test runs it itself."""
        threading.Thread(target=lambda: self.inbox.put(job()), name=f"gglib-{name}", daemon=True).start()

    # Events ----------------------------------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether every file has its final name."""
        return all(file.stage is Stage.DONE for file in self.files)

    @property
    def _open(self) -> list[DownloadFile]:
        return [file for file in self.files if file.stage not in (Stage.PENDING, Stage.DONE)]

    @property
    def _fetching(self) -> list[DownloadFile]:
        return [file for file in self.files if file.stage is Stage.FETCHING]

    def handle(self, event: Event, now_s: float) -> None:
        """Handle an event; raises `Exception`."""
        self._running_jobs -= isinstance(event, JobEnded)
        match event:
            case JobEnded(name="sync"):
                self._synced(event)
            case JobEnded() if event.version != event.file.version:
                release(event)
            case JobEnded():
                event.file.jobs.discard(event.name)
                self._job_ended(event.file, event.result, now_s)
            case RequestEnded():
                self._ended(event.request, event.error, now_s)
            case Digested():
                pass  # `advance` compares the digest
            case _:
                assert_never(event)

    def _job_ended(self, file: DownloadFile, result: Result | Exception, now_s: float) -> None:
        match result:
            case StoredFile():
                self._done(file, result)
            case PartialFile():
                file.begin(result, now_s)
                self._know_folder(file)
            case Remote() | ExchangeError() | InvalidConfigError() | InvalidTokenError():
                self._resolved(file, result, now_s)
            case Comparison() | TensorCopy():
                self._reuse(file, result)
            case dict():
                file.facts = result
            case LeaseLostError():
                self._reopen(file, now_s)
            case None | list() | StoppedError():
                pass  # the transfer was stopped
            case _:
                raise result

    def advance(self, now_s: float) -> None:
        """Start everything that can start now; raises `GglibError` or `OSError`."""
        fetching = self._fetching
        self._connections.adjust_share(has_work=any(file.pieces.missing_bytes or file.requests for file in fetching))
        self._look_at_network(now_s)
        self._open_next()
        for file in self._open:
            self._advance_file(file, now_s)
        if self._outage is None:
            self._resolve_next(now_s)
            self._connections.assign_all(self._open, self._shared.session, now_s)

    def _advance_file(self, file: DownloadFile, now_s: float) -> None:
        if file.stage is Stage.CHECKING and file.check is None:
            # The hub is asked first, and the error of a sync has to be known before its bytes are trusted.
            if "sync" not in file.jobs and not any(part.needs_facts for part in file.parts):
                self._check(file)
        elif file.stage is Stage.FETCHING and file.opened is not None:
            if file.copy is not None and now_s - file.copy.moved_s > _LONGEST_STEP_S:  # the disk of a donor hangs
                file.end_copy()
            if file.comparison is not None:
                self._compare(file, file.opened, file.comparison, now_s)
            elif (wrong := file.verify()) is not None:
                self._wrong(file, wrong, now_s)
            elif file.is_proven and "sync" not in file.jobs:  # the system reports a write error only to that sync
                self._finalize(file, file.opened, now_s)

    def tick(self, now_s: float) -> None:
        """What is due every tenth of a second; raises `Exception`."""
        self._connections.measure(now_s)
        for file in self._open:
            file.settle()
        self._take_stalled(now_s)
        self._connections.replace_slow(now_s)
        if now_s >= self._next_record_s:
            self._next_record_s = now_s + min(_RECORD_S, self._shared.timeouts.lease_s / 5)
            for file in self._open:
                self._record(file, now_s)
        for file in self._open:
            self._read_facts(file)
        self._report(now_s)

    def _report(self, now_s: float) -> None:
        self._send(progress_of(self._command.attempt, self.files, now_s, self._connections, self._outage))

    # The network -----------------------------------------------------------------------------------------------------

    def _look_at_network(self, now_s: float) -> None:
        """Wait while nothing can be reached, and restart when the network is back; raises `NetworkError`."""
        connectivity = self._shared.connectivity
        # Bytes that still arrive contradict an outage: the hub may be down but not its CDN.
        outage = connectivity.outage if now_s - self._connections.moved_s > _FLOWING_S else None
        if outage is None and self._outage is not None:
            for file in self.files:
                for part in file.parts:
                    part.troubles.network_is_back()
        self._outage = outage
        if outage is not None:
            connectivity.probe(now_s)
            if now_s - outage.since_s > self._shared.network_wait_s:
                raise NetworkError(
                    f"No network since {outage.since_text}. Downloaded data is kept. Retry when the network is back."
                )

    def _resolve_next(self, now_s: float) -> None:
        for file in self._open:
            if (part := file.part_to_resolve(now_s)) is not None:
                file.resolving, failures = part, part.troubles.failures
                self._do("resolve", file, resolve, self._shared.session, part.address, part.planned, failures)

    def _resolved(self, file: DownloadFile, answer: Remote | Exception, now_s: float) -> None:
        """The hub has answered; raises the error of an answer that lasts."""
        part, file.resolving = file.resolving, None
        assert part is not None  # noqa: S101  # only one job asks for a file
        match answer:
            case Remote():
                part.resolved(answer, has_bytes=file.has_bytes_of(part))
            case Exception() if self._may_get_a_tunnel(answer, now_s):
                part.troubles.retry_at_s = now_s + _ASK_AGAIN_S
            case ExchangeError():
                self._failed(part, answer, now_s)
            case _ if self._connections.are_busy(now_s):
                # As in `_ended`; and a 403 of a hub that sends the files itself may be its limit of connections.
                part.troubles.retry_at_s = now_s + _ASK_AGAIN_S
            case _:
                raise answer

    def _may_get_a_tunnel(self, error: Exception, now_s: float) -> bool:
        """Whether a proxy refused a tunnel because others have it, or had it just now; the idle ones are closed."""
        if not isinstance(error.__cause__, ProxyRefusedError):
            return False
        pool, had_idle = self._shared.pool, self._shared.session.close_idle()
        if pool.make_room() or had_idle:
            pool.made_room_s = now_s
        return now_s - pool.made_room_s < _STILL_COUNTED_S

    # Files from stage to stage ---------------------------------------------------------------------------------------

    def _open_next(self) -> None:
        """Open the next file if the open ones have little left to fetch: connections never idle between shards."""
        pending = next((file for file in self.files if file.stage is Stage.PENDING), None)
        if pending is None or any(file.stage is Stage.CHECKING for file in self.files):
            return  # also if another process has it: then its progress is followed file by file
        fetching = self._fetching
        are_copied = sum(file.copy is not None for file in fetching) >= _MOST_COPIED_FILES
        free = sum(file.pieces.missing_bytes for file in fetching)
        open_files = sum(not file.pieces.is_complete for file in fetching)
        may_open = not are_copied and open_files < MOST_CONNECTIONS
        if may_open and free < self._connections.share * LONGEST_REQUEST_BYTES:
            pending.stage = Stage.CHECKING

    def _check(self, file: DownloadFile) -> None:
        lease = Lease(lease_path(file.path), self._shared.timeouts.lease_s, file.seen_lease, self._command.gone_owners)
        folders = self._shared.link_folders
        planned = tuple(replace(one.planned, size_bytes=one.size_bytes, sha256=one.sha256) for one in file.parts)
        # The least gain is for the whole download, so each file has to reach its share.
        limits, size_bytes = self._shared.reuse_limits, file.size_bytes or 0
        all_bytes = sum(one.size_bytes or 0 for one in self.files) or 1
        limits = replace(limits, least_gain_bytes=limits.least_gain_bytes * size_bytes // all_bytes)
        file.check = TargetCheck(planned, self._command, lease, limits, self._known_folders, folders, self._stop)
        sizes = {one.path: one.size_bytes for one in self.files if one.stage is not Stage.DONE and one.size_bytes}
        space, attempt = self._shared.disk_space, self._command.attempt
        reserve = partial(space.reserve, attempt, sizes, self._stop, are_replaced=self._replaces)
        self._do("check", file, prepare, file, file.check, reserve, self.inbox)

    def _know_folder(self, file: DownloadFile) -> None:
        """Remember the folder of the repository, which exists while its disk is mounted."""
        owner = [str(one.parent) for one in file.path.parents if one.match(self._command.repo_id)]
        self._known_folders = tuple(dict.fromkeys((*self._known_folders, *owner)))

    def _renew(self, file: DownloadFile, now_s: float) -> None:
        """Renew the lease of a file; if it was lost, start the file again. Raises `StorageError`."""
        if not file.renew():
            self._reopen(file, now_s)

    def _reopen(self, file: DownloadFile, now_s: float) -> None:
        self._abandon_all(file, now_s)
        file.reopen()

    def _abandon_all(self, file: DownloadFile, now_s: float) -> None:
        for request in list(file.requests):
            self._connections.abandon(request, now_s)

    def _wrong(self, file: DownloadFile, part: Part, now_s: float) -> None:
        """Fetch a wrong part again: first its copied bytes, then all of it, once; raises `IntegrityError`."""
        self._abandon_all(file, now_s)
        file.end_copy()
        has_copied = file.pieces.copied_bytes > 0
        file.forget(part, only_copied=has_copied)
        if not has_copied:
            if part.is_refetched:
                raise IntegrityError(
                    f"{part.planned.path_in_repo} failed its SHA-256 check twice and was deleted. Try again later.",
                    expected=part.sha256 or "",
                    actual=part.wrong_sha256 or "",
                )
            part.is_refetched = True
            part.remote = None
            if part.planned.size_bytes is None:  # its body may have ended early
                part.end, part.is_asked = UNKNOWN_END, False
        file.reopen()

    def _finalize(self, file: DownloadFile, opened: PartialFile, now_s: float) -> None:
        if not (file.is_verified or may_be_gguf(file.path, opened.head())):
            self._abandon_all(file, now_s)
            for part in file.parts:
                file.forget(part)
            raise IntegrityError(
                f"{host_text(origin_of(self._shared.session.endpoint))} sent a file for "
                f"{file.parts[0].planned.path_in_repo} that is not a GGUF file (a web page, an empty file or a Git LFS "
                "pointer). It was not kept. Check the repository, then retry."
            )
        file.settle()  # a digest may be complete before the event of its last bytes
        file.end_copy()  # and before that of the last copy
        opened.record()  # if the rename fails, a resume finds everything
        stored = file.as_stored()
        file.version += 1  # a look that has begun says nothing any more
        self._do("finalize", file, finalize, file, opened, stored, self._rename_lock, self._replaces)
        file.stage = Stage.FINALIZING  # once the job, which closes the file, has started

    def _done(self, file: DownloadFile, stored: StoredFile) -> None:
        file.stage = Stage.DONE
        file.stored, file.opened = stored, None
        if file.check is not None:
            file.check.lease.release()
        self._know_folder(file)

    # Requests --------------------------------------------------------------------------------------------------------

    def _ended(self, request: Request, error: Exception | None, now_s: float) -> None:
        """A connection has ended a request; raises `GglibError`."""
        if not self._connections.ended(request, now_s):
            return  # it was revoked before
        file, part = request.file, request.part
        file.settle()  # the digest should not wait for the next tick
        request.forgive_if_received()
        match error:
            case None if part.size_bytes is None and request.position == request.end:  # the body has ended
                part.end = request.position
                self._reopen(file, now_s)
            case None:
                pass
            case LeaseLostError():
                self._renew(file, now_s)
            case Exception() if not self._connections.are_busy(now_s) and self._may_get_a_tunnel(error, now_s):
                part.troubles.retry_at_s = now_s + _ASK_AGAIN_S
            case ExchangeError():
                self._failed(part, error, now_s, request)
            case InvalidConfigError() if self._connections.are_busy(now_s):
                # A proxy that allows no more tunnels, or one of many servers with a wrong certificate.
                self._failed(part, LineError(str(error), may_be_limit=True), now_s, request)
            case _:
                raise error

    def _failed(self, part: Part, error: ExchangeError, now_s: float, request: Request | None = None) -> None:
        """The hub did not answer for a part, or a request for it failed; raises the error when patience is over."""
        others_receive = has_bytes = False
        if request is not None:
            if part.remote is None or part.remote.url not in (request.resolved.url, request.remote.url):
                return  # it concerned an address that has been replaced since
            others_receive = self._connections.others_receive(now_s)
            has_bytes = request.file.has_bytes_of(part)
            if isinstance(error, LineError) and request.is_whole and has_bytes:
                part.is_whole = part.size_bytes is None  # a cache that has fetched the file now may send ranges
        connectivity = self._shared.connectivity
        if isinstance(error, LineError) and not others_receive:
            connectivity.probe(now_s)
        is_offline = connectivity.outage is not None
        match part.troubles.failed(
            error, now_s, others_receive=others_receive, is_offline=is_offline, has_bytes=has_bytes
        ):
            case Step.WHOLE:
                part.is_whole = True
                self._connections.abandon_part(part, now_s)
            case Step.FEWER:
                self._connections.refused(now_s)
            case Step.RESOLVE | Step.AGAIN as step:
                has_mirrors = len(self._shared.session.endpoints) > 1  # which may have another storage
                part.remote = None if step is Step.RESOLVE or has_mirrors else part.remote

    def _take_stalled(self, now_s: float) -> None:
        """Abandon the requests of connections that receive nothing; raises `GglibError`."""
        for request, silent_s in self._connections.stalled(now_s, self._shared.timeouts):
            self._connections.abandon(request, now_s)
            request.forgive_if_received()
            error = SilentError(host_text(origin_of(request.remote.url)), silent_s)
            self._failed(request.part, error, now_s, request)

    # The disk --------------------------------------------------------------------------------------------------------

    def _record(self, file: DownloadFile, now_s: float) -> None:
        """Renew the lease, look at the file, write the journal, start a due sync; raises `TransferError`."""
        self._renew(file, now_s)
        if file.stage is not Stage.FETCHING or file.opened is None:
            return
        if "look" not in file.jobs:
            with contextlib.suppress(RuntimeError):  # it will be due again, as the sync
                self._do("look", file, file.opened.check_in_place)
        try:
            file.opened.record()
            if (ranges := file.begin_sync(now_s)) is not None:
                with contextlib.suppress(RuntimeError), contextlib.ExitStack() as failure:
                    failure.callback(os.close, data := file.opened.reader())
                    failure.callback(os.close, record := os.dup(file.opened.journal.fd))
                    self._do("sync", file, sync, (data, record), ranges)
                    failure.pop_all()
        except OSError as error:
            raise storage_error(error, file.opened.path) from error

    def _synced(self, event: JobEnded) -> None:
        """A sync is over; an error is that of the file, whatever version it has by now. Raises `TransferError`."""
        file, result = event.file, event.result
        file.jobs.discard("sync")
        if isinstance(result, list) and event.version == file.version:
            file.synced(result)
        elif isinstance(result, Exception):
            release(event) if file.opened is None else file.opened.distrust()
            raise result

    def _read_facts(self, file: DownloadFile) -> None:
        """Parse the header once it may have arrived: its facts are needed at the end; a wrong shard fails early."""
        if file.opened is not None and (reach := file.begin_parsing()) is not None:
            first = file.parts[0].planned
            shard = first.path_in_repo if len(file.parts) == 1 and first.kind == "shard" else None
            with contextlib.suppress(RuntimeError):
                self._do("header", file, read_facts, file.opened.path, reach, shard)

    # Tensors of other files ------------------------------------------------------------------------------------------

    def _compare(self, file: DownloadFile, opened: PartialFile, comparison: Comparison, now_s: float) -> None:
        """Take the next step of the comparison, if its bytes are on the disk."""
        is_hung = "compare" in file.jobs and now_s - comparison.began_s > _LONGEST_STEP_S  # the disk of a donor
        if file.parts[0].is_whole or opened.journal.next.is_copy_wrong or is_hung:
            file.comparison = None  # a server that sends only the whole would send it for every sample
        elif "compare" not in file.jobs and all(opened.pieces.reach(start) >= end for start, end in comparison.wanted):
            comparison.began_s = now_s
            self._do("compare", file, comparison.step, opened.pieces.only(WRITTEN, SYNCED))

    def _reuse(self, file: DownloadFile, ended: Comparison | TensorCopy) -> None:
        """Copy what a comparison found; what a copy left is fetched."""
        if isinstance(ended, TensorCopy):
            file.end_copy()
        elif file.comparison is not None and ended.copies is not None:
            file.comparison = None
            if ended.copies:
                self._do("copy", file, file.begin_copy(ended.donors, ended.copies).run)


# --- The jobs ---------------------------------------------------------------------------------------------------------


def run_job(name: str, file: DownloadFile, version: int, work: Callable[..., Result], *args: object) -> JobEnded:
    """Run a job; any error is in the event, because the transfer would otherwise wait forever."""
    result: Result | Exception
    try:
        result = work(*args)
    except Exception as error:  # noqa: BLE001  # as above
        result = storage_error(error, file.path) if isinstance(error, OSError) else error
    return JobEnded(name, file, version, result)


def prepare(
    file: DownloadFile, check: TargetCheck, reserve: Callable[[], None], inbox: Inbox
) -> StoredFile | PartialFile:
    """Check a target; if the file has to be fetched, reserve its space and open its partial file.

    It does not release the lease, which the transfer's thread may be renewing.
    """
    if (stored := check.run()) is not None:
        return stored
    reserve()
    return PartialFile(file.path, file.identities, file.size_bytes, check.lease, inbox, check.stop)


def finalize(
    file: DownloadFile, opened: PartialFile, stored: StoredFile, rename_lock: threading.Lock, may_replace: bool
) -> StoredFile | None:
    """Give a proven file its final name; None if the transfer was stopped before."""
    try:
        if not stored.facts:
            stored = replace(stored, facts=read_facts(opened.path))
        mtime_ns = opened.finish(file.path, stored.sha256 or "", rename_lock, may_replace=may_replace)
    finally:
        opened.close(is_ours=False)
    return None if mtime_ns is None else replace(stored, mtime_ns=mtime_ns)


def release(event: JobEnded) -> None:
    """Release the resources of a result that no transfer will handle."""
    with contextlib.suppress(OSError, GglibError):
        file, result = event.file, event.result
        if event.name == "check":
            file.jobs.discard("check")
            if isinstance(result, PartialFile):
                file.begin(result, 0.0)
            file.close()
        elif event.name == "sync" and isinstance(result, Exception):
            delete_unowned(file.path)  # its bytes may be lost, and no other sync will report it
