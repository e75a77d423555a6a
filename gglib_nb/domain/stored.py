"""What the database keeps of queues: ended downloads, and a queue. No tokens, addresses or rates."""

import re
from typing import Annotated, Final

from msgspec import Meta
from typing_extensions import override

from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload, seconds_taken
from gglib_nb.domain.text import printable, redacted
from gglib_nb.domain.units import DailyHours, plural
from gglib_nb.domain.values import Value
from gglib_nb.errors import GglibError

MOST_REMEMBERED: Final = 50
"""Of all kernels together: a few weeks of one user."""

# What comes after it says what to do next, which was true at that time only.
_FIRST_SENTENCE: Final = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)


class PastDownload(Value, frozen=True):
    """One download that ended, in any kernel; what is not listed here is as in `QueuedDownload`.

    Attributes:
        outcome: `completed`, `failed` or `cancelled`.
        bytes_per_second: Mean of its last attempt; None: no byte was downloaded, or it was not completed.
        error: Why it failed, in one sentence without secrets; empty otherwise.
    """

    id: DownloadId
    outcome: DownloadStatus
    total_bytes: int | None
    bytes_per_second: float | None
    started_at_s: float | None
    ended_at_s: float
    was_present: bool = False
    error: str = ""
    ran_s: float | None = None

    @property
    def took_s(self) -> float | None:
        """Seconds in which it ran; None: it never ran."""
        return seconds_taken(self.started_at_s, self.ended_at_s, self.ran_s)


def remembered(download: QueuedDownload) -> PastDownload | None:
    """The record of an ended download; None if it has not ended or was cancelled before it ran."""
    never_ran = download.started_at_s is None and download.status is DownloadStatus.CANCELLED
    if never_ran or download.ended_at_s is None:
        return None
    failure = f"Its command failed: {download.then.error}" if download.then is not None and download.then.error else ""
    same = {one: getattr(download, one) for one in PastDownload.__struct_fields__ if one not in ("outcome", "error")}
    return PastDownload(outcome=download.status, error=first_sentence(str(download.error or failure)), **same)


def first_sentence(text: str) -> str:
    """The first sentence of an error, on one line, without what looks like a secret."""
    plain = printable(redacted(text)).strip()
    found = _FIRST_SENTENCE.match(plain)
    return found[0] if found is not None else plain


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
    has_hours: bool = False  # whether the download hours were set or removed by hand
    hours: DailyHours | None = None  # None: at any time; only meaningful with `has_hours`

    def over(self, others: "StoredLimits") -> "StoredLimits":
        """These limits, and those of `others` that are not set here."""
        bandwidth, hours = self if self.has_bandwidth_limit else others, self if self.has_hours else others
        most, limit = self.max_size or others.max_size, bandwidth.bandwidth_limit_bytes_per_second
        return StoredLimits(most, bandwidth.has_bandwidth_limit, limit, hours.has_hours, hours.hours)


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
    """How many downloads of ended kernels a queue has taken over, by their state; active ones are resumed."""

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
        return f"{plural(self.total, 'download')} from a previous kernel{': ' if parts else ''}{parts}"
