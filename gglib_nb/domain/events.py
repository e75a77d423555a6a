"""The events that `DownloadManager.events()` yields. Frozen values; names in the past tense."""

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueRunSummary, QueueSnapshot, ShardProgress
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.values import Value


class SnapshotChanged(Value, frozen=True):
    """The queue changed: the first event of every stream, then at most ten a second."""

    snapshot: QueueSnapshot


class DownloadStarted(Value, frozen=True):
    """A download got a slot."""

    id: DownloadId
    attempt: int


class ShardProgressed(Value, frozen=True):
    """Bytes or status of one file changed."""

    id: DownloadId
    shard: ShardProgress


class StatusChanged(Value, frozen=True):
    """A download changed its status."""

    id: DownloadId
    status: DownloadStatus


class NoticeChanged(Value, frozen=True):
    """The notice of a download changed; None: no notice."""

    id: DownloadId
    notice: str | None


class _DownloadEvent(Value, frozen=True):
    download: QueuedDownload


class DownloadProgressed(_DownloadEvent, frozen=True):
    """Bytes, rate or notice of an active download changed."""


class DownloadCompleted(_DownloadEvent, frozen=True):
    """All files have their final names."""


class DownloadFailed(_DownloadEvent, frozen=True):
    """It failed; `download.error` says why."""


class DownloadCancelled(_DownloadEvent, frozen=True):
    """It was cancelled and has stopped, or was queued again while it was stopping."""


class ThenChanged(_DownloadEvent, frozen=True):
    """The command of a download has started or ended; `download.then` says how."""


class RunSummarized(Value, frozen=True):
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
    | ThenChanged
    | RunSummarized
)
