"""What the database keeps of a queue: order, pauses, failures, and limits set by hand; no tokens, URLs or rates."""

from typing import Annotated

from msgspec import Meta
from typing_extensions import override

from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.values import Value
from gglib_nb.errors import GglibError


class StoredDownload(Value, frozen=True):
    """One download that is queued, paused, active or failed."""

    plan: PlannedDownload
    status: DownloadStatus  # `queued`, `paused` or `failed`
    was_active: bool  # it was running or being registered
    aliases: tuple[DownloadId, ...]  # other ids by which it was requested
    queued_at_s: float  # Unix time
    started_at_s: float | None = None  # Unix time of its first start; None: not started
    ended_at_s: float | None = None  # Unix time of its failure; None: it did not fail
    error: GglibError | None = None
    can_retry: bool = False  # whether another attempt can succeed; only meaningful if it failed
    ran_s: float = 0.0  # seconds in which it ran, without pauses and waiting; of finished attempts only


class StoredLimits(Value, frozen=True):
    """Limits that were set by hand; the settings decide the others."""

    max_size: Annotated[int, Meta(ge=1)] | None = None  # how many downloads may be pending; None: not set by hand
    has_bandwidth_limit: bool = False  # whether the bandwidth limit was set or removed by hand
    # None: unlimited; only meaningful with `has_bandwidth_limit`.
    bandwidth_limit_bytes_per_second: Annotated[int, Meta(ge=1)] | None = None


class StoredQueue(Value, frozen=True):
    """A queue at one moment; an unchanged download is the same object as before."""

    downloads: tuple[StoredDownload, ...] = ()  # active, then pending ones in order, then failures, the oldest first
    limits: StoredLimits = StoredLimits()
    is_processing: bool = False  # whether the processor ran


class RestoredDownload(Value, frozen=True):
    """A stored download that returns to a queue, and the bytes of each of its files on the disk."""

    stored: StoredDownload
    file_bytes: tuple[int, ...]


class Adoption(Value, frozen=True):
    """How many downloads of ended kernels a queue has taken over.

    Attributes:
        going_on: They were active and are resumed.
        waiting: They wait as before.
        paused: They are paused as before.
        failed: They had failed.
    """

    going_on: int = 0
    waiting: int = 0
    paused: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.going_on + self.waiting + self.paused + self.failed

    @override
    def __str__(self) -> str:
        counts = {"running": self.going_on, "waiting": self.waiting, "paused": self.paused, "failed": self.failed}
        parts = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        return f"{self.total} download{'' if self.total == 1 else 's'} from a previous kernel: {parts}"
