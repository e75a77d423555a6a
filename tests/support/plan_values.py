"""Plans of repositories for tests: what a test does not name has a plain default."""

from dataclasses import replace

from gglib_nb.domain.memory import MemoryEstimate
from gglib_nb.domain.plan import RepoPlan, VariantPlan, fit_of
from gglib_nb.domain.quantization import Quantization

GIB = 1024**3
RAM_BYTES, VRAM_BYTES, FREE_BYTES = 32 * GIB, 12 * GIB, 60 * GIB


def a_variant(key="Q4_K_M", size_gib=5.0, **fields):
    size = int(size_gib * GIB)
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
        ram_fit=fit_of(memory.total_bytes, RAM_BYTES),
        vram_fit=fit_of(memory.total_bytes, VRAM_BYTES),
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
        ram_bytes=RAM_BYTES,
        vram_bytes=VRAM_BYTES,
    )
    return replace(plain, **fields)
