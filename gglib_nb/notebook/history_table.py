"""The downloads that ended, as text and as static HTML. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.history import PastDownload
from gglib_nb.notebook import formats
from gglib_nb.notebook.tables import BAD, GOOD, Cell, Column, Row, hint, html_table, text_table

_COLUMNS: Final = (
    Column("Row", is_number=True),
    Column("Ended", importance=3),
    Column("Download", is_code=True),
    Column("Outcome"),
    Column("Size", is_number=True),
    Column("Took", is_number=True, importance=4),
    Column("Rate", is_number=True, importance=5),
    Column("Why", importance=6),
)
_COLORS: Final = {
    DownloadStatus.COMPLETED: GOOD,
    DownloadStatus.FAILED: BAD,
}
_HINT: Final = "Download one again: %gguf queue ROW. Clear the list: %gguf history --clear"


def history_text(past: Sequence[PastDownload], width: int | None) -> str:
    """What ended, the newest first.

    Args:
        past: In the order of the rows.
        width: Columns of characters to keep to; None: any.
    """
    return f"{text_table(_COLUMNS, _rows(past), width)}\n{_HINT}"


def history_html(past: Sequence[PastDownload]) -> str:
    """The same as HTML."""
    return html_table(_COLUMNS, _rows(past), folds=True) + hint(_HINT)


def _rows(past: Sequence[PastDownload]) -> list[Row]:
    return [
        Row(
            (
                Cell(str(number)),
                Cell(_minute(one.ended_at_s), one.ended_at_s),
                Cell(str(one.id)),
                Cell(
                    "already downloaded" if one.was_present else one.outcome.value, color=_COLORS.get(one.outcome, "")
                ),
                Cell(formats.size(one.total_bytes), one.total_bytes),
                Cell("" if one.was_present or one.took_s is None else formats.duration(one.took_s), one.took_s),
                Cell("" if one.bytes_per_second is None else formats.rate(one.bytes_per_second), one.bytes_per_second),
                Cell(one.error),
            )
        )
        for number, one in enumerate(past, 1)
    ]


def _minute(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
