"""The blocks of an answer - lines, tables, long texts - each as plain text and as static HTML.

Pure. Untrusted text is made printable, and escaped in HTML, only in this module.
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
"""The style of less important text: without a colour, which could be unreadable on a host's background."""
# Each is mixed with the surrounding text colour, so that it is readable on light and dark backgrounds.
GOOD: Final = "color-mix(in srgb,#2e7d32 45%,currentcolor)"
SLOW: Final = "color-mix(in srgb,#1976d2 42%,currentcolor)"
WARN: Final = "color-mix(in srgb,#ef6c00 48%,currentcolor)"
BAD: Final = "color-mix(in srgb,#c62828 34%,currentcolor)"
_PRE: Final = "max-height:24em;overflow:auto;margin:.3em 0;padding:.5em;border:1px solid rgba(128,128,128,.4);white-space:pre-wrap"
_DIFF: Final = {"+": "background:rgba(67,160,71,.22)", "-": "background:rgba(229,57,53,.22)"}
_WIDE: Final = 150  # columns of characters
_MOST_LINES: Final = 1_000
_LONGEST_LINE: Final = 2_000
# The script turns the column heads into buttons: without scripts (GitHub, untrusted notebooks) nothing looks clickable.
_SORT_SCRIPT: Final = """<script>
(() => {
  const table = document.currentScript?.previousElementSibling;
  if (!table) return;
  const rank = (row, at) => {
    const { rank } = row.cells[at].dataset;
    return rank === undefined ? row.cells[at].textContent : Number(rank);
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = button.dataset.title = head.textContent;
    button.style.cssText = "all:unset;cursor:pointer;outline:revert";
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) {
        other.removeAttribute("aria-sort");
        other.lastChild.textContent = other.lastChild.dataset.title;
      }
      head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      button.textContent += turn === 1 ? " ▲" : " ▼";
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => turn * compare(rank(a, at), rank(b, at)));
      table.tBodies[0].append(...rows);
    });
    head.replaceChildren(button);
  });
})();
</script>"""
COLORS: Final = {"plain": "", "good": GOOD, "warn": WARN, "bad": BAD}
"""The colour of each mood."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    is_number: bool = False  # aligned to the right
    is_code: bool = False  # monospaced in HTML, because users type it
    is_quiet: bool = False  # less visible in HTML
    importance: int = 1  # columns above 1 are folded, highest first: their cells move to a line below the row
    is_spare: bool = False  # only in HTML and in wide text


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell."""

    text: str
    color: str = ""  # CSS colour of the text and the bar; empty is the page's own
    bar: float | None = None  # length of a bar behind the text in HTML, 0 to 1
    rank: float | None = None  # what a page sorts by; None sorts last


_Item = TypeVar("_Item")
Columns = Sequence[tuple[Column, Callable[[_Item], str | Cell]]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row; a marked row is highlighted."""

    cells: tuple[Cell, ...]
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the line below it. Columns that are empty in every row are left out."""

    columns: Sequence[Column]
    rows: Sequence[Row]  # as many cells as columns in each
    hint: str = ""
    folds: bool = False  # HTML has no known width: fold every column above importance 1
    sorts: bool = False  # HTML only: a click on a head sorts, if scripts are allowed

    def text(self, width: int | None = None) -> str:
        """Lines of text.

        Args:
            width: The width in columns that folding aims at; None: unlimited.
        """
        filled = [at for at in self._filled() if (width or 0) >= _WIDE or not self.columns[at].is_spare]
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
        """HTML with inline styles, because saved notebooks have no style sheet."""
        filled = self._filled()
        kept = [at for at in filled if self.columns[at].importance == 1] if self.folds else filled
        folded = [at for at in filled if at not in kept]
        heads = "".join(_html_head(self.columns[at]) for at in kept)
        body = "".join(self._html_row(row, kept, folded) for row in self.rows)
        table = f'<table style="{TABLE}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        return table + (_SORT_SCRIPT if self.sorts else "") + (quiet(self.hint) if self.hint else "")

    def _filled(self) -> list[int]:
        return [at for at in range(len(self.columns)) if any(row.cells[at].text for row in self.rows)]

    def _fitting(self, filled: list[int], width: int) -> list[int]:
        """The columns that fit; the least important are removed first."""
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

    def _html_row(self, row: Row, kept: Sequence[int], folded: Sequence[int]) -> str:
        name = next((at for at in kept if self.columns[at].is_code), -1)
        words = self._folded_words(row, folded)
        cells = (
            _html_cell(row.cells[at], self.columns[at], row, below=quiet(words) if words and at == name else "")
            for at in kept
        )
        return f'<tr style="{_MARKED if row.is_marked else _PLAIN_ROW}">{"".join(cells)}</tr>'


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with the style of its HTML; empty text is omitted."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """A long text or a table below a title; HTML opens it by a click."""

    title: str
    inside: str | Table
    text_lines: int = _MOST_LINES  # of a long text, outside of HTML


@dataclass(frozen=True, slots=True)
class Diff:
    """A unified diff; its lines have a background in HTML."""

    text: str


Block = Line | Table | Fold | Diff


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
        case Diff():
            return _printable_lines(block.text)


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
        case Diff():
            lines = (
                f'<div style="{_DIFF.get(line[:1], "")}">{escape(line) or " "}</div>'
                for line in _printable_lines(block.text).split("\n")
            )
            return f'<pre style="{_PRE}">{"".join(lines)}</pre>'


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
        columns: The other columns, each with a function from an item to its cell.
        items: The items in the order of the rows.
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


def _html_cell(cell: Cell, column: Column, row: Row, below: str) -> str:
    text = escape(printable(cell.text))
    inside = f"<code>{text}</code>" if column.is_code and text else text
    style = _NUMBER if column.is_number else _WORD
    dim = f";{QUIET}" if column.is_quiet and not row.is_marked and not cell.color else ""
    color = f";color:{cell.color}" if cell.color else ""
    paint = color if cell.bar is None else _bar(cell.bar, cell.color)
    rank = "" if cell.rank is None else f' data-rank="{cell.rank!r}"'
    return f'<td style="{style}{dim}{paint}"{rank}>{inside}{below}</td>'


def _bar(length: float, color: str) -> str:
    """A tint behind the text, which keeps the page's own colour; a browser that cannot mix colours shows none."""
    tint, share = f"color-mix(in srgb,{color} 22%,transparent)", max(0.0, min(1.0, length))
    size = f"calc((100% - {_GAP}) * {share:.2f}) calc(100% - 3px)"
    return f";padding-left:2.5em;background:linear-gradient({tint},{tint}) left/{size} no-repeat"
