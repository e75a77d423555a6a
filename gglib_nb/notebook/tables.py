"""The blocks of an answer - lines, tables, long texts - each as plain text and as static HTML.

Pure. Untrusted text is made printable, and escaped in HTML, only in this module.
"""

import textwrap
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from gglib_nb.domain import units
from gglib_nb.domain.text import printable
from gglib_nb.notebook.messages import Fact, Mood

_GAP: Final = ".9em"
_PADDING: Final = f"padding:.25em {_GAP} .25em 0"
_CELL: Final = f"{_PADDING};border:0;vertical-align:top"
_NUMBER: Final = f"{_CELL};text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
_WORD: Final = f"{_CELL};text-align:left"
_HEAD: Final = f"{_PADDING};border:0;border-bottom:1px solid rgba(128,128,128,.5);font-weight:600;white-space:nowrap"
_MARKED: Final = "background:rgba(67,160,71,.2);font-weight:600"
STRONG: Final = "font-weight:600"
QUIET: Final = "opacity:.75"
"""The style of less important text: without a colour, which could be unreadable on a host's background."""
# Mixed with the surrounding text colour, to be readable on light and dark backgrounds.
COLORS: Final[dict[Mood, str]] = {
    "plain": "",
    "good": "color-mix(in srgb,#2e7d32 45%,currentcolor)",
    "slow": "color-mix(in srgb,#1976d2 42%,currentcolor)",
    "warn": "color-mix(in srgb,#ef6c00 48%,currentcolor)",
    "bad": "color-mix(in srgb,#c62828 34%,currentcolor)",
}
"""The colour of each mood."""
_DIFF: Final = {"+": "background:rgba(67,160,71,.22)", "-": "background:rgba(229,57,53,.22)"}
_WIDE: Final = 150  # columns of characters
_MOST_LINES: Final = 1_000
_LONGEST_LINE: Final = 2_000
# Sorts by the rank of a cell, else by its text; unknown is always last. The script makes the buttons: without scripts
# (GitHub, untrusted notebooks) nothing looks clickable.
_SORT_SCRIPT: Final = """<script>
(() => {
  const table = document.currentScript?.previousElementSibling;
  if (!table) return;
  const rank = (row, at) => {
    const cell = row.cells[at];
    const place = cell.style.getPropertyValue("--rank");
    return place ? Number(place) : cell.textContent.replace("—", "");
  };
  const compare = (a, b, turn) =>
    (a === "") - (b === "") ||
    turn * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.style.cssText = "all:unset;cursor:pointer;outline:revert";
    button.onclick = () => {
      const turn = head.ariaSort === "ascending" ? -1 : 1;
      for (const other of heads) {
        other.ariaSort = null;
        other.lastChild.textContent = other.textContent.replace(/ [▲▼]$/, "");
      }
      head.ariaSort = turn === 1 ? "ascending" : "descending";
      button.textContent += turn === 1 ? " ▲" : " ▼";
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(rank(a, at), rank(b, at), turn));
      table.tBodies[0].append(...rows);
    };
    head.replaceChildren(button);
  });
})();
</script>"""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column."""

    title: str
    cell: Callable[[Any], str | Fact] | None = None  # of an item; None: the items are tuples of cells
    bar: Callable[[Any], float | None] | None = None  # of an item: length of a bar behind the text in HTML, 0 to 1
    rank: Callable[[Any], float | None] | None = None  # of an item: clicks on heads of the HTML table sort by it
    is_number: bool = False  # aligned to the right
    is_code: bool = False  # monospaced in HTML, because users type it
    is_quiet: bool = False  # less visible in HTML
    importance: int = 1  # columns above 1 are folded, highest first: their cells move to a line below the row
    is_spare: bool = False  # only in HTML and in wide text


class Table:
    """A table with a row for each item, and the line below it. Columns that are empty in every row are left out.

    Args:
        number: The title of a first column of row numbers, which users type.
        folds: HTML has no known width: fold every column above importance 1.
        marked: The places of the highlighted rows, from 0.
    """

    def __init__(
        self,
        columns: Iterable[Column],
        items: Iterable[Any],
        hint: str = "",
        *,
        number: str = "",
        folds: bool = False,
        marked: Collection[int] = (),
    ) -> None:
        self._items = items = list(items)
        self._hint, self._folds, self._marked = printable(hint), folds, marked
        cells = {column: [_cell(column, item, at) for item in items] for at, column in enumerate(columns)}
        numbers = {Column(number, is_number=True, is_quiet=True): [Fact(str(at)) for at in range(1, len(items) + 1)]}
        every = (numbers if number else {}) | cells
        self._cells = {column: cells for column, cells in every.items() if any(cell.text for cell in cells)}

    def text(self, width: int | None = None) -> str:
        """Lines of text; columns are folded to fit the width, if one is given."""
        sizes = {
            column: max(len(column.title), *(len(cell.text) for cell in cells))
            for column, cells in self._cells.items()
            if not column.is_spare or (width or 0) >= _WIDE
        }
        kept = list(sizes)
        while width is not None and sum(sizes[column] + 2 for column in kept) > width:
            least = max(kept, key=lambda column: (column.importance, kept.index(column)))
            if least.importance == 1:
                break
            kept.remove(least)
        folded = [column for column in sizes if column not in kept]

        def line(mark: str, texts: Iterable[str]) -> str:
            aligned = (
                text.rjust(sizes[column]) if column.is_number else text.ljust(sizes[column])
                for column, text in zip(kept, texts, strict=True)
            )
            return f"{mark} {'  '.join(aligned)}".rstrip()

        lines = [line(" ", (column.title for column in kept))]
        for at in range(len(self._items)):
            lines.append(line("*" if at in self._marked else " ", (self._cells[column][at].text for column in kept)))
            lines += [f"    {text}" for text in wrap(self._folded(folded, at), max(20, (width or 0) - 4))]
        return "\n".join([*lines, *([self._hint] if self._hint else [])])

    def html(self) -> str:
        """HTML with inline styles, because saved notebooks have no style sheet."""
        kept = [column for column in self._cells if column.importance == 1 or not self._folds]
        folded = [column for column in self._cells if column not in kept]
        name = next((column for column in kept if column.is_code), None)
        heads = (
            f'<th style="{_HEAD};text-align:{"right" if column.is_number else "left"}">{escape(column.title)}</th>'
            for column in kept
        )
        lines = []
        for at, item in enumerate(self._items):
            marks = at in self._marked
            cells = {column: _html_of(column, self._cells[column][at], item, is_marked=marks) for column in kept}
            if name is not None and (words := self._folded(folded, at)):
                cells[name] = (cells[name][0], cells[name][1] + quiet(words))
            lines.append(cells.values())
        table = html_table(lines, f"<thead><tr>{''.join(heads)}</tr></thead>", self._marked)
        script = _SORT_SCRIPT if any(column.rank for column in kept) else ""
        return table + script + (quiet(self._hint) if self._hint else "")

    def _folded(self, columns: Iterable[Column], at: int) -> str:
        """The cells of these columns in a row, on one line."""
        words = [(column.title, self._cells[column][at].text) for column in columns]
        return " · ".join(f"{title}: {text}" for title, text in words if text and text != units.UNKNOWN)


def _cell(column: Column, item: Any, at: int) -> Fact:  # noqa: ANN401 - as the columns need it
    found = item[at] if column.cell is None else column.cell(item)
    fact = Fact(found) if isinstance(found, str) else found
    return Fact(printable(fact.text), fact.mood)


def html_table(lines: Iterable[Iterable[tuple[str, str]]], head: str = "", marked: Collection[int] = ()) -> str:
    """A table of cells with a style and content each; `marked` are the places of the highlighted lines."""
    body = ""
    for at, cells in enumerate(lines):
        inside = "".join(f'<td style="{look}">{content}</td>' for look, content in cells)
        body += f'<tr style="{_MARKED if at in marked else "background:none"}">{inside}</tr>'
    look = "border-collapse:collapse;border:0;margin:.4em 0;color:inherit"
    return f'<table style="{look}">{head}<tbody>{body}</tbody></table>'


def _html_of(column: Column, cell: Fact, item: Any, *, is_marked: bool) -> tuple[str, str]:  # noqa: ANN401 - as above
    """The style and the content of a cell."""
    text, color, bar = escape(cell.text), COLORS[cell.mood], None if column.bar is None else column.bar(item)
    dim = f";{QUIET}" if column.is_quiet and not is_marked and not color else ""
    paint = f";color:{color}" if color else ""
    if bar is not None and color:
        # A tint behind the text, which keeps the page's own colour; a browser that cannot mix colours shows none.
        tint = f"color-mix(in srgb,{color} 22%,transparent)"
        size = f"calc((100% - {_GAP}) * {max(0.0, min(1.0, bar)):.2f}) calc(100% - 3px)"
        paint = f";padding-left:2.5em;background:linear-gradient({tint},{tint}) left/{size} no-repeat"
    rank = None if column.rank is None or not cell.text else column.rank(item)
    if rank is not None:
        paint += f";--rank:{rank}"
    inside = f"<code>{text}</code>" if column.is_code and text else text
    return f"{_NUMBER if column.is_number else _WORD}{dim}{paint}", inside


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
    return page(map(_block_html, blocks))


def page(parts: Iterable[str]) -> str:
    """A whole output. Its class keeps MathJax from reading the text between two `$` as a formula."""
    return f'<div class="tex2jax_ignore mathjax_ignore" style="line-height:1.4">{"".join(parts)}</div>'


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
        case Fold(title, inside):
            body = inside.html() if isinstance(inside, Table) else _pre(escape(_printable_lines(inside)))
            return f'<details><summary style="cursor:pointer">{escape(printable(title))}</summary>{body}</details>'
        case Diff(text):
            lines = _printable_lines(text).split("\n")
            styled = (f'<div style="{_DIFF.get(line[:1], "")}">{escape(line) or " "}</div>' for line in lines)
            return _pre("".join(styled))


def _pre(inside: str) -> str:
    look = (
        "max-height:24em;overflow:auto;margin:.3em 0;padding:.5em;border:1px solid rgba(128,128,128,.4);"
        "white-space:pre-wrap"
    )
    return f'<pre style="{look}">{inside}</pre>'


def _printable_lines(text: str, most_lines: int = _MOST_LINES) -> str:
    def cut(line: str) -> str:
        left = len(line) - _LONGEST_LINE
        return f"{line[:_LONGEST_LINE]} … {units.plural(left, 'more character')}" if left > 0 else line

    lines = [printable(cut(line)) for line in text.splitlines()]
    more = [f"… {units.plural(len(lines) - most_lines, 'more line')}"] if len(lines) > most_lines else []
    return "\n".join([*lines[:most_lines], *more])


def wrap(text: str, width: int, indent: int = 0) -> list[str]:
    """Lines of whole words, those after the first indented; a path or a command stays whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=" " * indent)


def quiet(text: str) -> str:
    """A less visible line of HTML."""
    return f'<div style="{QUIET}">{escape(printable(text))}</div>'
