"""The events of the queue machine: requests of users, and reports of the parts that work for it.

One class per outcome, never a code in a string. `handle` is given the time.
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
    Then,
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
    """A request became a plan. Replies with a `QueuePosition`."""

    request: int
    plan: PlannedDownload  # what it became
    starts: bool  # whether the queue starts
    joins: bool  # if the same download is pending or active, that is no error: its position is the reply


class CancelRequested(Request, frozen=True):
    """Cancel one download with all its shards; `discards` deletes its data, also if it has ended."""

    id: DownloadId
    discards: bool


class AllCancelRequested(Request, frozen=True):
    """Cancel everything active, queued or still being listed. Replies with the attempts that have yet to stop."""


class RemovalRequested(AboutOne, frozen=True):
    """Remove a pending download."""


class PutBackRequested(Request, frozen=True):
    """Put cancelled or removed downloads back in their places, as they were. Replies with their positions."""

    ids: tuple[DownloadId, ...]


class MoveRequested(Request, frozen=True):
    """Give a pending download another position. Replies with the position given."""

    id: DownloadId
    position: int


class PauseRequested(AboutOne, frozen=True):
    """Pause a download."""


class AllPauseRequested(Request, frozen=True):
    """Pause everything, including requests that are still being listed."""


class ResumeRequested(AboutOne, frozen=True):
    """Resume a paused download."""


class AllResumeRequested(Request, frozen=True):
    """Resume everything that is paused, in its order."""


class RunRequested(AboutOne, frozen=True):
    """Run a waiting download now; if no slot is free, the download that started last waits behind it."""


class RetryRequested(AboutOne, frozen=True):
    """Queue a failed download again. Replies with its position."""


class FailureCleared(AboutOne, frozen=True):
    """Forget one failed download; its partial files are kept."""


class EndedCleared(Request, frozen=True):
    """Forget all downloads that ended with this status; their files and partial files are kept."""

    status: DownloadStatus


class QueueLimitChanged(Request, frozen=True):
    """Pending downloads allowed from now on."""

    max_size: int


class BandwidthLimitChanged(Request, frozen=True):
    """Bytes per second for everything together; None is unlimited."""

    bytes_per_second: int | None


class ConcurrencyChanged(Request, frozen=True):
    """Downloads that run at once from now on; those that already run continue."""

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
    """The clock has reached the start or the end of these hours; stale if other hours are set by now."""

    hours: DailyHours
    is_open: bool


class DownloadsRestored(Struct, frozen=True):
    """Downloads of kernels that have stopped belong to this queue now. Replies with an `Adoption`.

    Those that ran come before everything that waits here, the rest behind it. What is already in this queue stays as it
    is; what can no longer be in it fails with the reason.
    """

    downloads: tuple[RestoredDownload, ...]  # in their order
    limits: StoredLimits  # those that a user set
    starts: bool  # whether the queue starts


class PeersSeen(Struct, frozen=True):
    """Downloads that other kernels with the same models folder are running: the owner of each, by `identity`."""

    owners: Mapping[tuple[str, str, str | None], str]


class FileProgressed(Struct, frozen=True):
    """One file of `TransferProgressed`, at its index in the plan; the fields are those of `ShardProgress`."""

    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


class TransferProgressed(Struct, frozen=True):
    """A sample of a running attempt."""

    attempt: int
    sampled_s: float  # monotonic clock
    files: tuple[FileProgressed, ...]  # as they are in the plan
    received_bytes: int  # received from the network in this attempt
    notice_kind: str | None  # the kind of its notice; None: none
    notice_s: float | None  # seconds that belong to it; None without
    notice_text: str  # words that belong to it, or empty
    is_finalizing: bool  # every byte is on the disk
    reused_bytes: int = 0  # on the disk, copied from files of this machine, in this attempt or an earlier one
    reused_from: tuple[str, ...] = ()  # what those files are called
    # progress of each host of a cluster; empty on this machine. With several, `files` counts all copies.
    hosts: tuple[HostProgress, ...] = ()


class TransferWaits(Struct, frozen=True):
    """No engine can run the attempt now; `reason` says what it waits for. It starts by itself."""

    attempt: int
    reason: str


class TransferFinished(Struct, frozen=True):
    """Every file of the attempt has its final name; `hosts` see them if they are not on this machine."""

    attempt: int
    files: tuple[StoredFile, ...]
    hosts: tuple[HostFolder, ...] = ()


class TransferFailed(Struct, frozen=True):
    """The attempt failed."""

    attempt: int
    error: GglibError
    can_retry: bool


class TransferStopped(Struct, frozen=True):
    """The attempt stopped as requested; its slot and its targets are free."""

    attempt: int


class EngineLost(Struct, frozen=True):
    """An engine process ended by itself, and its attempts with it; None: all of them, since there is one engine."""

    attempts: frozenset[int] | None = None
    reason: str = ""  # how it ended, in words; empty unknown


class EnginesChanged(Struct, frozen=True):
    """From now on, this many engines share the work; each has its own slots."""

    count: int


class EngineFellSilent(Struct, frozen=True):
    """An engine process is alive and has not reported for `silent_s`. It reports again, or is lost."""

    silent_s: float  # seconds since its last report
    attempts: frozenset[int] | None = None  # those without reports; None: all
    detail: str = ""  # what is known of the cause, in words, or empty


class ModelRegistered(Struct, frozen=True):
    """The attempt's model is in the catalog."""

    attempt: int
    files: tuple[StoredFile, ...] | None = None  # its files; None: those that the engine stored
    remark: str = ""  # what a user should know about its content, or empty


class RegistrationFailed(Struct, frozen=True):
    """The files could not be registered: the download is complete, and says so."""

    attempt: int
    error: GglibError


class ThenReported(Struct, frozen=True):
    """The state of the command of a download."""

    id: DownloadId
    then: Then


_RequestOfAll = AllCancelRequested | AllPauseRequested | AllResumeRequested | EndedCleared | PutBackRequested
_RequestOfOne = CancelRequested | RemovalRequested | MoveRequested | PauseRequested | ResumeRequested | RunRequested
_Failure = RetryRequested | FailureCleared
_Limit = QueueLimitChanged | BandwidthLimitChanged | ConcurrencyChanged | DownloadHoursChanged | HoursTurned
_Listing = RequestReceived | PlanResolved | RequestDropped
_OtherKernels = DownloadsRestored | PeersSeen
_Transfer = TransferProgressed | TransferWaits | TransferFinished | TransferFailed | TransferStopped
_Engine = EngineLost | EnginesChanged | EngineFellSilent
_Registration = ModelRegistered | RegistrationFailed | ThenReported

Event = (
    _RequestOfAll | _RequestOfOne | _Failure | _Limit | _Listing | _OtherKernels | _Transfer | _Engine | _Registration
)
