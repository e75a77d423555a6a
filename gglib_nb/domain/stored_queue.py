"""What of a queue outlives its kernel: the order, pauses, failures, and limits that were set by hand. Frozen values only.

No token, no address that was signed, no rate: those belong to the process that transfers.
"""

from typing import Annotated

from msgspec import Meta

from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.values import Value
from gglib_nb.errors import GglibError


class StoredDownload(Value, frozen=True):
    """One download that is not over.

    Attributes:
        plan: What it fetches.
        status: `queued`, `paused` or `failed`.
        was_active: It ran, or was being registered.
        aliases: Ids that were found to mean it.
        queued_at_s: Unix time.
        started_at_s: Unix time of its first start; None before.
        ended_at_s: Unix time of its failure; None unless failed.
        error: Why it failed; None unless failed.
        can_retry: Whether trying again can help; only meaningful when failed.
    """

    plan: PlannedDownload
    status: DownloadStatus
    was_active: bool
    aliases: tuple[DownloadId, ...]
    queued_at_s: float
    started_at_s: float | None = None
    ended_at_s: float | None = None
    error: GglibError | None = None
    can_retry: bool = False


class StoredLimits(Value, frozen=True):
    """Limits that were set by hand; the others are those of the settings.

    Attributes:
        max_size: Downloads that may wait; None: not set by hand.
        has_bandwidth_limit: Whether the bandwidth limit was set, or lifted, by hand.
        bandwidth_limit_bytes_per_second: None is unlimited; only meaningful with `has_bandwidth_limit`.
    """

    max_size: Annotated[int, Meta(ge=1)] | None = None
    has_bandwidth_limit: bool = False
    bandwidth_limit_bytes_per_second: Annotated[int, Meta(ge=1)] | None = None


class StoredQueue(Value, frozen=True):
    """A queue at one moment; a download that did not change is the very same object as the moment before.

    Attributes:
        downloads: What ran, then what waits in its order, then the failures, the oldest first.
        limits: As above.
        is_processing: Whether the processor ran.
    """

    downloads: tuple[StoredDownload, ...] = ()
    limits: StoredLimits = StoredLimits()
    is_processing: bool = False


class RestoredDownload(Value, frozen=True):
    """A stored download on its way back into a queue.

    Attributes:
        stored: What was stored.
        file_bytes: How much of each file of its plan is on the disk.
    """

    stored: StoredDownload
    file_bytes: tuple[int, ...]


class Adoption(Value, frozen=True):
    """What a queue took up of kernels that are gone.

    Attributes:
        going_on: Downloads that were active and are resumed.
        waiting: Those that wait as before.
        paused: Those that rest as before.
        failed: Those that had failed.
    """

    going_on: int = 0
    waiting: int = 0
    paused: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.going_on + self.waiting + self.paused + self.failed
