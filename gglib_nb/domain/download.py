"""The values of the download port: what is asked for, what will be fetched, what the queue shows of it.

Frozen values only; `gglib_nb.queue.machine` decides what changes. The module is as long as its fields, each described with its
unit and what None means; one value is a part of another, so they are in one module.
"""

from enum import StrEnum
from importlib import import_module
from typing import Final

from typing_extensions import override

from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.units import rate
from gglib_nb.domain.values import Value
from gglib_nb.errors import GglibError

BAR_STEPS: Final = 128
"""Into so many equal steps a file is divided to report where its bytes are: fine enough for a bar, coarse enough to send often."""


class DownloadStatus(StrEnum):
    """Where a download is; the words are the same on the wire and on the screen."""

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
        """Waits in the queue, paused or not."""
        return self in (DownloadStatus.QUEUED, DownloadStatus.PAUSED)

    @property
    def is_active(self) -> bool:
        """Runs, or is being registered."""
        return self in (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING, DownloadStatus.REGISTERING)


class ShardStatus(StrEnum):
    """Where one file of a download is."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    FINISHED = "finished"


class DownloadRequest(Value, frozen=True):
    """What a caller asks for.

    Attributes:
        repo_id: `owner/name` on the Hub.
        quantization: Label, file name or key of the variant, in any case; None lets the rule choose.
        revision: Branch, tag or commit; None is the default branch.
        force: Fetch again although the file is there, and replace a file of another commit once the new one
            is verified.
        add_to_db: Register the finished model in the catalog.
        companions: Kinds of companion files to fetch along, such as `("mmproj",)`.
        everywhere: On a cluster, fetch a copy for every host's own folder; without one it cannot be asked for.
    """

    repo_id: str
    quantization: str | None = None
    revision: str | None = None
    force: bool = False
    add_to_db: bool = True
    companions: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def id(self) -> DownloadId:
        """The id as asked for; the queue's own id names the variant that it resolved to."""
        return DownloadId(self.repo_id, self.quantization, self.revision)


class PlannedFile(Value, frozen=True):
    """One file to be fetched.

    Attributes:
        path_in_repo: Path in the repository.
        size_bytes: Its size; None where the hub did not say.
        sha256: What it must hash to; None where unknown (it then ends as `unverified`).
        target: Absolute path under which it appears when all is verified. Raw byte splits share one target.
        offset_bytes: Where its first byte is in the target; 0 unless it is a later part of a byte split.
        kind: `shard`, or the kind of companion it is (`mmproj`, ...).
        known_mtime_ns: Modification time of the target when the catalog last verified it against `sha256`;
            None where the catalog does not know it. A target that still has it is not hashed again.
        wrong_ranges: None where nothing wrong is known of the target; else it had that modification time when these of its
            bytes were found wrong (empty: the whole): it is replaced, and what is right of it is used.
    """

    path_in_repo: str
    size_bytes: int | None
    sha256: str | None
    target: str
    offset_bytes: int = 0
    kind: str = "shard"
    known_mtime_ns: int | None = None
    wrong_ranges: tuple[tuple[int, int], ...] | None = None


class PlannedDownload(Value, frozen=True):
    """A request resolved to a commit, a variant and its files.

    Attributes:
        id: The queue's id for it: its tail names the variant.
        commit_sha: The commit every URL uses.
        label: The quantization's label; None where the files carry none.
        files: Shards in their order, then companions.
        reason: Why this variant, in words for a person; empty where it was asked for by name.
        force: As in the request.
        add_to_db: As in the request.
        companions: As in the request.
        replaces: A file of another commit at a target is replaced once the new one is verified; until then its tensors
            may be copied. Unlike `force`, what is here is used.
        is_update: It brings a new version of the registered model of its id, which takes that one's place when it is
            registered.
        keeps_old: The old version stays, under an id with its commit.
        donors: Paths of registered files that may hold the same tensors; those in the repository's own folder are found
            without being named.
        everywhere: As in the request.
    """

    id: DownloadId
    commit_sha: str
    label: str | None
    files: tuple[PlannedFile, ...]
    reason: str = ""
    force: bool = False
    add_to_db: bool = True
    companions: tuple[str, ...] = ()
    replaces: bool = False
    donors: tuple[str, ...] = ()
    is_update: bool = False
    keeps_old: bool = False
    everywhere: bool = False

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """Two plans with the same identity are the same download."""
        return (self.id.repo_id, self.commit_sha, self.id.quantization)

    @property
    def shard_count(self) -> int:
        """Files of the model itself, companions not counted."""
        return sum(file.kind == "shard" for file in self.files)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all files together; None where one is unknown."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def targets(self) -> frozenset[str]:
        """The paths it will write."""
        return frozenset(file.target for file in self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """Targets of the model itself, in shard order, each once."""
        return tuple(dict.fromkeys(file.target for file in self.files if file.kind == "shard"))

    @property
    def display_name(self) -> str:
        """Repository's name without its owner, as a row's title."""
        return self.id.repo_id.rpartition("/")[2]


class StoredFile(Value, frozen=True):
    """A file on the disk after its transfer.

    Attributes:
        target: Absolute path.
        path_in_repo: Path in the repository; of the first part, for a byte split.
        kind: `shard` or the kind of companion.
        size_bytes: Its size.
        sha256: Its SHA-256; None where it was not computed.
        is_verified: Whether its digest is the one the hub states. False: the hub stated none.
        mtime_ns: Modification time, to know later whether it was changed.
        was_present: It stood there already; no byte was fetched for it.
        facts: What its GGUF header says, as JSON scalars; empty where it has none that can be read.
        verified_at_s: Unix time when it was last hashed and found right; None where that was never, or is not known.
        wrong_ranges: None where nothing wrong is known of it; else the bytes that were found wrong, as half-open
            ranges; empty where only the whole is known to be wrong.
        block_digests: Short digests of its blocks (`domain.content_index`) in hexadecimal, as long as it comes from who
            hashed it; empty where they are not known, or kept elsewhere.
        reused_bytes: Of its bytes, those that were copied from other files on this machine.
        reused_from: What those files are called (`Q4_K_M`), the one that gave most first.
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


class HostProgress(Value, frozen=True):
    """How far one host of a cluster is with a download.

    Attributes:
        host: Its name, as the cluster gives it.
        downloaded_bytes: On its disk.
        total_bytes: None unknown.
        is_finished: All its files are in place there.
    """

    host: str
    downloaded_bytes: int
    total_bytes: int | None
    is_finished: bool = False


class HostFolder(Value, frozen=True):
    """The models folder of one host of a cluster.

    Attributes:
        host: Its name, as the cluster gives it.
        models_directory: Absolute path, there.
    """

    host: str
    models_directory: str


class ShardProgress(Value, frozen=True):
    """One file's bar.

    Attributes:
        number: 1-based among the files of its download, as in a shard's file name.
        path_in_repo: Path in the repository.
        kind: `shard` or the kind of companion.
        size_bytes: None unknown.
        downloaded_bytes: Bytes that are on the disk.
        status: Where it is.
        arrived_steps: Where those bytes are, as runs in steps of `BAR_STEPS`: start, end, start, end, and so on. Empty
            where they are in order from the start, or where it is not known.
        verified_steps: How far from its start its digest has come, in the same steps; 0 also where it is not known.
    """

    number: int
    path_in_repo: str
    kind: str
    size_bytes: int | None
    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


class QueuedDownload(Value, frozen=True):
    """One download as the queue shows it.

    Attributes:
        id: Its id.
        status: Where it is.
        position: 1-based among pending downloads, 1 is next to run; 0 while active or ended.
        downloaded_bytes: Bytes on the disk, what an earlier run left included.
        total_bytes: None unknown.
        bytes_per_second: Smoothed rate of the line; None until enough was seen, 0 while stalled. Of a completed
            download the mean of its last attempt; None where no byte came.
        eta_seconds: Smoothed; None unknown.
        shards: A bar for every file of the model.
        companions: A bar for every companion.
        notice: One line that says what is happening; None when the status says it all.
        notice_kind: `stalled`, `retrying`, `verifying`, `waiting`, `already_present`, `unverified`, ...; None without
            notice.
        error: Why it failed; None unless failed.
        can_retry: Whether trying again can help; only meaningful when failed.
        reason: Why this variant was chosen; empty where it was asked for by name.
        commit_sha: The commit it comes from.
        label: Quantization label; None where the files carry none.
        paths: Paths of the model's files, in shard order; empty unless completed.
        companion_paths: Paths of its companions, in their order; empty unless completed.
        is_verified: True when every file hashed to what the hub states; None unless completed.
        was_present: Completed without a byte fetched.
        queued_at_s: Unix time.
        started_at_s: Unix time of its first start; None before.
        ended_at_s: Unix time; None before.
        reused_bytes: Of `downloaded_bytes`, those that were copied from files on this machine instead of fetched.
        reused_from: What those files are called (`Q4_K_M`), the one that gave most first.
        hosts: The hosts of a cluster that fetch it, or that have it once completed; empty on this machine. Where each
            gets a copy of its own, bytes and totals are those of all copies together.
    """

    id: DownloadId
    status: DownloadStatus
    position: int
    downloaded_bytes: int
    total_bytes: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    shards: tuple[ShardProgress, ...]
    companions: tuple[ShardProgress, ...]
    notice: str | None
    notice_kind: str | None
    error: GglibError | None
    can_retry: bool
    reason: str
    commit_sha: str
    label: str | None
    paths: tuple[str, ...]
    is_verified: bool | None
    was_present: bool
    queued_at_s: float
    started_at_s: float | None
    ended_at_s: float | None
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()
    companion_paths: tuple[str, ...] = ()
    hosts: tuple[HostProgress, ...] = ()

    @property
    def group_id(self) -> str:
        """The id under which all its shards are cancelled."""
        return self.id.group_id

    @property
    def repo_id(self) -> str:
        """`owner/name`."""
        return self.id.repo_id

    @property
    def quantization(self) -> str | None:
        """The tail of its id: the label, or the stem where the label names several."""
        return self.id.quantization

    @property
    def display_name(self) -> str:
        """Repository's name without its owner."""
        return self.id.repo_id.rpartition("/")[2]

    @property
    def shard_count(self) -> int:
        """Files of the model itself."""
        return len(self.shards)

    @property
    def progress(self) -> float | None:
        """0 to 1; None where the total is unknown."""
        if self.total_bytes is None:
            return None
        if self.total_bytes == 0:
            return 1.0
        return min(1.0, self.downloaded_bytes / self.total_bytes)


class RunItem(Value, frozen=True):
    """One ended download of a run.

    Attributes:
        id: Its id.
        outcome: `completed`, `failed` or `cancelled`.
        ended_at_s: Unix time.
        total_bytes: None unknown.
        message: Why it failed; empty otherwise.
    """

    id: DownloadId
    outcome: DownloadStatus
    ended_at_s: float
    total_bytes: int | None
    message: str


class QueueRunSummary(Value, frozen=True):
    """What a run of the queue came to: from drained to busy and back.

    Attributes:
        started_at_s: Unix time of its first start.
        ended_at_s: Unix time of the moment it drained.
        attempts_completed: Attempts by outcome; a download that failed and was retried counts twice.
        attempts_failed: As above.
        attempts_cancelled: As above.
        models_completed: Different downloads, by their last outcome.
        models_failed: As above.
        models_cancelled: As above.
        items: The newest first, 20 at most.
        is_truncated: Whether there were more.
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


class ElsewhereDownload(Value, frozen=True):
    """A download in the queue of another kernel that shares the models folder; it can be looked at only.

    Attributes:
        owner: Whose it is, in words: a notebook's name or a process, and its machine where that is another one.
        is_left: Its kernel is gone, and no other has adopted it yet.
        id: Its id there.
        commit_sha: The commit it comes from.
        status: Where it is.
        downloaded_bytes: Bytes on the disk.
        total_bytes: None unknown.
        bytes_per_second: Rate of its line; None until known, or while it does not transfer.
        eta_seconds: None unknown.
        notice: One line that says what is happening; None when the status says it all.
    """

    owner: str
    is_left: bool
    id: DownloadId
    commit_sha: str
    status: DownloadStatus
    downloaded_bytes: int
    total_bytes: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    notice: str | None

    @property
    def display_name(self) -> str:
        """Repository's name without its owner."""
        return self.id.repo_id.rpartition("/")[2]

    @property
    def progress(self) -> float | None:
        """0 to 1; None where the total is unknown."""
        if self.total_bytes is None:
            return None
        return 1.0 if self.total_bytes == 0 else min(1.0, self.downloaded_bytes / self.total_bytes)


class QueueNotice(Value, frozen=True):
    """One line about the queue as a whole.

    Attributes:
        kind: `adopted` (downloads of an earlier kernel were resumed), `partials` (there are partial files that nothing
            in the queue resumes), `not_kept` (the queue cannot be stored, or a model not be registered),
            `folder_missing` (the models folder is not mounted).
        text: What a person reads.
    """

    kind: str
    text: str


class QueueSnapshot(Value, frozen=True):
    """The whole queue at one moment; an item that did not change is the very same object as in the snapshot before.

    Attributes:
        version: Grows with every change.
        items: Active downloads, then the pending ones in their order.
        recent_completed: The newest first.
        recent_failures: The newest first; they stay until retried, queued again or cleared.
        recent_cancelled: The newest first.
        resolving: Requests whose files are still being listed, as a person typed them.
        max_size: Limit of pending downloads.
        max_concurrent: How many run at once.
        is_processing: Whether the processor runs.
        bandwidth_limit_bytes_per_second: None is unlimited.
        bytes_per_second: Of all active downloads together; None until known.
        eta_seconds: Until everything active and queued is there; None unknown.
        last_run: What the last finished run came to; None before the first.
        max_connections: Connections of all transfers together.
        network_wait_s: How long a network that is gone is waited for before downloads fail.
        download_hours: The hours of the day in which downloads run; None is at any time.
        is_outside_hours: It is not such an hour now: what is queued waits for it.
        notices: Lines about the queue as a whole.
        elsewhere: Downloads of other kernels with the same models folder.
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
        # The notebook layer writes HTML; it is loaded where something is displayed, and only there.
        return str(import_module("gglib_nb.notebook.markup").render_html(self))

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
        """The time of day until which downloads wait, such as `22:00`; None while they may run."""
        return f"{self.download_hours.start:%H:%M}" if self.download_hours and self.is_outside_hours else None

    @property
    def active_count(self) -> int:
        """Downloads that run or are being registered."""
        return sum(item.status.is_active for item in self.items)

    @property
    def pending_count(self) -> int:
        """Downloads that wait, paused ones included."""
        return sum(item.status.is_pending for item in self.items)
