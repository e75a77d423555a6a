"""The blocks of an answer - lines, tables, long texts - each as plain text and as static HTML.

Pure. Text may come from anywhere: it is made printable, and escaped in HTML, here and nowhere else.
"""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeVar

from gglib_nb.domain.printable import printable
from gglib_nb.notebook import formats

_GAP: Final = ".9em"
_PADDING: Final = f"padding:.25em {_GAP} .25em 0"
_CELL: Final = f"{_PADDING};border:0;vertical-align:top"
_NUMBER: Final = f"{_CELL};text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
_WORD: Final = f"{_CELL};text-align:left"
_HEAD: Final = f"{_PADDING};border:0;border-bottom:1px solid rgba(128,128,128,.5);font-weight:600;white-space:nowrap"
_MARKED: Final = "background:rgba(67,160,71,.2);font-weight:600"
_PLAIN_ROW: Final = "background:none"
TABLE: Final = "border-collapse:collapse;border:0;margin:.4em 0;color:inherit"
STRONG: Final = "font-weight:600"
QUIET: Final = "opacity:.75"
"""Style of what is less important: no colour of its own, which could be unreadable on a host's background."""
# Each mixed with the colour of the text around it, so that it can be read on light and dark backgrounds alike.
GOOD: Final = "color-mix(in srgb,#2e7d32 45%,currentcolor)"
SLOW: Final = "color-mix(in srgb,#1976d2 42%,currentcolor)"
WARN: Final = "color-mix(in srgb,#ef6c00 48%,currentcolor)"
BAD: Final = "color-mix(in srgb,#c62828 34%,currentcolor)"
_PRE: Final = "max-height:24em;overflow:auto;margin:.3em 0;padding:.5em;border:1px solid rgba(128,128,128,.4);white-space:pre-wrap"
_MOST_LINES: Final = 1_000
_LONGEST_LINE: Final = 2_000
COLORS: Final = {"plain": "", "good": GOOD, "warn": WARN, "bad": BAD}
"""The colour of each mood."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    is_number: bool = False  # aligned to the right
    is_code: bool = False  # in a fixed pitch in HTML, since users type it
    is_quiet: bool = False  # less visible in HTML
    importance: int = (
        1  # where text is narrow, a column above 1 is folded, the highest first, into a line below each row
    )


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell."""

    text: str
    color: str = ""  # CSS colour of the text and the bar; empty is the page's own
    bar: float | None = None  # length of a bar behind the text in HTML, 0 to 1


_Item = TypeVar("_Item")
Columns = Sequence[tuple[Column, Callable[[_Item], str | Cell]]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row; a marked one stands out."""

    cells: tuple[Cell, ...]
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the line below it. Columns that are empty in every row are left out."""

    columns: Sequence[Column]
    rows: Sequence[Row]  # as many cells as columns in each
    hint: str = ""

    def text(self, width: int | None = None) -> str:
        """Lines of text.

        Args:
            width: Columns of characters to keep to where folding allows it; None: any.
        """
        filled = self._filled()
        kept = filled if width is None else self._fitting(filled, width)
        folded = [] if width is None else [at for at in filled if at not in kept]
        cells = [[self.columns[at].title for at in kept]]
        cells += [[printable(row.cells[at].text) for at in kept] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for number, texts in enumerate(cells):
            aligned = (
                text.rjust(size) if self.columns[at].is_number else text.ljust(size)
                for text, size, at in zip(texts, widths, kept, strict=True)
            )
            row = self.rows[number - 1] if number else None
            lines.append(f"{'*' if row and row.is_marked else ' '} {'  '.join(aligned)}".rstrip())
            if row and folded and width is not None:
                words = self._folded_words(row, folded)
                below = textwrap.wrap(words, max(20, width - 4), break_long_words=False, break_on_hyphens=False)
                lines += [f"    {line}" for line in below]
        return "\n".join([*lines, *([printable(self.hint)] if self.hint else [])])

    def html(self) -> str:
        """HTML with inline styles, since saved notebooks carry no style sheet."""
        filled = self._filled()
        heads = "".join(_html_head(self.columns[at]) for at in filled)
        body = "".join(_html_row(row, [(row.cells[at], self.columns[at]) for at in filled]) for row in self.rows)
        table = f'<table style="{TABLE}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        return table + (quiet(self.hint) if self.hint else "")

    def _filled(self) -> list[int]:
        return [at for at in range(len(self.columns)) if any(row.cells[at].text for row in self.rows)]

    def _fitting(self, filled: list[int], width: int) -> list[int]:
        """The columns that fit, without the least important ones."""
        widths = {
            at: max(len(self.columns[at].title), *(len(printable(row.cells[at].text)) for row in self.rows))
            for at in filled
        }
        kept = list(filled)
        while sum(widths[at] + 2 for at in kept) > width:
            least = max(kept, key=lambda at: (self.columns[at].importance, at))
            if self.columns[least].importance == 1:
                break
            kept.remove(least)
        return kept

    def _folded_words(self, row: Row, folded: Sequence[int]) -> str:
        words = [(self.columns[at].title, printable(row.cells[at].text)) for at in folded]
        return " · ".join(f"{title} {text}" for title, text in words if text and text != formats.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with the style of its HTML; empty text is left out."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """A long text or a table below a title; HTML opens it by a click."""

    title: str
    inside: str | Table
    text_lines: int = _MOST_LINES  # of a long text, outside of HTML


Block = Line | Table | Fold


def blocks_text(blocks: Iterable[Block], width: int | None = None) -> str:
    """The blocks as lines of text, in this many columns of characters if possible."""
    return "\n".join(text for block in blocks if (text := _block_text(block, width)))


def blocks_html(blocks: Iterable[Block]) -> str:
    """The blocks as static HTML."""
    return f'<div style="line-height:1.4">{"".join(map(_block_html, blocks))}</div>'


def _block_text(block: Block, width: int | None) -> str:
    match block:
        case Line():
            return _printable_lines(block.text)
        case Table():
            return block.text(width)
        case Fold():
            inside = block.inside
            text = inside.text(width) if isinstance(inside, Table) else _printable_lines(inside, block.text_lines)
            return f"\n{printable(block.title)}\n{text}"


def _block_html(block: Block) -> str:
    match block:
        case Line():
            return f'<div style="{block.style}">{escape(_printable_lines(block.text))}</div>' if block.text else ""
        case Table():
            return f'<div style="overflow-x:auto">{block.html()}</div>'
        case Fold():
            inside = block.inside
            html = (
                inside.html()
                if isinstance(inside, Table)
                else f'<pre style="{_PRE}">{escape(_printable_lines(inside))}</pre>'
            )
            return details(block.title, html)


def _printable_lines(text: str, most_lines: int = _MOST_LINES) -> str:
    lines = [printable(_cut(line)) for line in text.splitlines()]
    more = [f"… {len(lines) - most_lines:,} more lines"] if len(lines) > most_lines else []
    return "\n".join([*lines[:most_lines], *more])


def _cut(line: str) -> str:
    left = len(line) - _LONGEST_LINE
    return f"{line[:_LONGEST_LINE]} … {left:,} more characters" if left > 0 else line


def row(*cells: str | Cell) -> Row:
    """A row of texts and cells."""
    return Row(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells))


def numbered(number: str, columns: "Columns[_Item]", items: Iterable[_Item]) -> tuple[list[Column], list[Row]]:
    """Columns and rows of items whose row numbers users type.

    Args:
        number: The title of the first column.
        columns: The others, each with its cell for an item.
        items: In the order of the rows.
    """
    found = [row(str(at), *(cell(item) for _, cell in columns)) for at, item in enumerate(items, 1)]
    return [Column(number, is_number=True), *(column for column, _ in columns)], found


def quiet(text: str) -> str:
    """A less visible line of HTML."""
    return f'<div style="{QUIET}">{escape(printable(text))}</div>'


def details(title: str, inside: str) -> str:
    """HTML that a click opens."""
    return f'<details><summary style="cursor:pointer">{escape(printable(title))}</summary>{inside}</details>'


def _html_head(column: Column) -> str:
    return f'<th style="{_HEAD};text-align:{"right" if column.is_number else "left"}">{escape(column.title)}</th>'


def _html_row(row: Row, cells: Iterable[tuple[Cell, Column]]) -> str:
    inside = "".join(_html_cell(cell, column, is_marked=row.is_marked) for cell, column in cells)
    return f'<tr style="{_MARKED if row.is_marked else _PLAIN_ROW}">{inside}</tr>'


def _html_cell(cell: Cell, column: Column, *, is_marked: bool) -> str:
    text = escape(printable(cell.text))
    inside = f"<code>{text}</code>" if column.is_code and text else text
    style = _NUMBER if column.is_number else _WORD
    dim = f";{QUIET}" if column.is_quiet and not is_marked and not cell.color else ""
    color = f";color:{cell.color}" if cell.color else ""
    paint = color if cell.bar is None else _bar(cell.bar, cell.color)
    return f'<td style="{style}{dim}{paint}">{inside}</td>'


def _bar(length: float, color: str) -> str:
    """A tint behind the text, which keeps the page's own colour; a browser that cannot mix colours shows none."""
    tint, share = f"color-mix(in srgb,{color} 22%,transparent)", max(0.0, min(1.0, length))
    size = f"calc((100% - {_GAP}) * {share:.2f}) calc(100% - 3px)"
    return f";padding-left:2.5em;background:linear-gradient({tint},{tint}) left/{size} no-repeat"
