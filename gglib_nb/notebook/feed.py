"""From snapshots of the queue to what the page is sent: the whole state once, then only what changed.

Pure: no widget, no thread, no clock. Relies on the promise of `QueueSnapshot` that an item (and a shard) which did
not change is the very same object as before, so that a tick costs what changed and not what there is. Counters of what
nobody sees are kept back until somebody does; all else is told at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gglib_nb.domain.download import (
    DownloadStatus,
    ElsewhereDownload,
    QueuedDownload,
    QueueRunSummary,
    QueueSnapshot,
    ShardProgress,
)
from gglib_nb.errors import GatedRepoError
from gglib_nb.notebook.messages import (
    BarPatch,
    Delta,
    ElsewhereState,
    ItemPatch,
    ItemState,
    PanelState,
    QueueState,
    RunState,
    ShardState,
    plain,
)
from gglib_nb.notebook.rows import hosts

_Rows = dict[str, QueuedDownload]

# Views that were closed without a word (a page that was reloaded) are forgotten in their turn.
_MOST_VIEWS: Final = 20

# What only counts on; all else is told of rows that nobody sees, too.
_COUNTERS: Final = frozenset({"downloaded_bytes", "bytes_per_second", "eta_seconds", "notice"})


@dataclass(frozen=True, slots=True)
class Sight:
    """What a person can see of one view.

    Attributes:
        rows: Ids of the rows in sight; empty while the view is hidden.
        mapped: Ids of those that show where the bytes of their files stand.
    """

    rows: frozenset[str] = frozenset()
    mapped: frozenset[str] = frozenset()


class Feed:
    """Keeps what the page was told last.

    `advance`, `keeps_back`, `look` and `catch_up` are called by one thread at a time; `state` may be read by any.
    """

    def __init__(self, snapshot: QueueSnapshot) -> None:
        self._newest = snapshot
        rows = {key: _ToldRow(item, _fields(item), has_steps=True) for key, item in _rows(snapshot).items()}
        self._told = _Told(0, snapshot.version, _queue_state(snapshot), rows)
        self._sights: dict[str, Sight] = {}
        # Until a view has said what it shows, all of it may be seen.
        self._seen: Sight | None = None

    @property
    def state(self) -> PanelState:
        """The state as of the last delta: what follows applies to it."""
        told = self._told
        return {
            "rev": told.version,
            "seq": told.seq,
            "queue": told.queue,
            "order": list(told.rows),
            "items": {key: _item_state(row.item) for key, row in told.rows.items()},
        }

    def advance(self, snapshot: QueueSnapshot) -> Delta | None:
        """Takes the next snapshot; returns what the page has to be told, or None where nothing shows.

        A snapshot that is not newer than the one before is ignored.
        """
        if snapshot.version < self._newest.version or snapshot.version <= self._told.version:
            return None
        self._newest = snapshot
        return self._delta(self._seen)

    def keeps_back(self, snapshot: QueueSnapshot) -> bool:
        """Takes a snapshot that only counts on from what the page was told, for later; False where it brings more."""
        told, rows = self._told, _rows(snapshot)
        is_plain = (
            list(rows) == list(told.rows)
            and _changes(told.queue, _queue_state(snapshot)).keys() <= _COUNTERS
            and all(_only_counts(told.rows[key], item) for key, item in rows.items())
        )
        if is_plain and snapshot.version > self._newest.version:
            self._newest = snapshot
        return is_plain

    def look(self, view: str, sight: Sight | None) -> Delta | None:
        """A view shows other rows than before, or is gone (None); returns what it was not told so far."""
        self._sights.pop(view, None)
        if sight is not None:
            self._sights[view] = sight
        for old in list(self._sights)[:-_MOST_VIEWS]:
            del self._sights[old]
        sights = self._sights.values()
        self._seen = Sight(
            frozenset().union(*(one.rows for one in sights)), frozenset().union(*(one.mapped for one in sights))
        )
        return self._delta(self._seen)

    def catch_up(self) -> Delta | None:
        """What was not told because nobody saw it."""
        return self._delta(None)

    def _delta(self, seen: Sight | None) -> Delta | None:
        told, snapshot = self._told, self._newest
        items = _rows(snapshot)
        queue_state = _queue_state(snapshot)
        queue = _changes(told.queue, queue_state)
        if seen is not None and not seen.rows and queue.keys() <= _COUNTERS and told.rows:
            queue, queue_state = {}, told.queue
        patches: dict[str, ItemPatch] = {}
        rows: dict[str, _ToldRow] = {}
        for key, item in items.items():
            rows[key], patch = _advanced(key, told.rows.get(key), item, seen)
            if patch is not None:
                patches[key] = patch
        is_reordered = list(rows) != list(told.rows)
        if not patches and not queue and not is_reordered:
            self._told = told._replace(rows=rows)
            return None
        self._told = _Told(told.seq + 1, snapshot.version, queue_state, rows)
        delta: Delta = {
            "kind": "delta",
            "rev": snapshot.version,
            "seq": told.seq + 1,
            "queue": queue,
            "items": patches,
        }
        return {**delta, "order": list(rows)} if is_reordered else delta


class _ToldRow(NamedTuple):
    """What the page knows of a row; `has_steps` where it knows, too, where the bytes of its files stand."""

    item: QueuedDownload
    fields: dict[str, Any]
    has_steps: bool


class _Told(NamedTuple):
    seq: int
    version: int
    queue: QueueState
    rows: dict[str, _ToldRow]


def _advanced(
    key: str, told: _ToldRow | None, item: QueuedDownload, seen: Sight | None
) -> tuple[_ToldRow, ItemPatch | None]:
    """What the page knows next of a row, and what it has to be told for that."""
    is_mapped = seen is not None and key in seen.mapped
    if told is not None and told.item is item and (told.has_steps or not is_mapped):
        return told, None
    fields = _fields(item)
    if told is None or not _has_same_files(told.item, item):
        return _ToldRow(item, fields, has_steps=True), {"fields": dict(_item_state(item)), "bars": []}
    changes = _changes(told.fields, fields)
    if seen is not None and key not in seen.rows and changes.keys() <= _COUNTERS:
        return told, None
    bars = _bar_changes(told, item, is_mapped=is_mapped)
    row = _ToldRow(item, fields, has_steps=is_mapped)
    return row, {"fields": changes, "bars": bars} if changes or bars else None


def _only_counts(told: _ToldRow, item: QueuedDownload) -> bool:
    if told.item is item:
        return True
    return (
        _has_same_files(told.item, item)
        and _changes(told.fields, _fields(item)).keys() <= _COUNTERS
        and all(old.status is new.status for old, new in zip(_bars(told.item), _bars(item), strict=True))
    )


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
        "notices": [{"kind": notice.kind, "text": notice.text} for notice in snapshot.notices],
        "elsewhere": [_elsewhere_state(item) for item in snapshot.elsewhere],
    }


def _elsewhere_state(item: ElsewhereDownload) -> ElsewhereState:
    return {
        "owner": item.owner,
        "is_left": item.is_left,
        "id": str(item.id),
        "name": item.display_name,
        "quantization": plain(item.id.quantization),
        "status": item.status.value,
        "downloaded_bytes": item.downloaded_bytes,
        "total_bytes": item.total_bytes,
        "bytes_per_second": item.bytes_per_second,
        "eta_seconds": item.eta_seconds,
        "notice": item.notice,
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
        "quantization": plain(item.quantization),
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
        "projector_path": _projector_path(item),
        "is_verified": item.is_verified,
        "was_present": item.was_present,
        "hosts": hosts(item),
        "started_at_s": item.started_at_s,
        "ended_at_s": item.ended_at_s,
    }


def _projector_path(item: QueuedDownload) -> str | None:
    paths = zip(item.companions, item.companion_paths, strict=False)
    return next((path for bar, path in paths if bar.kind == "mmproj"), None)


def _shard_state(bar: ShardProgress) -> ShardState:
    return {
        "path": bar.path_in_repo,
        "kind": bar.kind,
        "size_bytes": bar.size_bytes,
        "downloaded_bytes": bar.downloaded_bytes,
        "status": bar.status.value,
        "arrived_steps": list(bar.arrived_steps),
        "verified_steps": bar.verified_steps,
    }


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in new.items() if value != old[name]}


def _bar_changes(told: _ToldRow, item: QueuedDownload, *, is_mapped: bool) -> list[BarPatch]:
    pairs = enumerate(zip(_bars(told.item), _bars(item), strict=True))
    if is_mapped:
        return [
            (index, bar.downloaded_bytes, bar.status.value, bar.verified_steps, list(bar.arrived_steps))
            for index, (before, bar) in pairs
            if bar is not before or not told.has_steps
        ]
    return [
        (index, bar.downloaded_bytes)
        if bar.status is before.status
        else (index, bar.downloaded_bytes, bar.status.value)
        for index, (before, bar) in pairs
        if bar is not before and _is_moved(before, bar)
    ]


def _is_moved(before: ShardProgress, bar: ShardProgress) -> bool:
    return bar.downloaded_bytes != before.downloaded_bytes or bar.status is not before.status


def _bars(item: QueuedDownload) -> tuple[ShardProgress, ...]:
    return (*item.shards, *item.companions)


def _has_same_files(old: QueuedDownload, new: QueuedDownload) -> bool:
    # The commit and the id name the shards; companions come with their number.
    # (On every host of a cluster a file counts in all its copies, and a host may come or go.)
    is_as_large = old.total_bytes == new.total_bytes
    return old.commit_sha == new.commit_sha and len(_bars(old)) == len(_bars(new)) and is_as_large
