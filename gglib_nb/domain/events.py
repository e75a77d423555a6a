"""What happened in the queue, as `DownloadManager.events()` tells it. Frozen values; past tense."""

from dataclasses import dataclass

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueRunSummary, QueueSnapshot, ShardProgress
from gglib_nb.domain.references import DownloadId


@dataclass(frozen=True, slots=True)
class SnapshotChanged:
    """The queue as a whole, the first event of every stream and at most ten times a second after."""

    snapshot: QueueSnapshot


@dataclass(frozen=True, slots=True)
class DownloadStarted:
    """A download got a slot."""

    id: DownloadId
    attempt: int


@dataclass(frozen=True, slots=True)
class DownloadProgressed:
    """Bytes, rate or notice of an active download changed."""

    download: QueuedDownload


@dataclass(frozen=True, slots=True)
class ShardProgressed:
    """Bytes or status of one file changed."""

    id: DownloadId
    shard: ShardProgress


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A download moved on."""

    id: DownloadId
    status: DownloadStatus


@dataclass(frozen=True, slots=True)
class NoticeChanged:
    """The line that says what is going on changed; None: nothing to say."""

    id: DownloadId
    notice: str | None


@dataclass(frozen=True, slots=True)
class DownloadCompleted:
    """Its files stand under their final names."""

    download: QueuedDownload


@dataclass(frozen=True, slots=True)
class DownloadFailed:
    """It ended without its goal; `download.error` says why."""

    download: QueuedDownload


@dataclass(frozen=True, slots=True)
class DownloadCancelled:
    """It was cancelled and nothing of it runs any more, or it was queued again while it still stopped."""

    download: QueuedDownload


@dataclass(frozen=True, slots=True)
class RunSummarized:
    """The queue has drained."""

    summary: QueueRunSummary


QueueEvent = (
    SnapshotChanged
    | DownloadStarted
    | DownloadProgressed
    | ShardProgressed
    | StatusChanged
    | NoticeChanged
    | DownloadCompleted
    | DownloadFailed
    | DownloadCancelled
    | RunSummarized
)
