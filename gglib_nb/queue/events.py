"""What happened, as the queue machine is told it: requests of callers, and reports of those who work for it.

One class per outcome that can be told apart, never a code in a string. Times are part of the event: `at_s` is
Unix time, `sampled_s` the machine's monotonic clock.
"""

from dataclasses import dataclass

from gglib_nb.domain.download import (
    DownloadStatus,
    ElsewhereDownload,
    HostFolder,
    HostProgress,
    PlannedDownload,
    QueueNotice,
    ShardStatus,
    StoredFile,
)
from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.stored_queue import RestoredDownload, StoredLimits
from gglib_nb.errors import GglibError


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """Somebody asked for a download; its files are being listed meanwhile. `text` is what was asked for."""

    request: int
    text: str


@dataclass(frozen=True, slots=True)
class RequestDropped:
    """Listing failed, the plan was refused, or the caller gave up."""

    request: int


@dataclass(frozen=True, slots=True)
class PlanResolved:
    """A request became a plan. Replies with a `QueuePosition`.

    Attributes:
        starts: The processor shall run.
        joins: The same download, pending or active, is no error: its position comes back.
    """

    request: int
    plan: PlannedDownload
    starts: bool
    joins: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class _AboutDownload:
    id: DownloadId
    at_s: float


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Cancel one download with all its shards; `discards` deletes what was fetched."""

    id: DownloadId
    discards: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class AllCancelRequested:
    """Cancel everything active, queued or still resolving. Replies with the attempts that have yet to stop."""

    at_s: float


@dataclass(frozen=True, slots=True)
class RemovalRequested(_AboutDownload):
    """Take a pending download out."""


@dataclass(frozen=True, slots=True)
class MoveRequested:
    """Give a pending download another position. Replies with the position given."""

    id: DownloadId
    position: int


@dataclass(frozen=True, slots=True)
class PauseRequested(_AboutDownload):
    """Hold a download back."""


@dataclass(frozen=True, slots=True)
class RunRequested(_AboutDownload):
    """Run a waiting download now; where no slot is free, the one that started last waits behind it."""


@dataclass(frozen=True, slots=True)
class ResumeRequested(_AboutDownload):
    """Let a paused download run again."""


@dataclass(frozen=True, slots=True)
class RetryRequested(_AboutDownload):
    """Bring a failure back to the queue. Replies with its position."""


@dataclass(frozen=True, slots=True)
class EndedCleared:
    """Forget what ended in this way; its files and partial files stay."""

    status: DownloadStatus


@dataclass(frozen=True, slots=True)
class EndedDiscarded:
    """Forget a cancelled or failed download and delete its partial files."""

    id: DownloadId


@dataclass(frozen=True, slots=True)
class FailuresCleared:
    """Forget one failed download, or all of them where None."""

    id: DownloadId | None


@dataclass(frozen=True, slots=True)
class QueueLimitChanged:
    """Pending downloads allowed from now on."""

    max_size: int


@dataclass(frozen=True, slots=True)
class BandwidthLimitChanged:
    """Bytes per second for everything together; None is unlimited."""

    bytes_per_second: int | None


@dataclass(frozen=True, slots=True)
class ConcurrencyChanged:
    """Downloads that run at once from now on; what runs beyond it goes on."""

    max_concurrent: int
    at_s: float


@dataclass(frozen=True, slots=True)
class DownloadsRestored:
    """Downloads of kernels that are gone are this queue's now. Replies with an `Adoption`.

    What ran comes before everything that waits here, the rest behind it. What is in this queue already is left as it is
    here; what cannot be in it any more is a failure that says why.

    Attributes:
        downloads: In their order.
        limits: As somebody had set them.
        starts: The processor shall run.
    """

    downloads: tuple[RestoredDownload, ...]
    limits: StoredLimits
    starts: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class ConnectionLimitChanged:
    """Connections of all transfers together from now on."""

    max_connections: int


@dataclass(frozen=True, slots=True)
class NetworkWaitChanged:
    """How long a network that is gone is waited for from now on."""

    network_wait_s: int


@dataclass(frozen=True, slots=True)
class DownloadHoursChanged:
    """Downloads run in these hours of the day only; None: at any time. `is_open`: whether it is such an hour now."""

    hours: DailyHours | None
    is_open: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class HoursTurned:
    """The clock has reached the begin or the end of these hours; stale where others hold by now."""

    hours: DailyHours
    is_open: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class OthersSeen:
    """What other kernels with the same models folder have in their queues now."""

    downloads: tuple[ElsewhereDownload, ...]


@dataclass(frozen=True, slots=True)
class NoticeGiven:
    """There is something to say about the queue as a whole; it takes the place of an earlier notice of its kind."""

    notice: QueueNotice


@dataclass(frozen=True, slots=True)
class NoticeWithdrawn:
    """What a notice of this kind said is so no more."""

    kind: str


@dataclass(frozen=True, slots=True)
class FileProgressed:
    """One file of `TransferProgressed`, at its index in the plan; what it says is as in `ShardProgress`."""

    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


@dataclass(frozen=True, slots=True)
class TransferProgressed:
    """A sample of a running attempt.

    Attributes:
        received_bytes: Came over the line in this attempt.
        notice_kind: What is going on beside plain progress; None: nothing.
        notice_s: Seconds that belong to it; None without.
        notice_text: Words that belong to it; empty without.
        is_finalizing: Every byte is here.
        reused_bytes: On the disk, copied from files of this machine, in this attempt or an earlier one.
        reused_from: What those files are called.
        hosts: How far each host of a cluster is; empty on this machine. With several, `files` counts all copies.
    """

    attempt: int
    sampled_s: float
    files: tuple[FileProgressed, ...]
    received_bytes: int
    notice_kind: str | None
    notice_s: float | None
    notice_text: str
    is_finalizing: bool
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()
    hosts: tuple[HostProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferWaits:
    """No engine can take the attempt now; `reason` says what it waits for. It begins by itself."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferFinished:
    """Everything of the attempt stands under its final name; `hosts` see it, where it is not on this machine."""

    attempt: int
    files: tuple[StoredFile, ...]
    at_s: float
    hosts: tuple[HostFolder, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The attempt gave up."""

    attempt: int
    error: GglibError
    can_retry: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class TransferStopped:
    """The attempt stopped as told; its slot and its targets are free."""

    attempt: int
    at_s: float


@dataclass(frozen=True, slots=True)
class EngineLost:
    """An engine process ended by itself, and with it its attempts; None: all of them, since there is one engine."""

    at_s: float
    attempts: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class EnginesChanged:
    """So many engines share the work from now on; each has slots of its own."""

    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class EngineFellSilent:
    """An engine process lives and does not report; `silent_s` since it last did. It speaks again, or is lost.

    Attributes:
        attempts: Those of which nothing is heard; None: all.
    """

    silent_s: float
    attempts: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class ModelRegistered:
    """The attempt's model is in the catalog; `files` says where they stand now, None: where the engine put them."""

    attempt: int
    at_s: float
    files: tuple[StoredFile, ...] | None = None


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """The files are there and their row is not: the download is complete, and says so."""

    attempt: int
    error: GglibError
    at_s: float


Event = (
    RequestReceived
    | RequestDropped
    | PlanResolved
    | CancelRequested
    | AllCancelRequested
    | RemovalRequested
    | MoveRequested
    | PauseRequested
    | RunRequested
    | ResumeRequested
    | RetryRequested
    | EndedCleared
    | EndedDiscarded
    | FailuresCleared
    | QueueLimitChanged
    | BandwidthLimitChanged
    | ConcurrencyChanged
    | ConnectionLimitChanged
    | NetworkWaitChanged
    | DownloadHoursChanged
    | HoursTurned
    | TransferProgressed
    | TransferWaits
    | TransferFinished
    | TransferFailed
    | TransferStopped
    | EngineLost
    | EnginesChanged
    | EngineFellSilent
    | ModelRegistered
    | RegistrationFailed
    | DownloadsRestored
    | OthersSeen
    | NoticeGiven
    | NoticeWithdrawn
)

ACTIONS = (
    RequestReceived,
    CancelRequested,
    AllCancelRequested,
    RemovalRequested,
    MoveRequested,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    EndedCleared,
    EndedDiscarded,
    FailuresCleared,
    QueueLimitChanged,
    BandwidthLimitChanged,
)
"""What somebody does to the queue: who acts has read what there was to say about it."""
