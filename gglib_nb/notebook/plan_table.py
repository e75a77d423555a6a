"""The variants of a repository and their fit, as a table: text, and HTML that sorts by a click if the page runs scripts.

Pure. A user with 25 variants asks which one to download, whether it fits, and how large it is. So the recommended one is named
above the table and its row is marked, the fit is a word and a bar in the same colour, and details are less visible.
"""

from dataclasses import replace
from html import escape
from typing import Final

from gglib_nb.domain.fit import FitClass, Gpu, MachineMemory, Placement
from gglib_nb.domain.plan import PlannedCompanion, RepoPlan, VariantPlan
from gglib_nb.domain.printable import printable
from gglib_nb.domain.quality import Quality
from gglib_nb.notebook import formats
from gglib_nb.notebook.messages import Mood
from gglib_nb.notebook.tables import BAD, GOOD, QUIET, SLOW, WARN, Cell, Column, Row, Table

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
    Column("llama-server", is_code=True, is_quiet=True, importance=7),
)
_MOST_NOTES: Final = 3
_WIDE: Final = 150  # columns of characters
_LOOKS: Final[dict[FitClass, tuple[Mood, str]]] = {
    "gpu": ("good", GOOD),
    "gpu_reduced": ("warn", WARN),
    "gpu_partly": ("warn", SLOW),
    "ram": ("warn", SLOW),
    "too_large": ("bad", BAD),
    "unknown": ("plain", ""),
}

# The script makes buttons of the heads: without scripts (GitHub, untrusted notebooks) nothing looks clickable.
_SORT_SCRIPT: Final = """<script>
(() => {
  const table = document.currentScript?.previousElementSibling?.querySelector("table");
  if (!table) return;
  const rank = (row, at) => {
    const { rank } = row.cells[at].dataset;
    return rank === undefined ? row.cells[at].textContent : Number(rank);
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = button.dataset.title = head.textContent;
    button.style.cssText = "all:unset;cursor:pointer;outline:revert";
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) {
        other.removeAttribute("aria-sort");
        other.lastChild.textContent = other.lastChild.dataset.title;
      }
      head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      button.textContent += turn === 1 ? " ▲" : " ▼";
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => turn * compare(rank(a, at), rank(b, at)));
      table.tBodies[0].append(...rows);
    });
    head.replaceChildren(button);
  });
})();
</script>"""


# The fit in words -----------------------------------------------------------------------------------------------


def fit_look(placement: Placement) -> tuple[Mood, str]:
    """Mood and colour of a fit; RAM is good on a machine without a GPU."""
    return _LOOKS["gpu" if placement.fit == "ram" and not placement.has_gpu else placement.fit]


def fit_in_short(placement: Placement, asked_tokens: int | None) -> str:
    """For a cell: `GPU, up to 48k`, `GPU, q8_0 cache`, `28 of 32 layers`, `RAM`, `too large`; empty where unknown."""
    match placement.fit:
        case "gpu":
            longest = placement.longest_gpu_context
            return f"GPU, up to {_tokens(longest)}" if longest is not None else "GPU"
        case "gpu_reduced":
            return ", ".join(("GPU", *_reductions(placement, asked_tokens)))
        case "gpu_partly" if placement.cpu_expert_layers:
            return f"GPU, experts of {placement.cpu_expert_layers} layers in RAM"
        case "gpu_partly":
            return f"{placement.gpu_layers} of {placement.layer_count} layers"
        case "ram":
            return ", ".join(("RAM", *_reductions(placement, asked_tokens)))
        case "too_large":
            return "too large"
        case "unknown":
            return ""


def _fit_sentence(placement: Placement, asked_tokens: int | None) -> str:
    """Behind a size, after a comma: `fits on the GPU`; empty where unknown."""
    less = " and ".join(_reductions(placement, asked_tokens))
    match placement.fit:
        case "gpu":
            return "fits on the GPU"
        case "gpu_reduced":
            return f"fits on the GPU with {less}"
        case "gpu_partly" if placement.cpu_expert_layers:
            return f"fits on the GPU with the experts of {placement.cpu_expert_layers} layers in RAM"
        case "gpu_partly":
            return f"fits partly on the GPU ({placement.gpu_layers} of {placement.layer_count} layers)"
        case "ram":
            return f"fits in RAM with {less}" if less else "fits in RAM"
        case "too_large":
            return "too large for this machine"
        case "unknown":
            return ""


def own_arguments(placement: Placement, asked_tokens: int | None) -> str:
    """The arguments in which one variant differs from another: `-ngl 28`, `-ngl 99 -ctk q8_0 -ctv q8_0`."""
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


def plan_text(plan: RepoPlan, width: int | None = None) -> str:
    """The plan as lines of text; where the terminal is narrow, its table leaves out what matters least."""
    shown = len(_COLUMNS) if (width or 0) >= _WIDE else -1  # the last column needs room
    rows = [replace(row, cells=row.cells[:shown]) for row in _rows(plan)]
    table = Table(_COLUMNS[:shown], rows).text(width)
    lines = [_title(plan), _machine(plan), *_warnings(plan), *_advice(plan), table, *_below(plan)]
    return "\n".join(printable(line) for block in lines if block for line in block.split("\n"))


def plan_html(plan: RepoPlan) -> str:
    """The plan as HTML; sorts by a click on a head where scripts may run."""
    parts = [f"<div><strong>{escape(printable(_title(plan)))}</strong></div>", _line(_machine(plan), QUIET)]
    parts += [_line(text, f"color:{BAD}") for text in _warnings(plan)]
    parts += [f"<div><strong>{escape(printable(text))}</strong></div>" for text in _advice(plan)]
    parts += [f'<div style="overflow-x:auto">{Table(_COLUMNS, _rows(plan)).html()}</div>', _SORT_SCRIPT]
    parts += [_line(text, QUIET) for text in _below(plan)]
    return f'<div style="line-height:1.4">{"".join(parts)}</div>'


def _line(text: str, style: str) -> str:
    return f'<div style="{style}">{escape(printable(text))}</div>' if text else ""


def _title(plan: RepoPlan) -> str:
    name = f"{plan.repo_id}@{plan.revision}" if plan.revision else plan.repo_id
    parts = [name, formats.plural(len(plan.variants), "variant"), "private" if plan.is_private else ""]
    return " · ".join(filter(None, parts))


def _machine(plan: RepoPlan) -> str:
    """Memory and disk; empty if unknown."""
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
            fits = _fit_sentence(variant.placement, plan.context_tokens)
            size = f"{formats.size(variant.size_bytes)}{f', {fits}' if fits else ''}."
            first = f"★ {variant.why} {size}{_how(plan, number, variant)}"
            return [first, *_better_fit_line(plan, variant), *_run(variant)]
    return ["No row is recommended. Choose one: %gguf queue ROW"]


def _how(plan: RepoPlan, number: int, variant: VariantPlan) -> str:
    """What to type to download a variant, after a space."""
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


def _rows(plan: RepoPlan) -> list[Row]:
    return [
        Row(_cells(number, variant, plan), variant.is_recommended) for number, variant in enumerate(plan.variants, 1)
    ]


def _cells(number: int, variant: VariantPlan, plan: RepoPlan) -> tuple[Cell, ...]:
    bits, fits, quality = variant.bits_per_weight, _fits(variant, plan), variant.quality or Quality()
    memory_bytes = max(plan.ram_bytes or 0, plan.vram_bytes or 0)
    return (
        Cell(str(number), number),
        Cell(variant.name or variant.key),
        Cell(formats.size(variant.size_bytes), variant.size_bytes),
        Cell("" if bits is None else f"{bits:.1f}", bits),
        _stated(quality.kl_divergence),
        _stated(quality.perplexity),
        _memory(variant, memory_bytes, fits.color),
        fits,
        _here(variant),
        _free_after(variant),
        Cell(_note(variant, plan), color=BAD if variant.missing else ""),
        Cell(own_arguments(variant.placement, plan.context_tokens)),
    )


def _stated(value: float | None) -> Cell:
    return Cell("" if value is None else f"{value:.4g}", value)


def _memory(variant: VariantPlan, memory_bytes: int, color: str) -> Cell:
    """What it needs, with a bar for its share of the largest memory of this machine."""
    memory = variant.memory
    if memory is None:
        return Cell("")
    about = "~" if memory.is_rough else ""
    bar = memory.total_bytes / memory_bytes if memory_bytes and color else None
    return Cell(about + formats.memory(memory.total_bytes), memory.total_bytes, color, bar)


def _fits(variant: VariantPlan, plan: RepoPlan) -> Cell:
    """Where it fits best, and with which reductions."""
    placement = variant.placement
    text = fit_in_short(placement, plan.context_tokens)
    return Cell(text, list(_LOOKS).index(placement.fit) if text else None, fit_look(placement)[1])


def _here(variant: VariantPlan) -> Cell:
    if variant.is_present:
        return Cell("✓ all of it", 1, GOOD)
    if variant.present_bytes:
        share = variant.present_bytes / variant.size_bytes if variant.size_bytes else None
        return Cell(f"{formats.percent(share)}, {formats.size(variant.bytes_to_go)} left", share)
    if variant.reusable_bytes and variant.size_bytes:  # in other files; at most, since their bytes were not compared
        share = variant.reusable_bytes / variant.size_bytes
        return Cell(f"up to {formats.percent(share)} on this disk", share)
    return Cell("")


def _free_after(variant: VariantPlan) -> Cell:
    free = variant.free_bytes_after
    return Cell(formats.UNKNOWN) if free is None else Cell(_left(free), free, BAD if free < 0 else "")


def _note(variant: VariantPlan, plan: RepoPlan) -> str:
    parts = [
        f"{printable(variant.scan_finding)}: do not load it" if variant.scan_finding else "",
        "★ recommended" if variant.is_recommended else "",
        "in the queue" if variant.is_queued else "",
    ]
    if variant.missing:
        parts.append(f"incomplete: missing {len(variant.missing)} of {variant.shard_count} files")
    elif variant.shard_count > 1:
        parts.append(f"{variant.shard_count} files")
    left_bytes = plan.storage_left_bytes
    if left_bytes is not None and not variant.is_present and (variant.size_bytes or 0) > left_bytes:
        parts.append("over the storage limit")
    seeing = variant.placement_with_projector
    if seeing is not None and seeing.fit != variant.placement.fit:
        parts.append(f"with its projector: {fit_in_short(seeing, plan.context_tokens)}")
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
    """What the estimates leave out, each once; after a space."""
    memories = [variant.memory for variant in plan.variants if variant.memory is not None]
    notes = list(dict.fromkeys(note for memory in memories for note in memory.notes))[:_MOST_NOTES]
    about = ["~: rough estimate."] if any(memory.is_rough for memory in memories) else []
    return "".join(f" {text}" for text in about + notes)
