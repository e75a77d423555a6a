"""One transfer: one thread, one inbox of typed events, and the reactions to them.

`Transfer` takes one event after the other from its inbox; `handle` matches all of them. Each long operation (asking the
hub, reading files, syncing, renaming) is a job on a thread of its own, which does not know the transfer and ends with an
event. So all state of a transfer belongs to its thread, and a test can drive it with events alone.
"""

import contextlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, assert_never

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.gguf_reuse import Copy, ReuseLimits
from gglib_nb.domain.http_rules import host_text, origin_of
from gglib_nb.domain.reports import FileProgress, TransferFinished, TransferStopped
from gglib_nb.domain.text import redacted
from gglib_nb.engine import jobs
from gglib_nb.engine.connections import Connections, RequestEnded
from gglib_nb.engine.disk import Reservation, disk_full, storage_error
from gglib_nb.engine.file import Cause, DownloadFile, Part, Request, Stage, files_of
from gglib_nb.engine.http import ExchangeError, LineError, SilentError
from gglib_nb.engine.jobs import Event, Inbox, Shared, StartJob, Stop, Tick, in_thread
from gglib_nb.engine.lease import LeaseLostError
from gglib_nb.engine.local import CheckResult, check_split_set, clear_journal
from gglib_nb.engine.pacing import LONGEST_REQUEST_BYTES, MOST_CONNECTIONS
from gglib_nb.engine.partial import PartialFile, RenameGate
from gglib_nb.engine.progress import Line, progress_of, reports_of
from gglib_nb.engine.protocol import Event as Report
from gglib_nb.engine.protocol import StartTransfer, TransferFailed
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.retry import Outage, Step, can_retry
from gglib_nb.engine.reuse import CopyEnded, TensorCopy
from gglib_nb.errors import DiskFullError, GglibError, IntegrityError, NetworkError, StorageError, to_wire
from gglib_nb.system import free_bytes, log_path

_TICK_S: Final = 0.1
_RECORD_S: Final = 0.5
_RENEW_S: Final = 1.0
# How long a stop waits for a rename that has begun, and the end for a partial file that is being opened.
_STOP_WAIT_S: Final = 0.5
_CLOSE_WAIT_S: Final = 1.0
# After the last byte, an outage is believed only after this long.
_FLOWING_S: Final = 2.0
_MOST_OPEN_FILES: Final = MOST_CONNECTIONS
# While tensors are copied into one file, the network is free for the next; more copies at once only make a disk seek.
_MOST_COPIED_FILES: Final = 2


class Outbox(Protocol):
    """Receives the reports."""

    def post(self, event: Report) -> None:
        """Queue a report; never blocks."""


class Transfer:
    """One attempt. `start`, `stop`, `join` and `is_over` may be called from any thread; the rest belongs to its own.

    The outbox gets the progress, and one event that ends the attempt. A test may pass the clock and a way to run jobs.
    """

    def __init__(
        self,
        command: StartTransfer,
        shared: Shared,
        outbox: Outbox,
        start_job: StartJob = in_thread,
        now_s: float | None = None,
    ) -> None:
        now_s = time.monotonic() if now_s is None else now_s
        self.inbox = Inbox()
        address = shared.session.address_of(command.repo_id, command.commit_sha)
        self.files = files_of(command, address, shared.timeouts)
        self._command = command
        self._shared = shared
        self._outbox = outbox
        self._start_job = start_job
        self._stop = threading.Event()
        self._gate = RenameGate()
        self._connections = Connections(command.attempt, len(self.files), shared.pool, self.inbox, now_s)
        self._pending = list(reversed(self.files))
        self._open: list[DownloadFile] = []
        self._reports: list[FileProgress] = []
        self._reserved: set[DownloadFile] = set()
        self._replaces = command.force or command.replaces
        self._known_folders = command.known_folders
        self._outage: Outage | None = None
        self._next_record_s = self._next_renew_s = now_s
        self._thread = threading.Thread(target=self._main, name=f"gglib-transfer-{command.attempt}", daemon=True)

    # The thread ------------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether its last event was reported."""
        return not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop within a second; the end is reported."""
        self._stop.set()
        self.inbox.put(Stop())

    def join(self, timeout_s: float) -> None:
        """Wait for the end of its thread."""
        self._thread.join(timeout_s)

    def _main(self) -> None:
        try:
            end = self._run()
        except Exception as error:  # noqa: BLE001  # a bug must end the attempt too, or its slot is occupied forever
            wrong = self._as_ours(error)
            end = TransferFailed(self._command.attempt, to_wire(wrong), can_retry(wrong))
        finally:
            self.close()
        if isinstance(end, TransferFinished):
            for file in self.files:
                clear_journal(file.path, self._shared.timeouts.lease_s)
        self._outbox.post(end)

    def _run(self) -> Report:
        self.scan()
        next_tick_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s >= next_tick_s:
                next_tick_s = now_s + _TICK_S
                self.handle(Tick(), now_s)
            self.advance(now_s)
            if self.is_done:
                return self._finished(now_s)
            if self._take(next_tick_s):
                return self._stopped()

    def _take(self, until_s: float) -> bool:
        """Handle the events in the inbox, or the first to arrive; returns whether a stop was among them."""
        with contextlib.suppress(queue.Empty):
            event = self.inbox.get(timeout=max(0.0, until_s - time.monotonic()))
            while not isinstance(event, Stop):
                self.handle(event, time.monotonic())
                event = self.inbox.get_nowait()
            return True
        return False

    def _finished(self, now_s: float) -> TransferFinished:
        stored = tuple(file.stored for file in self.files if file.stored is not None)
        check_split_set(stored)
        self._report(now_s)
        return TransferFinished(self._command.attempt, stored)

    def _stopped(self) -> Report:
        """The report of a stop: finished if all files were already renamed; else the rest is left for a resume."""
        self._gate.close()
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while any(file.is_renaming for file in self._open) and (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self.inbox.get(timeout=left_s)
                if isinstance(event, jobs.Finalized):
                    self.handle(event, time.monotonic())
        return self._finished(time.monotonic()) if self.is_done else TransferStopped(self._command.attempt)

    def _as_ours(self, error: Exception) -> GglibError:
        """The error for the kernel; a full disk states the missing space, and a bug's traceback goes to the log."""
        path = self.files[0].path
        if isinstance(error, OSError):
            error = storage_error(error, path)
        if isinstance(error, DiskFullError) and error.needed_bytes is None:
            needed = sum(file.absent_bytes for file in self.files)
            return disk_full(path.parent, needed, free_bytes(path.parent))
        if isinstance(error, GglibError):
            return error
        traceback.print_exception(error, file=sys.stderr)
        cause = f"{type(error).__name__}: {redacted(str(error))}"
        return StorageError(f"The engine failed ({cause}); see {log_path() or 'its log'}.")

    def close(self) -> None:
        """Revoke all requests, write the journals, close the files, release the leases. May be called again."""
        self._stop.set()
        self._gate.close()
        self._wait_for_opening()
        for file in self._open:
            with contextlib.suppress(OSError, GglibError):  # the attempt ends even if the disk fails
                file.close()
        self._connections.close_all()
        self._shared.disk_space.release(self._command.attempt)
        self.inbox.close()

    def _wait_for_opening(self) -> None:
        """Wait for partial files that are being opened, so that `close` closes them too and the targets are free afterwards."""
        deadline_s = time.monotonic() + _CLOSE_WAIT_S
        while any(file.is_opening for file in self._open) and (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self.inbox.get(timeout=left_s)
                if isinstance(event, jobs.Opened):
                    event.file.is_opening, event.file.opened = False, event.opened
                elif isinstance(event, jobs.Failed):
                    return  # it may have been that
                else:
                    jobs.give_back(event)

    def _do(self, name: str, file: DownloadFile, work: Callable[..., Event | None], *args: Any) -> None:  # noqa: ANN401
        self._start_job(self.inbox, name, partial(jobs.run_job, work, file, *args))

    # Events ----------------------------------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether every file has its final name."""
        return not self._pending and not self._open

    def scan(self) -> None:
        """Read what earlier runs left."""
        by_index: dict[int, FileProgress] = {}
        for file in self.files:
            file.scan(is_replaced=self._replaces)
            by_index.update(zip(file.indexes, reports_of(file), strict=True))
        self._reports = [by_index[index] for index in range(len(by_index))]

    def handle(self, event: Event, now_s: float) -> None:  # noqa: C901  # one case for each event
        """Handle an event; raises `Exception`."""
        match event:
            case Tick():
                self._tick(now_s)
            case jobs.Checked():
                self._checked(event.file, event.result)
            case jobs.Opened():
                self._opened(event.file, event.opened, now_s)
            case jobs.Resolved():
                self._resolved(event.file, event.part, event.answer, now_s)
            case RequestEnded():
                self._ended(event.request, event.error, now_s)
            case jobs.Compared():
                self._compared(event)
            case CopyEnded():
                self._copied(event, now_s)
            case jobs.Synced():
                event.file.synced(event.version, event.ranges)
            case jobs.FactsRead():
                if event.version == event.file.version:
                    event.file.looked(event.facts, event.reach)
            case jobs.Finalized():
                self._finalized(event.file, event.outcome, now_s)
            case jobs.Failed():
                raise event.error
            case jobs.Digested() | Stop():
                pass  # `advance` compares the digest; a stop ends `_take`
            case _:
                assert_never(event)

    def advance(self, now_s: float) -> None:
        """Start everything that can start now; raises `GglibError` or `OSError`."""
        fetching = [file for file in self._open if file.stage.is_fetching]
        has_work = any(file.unassigned_bytes or file.requests for file in fetching)
        self._connections.adjust_share(has_work=has_work or any(file.size_bytes is None for file in fetching))
        self._look_at_network(now_s)
        self._open_next()
        for file in fetching:
            if file.opened is None:
                continue
            if file.stage is Stage.COMPARING:
                self._compare(file, file.opened)
            elif (wrong := file.verify()) is not None:
                self._wrong(file, wrong, now_s)
            elif file.is_proven:
                self._finalize(file, file.opened, now_s)
        if self._outage is None:
            self._resolve_next(now_s)
            self._connections.assign_all(self._open, self._shared.session, now_s)

    def _tick(self, now_s: float) -> None:
        self._connections.measure(now_s)
        for file in self._open:
            file.settle()
        self._take_stalled(now_s)
        self._connections.replace_slow(now_s)
        if now_s >= self._next_renew_s:
            self._next_renew_s = now_s + min(_RENEW_S, self._shared.timeouts.lease_s / 5)
            self._lose(now_s, [file for file in self._open if not file.renew()])
        if now_s >= self._next_record_s:
            self._next_record_s = now_s + _RECORD_S
            self._lose(now_s, [file for file in self._open if not self._record(file, now_s)])
        for file in self._open:
            self._read_facts(file)
        self._report(now_s)

    def _report(self, now_s: float) -> None:
        for file in self._open:
            self._update_report(file)
        line = Line(now_s, self._connections.moved_s, self._connections.received_bytes, self._outage)
        self._outbox.post(progress_of(self._command.attempt, self.files, self._reports, line))

    def _update_report(self, file: DownloadFile) -> None:
        for index, report in zip(file.indexes, reports_of(file), strict=True):
            self._reports[index] = report

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
            connectivity.probe_when_due(now_s)
            if now_s - outage.since_s > self._shared.network_wait_s:
                raise NetworkError(
                    f"No network since {outage.since_text}. Downloaded data is kept. Retry when the network is back."
                )

    def _resolve_next(self, now_s: float) -> None:
        for file in self._open:
            if (part := file.part_to_resolve(now_s)) is not None:
                part.is_resolving = True
                self._do("resolve", file, jobs.resolve_part, part, self._shared.session)

    def _resolved(self, file: DownloadFile, part: Part, answer: Remote | ExchangeError, now_s: float) -> None:
        part.is_resolving = False
        if isinstance(answer, ExchangeError):
            self._trouble(part, answer, now_s, others_receive=False)
            return
        part.resolved(answer)
        if file.stage is Stage.CHECKING and file.check is None and not file.needs_digest:
            self._check(file)
        self._open_partial(file)

    def _trouble(self, part: Part, error: ExchangeError, now_s: float, *, others_receive: bool) -> Step:
        if isinstance(error, LineError) and not others_receive:
            self._shared.connectivity.failed(now_s)
        is_offline = self._shared.connectivity.outage is not None
        step = part.troubles.failed(error, now_s, others_receive=others_receive, is_offline=is_offline)
        has_mirrors = len(self._shared.session.endpoints) > 1
        return Step.RESOLVE if has_mirrors and step is Step.AGAIN else step  # a mirror may have another storage

    # Files from stage to stage ---------------------------------------------------------------------------------------

    def _open_next(self) -> None:
        """Open files until the open ones have enough to fetch, so that connections never idle between shards."""
        while self._pending and self._wants_another_file():
            file = self._pending.pop()
            file.advance(Cause.OPENED)
            self._open.append(file)
            if not file.needs_digest:
                self._check(file)

    def _wants_another_file(self) -> bool:
        if any(file.stage is Stage.CHECKING for file in self._open):
            return False  # also if another process has it: then its progress is followed file by file
        fetching = [file for file in self._open if file.stage.is_fetching]
        if sum(file.copy is not None for file in fetching) >= _MOST_COPIED_FILES:
            return False
        free = sum(file.unassigned_bytes for file in fetching)
        open_files = sum(not file.has_all_bytes for file in fetching)
        return open_files < _MOST_OPEN_FILES and free < self._connections.share * LONGEST_REQUEST_BYTES

    def _check(self, file: DownloadFile) -> None:
        least_bytes = self._limits(file).least_gain_bytes
        file.check, search = jobs.check_of(
            file, self._command, self._shared, self._known_folders, least_bytes, self._stop
        )
        self._do("check", file, jobs.check_target, file.check, search)

    def _limits(self, file: DownloadFile) -> ReuseLimits:
        """The limits of one file: the least gain is for the whole download, so each file has to reach its share."""
        limits, size_bytes = self._shared.reuse_limits, file.size_bytes or 0
        all_bytes = sum(one.size_bytes or 0 for one in self.files) or 1
        return replace(limits, least_gain_bytes=limits.least_gain_bytes * size_bytes // all_bytes)

    def _checked(self, file: DownloadFile, result: CheckResult) -> None:
        file.is_linked = result.is_linked
        if result.stored is not None:
            self._done(file, result.stored, Cause.FOUND)
            return
        file.donors = result.donors
        file.advance(Cause.HAS_DONORS if result.donors else Cause.LEASED)
        self._open_partial(file)

    def _open_partial(self, file: DownloadFile) -> None:
        is_sized = file.size_bytes is not None or file.parts[0].is_asked
        if file.stage.is_fetching and file.opened is None and not file.is_opening and is_sized:
            file.is_opening = True
            reservations = [] if file in self._reserved else self._reservations()
            space, attempt = self._shared.disk_space, self._command.attempt
            self._do("open", file, jobs.open_partial, file.lease, self.inbox, space, attempt, reservations)

    def _reservations(self) -> list[Reservation]:
        files = [file for file in self.files if file.stage is not Stage.DONE and file.size_bytes is not None]
        self._reserved.update(files)
        return [Reservation(file.path, file.size_bytes or 0, not self._replaces) for file in files]

    def _opened(self, file: DownloadFile, opened: PartialFile | None, now_s: float) -> None:
        file.is_opening = False
        if opened is None or not file.stage.is_fetching:
            if opened is not None:
                opened.close(is_ours=False)
            self._lose(now_s, [file])
            return
        file.take_opened(opened, now_s)
        owner = [str(one.parent) for one in file.path.parents if one.match(self._command.repo_id)]
        self._known_folders = tuple(
            dict.fromkeys((*self._known_folders, *owner))
        )  # its folder exists while its disk is mounted
        if file.stage is Stage.COMPARING and file.check is not None:
            file.begin_comparison(file.check.comparison(opened.path, self._limits(file)))

    def _lose(self, now_s: float, files: Iterable[DownloadFile]) -> None:
        """Other processes have these files, or they were deleted: start them again; raises `StorageError`."""
        for file in files:
            for part in file.parts:
                self._connections.abandon_part(file, part, now_s)
            file.lost()
            self._check(file)

    def _wrong(self, file: DownloadFile, part: Part, now_s: float) -> None:
        """Fetch a wrong part again: first its copied bytes, then all of it, once; raises `IntegrityError`."""
        file.end_copy()
        if file.forget_copied(part):
            return
        actual = part.wrong_sha256 or ""
        self._connections.abandon_part(file, part, now_s)
        file.forget(part)
        if part.is_refetched:
            raise file.wrong_twice(part, actual)
        part.is_refetched = True
        part.remote = None

    def _finalize(self, file: DownloadFile, opened: PartialFile, now_s: float) -> None:
        if not file.may_be_a_model:
            for part in file.parts:
                self._connections.abandon_part(file, part, now_s)
                file.forget(part)
            raise IntegrityError(
                f"{host_text(origin_of(self._shared.session.endpoint))} sent a file for {file.parts[0].planned.path_in_repo} that is not a "
                "GGUF file (a web page, an empty file or a Git LFS pointer). It was not kept. Check the repository, then retry."
            )
        opened.record()  # if the rename fails, a resume finds everything
        stored = file.as_stored()
        file.advance(Cause.VERIFIED)
        self._do("finalize", file, jobs.finalize, opened, stored, self._gate, self._replaces, file.facts is not None)

    def _finalized(self, file: DownloadFile, outcome: StoredFile | LeaseLostError | None, now_s: float) -> None:
        if isinstance(outcome, LeaseLostError):
            self._lose(now_s, [file])
        elif outcome is not None:
            self._done(file, outcome, Cause.RENAMED)

    def _done(self, file: DownloadFile, stored: StoredFile, cause: Cause) -> None:
        file.advance(cause)
        file.stored, file.opened = stored, None
        if file.check is not None:
            file.check.lease.release()
        self._open.remove(file)
        self._update_report(file)

    # Requests --------------------------------------------------------------------------------------------------------

    def _ended(self, request: Request, error: Exception | None, now_s: float) -> None:
        """A connection has ended a request; raises `GglibError`."""
        if not self._connections.ended(request, now_s):
            return  # it was revoked before
        file, part = request.file, request.part
        file.settle()  # the digest should not wait for the next tick
        request.forgive_if_received()
        if request.received_bytes and part.remote is not None and part.remote.mirror:
            file.mirrors.append(part.remote.mirror)
        match error:
            case None if part.end is None and request.end is not None:
                file.ended_at(part, request.end)
            case None:
                pass
            case LeaseLostError():
                if not file.renew():
                    self._lose(now_s, [file])
            case ExchangeError():
                self._failed(request, error, now_s)
            case _:
                raise error

    def _failed(self, request: Request, error: ExchangeError, now_s: float) -> None:
        part = request.part
        if part.remote is None or part.remote.url != request.url:
            return  # it concerned an address that has been replaced since
        others_receive = self._connections.others_receive(now_s)
        match self._trouble(part, error, now_s, others_receive=others_receive):
            case Step.WHOLE:
                part.is_whole = True
                self._connections.abandon_part(request.file, part, now_s)
            case Step.RESOLVE:
                part.remote = None
            case Step.FOLLOW:
                part.redirected(error)
            case Step.FEWER:
                self._connections.refused(now_s)
            case Step.AGAIN:
                pass

    def _take_stalled(self, now_s: float) -> None:
        """Abandon the requests of connections that receive nothing; raises `GglibError`."""
        timeouts = self._shared.timeouts
        for request in self._connections.stalled(now_s, timeouts):
            self._connections.abandon(request, now_s)
            self._connections.note_stall(now_s)
            request.forgive_if_received()
            silent_s = timeouts.stall_s if request.received_bytes else timeouts.answer_s
            self._failed(request, SilentError(host_text(origin_of(request.url)), silent_s), now_s)

    # The disk --------------------------------------------------------------------------------------------------------

    def _record(self, file: DownloadFile, now_s: float) -> bool:
        """Write the journal, and start a sync if one is due; False if the file is no longer ours.

        Raises:
            TransferError: The journal cannot be written.
        """
        if not file.stage.is_fetching or file.opened is None:
            return True
        if not file.is_ours():
            return False
        try:
            file.opened.record()
            if (ranges := file.begin_sync(now_s)) is not None:
                self._do("sync", file, jobs.sync, file.version, file.opened.syncer(), ranges)
        except OSError as error:
            raise storage_error(error, file.opened.path) from error
        return True

    def _read_facts(self, file: DownloadFile) -> None:
        """Parse the header once it may have arrived: its facts are ready at the end, and a shard of another set fails early."""
        reach = file.reach_to_look_at()
        if reach is not None and file.opened is not None:
            first = file.parts[0].planned
            shard = first.path_in_repo if len(file.parts) == 1 and first.kind == "shard" else None
            self._do("header", file, jobs.read_facts, file.version, reach, file.opened.reader(), file.size_bytes, shard)

    # Tensors of other files ------------------------------------------------------------------------------------------

    def _compare(self, file: DownloadFile, opened: PartialFile) -> None:
        """Take the next step of the comparison, if its bytes are on the disk."""
        if file.parts[0].is_whole or opened.journal.is_copy_wrong:
            self._end_comparison(file, ())  # a server that sends only the whole would send it for every sample
        elif (step := file.take_comparison()) is not None:
            self._do("compare", file, jobs.compare, file.version, *step)

    def _compared(self, event: jobs.Compared) -> None:
        file = event.file
        if file.stage is not Stage.COMPARING or file.version != event.version:
            return
        if event.comparison is not None:
            file.wanted_first, file.comparison = list(event.wanted), event.comparison
        else:
            self._end_comparison(file, event.copies)

    def _end_comparison(self, file: DownloadFile, copies: Sequence[Copy]) -> None:
        file.end_comparison()
        if copies:
            self._copy(file, copies)

    def _copy(self, file: DownloadFile, copies: Sequence[Copy]) -> None:
        assert file.opened is not None  # noqa: S101  # the callers have checked
        file.begin_copy(TensorCopy(file.opened, file.donors, copies, self.inbox))

    def _copied(self, event: CopyEnded, now_s: float) -> None:
        file = next((one for one in self._open if one.copy is event.copy), None)
        if file is None:
            return  # it was revoked before
        file.end_copy()
        if event.is_lease_stale and file.renew():
            self._copy(file, event.copy.copies)
        elif event.is_lease_stale:
            self._lose(now_s, [file])
