"""The queue as users see it, at one moment and as events. Frozen values; `gglib_nb.queue.machine` changes the queue."""

from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Final, Literal, Self

from typing_extensions import override

from gglib_nb.domain.download import DownloadStatus, HostProgress, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.units import DailyHours, rate
from gglib_nb.domain.values import Value
from gglib_nb.errors import GglibError

_ITEMS_SHOWN: Final = 20


class ShardProgress(Value, frozen=True):
    """The progress of one file.

    Attributes:
        number: 1-based among the files of its download, as in a shard's file name.
        kind: `shard`, or the kind of companion.
        size_bytes: None: unknown.
        arrived_steps: The parts on the disk in `BAR_STEPS`: start, end, ...; empty: from the start, or unknown.
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
    """What runs once a download is complete: a shell line, or a callable's name; without `error` it did not fail."""

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
    """One download of this kernel, in the queue or ended. Times are Unix times; None is unknown, unless stated here.

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
        hosts: The hosts of a cluster that download it, or have it; empty: this machine. Sums are of all copies.
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


class QueueRunSummary(Value, frozen=True):
    """The result of a run of the queue, from its first start to the time it drained (Unix times).

    `attempts_…` counts attempts by outcome, also those that were retried; `models_…` counts downloads by their last
    outcome. `items` has the downloads as they ended, the newest first, 20 at most.
    """

    started_at_s: float
    ended_at_s: float
    attempts_completed: int
    attempts_failed: int
    attempts_cancelled: int
    models_completed: int
    models_failed: int
    models_cancelled: int
    items: tuple[QueuedDownload, ...]
    is_truncated: bool

    @classmethod
    def of(cls, ended: Sequence[QueuedDownload], started_at_s: float, ended_at_s: float) -> Self:
        """The summary of a run in which these downloads ended, in this order."""
        last = {item.id: item.status for item in ended}
        outcomes = {"attempts": [item.status for item in ended], "models": list(last.values())}
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
        last_run: None: no run has ended, or another has begun since.
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
        """Every download by id, in the order of the lists; a queued one precedes an ended one with its id."""
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


# What `DownloadManager.events()` yields


class SnapshotChanged(Value, frozen=True):
    """The queue changed: the first event of every stream, then at most ten a second."""

    snapshot: QueueSnapshot


class DownloadStarted(Value, frozen=True):
    """A download got a slot."""

    id: DownloadId
    attempt: int


class ShardProgressed(Value, frozen=True):
    """Bytes or status of one file changed."""

    id: DownloadId
    shard: ShardProgress


class StatusChanged(Value, frozen=True):
    """A download changed its status."""

    id: DownloadId
    status: DownloadStatus


class NoticeChanged(Value, frozen=True):
    """The notice of a download changed; None: no notice."""

    id: DownloadId
    notice: str | None


class _DownloadEvent(Value, frozen=True):
    download: QueuedDownload


class DownloadProgressed(_DownloadEvent, frozen=True):
    """Bytes, rate or notice of an active download changed."""


class DownloadCompleted(_DownloadEvent, frozen=True):
    """All files have their final names."""


class DownloadFailed(_DownloadEvent, frozen=True):
    """It failed; `download.error` says why."""


class DownloadCancelled(_DownloadEvent, frozen=True):
    """It was cancelled and has stopped, or was queued again while it was stopping."""


class ThenChanged(_DownloadEvent, frozen=True):
    """The command of a download has started or ended; `download.then` says how."""


class RunSummarized(Value, frozen=True):
    """The queue has drained."""

    summary: QueueRunSummary


_WithId = DownloadStarted | ShardProgressed | StatusChanged | NoticeChanged
DownloadEnded = DownloadCompleted | DownloadFailed | DownloadCancelled
QueueEvent = SnapshotChanged | _WithId | DownloadProgressed | DownloadEnded | ThenChanged | RunSummarized
