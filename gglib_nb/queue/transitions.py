"""The life of one download as a table: from which status, for which cause, to which status.

Data only, so that the picture in ARCHITECTURE.md can be drawn from it. The one function here applies the table
and is the one place that refuses.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gglib_nb.domain.download import DownloadStatus


class Cause(StrEnum):
    """Why a download changes its status."""

    STARTED = "started"
    ARRIVED = "all bytes arrived"
    STORED = "stored"
    REGISTERED = "registered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RESUMED = "resumed"
    RETRIED = "retried"
    REQUEUED = "queued again"
    ENGINE_LOST = "engine lost"


_S = DownloadStatus

TRANSITIONS: Final[Mapping[tuple[DownloadStatus, Cause], DownloadStatus]] = {
    (_S.QUEUED, Cause.STARTED): _S.DOWNLOADING,
    (_S.QUEUED, Cause.PAUSED): _S.PAUSED,
    (_S.QUEUED, Cause.CANCELLED): _S.CANCELLED,
    (_S.PAUSED, Cause.RESUMED): _S.QUEUED,
    (_S.PAUSED, Cause.CANCELLED): _S.CANCELLED,
    (_S.DOWNLOADING, Cause.ARRIVED): _S.FINALIZING,
    (_S.DOWNLOADING, Cause.STORED): _S.REGISTERING,
    (_S.DOWNLOADING, Cause.FAILED): _S.FAILED,
    (_S.DOWNLOADING, Cause.CANCELLED): _S.CANCELLED,
    (_S.DOWNLOADING, Cause.PAUSED): _S.PAUSED,
    (_S.DOWNLOADING, Cause.ENGINE_LOST): _S.DOWNLOADING,
    # A file with a wrong digest is fetched once more, so finalizing can lead back to downloading.
    (_S.FINALIZING, Cause.STARTED): _S.DOWNLOADING,
    (_S.FINALIZING, Cause.STORED): _S.REGISTERING,
    (_S.FINALIZING, Cause.FAILED): _S.FAILED,
    (_S.FINALIZING, Cause.CANCELLED): _S.CANCELLED,
    (_S.FINALIZING, Cause.PAUSED): _S.PAUSED,
    (_S.FINALIZING, Cause.ENGINE_LOST): _S.DOWNLOADING,
    (_S.REGISTERING, Cause.REGISTERED): _S.COMPLETED,
    (_S.REGISTERING, Cause.FAILED): _S.FAILED,
    (_S.FAILED, Cause.RETRIED): _S.QUEUED,
    # Stopped, but not confirmed by the engine yet: the same download can be wanted again ...
    (_S.CANCELLED, Cause.REQUEUED): _S.QUEUED,
    # ... and a rename that was already done wins over the stop.
    (_S.CANCELLED, Cause.STORED): _S.REGISTERING,
    (_S.PAUSED, Cause.STORED): _S.REGISTERING,
    (_S.QUEUED, Cause.STORED): _S.REGISTERING,
}


def following(status: DownloadStatus, cause: Cause) -> DownloadStatus:
    """The status after `cause`.

    Raises:
        AssertionError: The table has no such step; the machine asked for what it must not, which is a bug of ours.
    """
    if (status, cause) not in TRANSITIONS:
        raise AssertionError(f"a download that is {status} cannot be {cause}")
    return TRANSITIONS[status, cause]


def as_mermaid() -> str:
    """The table as a Mermaid state diagram, one line a step."""
    steps = "\n".join(f"    {before} --> {after}: {cause}" for (before, cause), after in TRANSITIONS.items())
    return f"stateDiagram-v2\n    [*] --> queued\n{steps}\n"
