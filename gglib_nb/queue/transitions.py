"""The states of one download as a table, from which ARCHITECTURE.md's diagram is drawn."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gglib_nb.domain.download import DownloadStatus


class Cause(StrEnum):
    """Why a download changes its status."""

    STARTED = "started"
    ARRIVED = "all bytes received"
    STORED = "stored"
    REGISTERED = "registered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RESUMED = "resumed"
    HELD = "held back"
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
    (_S.DOWNLOADING, Cause.HELD): _S.QUEUED,
    (_S.DOWNLOADING, Cause.ENGINE_LOST): _S.DOWNLOADING,
    # A file with a wrong digest is downloaded once more, so finalizing can lead back to downloading.
    (_S.FINALIZING, Cause.STARTED): _S.DOWNLOADING,
    (_S.FINALIZING, Cause.STORED): _S.REGISTERING,
    (_S.FINALIZING, Cause.FAILED): _S.FAILED,
    (_S.FINALIZING, Cause.CANCELLED): _S.CANCELLED,
    (_S.FINALIZING, Cause.PAUSED): _S.PAUSED,
    (_S.FINALIZING, Cause.ENGINE_LOST): _S.DOWNLOADING,
    (_S.REGISTERING, Cause.REGISTERED): _S.COMPLETED,
    # An update that cannot replace the old version; any other download is complete even if it is not registered.
    (_S.REGISTERING, Cause.FAILED): _S.FAILED,
    (_S.FAILED, Cause.RETRIED): _S.QUEUED,
    # Stopped, but not confirmed by the engine yet: the same download can be requested again ...
    (_S.CANCELLED, Cause.REQUEUED): _S.QUEUED,
    # ... and a rename that was already done has precedence over the stop.
    (_S.CANCELLED, Cause.STORED): _S.REGISTERING,
    (_S.PAUSED, Cause.STORED): _S.REGISTERING,
    (_S.QUEUED, Cause.STORED): _S.REGISTERING,
}
