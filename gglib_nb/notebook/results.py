"""The results and plans of operations on models, as sentences, and the contents of a model, as blocks. Pure.

A chat template is shown as text and never rendered.
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from gglib_nb.domain import units
from gglib_nb.domain.importing import ImportReport
from gglib_nb.domain.inspection import Comparison, Inspection, TensorGroup
from gglib_nb.domain.library import CheckedFile, Deletion, PrunePlan, QueuedUpdate, Repair, Verification
from gglib_nb.domain.model import LOCAL_OWNER
from gglib_nb.domain.names import DownloadId, source_of
from gglib_nb.domain.text import printable
from gglib_nb.notebook.rows import scan_warning
from gglib_nb.notebook.tables import STRONG, Block, Column, Diff, Fold, Line, Table

if TYPE_CHECKING:
    from gglib_nb.manager.bundles import BundleReport

_MOST_RANGES: Final = 5
_MOST_KEYS: Final = 500
_KEPT_WHERE: Final = (
    "are in the queue, in a folder that does not exist, were imported from another folder, or belong to another program"
)
_BAR_CELLS: Final = 20
_TEMPLATE_LINES: Final = 25
_NO_TEMPLATE: Final = "It has no chat template: set one in the program that loads it."
_INTROSPECTION: Final = (
    "Its chat template uses Python introspection ({}). Only run it in a program that sandboxes templates."
)
_KEY: Final = Column("Key", is_code=True)
_PRUNE_COLUMNS: Final = (
    Column("Frees", is_number=True),
    Column("Last used"),
    Column("Model or unfinished download", is_code=True),
)


def deletion(plan: Deletion) -> str:
    """The files that a deletion deleted; of a dry run, those that it would delete."""
    files, freed = units.plural(len(plan.deleted), "file"), units.size(plan.freed_bytes)
    text = (
        f"{plan.id}: {files}, {freed} will be freed."
        if plan.is_dry_run
        else f"Deleted {plan.id}: {files}; {freed} freed."
    )
    linked = " The data is also linked elsewhere." if plan.deleted and not plan.freed_bytes else ""
    return printable(text + linked + "".join(f" {kept.path} is kept: {kept.reason}." for kept in plan.kept))


def exported(report: "BundleReport") -> str:
    """The result of an export, and the next step."""
    linked = " (linked)" if report.linked_bytes == report.size_bytes else ""
    models = report.models[0] if len(report.models) == 1 else units.plural(len(report.models), "model")
    done = f"Exported {models}, {units.size(report.size_bytes)}{linked}, to {report.folder}."
    return printable(f"{done} On the other machine: %gguf import FOLDER")


def pruning_question(plan: PrunePlan) -> str:
    """The disk space that deleting several models frees."""
    left = units.size(plan.missing_bytes)
    more = f" {left} more cannot be freed: the other models {_KEPT_WHERE}."
    freed = f"Deleting {_counts(plan)} frees {units.size(plan.freed_bytes)}."
    return f"{freed}{more if plan.missing_bytes else ''}{_unmounted(plan)}"


def nothing_pruned(plan: PrunePlan) -> str:
    """Why nothing is deleted."""
    size = units.size(plan.kept_bytes)
    used = f"Nothing to delete. Your models take {size}, without files that are also linked elsewhere."
    kept = f"Nothing to delete: these models {_KEPT_WHERE}."
    return f"{kept if plan.missing_bytes else used}{_unmounted(plan)}"


def _unmounted(plan: PrunePlan) -> str:
    """The folders whose models were not found, after a space; empty if there are none."""
    folders = units.listed(plan.missing_folders, 3)
    text = f" Models in {folders} are kept because their files were not found. The disk may not be mounted."
    return printable(text) if folders else ""


def pruned(done: PrunePlan) -> str:
    """The models and unfinished downloads that were deleted."""
    if not done:
        return f"Nothing was deleted.{_unmounted(done)}"
    return f"Deleted {_counts(done)}: {units.size(done.freed_bytes)} freed, {units.size(done.kept_bytes)} kept."


def _counts(plan: PrunePlan) -> str:
    counts = ((len(plan.models), "model"), (len(plan.unfinished), "unfinished download"))
    return " and ".join(units.plural(count, noun) for count, noun in counts if count)


def verified(verification: Verification) -> str:
    """The result of a verification, and the next step."""
    repo_id = DownloadId.parse(verification.id).repo_id
    is_local = repo_id.startswith(f"{LOCAL_OWNER}/")
    if not verification.is_right:
        faults = " ".join(f"{file.path} {_fault(file)}." for file in verification.faults)
        advice = "Restore it." if is_local else f"Repair it: %gguf repair {shlex.quote(verification.id)}"
        return printable(f"{verification.id} is damaged. {faults} {advice}")
    has_digests = all(file.verdict == "right" for file in verification.files)
    files = units.plural(len(verification.files), "file")
    size = units.size(sum(file.size_bytes or 0 for file in verification.files))
    unknown = "its repository is unknown" if is_local else f"{source_of(repo_id)} gives no SHA-256"
    verdict = "SHA-256 matches" if has_digests else f"{unknown}; a later change will be detected"
    return printable(f"{verification.id}: {files}, {size}, {verdict}.")


def repaired(repair: Repair) -> str:
    """The plan of a repair."""
    if not repair.is_needed:
        return printable(f"{repair.id} is correct; there is nothing to repair.")
    files, size = units.plural(len(repair.faulty_paths), "file"), units.size(repair.bytes_to_fetch)
    return printable(
        f"Repairing {repair.id}: {files} damaged or missing, {size} to download. Correct parts are copied from your "
        "files. %gguf shows the progress."
    )


def updating(update: QueuedUpdate) -> str:
    """The plan of an update."""
    if not update.is_needed:
        return printable(f"{update.id} is up to date.")
    warning = scan_warning(update.id, update.scan_finding)
    return printable(
        f"Updating {update.id} to {update.latest_commit_sha[:8]}: at most {units.size(update.total_bytes)} to "
        "download. The old version is kept until the new one is verified. %gguf shows the progress."
        f"{warning and f' {warning}'}"
    )


def imported(report: ImportReport, folder: str) -> str:
    """The files of a folder that were added, and those that were not."""
    are_verified = all(model.state == "verified" for model in report.imported)
    check = "All files are verified." if are_verified else "Check one with: %gguf verify ID"
    head = f"Added {units.plural(len(report.imported), 'model')} from {folder}. {check}"
    if not report.imported:
        head = f"No new models in {folder}."
    added = [f"  {model.id}  {units.size(model.size_bytes)}  {model.path}" for model in report.imported]
    skipped = [f"  {file.path} {file.reason}" for file in report.skipped]
    return "\n".join(map(printable, [head, *added, *(["Skipped:", *skipped] if skipped else [])]))


def _fault(file: CheckedFile) -> str:
    if ranges := file.wrong_ranges:
        size = units.size(sum(end - start for start, end in ranges))
        where = units.listed([f"{start:,} to {end - 1:,}" for start, end in ranges], _MOST_RANGES)
        return f"has wrong bytes at {where} ({size})"
    texts = {
        "wrong": "is wrong, at unknown positions",
        "changed": "was changed while it was read",
        "unreadable": f"cannot be read ({file.reason})",
    }
    return texts.get(file.verdict, "is missing")


def pruning_table(plan: PrunePlan) -> Table:
    """What would be deleted, one a row."""
    models = [(one.size_bytes, one.last_used_at_s, one.id) for one in plan.models]
    unfinished = [(one.disk_bytes, one.modified_s, one.target) for one in plan.unfinished]
    lines = [(units.size(size_bytes), units.day(at_s), name) for size_bytes, at_s, name in models + unfinished]
    return Table(_PRUNE_COLUMNS, lines, pruning_question(plan))


# The contents of a model -----------------------------------------------------------------------------------------


def inspection_blocks(one: Inspection) -> list[Block]:
    """The output of `%gguf inspect` for one model."""
    keys = sorted(one.lines.items())
    rest = [("…", units.plural(len(keys) - _MOST_KEYS, "more key"))] if len(keys) > _MOST_KEYS else []
    metadata = Table((_KEY, Column("Value")), [*((key[:200], text) for key, text in keys[:_MOST_KEYS]), *rest])
    return [
        Line(one.name, STRONG),
        *(Line(f"{name}: {value}") for name, value in _facts(one)),
        *([_tensor_table(one.tensors)] if one.tensors else []),
        Fold(f"Metadata ({units.plural(len(keys), 'key')})", metadata),
        *(
            Fold(f"{f'Chat template {name}'.rstrip()} ({units.plural(len(text), 'character')})", text, _TEMPLATE_LINES)
            for name, text in sorted(one.chat_templates.items())
        ),
    ]


def comparison_blocks(found: Comparison) -> list[Block]:
    """The differences between two models."""
    one, other = found.first.name, found.second.name
    if one == other and found.second.path is None:  # a model, and the same model on the Hub
        names, titles = f"{one} here and on the Hub", ["Yours", "On the Hub"]
    else:
        names, titles = f"{one} and {other}", [printable(name.rpartition("/")[2]) for name in (one, other)]
    count = len(found.keys)
    keys = f"{units.plural(count, 'key')} differ{'s' if count == 1 else ''}"
    rows = [(key.key[:200], key.first or units.UNKNOWN, key.second or units.UNKNOWN) for key in found.keys[:_MOST_KEYS]]
    templates = "The chat templates are the same." if found.is_same_template else "The chat template is different:"
    pair = (found.first, found.second)
    if not any(one.chat_templates for one in pair):
        templates = "Neither has a chat template."
    if any(one.has_chat_template and "" not in one.chat_templates for one in pair):
        templates = "A chat template is too long to compare."
    return [
        Line(printable(f"{names}: {keys if found.keys else 'the metadata is the same'}."), STRONG),
        *([Table((_KEY, *map(Column, titles)), rows)] if rows else []),
        Line(templates),
        *([Diff(found.template_diff)] if found.template_diff and templates.endswith(":") else []),
    ]


def _facts(one: Inspection) -> list[tuple[str, str]]:
    weights = None if one.bits_per_weight is None else f"{one.bits_per_weight:.2f} bits per weight"
    parameters = units.counted(one.parameter_count, "parameter") if one.tensors else None
    tokens = None if one.vocabulary_size is None else units.plural(one.vocabulary_size, "token")
    found: list[tuple[str, Iterable[str | None]]] = [
        ("Name", [one.title]),
        ("Architecture", [one.architecture, parameters, weights]),
        ("Size", [units.size(one.size_bytes)]),
        ("Context", [None if one.context_length is None else units.plural(one.context_length, "token")]),
        ("Tokenizer", [one.tokenizer_model, tokens]),
        ("Chat template", ["too long to show" if one.has_chat_template and "" not in one.chat_templates else None]),
        ("Licence", [one.licence]),
        ("Base model", one.base_models),
        ("File", [one.path]),
        ("Note", [None if one.has_chat_template else _NO_TEMPLATE]),
        ("Note", [_INTROSPECTION.format(", ".join(one.introspection[:5])) if one.introspection else None]),
    ]
    texts = [(name, printable(", ".join(part for part in parts if part))) for name, parts in found]
    return [(name, text) for name, text in texts if text]


def _tensor_table(tensors: Sequence[TensorGroup]) -> Table:
    whole = sum(group.size_bytes for group in tensors) or 1

    def share(group: TensorGroup) -> str:
        part = group.size_bytes / whole
        return f"{'█' * max(1, round(part * _BAR_CELLS)):<{_BAR_CELLS}} {part * 100:.1f} %"

    def bits(group: TensorGroup) -> str:
        return units.UNKNOWN if group.bits_per_weight is None else f"{group.bits_per_weight:.2f}"

    columns = (
        Column("Type", lambda group: group.type, is_code=True),
        Column("Share", share),
        Column("Tensors", lambda group: f"{group.tensor_count:,}", is_number=True),
        Column("Size", lambda group: units.size(group.size_bytes), is_number=True),
        Column("Bits per weight", bits, is_number=True),
    )
    return Table(columns, tensors)
