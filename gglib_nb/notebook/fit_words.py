"""How a model fits this machine, in words: for a cell of a table, for the panel, and as a sentence. Pure."""

from typing import Final, Literal

from gglib_nb.domain.fit import FitClass, Gpu, MachineMemory, Placement
from gglib_nb.domain.plan import RepoPlan, VariantPlan
from gglib_nb.notebook import formats

Mood = Literal["good", "near", "slow", "bad", "plain"]

_MOODS: Final[dict[FitClass, Mood]] = {
    "gpu": "good",
    "gpu_reduced": "near",
    "gpu_partly": "slow",
    "ram": "slow",
    "too_large": "bad",
    "unknown": "plain",
}
FIT_ORDER: Final[tuple[FitClass, ...]] = tuple(_MOODS)


def mood(placement: Placement) -> Mood:
    """How good that is; RAM is good where there is no GPU."""
    return "good" if placement.fit == "ram" and not placement.has_gpu else _MOODS[placement.fit]


def short(placement: Placement, asked_tokens: int | None) -> str:
    """For a cell: `GPU, up to 48k`, `GPU, q8_0 cache`, `28 of 32 layers`, `RAM`, `too large`; empty where unknown."""
    match placement.fit:
        case "gpu":
            longest = placement.longest_gpu_context
            return f"GPU, up to {tokens(longest)}" if longest is not None else "GPU"
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


def sentence(placement: Placement, asked_tokens: int | None) -> str:
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


def run_line(placement: Placement, file: str) -> str:
    """How llama-server loads it that way; empty where it cannot."""
    return " ".join(("llama-server -m", file, *placement.arguments)) if placement.arguments else ""


def own_arguments(placement: Placement, asked_tokens: int | None) -> str:
    """The arguments in which one variant differs from another: `-ngl 28`, `-ngl 99 -ctk q8_0 -ctv q8_0`."""
    same = f"-c {asked_tokens} ", "-fa on ", "-np 1 "
    text = "".join(f"{argument} " for argument in placement.arguments)
    for part in same:
        text = text.replace(part, "")
    return text.strip()


def better_fit(plan: RepoPlan) -> VariantPlan | None:
    """The best variant that fits entirely, where that is another one than the recommended; None otherwise."""
    best = plan.best_fit
    return None if best is None or best.is_recommended else best


def machine(memory: MachineMemory) -> list[str]:
    """`2 GPUs with 48.0 GiB (46.1 GiB free)` and `64.0 GiB RAM (12.3 GiB free)`."""
    parts = []
    if memory.gpus:
        what = _gpus(memory.gpus)
        parts.append(f"{formats.memory(memory.vram_bytes)} {what}{_free(memory.vram_free_bytes)}")
    return [*parts, f"{formats.memory(memory.ram_bytes)} RAM{_free(memory.ram_free_bytes)}"]


def tokens(count: int) -> str:
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
        *((f"{tokens(placement.context_tokens)} context",) if shorter else ()),
        *((f"{placement.cache_type} cache",) if placement.cache_type != "f16" else ()),
    )
