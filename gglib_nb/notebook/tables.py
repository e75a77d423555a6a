"""Tables as aligned text and as static HTML, and the plain ones: search results, partial downloads.

Pure. Cells are text from anywhere: it is made printable, and escaped in HTML, here and nowhere else. The table of a plan
stands in `plan_table`, that of models in `model_table`.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from typing import Final

from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.printable import printable
from gglib_nb.engine.local import Leftover
from gglib_nb.notebook import formats

_GAP: Final = ".9em"
_PADDING: Final = f"padding:.25em {_GAP} .25em 0"
_CELL: Final = f"{_PADDING};border:0;vertical-align:top"
_NUMBER: Final = f"{_CELL};text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
_WORD: Final = f"{_CELL};text-align:left"
_HEAD: Final = f"{_PADDING};border:0;border-bottom:1px solid rgba(128,128,128,.5);font-weight:600;white-space:nowrap"
_MARKED: Final = "background:rgba(67,160,71,.2);font-weight:600"
_PLAIN_ROW: Final = "background:none"
QUIET: Final = "opacity:.75"
"""Style of what is less important: no colour of its own, which could be unreadable on a host's background."""
# Each mixed with the colour of the text around it, so that it can be read on light and dark backgrounds alike.
GOOD: Final = "color-mix(in srgb,#2e7d32 45%,currentcolor)"
SLOW: Final = "color-mix(in srgb,#1976d2 42%,currentcolor)"
WARN: Final = "color-mix(in srgb,#ef6c00 48%,currentcolor)"
BAD: Final = "color-mix(in srgb,#c62828 34%,currentcolor)"
MOODS: Final = {"good": GOOD, "warn": WARN, "bad": BAD}
"""Colour of each mood that has one."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: Its head.
        is_number: Set to the right.
        is_code: Set in a fixed pitch where there is HTML, since it is to be typed.
        is_quiet: Set back where there is HTML: for those who look closer.
        importance: What is less important than 1 is folded: where the width does not do, its cells go to a line of
            their own below the row, the least important first. 1 is never folded.
    """

    title: str
    is_number: bool = False
    is_code: bool = False
    is_quiet: bool = False
    importance: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell that is more than its text.

    Attributes:
        text: What is shown.
        rank: What it is sorted by where a page can sort; None sorts last.
        color: CSS colour of the text, and of the bar; empty for the page's own.
        bar: Length of a bar behind the text where there is HTML, 0 to 1; None without one.
    """

    text: str
    rank: float | None = None
    color: str = ""
    bar: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row; a marked one stands out. `below` is a quiet line under its name, where there is HTML."""

    cells: tuple[Cell, ...]
    is_marked: bool = False
    below: str = ""


def text_table(columns: Sequence[Column], rows: Sequence[Row], width: int | None = None) -> str:
    """The table as lines of text; columns that are empty in every row are left out.

    Args:
        columns: From the left.
        rows: As many cells as there are columns in each.
        width: Columns of characters to keep to where folding can do it; None: any.
    """
    filled = _filled(columns, rows)
    kept = _fitting(columns, rows, filled, width)
    folded = [at for at in filled if at not in kept]
    lines = [[columns[at].title for at in kept], *[[printable(row.cells[at].text) for at in kept] for row in rows]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    marks = [" ", *("*" if row.is_marked else " " for row in rows)]
    below = ["", *(_folded_text(columns, row, folded, width) for row in rows)]
    return "\n".join(
        f"{mark} {_aligned(line, widths, [columns[at].is_number for at in kept])}".rstrip() + more
        for mark, line, more in zip(marks, lines, below, strict=True)
    )


def html_table(columns: Sequence[Column], rows: Sequence[Row], *, folds: bool = False) -> str:
    """The table as HTML with its styles inline.

    Args:
        columns: From the left.
        rows: As many cells as there are columns in each.
        folds: Put what is less important on a quiet line below the row's first cell of code: a page cannot be asked
            how wide it is, and saved notebooks carry no style sheet.
    """
    kept = _filled(columns, rows)
    if folds:
        folded = [at for at in kept if columns[at].importance > 1]
        kept = [at for at in kept if at not in folded]
        rows = [replace(row, below=_folded_words(columns, row, folded)) for row in rows]
    heads = "".join(_html_head(columns[at]) for at in kept)
    body = "".join(_html_row(row, columns, kept) for row in rows)
    style = "border-collapse:collapse;border:0;margin:.4em 0;color:inherit"
    return f'<table style="{style}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _filled(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [at for at in range(len(columns)) if any(row.cells[at].text for row in rows)]


def _fitting(columns: Sequence[Column], rows: Sequence[Row], filled: list[int], width: int | None) -> list[int]:
    """The columns that stay: as many as fit, the less important ones left out first."""
    if width is None:
        return filled
    widths = {
        at: max(len(columns[at].title), *(len(printable(row.cells[at].text)) for row in rows)) if rows else 0
        for at in filled
    }
    kept = list(filled)
    while sum(widths[at] + 2 for at in kept) > width:
        least = max(kept, key=lambda at: (columns[at].importance, at))
        if columns[least].importance == 1:
            break
        kept.remove(least)
    return kept


def _folded_words(columns: Sequence[Column], row: Row, folded: Sequence[int]) -> str:
    told = [(columns[at].title, printable(row.cells[at].text)) for at in folded]
    return " · ".join(f"{title} {text}" for title, text in told if text and text != formats.UNKNOWN)


def _folded_text(columns: Sequence[Column], row: Row, folded: Sequence[int], width: int | None) -> str:
    words = _folded_words(columns, row, folded)
    if not words or width is None:
        return ""
    lines = textwrap.wrap(words, max(20, width - 4), break_long_words=False, break_on_hyphens=False)
    return "".join(f"\n    {line}" for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    parts = zip(line, widths, numbers, strict=True)
    return "  ".join(text.rjust(width) if is_number else text.ljust(width) for text, width, is_number in parts)


def _html_head(column: Column) -> str:
    return f'<th style="{_HEAD};text-align:{"right" if column.is_number else "left"}">{escape(column.title)}</th>'


def _html_row(row: Row, columns: Sequence[Column], kept: Sequence[int]) -> str:
    name = next((at for at in kept if columns[at].is_code), -1)
    cells = "".join(
        _html_cell(row.cells[at], columns[at], is_marked=row.is_marked, below=row.below if at == name else "")
        for at in kept
    )
    return f'<tr style="{_MARKED if row.is_marked else _PLAIN_ROW}">{cells}</tr>'


def _html_cell(cell: Cell, column: Column, *, is_marked: bool, below: str) -> str:
    text = escape(printable(cell.text))
    inside = f"<code>{text}</code>" if column.is_code and text else text
    inside += hint(below) if below else ""
    style = _NUMBER if column.is_number else _WORD
    rank = "" if cell.rank is None else f' data-rank="{cell.rank!r}"'
    quiet = f";{QUIET}" if column.is_quiet and not is_marked and not cell.color else ""
    paint = _bar(cell.bar, cell.color) if cell.bar is not None else _ink(cell.color)
    return f'<td style="{style}{quiet}{paint}"{rank}>{inside}</td>'


def _ink(color: str) -> str:
    return f";color:{color}" if color else ""


def _bar(length: float, color: str) -> str:
    """A tint behind the text, which keeps the page's own colour; a browser that cannot mix colours shows none."""
    tint, share = f"color-mix(in srgb,{color} 22%,transparent)", max(0.0, min(1.0, length))
    size = f"calc((100% - {_GAP}) * {share:.2f}) calc(100% - 3px)"
    return f";padding-left:2.5em;background:linear-gradient({tint},{tint}) left/{size} no-repeat"


def row(*texts: str) -> Row:
    """A row of plain texts."""
    return Row(tuple(Cell(text) for text in texts))


_SEARCH_COLUMNS: Final = (
    Column("Row", is_number=True),
    Column("Repository", is_code=True),
    Column("Parameters", is_number=True, importance=4),
    Column("Size", is_number=True, importance=3),
    Column("Fits", importance=2),
    Column("Downloads", is_number=True, importance=6),
    Column("Likes", is_number=True, importance=7),
    Column("Changed", importance=5),
    Column("Note"),
)
_IN_MEMORY: Final = {"fits": "yes", "tight": "tightly", "too large": "no"}
_SEARCH_HINT: Final = "~: estimated for Q4_K_M. See the variants: %gguf plan ROW. Download: %gguf queue ROW"


def search_text(found: Sequence[RepoSummary], width: int | None = None) -> str:
    """Repositories that a search found, numbered."""
    return f"{text_table(_SEARCH_COLUMNS, _search_rows(found), width)}\n{_SEARCH_HINT}"


def search_html(found: Sequence[RepoSummary]) -> str:
    """The same as HTML."""
    return html_table(_SEARCH_COLUMNS, _search_rows(found)) + hint(_SEARCH_HINT)


def _search_rows(found: Sequence[RepoSummary]) -> list[Row]:
    return [
        row(
            str(number),
            repo.repo_id,
            formats.count(repo.parameter_count),
            "" if repo.likely_size_bytes is None else f"~{formats.size(repo.likely_size_bytes)}",
            _IN_MEMORY.get(repo.fit, ""),
            formats.count(repo.downloads),
            formats.count(repo.likes),
            (repo.modified_at or formats.UNKNOWN)[:10],
            ", ".join(word for word, holds in (("already downloaded", repo.is_here), ("gated", repo.gate)) if holds),
        )
        for number, repo in enumerate(found, 1)
    ]


_PARTIAL_COLUMNS: Final = (
    Column("Here", is_number=True),
    Column("Of", is_number=True, importance=2),
    Column("On disk", is_number=True, importance=4),
    Column("Last byte", importance=3),
    Column("In use"),
    Column("File", is_code=True),
)
_PARTIAL_HINT: Final = "Finish them: %gguf partials --queue. Delete one: %gguf partials --discard #ROW"


def partials_text(found: Sequence[Leftover], width: int | None = None) -> str:
    """Partial downloads that lie about."""
    return f"{text_table(_PARTIAL_COLUMNS, _partial_rows(found), width)}\n{_PARTIAL_HINT}"


def partials_html(found: Sequence[Leftover]) -> str:
    """The same as HTML."""
    return html_table(_PARTIAL_COLUMNS, _partial_rows(found)) + hint(_PARTIAL_HINT)


def _partial_rows(found: Sequence[Leftover]) -> list[Row]:
    return [
        row(
            formats.size(one.downloaded_bytes),
            formats.size(one.size_bytes),
            formats.size(one.disk_bytes),
            datetime.fromtimestamp(one.modified_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
            "yes" if one.is_in_use else "",
            one.target,
        )
        for one in found
    ]


def hint(text: str) -> str:
    """A quiet line of HTML."""
    return f'<div style="{QUIET}">{escape(text)}</div>'
