"""Ended downloads, as the database keeps them."""

import re
from typing import Final

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, seconds_taken
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.secrets import redacted
from gglib_nb.domain.values import Value

MOST_REMEMBERED: Final = 50
"""Of all kernels together: a few weeks of one user."""

# What comes after it says what to do next, which was true at that time only.
_FIRST_SENTENCE: Final = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)


class PastDownload(Value, frozen=True):
    """One download that ended, in any kernel. Times are Unix times.

    Attributes:
        outcome: `completed`, `failed` or `cancelled`.
        total_bytes: Of all its files; None: unknown.
        bytes_per_second: Mean of its last attempt; None: no byte was downloaded, or it was not completed.
        started_at_s: Its first start; None: it never ran.
        was_present: It was completed without downloading a byte.
        error: Why it failed, in one sentence without secrets; empty otherwise.
        ran_s: Seconds in which it ran, without pauses and waiting; None: unknown.
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
    return PastDownload(
        id=download.id,
        outcome=download.status,
        total_bytes=download.total_bytes,
        bytes_per_second=download.bytes_per_second,
        started_at_s=download.started_at_s,
        ended_at_s=download.ended_at_s,
        was_present=download.was_present,
        error=first_sentence(str(download.error or failure)),
        ran_s=download.ran_s,
    )


def first_sentence(text: str) -> str:
    """The first sentence of an error, on one line, without what looks like a secret."""
    plain = printable(redacted(text)).strip()
    found = _FIRST_SENTENCE.match(plain)
    return found[0] if found is not None else plain
