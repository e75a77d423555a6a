"""What the queue machine wants done, in the order in which it has to be done. Imperative; values only."""

from dataclasses import dataclass

from gglib_nb.domain.download import HostFolder, PlannedDownload, StoredFile
from gglib_nb.domain.events import QueueEvent
from gglib_nb.domain.references import DownloadId


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Where a queued download stands.

    Attributes:
        id: The queue's id for it.
        position: 1-based among pending downloads; 0 where it runs already.
        shard_count: Files of the model itself.
        is_new: False where it was there already and has been joined.
        reason: Why this variant; empty where it was asked for by name.
    """

    id: DownloadId
    position: int
    shard_count: int
    is_new: bool
    reason: str


@dataclass(frozen=True, slots=True)
class StartTransfer:
    """Have the engine fetch the plan's files."""

    attempt: int
    plan: PlannedDownload


@dataclass(frozen=True, slots=True)
class StopTransfer:
    """Have the engine stop an attempt; what it fetched is kept."""

    attempt: int


@dataclass(frozen=True, slots=True)
class DiscardPartials:
    """Delete what earlier attempts left of targets that nobody writes now."""

    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LimitBandwidth:
    """Bytes per second for everything together; None is unlimited."""

    bytes_per_second: int | None


@dataclass(frozen=True, slots=True)
class LimitConnections:
    """Connections of all transfers together."""

    max_connections: int


@dataclass(frozen=True, slots=True)
class LimitConcurrency:
    """Downloads that run at once on each engine."""

    max_concurrent: int


@dataclass(frozen=True, slots=True)
class WaitForNetwork:
    """How long a transfer waits for a network that is gone before it fails."""

    network_wait_s: int


@dataclass(frozen=True, slots=True)
class RegisterModel:
    """Write the model to the catalog; `hosts` have it, where it is not on this machine."""

    attempt: int
    plan: PlannedDownload
    files: tuple[StoredFile, ...]
    at_s: float
    hosts: tuple[HostFolder, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreQueue:
    """Write down what has to outlive the process; something of it changed."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever listens."""

    event: QueueEvent


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller of the event gets."""

    value: object


Work = (
    StartTransfer
    | StopTransfer
    | DiscardPartials
    | LimitBandwidth
    | LimitConnections
    | LimitConcurrency
    | WaitForNetwork
    | RegisterModel
    | StoreQueue
)
"""What others do for the queue; the rest it tells."""

Effect = Work | Announce | Reply
