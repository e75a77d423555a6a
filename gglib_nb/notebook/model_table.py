"""The table of the models that are here, as text and as static HTML; what a deletion comes to, in words. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gglib_nb.domain.importing import ImportReport
from gglib_nb.domain.library import CheckedFile, Deletion, DiskUse, Repair, Verification, VerifyProgress
from gglib_nb.domain.model_summary import ModelState, ModelSummary
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import formats
from gglib_nb.notebook.tables import BAD, GOOD, WARN, Cell, Column, Row, hint, html_table, text_table

_COLUMNS: Final = (
    Column("#", is_number=True),
    Column("Model", is_code=True),
    Column("Size", is_number=True),
    Column("State"),
    Column("Parameters", is_number=True, importance=2),
    Column("Quantization", importance=4),
    Column("With", importance=3),
    Column("Architecture", importance=5),
    Column("Context", is_number=True, importance=6),
    Column("Used", importance=5),
    Column("Verified", importance=7),
    Column("Checked", importance=8),
    Column("Folder", is_code=True, importance=9),
)
_MOST_RANGES: Final = 5
_MENDING: Final = "Repair it: %gguf repair {id}"
_COLORS: Final[dict[ModelState, str]] = {
    "verified": GOOD,
    "unverified": "",
    "changed": WARN,
    "wrong": BAD,
    "missing": BAD,
}


def models_text(models: Sequence[ModelSummary], use: DiskUse, width: int | None) -> str:
    """The models as lines of text, then how much of the disk they take and how much is left.

    Args:
        models: In the order of the rows.
        use: Of all models, the shown ones and the others.
        width: Columns of characters to keep to; None: any.
    """
    return f"{text_table(*_table(models), width)}\n{printable(_disk_line(use))}"


def models_html(models: Sequence[ModelSummary], use: DiskUse) -> str:
    """The same as HTML."""
    return html_table(*_table(models), folds=True) + hint(printable(_disk_line(use)))


def question(plan: Deletion) -> str:
    """What a deletion would take, before it is done."""
    files = _count(len(plan.deleted), "file")
    return printable(f"{plan.id}: {files}, {formats.size(plan.freed_bytes)} will be freed.{_kept(plan)}")


def deleted(deletion: Deletion) -> str:
    """What a deletion took."""
    files = _count(len(deletion.deleted), "file")
    freed = formats.size(deletion.freed_bytes)
    return printable(f"Deleted {deletion.id}: {files}; {freed} freed.{_kept(deletion)}")


def _table(models: Sequence[ModelSummary]) -> tuple[tuple[Column, ...], list[Row]]:
    """Columns and rows; of hosts only where a cluster's have some of the models."""
    if not any(model.hosts for model in models):
        return _COLUMNS, _rows(models)
    rows = [
        replace(row, cells=(*row.cells, Cell(model.hosts))) for row, model in zip(_rows(models), models, strict=True)
    ]
    return (*_COLUMNS, Column("Hosts", importance=2)), rows


def reading(progress: VerifyProgress) -> str:
    """What is being read, while a verification runs."""
    amount = f"{formats.size(progress.done_bytes)} of {formats.size(progress.total_bytes)}"
    return f"verifying {progress.id}  {amount}"


def read_fraction(progress: VerifyProgress) -> float | None:
    """How much was read, 0 to 1."""
    return progress.done_bytes / progress.total_bytes if progress.total_bytes else None


def verified(verification: Verification) -> str:
    """What came of a verification, and what to do about it."""
    files = _count(len(verification.files), "file")
    if verification.is_right:
        is_stated = all(file.verdict == "right" for file in verification.files)
        size = formats.size(sum(file.size_bytes or 0 for file in verification.files))
        judged = "SHA-256 matches" if is_stated else "the Hub gives no SHA-256; a later change will be detected"
        return printable(f"{verification.id}: {files}, {size}, {judged}.")
    faults = " ".join(f"{file.path} {_fault(file)}." for file in verification.faults)
    return printable(f"{verification.id} is damaged. {faults} {_MENDING.format(id=verification.id)}")


def repaired(repair: Repair) -> str:
    """What mending a model comes to."""
    if not repair.is_needed:
        return printable(f"{repair.id} is correct; there is nothing to repair.")
    files = _count(len(repair.faulty_paths), "file")
    return printable(
        f"Repairing {repair.id}: {files} damaged, {formats.size(repair.bytes_to_fetch)} to download. "
        "The rest is copied from your file. %gguf shows the progress."
    )


def imported(report: ImportReport, folder: str) -> str:
    """What was registered of a folder, and what was not."""
    head = f"{_count(len(report.imported), 'model')} of {folder} added; %gguf verify ID checks one."
    if not report.imported:
        head = f"No new models in {folder}."
    taken = [f"  {model.id}  {formats.size(model.size_bytes)}  {model.path}" for model in report.imported]
    left = [f"  {file.path} {file.reason}" for file in report.skipped]
    return "\n".join(map(printable, [head, *taken, *(["Skipped:", *left] if left else [])]))


def _fault(file: CheckedFile) -> str:
    match file.verdict:
        case "wrong" if file.wrong_ranges:
            size = formats.size(sum(end - start for start, end in file.wrong_ranges))
            where = ", ".join(f"{start:,} to {end - 1:,}" for start, end in file.wrong_ranges[:_MOST_RANGES])
            more = (
                "" if len(file.wrong_ranges) <= _MOST_RANGES else f" and {len(file.wrong_ranges) - _MOST_RANGES} more"
            )
            return f"has wrong bytes at {where}{more} ({size})"
        case "wrong":
            return "is wrong, at unknown positions"
        case "changed":
            return "was changed while it was read"
        case "unreadable":
            return f"cannot be read ({file.reason})"
        case _:
            return "is missing"


def _rows(models: Sequence[ModelSummary]) -> list[Row]:
    return [
        Row(
            (
                Cell(str(number)),
                Cell(model.id),
                Cell(formats.size(model.size_bytes), model.size_bytes),
                Cell(_state(model), color=_COLORS[model.state]),
                Cell(formats.count(model.parameter_count), model.parameter_count),
                Cell(model.quantization or formats.UNKNOWN),
                Cell("mmproj" if model.projector_path else ""),
                Cell(model.architecture or formats.UNKNOWN),
                Cell(formats.UNKNOWN if model.context_length is None else str(model.context_length)),
                Cell(day(model.last_used_at_s)),
                Cell(day(model.verified_at_s)),
                Cell(day(model.checked_at_s)),
                Cell(model.folder),
            )
        )
        for number, model in enumerate(models, 1)
    ]


def _state(model: ModelSummary) -> str:
    return f"{model.state}, update" if model.has_update else model.state


def day(at_s: float | None) -> str:
    """The local date of a Unix time."""
    return formats.UNKNOWN if at_s is None else datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d")


def _disk_line(use: DiskUse) -> str:
    free = "" if use.free_bytes is None else f" · {formats.size(use.free_bytes)} free"
    return f"{formats.size(use.models_bytes)} in total{free} in {use.models_directory}"


def _kept(deletion: Deletion) -> str:
    return "".join(f" {kept.path} is kept: {kept.reason}." for kept in deletion.kept)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
