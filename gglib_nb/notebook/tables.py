"""The blocks of an answer - lines, tables, long texts - each as plain text and as static HTML.

Pure. Untrusted text is made printable, and escaped in HTML, only in this module.
"""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from gglib_nb.domain import units
from gglib_nb.domain.text import printable

_GAP: Final = ".9em"
_PADDING: Final = f"padding:.25em {_GAP} .25em 0"
_CELL: Final = f"{_PADDING};border:0;vertical-align:top"
_NUMBER: Final = f"{_CELL};text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
_WORD: Final = f"{_CELL};text-align:left"
_HEAD: Final = f"{_PADDING};border:0;border-bottom:1px solid rgba(128,128,128,.5);font-weight:600;white-space:nowrap"
_MARKED: Final = "background:rgba(67,160,71,.2);font-weight:600"
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
class Cell:
    """One cell."""

    text: str
    color: str = ""  # CSS colour of the text and the bar; empty is the page's own
    bar: float | None = None  # length of a bar behind the text in HTML, 0 to 1
    rank: float | None = None  # what a page sorts by; None sorts last


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    cell: Callable[[Any], str | Cell] = str  # an item's cell, for `table`
    is_number: bool = False  # aligned to the right
    is_code: bool = False  # monospaced in HTML, because users type it
    is_quiet: bool = False  # less visible in HTML
    importance: int = 1  # columns above 1 are folded, highest first: their cells move to a line below the row
    is_spare: bool = False  # only in HTML and in wide text


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
        """Lines of text; columns are folded to fit the width, if one is given."""
        filled = [at for at in self._filled() if (width or 0) >= _WIDE or not self.columns[at].is_spare]
        sizes = {
            at: max(len(self.columns[at].title), *(len(printable(row.cells[at].text)) for row in self.rows))
            for at in filled
        }
        kept = self._fitting(sizes, width)
        folded = [at for at in filled if at not in kept]

        def line(mark: str, texts: Iterable[str]) -> str:
            aligned = (
                text.rjust(sizes[at]) if self.columns[at].is_number else text.ljust(sizes[at])
                for at, text in zip(kept, texts, strict=True)
            )
            return f"{mark} {'  '.join(aligned)}".rstrip()

        lines = [line(" ", (self.columns[at].title for at in kept))]
        for row in self.rows:
            lines.append(line("*" if row.is_marked else " ", (printable(row.cells[at].text) for at in kept)))
            words = self._folded_words(row, folded)
            below = textwrap.wrap(words, max(20, (width or 0) - 4), break_long_words=False, break_on_hyphens=False)
            lines += [f"    {words}" for words in below]
        return "\n".join([*lines, *([printable(self.hint)] if self.hint else [])])

    def html(self) -> str:
        """HTML with inline styles, because saved notebooks have no style sheet."""
        filled = self._filled()
        kept = [at for at in filled if self.columns[at].importance == 1 or not self.folds]
        folded = [at for at in filled if at not in kept]
        name = next((at for at in kept if self.columns[at].is_code), -1)
        heads = (
            f'<th style="{_HEAD};text-align:{"right" if column.is_number else "left"}">{escape(column.title)}</th>'
            for column in (self.columns[at] for at in kept)
        )
        body = []
        for row in self.rows:
            words = self._folded_words(row, folded)
            cells = (self._html_cell(row, at, quiet(words) if words and at == name else "") for at in kept)
            body.append(f'<tr style="{_MARKED if row.is_marked else "background:none"}">{"".join(cells)}</tr>')
        table = f'<table style="{TABLE}"><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        return table + (_SORT_SCRIPT if self.sorts else "") + (quiet(self.hint) if self.hint else "")

    def _filled(self) -> list[int]:
        return [at for at in range(len(self.columns)) if any(row.cells[at].text for row in self.rows)]

    def _fitting(self, sizes: dict[int, int], width: int | None) -> list[int]:
        """The columns that fit; the least important are removed first."""
        kept = list(sizes)
        while width is not None and sum(sizes[at] + 2 for at in kept) > width:
            least = max(kept, key=lambda at: (self.columns[at].importance, at))
            if self.columns[least].importance == 1:
                break
            kept.remove(least)
        return kept

    def _folded_words(self, row: Row, folded: Sequence[int]) -> str:
        words = [(self.columns[at].title, printable(row.cells[at].text)) for at in folded]
        return " · ".join(f"{title} {text}" for title, text in words if text and text != units.UNKNOWN)

    def _html_cell(self, row: Row, at: int, below: str) -> str:
        cell, column = row.cells[at], self.columns[at]
        text = escape(printable(cell.text))
        inside = f"<code>{text}</code>" if column.is_code and text else text
        dim = f";{QUIET}" if column.is_quiet and not row.is_marked and not cell.color else ""
        paint = f";color:{cell.color}" if cell.color else ""
        if cell.bar is not None:
            # A tint behind the text, which keeps the page's own colour; a browser that cannot mix colours shows none.
            tint, share = f"color-mix(in srgb,{cell.color} 22%,transparent)", max(0.0, min(1.0, cell.bar))
            size = f"calc((100% - {_GAP}) * {share:.2f}) calc(100% - 3px)"
            paint = f";padding-left:2.5em;background:linear-gradient({tint},{tint}) left/{size} no-repeat"
        rank = "" if cell.rank is None else f' data-rank="{cell.rank!r}"'
        return f'<td style="{_NUMBER if column.is_number else _WORD}{dim}{paint}"{rank}>{inside}{below}</td>'


def row(*cells: str | Cell, is_marked: bool = False) -> Row:
    """A row of texts and cells."""
    return Row(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells), is_marked)


def table(
    items: Iterable[Any], columns: Sequence[Column], hint: str = "", *, number: str = "", folds: bool = False
) -> Table:
    """A table with a row for each item; `number` is the title of a first column of row numbers, which users type."""
    rows = [[column.cell(item) for column in columns] for item in items]
    if number:
        columns = [Column(number, is_number=True), *columns]
        rows = [[str(at), *cells] for at, cells in enumerate(rows, 1)]
    return Table(columns, [row(*cells) for cells in rows], hint, folds)


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
        case Table():
            return block.text(width)
        case Fold(title, inside, text_lines):
            text = inside.text(width) if isinstance(inside, Table) else _printable_lines(inside, text_lines)
            return f"\n{printable(title)}\n{text}"
        case Line() | Diff():
            return _printable_lines(block.text)


def _block_html(block: Block) -> str:
    match block:
        case Line(text, style):
            return f'<div style="{style}">{escape(_printable_lines(text))}</div>' if text else ""
        case Table():
            return f'<div style="overflow-x:auto">{block.html()}</div>'
        case Fold(title, Table() as inside):
            return details(title, inside.html())
        case Fold():
            return details(block.title, f'<pre style="{_PRE}">{escape(_printable_lines(str(block.inside)))}</pre>')
        case Diff(text):
            lines = _printable_lines(text).split("\n")
            styled = (f'<div style="{_DIFF.get(line[:1], "")}">{escape(line) or " "}</div>' for line in lines)
            return f'<pre style="{_PRE}">{"".join(styled)}</pre>'


def _printable_lines(text: str, most_lines: int = _MOST_LINES) -> str:
    def cut(line: str) -> str:
        left = len(line) - _LONGEST_LINE
        return f"{line[:_LONGEST_LINE]} … {units.plural(left, 'more character')}" if left > 0 else line

    lines = [printable(cut(line)) for line in text.splitlines()]
    more = [f"… {units.plural(len(lines) - most_lines, 'more line')}"] if len(lines) > most_lines else []
    return "\n".join([*lines[:most_lines], *more])


def quiet(text: str) -> str:
    """A less visible line of HTML."""
    return f'<div style="{QUIET}">{escape(printable(text))}</div>'


def details(title: str, inside: str) -> str:
    """HTML that a click opens."""
    return f'<details><summary style="cursor:pointer">{escape(printable(title))}</summary>{inside}</details>'
