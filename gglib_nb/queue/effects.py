"""The effects of the queue machine, in order. Named as commands; values only."""

from msgspec import Struct

from gglib_nb.domain.download import HostFolder, PlannedDownload, StoredFile
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.reports import DiscardPartials, LimitConcurrency, StopTransfer
from gglib_nb.domain.snapshot import QueueEvent


class QueuePosition(Struct, frozen=True):
    """The place of a queued download."""

    id: DownloadId  # the queue's id for it
    position: int  # 1-based among pending downloads; 0 if it is already running
    shard_count: int  # files of the model itself
    is_new: bool  # False if it was already in the queue
    reason: str  # why this variant was chosen; empty if it was requested by name
    path: str  # target of the model's first file


class StartAttempt(Struct, frozen=True):
    """Have the engine download the plan's files."""

    attempt: int
    plan: PlannedDownload


class LimitBandwidth(Struct, frozen=True):
    """Bytes per second for everything together; None is unlimited."""

    bytes_per_second: int | None


class RegisterModel(Struct, frozen=True):
    """Write the model to the catalog if the plan says so, and start the plan's command."""

    attempt: int
    plan: PlannedDownload  # of the download
    files: tuple[StoredFile, ...]  # the model's files
    at_s: float  # Unix time
    hosts: tuple[HostFolder, ...] = ()  # the hosts that have it, if it is not on this machine
    queued_at_s: float = 0.0  # with the plan's id, it identifies the download, also in the next kernel
    also: tuple[DownloadId, ...] = ()  # other ids under which it was requested, such as another revision's


class StoreQueue(Struct, frozen=True):
    """Store the queue; something in it changed."""


class Reply(Struct, frozen=True):
    """The reply to the caller of the event."""

    value: object


EngineWork = StartAttempt | StopTransfer | DiscardPartials | LimitBandwidth | LimitConcurrency
Work = EngineWork | RegisterModel | StoreQueue
"""Actions outside the queue."""

Effect = Work | QueueEvent | Reply
"""Everything in the order in which it happens; an event is announced to the listeners."""
