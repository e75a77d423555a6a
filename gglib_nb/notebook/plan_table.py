"""The variants of a repository and their fit, as a table with explanations.

Pure. With 25 variants, a user needs to know which one to download, whether it fits, and how large it is. So the recommended variant
is named above the table and its row is marked, the fit is a word and a bar in the same colour, and details are less visible.
"""

from dataclasses import replace
from typing import Final

from gglib_nb.domain.fit import FitClass, Gpu, MachineMemory, Placement
from gglib_nb.domain.plan import PlannedCompanion, RepoPlan, VariantPlan
from gglib_nb.domain.quality import Quality
from gglib_nb.notebook import formats
from gglib_nb.notebook.messages import Mood
from gglib_nb.notebook.tables import BAD, GOOD, QUIET, SLOW, STRONG, WARN, Block, Cell, Column, Line, Row, Table, row

_COLUMNS: Final = (
    Column("Row", is_number=True, is_quiet=True),
    Column("Variant", is_code=True),
    Column("Size", is_number=True),
    Column("Bits/weight", is_number=True, is_quiet=True, importance=5),
    Column("KL divergence", is_number=True, importance=5),
    Column("Perplexity", is_number=True, importance=6),
    Column("Memory", is_number=True, importance=4),
    Column("Fits"),
    Column("On disk", importance=2),
    Column("Free after", is_number=True, is_quiet=True, importance=6),
    Column("Note", importance=3),
    Column("llama-server", is_code=True, is_quiet=True, importance=7, is_spare=True),
)
_MOST_NOTES: Final = 3
_LOOKS: Final[dict[FitClass, tuple[Mood, str]]] = {
    "gpu": ("good", GOOD),
    "gpu_reduced": ("warn", WARN),
    "gpu_partly": ("warn", SLOW),
    "ram": ("warn", SLOW),
    "too_large": ("bad", BAD),
    "unknown": ("plain", ""),
}


# The fit in words -----------------------------------------------------------------------------------------------


def fit_look(placement: Placement) -> tuple[Mood, str]:
    """Mood and colour of a fit; RAM is good on a machine without a GPU."""
    return _LOOKS["gpu" if placement.fit == "ram" and not placement.has_gpu else placement.fit]


def fit_in_short(placement: Placement, asked_tokens: int | None) -> str:
    """The text of a cell: `GPU, up to 48k`, `GPU, q8_0 cache`, `GPU, 28 of 32 layers`, `RAM`, `too large`; empty where unknown."""
    match placement.fit:
        case "gpu":
            longest = placement.longest_gpu_context
            return f"GPU, up to {_tokens(longest)}" if longest is not None else "GPU"
        case "gpu_reduced":
            return ", ".join(("GPU", *_reductions(placement, asked_tokens)))
        case "gpu_partly" if placement.cpu_expert_layers:
            return f"GPU, experts of {placement.cpu_expert_layers} layers in RAM"
        case "gpu_partly":
            return f"GPU, {placement.gpu_layers} of {placement.layer_count} layers"
        case "ram":
            return ", ".join(("RAM", *_reductions(placement, asked_tokens)))
        case "too_large":
            return "too large"
        case "unknown":
            return ""


def own_arguments(placement: Placement, asked_tokens: int | None) -> str:
    """The arguments that differ between variants: `-ngl 28`, `-ngl 99 -ctk q8_0 -ctv q8_0`."""
    text = "".join(f"{argument} " for argument in placement.arguments)
    for same in (f"-c {asked_tokens} ", "-fa on ", "-np 1 "):
        text = text.replace(same, "")
    return text.strip()


def better_fit(plan: RepoPlan) -> VariantPlan | None:
    """The best variant that fits entirely, if another one is recommended."""
    best = plan.best_fit
    return None if best is None or best.is_recommended else best


def _memory_parts(memory: MachineMemory) -> list[str]:
    """`48.0 GiB on 2 GPUs (46.1 GiB free)` and `64.0 GiB RAM (12.3 GiB free)`."""
    parts = []
    if memory.gpus:
        what = _gpus(memory.gpus)
        parts.append(f"{formats.memory(memory.vram_bytes)} {what}{_free(memory.vram_free_bytes)}")
    return [*parts, f"{formats.memory(memory.ram_bytes)} RAM{_free(memory.ram_free_bytes)}"]


def _tokens(count: int) -> str:
    """A context: `8k`, `500`."""
    return f"{count // 1024}k" if count >= 1024 else str(count)


def _gpus(gpus: tuple[Gpu, ...]) -> str:
    shared = " in the same RAM" if any(gpu.is_shared for gpu in gpus) else ""
    return f"GPU{shared}" if len(gpus) == 1 else f"on {len(gpus)} GPUs{shared}"


def _free(free_bytes: int | None) -> str:
    return "" if free_bytes is None else f" ({formats.memory(free_bytes)} free)"


def _reductions(placement: Placement, asked_tokens: int | None) -> tuple[str, ...]:
    shorter = asked_tokens is not None and placement.context_tokens < asked_tokens
    return (
        *((f"{_tokens(placement.context_tokens)} context",) if shorter else ()),
        *((f"{placement.cache_type} cache",) if placement.cache_type != "f16" else ()),
    )


# The table --------------------------------------------------------------------------------------------------------


def plan_blocks(plan: RepoPlan) -> list[Block]:
    """The output of `%gguf plan`."""
    return [
        Line(_title(plan), STRONG),
        Line(_machine(plan), QUIET),
        *(Line(text, f"color:{BAD}") for text in _warnings(plan)),
        *(Line(text, STRONG) for text in _advice(plan)),
        Table(_COLUMNS, [_row(number, variant, plan) for number, variant in enumerate(plan.variants, 1)], sorts=True),
        *(Line(text, QUIET) for text in _below(plan)),
    ]


def _title(plan: RepoPlan) -> str:
    name = f"{plan.repo_id}@{plan.revision}" if plan.revision else plan.repo_id
    parts = [name, formats.plural(len(plan.variants), "variant"), "private" if plan.is_private else ""]
    return " · ".join(filter(None, parts))


def _machine(plan: RepoPlan) -> str:
    """The memory and disk of this machine; empty if unknown."""
    parts = [] if plan.machine is None else _memory_parts(plan.machine)
    if plan.free_bytes is not None:
        after = f", {_left(plan.free_bytes - plan.queued_bytes)} after the queue" if plan.queued_bytes else ""
        parts.append(f"{formats.size(plan.free_bytes)} free on the disk{after}")
    if plan.storage_limit_bytes is not None and plan.storage_left_bytes is not None:
        left = formats.size(max(0, plan.storage_left_bytes))
        parts.append(f"{left} left of the storage limit of {formats.size(plan.storage_limit_bytes)}")
    return f"This machine: {' · '.join(parts)}" if parts else ""


def _left(size_bytes: int) -> str:
    return f"{formats.size(-size_bytes)} short" if size_bytes < 0 else formats.size(size_bytes)


def _warnings(plan: RepoPlan) -> list[str]:
    refused = [] if plan.has_access else [f"{plan.refusal} Until then, nothing can be downloaded."]
    found = [f"The Hub's security scan calls {path} {state}. Do not load it." for path, state in plan.unsafe_files]
    return refused + found


def _advice(plan: RepoPlan) -> list[str]:
    for number, variant in enumerate(plan.variants, 1):
        if variant.is_recommended:
            fits = fit_in_short(variant.placement, plan.context_tokens)
            label = "" if variant.placement.fit == "too_large" else "fits: "
            size = f"{formats.size(variant.size_bytes)}{f' ({label}{fits})' if fits else ''}."
            first = f"★ {variant.why} {size}{_how(plan, number, variant)}"
            return [first, *_better_fit_line(plan, variant), *_run(variant)]
    return ["No row is recommended. Choose one: %gguf queue ROW"]


def _how(plan: RepoPlan, number: int, variant: VariantPlan) -> str:
    """The command that downloads a variant, after a space."""
    if variant.scan_finding:
        return " Choose another row: the Hub's security scan warns of this one."
    if variant.is_queued:
        return " It is in the queue."
    if variant.is_present:
        return " You already have it."
    return f" Download it with: %gguf queue {number}" if plan.has_access else ""


def _better_fit_line(plan: RepoPlan, recommended: VariantPlan) -> list[str]:
    """The best variant that fits entirely, if another one is recommended."""
    best = better_fit(plan)
    if best is None:
        return []
    place = f"{formats.memory(plan.vram_bytes)} of GPU memory" if best.placement.fit == "gpu" else "RAM"
    number = plan.variants.index(best) + 1
    as_well = " as well" if recommended.placement.fit == best.placement.fit else " entirely"
    return [
        f"{best.name or best.key} ({formats.size(best.size_bytes)}) fits your {place}{as_well}: %gguf queue {number}"
    ]


def _run(variant: VariantPlan) -> list[str]:
    if not variant.placement.arguments:
        return []
    now = " Less than that is free now." if variant.placement.fits_now is False else ""
    return [f"Run it with: llama-server -m FILE {' '.join(variant.placement.arguments)}{now}"]


def _row(number: int, variant: VariantPlan, plan: RepoPlan) -> Row:
    color = fit_look(variant.placement)[1]
    fit = variant.placement.fit
    cells = row(
        Cell(str(number), rank=number),
        variant.name or variant.key,
        Cell(formats.size(variant.size_bytes), rank=variant.size_bytes),
        *(Cell(text, rank=float(text) if text else None) for text in measures(variant)),
        _memory(variant, max(plan.ram_bytes or 0, plan.vram_bytes or 0), color),
        Cell(fit_in_short(variant.placement, plan.context_tokens), color, rank=list(_LOOKS).index(fit)),
        _here(variant),
        _free_after(variant),
        Cell(_note(variant, plan), BAD if variant.missing else ""),
        own_arguments(variant.placement, plan.context_tokens),
    )
    return replace(cells, is_marked=variant.is_recommended)


def measures(variant: VariantPlan) -> tuple[str, str, str]:
    """Bits per weight, KL divergence and perplexity; empty where unknown."""
    bits, quality = variant.bits_per_weight, variant.quality or Quality()
    stated = (quality.kl_divergence, quality.perplexity)
    divergence, perplexity = ("" if value is None else f"{value:.4g}" for value in stated)
    return "" if bits is None else f"{bits:.1f}", divergence, perplexity


def _memory(variant: VariantPlan, memory_bytes: int, color: str) -> Cell:
    """The required memory, with a bar for its share of this machine's largest memory."""
    memory = variant.memory
    if memory is None:
        return Cell("")
    about = "~" if memory.is_rough else ""
    bar = memory.total_bytes / memory_bytes if memory_bytes and color else None
    return Cell(about + formats.memory(memory.total_bytes), color, bar, memory.total_bytes)


def _here(variant: VariantPlan) -> Cell:
    if variant.is_present:
        return Cell("✓ all of it", GOOD, rank=1)
    if variant.present_bytes:
        share = variant.present_bytes / variant.size_bytes if variant.size_bytes else None
        return Cell(f"{formats.percent(share)}, {formats.size(variant.bytes_to_go)} left", rank=share)
    if variant.reusable_bytes and variant.size_bytes:  # in other files; an upper bound: not compared
        share = variant.reusable_bytes / variant.size_bytes
        return Cell(f"up to {formats.percent(share)} on this disk", rank=share)
    return Cell("")


def _free_after(variant: VariantPlan) -> Cell:
    free = variant.free_bytes_after
    return Cell(formats.UNKNOWN) if free is None else Cell(_left(free), BAD if free < 0 else "", rank=free)


def _note(variant: VariantPlan, plan: RepoPlan) -> str:
    parts = [
        f"{variant.scan_finding}: do not load it" if variant.scan_finding else "",
        "★ recommended" if variant.is_recommended else "",
        "in the queue" if variant.is_queued else "",
    ]
    if variant.missing:
        parts.append(f"{len(variant.missing)} of {variant.shard_count} files missing")
    elif variant.shard_count > 1:
        parts.append(f"{variant.shard_count} files")
    left_bytes = plan.storage_left_bytes
    if left_bytes is not None and not variant.is_present and (variant.size_bytes or 0) > left_bytes:
        parts.append("over the storage limit")
    seeing = variant.placement_with_projector
    if seeing is not None and seeing.fit != variant.placement.fit:
        parts.append(f"with mmproj: {fit_in_short(seeing, plan.context_tokens)}")
    return ", ".join(part for part in parts if part)


def _below(plan: RepoPlan) -> list[str]:
    offered = dict.fromkeys(companion for variant in plan.variants for companion in variant.companions)
    lines = [_companion_line(companion) for companion in offered]
    if plan.context_tokens is not None:
        lines.append(
            f"Memory is estimated for {plan.context_tokens} tokens of context in one conversation; --context and --kv change that."
            f"{_caveats(plan)}"
        )
    elif plan.has_access:
        lines.append("Memory is unknown: the model's GGUF header could not be read.")
    if any(variant.quality for variant in plan.variants):
        lines.append("KL divergence and perplexity are as the publisher states them; lower is better.")
    return lines


def _companion_line(companion: PlannedCompanion) -> str:
    size = formats.size(companion.size_bytes)
    return f"With its {companion.kind} ({companion.path}, {size}): %gguf queue ROW --with {companion.kind}"


def _caveats(plan: RepoPlan) -> str:
    """What the estimates exclude, without duplicates; after a space."""
    memories = [variant.memory for variant in plan.variants if variant.memory is not None]
    notes = list(dict.fromkeys(note for memory in memories for note in memory.notes))[:_MOST_NOTES]
    about = ["~: rough estimate."] if any(memory.is_rough for memory in memories) else []
    return "".join(f" {text}" for text in about + notes)
