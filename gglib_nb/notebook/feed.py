"""From snapshots of the queue to what the page is sent: everything once, then whole rows that changed.

Pure: no widget, no thread, no clock. Relies on the promise of `QueueSnapshot` that an item which did not change is the same
object as before, so that an update costs what changed and not what exists.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.notebook import rows
from gglib_nb.notebook.listings import FILTERS
from gglib_nb.notebook.messages import Changes, News, PanelState
from gglib_nb.notebook.rows import Header, Row, View

_LONG_S: Final = 60
"""A download that ends sooner is still on a person's mind."""


class Feed:
    """Keeps what the page was sent last. `advance` is called by one thread at a time; `state` may be read by any."""

    def __init__(self, snapshot: QueueSnapshot) -> None:
        self._sent = _sent(0, snapshot, None)

    @property
    def seq(self) -> int:
        """Number of the last changes."""
        return self._sent.seq

    @property
    def state(self) -> PanelState:
        """Everything as of the last changes: the next ones apply to it."""
        sent = self._sent
        return PanelState(
            sent.seq,
            sent.header,
            sent.views,
            {id_: one.row for id_, one in sent.rows.items()},
            rows.PANEL_TEXTS,
            FILTERS,
        )

    def advance(self, snapshot: QueueSnapshot, *, counts: bool = True) -> Changes | None:
        """Takes the next snapshot; returns what the page has to be sent, None for nothing.

        Args:
            snapshot: One that is not newer than the one before is ignored.
            counts: False: nothing is sent where only counters have moved, such as bytes and rates. What was not sent is
                in the next changes.
        """
        before = self._sent
        if snapshot.version <= before.version:
            return None
        if not counts and before.outline == _outline(snapshot):
            return None
        after = self._sent = _sent(before.seq + 1, snapshot, before)
        changed = tuple(
            one.row
            for id_, one in after.rows.items()
            if (old := before.rows.get(id_)) is None or (old.row is not one.row and old.row != one.row)
        )
        header = after.header if after.header != before.header else None
        views = after.views if after.views != before.views else None
        if not changed and header is None and views is None:
            self._sent = after._replace(seq=before.seq)
            return None
        return Changes(seq=after.seq, header=header, views=views, rows=changed, news=tuple(_news(before, after)))


class _SentRow(NamedTuple):
    source: Any
    row: Row


class _Sent(NamedTuple):
    seq: int
    version: int
    outline: tuple[object, ...]
    header: Header
    views: tuple[View, ...]
    rows: dict[str, _SentRow]


def _sent(seq: int, snapshot: QueueSnapshot, before: _Sent | None) -> _Sent:
    context = (snapshot.pending_count, snapshot.active_count)
    known = before.rows if before is not None else {}
    found: dict[str, _SentRow] = {}
    for item in _items(snapshot):
        id_ = str(item.id)
        if id_ in found:
            continue
        # What can be done with a waiting row depends on the others.
        source = (item, context if item.status.is_pending else None)
        old = known.get(id_)
        is_same = old is not None and old.source[0] is item and old.source[1] == source[1]
        found[id_] = old if old is not None and is_same else _SentRow(source, rows.download_row(item, *context))
    others = [*map(rows.resolving_row, snapshot.resolving), *map(rows.elsewhere_row, snapshot.elsewhere)]
    found |= {row.id: _SentRow((None, None), row) for row in others}
    return _Sent(seq, snapshot.version, _outline(snapshot), rows.header(snapshot), rows.views(snapshot), found)


def _items(snapshot: QueueSnapshot) -> Iterator[QueuedDownload]:
    """Every download; of two with one id, what it is now comes before what became of it earlier."""
    yield from snapshot.items
    yield from snapshot.recent_failures
    yield from snapshot.recent_completed
    yield from snapshot.recent_cancelled


def _outline(snapshot: QueueSnapshot) -> tuple[object, ...]:
    """All of a snapshot but its counters."""
    return (
        tuple((item.id, item.status, item.position, item.commit_sha) for item in _items(snapshot)),
        tuple((item.owner, item.id, item.status, item.is_left) for item in snapshot.elsewhere),
        snapshot.resolving,
        snapshot.notices,
        snapshot.last_run,
        snapshot.max_size,
        snapshot.max_concurrent,
        snapshot.max_connections,
        snapshot.bandwidth_limit_bytes_per_second,
        snapshot.download_hours,
        snapshot.is_outside_hours,
    )


def _news(before: _Sent, after: _Sent) -> Iterator[News]:
    for id_, one in after.rows.items():
        item, old = one.source[0], before.rows.get(id_)
        if item is None or (old is not None and old.row.status == one.row.status):
            continue
        if text := rows.news(None if old is None else old.source[0], item):
            is_long = item.took_s is not None and item.took_s >= _LONG_S
            is_end = old is not None and is_long and one.row.status in ("completed", "failed")
            yield News(text, is_end=is_end)
