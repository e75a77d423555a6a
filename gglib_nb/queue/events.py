"""What the queue machine is given: requests of users, and reports of what works for it.

One class per outcome that can be told apart, never a code in a string. When it happened is told to `handle`.
"""

from collections.abc import Mapping

from msgspec import Struct

from gglib_nb.domain.download import (
    DownloadStatus,
    HostFolder,
    HostProgress,
    PlannedDownload,
    ShardStatus,
    StoredFile,
)
from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.stored_queue import RestoredDownload, StoredLimits
from gglib_nb.errors import GglibError

# Requests ------------------------------------------------------------------------------------------------------------


class Request(Struct, frozen=True):
    """What a user asks of the queue."""


class AboutOne(Request, frozen=True):
    """What a user asks of one download."""

    id: DownloadId


class RequestReceived(Request, frozen=True):
    """A download was requested; its files are being listed. `text` is what was asked for."""

    request: int
    text: str


class PlanResolved(Request, frozen=True):
    """A request became a plan. Replies with a `QueuePosition`.

    Attributes:
        request: Its number.
        plan: What it became.
        starts: The processor shall run.
        joins: The same download, pending or active, is no error: its position is the reply.
    """

    request: int
    plan: PlannedDownload
    starts: bool
    joins: bool


class CancelRequested(Request, frozen=True):
    """Cancel one download with all its shards; `discards` deletes what was fetched, of an ended one too."""

    id: DownloadId
    discards: bool


class AllCancelRequested(Request, frozen=True):
    """Cancel everything active, queued or still being listed. Replies with the attempts that have yet to stop."""


class RemovalRequested(AboutOne, frozen=True):
    """Take a pending download out."""


class PutBackRequested(Request, frozen=True):
    """Put cancelled or removed downloads back in their places, as they were. Replies with their positions."""

    ids: tuple[DownloadId, ...]


class MoveRequested(Request, frozen=True):
    """Give a pending download another position. Replies with the position given."""

    id: DownloadId
    position: int


class PauseRequested(AboutOne, frozen=True):
    """Hold a download back."""


class AllPauseRequested(Request, frozen=True):
    """Hold everything back, requests that are still being listed included."""


class ResumeRequested(AboutOne, frozen=True):
    """Let a paused download run again."""


class AllResumeRequested(Request, frozen=True):
    """Let everything that is paused run again, in its order."""


class RunRequested(AboutOne, frozen=True):
    """Run a waiting download now; where no slot is free, the one that started last waits behind it."""


class RetryRequested(AboutOne, frozen=True):
    """Bring a failure back to the queue. Replies with its position."""


class FailureCleared(AboutOne, frozen=True):
    """Forget one failed download; its partial files stay."""


class EndedCleared(Request, frozen=True):
    """Forget all downloads that ended in this way; their files and partial files stay."""

    status: DownloadStatus


class QueueLimitChanged(Request, frozen=True):
    """Pending downloads allowed from now on."""

    max_size: int


class BandwidthLimitChanged(Request, frozen=True):
    """Bytes per second for everything together; None is unlimited."""

    bytes_per_second: int | None


class ConcurrencyChanged(Request, frozen=True):
    """Downloads that run at once from now on; what runs beyond it continues."""

    max_concurrent: int


class DownloadHoursChanged(Request, frozen=True):
    """Downloads run in these hours of the day only; None: at any time. `is_open`: whether it is such an hour now."""

    hours: DailyHours | None
    is_open: bool


# Reports -------------------------------------------------------------------------------------------------------------


class RequestDropped(Struct, frozen=True):
    """Listing failed, the plan was refused, or the caller gave up."""

    request: int


class HoursTurned(Struct, frozen=True):
    """The clock has reached the begin or the end of these hours; stale where others hold by now."""

    hours: DailyHours
    is_open: bool


class DownloadsRestored(Struct, frozen=True):
    """Downloads of kernels that are gone are this queue's now. Replies with an `Adoption`.

    What ran comes before everything that waits here, the rest behind it. What is in this queue already is left as it is
    here; what cannot be in it any more is a failure that says why.

    Attributes:
        downloads: In their order.
        limits: Those that were set by hand.
        starts: The processor shall run.
    """

    downloads: tuple[RestoredDownload, ...]
    limits: StoredLimits
    starts: bool


class PeersSeen(Struct, frozen=True):
    """Downloads that other kernels with the same models folder transfer now: each one's owner, by `identity`."""

    owners: Mapping[tuple[str, str, str | None], str]


class FileProgressed(Struct, frozen=True):
    """One file of `TransferProgressed`, at its index in the plan; the fields are those of `ShardProgress`."""

    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


class TransferProgressed(Struct, frozen=True):
    """A sample of a running attempt.

    Attributes:
        attempt: Which.
        sampled_s: Monotonic clock.
        files: As they are in the plan.
        received_bytes: Received from the network in this attempt.
        notice_kind: What is going on beside plain progress; None: nothing.
        notice_s: Seconds that belong to it; None without.
        notice_text: Words that belong to it; empty without.
        is_finalizing: Every byte is here.
        reused_bytes: On the disk, copied from files of this machine, in this attempt or an earlier one.
        reused_from: What those files are called.
        hosts: Progress of each host of a cluster; empty on this machine. With several, `files` counts all copies.
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


class TransferWaits(Struct, frozen=True):
    """No engine can take the attempt now; `reason` says what it waits for. It begins by itself."""

    attempt: int
    reason: str


class TransferFinished(Struct, frozen=True):
    """Every file of the attempt has its final name; `hosts` see them, where they are not on this machine."""

    attempt: int
    files: tuple[StoredFile, ...]
    hosts: tuple[HostFolder, ...] = ()


class TransferFailed(Struct, frozen=True):
    """The attempt gave up."""

    attempt: int
    error: GglibError
    can_retry: bool


class TransferStopped(Struct, frozen=True):
    """The attempt stopped as told; its slot and its targets are free."""

    attempt: int


class EngineLost(Struct, frozen=True):
    """An engine process ended by itself, and with it its attempts; None: all of them, since there is one engine.

    Attributes:
        attempts: Its attempts.
        reason: How it ended, in words; empty unknown.
    """

    attempts: frozenset[int] | None = None
    reason: str = ""


class EnginesChanged(Struct, frozen=True):
    """So many engines share the work from now on; each has slots of its own."""

    count: int


class EngineFellSilent(Struct, frozen=True):
    """An engine process is alive and has not reported for `silent_s`. It reports again, or is lost.

    Attributes:
        silent_s: Seconds since its last report.
        attempts: Those without reports; None: all.
        detail: What is known of the cause, in words; empty without.
    """

    silent_s: float
    attempts: frozenset[int] | None = None
    detail: str = ""


class ModelRegistered(Struct, frozen=True):
    """The attempt's model is in the catalog.

    Attributes:
        attempt: The attempt.
        files: Where its files are now; None: where the engine put them.
        remark: What a user should know of its content; empty if nothing is odd.
    """

    attempt: int
    files: tuple[StoredFile, ...] | None = None
    remark: str = ""


class RegistrationFailed(Struct, frozen=True):
    """The files are there and their row is not: the download is complete, and says so."""

    attempt: int
    error: GglibError


Event = (
    RequestReceived
    | PlanResolved
    | CancelRequested
    | AllCancelRequested
    | RemovalRequested
    | PutBackRequested
    | MoveRequested
    | PauseRequested
    | AllPauseRequested
    | ResumeRequested
    | AllResumeRequested
    | RunRequested
    | RetryRequested
    | FailureCleared
    | EndedCleared
    | QueueLimitChanged
    | BandwidthLimitChanged
    | ConcurrencyChanged
    | DownloadHoursChanged
    | RequestDropped
    | HoursTurned
    | DownloadsRestored
    | PeersSeen
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
)
