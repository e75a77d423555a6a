"""The variants of a repository and their fit: a table with explanations, and a list for the panel.

Pure. With 25 variants, a user needs to know which one to download, whether it fits, and how large it is. So the
recommended variant is named above the table and its row is marked, the fit is a word and a bar in the same colour, and
details are less visible.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from gglib_nb.domain import units
from gglib_nb.domain.fit import FitClass, Placement
from gglib_nb.domain.library import SEE_DELETABLE
from gglib_nb.domain.plan import BAD_FINDINGS, RepoPlan, VariantPlan
from gglib_nb.domain.quality import Quality
from gglib_nb.domain.text import printable
from gglib_nb.notebook import messages, rows
from gglib_nb.notebook.messages import Action, Fact, Listing, Mood
from gglib_nb.notebook.tables import COLORS, QUIET, STRONG, Block, Column, Line, Table

_MOST_NOTES: Final = 3
_MOODS: Final[dict[FitClass, Mood]] = {
    "gpu": "good", "gpu_reduced": "warn", "gpu_partly": "slow", "ram": "slow", "too_large": "bad", "unknown": "plain",
}  # fmt: skip
_COMPANIONS: Final = {"mmproj": "vision projector", "imatrix": "importance matrix"}


# The fit in words -----------------------------------------------------------------------------------------------


def _fit(placement: Placement, asked_tokens: int | None) -> Fact:
    """Such as `GPU, up to 48k`, `GPU, q8_0 cache`, `GPU, 28 of 32 layers`, `RAM`, `too large`; empty where unknown."""
    reductions = ""
    if asked_tokens is not None and placement.context_tokens < asked_tokens:
        reductions = f", {_tokens(placement.context_tokens)} context"
    if placement.cache_type != "f16":
        reductions += f", {placement.cache_type} cache"
    longest = placement.longest_gpu_context
    partly = f"GPU, {placement.gpu_layers} of {placement.layer_count} layers"
    if placement.cpu_expert_layers:
        partly = f"GPU, experts of {units.plural(placement.cpu_expert_layers, 'layer')} in RAM"
    texts: dict[FitClass, str] = {
        "gpu": "GPU" if longest is None or longest < placement.context_tokens else f"GPU, up to {_tokens(longest)}",
        "gpu_reduced": f"GPU{reductions}",
        "gpu_partly": f"{partly}{reductions}",
        "ram": f"RAM{reductions}",
        "too_large": "too large",
        "unknown": "",
    }
    # RAM is good on a machine without a GPU.
    mood = _MOODS["gpu" if placement.fit == "ram" and not placement.has_gpu else placement.fit]
    return Fact(texts[placement.fit], mood)


def _tokens(count: int) -> str:
    """A context as users type it, rounded down: `8k`, `500`."""
    return f"{count // 1000}k" if count >= 1000 else str(count)


def _own_arguments(plan: RepoPlan, variant: VariantPlan) -> str:
    """The arguments that differ between variants: `-ngl 28`, `-ngl 99 -ctk q8_0 -ctv q8_0`."""
    text = "".join(f"{argument} " for argument in variant.placement.arguments)
    for same in (f"-c {plan.context_tokens} ", "-fa on ", "-np 1 "):
        text = text.replace(same, "")
    return text.strip()


def _bits(variant: VariantPlan) -> str:
    return "" if variant.bits_per_weight is None else f"{variant.bits_per_weight:.1f}"


# The table --------------------------------------------------------------------------------------------------------


def plan_blocks(plan: RepoPlan) -> list[Block]:
    """The output of `%gguf plan`."""
    name = f"{plan.repo_id}@{plan.revision}" if plan.revision else plan.repo_id
    title = [name, units.plural(len(plan.variants), "variant"), *(["private"] if plan.is_private else [])]
    warnings = [] if plan.has_access else [f"{plan.refusal} Until then, nothing can be downloaded."]
    warnings += [rows.scan_warning(path, state) for path, state in plan.unsafe_files]
    marked = [at for at, variant in enumerate(plan.variants) if variant.is_recommended]
    return [
        Line(" · ".join(title), STRONG),
        Line(_machine(plan), QUIET),
        *(Line(text, f"color:{COLORS['bad']}") for text in warnings),
        *(Line(text, STRONG) for text in _advice(plan)),
        Table(_columns(plan), plan.variants, number="Row", marked=marked),
        *(Line(text, QUIET) for text in _below(plan)),
    ]


def _machine(plan: RepoPlan) -> str:
    """The memory and disk of this machine, such as `64.0 GiB RAM (12.3 GiB free)`; what is unknown is left out."""
    memory = plan.machine
    kind = "GPU" if len(memory.gpus) == 1 else f"on {len(memory.gpus)} GPUs"
    shared = " in the same RAM" if any(gpu.is_shared for gpu in memory.gpus) else ""
    gpus = [(memory.vram_bytes, f"{kind}{shared}", memory.vram_free_bytes)] if memory.gpus else []
    parts = [
        f"{units.memory(whole_bytes)} {kind}{'' if free_bytes is None else f' ({units.memory(free_bytes)} free)'}"
        for whole_bytes, kind, free_bytes in (*gpus, (memory.ram_bytes, "RAM", memory.ram_free_bytes))
    ]
    if plan.free_bytes is not None:
        after = f", {_left(plan.free_bytes - plan.queued_bytes)} after the queue" if plan.queued_bytes else ""
        parts.append(f"{units.size(plan.free_bytes)} free on the disk{after}")
    if plan.storage_limit_bytes is not None and plan.storage_left_bytes is not None:
        left = units.size(max(0, plan.storage_left_bytes))
        parts.append(f"{left} left of the storage limit of {units.size(plan.storage_limit_bytes)}")
    return f"This machine: {' · '.join(parts)}"


def _left(size_bytes: int) -> str:
    return f"{units.size(-size_bytes)} short" if size_bytes < 0 else units.size(size_bytes)


def _advice(plan: RepoPlan) -> Iterator[str]:
    """The recommended variant, the best one that fits if it is another, and how to run the recommended one."""
    number, variant = next(((at, one) for at, one in enumerate(plan.variants, 1) if one.is_recommended), (0, None))
    if variant is None:
        yield "No row is recommended. Choose one: %gguf queue ROW"
        return
    placement = variant.placement
    fit = _fit(placement, plan.context_tokens).text
    label = "" if placement.fit == "too_large" else "fits: "
    size = f"{units.size(variant.size_bytes)}{f' ({label}{fit})' if fit else ''}."
    yield f"★ {variant.why} {size}{_how(plan, number, variant)}"
    if (best := plan.best_fit) is not None and not best.is_recommended:
        place = f"{units.memory(plan.machine.vram_bytes)} of GPU memory" if best.placement.fit == "gpu" else "RAM"
        ways = [(one.fit, one.context_tokens) for one in (placement, best.placement)]
        where = f" your {place} {'as well' if ways[0] == ways[1] else 'entirely'}"
        if ways[1] not in (("gpu", plan.context_tokens), ("ram", plan.context_tokens)):
            where = f": {_fit(best.placement, plan.context_tokens).text}"
        name, row_number = best.name or best.key, plan.variants.index(best) + 1
        yield f"{name} ({units.size(best.size_bytes)}) fits{where}.{_how(plan, row_number, best)}"
    if placement.arguments:
        yield f"Run it with: llama-server -m FILE {' '.join(placement.arguments)}"
        if placement.fits_now is False:
            yield "That needs more memory than is free now."


def _how(plan: RepoPlan, number: int, variant: VariantPlan) -> str:
    """The command that downloads a variant, or why it cannot be downloaded, after a space."""
    if variant.scan_finding in BAD_FINDINGS:
        return " Choose another row: the Hub's security scan warns of this one."
    if variant.is_queued:
        return " It is in the queue."
    if variant.is_present:
        return " You already have it."
    if not plan.has_access:
        return ""
    if _is_over_limit(variant, plan):
        return f" It would exceed the storage limit. {SEE_DELETABLE}"
    if variant.free_bytes_after is not None and variant.free_bytes_after < 0:
        return f" The disk lacks {units.size(-variant.free_bytes_after)} for it. {SEE_DELETABLE}"
    return f" Download it with: %gguf queue {number}"


def _is_over_limit(variant: VariantPlan, plan: RepoPlan) -> bool:
    left_bytes, is_counted = plan.storage_left_bytes, variant.is_present or variant.is_queued
    return left_bytes is not None and not is_counted and (variant.size_bytes or 0) > left_bytes


def _columns(plan: RepoPlan) -> tuple[Column, ...]:
    tokens, most_bytes = plan.context_tokens, max(plan.machine.ram_bytes, plan.machine.vram_bytes or 0)

    def memory(one: VariantPlan) -> Fact:
        rough = "~" if one.memory and one.memory.is_rough else ""
        text = f"{rough}{units.memory(one.memory.total_bytes)}" if one.memory else ""
        return Fact(text, _fit(one.placement, tokens).mood)

    def share(one: VariantPlan) -> float | None:
        return one.memory.total_bytes / most_bytes if one.memory and most_bytes else None

    def free(one: VariantPlan) -> str | Fact:
        left_bytes = one.free_bytes_after
        return units.UNKNOWN if left_bytes is None else Fact(_left(left_bytes), "bad" if left_bytes < 0 else "plain")

    def note(one: VariantPlan) -> Fact:
        star = ["★ recommended"] if one.is_recommended and len(plan.variants) > 1 else []
        return Fact(", ".join([*star, *(fact.text for fact in _remarks(one, plan))]), "bad" if one.missing else "plain")

    def stated(name: str, one: VariantPlan) -> str:
        value = getattr(one.quality, name, None)
        return "" if value is None else units.figure(value, 4)

    number = partial(Column, is_number=True)
    return (
        Column("Variant", lambda one: one.name or one.key, is_code=True),
        number("Size", lambda one: units.size(one.size_bytes), rank=lambda one: one.size_bytes),
        number("Bits/weight", _bits, is_quiet=True, importance=5),
        number(
            "KL divergence", partial(stated, "kl_divergence"), rank=lambda one: one.quality.kl_divergence, importance=5
        ),
        number("Perplexity", partial(stated, "perplexity"), rank=lambda one: one.quality.perplexity, importance=6),
        number("Memory", memory, share, rank=lambda one: one.memory.total_bytes, importance=4),
        Column("Fits", lambda one: _fit(one.placement, tokens), rank=lambda one: list(_MOODS).index(one.placement.fit)),
        Column("On disk", _here, rank=lambda one: one.present_bytes / (one.size_bytes or 1), importance=2),
        number("Free after", free, rank=lambda one: one.free_bytes_after, is_quiet=True, importance=6),
        Column("Note", note, importance=3),
        Column("llama-server", partial(_own_arguments, plan), is_code=True, is_quiet=True, importance=7, is_spare=True),
    )


def _here(variant: VariantPlan) -> str | Fact:
    if variant.is_present:
        return Fact("✓ all of it", "good")
    whole = variant.size_bytes
    if variant.present_bytes:
        share = units.percent(variant.present_bytes / whole if whole else None)
        return f"{share}, {units.size(variant.bytes_to_go)} left"
    # In other files; an upper bound: not compared.
    reusable = variant.reusable_bytes
    return f"up to {units.percent(reusable / whole)} on this disk" if reusable and whole else ""


def _remarks(variant: VariantPlan, plan: RepoPlan) -> tuple[Fact, ...]:
    """What else to know about a variant, in the table and in the panel."""
    number, seeing = variant.shard_count, variant.placement_with_projector
    changes_fit = seeing is not None and seeing.fit != variant.placement.fit
    return rows.facts(
        rows.scan_fact(variant.scan_finding),
        "in the queue" if variant.is_queued else "",
        Fact(f"{len(variant.missing)} of {number} files missing" if variant.missing else "", "bad"),
        f"{number} files" if number > 1 and not variant.missing else "",
        Fact("for big-endian machines" if variant.is_big_endian else "", "warn"),
        Fact("over the storage limit" if _is_over_limit(variant, plan) else "", "warn"),
        f"with mmproj: {_fit(seeing, plan.context_tokens).text}" if seeing and changes_fit else "",
    )


def _below(plan: RepoPlan) -> Iterator[str]:
    for one in dict.fromkeys(companion for variant in plan.variants for companion in variant.companions):
        size = units.size(one.size_bytes)
        yield f"With its {one.kind} ({one.path}, {size}): %gguf queue ROW --with {one.kind}"
    if plan.context_tokens is not None:
        memories = [variant.memory for variant in plan.variants if variant.memory is not None]
        rough = ["~: rough estimate."] if any(memory.is_rough for memory in memories) else []
        notes = list(dict.fromkeys(note for memory in memories for note in memory.notes))[:_MOST_NOTES]
        tokens = units.plural(plan.context_tokens, "token")
        estimate = f"Memory is estimated for {tokens} of context in one conversation;"
        yield " ".join([estimate, "--context and --kv change that.", *rough, *notes])
    elif plan.has_access:
        yield "Memory is unknown: the model's GGUF header could not be read."
    if any(variant.quality for variant in plan.variants):
        yield "KL divergence and perplexity are as the publisher states them; lower is better."


# The panel --------------------------------------------------------------------------------------------------------


def offer(plan: RepoPlan) -> Listing:
    """The variants of a repository, with the size and fit of each."""
    shown = plan.recommended or next(iter(plan.variants), None)
    companions = {one.kind: units.size(one.size_bytes) for one in shown.companions} if shown else {}
    free = "" if plan.free_bytes is None else f"{units.size(plan.free_bytes)} free on the disk"
    return Listing(
        title=printable(plan.repo_id),
        rows=tuple(_panel_row(one, plan) for one in plan.variants),
        note=free,
        link=plan.page_url or "",
        warning=printable(plan.refusal),
        warning_link=plan.accept_url or "",
        choices=tuple(
            Action(kind, f"Also download the {_COMPANIONS.get(kind, 'companion file')} ({printable(kind)}, {size})")
            for kind, size in companions.items()
        ),
        revision=plan.revision,
    )


def _panel_row(variant: VariantPlan, plan: RepoPlan) -> messages.Row:
    title = printable(variant.name or variant.key)
    arguments = _own_arguments(plan, variant)
    rest = variant.bytes_to_go
    is_full = variant.free_bytes_after is not None and variant.free_bytes_after < 0
    is_best = variant is plan.best_fit and not variant.is_recommended
    stands_out = variant.is_recommended and len(plan.variants) > 1  # the only one may have been requested
    is_primary = variant.is_recommended and variant.scan_finding not in BAD_FINDINGS
    quality = variant.quality or Quality()
    measures = {"KL divergence": quality.kl_divergence, "perplexity": quality.perplexity}
    details = (
        f"{_bits(variant)} bits" if variant.bits_per_weight else "",
        *(f"{name} {units.figure(value, 4)}" for name, value in measures.items() if value is not None),
        f"{units.size(rest)} to download" if rest and rest != variant.size_bytes else "",
        f"llama-server {arguments}" if arguments not in ("", "-ngl 99") else "",
        printable(variant.why),
    )
    return messages.Row(
        id=str(variant.key),
        title=title,
        name=title,
        measure=units.size(variant.size_bytes),
        lines=rows.facts(
            Fact("recommended" if stands_out else "best that fits" if is_best else "", "good"),
            Fact("already downloaded" if variant.is_present else "", "good"),
            *_remarks(variant, plan),
            Fact("disk too full" if is_full else "", "bad"),
            _fit(variant.placement, plan.context_tokens),
        ),
        note=" · ".join(filter(None, details)),
        actions=(Action("add", "Download", is_worded=True, is_primary=is_primary, is_off=not variant.is_complete),),
    )
