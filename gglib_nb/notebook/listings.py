"""Models, updates, earlier downloads and search results: as lists of the panel, and as tables for text and HTML. Pure."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from gglib_nb.domain.history import PastDownload
from gglib_nb.domain.library import Change, DiskUse, FileChange, ModelUpdate
from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.model import ModelState, ModelSummary
from gglib_nb.domain.plan import Fit, RepoPlan, VariantPlan
from gglib_nb.domain.printable import printable
from gglib_nb.engine.local import Leftover
from gglib_nb.notebook import formats, plan_table, rows, tables
from gglib_nb.notebook.messages import Action, Choice, Fact, Filter, Listing, Mood, Row, View
from gglib_nb.notebook.tables import COLORS, Block, Cell, Column, Columns, Diff, Line, Table

_ICONS: Final[dict[Mood, str]] = {"good": "completed", "warn": "cancelled", "bad": "failed", "plain": "models"}
_HERE: Final = "already downloaded"
_DAY_S: Final = 86_400
UNUSED_DAYS: Final = 30
"""The panel offers to delete models that have been unused for longer than this."""


def _listing(
    id_: str, found: Sequence[Row], *, title: str = "", note: str = "", actions: tuple[Action, ...] = (), news: str = ""
) -> Listing:
    view = View(id=id_, title=title, rows=tuple(row.id for row in found), note=note, actions=actions)
    return Listing(view=view, rows=tuple(found), news=news)


# Models ----------------------------------------------------------------------------------------------------------

_STATES: Final[dict[ModelState, Mood]] = {
    "verified": "good",
    "unverified": "warn",
    "changed": "warn",
    "wrong": "bad",
    "missing": "bad",
}


def _state_cell(model: ModelSummary) -> Cell:
    if model.store:
        return Cell("read-only")
    return Cell(f"{model.state}{', update' if model.has_update else ''}", color=COLORS[_STATES[model.state]])


_MODEL_COLUMNS: Final[Columns[ModelSummary]] = (
    (Column("Model", is_code=True), lambda model: model.id),
    (Column("Size", is_number=True), lambda model: formats.size(model.size_bytes)),
    (Column("State"), _state_cell),
    (Column("Parameters", is_number=True, importance=2), lambda model: formats.count(model.parameter_count)),
    (Column("Quantization", importance=4), lambda model: model.quantization or formats.UNKNOWN),
    (Column("With", importance=3), lambda model: "mmproj" if model.projector_path else ""),
    (Column("Architecture", importance=5), lambda model: model.architecture or formats.UNKNOWN),
    (
        Column("Context", is_number=True, importance=6),
        lambda model: formats.UNKNOWN if model.context_length is None else str(model.context_length),
    ),
    (Column("Used", importance=5), lambda model: formats.day(model.last_used_at_s)),
    (Column("Verified", importance=7), lambda model: formats.day(model.verified_at_s)),
    (Column("Checked", importance=8), lambda model: formats.day(model.checked_at_s)),
    (Column("Folder", is_code=True, importance=9), lambda model: model.folder),
    (Column("Hosts", importance=2), lambda model: model.hosts),  # only on a cluster
)


def model_list(models: Sequence[ModelSummary], use: DiskUse) -> Listing:
    """The models on this disk, and the disk space they use."""
    here = f"{formats.plural(len(models), 'model')} · {_disk_line(use)}" if models else "No models on this disk yet."
    unused_bytes = sum(model.size_bytes for model in models if _is_unused(model, time.time()))
    unused = f"{formats.size(unused_bytes)} not used for {UNUSED_DAYS} days" if unused_bytes else ""
    note = " · ".join(filter(None, (here, unused, missing_stores(use))))
    actions = (Action("prune", "Free space", is_worded=True),) if unused_bytes else ()
    return _listing("models", [*map(_model_row, models)], title="Models", note=note, actions=actions)


def _disk_line(use: DiskUse) -> str:
    free = "" if use.free_bytes is None else f" · {formats.size(use.free_bytes)} free"
    return printable(f"{formats.size(use.models_bytes)} in total{free} in {use.models_directory}")


def missing_stores(use: DiskUse) -> str:
    """The folders of `model_stores` that do not exist, in a sentence; empty if all exist."""
    names = ", ".join(use.missing_stores)
    return printable(f"not found: {names} (is the disk mounted?)") if names else ""


def _is_unused(model: ModelSummary, now_s: float) -> bool:
    return not model.store and now_s - (model.last_used_at_s or model.registered_at_s) > UNUSED_DAYS * _DAY_S


def _model_row(model: ModelSummary) -> Row:
    owner, _, title = model.repo_id.rpartition("/")
    mood: Mood = "plain" if model.store else _STATES[model.state]
    actions = [
        Action("loading", "Code", f"Show the code that loads {model.id}, for each program"),
        Action("inspect", "Contents", f"Show what {model.id} contains"),
        Action("export", "Export", f"Export {model.id} for another machine"),
        *(() if model.store else rows.file_actions(model.id)),
    ]
    if not model.store and model.state in ("wrong", "missing", "changed"):
        actions.insert(0, rows.action("repair", "Repair", model.id, is_worded=True))
    if model.has_update:
        actions.insert(0, rows.action("update", "Update", model.id, is_worded=True))
    return Row(
        id=model.id,
        status=model.state,
        title=printable(title),
        tag=str(model.quantization or ""),
        origin=printable(owner),
        name=printable(model.id),
        icon=_ICONS[mood],
        lines=rows.facts(
            formats.size(model.size_bytes),
            formats.plural(model.file_count, "file") if model.file_count > 1 else "",
            "" if model.parameter_count is None else f"{formats.count(model.parameter_count)} parameters",
            printable(model.architecture or ""),
            "" if model.context_length is None else f"{model.context_length} tokens",
            "with vision projector" if model.projector_path else "",
            Fact("read-only" if model.store else model.state, mood),
            f"from {printable(formats.tilde(model.store))}" if model.store else "",
            "" if model.last_used_at_s is None else f"last used {formats.day(model.last_used_at_s)}",
            Fact("a newer version is on the Hub" if model.has_update else "", "warn"),
        ),
        path=model.path,
        folder=formats.folder(model.path),
        actions=tuple(actions),
    )


def model_table(models: Sequence[ModelSummary], use: DiskUse) -> Table:
    """The models, and the disk space they use.

    Args:
        models: In the order of the rows.
        use: The disk space used by all models, including those that are not shown.
    """
    hint = " · ".join(filter(None, (_disk_line(use), missing_stores(use))))
    return Table(*tables.numbered("#", _MODEL_COLUMNS, models), hint, folds=True)


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


def update_table(found: Sequence[ModelUpdate]) -> Table:
    """The models, with a line for each file that differs on the Hub."""
    lines = []
    for update in found:
        if update.changes and not update.problem:
            lines += [
                tables.row(update.id, _change(file), file.path_in_repo, file.commit_title, file.commit_date[:10])
                for file in update.changes
            ]
        else:
            lines.append(tables.row(update.id, update.problem or "up to date", "", "", ""))
    number = sum(update.has_update is True for update in found)
    if number:
        hint = f"{number} of {len(found)} have an update: %gguf update ID"
    else:
        hint = "No updates." if all(update.has_update is False for update in found) else "No updates are known."
    return Table(_UPDATE_COLUMNS, lines, hint, folds=True)


def update_blocks(found: Sequence[ModelUpdate]) -> list[Block]:
    """The differences from the Hub, and a diff of each changed chat template."""
    changed = [(update.id, file.template_diff) for update in found for file in update.changes if file.template_diff]
    return [
        update_table(found),
        *(block for id_, diff in changed for block in (Line(f"Chat template of {id_}:"), Diff(diff))),
    ]


def _change(file: FileChange) -> str:
    if file.change != "metadata" or not file.template_diff:
        return _CHANGES[file.change]
    return "its chat template and other metadata changed" if file.changed_keys else "only its chat template changed"


# Earlier and unfinished downloads --------------------------------------------------------------------------------

_HISTORY_COLUMNS: Final[Columns[PastDownload]] = (
    (Column("Ended", importance=3), lambda past: formats.minute(past.ended_at_s)),
    (Column("Download", is_code=True), lambda past: str(past.id)),
    (Column("Outcome"), lambda past: Cell(rows.outcome(past).text, color=COLORS[rows.outcome(past).mood])),
    (Column("Size", is_number=True), lambda past: formats.size(past.total_bytes)),
    (Column("Took", is_number=True, importance=4), rows.time_taken),
    (Column("Rate", is_number=True, importance=5), lambda past: rows.rate(past.bytes_per_second)),
    (Column("Why", importance=6), lambda past: past.error),
)
_HISTORY_HINT: Final = "Download one again: %gguf queue ROW. Clear the list: %gguf history --clear"
_PARTIAL_COLUMNS: Final = (
    Column("Here", is_number=True),
    Column("Of", is_number=True, importance=2),
    Column("On disk", is_number=True, importance=4),
    Column("Last byte", importance=3),
    Column("In use"),
    Column("File", is_code=True),
)
_PARTIAL_HINT: Final = "Finish them: %gguf partials --queue. Delete one: %gguf partials --discard #ROW"


def earlier_list(past: Sequence[PastDownload]) -> Listing:
    """The ended downloads of this and other kernels, for the panel."""
    return _listing(
        "earlier", [*map(rows.past_row, past)], title="Earlier", actions=(rows.clear("earlier", "Earlier"),)
    )


def history_table(past: Sequence[PastDownload]) -> Table:
    """The ended downloads, newest first."""
    return Table(*tables.numbered("Row", _HISTORY_COLUMNS, past), _HISTORY_HINT, folds=True)


def partial_table(found: Sequence[Leftover]) -> Table:
    """Unfinished downloads in the models folder."""
    lines = [
        tables.row(
            formats.size(one.downloaded_bytes),
            formats.size(one.size_bytes),
            formats.size(one.disk_bytes),
            formats.minute(one.modified_s),
            "yes" if one.is_in_use else "",
            one.target,
        )
        for one in found
    ]
    return Table(_PARTIAL_COLUMNS, lines, _PARTIAL_HINT)


# Variants of a repository ----------------------------------------------------------------------------------------

_MEASURES: Final = ("{} bits", "KL divergence {}", "perplexity {}")
_COMPANIONS: Final = {"mmproj": "the vision projector (mmproj", "imatrix": "the importance matrix (imatrix"}


def offer(plan: RepoPlan) -> Listing:
    """The variants of a repository, with the size and fit of each."""
    best = plan_table.better_fit(plan)
    found = tuple(_variant_row(one, plan.context_tokens, is_best=one is best) for one in plan.variants)
    shown = plan.recommended or next(iter(plan.variants), None)
    companions = {one.kind: one.size_bytes for one in shown.companions} if shown else {}
    free = "" if plan.free_bytes is None else f"{formats.size(plan.free_bytes)} free on the disk"
    return Listing(
        view=View(id="offer", title=printable(plan.repo_id), rows=tuple(row.id for row in found), note=free),
        rows=found,
        link=plan.page_url or "",
        warning="" if plan.has_access or not plan.accept_url else "You have to accept its terms first.",
        warning_link=plan.accept_url or "",
        choices=tuple(Choice(kind, _choice(kind, size)) for kind, size in companions.items()),
        revision=plan.revision,
    )


def _variant_row(variant: VariantPlan, context_tokens: int | None, *, is_best: bool) -> Row:
    title = printable(variant.name or variant.key)
    fit = plan_table.fit_in_short(variant.placement, context_tokens)
    arguments = plan_table.own_arguments(variant.placement, context_tokens)
    rest = variant.bytes_to_go
    is_full = variant.free_bytes_after is not None and variant.free_bytes_after < 0
    details = (
        *(form.format(text) for form, text in zip(_MEASURES, plan_table.measures(variant), strict=True) if text),
        formats.plural(variant.shard_count, "file") if variant.shard_count > 1 else "",
        f"{formats.size(rest)} to download" if rest and rest != variant.size_bytes else "",
        f"llama-server {arguments}" if arguments not in ("", "-ngl 99") else "",
        printable(variant.why),
    )
    download = Action(
        "add",
        "Download",
        f"Download {title}",
        is_worded=True,
        is_primary=variant.is_recommended and not variant.scan_finding,
        is_off=not variant.is_complete,
    )
    return Row(
        id=str(variant.key),
        title=title,
        name=title,
        measure=formats.size(variant.size_bytes),
        lines=rows.facts(
            Fact("recommended" if variant.is_recommended else "best that fits" if is_best else "", "good"),
            Fact(_HERE if variant.is_present else "", "good"),
            "in the queue" if variant.is_queued else "",
            Fact("" if variant.is_complete else "incomplete on the Hub", "bad"),
            Fact("disk too full" if is_full else "", "bad"),
            Fact(f"{printable(variant.scan_finding)}: do not load it" if variant.scan_finding else "", "bad"),
            Fact(fit, plan_table.fit_look(variant.placement)[0]),
        ),
        note=" · ".join(filter(None, details)),
        actions=(download,),
    )


def _choice(kind: str, size_bytes: int | None) -> str:
    name = _COMPANIONS.get(kind, f"the companion file ({printable(kind)}")
    return f"Also download {name}, {formats.size(size_bytes)})"


# Repositories ----------------------------------------------------------------------------------------------------

_FITS: Final[dict[Fit, tuple[str, Fact]]] = {
    "fits": ("yes", Fact("fits", "good")),
    "tight": ("tightly", Fact("tight in memory", "warn")),
    "too large": ("no", Fact("too large for memory", "bad")),
    "unknown": ("", Fact("")),
}
_TASKS: Final = ("text-generation", "image-text-to-text", "feature-extraction", "automatic-speech-recognition")
FILTERS: Final = (
    Filter(
        "max_parameters",
        "Largest model",
        "any size",
        tuple((f"{one}000000000", f"up to {one} B") for one in (4, 8, 14, 32, 70)),
    ),
    Filter("task", "Task", "any task", tuple((task, task) for task in _TASKS)),
    Filter("licence", "Licence", "any licence"),
)
"""The filters of a search."""


def _likely_size(repo: RepoSummary) -> str:
    return "" if repo.likely_size_bytes is None else f"~{formats.size(repo.likely_size_bytes)}"


_SEARCH_COLUMNS: Final[Columns[RepoSummary]] = (
    (Column("Repository", is_code=True), lambda repo: repo.repo_id),
    (Column("Parameters", is_number=True, importance=4), lambda repo: formats.count(repo.parameter_count)),
    (Column("Size", is_number=True, importance=3), _likely_size),
    (Column("Fits", importance=2), lambda repo: _FITS[repo.fit][0]),
    (Column("Downloads", is_number=True, importance=6), lambda repo: formats.count(repo.downloads)),
    (Column("Likes", is_number=True, importance=7), lambda repo: formats.count(repo.likes)),
    (Column("Changed", importance=5), lambda repo: (repo.modified_at or formats.UNKNOWN)[:10]),
    (
        Column("Note"),
        lambda repo: ", ".join(filter(None, (_HERE if repo.is_here else "", "gated" if repo.gate else ""))),
    ),
)
_SEARCH_HINT: Final = "~: estimated for Q4_K_M. See the variants: %gguf plan ROW. Download: %gguf queue ROW"


def suggestions(found: Sequence[RepoSummary]) -> Listing:
    """Repositories that a search found, for the panel."""
    number = "1 repository found." if len(found) == 1 else f"{len(found)} repositories found."
    return _listing("suggestions", [*map(_suggestion_row, found)], news=number if found else "")


def _suggestion_row(repo: RepoSummary) -> Row:
    fit = _FITS[repo.fit][1]
    details = (
        "" if repo.parameter_count is None else f"{formats.count(repo.parameter_count)} parameters",
        "" if repo.downloads is None else f"{formats.count(repo.downloads)} downloads",
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


def search_table(found: Sequence[RepoSummary]) -> Table:
    """Repositories that a search found."""
    return Table(*tables.numbered("Row", _SEARCH_COLUMNS, found), _SEARCH_HINT)
