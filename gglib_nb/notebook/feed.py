"""From snapshots of the queue to what the page is sent: the whole state once, then only what changed.

Pure: no widget, no thread, no clock. Relies on the promise of `QueueSnapshot` that an item (and a shard) which did
not change is the very same object as before, so that a tick costs what changed and not what there is.
"""

from collections.abc import Iterable
from typing import Any

from gglib_nb.domain.download import (
    DownloadStatus,
    QueuedDownload,
    QueueRunSummary,
    QueueSnapshot,
    ShardProgress,
)
from gglib_nb.errors import GatedRepoError
from gglib_nb.notebook.messages import Delta, ItemPatch, ItemState, PanelState, QueueState, RunState, ShardState

_Rows = dict[str, QueuedDownload]


class Feed:
    """Keeps what the page was told last.

    `advance` is called by one thread at a time; `state` may be read by any.
    """

    def __init__(self, snapshot: QueueSnapshot) -> None:
        rows = _rows(snapshot)
        self._rows = rows
        self._state: PanelState = {
            "rev": snapshot.version,
            "seq": 0,
            "queue": _queue_state(snapshot),
            "order": list(rows),
            "items": {key: _item_state(item) for key, item in rows.items()},
        }

    @property
    def state(self) -> PanelState:
        """The state as of the last delta: what follows applies to it. Never changed in place."""
        return self._state

    def advance(self, snapshot: QueueSnapshot) -> Delta | None:
        """Takes the next snapshot; returns what the page has to be told, or None where nothing shows.

        A snapshot that is not newer than the one before is ignored.
        """
        before = self._state
        if snapshot.version <= before["rev"]:
            return None
        rows, queue = _rows(snapshot), _queue_state(snapshot)
        items, patches = self._patched(rows)
        order = list(rows)
        changed = {name: value for name, value in queue.items() if value != before["queue"].get(name)}
        if not patches and not changed and order == before["order"]:
            return None
        seq = before["seq"] + 1
        self._rows = rows
        self._state = {"rev": snapshot.version, "seq": seq, "queue": queue, "order": order, "items": items}
        delta: Delta = {"kind": "delta", "rev": snapshot.version, "seq": seq, "queue": changed, "items": patches}
        return delta if order == before["order"] else {**delta, "order": order}

    def _patched(self, rows: _Rows) -> tuple[dict[str, ItemState], dict[str, ItemPatch]]:
        items, patches = {}, {}
        told = self._state["items"]
        for key, item in rows.items():
            old = self._rows.get(key)
            if old is item:
                items[key] = told[key]
            elif old is None or _paths(old) != _paths(item):
                items[key] = state = _item_state(item)
                patches[key] = ItemPatch(fields=dict(state), bars=[])
            else:
                items[key] = state = _item_state(item, old, told[key])
                if patch := _patch(told[key], state):
                    patches[key] = patch
        return items, patches


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
        "bandwidth_limit_bytes_per_second": snapshot.bandwidth_limit_bytes_per_second,
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


def _item_state(item: QueuedDownload, before: QueuedDownload | None = None, told: ItemState | None = None) -> ItemState:
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
        "shards": _shard_states(_bars(item), _bars(before) if before else (), told["shards"] if told else []),
    }


def _shard_states(
    bars: tuple[ShardProgress, ...], before: tuple[ShardProgress, ...], told: list[ShardState]
) -> list[ShardState]:
    if not before:
        return [_shard_state(bar) for bar in bars]
    pairs = zip(bars, before, told, strict=True)
    return [state if bar is old else _shard_state(bar) for bar, old, state in pairs]


def _shard_state(bar: ShardProgress) -> ShardState:
    return {
        "path": bar.path_in_repo,
        "kind": bar.kind,
        "size_bytes": bar.size_bytes,
        "downloaded_bytes": bar.downloaded_bytes,
        "status": bar.status.value,
    }


def _patch(old: ItemState, new: ItemState) -> ItemPatch | None:
    fields = {name: value for name, value in new.items() if name != "shards" and value != old.get(name)}
    bars = [
        (index, bar["downloaded_bytes"], bar["status"])
        for index, (bar, told) in enumerate(zip(new["shards"], old["shards"], strict=True))
        if bar is not told
    ]
    return {"fields": fields, "bars": bars} if fields or bars else None


def _bars(item: QueuedDownload) -> tuple[ShardProgress, ...]:
    return (*item.shards, *item.companions)


def _paths(item: QueuedDownload) -> Iterable[Any]:
    return [(bar.path_in_repo, bar.size_bytes) for bar in _bars(item)]
