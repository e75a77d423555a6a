"""The long operations of a transfer, and the events with which they end.

Asking the hub, reading files, syncing and renaming are jobs on threads of their own: functions of a file that do not know
the transfer. Each ends with an event in the transfer's inbox; an error is the event `Failed`.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import Struct
from typing_extensions import override

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.gguf_reuse import Copy, ReuseLimits
from gglib_nb.domain.values import Value
from gglib_nb.engine.connections import Pool, RequestEnded
from gglib_nb.engine.disk import DiskSpace, Reservation, lease_path, storage_error
from gglib_nb.engine.file import DownloadFile, Part
from gglib_nb.engine.http import ExchangeError, Session
from gglib_nb.engine.lease import Lease, LeaseLostError
from gglib_nb.engine.local import CheckResult, Facts, FindDonors, StoppedError, TargetCheck, facts_of
from gglib_nb.engine.partial import PartialFile, RenameGate
from gglib_nb.engine.pieces import Range, RangeSet
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.resolve import Remote, resolve
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.reuse import Comparison, CopyEnded, find_donors
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import GglibError


class Shared(Struct):
    """The state that all transfers of an engine share. Each part is thread-safe; only the command loop sets fields."""

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
    """The check of a file is over: the file is complete at its target, or this process holds the lease."""

    file: DownloadFile
    result: CheckResult


class Opened(Value, frozen=True):
    """A partial file is open; None: the lease was lost before."""

    file: DownloadFile
    opened: PartialFile | None


class Resolved(Value, frozen=True):
    """The hub has answered where a part is, or the request failed."""

    file: DownloadFile
    part: Part
    answer: Remote | ExchangeError


class Compared(Value, frozen=True):
    """A step of a comparison is done: the next step needs these bytes; or None: it is over, and these runs can be copied."""

    file: DownloadFile
    version: int
    comparison: Comparison | None
    wanted: tuple[Range, ...] = ()
    copies: tuple[Copy, ...] = ()


class Synced(Value, frozen=True):
    """These bytes have reached the disk."""

    file: DownloadFile
    version: int
    ranges: RangeSet


class Digested(Value, frozen=True):
    """A part of some file has its digest, or the file cannot be read; `advance` checks which."""


class FactsRead(Value, frozen=True):
    """The header of an arriving file was parsed in its first `reach` bytes; None: it was incomplete."""

    file: DownloadFile
    version: int
    reach: int
    facts: Facts | None


class Finalized(Value, frozen=True):
    """A file has its final name; or its lease was lost; or None: the transfer was stopped before."""

    file: DownloadFile
    outcome: StoredFile | LeaseLostError | None


class Failed(Value, frozen=True):
    """A job failed, and the transfer cannot continue."""

    error: Exception


class Stop(Value, frozen=True):
    """Stop the transfer now; downloaded bytes are kept."""


Event = (
    Tick | Checked | Opened | Resolved | RequestEnded | Compared | CopyEnded | Synced | Digested | FactsRead | Finalized
    | Failed | Stop
)  # fmt: skip


class Inbox(queue.SimpleQueue[Any]):
    """Events for the transfer's thread. Once it is closed, the results of late jobs are released at once."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._is_closed = False

    @override
    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:
        """Queue the event; never blocks."""
        with self._lock:
            if not self._is_closed:
                super().put(item)
                return
        give_back(item)

    def close(self) -> None:
        """Release the queued events, and all later ones."""
        with self._lock:
            self._is_closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                give_back(self.get_nowait())


def give_back(event: Event) -> None:
    """Release the resources of an event that no transfer will handle."""
    with contextlib.suppress(OSError, GglibError):
        match event:
            case Checked() if event.file.check is not None:
                event.file.check.lease.release()
            case Opened() if event.opened is not None:
                event.opened.close(is_ours=False)


Job = Callable[[], Event | None]
"""A job: a long operation that returns its event; None if it has no result."""
StartJob = Callable[[Inbox, str, Job], None]


def in_thread(inbox: Inbox, name: str, job: Job) -> None:
    """Run a job on a thread of its own, and put its event into the inbox."""

    def run() -> None:
        if (event := job()) is not None:
            inbox.put(event)

    threading.Thread(target=run, name=f"gglib-{name}", daemon=True).start()


# --- The jobs ---------------------------------------------------------------------------------------------------------


def run_job(work: Callable[..., Event | None], file: DownloadFile, *args: object) -> Event | None:
    """Run a job; any error becomes an event, because the transfer would otherwise wait forever."""
    try:
        return work(file, *args)
    except OSError as error:
        return Failed(storage_error(error, file.path))
    except Exception as error:  # noqa: BLE001  # as above
        return Failed(error)


def resolve_part(file: DownloadFile, part: Part, session: Session) -> Event:
    """Ask the hub where a part is."""
    try:
        return Resolved(file, part, resolve(session, part.address, part.planned, part.troubles.failures))
    except ExchangeError as error:
        return Resolved(file, part, error)


def check_of(
    file: DownloadFile,
    command: StartTransfer,
    shared: Shared,
    known_folders: tuple[str, ...],
    least_bytes: int,
    stop: threading.Event,
) -> tuple[TargetCheck, FindDonors | None]:
    """The check of a file's target, which acquires its lease, and the search for donors if tensors may be copied.

    Raw splits have no donors, because the whole file has one header. Nor does a file whose digest the hub does not state:
    nothing could verify the copied bytes.
    """
    seen, file.seen_lease = file.seen_lease, None  # for the first check only
    lease = Lease(lease_path(file.path), shared.timeouts.lease_s, seen, command.gone_owners)
    check = TargetCheck(
        tuple(part.known for part in file.parts), command, known_folders, shared.link_folders, lease, stop
    )
    (first, *others) = file.parts
    is_unsuitable = command.force or others or first.sha256 is None or (file.size_bytes or 0) < least_bytes
    if is_unsuitable or file.path.suffix.lower() != ".gguf":
        return check, None
    return check, partial(find_donors, file.path, command.repo_id, command.donors, least_bytes, stop)


def check_target(file: DownloadFile, check: TargetCheck, search: FindDonors | None) -> Event | None:
    """Run the check of a target on this machine."""
    try:
        return Checked(file, check.run(search))
    except StoppedError:
        return None


def open_partial(
    file: DownloadFile, lease: Lease, inbox: Inbox, space: DiskSpace, attempt: int, reservations: list[Reservation]
) -> Event:
    """Open the partial file, if the lease is still held and the disk has room."""
    if not lease.is_ours():
        return Opened(file, None)
    if reservations:
        space.reserve(attempt, reservations)
    return Opened(file, PartialFile(file.path, file.identities, file.size_bytes, lease, inbox, Digested()))


def compare(file: DownloadFile, version: int, comparison: Comparison, fetched: RangeSet) -> Event:
    """Take a step of the comparison with donors."""
    try:
        return Compared(file, version, comparison, comparison.send(fetched))
    except StopIteration as end:
        return Compared(file, version, None, copies=end.value)
    except OSError:  # of the partial file: a connection that writes to it reports the error
        return Compared(file, version, None)


def sync(file: DownloadFile, version: int, work: Callable[[], None], ranges: RangeSet) -> Event:
    """Sync these bytes to the disk."""
    work()
    return Synced(file, version, ranges)


def read_facts(file: DownloadFile, version: int, reach: int, fd: int, size_bytes: int, shard: str | None) -> Event:
    """Parse the header from the bytes that have arrived."""
    return FactsRead(file, version, reach, facts_of(fd, size_bytes, reach, shard))


def finalize(
    file: DownloadFile, opened: PartialFile, stored: StoredFile, gate: RenameGate, may_replace: bool, has_facts: bool
) -> Event:
    """Give a proven file its final name."""
    try:
        if not has_facts:
            stored = replace(stored, facts=facts_of(opened.reader(), stored.size_bytes) or {})
        mtime_ns = opened.finish(file.path, stored.sha256 or "", gate, may_replace=may_replace)
    except LeaseLostError as error:
        return Finalized(file, error)
    finally:
        opened.close(is_ours=False)
    return Finalized(file, None if mtime_ns is None else replace(stored, mtime_ns=mtime_ns))
