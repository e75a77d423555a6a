"""Requests, plans, and the queue as users see it. Frozen values; `gglib_nb.queue.machine` changes the queue."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cached_property
from importlib import import_module
from os import PathLike
from typing import Any, Final, Literal, Self, TypeVar

from typing_extensions import override

from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.units import DailyHours, rate
from gglib_nb.domain.values import Value, known_sum
from gglib_nb.errors import GglibError

Fact = TypeVar("Fact", str, int)
BAR_STEPS: Final = 128
"""A file is divided into this many equal steps to report which bytes have arrived."""
_ITEMS_SHOWN: Final = 20


class DownloadStatus(StrEnum):
    """The state of a download; the words are the same on the wire and on the screen."""

    QUEUED = "queued"
    PAUSED = "paused"
    DOWNLOADING = "downloading"
    FINALIZING = "finalizing"
    REGISTERING = "registering"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_pending(self) -> bool:
        """Whether it waits in the queue, paused or not."""
        return self in (DownloadStatus.QUEUED, DownloadStatus.PAUSED)

    @property
    def is_active(self) -> bool:
        """Whether it runs or is being registered."""
        return self in (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING, DownloadStatus.REGISTERING)


class ShardStatus(StrEnum):
    """The state of one file of a download."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    FINISHED = "finished"


class DownloadRequest(Value, frozen=True):
    """What a caller asks for.

    Attributes:
        repo_id: `owner/name` on the Hub.
        quantization: Label, file name or key of the variant, in any case; None: gglib_nb chooses.
        revision: Branch, tag or commit; None: the default branch.
        force: Download again, and replace a file of another commit once the new one is verified.
        add_to_db: Register the finished model in the catalog.
        companions: Kinds of companion files to download with it, such as `("mmproj",)`.
        everywhere: On a cluster, download a copy for the folder of every host.
        to: An existing folder to use in place of the models folder; None: the models folder.
        then: A shell line, or a callable that takes a `FinishedDownload`; it runs once, when the download is complete.
    """

    repo_id: str
    quantization: str | None = None
    revision: str | None = None
    force: bool = False
    add_to_db: bool = True
    companions: tuple[str, ...] = ()
    everywhere: bool = False
    to: str | PathLike[str] | None = None
    then: str | Callable[[Any], object] | None = None

    @property
    def id(self) -> DownloadId:
        """The id as requested; the queue's own id names the variant that was chosen."""
        return DownloadId(self.repo_id, self.quantization, self.revision)


class PlannedFile(Value, frozen=True):
    """One file to download."""

    path_in_repo: str
    size_bytes: int | None  # None: unknown
    sha256: str | None  # the expected SHA-256; None: unknown, and the file ends as `unverified`
    target: str  # absolute path of the finished file. The parts of a byte split have the same target
    offset_bytes: int = 0  # of its first byte in the target; not 0 for later parts of a byte split
    kind: str = "shard"  # `shard`, or the kind of companion
    # Modification time of the target when it was last verified against `sha256`, None: never. A target that still has
    # it is not hashed again.
    known_mtime_ns: int | None = None
    # Bytes of the target that were wrong when it had that modification time (empty: the whole file); it is replaced,
    # and its right bytes are reused. None: nothing wrong is known.
    wrong_ranges: tuple[tuple[int, int], ...] | None = None


def sizes_by_target(files: Iterable[PlannedFile]) -> dict[str, int]:
    """The sizes of files as they are stored: the parts of a byte split are one file; an unknown size counts as 0."""
    sizes: dict[str, int] = {}
    for file in files:
        sizes[file.target] = sizes.get(file.target, 0) + (file.size_bytes or 0)
    return sizes


class PlannedDownload(Value, frozen=True):
    """A request with its commit, variant and files."""

    id: DownloadId  # the queue's id; its tail names the variant
    commit_sha: str
    label: str | None  # label of the quantization; None: the file names state none
    files: tuple[PlannedFile, ...]  # shards in order, then companions
    reason: str = ""  # why this variant, in words; empty if it was requested by name
    force: bool = False
    add_to_db: bool = True
    companions: tuple[str, ...] = ()
    # A file of another commit at a target is replaced once the new one is verified; until then its tensors may be
    # copied. Unlike with `force`, files that are present are used.
    replaces: bool = False
    # Paths of registered files that may contain the same tensors; those in the repository's own folder are found
    # anyway.
    donors: tuple[str, ...] = ()
    is_update: bool = False  # it replaces the registered model of the same id
    keeps_old: bool = False  # the old version stays registered, under an id with its commit
    everywhere: bool = False
    to: str | None = None  # absolute; the repository's folder in it exists while its disk is mounted
    then: str | None = None  # the shell line of the request
    scan_finding: str = ""  # the verdict of the Hub's security scan on one of its files; empty: no finding

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """Two plans with the same identity are the same download."""
        return (self.id.repo_id, self.commit_sha, self.id.quantization)

    @property
    def shard_count(self) -> int:
        """Files of the model itself, without companions."""
        return sum(file.kind == "shard" for file in self.files)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all files; None: one size is unknown."""
        return known_sum(file.size_bytes for file in self.files)

    @property
    def targets(self) -> frozenset[str]:
        """The paths that it writes."""
        return frozenset(file.target for file in self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """Targets of the model itself, in shard order, each once."""
        return tuple(dict.fromkeys(file.target for file in self.files if file.kind == "shard"))


class StoredFile(Value, frozen=True):
    """A file on the disk after its download.

    Attributes:
        target: Absolute path.
        kind: `shard`, or the kind of companion.
        sha256: None: not computed.
        is_verified: Whether its SHA-256 is the one that the Hub states; False: the Hub states none.
        mtime_ns: Modification time; another one later means that the file was changed.
        was_present: It existed before; no byte was downloaded.
        facts: What its GGUF header says, as JSON scalars; empty if it cannot be read.
        verified_at_s: Unix time of the last successful verification; None: never, or unknown.
        wrong_ranges: Bytes found wrong, as half-open ranges (empty: the whole file); None: nothing wrong is known.
        block_digests: Digests of its blocks in hexadecimal; empty once the catalog keeps them.
        reused_from: Labels of the files (`Q4_K_M`) with the `reused_bytes`, the one with the most bytes first.
        mirrors: Hosts of the mirrors that sent bytes of it.
    """

    target: str
    path_in_repo: str
    kind: str
    size_bytes: int
    sha256: str | None
    is_verified: bool
    mtime_ns: int
    was_present: bool
    facts: dict[str, str | int | float | bool | None]
    verified_at_s: float | None = None
    wrong_ranges: tuple[tuple[int, int], ...] | None = None
    block_digests: str = ""
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()

    def fact(self, name: str, kind: type[Fact]) -> Fact | None:
        """One of the facts; None: unknown, or of another type."""
        value = self.facts.get(name)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None


class HostProgress(Value, frozen=True):
    """The progress of a download on one host of a cluster; a total of None is unknown."""

    host: str
    downloaded_bytes: int
    total_bytes: int | None
    is_finished: bool = False


class HostFolder(Value, frozen=True):
    """The models folder of one host of a cluster: the absolute path on that host."""

    host: str
    models_directory: str


class ShardProgress(Value, frozen=True):
    """The progress of one file.

    Attributes:
        number: 1-based among the files of its download, as in a shard's file name.
        kind: `shard`, or the kind of companion.
        size_bytes: None: unknown.
        arrived_steps: The parts on the disk in `BAR_STEPS`: start, end, start, end, ...; empty: from the start, or unknown.
        verified_steps: How much of it is hashed, in the same steps; 0 also if unknown.
    """

    number: int
    path_in_repo: str
    kind: str
    size_bytes: int | None
    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


class Then(Value, frozen=True):
    """What runs once a download is complete: a shell line, or the name of a callable; without `error` it did not fail."""

    text: str
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    error: str = ""


class _Shown(Value, frozen=True, kw_only=True):
    """What downloads of this kernel and of others have in common."""

    id: DownloadId
    status: DownloadStatus
    position: int = 0
    downloaded_bytes: int = 0
    total_bytes: int | None
    bytes_per_second: float | None = None
    eta_seconds: float | None = None
    notice: str | None = None
    commit_sha: str

    @property
    def display_name(self) -> str:
        """The repository's name without its owner."""
        return self.id.repo_id.rpartition("/")[2]

    @property
    def progress(self) -> float | None:
        """0 to 1; None: the total is unknown."""
        if self.total_bytes is None:
            return None
        return min(1.0, self.downloaded_bytes / self.total_bytes) if self.total_bytes else 1.0


class QueuedDownload(_Shown, frozen=True, kw_only=True):
    """One download in the queue. Times are Unix times; None is unknown, unless stated otherwise.

    Attributes:
        position: 1-based among pending downloads, 1 runs next; 0: active or ended.
        downloaded_bytes: Bytes on the disk, including those of earlier runs.
        bytes_per_second: Smoothed; 0: stalled. Of a completed download, the mean of its last attempt.
        notice: One line that says what is happening; None: the status says it all.
        notice_kind: `stalled`, `retrying`, `verifying`, `waiting`, `already_present`, `unverified`, ...
        error: Why it failed; None: it did not.
        can_retry: Whether another attempt can succeed; only meaningful if it failed.
        reason: Why this variant was chosen; empty if it was requested by name.
        label: Label of the quantization; None: the file names state none.
        paths: Paths of the model's files in shard order, as `companion_paths` empty until completed.
        is_verified: Whether every file has the SHA-256 that the Hub states; None until completed.
        was_present: It was completed without downloading a byte.
        started_at_s: Its first start; None: not started.
        ended_at_s: None: not ended.
        ran_s: Seconds in which it ran until its last change of status, without pauses and waiting.
        reused_bytes: Those of `downloaded_bytes` that were copied from files on this machine.
        reused_from: Labels of those files (`Q4_K_M`), the one with the most bytes first.
        hosts: The hosts of a cluster that download it, or have it; empty: this machine. Bytes and totals are of all copies.
        to: The folder that it is stored in; None: the models folder.
        then: What runs once it is complete; None: nothing.
        scan_finding: The verdict of the Hub's security scan on one of its files, such as `unsafe`; empty: no finding.
        mirrors: Hosts of the mirrors that sent some of its bytes.
    """

    notice_kind: str | None = None
    error: GglibError | None = None
    can_retry: bool = False
    reason: str = ""
    label: str | None = None
    queued_at_s: float
    started_at_s: float | None = None
    ended_at_s: float | None = None
    ran_s: float | None = None
    is_verified: bool | None = None
    was_present: bool = False
    paths: tuple[str, ...] = ()
    companion_paths: tuple[str, ...] = ()
    shards: tuple[ShardProgress, ...] = ()
    companions: tuple[ShardProgress, ...] = ()
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()
    hosts: tuple[HostProgress, ...] = ()
    to: str | None = None
    then: Then | None = None
    scan_finding: str = ""
    mirrors: tuple[str, ...] = ()

    @property
    def group_id(self) -> str:
        """The text form of the id; `cancel_group` takes it."""
        return self.id.group_id

    @property
    def has_running_command(self) -> bool:
        """It is complete, and what runs then has not ended."""
        state = None if self.then is None else self.then.state
        return self.status is DownloadStatus.COMPLETED and state in ("waiting", "running")

    @property
    def repo_id(self) -> str:
        """`owner/name`."""
        return self.id.repo_id

    @property
    def quantization(self) -> str | None:
        """The tail of its id: the label, or the stem if several variants have that label."""
        return self.id.quantization

    @property
    def took_s(self) -> float | None:
        """Seconds in which it ran, once it has ended; None before, and if it never ran."""
        return seconds_taken(self.started_at_s, self.ended_at_s, self.ran_s)

    @property
    def shard_count(self) -> int:
        """Files of the model itself."""
        return len(self.shards)


def seconds_taken(started_at_s: float | None, ended_at_s: float | None, ran_s: float | None) -> float | None:
    """How long a download took: the time in which it ran; if that is unknown, from its first start to its end."""
    if started_at_s is None or ended_at_s is None:
        return None
    return max(0.0, ended_at_s - started_at_s) if ran_s is None else ran_s


class RunItem(Value, frozen=True):
    """One ended download of a run, at a Unix time; a total of None is unknown, and `message` says why it failed."""

    id: DownloadId
    outcome: DownloadStatus
    ended_at_s: float
    total_bytes: int | None
    message: str


class QueueRunSummary(Value, frozen=True):
    """The result of a run of the queue, from its first start to the time it drained (Unix times).

    `attempts_…` counts attempts by outcome, also those that were retried; `models_…` counts downloads by their last outcome.
    `items` has the newest first, 20 at most.
    """

    started_at_s: float
    ended_at_s: float
    attempts_completed: int
    attempts_failed: int
    attempts_cancelled: int
    models_completed: int
    models_failed: int
    models_cancelled: int
    items: tuple[RunItem, ...]
    is_truncated: bool

    @classmethod
    def of(cls, ended: Sequence[RunItem], started_at_s: float, ended_at_s: float) -> Self:
        """The summary of a run in which these downloads ended, in this order."""
        outcomes = {
            "attempts": [item.outcome for item in ended],
            "models": list({item.id: item.outcome for item in ended}.values()),
        }
        statuses = (DownloadStatus.COMPLETED, DownloadStatus.FAILED, DownloadStatus.CANCELLED)
        counts = {f"{what}_{status}": all_.count(status) for what, all_ in outcomes.items() for status in statuses}
        items, is_truncated = tuple(ended[: -_ITEMS_SHOWN - 1 : -1]), len(ended) > _ITEMS_SHOWN
        return cls(started_at_s, ended_at_s, **counts, items=items, is_truncated=is_truncated)


class ElsewhereDownload(_Shown, frozen=True, kw_only=True):
    """A download in the queue of another kernel with the same models folder; read-only. None is unknown.

    Attributes:
        position: In the queue of that kernel.
        owner: The kernel's notebook or process, and its machine if that is another one.
        is_left: That kernel has ended, and no other has adopted the download yet.
    """

    owner: str = ""
    is_left: bool = False


class QueueNotice(Value, frozen=True):
    """One line about the queue as a whole.

    Attributes:
        kind: `adopted` (downloads of an ended kernel were resumed), `partials` (no queue resumes some partial files),
            `not_kept` (the queue or a model cannot be stored), `folder_missing` (the models folder is not mounted),
            `commands_dropped` (commands of resumed downloads will not run).
    """

    kind: str
    text: str


class QueueSnapshot(Value, frozen=True, dict=True):
    """The whole queue at one moment; an unchanged item is the same object as in the snapshot before.

    `recent_…` have the newest first; failures stay until they are retried, queued again or cleared.

    Attributes:
        version: Increases with every change.
        items: Active downloads, then pending ones in order.
        resolving: Requests whose files are being listed, as typed.
        max_size: How many downloads may be pending.
        max_concurrent: How many run at once.
        bandwidth_limit_bytes_per_second: None: unlimited.
        bytes_per_second: Of all active downloads together; None: not known yet.
        eta_seconds: Until all active and queued downloads are complete; None: unknown.
        last_run: None: no run has ended.
        max_connections: Connections of all transfers together.
        network_wait_s: How long downloads wait for a lost network before they fail.
        download_hours: Hours of the day in which downloads run; None: at any time.
        is_outside_hours: Whether it is outside these hours now, so that queued downloads wait.
    """

    version: int
    items: tuple[QueuedDownload, ...]
    recent_completed: tuple[QueuedDownload, ...]
    recent_failures: tuple[QueuedDownload, ...]
    recent_cancelled: tuple[QueuedDownload, ...]
    resolving: tuple[str, ...]
    max_size: int
    max_concurrent: int
    is_processing: bool
    bandwidth_limit_bytes_per_second: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    last_run: QueueRunSummary | None
    max_connections: int = 16
    network_wait_s: int = 86_400
    download_hours: DailyHours | None = None
    is_outside_hours: bool = False
    notices: tuple[QueueNotice, ...] = ()
    elsewhere: tuple[ElsewhereDownload, ...] = ()

    @override
    def __repr__(self) -> str:
        return f"<QueueSnapshot: {self.summary}>"

    def _repr_html_(self) -> str:
        # The notebook layer writes HTML; it is imported only for display.
        return str(import_module("gglib_nb.notebook.render").render_html(self))

    @property
    def summary(self) -> str:
        """The queue in one line, such as `1 active at 21.4 MB/s, 3 waiting, 1 failed`."""
        counts = {
            "being listed": len(self.resolving),
            "active": self.active_count,
            "waiting": sum(item.status is DownloadStatus.QUEUED for item in self.items),
            "paused": sum(item.status is DownloadStatus.PAUSED for item in self.items),
            "failed": len(self.recent_failures),
            "completed": len(self.recent_completed),
        }
        speed = f" at {rate(self.bytes_per_second)}" if self.bytes_per_second else ""
        parts = [f"{count} {what}{speed if what == 'active' else ''}" for what, count in counts.items() if count]
        return ", ".join(parts) or "empty"

    @property
    def waits_until(self) -> str | None:
        """The time of day at which waiting downloads may start, such as `22:00`; None: now."""
        return f"{self.download_hours.start:%H:%M}" if self.download_hours and self.is_outside_hours else None

    @cached_property
    def downloads(self) -> dict[str, QueuedDownload]:
        """Every download by id, in the order of the lists; a queued one takes precedence over an ended one with the same id."""
        found: dict[str, QueuedDownload] = {}
        for item in (*self.items, *self.recent_failures, *self.recent_completed, *self.recent_cancelled):
            found.setdefault(str(item.id), item)
        return found

    @cached_property
    def active_count(self) -> int:
        """Downloads that run or are being registered."""
        return sum(item.status.is_active for item in self.items)

    @cached_property
    def pending_count(self) -> int:
        """Downloads that wait, including paused ones."""
        return sum(item.status.is_pending for item in self.items)
