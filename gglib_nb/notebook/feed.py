"""Converts snapshots of the queue to messages: the whole state once, then each changed row in full.

Pure: no widget, no thread, no clock. Relies on `QueueSnapshot` reusing the objects of unchanged items, so that the cost of an
update depends on the number of changed items only.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.notebook import rows
from gglib_nb.notebook.listings import FILTERS
from gglib_nb.notebook.messages import Changes, Header, News, PanelState, Row, View

_LONG_S: Final = 60
"""Shorter downloads end without a notification: the user still remembers them."""


class _SentRow(NamedTuple):
    source: tuple[Any, object]
    row: Row


class _Sent(NamedTuple):
    seq: int
    version: int
    outline: tuple[object, ...]
    header: Header
    views: tuple[View, ...]
    rows: dict[str, _SentRow]


class Feed:
    """The last state sent to the page. `advance` must not be called concurrently; `state` may be read by any thread."""

    def __init__(self, snapshot: QueueSnapshot) -> None:
        self._sent = _sent(0, snapshot, {})

    @property
    def state(self) -> PanelState:
        """Everything as of the last changes: the next ones apply to it."""
        sent = self._sent
        found = {id_: one.row for id_, one in sent.rows.items()}
        return PanelState(sent.seq, sent.header, sent.views, found, rows.PANEL_TEXTS, FILTERS)

    @property
    def seq(self) -> int:
        """Number of the last changes."""
        return self._sent.seq

    def advance(self, snapshot: QueueSnapshot, *, counts: bool = True) -> Changes | None:
        """Advances to a snapshot and returns the changes to send; None if there are none.

        Args:
            snapshot: Ignored if it is not newer than the previous one.
            counts: False sends nothing if only counters have changed, such as bytes and rates; the next changes include them.
        """
        before = self._sent
        if snapshot.version <= before.version or (not counts and before.outline == _outline(snapshot)):
            return None
        after = _sent(before.seq + 1, snapshot, before.rows)
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
        self._sent = after
        return Changes(seq=after.seq, header=header, views=views, rows=changed, news=tuple(_news(before, after)))


def _sent(seq: int, snapshot: QueueSnapshot, known: dict[str, _SentRow]) -> _Sent:
    context = (snapshot.pending_count, snapshot.active_count)
    found = {}
    for id_, item in rows.downloads(snapshot).items():
        # The actions of a waiting row depend on the others.
        source = (item, context if item.status.is_pending else None)
        old = known.get(id_)
        is_same = old is not None and old.source[0] is item and old.source[1] == source[1]
        found[id_] = old if old is not None and is_same else _SentRow(source, rows.download_row(item, *context))
    found |= {id_: _SentRow((None, None), row) for id_, row in rows.other_rows(snapshot).items()}
    return _Sent(seq, snapshot.version, _outline(snapshot), rows.header(snapshot), rows.views(snapshot), found)


def _outline(snapshot: QueueSnapshot) -> tuple[object, ...]:
    """All of a snapshot but its counters."""
    items = rows.downloads(snapshot).values()
    return (
        tuple((item.id, item.status, item.position, item.commit_sha) for item in items),
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
