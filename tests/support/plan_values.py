"""Plans of repositories for tests, with plain defaults."""

from dataclasses import replace
from typing import Any

from gglib_nb.domain.companions import Companion
from gglib_nb.domain.fit import Gpu, MachineMemory, Placement
from gglib_nb.domain.memory import MemoryEstimate
from gglib_nb.domain.names import Quantization
from gglib_nb.domain.plan import RepoPlan, VariantPlan
from gglib_nb.notebook.plan_table import plan_blocks
from gglib_nb.notebook.tables import blocks_html, blocks_text

GB, GIB = 10**9, 1024**3
RAM_BYTES, VRAM_BYTES, FREE_BYTES = 32 * GIB, 12 * GIB, 60 * GB


def machine(ram_bytes: int, vram_bytes: int | None = None) -> MachineMemory:
    return MachineMemory(ram_bytes, () if vram_bytes is None else (Gpu("GPU", vram_bytes),))


def placed(needed_bytes: int, ram_bytes: int, vram_bytes: int) -> Placement:
    """The placement of a model of 32 layers and this size."""
    if needed_bytes <= vram_bytes:
        return Placement("gpu", 32, 32, 0, 8192, "f16", needed_bytes, has_gpu=True)
    if needed_bytes <= vram_bytes + ram_bytes:
        layers = 32 * vram_bytes // needed_bytes
        rest = needed_bytes - vram_bytes
        return Placement("gpu_partly", layers, 32, 0, 8192, "f16", vram_bytes, rest, has_gpu=True)
    return Placement("too_large", 0, 32, 0, 8192, has_gpu=True)


def a_variant(key="Q4_K_M", size_gb=5.0, **fields):
    size = int(size_gb * GB)
    memory = MemoryEstimate(size, GIB, GIB // 2, is_rough=False)
    plain = VariantPlan(
        key=key,
        label=key,
        size_bytes=size,
        shard_count=1,
        bits_per_weight=Quantization(key).bits_per_weight,
        present_bytes=0,
        free_bytes_after=FREE_BYTES - size,
        memory=memory,
        placement=placed(memory.total_bytes, RAM_BYTES, VRAM_BYTES),
    )
    return replace(plain, **fields)


def a_plan(*variants, **fields):
    plain = RepoPlan(
        repo_id="owner/model-GGUF",
        revision=None,
        commit_sha="c" * 40,
        gate=None,
        has_access=True,
        accept_url=None,
        is_private=False,
        variants=variants,
        companions=(),
        context_tokens=8192,
        models_directory="/models",
        free_bytes=FREE_BYTES,
        queued_bytes=0,
        machine=machine(RAM_BYTES, VRAM_BYTES),
    )
    return replace(plain, **fields)


LABELS_OF_25 = (
    *(
        "IQ1_S",
        "IQ1_M",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ2_S",
        "IQ2_M",
        "Q2_K",
        "Q2_K_L",
        "IQ3_XXS",
        "IQ3_XS",
        "IQ3_M",
        "Q3_K_S",
    ),
    *(
        "Q3_K_M",
        "Q3_K_L",
        "IQ4_XS",
        "IQ4_NL",
        "Q4_0",
        "Q4_K_S",
        "Q4_K_M",
        "Q5_K_S",
        "Q5_K_M",
        "Q6_K",
        "Q8_0",
        "F16",
        "F32",
    ),
)
_PARAMETERS = 8_030_261_248
_RAM, _VRAM, _FREE, _QUEUED = 16 * GIB, 8 * GIB, 30 * GB, 4 * GB
_MMPROJ = Companion("mmproj-model-8B-f16.gguf", "mmproj", 815 * 10**6)


def a_plan_of_25():
    """The plan of a model of 8 billion parameters in 25 quantizations, with a projector."""
    variants = sorted(map(_of_8b, LABELS_OF_25), key=lambda variant: variant.size_bytes or 0)
    return a_plan(
        *variants,
        repo_id="maker/model-8B-it-GGUF",
        companions=(_MMPROJ,),
        free_bytes=_FREE,
        queued_bytes=_QUEUED,
        machine=machine(_RAM, _VRAM),
    )


def _of_8b(label: str) -> VariantPlan:
    bits_per_weight = Quantization(label).bits_per_weight
    assert bits_per_weight is not None
    bits = bits_per_weight * (1.03 if label.endswith("_L") else 1)
    size = int(_PARAMETERS * bits / 8)
    memory = MemoryEstimate(size, GIB, 295 * 1024**2, is_rough=False)
    special: dict[str, dict[str, Any]] = {
        "Q4_K_M": {"is_recommended": True, "why": "Q4_K_M is the usual choice."},
        "Q2_K": {"present_bytes": size},
        "Q6_K": {"present_bytes": size * 3 // 10},
        "Q8_0": {"is_queued": True},
        "F32": {"shard_count": 3, "missing": (2,)},
        "F16": {"shard_count": 2},
    }
    fields = special.get(label, {})
    left = 0 if label == "Q8_0" else size - fields.get("present_bytes", 0)
    return VariantPlan(
        key=label,
        label=label,
        size_bytes=size,
        bits_per_weight=bits,
        free_bytes_after=_FREE - _QUEUED - left,
        memory=memory,
        placement=placed(memory.total_bytes, _RAM, _VRAM),
        companions=(_MMPROJ,),
        **{"shard_count": 1, "present_bytes": 0} | fields,
    )


def plan_text(plan: RepoPlan, width: int | None = None) -> str:
    return blocks_text(plan_blocks(plan), width)


def plan_html(plan: RepoPlan) -> str:
    return blocks_html(plan_blocks(plan))
