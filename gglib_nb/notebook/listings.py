"""Models, earlier downloads, variants and repositories as lists of rows. Pure, like `rows`."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from gglib_nb.domain.history import PastDownload
from gglib_nb.domain.library import DiskUse
from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.model_summary import ModelState, ModelSummary
from gglib_nb.domain.plan import Fit, RepoPlan, VariantPlan
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import fit_words, formats
from gglib_nb.notebook.messages import Choice, Filter, Listing
from gglib_nb.notebook.rows import Action, Fact, Mood, Row, View, model_actions, past_row, plural, tilde_folder

_MODEL_MOODS: Final[dict[ModelState, Mood]] = {
    "verified": "good",
    "unverified": "warn",
    "changed": "warn",
    "wrong": "bad",
    "missing": "bad",
}
_ICONS: Final[dict[Mood, str]] = {"good": "completed", "warn": "cancelled", "bad": "failed", "plain": "models"}
_FITS: Final[dict[Fit, Fact]] = {
    "fits": Fact("fits", "good"),
    "tight": Fact("tight in memory", "warn"),
    "too large": Fact("too large for memory", "bad"),
    "unknown": Fact(""),
}
_FIT_MOODS: Final[dict[str, Mood]] = {"good": "good", "near": "warn", "slow": "warn", "bad": "bad", "plain": "plain"}
_COMPANIONS: Final = {"mmproj": "the vision projector (mmproj", "imatrix": "the importance matrix (imatrix"}
_DAY_S: Final = 86_400
_BILLIONS: Final = (4, 8, 14, 32, 70)
_TASKS: Final = ("text-generation", "image-text-to-text", "feature-extraction", "automatic-speech-recognition")

FILTERS: Final = (
    Filter(
        "max_parameters", "Largest model", "any size", tuple((f"{one}000000000", f"up to {one} B") for one in _BILLIONS)
    ),
    Filter("task", "Task", "any task", tuple((task, task) for task in _TASKS)),
    Filter("licence", "Licence", "any licence"),
)
"""What narrows a search."""


def model_list(models: Sequence[ModelSummary], use: DiskUse) -> Listing:
    """The models on this disk, and how much of it they take."""
    free = (
        "" if use.free_bytes is None else f" · {formats.size(use.free_bytes)} free in {printable(use.models_directory)}"
    )
    total = f"{plural(len(models), 'model')} · {formats.size(use.models_bytes)}{free}"
    rows = tuple(map(model_row, models))
    note = total if rows else "No models on this disk yet."
    return Listing(view=View(id="models", title="Models", rows=_ids(rows), note=note), rows=rows)


def model_row(model: ModelSummary) -> Row:
    """A model on this disk."""
    owner, _, title = model.repo_id.rpartition("/")
    mood = _MODEL_MOODS[model.state]
    facts = (
        Fact(formats.size(model.size_bytes)),
        Fact(plural(model.file_count, "file") if model.file_count > 1 else ""),
        Fact("" if model.parameter_count is None else f"{formats.count(model.parameter_count)} parameters"),
        Fact(printable(model.architecture or "")),
        Fact("" if model.context_length is None else f"{model.context_length} tokens"),
        Fact("with vision projector" if model.projector_path else ""),
        Fact(model.state, mood),
        Fact("a newer version is on the Hub" if model.has_update else "", "warn"),
    )
    actions = model_actions(model.id)
    if model.state in ("wrong", "missing", "changed"):
        actions = (Action("repair", "Repair", f"Repair {model.id}", is_worded=True), *actions)
    if model.has_update:
        actions = (Action("update", "Update", f"Update {model.id}", is_worded=True), *actions)
    return Row(
        id=model.id,
        status=model.state,
        title=printable(title),
        tag=str(model.quantization or ""),
        origin=printable(owner),
        name=printable(model.id),
        icon=_ICONS[mood],
        lines=_said(facts),
        path=model.path,
        folder=tilde_folder(model.path),
        actions=actions,
    )


def earlier_list(past: Sequence[PastDownload]) -> Listing:
    """Downloads that ended, in this and in other kernels."""
    rows = tuple(map(past_row, past))
    clear = Action("clear_earlier", "Clear", "Clear Earlier", is_worded=True)
    return Listing(view=View(id="earlier", title="Earlier", rows=_ids(rows), actions=(clear,)), rows=rows)


def offer(plan: RepoPlan) -> Listing:
    """What a repository has, and what each variant would take."""
    best = fit_words.better_fit(plan)
    rows = tuple(variant_row(one, plan.context_tokens, is_best=one is best) for one in plan.variants)
    free = "" if plan.free_bytes is None else f"{formats.size(plan.free_bytes)} free on the disk"
    shown = plan.recommended or next(iter(plan.variants), None)
    companions = {one.kind: one.size_bytes for one in shown.companions} if shown else {}
    return Listing(
        view=View(id="offer", title=printable(plan.repo_id), rows=_ids(rows), note=free),
        rows=rows,
        link=plan.page_url or "",
        warning="" if plan.has_access or not plan.accept_url else "You have to accept its terms first.",
        warning_link=plan.accept_url or "",
        choices=tuple(Choice(kind, _choice(kind, size)) for kind, size in companions.items()),
        revision=plan.revision,
    )


def variant_row(variant: VariantPlan, context_tokens: int | None, *, is_best: bool = False) -> Row:
    """A variant, what it would take, and how it fits this machine.

    Args:
        variant: As it was planned.
        context_tokens: What its memory was estimated for; None where it was not.
        is_best: Whether it is the best that fits entirely, and not the recommended one.
    """
    title = printable(variant.name or variant.key)
    fit = fit_words.short(variant.placement, context_tokens)
    arguments = fit_words.own_arguments(variant.placement, context_tokens)
    rest = variant.bytes_to_go
    facts = (
        Fact("recommended" if variant.is_recommended else "best that fits" if is_best else "", "good"),
        Fact("already downloaded" if variant.is_present else "", "good"),
        Fact("in the queue" if variant.is_queued else ""),
        Fact("" if variant.is_complete else "incomplete on the Hub", "bad"),
        Fact("disk too full" if variant.free_bytes_after is not None and variant.free_bytes_after < 0 else "", "bad"),
        Fact(f"{fit} on the GPU" if fit.endswith("layers") else fit, _FIT_MOODS[fit_words.mood(variant.placement)]),
    )
    details = (
        "" if variant.bits_per_weight is None else f"{variant.bits_per_weight:.1f} bits",
        plural(variant.shard_count, "file") if variant.shard_count > 1 else "",
        f"{formats.size(rest)} to download" if rest and rest != variant.size_bytes else "",
        f"llama-server {arguments}" if arguments not in ("", "-ngl 99") else "",
        printable(variant.why),
    )
    download = Action(
        "add",
        "Download",
        f"Download {title}",
        is_worded=True,
        is_primary=variant.is_recommended,
        is_off=not variant.is_complete,
    )
    return Row(
        id=str(variant.key),
        title=title,
        name=title,
        measure=formats.size(variant.size_bytes),
        lines=_said(facts),
        note=" · ".join(filter(None, details)),
        actions=(download,),
    )


def suggestions(found: Sequence[RepoSummary]) -> Listing:
    """Repositories that were found."""
    rows = tuple(suggestion_row(repo, time.time()) for repo in found)
    number = "1 repository found." if len(rows) == 1 else f"{len(rows)} repositories found."
    return Listing(view=View(id="suggestions", rows=_ids(rows)), rows=rows, news=number if rows else "")


def suggestion_row(repo: RepoSummary, now_s: float) -> Row:
    """A repository that was found.

    Args:
        repo: As the Hub describes it.
        now_s: Unix time.
    """
    about = "" if repo.likely_size_bytes is None else f"~{formats.size(repo.likely_size_bytes)}"
    fit = _FITS[repo.fit]
    facts = (
        Fact("already downloaded" if repo.is_here else "", "good"),
        Fact(", ".join(filter(None, (about, fit.text))), fit.mood),
        Fact("gated" if repo.gate is not None else "", "warn"),
    )
    details = (
        "" if repo.parameter_count is None else f"{formats.count(repo.parameter_count)} parameters",
        "" if repo.downloads is None else f"{formats.count(repo.downloads)} downloads",
        _age(repo.modified_at, now_s),
    )
    title = printable(repo.repo_id)
    return Row(
        id=repo.repo_id,
        title=title,
        name=title,
        lines=_said(facts),
        note=" · ".join(filter(None, details)),
        link=repo.page_url or "",
    )


def _said(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    return tuple(fact for fact in facts if fact.text)


def _ids(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(row.id for row in rows)


def _choice(kind: str, size_bytes: int | None) -> str:
    return (
        f"Also download {_COMPANIONS.get(kind, f'the companion file ({printable(kind)}')}, {formats.size(size_bytes)})"
    )


def _age(date: str | None, now_s: float) -> str:
    try:
        moment = datetime.fromisoformat(date or "")
    except ValueError:
        return ""
    days = (now_s - moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) / _DAY_S
    if days < 1:
        return "today"
    if days < 60:
        return f"{plural(int(days), 'day')} ago"
    return f"{int(days / 30.4)} months ago" if days < 730 else f"{int(days / 365)} years ago"
