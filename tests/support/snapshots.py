"""Real snapshots of a fake queue, for tests of displays: short to write, complete, and the same on every run."""

from dataclasses import replace
from typing import Any

from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload, QueueRunSummary, QueueSnapshot, ShardProgress

GB = 10**9
NOW_S = 1_760_000_000.0


def shards(stem: str, sizes: list[int], downloaded: list[int]) -> tuple[ShardProgress, ...]:
    """The bars of a model with one file per size."""
    pairs = zip(sizes, downloaded, strict=True)
    return tuple(_shard(stem, number, len(sizes), *pair) for number, pair in enumerate(pairs, start=1))


def _shard(stem: str, number: int, total: int, size: int, downloaded: int) -> ShardProgress:
    name = f"{stem}.gguf" if total == 1 else f"{stem}-{number:05}-of-{total:05}.gguf"
    status = ShardStatus.QUEUED if downloaded == 0 else ShardStatus.DOWNLOADING
    return ShardProgress(
        number, name, "shard", size, downloaded, ShardStatus.FINISHED if downloaded >= size else status
    )


def shard(
    number: int = 1,
    *,
    size_bytes: int | None = GB,
    downloaded_bytes: int = 0,
    status: ShardStatus = ShardStatus.QUEUED,
    kind: str = "shard",
    path: str | None = None,
) -> ShardProgress:
    """One bar."""
    return ShardProgress(number, path or f"model-{number:05}.gguf", kind, size_bytes, downloaded_bytes, status)


def download(
    text: str = "owner/model:Q4_K_M",
    status: str = "queued",
    *,
    total_bytes: int = 4 * GB,
    downloaded_bytes: int = 0,
    **fields: Any,
) -> QueuedDownload:
    """One download: its id, its status, and differences from a newly queued one."""
    id_ = DownloadId.parse(text)
    stem = f"{id_.repo_id.rpartition('/')[2].removesuffix('-GGUF')}-{id_.quantization}"
    plain = QueuedDownload(
        id=id_,
        status=DownloadStatus(status),
        position=0,
        downloaded_bytes=downloaded_bytes,
        total_bytes=total_bytes,
        bytes_per_second=None,
        eta_seconds=None,
        shards=shards(stem, [total_bytes], [downloaded_bytes]),
        companions=(),
        notice=None,
        notice_kind=None,
        error=None,
        can_retry=False,
        reason="",
        commit_sha="0" * 40,
        label=id_.quantization,
        paths=(),
        is_verified=None,
        was_present=False,
        queued_at_s=NOW_S,
        started_at_s=None,
        ended_at_s=None,
    )
    return replace(plain, **fields)


def completed(text: str, *, total_bytes: int = 4 * GB, seconds: float = 90.0, **fields: Any) -> QueuedDownload:
    """A completed and verified download."""
    repo_id = DownloadId.parse(text).repo_id
    item = download(
        text,
        "completed",
        total_bytes=total_bytes,
        downloaded_bytes=total_bytes,
        is_verified=True,
        started_at_s=NOW_S,
        **fields,
    )
    path = f"/home/ada/models/{repo_id}/{item.shards[0].path_in_repo}"
    return replace(item, paths=(path,), ended_at_s=NOW_S + seconds, bytes_per_second=total_bytes / seconds)


def snapshot(*items: QueuedDownload, version: int = 1, max_size: int = 10, **fields: Any) -> QueueSnapshot:
    """A queue of these downloads, sorted into its lists by status, the pending ones numbered."""
    live = [item for item in items if item.status.is_active]
    pending = [item for item in items if item.status.is_pending]
    numbered = [item if item.position else replace(item, position=at) for at, item in enumerate(pending, start=1)]
    plain = QueueSnapshot(
        version=version,
        items=(*live, *numbered),
        recent_completed=_of(items, DownloadStatus.COMPLETED),
        recent_failures=_of(items, DownloadStatus.FAILED),
        recent_cancelled=_of(items, DownloadStatus.CANCELLED),
        resolving=(),
        max_size=max_size,
        max_concurrent=1,
        is_processing=bool(live),
        bandwidth_limit_bytes_per_second=None,
        bytes_per_second=None,
        eta_seconds=None,
        last_run=None,
    )
    return replace(plain, **fields)


def run_summary(*, completed: int = 0, failed: int = 0, cancelled: int = 0) -> QueueRunSummary:
    """A run of four minutes."""
    return QueueRunSummary(
        NOW_S, NOW_S + 240, completed, failed, cancelled, completed, failed, cancelled, items=(), is_truncated=False
    )


def _of(items: tuple[QueuedDownload, ...], status: DownloadStatus) -> tuple[QueuedDownload, ...]:
    return tuple(item for item in items if item.status is status)
