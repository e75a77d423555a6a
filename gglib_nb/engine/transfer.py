"""One transfer: one thread, one inbox of typed events, and everything that follows from them.

`Transfer` takes one event after the other from its inbox; `_handle` matches on all of them. Whatever takes long (asking the
hub, looking at files, syncing, renaming) is a job on a thread of its own, which knows nothing of the transfer and ends with
an event. Connections report with `RequestEnded`, the digest with `Digested`. So all state of a transfer belongs to this
thread, and a test can drive it by events alone. It never waits for the network, for an fsync of a large file or a long read.
"""

import contextlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, assert_never

from msgspec import Struct
from typing_extensions import override

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.domain.http_rules import origin_of
from gglib_nb.domain.secrets import redacted
from gglib_nb.domain.values import Value
from gglib_nb.engine.connections import Connections, Pool, RequestEnded
from gglib_nb.engine.disk import DiskSpace, Reservation, disk_full, lease_path, room, storage_error
from gglib_nb.engine.file import Cause, DownloadFile, Part, Request, Stage, files_of
from gglib_nb.engine.http import ExchangeError, LineError, MovedError, Session, SilentError, host_text
from gglib_nb.engine.lease import Lease, LeaseLostError
from gglib_nb.engine.local import (
    CheckResult,
    Facts,
    StoppedError,
    TargetCheck,
    arrived_facts,
    check_split_set,
    clear_journal,
    facts_of,
)
from gglib_nb.engine.pacing import LONGEST_REQUEST_BYTES, MOST_CONNECTIONS, choose_split, request_bytes
from gglib_nb.engine.partial import PartialFile, RenameGate
from gglib_nb.engine.pieces import MIB, RangeSet
from gglib_nb.engine.progress import Line, Rest, progress_of
from gglib_nb.engine.protocol import (
    Event as Report,
)
from gglib_nb.engine.protocol import (
    FileProgress,
    StartTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine.resolve import Remote, check_redirect, follow, resolve
from gglib_nb.engine.retry import Connectivity, Outage, Step, can_retry
from gglib_nb.engine.reuse import (
    Asked,
    CopyEnded,
    Decided,
    DonorSearch,
    TensorComparison,
    TensorCopy,
)
from gglib_nb.engine.reuse import (
    Step as ComparisonStep,
)
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import (
    DiskFullError,
    GglibError,
    IntegrityError,
    NetworkError,
    StorageError,
    TransferError,
    to_wire,
)

_TICK_S: Final = 0.1
_RECORD_S: Final = 0.5
_RENEW_S: Final = 1.0
# At a stop, a rename that has begun is waited for no longer than this.
_STOP_WAIT_S: Final = 0.5
# At the end, a partial file that is being opened is waited for no longer than this.
_CLOSE_WAIT_S: Final = 1.0
# So long after the last byte an outage is believed.
_FLOWING_S: Final = 2.0
# A connection that received less before it broke counts as one that received nothing. Little enough that a line which is
# slow and breaks off often is never given up while bytes come.
_WORTH_BYTES: Final = 4 * 1024
_MOST_OPEN_FILES: Final = MOST_CONNECTIONS
# While one is copied the line is free for the next; more at once only make a disk seek.
_MOST_COPIED_FILES: Final = 2
_LOOKS_GROW: Final = 4
_LAST_LOOK_BYTES: Final = 64 * MIB


class Outbox(Protocol):
    """Takes what is reported."""

    def post(self, event: Report) -> None:
        """Send it, without waiting."""


class Shared(Struct):
    """What all transfers of an engine share. Each part is safe to use from any thread; the command loop alone sets fields.

    Attributes:
        session: With the hub; replaced when the endpoint or the token changes.
        link_folders: Where an identical file may be.
        pool: The connections.
        disk_space: What each attempt will still write.
        connectivity: Whether the hub can be reached at all.
        network_wait_s: How long a transfer waits for a network that is down before it fails.
        timeouts: How long to wait for what.
        reuse_limits: When tensors that are here are worth comparing, and what that may cost.
    """

    session: Session
    link_folders: tuple[str, ...]
    pool: Pool
    disk_space: DiskSpace
    connectivity: Connectivity
    network_wait_s: float
    timeouts: Timeouts
    reuse_limits: ReuseLimits = ReuseLimits()


# --- Events -----------------------------------------------------------------------------------------------------------


class Tick(Value, frozen=True):
    """A tenth of a second has passed."""


class Checked(Value, frozen=True):
    """A file was looked at: it is there, or its lease is ours."""

    file: DownloadFile
    result: CheckResult


class Opened(Value, frozen=True):
    """A partial file is open; None: the lease was lost before."""

    file: DownloadFile
    opened: PartialFile | None


class Resolved(Value, frozen=True):
    """The hub has answered where a part is, or has not."""

    file: DownloadFile
    part: Part
    answer: Remote | ExchangeError


class Compared(Value, frozen=True):
    """A step of a comparison is done."""

    file: DownloadFile
    opened: PartialFile
    outcome: Asked | Decided


class Synced(Value, frozen=True):
    """These bytes have reached the disk."""

    file: DownloadFile
    opened: PartialFile
    generation: int
    ranges: RangeSet


class Digested(Value, frozen=True):
    """A part of a file has its digest, or it cannot be read."""

    file: DownloadFile


class FactsRead(Value, frozen=True):
    """A header was read while the rest of the file arrives; None: it was not there as a whole."""

    file: DownloadFile
    opened: PartialFile
    generation: int
    facts: Facts | None
    reach: int


class Finalized(Value, frozen=True):
    """A file has its final name; or its lease was lost; or None: the transfer was stopped before."""

    file: DownloadFile
    outcome: StoredFile | LeaseLostError | None


class Failed(Value, frozen=True):
    """A job could not be done, and the transfer cannot be continued."""

    error: Exception


class Stop(Value, frozen=True):
    """End now; what was fetched is kept."""


Event = (
    Tick | Checked | Opened | Resolved | RequestEnded | Compared | CopyEnded | Synced | Digested | FactsRead | Finalized
    | Failed | Stop
)  # fmt: skip


class Inbox(queue.SimpleQueue[Any]):
    """Events for the transfer's thread. Once it is closed, what a late job brings is given back at once."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._is_closed = False

    @override
    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:
        """Have the event handled; never waits."""
        with self._lock:
            if not self._is_closed:
                super().put(item)
                return
        _give_back(item)

    def close(self) -> None:
        """No event is handled any more."""
        with self._lock:
            self._is_closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                _give_back(self.get_nowait())


def _give_back(event: Event) -> None:
    """Release what an event brings and no transfer takes any more."""
    with contextlib.suppress(OSError, GglibError):
        match event:
            case Checked() if event.file.check is not None:
                event.file.check.lease.release()
            case Opened() if event.opened is not None:
                event.opened.close(is_ours=False)


Job = Callable[[], Event | None]
"""Does what takes long, and says what came out; None where nothing follows from it."""
StartJob = Callable[[Inbox, str, Job], None]


def in_thread(inbox: Inbox, name: str, job: Job) -> None:
    """Do a job on a thread of its own; its event is put into the inbox."""

    def run() -> None:
        try:
            event = job()
        except Exception as error:  # noqa: BLE001  # it must reach the coordinator, which would wait for ever
            event = Failed(error)
        if event is not None:
            inbox.put(event)

    threading.Thread(target=run, name=f"gglib-{name}", daemon=True).start()


class Transfer:
    """One attempt. `start`, `stop`, `join` and `is_over` are for any thread; everything else belongs to its own.

    Attributes:
        files: In the order in which they are opened.
        inbox: Where events are put.
    """

    def __init__(
        self,
        command: StartTransfer,
        shared: Shared,
        outbox: Outbox,
        start_job: StartJob = in_thread,
        now_s: float | None = None,
    ) -> None:
        """Nothing happens yet.

        Args:
            command: What to fetch.
            shared: What all transfers share.
            outbox: Gets the progress, and one event that ends the attempt.
            start_job: Does jobs elsewhere.
            now_s: None: by the monotonic clock.
        """
        now_s = time.monotonic() if now_s is None else now_s
        self.inbox = Inbox()
        self.files = files_of(command, shared.session.endpoint, shared.timeouts)
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
        self._is_linked = False
        self._reused: tuple[int, tuple[str, ...]] = (0, ())
        self._outage: Outage | None = None
        self._is_digest_behind = False
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
        """End within a second; the end is reported."""
        self._stop.set()
        self.inbox.put(Stop())

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _main(self) -> None:
        try:
            end = self._run()
        except Exception as error:  # noqa: BLE001  # also a bug must end the attempt, or its slot is held for ever
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
        """Handle the events that are there, or the first that comes; whether a stop was among them."""
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
        """What was renamed already is done; everything else is left for a resume."""
        self._gate.close()
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while self._is_renaming and (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self.inbox.get(timeout=left_s)
                if isinstance(event, Finalized):
                    self.handle(event, time.monotonic())
        return self._finished(time.monotonic()) if self.is_done else TransferStopped(self._command.attempt)

    @property
    def _is_renaming(self) -> bool:
        return any(
            file.stage is Stage.FINALIZING and file.opened is not None and file.opened.is_renamed for file in self._open
        )

    def _as_ours(self, error: Exception) -> GglibError:
        """What the kernel is told; a full disk says what is missing, a bug leaves its traceback in the log."""
        path = self.files[0].path
        if isinstance(error, OSError):
            error = storage_error(error, path)
        if isinstance(error, DiskFullError) and error.needed_bytes is None:
            needed = sum(file.absent_bytes for file in self.files)
            return disk_full(path.parent, needed, room(path.parent))
        if isinstance(error, GglibError):
            return error
        traceback.print_exception(error, file=sys.stderr)
        return StorageError(f"The engine failed ({type(error).__name__}: {redacted(str(error))}); see its log.")

    def close(self) -> None:
        """Revoke everything, write the journals, close the files, give the leases back. Harmless when repeated."""
        self._stop.set()
        self._gate.close()
        self._wait_for_opening()
        for file in self._open:
            with contextlib.suppress(OSError, GglibError):  # the attempt ends whatever the disk says
                file.close()
        self._connections.close_all()
        self._shared.disk_space.release(self._command.attempt)
        self.inbox.close()

    def _wait_for_opening(self) -> None:
        """Partial files that are being opened are closed with the others: afterwards the targets are free."""
        deadline_s = time.monotonic() + _CLOSE_WAIT_S
        while any(file.is_opening for file in self._open) and (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self.inbox.get(timeout=left_s)
                if isinstance(event, Opened):
                    event.file.is_opening, event.file.opened = False, event.opened
                elif isinstance(event, Failed):
                    return  # it may have been that
                else:
                    _give_back(event)

    # Events ----------------------------------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether every file has its final name."""
        return not self._pending and not self._open

    def scan(self) -> None:
        """See what earlier runs left."""
        by_index: dict[int, FileProgress] = {}
        for file in self.files:
            file.scan(is_replaced=self._replaces)
            by_index.update(zip(file.indexes, file.progress(), strict=True))
        self._reports = [by_index[index] for index in range(len(by_index))]

    def handle(self, event: Event, now_s: float) -> None:  # noqa: C901  # one line for each event
        """Take note of an event.

        Raises:
            Exception: It ends the transfer.
        """
        match event:
            case Tick():
                self._tick(now_s)
            case Checked():
                self._checked(event.file, event.result)
            case Opened():
                self._opened(event.file, event.opened, now_s)
            case Resolved():
                self._resolved(event.file, event.part, event.answer, now_s)
            case RequestEnded():
                self._ended(event.request, event.error, now_s)
            case Compared():
                self._compared(event)
            case CopyEnded():
                self._copied(event, now_s)
            case Synced():
                event.file.synced(event.opened, event.generation, event.ranges)
            case Digested():
                pass  # `advance` compares the digest
            case FactsRead():
                self._facts_read(event)
            case Finalized():
                self._finalized(event.file, event.outcome, now_s)
            case Failed():
                raise event.error
            case Stop():
                pass  # ends `_take`
            case _:
                assert_never(event)

    def advance(self, now_s: float) -> None:
        """Do everything that can be done now.

        Raises:
            GglibError: The transfer failed.
            OSError: The disk cannot do it.
        """
        fetching = [file for file in self._open if file.stage.is_fetching]
        has_work = any(file.unassigned_bytes or file.requests for file in fetching)
        self._connections.adjust_share(has_work=has_work or any(file.size_bytes is None for file in fetching))
        self._look_at_network(now_s)
        self._open_next()
        for file in fetching:
            if file.opened is not None and file.stage is Stage.COMPARING:
                self._compare(file)
            elif file.opened is not None:
                self._verify(file, now_s)
        if self._outage is None:
            self._resolve_next(now_s)
            self._assign(now_s)

    def _tick(self, now_s: float) -> None:
        """Measure, and do what is due."""
        self._connections.measure(now_s, is_digest_behind=self._is_digest_behind)
        for file in self._open:
            file.settle()
        self._take_stalled(now_s)
        self._replace_slow(now_s)
        if now_s >= self._next_renew_s:
            self._next_renew_s = now_s + min(_RENEW_S, self._shared.timeouts.lease_s / 5)
            self._lose(now_s, [file for file in self._open if not _renew(file)])
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
        rest = Rest(bool(self._pending), self._is_linked, self._reused)
        self._outbox.post(progress_of(self._command.attempt, self._open, rest, self._reports, line))

    def _update_report(self, file: DownloadFile) -> None:
        for index, report in zip(file.indexes, file.progress(), strict=True):
            self._reports[index] = report

    # The network -----------------------------------------------------------------------------------------------------

    def _look_at_network(self, now_s: float) -> None:
        """Wait while nothing can be reached, and begin again where it can be.

        Raises:
            NetworkError: That took too long.
        """
        connectivity = self._shared.connectivity
        # Bytes that still come contradict an outage: the hub may be gone and its CDN not.
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
        """Ask the hub for the first part of each file whose place, or whose digest, is needed and not known."""
        for file in self._open:
            part = self._part_to_resolve(file, now_s)
            if part is not None and not part.is_resolving:
                part.is_resolving = True
                self._start_job(self.inbox, "resolve", partial(_resolve, self._shared.session, file, part))

    @staticmethod
    def _part_to_resolve(file: DownloadFile, now_s: float) -> Part | None:
        if file.is_opening and file.size_bytes is not None:
            return None  # a disk that is full is found before anything is asked
        if file.stage.is_fetching:
            part = next(file.waiting_parts(now_s), None)
            return part if part is not None and part.remote is None else None
        if file.stage is not Stage.CHECKING or file.check is not None:
            return None
        unknown = (part for part in file.parts if part.sha256 is None and not part.is_asked)
        return next((part for part in unknown if now_s >= part.troubles.retry_at_s), None)

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
        return part.troubles.failed(error, now_s, others_receive=others_receive, is_offline=is_offline)

    # Files from stage to stage ---------------------------------------------------------------------------------------

    @property
    def _replaces(self) -> bool:
        return self._command.force or self._command.replaces

    def _open_next(self) -> None:
        """Open files until those that are open have enough to fetch, so that connections never idle between shards."""
        while self._pending and self._wants_another_file():
            file = self._pending.pop()
            file.advance(Cause.OPENED)
            self._open.append(file)
            if not file.needs_digest:
                self._check(file)

    def _wants_another_file(self) -> bool:
        if any(file.stage is Stage.CHECKING for file in self._open):
            return False  # also where another process has it: then it is followed file by file
        fetching = [file for file in self._open if file.stage.is_fetching]
        if sum(file.copy is not None for file in fetching) >= _MOST_COPIED_FILES:
            return False
        free = sum(file.unassigned_bytes for file in fetching)
        open_files = sum(not file.has_all_bytes for file in fetching)
        has_enough = free >= self._connections.share * LONGEST_REQUEST_BYTES
        return open_files < _MOST_OPEN_FILES and not has_enough

    def _check(self, file: DownloadFile) -> None:
        lease = Lease(
            lease_path(file.path), self._shared.timeouts.lease_s, file.take_seen_lease(), self._command.gone_owners
        )
        file.check = TargetCheck(
            tuple(part.known for part in file.parts),
            force=self._command.force,
            replaces=self._command.replaces,
            folder=self._command.folder,
            link_folders=self._shared.link_folders,
            lease=lease,
            stop=self._stop,
        )
        search = self._donor_search(file)
        self._start_job(self.inbox, "check", partial(_check, file, file.check, search))

    def _donor_search(self, file: DownloadFile) -> DonorSearch | None:
        """What tensors may be copied from; None where nothing may.

        Raw pieces of a file have one header among them and are left alone. Where the hub states no digest, nothing could tell
        whether a guess was right.
        """
        least_bytes = self._limits(file).least_gain_bytes
        (first, *others) = file.parts
        is_unsuitable = self._command.force or others or first.sha256 is None or (file.size_bytes or 0) < least_bytes
        if is_unsuitable or file.path.suffix.lower() != ".gguf":
            return None
        return DonorSearch(file.path, self._command.repo_id, self._command.donors, least_bytes, self._stop)

    def _limits(self, file: DownloadFile) -> ReuseLimits:
        """Those of one file: what must be gained is meant for the whole download, so a file is responsible for its share."""
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
        """Open the partial file once its size is known, or known to be unknown."""
        is_sized = file.size_bytes is not None or file.parts[0].is_asked
        if not file.stage.is_fetching or file.opened is not None or file.is_opening or not is_sized:
            return
        assert file.lease is not None  # noqa: S101  # it is fetched only with its lease
        file.is_opening = True
        reservations = None if file in self._reserved else self._reservations()
        news = Digested(file)
        job = partial(
            _open, file, file.lease, self._shared.disk_space, self._command.attempt, reservations, self.inbox, news
        )
        self._start_job(self.inbox, "open", job)

    def _reservations(self) -> list[Reservation]:
        """What this attempt will still write."""
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
        if file.stage is Stage.COMPARING:
            seed = file.parts[0].planned.sha256 or str(file.path)
            file.comparison = TensorComparison(opened.path, file.size_bytes or 0, seed, file.donors, self._limits(file))
            file.next_step = file.comparison.begin

    def _lose(self, now_s: float, files: Iterable[DownloadFile]) -> None:
        """Other processes have these files, or they were taken away: begin as at the beginning.

        Raises:
            StorageError: A link has come into the way to one.
        """
        for file in files:
            for request in file.requests:
                self._connections.abandon(request, now_s)
            file.lost()
            self._check(file)

    def _verify(self, file: DownloadFile, now_s: float) -> None:
        """Compare the digests that have come; finalize a file whose every part is right."""
        wrong = file.verify()
        if wrong is not None:
            self._wrong(file, wrong, now_s)
        elif file.is_proven:
            self._finalize(file, now_s)

    def _wrong(self, file: DownloadFile, part: Part, now_s: float) -> None:
        """Have a wrong part fetched again: first what was copied on a guess, then all of it, once.

        Raises:
            IntegrityError: It was wrong twice.
        """
        file.end_copy()
        if file.forget_copied(part):
            return
        actual = part.wrong_sha256 or ""
        self._abandon_part(file, part, now_s)
        file.forget(part)
        if part.is_refetched:
            raise file.wrong_twice(part, actual)
        part.is_refetched = True
        part.remote = None

    def _finalize(self, file: DownloadFile, now_s: float) -> None:
        opened, first = file.opened, file.parts[0]
        assert opened is not None  # noqa: S101  # it was fetched
        if not file.is_verified and file.path.suffix.lower() == ".gguf" and opened.head() != b"GGUF":
            for part in file.parts:
                self._abandon_part(file, part, now_s)
                file.forget(part)
            raise IntegrityError(
                f"{host_text(origin_of(self._shared.session.endpoint))} sent a file for {first.planned.path_in_repo} that is not a "
                "GGUF file (a web page, an empty file or a Git LFS pointer). It was not kept. Check the repository, then retry."
            )
        opened.record()  # should the rename not happen, a resume finds everything
        count, names = file.reused
        stored = StoredFile(
            target=str(file.path),
            path_in_repo=first.planned.path_in_repo,
            kind=first.planned.kind,
            size_bytes=file.size_bytes or 0,
            sha256=opened.hasher.digest.whole,
            is_verified=file.is_verified,
            mtime_ns=0,
            was_present=False,
            facts=file.facts or {},
            verified_at_s=time.time() if file.is_verified else None,
            block_digests=opened.hasher.digest.block_digests,
            reused_bytes=count,
            reused_from=names,
        )
        file.advance(Cause.VERIFIED)
        has_facts = file.facts is not None
        job = partial(_finalize, file, opened, stored, self._gate, may_replace=self._replaces, has_facts=has_facts)
        self._start_job(self.inbox, "finalize", job)

    def _finalized(self, file: DownloadFile, outcome: StoredFile | LeaseLostError | None, now_s: float) -> None:
        if isinstance(outcome, LeaseLostError):
            self._lose(now_s, [file])
        elif outcome is not None:
            self._done(file, outcome, Cause.RENAMED)

    def _done(self, file: DownloadFile, stored: StoredFile, cause: Cause) -> None:
        file.advance(cause)
        file.stored, file.opened = stored, None
        self._is_linked = self._is_linked or file.is_linked
        self._reused = self._reused[0] + stored.reused_bytes, (*self._reused[1], *stored.reused_from)
        if file.check is not None:
            file.check.lease.release()
        self._open.remove(file)
        self._update_report(file)

    # Requests --------------------------------------------------------------------------------------------------------

    def _assign(self, now_s: float) -> None:
        """Give requests to connections as long as there are both."""
        while self._connections.can_take and (request := self._next_request(now_s)) is not None:
            if not self._connections.assign(request, self._shared.session, now_s):
                request.file.end_request(request)
                return

    def _next_request(self, now_s: float) -> Request | None:
        connections, rate = self._connections, self._connections.typical_rate(now_s)
        length_bytes = self._length_bytes(rate)
        # A file without requests comes first: what one connection receives in order need not be read again for its digest.
        for file in sorted(self._open, key=_has_requests):
            if (request := file.next_request(now_s, length_bytes, connections.share)) is not None:
                self._is_digest_behind = False
                return request
        self._is_digest_behind = any(file.stage is Stage.FETCHING and file.unassigned_bytes for file in self._open)
        if any(file.will_have_requests for file in self._open) or self._is_digest_behind:
            return None
        return self._split(now_s, rate)

    def _length_bytes(self, rate: float | None) -> int:
        missing = [count for file in self._open if (count := file.unassigned_bytes)]
        if len(missing) >= self._connections.share:
            return LONGEST_REQUEST_BYTES  # each connection has a file for itself, in which nothing comes out of order
        return request_bytes(rate, sum(missing), self._connections.share, self._connections.answer_s)

    def _split(self, now_s: float, rate: float | None) -> Request | None:
        """The tail of the slowest request, when nothing else is left to fetch."""
        running = [
            (request, request.file.running(request, one.request_rate(now_s)))
            for one in self._connections
            if (request := one.request) is not None and request.end is not None and not request.is_whole
            and request.part.troubles.retry_at_s <= now_s
        ]  # fmt: skip
        choice = choose_split([one for _, one in running], rate, self._connections.answer_s)
        if choice is None:
            return None
        request = running[choice[0]][0]
        return request.file.take_over(request, choice[1])

    def _ended(self, request: Request, error: Exception | None, now_s: float) -> None:
        """A connection is done with a request.

        Raises:
            GglibError: The failure cannot be repaired, or no byte came for too long.
        """
        if not self._connections.ended(request, now_s):
            return  # it was taken away before
        file, part = request.file, request.part
        file.end_request(request)
        file.settle()  # the digest should not wait for the next tick
        self._count(request)
        match error:
            case None if part.end is None and request.end is not None:
                file.ended_at(part, request.end)
            case None:
                pass
            case LeaseLostError():
                if not _renew(file):
                    self._lose(now_s, [file])
            case ExchangeError():
                self._failed(request, error, now_s)
            case _:
                raise error

    @staticmethod
    def _count(request: Request) -> None:
        """Forgive earlier failures where it received something."""
        # What a server that gives only the whole has sent is lost when it breaks off.
        has_gained = request.received_bytes >= _WORTH_BYTES and not request.is_whole
        if has_gained or request.position == request.end:
            request.part.troubles.received()

    def _failed(self, request: Request, error: ExchangeError, now_s: float) -> None:
        part = request.part
        if part.remote is None or part.remote.url != request.url:
            return  # it was about an address that has been replaced since
        others_receive = self._connections.others_receive(now_s)
        match self._trouble(part, error, now_s, others_receive=others_receive):
            case Step.WHOLE:
                part.is_whole = True
                self._abandon_part(request.file, part, now_s)
            case Step.RESOLVE:
                part.remote = None
            case Step.FOLLOW:
                _follow(part, part.remote, error)
            case Step.FEWER:
                self._connections.refused(now_s)
            case Step.AGAIN:
                pass

    def _abandon_part(self, file: DownloadFile, part: Part, now_s: float) -> None:
        """Take the requests of a part away from their connections; what they wrote stays."""
        for request in [one for one in file.requests if one.part is part]:
            self._abandon(request, now_s)

    def _abandon(self, request: Request, now_s: float) -> None:
        request.revoke()
        self._connections.abandon(request, now_s)
        request.file.end_request(request)

    def _take_stalled(self, now_s: float) -> None:
        """Take the requests away from connections that receive nothing.

        Raises:
            GglibError: No byte came for too long.
        """
        timeouts = self._shared.timeouts
        for request in self._connections.stalled(now_s, timeouts):
            self._abandon(request, now_s)
            self._connections.note_stall(now_s)
            self._count(request)
            silent_s = timeouts.stall_s if request.received_bytes else timeouts.answer_s
            self._failed(request, SilentError(host_text(origin_of(request.url)), silent_s), now_s)

    def _replace_slow(self, now_s: float) -> None:
        """Close a connection that is above our share or far slower than the best: after its request, or at once if that is long."""
        found = self._connections.to_be_closed(now_s)
        if found is None or found.request is None:
            return
        if found.ends_soon(now_s):
            found.closes_after_request = True
        else:
            self._abandon(found.request, now_s)

    # The disk --------------------------------------------------------------------------------------------------------

    def _record(self, file: DownloadFile, now_s: float) -> bool:
        """Write the journal, and begin a sync if one is due; False where the file is not ours any more.

        Raises:
            TransferError: The journal cannot be written.
        """
        opened, lease = file.opened, file.lease
        if not file.stage.is_fetching or opened is None or lease is None:
            return True
        if not lease.is_ours() or not opened.is_in_place:
            return False
        try:
            opened.record()
            if file.sync_is_due(now_s):
                ranges = file.begin_sync(now_s)
                job = partial(_sync, file, opened, opened.generation, opened.syncer(), ranges)
                self._start_job(self.inbox, "sync", job)
        except OSError as error:
            raise storage_error(error, opened.path) from error
        return True

    def _read_facts(self, file: DownloadFile) -> None:
        """Read the header once it may have arrived: it is known at the end, and a shard of another set ends at once."""
        opened, wanted_bytes, size_bytes = file.opened, file.next_look_bytes, file.size_bytes
        if opened is None or file.facts is not None or wanted_bytes is None or size_bytes is None:
            return
        reach = opened.pieces.reach(0)
        if file.stage is Stage.FETCHING and reach >= min(wanted_bytes, size_bytes) and size_bytes:
            file.next_look_bytes = None
            first = file.parts[0].planned
            shard = first.path_in_repo if len(file.parts) == 1 and first.kind == "shard" else None
            job = partial(_read_facts, file, opened, opened.generation, opened.reader(), size_bytes, reach, shard)
            self._start_job(self.inbox, "header", job)

    @staticmethod
    def _facts_read(event: FactsRead) -> None:
        file = event.file
        if file.opened is event.opened and event.opened.generation == event.generation:
            file.facts = event.facts
            file.next_look_bytes = event.reach * _LOOKS_GROW if event.reach < _LAST_LOOK_BYTES else None

    # Files that are already downloaded -------------------------------------------------------------------------------------

    def _compare(self, file: DownloadFile) -> None:
        """Take the next step, if its bytes are there."""
        opened, step = file.opened, file.next_step
        assert opened is not None  # noqa: S101  # the caller has looked
        if file.parts[0].is_whole or opened.is_copy_wrong:
            self._decided(file, Decided())  # a server that sends the whole only would send all of it for every sample
        elif step is not None and all(opened.pieces.is_present(*wanted) for wanted in file.wanted_first):
            file.next_step = None
            fetched = opened.pieces.present(is_fetched=True)
            self._start_job(self.inbox, "compare", partial(_compare, file, opened, step, fetched))

    def _compared(self, event: Compared) -> None:
        file, outcome = event.file, event.outcome
        if file.stage is not Stage.COMPARING or file.opened is not event.opened:
            return
        if isinstance(outcome, Asked):
            file.wanted_first, file.next_step = list(outcome.ranges), outcome.then
        else:
            self._decided(file, outcome)

    def _decided(self, file: DownloadFile, decided: Decided) -> None:
        file.wanted_first, file.next_step = [], None
        file.advance(Cause.COMPARED)
        if decided.copies:
            self._copy(file, decided)

    def _copy(self, file: DownloadFile, decided: Decided) -> None:
        """Copy what is neither there nor being fetched."""
        assert file.opened is not None  # noqa: S101  # the callers have looked
        file.copy = TensorCopy(file.opened, file.donors, decided.copies, self.inbox)
        for start, end in file.copy.pending:
            file.pieces.claim(start, end)
        file.copy.start()

    def _copied(self, event: CopyEnded, now_s: float) -> None:
        file = next((one for one in self._open if one.copy is event.copy), None)
        if file is None:
            return  # it was revoked before
        file.end_copy()
        if event.is_lease_stale and _renew(file):
            self._copy(file, Decided(tuple(event.copy.remaining())))
        elif event.is_lease_stale:
            self._lose(now_s, [file])


# --- Jobs: each on a thread of its own, and without the transfer ------------------------------------------------------


def _resolve(session: Session, file: DownloadFile, part: Part) -> Event:
    try:
        return Resolved(file, part, resolve(session, part.address, part.planned))
    except ExchangeError as error:
        return Resolved(file, part, error)


def _check(file: DownloadFile, check: TargetCheck, search: DonorSearch | None) -> Event | None:
    try:
        return Checked(file, check.run(search))
    except StoppedError:
        return None
    except OSError as error:
        return Failed(storage_error(error, file.path))


def _open(
    file: DownloadFile,
    lease: Lease,
    disk_space: DiskSpace,
    attempt: int,
    reservations: list[Reservation] | None,
    inbox: Inbox,
    news: Digested,
) -> Event:
    if not lease.is_ours():
        return Opened(file, None)
    try:
        if reservations is not None:
            disk_space.reserve(attempt, reservations)
        return Opened(file, PartialFile(file.path, file.identities, file.size_bytes, lease, inbox, news))
    except OSError as error:
        return Failed(storage_error(error, file.path))


def _compare(file: DownloadFile, opened: PartialFile, step: ComparisonStep, fetched: RangeSet) -> Event:
    try:
        return Compared(file, opened, step(fetched))
    except OSError:  # of the partial file: a connection that writes to it will find out and report it
        return Compared(file, opened, Decided())


def _sync(
    file: DownloadFile, opened: PartialFile, generation: int, sync: Callable[[], None], ranges: RangeSet
) -> Event:
    try:
        sync()
    except OSError as error:
        return Failed(storage_error(error, file.path))
    return Synced(file, opened, generation, ranges)


def _read_facts(
    file: DownloadFile, opened: PartialFile, generation: int, fd: int, size_bytes: int, reach: int, shard: str | None
) -> Event:
    return FactsRead(file, opened, generation, arrived_facts(fd, size_bytes, reach, shard), reach)


def _finalize(
    file: DownloadFile, opened: PartialFile, stored: StoredFile, gate: RenameGate, *, may_replace: bool, has_facts: bool
) -> Event:
    try:
        if not has_facts:
            stored = replace(stored, facts=facts_of(opened.reader(), stored.size_bytes))
        mtime_ns = opened.finish(file.path, stored.sha256 or "", gate, may_replace=may_replace)
    except LeaseLostError as error:
        return Finalized(file, error)
    except OSError as error:
        return Failed(storage_error(error, file.path))
    except TransferError as error:
        return Failed(error)
    finally:
        opened.close(is_ours=False)
    return Finalized(file, None if mtime_ns is None else replace(stored, mtime_ns=mtime_ns))


# --- Small things -----------------------------------------------------------------------------------------------------


def _has_requests(file: DownloadFile) -> bool:
    return bool(file.requests)


def _renew(file: DownloadFile) -> bool:
    """Write the heartbeat of the file's lease, if it has one; False when another process has the file.

    A lease that is lost while the file is being opened or finalized is found out there.
    """
    if file.lease is None or file.stage in (Stage.PENDING, Stage.DONE):
        return True
    return file.lease.renew(file.downloaded_bytes) or not file.stage.is_fetching or file.is_opening


def _follow(part: Part, remote: Remote, error: ExchangeError) -> None:
    assert isinstance(error, MovedError)  # noqa: S101  # the only one with that step
    url = follow(remote.url, error.location, part.planned.path_in_repo)
    check_redirect(remote.url, url, has_digest=part.sha256 is not None)
    part.remote = replace(remote, url=url)
