"""Tables: columns that do not fit are folded below the row, the least important first."""

import pytest

from gglib_nb.domain.library import Leftover
from gglib_nb.notebook.listings import partial_table
from gglib_nb.notebook.tables import Column, Line, Table, blocks_html

COLUMNS = (Column("Name", is_code=True), Column("Size"), Column("Kind", importance=2), Column("Folder", importance=3))
ROWS = [("alpha", "1 GB", "llama", "/models/a"), ("beta", "20 GB", "qwen", "/models/b")]


def test_a_wide_terminal_gets_every_column() -> None:
    assert Table(COLUMNS, ROWS).text(60).splitlines() == [
        "  Name   Size   Kind   Folder",
        "  alpha  1 GB   llama  /models/a",
        "  beta   20 GB  qwen   /models/b",
    ]


def test_without_a_width_nothing_is_folded() -> None:
    assert Table(COLUMNS, ROWS).text() == Table(COLUMNS, ROWS).text(500)


def test_the_least_important_column_is_folded_first() -> None:
    assert Table(COLUMNS, ROWS).text(28).splitlines() == [
        "  Name   Size   Kind",
        "  alpha  1 GB   llama",
        "    Folder: /models/a",
        "  beta   20 GB  qwen",
        "    Folder: /models/b",
    ]


def test_important_columns_stay_at_any_width() -> None:
    assert Table(COLUMNS, ROWS).text(5).splitlines()[:2] == ["  Name   Size", "  alpha  1 GB"]


def test_html_shows_folded_columns_below_the_name() -> None:
    html = Table(COLUMNS, ROWS, folds=True).html()

    assert html.count("<th ") == 2
    assert "<code>alpha</code><div" in html
    assert "Kind: llama · Folder: /models/a</div>" in html


def test_folded_columns_are_escaped_in_html() -> None:
    assert "<b>" not in Table(COLUMNS, [("a", "b", "<b>", "d")], folds=True).html()


@pytest.mark.parametrize("is_in_use", [True, False])
def test_no_command_is_suggested_for_unfinished_downloads_that_are_all_in_use(is_in_use):
    one = Leftover("/models/o/n/n.gguf", 10, 5, 10, 0.0, is_in_use=is_in_use)

    assert ("%gguf" in partial_table([one]).text(None)) is not is_in_use


def test_mathjax_does_not_read_an_output_as_formulas() -> None:
    assert blocks_html([Line("cp $GGUF_PATH $HOME")]).startswith('<div class="tex2jax_ignore mathjax_ignore"')
