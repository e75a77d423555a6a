"""The queue as plain text and static HTML, rendered from the structs of `rows`.

Text is for terminals, logs and the `text/plain` of every output; HTML for nbconvert, GitHub, nbviewer and saved
notebooks. Both are deterministic, and add only the commands that replace buttons. No line of text is wider than
requested, except paths and commands, which users copy. HTML has no script and no image; GitHub and untrusted notebooks
remove its inline styles.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot
from gglib_nb.domain.text import printable
from gglib_nb.notebook import rows
from gglib_nb.notebook.messages import Bar, Notice, Row, View
from gglib_nb.notebook.tables import COLORS, QUIET, html_table, page, quiet, wrap

_NARROWEST: Final = 40
_WIDTH: Final = 88
_EMPTY: Final = "The queue is empty. Download a model: %gguf queue owner/repo"
_MOST_ROWS: Final = 40
_MOST_ENDED: Final = 5
_MOST_FILES: Final = 8
_MOVING: Final = ("downloading", "verifying")

_FILL: Final = "#1976d2"
_EMPTY_BAR: Final = "rgba(128,128,128,.28)"
_CELL: Final = "text-align:left;vertical-align:top;padding:.3em .9em .3em 0;border:0"
_FIXED: Final = f"{_CELL};white-space:nowrap;font-variant-numeric:tabular-nums"


# Both ------------------------------------------------------------------------------------------------------------


def _sections(snapshot: QueueSnapshot) -> Iterator[tuple[View, list[tuple[int, Row]], str]]:
    """The lists of the queue: the first rows, each row's number if a command accepts it, and how many are omitted."""
    found = rows.rows_of(snapshot)
    for view in rows.views(snapshot):
        most = _MOST_ENDED if view.id in ("failed", "completed", "cancelled") else _MOST_ROWS
        shown = [found[id_] for id_ in view.rows[:most]]
        numbered = [(row.position or (at if view.id == "failed" else 0), row) for at, row in enumerate(shown, 1)]
        yield view, numbered, f"… and {len(view.rows) - most} more" if len(view.rows) > most else ""


def _overview(snapshot: QueueSnapshot) -> str:
    """The queue in one line; a hint on how to start if it is empty."""
    if not (snapshot.items or snapshot.resolving or snapshot.recent_failures or snapshot.recent_completed):
        return _EMPTY
    head = rows.header(snapshot)
    return " · ".join(filter(None, (head.counts, head.rate, *(fact.text for fact in head.pace))))


def _notice(notice: Notice) -> str:
    return notice.text if notice.action is None else f"{notice.text} Resume: %gguf partials --queue"


def facts(row: Row) -> str:
    """The facts of a row in one line."""
    return " · ".join(fact.text for fact in row.lines)


def _command(row: Row) -> str:
    """The command that replaces a row's button; empty if it has no such button."""
    can_retry = any(action.id == "retry" for action in row.actions)
    return printable(f"Retry: %gguf retry {shlex.quote(row.id)}") if can_retry else ""


def _name(row: Row, view: str) -> str:
    is_named = view == "elsewhere" or row.status == "resolving"
    return f"{row.title} {row.tag}".rstrip() if is_named else printable(row.id)


def _shown_files(row: Row) -> list[tuple[str, Bar]]:
    """Title and bar of the files to show: all if there are few, otherwise the active ones."""
    if len(row.bars) < 2:
        return []
    count = sum(not bar.tag for bar in row.bars)
    titled = [(bar.tag or f"{number}/{count}", bar) for number, bar in enumerate(row.bars, 1)]
    return [one for one in titled if len(row.bars) <= _MOST_FILES or one[1].status in _MOVING]


# Text ------------------------------------------------------------------------------------------------------------


def render_text(snapshot: QueueSnapshot, width: int | None = None, caption: str = "") -> str:
    """The whole queue as text, at most this many columns wide (88 by default, at least 40), with a caption below it."""
    width = max(_NARROWEST, width or _WIDTH)
    head = rows.header(snapshot)
    lines = [line for notice in head.notices for line in wrap(_notice(notice), width)]
    lines.append(clip(_overview(snapshot), width))
    for view, listed, more in _sections(snapshot):
        lines += [view.title] if view.title else []
        for number, row in listed:
            lines += _lines(row, view.id, number, width)
        lines += [f"  {more}"] if more else []
    return "\n".join([*lines, *wrap(head.summary, width), *wrap(caption, width)])


def ending(item: QueuedDownload) -> str:
    """How a download ended, in one line."""
    row = rows.download_row(item, 0, 0)
    match item.status:
        case DownloadStatus.COMPLETED:
            found = ", ".join(fact.text for fact in row.lines)
            return printable(f"{row.id} finished: {found}. {row.path}").rstrip(". ")
        case DownloadStatus.FAILED:
            return printable(f"{row.id} failed: {row.note} {_command(row)}").rstrip()
        case _:
            return printable(f"{row.id} was cancelled: {facts(row)}")


def _lines(row: Row, view: str, number: int, width: int) -> list[str]:
    """The name of a row with its words beside or below it; then its note, command, path and files."""
    is_active = view == "active"
    is_below = is_active or row.mood != "plain"
    name = f"  {f'#{number} ':>4}{_name(row, view)}" if number else f"  {_name(row, view)}"
    origin = row.origin if view == "elsewhere" else ""
    note = "" if is_below else row.note
    described = (note, facts(row)) if view == "pending" else (facts(row), note)  # the end of a waiting row is clipped
    words = "  ".join(filter(None, (row.measure, *described, origin)))
    if is_active:
        words = f"{_text_bar(row.part, width)} {row.measure:>5}  {facts(row)}"
    lines = [f"{name}  {words}".rstrip()]
    if view == "pending":
        lines = [clip(lines[0], width)]
    elif is_active or len(lines[0]) > width:
        lines = [clip(name, width), *wrap(f"{' ' * (2 if is_active else 4)}{words}", width, indent=4)]
    below = [*wrap(row.note if is_below else "", width - 4), _command(row), printable(row.path)]
    lines += [f"    {line}" for line in below if line]
    for title, bar in _shown_files(row) if is_active else ():
        lines.append(f"    {title:>6} {_text_bar(bar.part, width - 12)} {bar.percent:>5}  {bar.amount}  {bar.status}")
    return [clip(line, width) for line in lines] if is_active else lines


def _text_bar(part: float | None, width: int) -> str:
    cells = min(30, max(8, width - 62))
    full = int((part or 0.0) * cells)
    return "█" * full + "░" * (cells - full)


def clip(line: str, width: int) -> str:
    """A line that fits; a line that was cut ends in an ellipsis, so that a cut number is not read as another one."""
    return line if len(line) <= width else line[: width - 1] + "…"


# HTML ------------------------------------------------------------------------------------------------------------


def render_html(snapshot: QueueSnapshot, caption: str = "") -> str:
    """The whole queue as one `div` and a caption. Without details to open: an update would close them."""
    head, overview = rows.header(snapshot), _overview(snapshot)
    parts = [quiet(_notice(notice)) for notice in head.notices]
    parts.append(quiet(overview) if overview == _EMPTY else f"<strong>{escape(overview)}</strong>")
    for view, listed, more in _sections(snapshot):
        if view.title:
            parts.append(f'<div style="margin-top:.6em"><strong>{escape(view.title)}</strong></div>')
        parts += [_table(listed, view.id), *([quiet(more)] if more else [])]
    return page([*parts, *(quiet(line) for line in (head.summary, caption) if line)])


def static_bundle(snapshot: QueueSnapshot, caption: str) -> dict[str, str]:
    """The queue for readers without the widget: GitHub, nbviewer, nbconvert, a terminal."""
    return {"text/plain": render_text(snapshot, caption=caption), "text/html": render_html(snapshot, caption)}


def download_bundle(item: QueuedDownload, caption: str) -> dict[str, str]:
    """One download, with a caption."""
    row, view = rows.download_row(item, 1, 1), rows.view_of(item.status)
    if item.status is DownloadStatus.QUEUED and not item.notice:
        caption = f"It waits at position {item.position}. {caption}".rstrip()
    text = "\n".join(filter(None, [*_lines(row, view, 0, _WIDTH), caption]))
    return {"text/plain": text, "text/html": page([_table([(0, row)], view), quiet(caption) if caption else ""])}


def bar_html(part: float | None) -> str:
    """A decorative bar, hidden from screen readers: the percentage is beside it."""
    edge = f"{(part or 0.0) * 100:.1f}%"
    paint = f"linear-gradient(90deg,{_FILL} {edge},{_EMPTY_BAR} {edge})"
    shape = "display:inline-block;width:9em;height:.6em;border-radius:.3em;vertical-align:middle"
    return f'<span aria-hidden="true" style="{shape};background:{paint}"></span>'


def _table(listed: Iterable[tuple[int, Row]], view: str) -> str:
    """The rows of a list, with the files of each active download below it; only the first cell of a line may wrap."""
    lines = list[Sequence[str]]()
    for number, row in listed:
        lines.append(_cells(row, view, number))
        for title, bar in _shown_files(row) if view == "active" else ():
            name = f'<span style="{QUIET};padding-left:1.5em">{escape(title)}</span>'
            lines.append((name, f"{bar_html(bar.part)} {bar.percent}", escape(bar.amount), bar.status))
    return html_table([(_CELL, first), *((_FIXED, cell) for cell in others)] for first, *others in lines)


def _cells(row: Row, view: str, number: int) -> Sequence[str]:
    """Name and notes; bar and percentage; facts."""
    parts = [f"{f'#{number} ' if number else ''}<code>{escape(_name(row, view))}</code>"]
    if row.note:
        style = QUIET if row.mood == "plain" else f"color:{COLORS[row.mood]}"
        parts.append(f'<div style="{style}">{escape(row.note)}</div>')
    if command := _command(row):
        label, _, typed = command.partition(": ")
        parts.append(f"<div>{label}: <code>{escape(typed)}</code></div>")
    if view == "elsewhere":
        parts.append(quiet(row.origin))
    if row.path:
        parts.append(f"<div><code>{escape(printable(row.path))}</code></div>")
    measure = escape(row.measure)
    meter = f"{bar_html(row.part)} {measure}" if row.progress and measure else measure
    return "".join(parts), meter, escape(facts(row))
