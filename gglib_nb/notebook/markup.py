"""The queue as static HTML, for nbconvert, GitHub, nbviewer and saved notebooks: rows, set in tables.

Deterministic. Everything from outside is escaped. Styles are inline and nothing depends on them: GitHub and untrusted
notebooks remove them, and then words and percents still say everything. Every colour is mixed with the text's own, so that it can
be read on any background. No script, no class, no image. What is said is decided in `rows`.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import rows, text
from gglib_nb.notebook.rows import Row, View
from gglib_nb.notebook.tables import MOODS, QUIET

_OF_FILE: Final = f"{QUIET};padding-left:1.5em"
_FILL: Final = "#1976d2"
_EMPTY: Final = "rgba(128,128,128,.28)"
_CELL: Final = "text-align:left;vertical-align:top;padding:.3em .9em .3em 0;border:0"
_FIXED: Final = f"{_CELL};white-space:nowrap;font-variant-numeric:tabular-nums"


def render_html(snapshot: QueueSnapshot, caption: str | None = None, *, is_redrawn: bool = False) -> str:
    """The whole queue as one `div`.

    Args:
        snapshot: What to show.
        caption: A line below it, such as the time of its data; None for none.
        is_redrawn: It is updated while somebody looks: what a user opened would close again, so nothing has to be opened.
    """
    parts = [_quiet(notice) for notice in text.notices(snapshot)]
    overview = text.overview(snapshot)
    parts.append(_quiet(overview) if overview == text.EMPTY else f"<strong>{escape(overview)}</strong>")
    for view, listed in text.sections(snapshot):
        parts += _section(view, listed, is_redrawn=is_redrawn)
    parts += [_quiet(line) for line in (rows.header(snapshot).summary, caption) if line]
    return f'<div style="line-height:1.4">{"".join(parts)}</div>'


def download_html(item: QueuedDownload, caption: str = "") -> str:
    """One download, live or ended, that is updated while somebody looks: a line for it, and one for each of its files."""
    row = rows.download_row(item, 1, 1)
    files = _file_rows(row) if item.status.is_active else []
    # In one table, so that all bars are aligned.
    lines = [_cells(row, ""), *((f'<span style="{_OF_FILE}">{title}</span>', *rest) for title, *rest in files)]
    return f'<div style="line-height:1.4">{_table(lines)}{_quiet(caption) if caption else ""}</div>'


def bar(part: float | None) -> str:
    """A bar that only decorates: the percent beside it says the same, also to a screen reader."""
    edge = f"{(part or 0.0) * 100:.1f}%"
    paint = f"linear-gradient(90deg,{_FILL} {edge},{_EMPTY} {edge})"
    shape = "display:inline-block;width:9em;height:.6em;border-radius:.3em;vertical-align:middle"
    return f'<span aria-hidden="true" style="{shape};background:{paint}"></span>'


def _section(view: View, listed: list[Row], *, is_redrawn: bool) -> Iterator[str]:
    if view.title:
        yield f'<div style="margin-top:.6em"><strong>{escape(view.title)}</strong></div>'
    most = text.most_rows(view)
    numbers = range(1, most + 1) if view.id == "failed" else [0] * most
    yield _table(
        _cells(row, _files(row, is_redrawn=is_redrawn), view.id, number)
        for number, row in zip(numbers, listed, strict=False)
    )
    if len(listed) > most:
        yield _quiet(f"… and {len(listed) - most} more")


def _cells(row: Row, files: str, view: str = "", number: int = 0) -> tuple[str, ...]:
    """Name, notes and files; bar and percent; facts."""
    is_named = view == "elsewhere" or row.status == "resolving"
    name = f"{row.title} {row.tag}".rstrip() if is_named else printable(row.id)
    position = row.position or number
    parts = [f"{f'#{position} ' if position else ''}<code>{escape(name)}</code>"]
    if row.note:
        parts.append(f'<div style="{_mood(row)}">{escape(row.note)}</div>')
    if command := text.command_of(row):
        label, _, typed = command.partition(": ")
        parts.append(f"<div>{label}: <code>{escape(typed)}</code></div>")
    if view == "elsewhere":
        parts.append(_quiet(row.origin))
    if row.path:
        parts.append(f"<div><code>{escape(row.path)}</code></div>")
    meter = f"{bar(row.part)} {escape(row.measure)}" if row.progress and row.measure else escape(row.measure)
    return "".join(parts) + files, meter, escape(text.facts(row))


def _files(row: Row, *, is_redrawn: bool) -> str:
    shown = _file_rows(row) if row.status == "downloading" else []
    if not shown or is_redrawn:
        return _table(shown) if shown else ""
    summary = f'<summary style="cursor:pointer">{len(row.bars)} files</summary>'
    return f"<details>{summary}{_table(shown)}</details>"


def _file_rows(row: Row) -> list[tuple[str, ...]]:
    return [
        (
            escape(text.file_title(row, at)),
            f"{bar(row.bars[at].part)} {row.bars[at].percent}",
            escape(row.bars[at].amount),
            row.bars[at].state,
        )
        for at in text.shown_files(row)
    ]


def _table(lines: Iterable[Sequence[str]]) -> str:
    style = "border-collapse:collapse;border:0;margin:.4em 0;color:inherit"
    return f'<table style="{style}">{"".join(map(_line, lines))}</table>'


def _line(cells: Sequence[str]) -> str:
    """The first cell may wrap, the others stay on one line each."""
    styles = [_CELL, *[_FIXED] * (len(cells) - 1)]
    inside = "".join(f'<td style="{style}">{cell}</td>' for style, cell in zip(styles, cells, strict=True))
    return f'<tr style="background:none">{inside}</tr>'


def _mood(row: Row) -> str:
    return QUIET if row.mood == "plain" else f"color:{MOODS[row.mood]}"


def _quiet(line: str) -> str:
    return f'<div style="{QUIET}">{escape(line)}</div>'
