"""Models, updates, earlier downloads and search results as lists of the panel, and as tables for text and HTML."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Final

from gglib_nb.domain import units
from gglib_nb.domain.fit import FitClass
from gglib_nb.domain.library import Change, DiskUse, FileChange, Leftover, ModelUpdate
from gglib_nb.domain.model import ModelState, ModelSummary
from gglib_nb.domain.plan import RepoSummary
from gglib_nb.domain.stored import PastDownload
from gglib_nb.domain.text import printable
from gglib_nb.notebook import rows
from gglib_nb.notebook.messages import Action, Fact, Field, Listing, Mood, Row
from gglib_nb.notebook.tables import Block, Column, Diff, Line, Table

_ICONS: Final[dict[Mood, str]] = {"good": "completed", "warn": "cancelled", "bad": "failed", "plain": "models"}
_HERE: Final = "already downloaded"
_UNUSED_DAYS: Final = 30
UNUSED_S: Final = _UNUSED_DAYS * 86_400.0
"""The panel offers to delete models that have been unused for longer than this."""


# Models ----------------------------------------------------------------------------------------------------------

_STATES: Final[dict[ModelState, Mood]] = {
    "verified": "good", "unverified": "warn", "changed": "warn", "wrong": "bad", "missing": "bad",
}  # fmt: skip


def _state(model: ModelSummary, update: str = "") -> Fact:
    return Fact("read-only") if model.store else Fact(f"{model.state}{update}", _STATES[model.state])


_MODEL_COLUMNS: Final = (
    Column("Model", lambda model: model.id, is_code=True),
    Column("Size", lambda model: units.size(model.size_bytes), is_number=True),
    Column("State", lambda model: _state(model, ", update" if model.has_update else "")),
    Column("Parameters", lambda model: units.count(model.parameter_count), is_number=True, importance=2),
    Column("Quantization", lambda model: model.quantization or units.UNKNOWN, importance=4),
    Column("With", lambda model: "mmproj" if model.projector_path else "", importance=3),
    Column("Architecture", lambda model: model.architecture or units.UNKNOWN, importance=5),
    Column(
        "Context",
        lambda model: f"{model.context_length:,}" if model.context_length else units.UNKNOWN,
        is_number=True,
        importance=6,
    ),
    Column("Used", lambda model: units.day(model.last_used_at_s), importance=5),
    Column("Verified", lambda model: units.day(model.verified_at_s), importance=7),
    Column("Checked", lambda model: units.day(model.checked_at_s), importance=8),
    Column("Folder", lambda model: model.folder, is_code=True, importance=9),
    Column("Hosts", lambda model: model.hosts, importance=2),  # only on a cluster
)


def model_list(models: Sequence[ModelSummary], use: DiskUse) -> Listing:
    """The models on this disk, and the disk space they use."""
    here = f"{units.plural(len(models), 'model')} · {_disk_line(use)}" if models else "No models on this disk yet."
    used_s = time.time() - UNUSED_S
    old = [one for one in models if not one.store and (one.last_used_at_s or one.registered_at_s) < used_s]
    unused_bytes = sum(model.size_bytes for model in old)
    unused = f"{units.size(unused_bytes)} not used for {_UNUSED_DAYS} days" if unused_bytes else ""
    note = " · ".join(filter(None, (here, unused, missing_stores(use))))
    actions = (Action("prune", "Free space", is_worded=True),) if unused_bytes else ()
    return Listing(rows=tuple(map(_model_row, models)), note=note, actions=actions)


def _disk_line(use: DiskUse) -> str:
    free = "" if use.free_bytes is None else f" · {units.size(use.free_bytes)} free"
    return printable(f"{units.size(use.models_bytes)} in total{free} in {use.models_directory}")


def missing_stores(use: DiskUse) -> str:
    """The folders of `model_stores` that do not exist, in a sentence; empty if all exist."""
    names = ", ".join(use.missing_stores)
    return printable(f"not found: {names} (is the disk mounted?)") if names else ""


def _model_row(model: ModelSummary) -> Row:
    owner, _, title = model.repo_id.rpartition("/")
    actions = [
        Action("loading", "Code", f"Show the code that loads {model.id}, for each program"),
        Action("inspect", "Contents", f"Show what {model.id} contains"),
        Action("export", "Export", f"Export {model.id} for another machine"),
        *(() if model.store else rows.file_actions(model.id)),
    ]
    if model.origin not in ("store", "local") and model.state in ("wrong", "missing", "changed"):
        actions.insert(0, Action("repair", "Repair", is_worded=True))
    if model.has_update:
        actions.insert(0, Action("update", "Update", is_worded=True))
    return Row(
        id=model.id,
        status=model.state,
        title=printable(title),
        tag=printable(model.quantization or ""),
        origin=printable(owner),
        name=printable(model.id),
        icon=_ICONS[_state(model).mood],
        lines=rows.facts(
            units.size(model.size_bytes),
            units.plural(model.file_count, "file") if model.file_count > 1 else "",
            units.counted(model.parameter_count, "parameter"),
            printable(model.architecture or ""),
            "" if model.context_length is None else units.plural(model.context_length, "token"),
            "with vision projector" if model.projector_path else "",
            _state(model),
            f"from {printable(units.tilde(model.store))}" if model.store else "",
            "" if model.last_used_at_s is None else f"last used {units.day(model.last_used_at_s)}",
            Fact("a newer version is on the Hub" if model.has_update else "", "warn"),
        ),
        path=model.path,
        folder=units.tilde(str(PurePath(model.path).parent)),
        actions=tuple(actions),
    )


def model_table(models: Sequence[ModelSummary], use: DiskUse) -> Table:
    """These models, and the disk space that all models use."""
    hint = " · ".join(filter(None, (_disk_line(use), missing_stores(use))))
    return Table(_MODEL_COLUMNS, models, hint, number="#", folds=True)


# Updates ---------------------------------------------------------------------------------------------------------

_UPDATE_COLUMNS: Final = (
    Column("Model", is_code=True),
    Column("On the Hub"),
    Column("File", importance=3),
    Column("Commit", importance=2),
    Column("Date", importance=4),
)
_CHANGES: Final[Mapping[Change, str]] = {
    "same": "the same",
    "metadata": "only its metadata changed",
    "tensors": "its tensors changed",
    "content": "another file",
    "gone": "deleted",
    "unknown": "unknown; verify it first",
}


def update_blocks(found: Sequence[ModelUpdate]) -> list[Block]:
    """The models, with a line for each file that differs on the Hub, and a diff of each changed chat template."""
    lines, diffs = [], list[Block]()
    for update in found:
        changes = () if update.problem else update.changes
        lines += [
            (update.id, _change(file), file.path_in_repo, file.commit_title, file.commit_date[:10]) for file in changes
        ] or [(update.id, update.problem or "up to date", "", "", "")]
        for file in update.changes:
            if file.template_diff:
                diffs += [Line(f"Chat template of {update.id}:"), Diff(file.template_diff)]
    number = sum(update.has_update is True for update in found)
    hint = "No updates." if all(update.has_update is False for update in found) else "No updates are known."
    if number:
        hint = f"{number} of {len(found)} {'has' if number == 1 else 'have'} an update: %gguf update ID"
    return [Table(_UPDATE_COLUMNS, lines, hint, folds=True), *diffs]


def _change(file: FileChange) -> str:
    if file.change != "metadata" or not file.template_diff:
        return _CHANGES[file.change]
    return "its chat template and other metadata changed" if file.changed_keys else "only its chat template changed"


# Earlier and unfinished downloads --------------------------------------------------------------------------------

_HISTORY_COLUMNS: Final = (
    Column("Ended", lambda past: units.minute(past.ended_at_s), importance=3),
    Column("Download", lambda past: str(past.id), is_code=True),
    Column("Outcome", rows.outcome),
    Column("Size", lambda past: units.size(past.total_bytes), is_number=True),
    Column("Took", rows.time_taken, is_number=True, importance=4),
    Column("Rate", lambda past: rows.rate(past.bytes_per_second), is_number=True, importance=5),
    Column("Why", lambda past: past.error, importance=6),
)
_HISTORY_HINT: Final = "Download one again: %gguf queue ROW. Clear the list: %gguf history --clear"
history_table: Final = partial(Table, _HISTORY_COLUMNS, hint=_HISTORY_HINT, number="Row", folds=True)
"""The table of ended downloads."""
_PARTIAL_COLUMNS: Final = (
    Column("Here", lambda one: units.size(one.downloaded_bytes), is_number=True),
    Column("Of", lambda one: units.size(one.size_bytes), is_number=True, importance=2),
    Column("On disk", lambda one: units.size(one.disk_bytes), is_number=True, importance=4),
    Column("Last byte", lambda one: units.minute(one.modified_s), importance=3),
    Column("In use", lambda one: "yes" if one.is_in_use else ""),
    Column("File", lambda one: one.target, is_code=True),
)


def earlier_list(past: Sequence[PastDownload]) -> Listing:
    """The ended downloads of this and other kernels, for the panel."""
    actions = (Action("clear_earlier", "Clear", "Clear earlier downloads", is_worded=True),)
    return Listing(title="Earlier", rows=tuple(map(rows.past_row, past)), actions=actions)


def partial_table(found: Sequence[Leftover]) -> Table:
    """Unfinished downloads in the models folder."""
    hint = "Finish them: %gguf partials --queue. Delete one: %gguf partials --discard #ROW"
    return Table(_PARTIAL_COLUMNS, found, "" if all(one.is_in_use for one in found) else hint, number="Row")


# Repositories ----------------------------------------------------------------------------------------------------

_FITS: Final[dict[FitClass, tuple[str, Fact]]] = {
    "gpu": ("GPU", Fact("fits the GPU", "good")),
    "ram": ("RAM", Fact("fits in RAM", "good")),
    "gpu_partly": ("GPU and RAM", Fact("fits the GPU and RAM together", "slow")),
    "too_large": ("no", Fact("too large for memory", "bad")),
    "unknown": ("", Fact("")),
}
_SMALLER: Final = tuple((f"{one}{'0' * 9}", f"up to {one} B") for one in (4, 8, 14, 32, 70))
TASKS: Final = ("text-generation", "image-text-to-text", "feature-extraction", "automatic-speech-recognition")
FILTERS: Final = (
    Field(id="max_parameters", label="Largest model", value="", hint="any size", choices=_SMALLER),
    Field(id="task", label="Task", value="", hint="any task", choices=tuple((task, task) for task in TASKS)),
    Field(id="licence", label="Licence", value="", hint="any licence"),
)
"""The filters of a search."""


def _likely_size(repo: RepoSummary) -> str:
    return "" if repo.likely_size_bytes is None else f"~{units.size(repo.likely_size_bytes)}"


def _remarks(repo: RepoSummary) -> str:
    return ", ".join(filter(None, (_HERE if repo.is_here else "", "gated" if repo.gate else "")))


_SEARCH_COLUMNS: Final = (
    Column("Repository", lambda repo: repo.repo_id, is_code=True),
    Column("Parameters", lambda repo: units.count(repo.parameter_count), is_number=True, importance=4),
    Column("Size", _likely_size, is_number=True, importance=3),
    Column("Fits", lambda repo: _FITS[repo.fit][0], importance=2),
    Column("Downloads", lambda repo: units.count(repo.downloads), is_number=True, importance=6),
    Column("Likes", lambda repo: units.count(repo.likes), is_number=True, importance=7),
    Column("Changed", lambda repo: (repo.modified_at or units.UNKNOWN)[:10], importance=5),
    Column("Note", _remarks),
)
_SEARCH_HINT: Final = "~: estimated for Q4_K_M. See the variants: %gguf plan ROW. Download: %gguf queue ROW"
search_table: Final = partial(Table, _SEARCH_COLUMNS, hint=_SEARCH_HINT, number="Row")
"""The table of repositories that a search found."""


def suggestions(found: Sequence[RepoSummary]) -> Listing:
    """Repositories that a search found, for the panel."""
    number = "1 repository found." if len(found) == 1 else f"{len(found)} repositories found."
    return Listing(rows=tuple(map(_suggestion_row, found)), news=number)


def nothing_found(words: str, *, is_filtered: bool) -> str:
    """The answer to a search without results."""
    both, fewer = (" and the filters", "fewer filters, ") if is_filtered else ("", "")
    return f"No repository with GGUF files matches {words!r}{both}. Try {fewer}fewer or other words."


def _suggestion_row(repo: RepoSummary) -> Row:
    fit = _FITS[repo.fit][1]
    details = (
        units.counted(repo.parameter_count, "parameter"),
        units.counted(repo.downloads, "download"),
        f"changed {repo.modified_at[:10]}" if repo.modified_at else "",
    )
    title = printable(repo.repo_id)
    return Row(
        id=repo.repo_id,
        title=title,
        name=title,
        lines=rows.facts(
            Fact(_HERE if repo.is_here else "", "good"),
            Fact(", ".join(filter(None, (_likely_size(repo), fit.text))), fit.mood),
            Fact("gated" if repo.gate is not None else "", "warn"),
        ),
        note=" · ".join(filter(None, details)),
        link=repo.page_url or "",
    )
