"""Downloads and snapshots of the queue for tests: what a test does not name has a plain default."""

from dataclasses import replace

from gglib_nb.domain.download import (
    DownloadStatus,
    QueuedDownload,
    QueueSnapshot,
    ShardProgress,
    ShardStatus,
)
from gglib_nb.domain.references import DownloadId

GIB = 1024**3


def a_shard(number=1, *, size_bytes=GIB, downloaded_bytes=0, status=ShardStatus.QUEUED, kind="shard", path=None):
    path = path or f"model-{number:05}.gguf"
    return ShardProgress(number, path, kind, size_bytes, downloaded_bytes, status)


def a_download(text="owner/model:Q4_K_M", status=DownloadStatus.QUEUED, **fields):
    id_ = DownloadId.parse(text)
    plain = QueuedDownload(
        id=id_,
        status=status,
        position=1 if status.is_pending else 0,
        downloaded_bytes=0,
        total_bytes=4 * GIB,
        bytes_per_second=None,
        eta_seconds=None,
        shards=(a_shard(size_bytes=4 * GIB),),
        companions=(),
        notice=None,
        notice_kind=None,
        error=None,
        can_retry=False,
        reason="",
        commit_sha="c" * 40,
        label=id_.quantization,
        paths=(),
        is_verified=None,
        was_present=False,
        queued_at_s=1000.0,
        started_at_s=None,
        ended_at_s=None,
    )
    return replace(plain, **fields)


def a_snapshot(*items, **fields):
    plain = QueueSnapshot(
        version=1,
        items=tuple(items),
        recent_completed=(),
        recent_failures=(),
        recent_cancelled=(),
        resolving=(),
        max_size=10,
        max_concurrent=1,
        is_processing=True,
        bandwidth_limit_bytes_per_second=None,
        bytes_per_second=None,
        eta_seconds=None,
        last_run=None,
    )
    return replace(plain, **fields)
