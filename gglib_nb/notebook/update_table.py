"""What has become of models on the Hub, as text and as static HTML. Pure."""

from collections.abc import Sequence
from html import escape
from typing import Final

from gglib_nb.domain.library import Change, FileChange, ModelUpdate, QueuedUpdate
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import formats
from gglib_nb.notebook.inspection_view import diff_html
from gglib_nb.notebook.tables import Column, Row, hint, html_table, row, text_table

_COLUMNS: Final = (
    Column("Model", is_code=True),
    Column("On the Hub"),
    Column("File", importance=3),
    Column("Commit", importance=2),
    Column("Date", importance=4),
)
_WORDS: Final[dict[Change, str]] = {
    "same": "the same",
    "metadata": "only its metadata changed",
    "tensors": "its tensors changed",
    "content": "another file",
    "gone": "gone",
    "unknown": "unknown; verify it first",
}


def updates_text(found: Sequence[ModelUpdate], width: int | None) -> str:
    """The models, a line for each file that is not the same.

    Args:
        found: In the order of the rows.
        width: Columns of characters to keep to; None: any.
    """
    diffs = "".join(f"\n\n{title}\n{file.template_diff}" for title, file in _templates(found))
    return f"{text_table(_COLUMNS, _rows(found), width)}\n{_hint(found)}{diffs}"


def updates_html(found: Sequence[ModelUpdate]) -> str:
    """The same as HTML."""
    diffs = "".join(
        f'<details><summary style="cursor:pointer">{escape(title)}</summary>{diff_html(file.template_diff)}</details>'
        for title, file in _templates(found)
    )
    return html_table(_COLUMNS, _rows(found), folds=True) + hint(_hint(found)) + diffs


def in_words(update: ModelUpdate) -> str:
    """What has become of one model, in a sentence."""
    if update.problem:
        return printable(update.problem)
    if not update.changes:
        return "It is up to date."
    return printable("; ".join(f"{file.path_in_repo}: {_said(file)}" for file in update.changes) + ".")


def updating(update: QueuedUpdate) -> str:
    """What updating a model comes to."""
    if not update.is_needed:
        return printable(f"{update.id} is up to date.")
    return printable(
        f"Updating {update.id} to {update.latest_commit_sha[:8]}: at most {formats.size(update.total_bytes)} to "
        "download. The old version is kept until the new one is verified. %gguf shows the progress."
    )


def _said(file: FileChange) -> str:
    commit = f" ({file.commit_title}, {file.commit_date[:10]})" if file.commit_title else ""
    return f"{_what(file)}{commit}"


def _what(file: FileChange) -> str:
    if file.change != "metadata" or not file.template_diff:
        return _WORDS[file.change]
    return "its chat template and other metadata changed" if file.changed_keys else "only its chat template changed"


def _templates(found: Sequence[ModelUpdate]) -> list[tuple[str, FileChange]]:
    """The files whose chat template changed, each with its title."""
    return [
        (printable(f"Chat template of {update.id}:"), file)
        for update in found
        for file in update.changes
        if file.template_diff
    ]


def _rows(found: Sequence[ModelUpdate]) -> list[Row]:
    return [line for update in found for line in _rows_of(update)]


def _rows_of(update: ModelUpdate) -> list[Row]:
    if update.problem:
        return [row(update.id, update.problem, "", "", "")]
    if not update.changes:
        return [row(update.id, "up to date", "", "", "")]
    return [_row(update, file) for file in update.changes]


def _row(update: ModelUpdate, file: FileChange) -> Row:
    return row(update.id, _what(file), file.path_in_repo, file.commit_title, file.commit_date[:10])


def _hint(found: Sequence[ModelUpdate]) -> str:
    number = sum(update.has_update is True for update in found)
    if not number:
        return "No updates." if all(update.has_update is False for update in found) else "No updates are known."
    return f"{number} of {len(found)} have an update: %gguf update ID"
