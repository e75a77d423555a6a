"""From snapshots of the queue to what the page is sent: the whole state once, then only what changed.

Pure: no widget, no thread, no clock. Relies on the promise of `QueueSnapshot` that an item (and a shard) which did
not change is the very same object as before, so that a tick costs what changed and not what there is.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gglib_nb.domain.download import (
    DownloadStatus,
    QueuedDownload,
    QueueRunSummary,
    QueueSnapshot,
    ShardProgress,
)
from gglib_nb.errors import GatedRepoError
from gglib_nb.notebook.messages import (
    BarPatch,
    Delta,
    ItemPatch,
    ItemState,
    PanelState,
    QueueState,
    RunState,
    ShardState,
)

_Rows = dict[str, QueuedDownload]


class Feed:
    """Keeps what the page was told last.

    `advance` is called by one thread at a time; `state` may be read by any.
    """

    def __init__(self, snapshot: QueueSnapshot) -> None:
        self._told = _Told(0, snapshot)
        self._rows = _rows(snapshot)
        self._fields = {key: _fields(item) for key, item in self._rows.items()}
        self._queue = _queue_state(snapshot)

    @property
    def state(self) -> PanelState:
        """The state as of the last delta: what follows applies to it."""
        told = self._told
        rows = _rows(told.snapshot)
        return {
            "rev": told.snapshot.version,
            "seq": told.seq,
            "queue": _queue_state(told.snapshot),
            "order": list(rows),
            "items": {key: _item_state(item) for key, item in rows.items()},
        }

    def advance(self, snapshot: QueueSnapshot) -> Delta | None:
        """Takes the next snapshot; returns what the page has to be told, or None where nothing shows.

        A snapshot that is not newer than the one before is ignored.
        """
        told = self._told
        if snapshot.version <= told.snapshot.version:
            return None
        before, rows, queue_state = self._rows, _rows(snapshot), _queue_state(snapshot)
        queue = _changes(self._queue, queue_state)
        patches = {key: patch for key, item in rows.items() if (patch := self._patch(key, item))}
        is_reordered = list(rows) != list(before)
        if not patches and not queue and not is_reordered:
            return None
        self._rows, self._queue, self._told = rows, queue_state, _Told(told.seq + 1, snapshot)
        for key in before.keys() - rows.keys():
            del self._fields[key]
        delta: Delta = {
            "kind": "delta",
            "rev": snapshot.version,
            "seq": told.seq + 1,
            "queue": queue,
            "items": patches,
        }
        return {**delta, "order": list(rows)} if is_reordered else delta

    def _patch(self, key: str, item: QueuedDownload) -> ItemPatch | None:
        old = self._rows.get(key)
        if old is item:
            return None
        told, self._fields[key] = self._fields.get(key), _fields(item)
        if old is None or told is None or not _has_same_files(old, item):
            return {"fields": dict(_item_state(item)), "bars": []}
        fields, bars = _changes(told, self._fields[key]), _bar_changes(_bars(old), _bars(item))
        return {"fields": fields, "bars": bars} if fields or bars else None


class _Told(NamedTuple):
    seq: int
    snapshot: QueueSnapshot


def _rows(snapshot: QueueSnapshot) -> _Rows:
    # One id has one row: what it is now goes before what it once came to.
    rows: _Rows = {}
    lists = (snapshot.items, snapshot.recent_failures, snapshot.recent_completed, snapshot.recent_cancelled)
    for items in lists:
        for item in items:
            rows.setdefault(str(item.id), item)
    return rows


def _queue_state(snapshot: QueueSnapshot) -> QueueState:
    return {
        "pending_count": snapshot.pending_count,
        "active_count": snapshot.active_count,
        "max_size": snapshot.max_size,
        "max_concurrent": snapshot.max_concurrent,
        "max_connections": snapshot.max_connections,
        "bandwidth_limit_bytes_per_second": snapshot.bandwidth_limit_bytes_per_second,
        "download_hours": None if snapshot.download_hours is None else str(snapshot.download_hours),
        "waits_until": snapshot.waits_until,
        "bytes_per_second": snapshot.bytes_per_second,
        "eta_seconds": snapshot.eta_seconds,
        "resolving": list(snapshot.resolving),
        "last_run": None if snapshot.last_run is None else _run_state(snapshot.last_run),
    }


def _run_state(run: QueueRunSummary) -> RunState:
    sizes = [item.total_bytes for item in run.items if item.outcome is DownloadStatus.COMPLETED]
    known = [size for size in sizes if size is not None]
    return {
        "started_at_s": run.started_at_s,
        "ended_at_s": run.ended_at_s,
        "models_completed": run.models_completed,
        "models_failed": run.models_failed,
        "models_cancelled": run.models_cancelled,
        "completed_bytes": None if run.is_truncated or len(known) < len(sizes) else sum(known),
    }


def _item_state(item: QueuedDownload) -> ItemState:
    shards = [_shard_state(bar) for bar in _bars(item)]
    return {**_fields(item), "shards": shards}  # type: ignore[typeddict-item]  # a test compares the names


def _fields(item: QueuedDownload) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "repo_id": item.repo_id,
        "name": item.display_name,
        "quantization": item.quantization,
        "revision": item.id.revision,
        "status": item.status.value,
        "position": item.position,
        "downloaded_bytes": item.downloaded_bytes,
        "total_bytes": item.total_bytes,
        "bytes_per_second": item.bytes_per_second,
        "eta_seconds": item.eta_seconds,
        "notice": item.notice,
        "notice_kind": item.notice_kind,
        "error": None if item.error is None else str(item.error),
        "help_url": item.error.accept_url if isinstance(item.error, GatedRepoError) else None,
        "can_retry": item.can_retry,
        "reason": item.reason,
        "path": item.paths[0] if item.paths else None,
        "is_verified": item.is_verified,
        "was_present": item.was_present,
        "started_at_s": item.started_at_s,
        "ended_at_s": item.ended_at_s,
    }


def _shard_state(bar: ShardProgress) -> ShardState:
    return {
        "path": bar.path_in_repo,
        "kind": bar.kind,
        "size_bytes": bar.size_bytes,
        "downloaded_bytes": bar.downloaded_bytes,
        "status": bar.status.value,
    }


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in new.items() if value != old[name]}


def _bar_changes(old: tuple[ShardProgress, ...], new: tuple[ShardProgress, ...]) -> list[BarPatch]:
    return [
        (index, bar.downloaded_bytes)
        if bar.status is before.status
        else (index, bar.downloaded_bytes, bar.status.value)
        for index, (before, bar) in enumerate(zip(old, new, strict=True))
        if bar is not before
    ]


def _bars(item: QueuedDownload) -> tuple[ShardProgress, ...]:
    return (*item.shards, *item.companions)


def _has_same_files(old: QueuedDownload, new: QueuedDownload) -> bool:
    # The commit and the id name the shards; companions come with their number.
    return old.commit_sha == new.commit_sha and len(_bars(old)) == len(_bars(new))
