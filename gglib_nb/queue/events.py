"""The events of the queue machine: requests of users, and reports of the other parts.

One class per outcome, never a code in a string. The time is passed to `handle`.
"""

from collections.abc import Mapping

from msgspec import Struct

from gglib_nb.domain import reports
from gglib_nb.domain.download import DownloadStatus, PlannedDownload, StoredFile
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import Then
from gglib_nb.domain.stored import RestoredDownload, StoredLimits
from gglib_nb.errors import GglibError

# Requests ------------------------------------------------------------------------------------------------------------


class Request(Struct, frozen=True):
    """A user's request to the queue."""


class AboutOne(Request, frozen=True):
    """A user's request about one download."""

    id: DownloadId


class RequestReceived(Struct, frozen=True):
    """A download was requested; its files are being listed. `text` is the user's request."""

    request: int
    text: str


class PlanResolved(Request, frozen=True):
    """A request became a plan. Replies with a `QueuePosition`."""

    request: int
    plan: PlannedDownload  # the plan of the request
    starts: bool  # whether the queue starts
    joins: bool  # if the same download is pending or active, its position is the reply instead of an error


class CancelRequested(AboutOne, frozen=True):
    """Cancel one download with all its shards; `discards` deletes its data, also if it has ended."""

    discards: bool


class AllCancelRequested(Request, frozen=True):
    """Cancel everything active, queued or still being listed. Replies with the attempts that have yet to stop."""


class RemovalRequested(AboutOne, frozen=True):
    """Remove a pending download."""


class PutBackRequested(Request, frozen=True):
    """Put cancelled or removed downloads back in their places, as they were. Replies with their positions."""

    ids: tuple[DownloadId, ...]


class MoveRequested(AboutOne, frozen=True):
    """Give a pending download another position. Replies with the position given."""

    position: int


class PauseRequested(Request, frozen=True):
    """Pause a download; None: everything, including requests that are still being listed."""

    id: DownloadId | None


class ResumeRequested(Request, frozen=True):
    """Resume a paused download; None: all that are paused, in their order."""

    id: DownloadId | None


class RunRequested(AboutOne, frozen=True):
    """Run a waiting download now; if no slot is free, the download that started last waits behind it."""


class RetryRequested(AboutOne, frozen=True):
    """Queue a failed download again. Replies with its position."""


class FailureCleared(AboutOne, frozen=True):
    """Forget one failed download; its partial files are kept."""


class EndedCleared(Request, frozen=True):
    """Forget all downloads that ended with this status; their files and partial files are kept."""

    status: DownloadStatus


class FilesDeleted(Request, frozen=True):
    """Forget completed downloads of these files, which were deleted."""

    targets: frozenset[str]


class PartialsDeleted(Request, frozen=True):
    """The partial files of these targets were deleted."""

    targets: frozenset[str]


class ConcurrencyChanged(Request, frozen=True):
    """Downloads that run at once from now on; those that already run continue."""

    max_concurrent: int


class LimitsChanged(Request, frozen=True):
    """A user changes the limits that `limits` has set. `is_open`: whether it is one of their hours now."""

    limits: StoredLimits
    is_open: bool = True


class HoursTurned(Struct, frozen=True):
    """The download hours begin or end."""

    is_open: bool


# Reports -------------------------------------------------------------------------------------------------------------


class RequestDropped(Struct, frozen=True):
    """Listing failed, the plan was refused, or the caller cancelled."""

    request: int


class DownloadsRestored(Struct, frozen=True):
    """Downloads of kernels that have stopped now belong to this queue. Replies with an `Adoption`.

    Those that ran come before everything that waits here, the rest after it. A download that is already in this queue
    does not change; one that can no longer be queued fails with the reason.
    """

    downloads: tuple[RestoredDownload, ...]  # in their order
    limits: StoredLimits  # those that a user set
    starts: bool  # whether the queue starts
    is_open: bool = True  # whether it is one of the hours of the limits


class PeersSeen(Struct, frozen=True):
    """Downloads that other kernels with the same models folder are running: the owner of each, by `identity`."""

    owners: Mapping[tuple[str, str, str | None], str]


class ModelRegistered(Struct, frozen=True):
    """The attempt's model is in the catalog."""

    attempt: int
    files: tuple[StoredFile, ...] | None = None  # its files; None: those that the engine stored
    remark: str = ""  # a note for users about its content, or empty
    error: GglibError | None = None  # why it is not in the catalog; its files are complete


class ThenReported(Struct, frozen=True):
    """The state of the command of a download."""

    id: DownloadId
    then: Then


Event = (
    RequestReceived | RequestDropped | PlanResolved | CancelRequested | AllCancelRequested | RemovalRequested
    | PutBackRequested | MoveRequested | PauseRequested | ResumeRequested | RunRequested | RetryRequested
    | FailureCleared | EndedCleared | FilesDeleted | PartialsDeleted | LimitsChanged | ConcurrencyChanged | HoursTurned
    | DownloadsRestored | PeersSeen | ModelRegistered | ThenReported | reports.TransferFailed | reports.Progress
    | reports.TransferWaits | reports.TransferFinished | reports.TransferStopped | reports.EngineLost
    | reports.EnginesChanged | reports.EngineSilent
)  # fmt: skip
