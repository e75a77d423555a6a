"""How a model fits a machine: the five classes, on common machines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.fit import FitClass, Gpu, MachineMemory, model_shape, place
from gglib_nb.domain.gguf_header import GgufHeader
from tests.support.headers import GPT_OSS_120B, LLAMA_3_8B, QWEN3_30B_A3B, header

GB, GIB = 10**9, 1024**3
MACHINES = {
    "8 GB": MachineMemory(32 * GIB, (Gpu("RTX 4060", 8188 * 1024**2),)),
    "2 x 24 GB": MachineMemory(64 * GIB, (Gpu("RTX 3090", 24 * GIB),) * 2),
    "64 GB Mac": MachineMemory(64 * GIB, (Gpu("Apple", 48 * GIB, is_shared=True),)),
    "CPU only": MachineMemory(32 * GIB),
}
MODELS: dict[str, tuple[GgufHeader, float]] = {
    "8B Q4_K_M": (LLAMA_3_8B, 4.92),
    "8B Q6_K": (LLAMA_3_8B, 6.6),
    "8B Q8_0": (LLAMA_3_8B, 8.54),
    "30B-A3B Q4_K_M": (QWEN3_30B_A3B, 18.56),
    "30B-A3B Q8_0": (QWEN3_30B_A3B, 32.48),
    "gpt-oss-120b": (GPT_OSS_120B, 63.4),
}


@pytest.mark.parametrize(
    ("machine", "model", "fit", "arguments"),
    [
        ("8 GB", "8B Q4_K_M", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("8 GB", "8B Q6_K", "gpu_reduced", "-ngl 99 -c 8192 -ctk q8_0 -ctv q8_0 -fa on -np 1"),
        ("8 GB", "8B Q8_0", "gpu_partly", "-ngl 28 -c 8192 -np 1"),
        ("8 GB", "30B-A3B Q4_K_M", "gpu_partly", "-ngl 99 --n-cpu-moe 33 -c 8192 -np 1"),
        ("8 GB", "30B-A3B Q8_0", "gpu_partly", "-ngl 99 --n-cpu-moe 41 -c 8192 -np 1"),
        ("8 GB", "gpt-oss-120b", "too_large", ""),
        ("2 x 24 GB", "8B Q8_0", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("2 x 24 GB", "30B-A3B Q8_0", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("2 x 24 GB", "gpt-oss-120b", "gpu_partly", "-ngl 99 --n-cpu-moe 10 -c 8192 -np 1"),
        ("64 GB Mac", "8B Q8_0", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("64 GB Mac", "30B-A3B Q8_0", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("64 GB Mac", "gpt-oss-120b", "too_large", ""),
        ("CPU only", "8B Q8_0", "ram", "-c 8192 -np 1"),
        ("CPU only", "30B-A3B Q4_K_M", "ram", "-c 8192 -np 1"),
        ("CPU only", "gpt-oss-120b", "too_large", ""),
    ],
)
def test_a_model_is_placed_in_the_best_class_that_holds_it(
    machine: str, model: str, fit: FitClass, arguments: str
) -> None:
    head, size_gb = MODELS[model]

    found = place(model_shape(head, int(size_gb * GB)), MACHINES[machine], 8192)

    assert (found.fit, " ".join(found.arguments)) == (fit, arguments)


def test_the_largest_context_that_fits_the_gpu_is_reported() -> None:
    found = place(model_shape(LLAMA_3_8B, int(4.92 * GB)), MACHINES["8 GB"], 8192)

    assert found.longest_gpu_context == 19_200
    assert place(model_shape(LLAMA_3_8B, int(4.92 * GB)), MACHINES["8 GB"], 19_200).fit == "gpu"
    assert place(model_shape(LLAMA_3_8B, int(4.92 * GB)), MACHINES["8 GB"], 19_456).fit == "gpu_reduced"


def test_the_context_is_reduced_if_a_smaller_cache_is_not_enough() -> None:
    found = place(model_shape(LLAMA_3_8B, int(4.92 * GB)), MACHINES["8 GB"], 131_072)

    assert (found.fit, found.context_tokens, found.cache_type) == ("gpu_reduced", 19_200, "f16")


def test_a_requested_cache_type_is_in_the_arguments() -> None:
    found = place(model_shape(LLAMA_3_8B, int(4.92 * GB)), MACHINES["8 GB"], 16_384, "q4_0")

    assert (found.fit, found.arguments[4:9]) == ("gpu", ("-ctk", "q4_0", "-ctv", "q4_0", "-fa"))


def test_free_memory_decides_whether_a_model_fits_now() -> None:
    shape = model_shape(LLAMA_3_8B, int(4.92 * GB))
    busy = MachineMemory(32 * GIB, (Gpu("RTX 4060", 8 * GIB, 2 * GIB),), 30 * GIB)
    idle = MachineMemory(32 * GIB, (Gpu("RTX 4060", 8 * GIB, 7 * GIB),), 30 * GIB)

    assert [place(shape, one, 8192).fits_now for one in (busy, idle)] == [False, True]
    assert place(shape, busy, 8192).fit == "gpu"


def test_a_gpu_that_may_use_all_ram_leaves_some_to_the_system() -> None:
    jetson = MachineMemory(8 * GIB, (Gpu("Orin", 8 * GIB, is_shared=True),))

    found = place(model_shape(LLAMA_3_8B, int(6.6 * GB)), jetson, 8192)

    assert found.fit != "gpu"
    assert found.gpu_bytes <= jetson.ram_budget_bytes


def test_a_model_whose_layers_fit_the_gpu_without_its_output_is_not_placed_in_ram() -> None:
    found = place(model_shape(LLAMA_3_8B, int(7.3 * GB)), MACHINES["8 GB"], 8192)

    assert (found.fit, found.gpu_layers) == ("gpu_partly", 31)


def test_the_parts_of_a_model_on_and_beside_a_shared_gpu_share_the_free_memory() -> None:
    mac = MachineMemory(16 * GIB, (Gpu("Apple", 10 * GIB, 10 * GIB, is_shared=True),), 10 * GIB)

    found = place(model_shape(LLAMA_3_8B, int(11 * GB)), mac, 8192)

    assert (found.fit, found.fits_now) == ("gpu_partly", False)
    assert max(found.gpu_bytes, found.ram_bytes) < 10 * GIB < found.gpu_bytes + found.ram_bytes


def test_an_incomplete_header_makes_the_fit_unknown() -> None:
    assert place(model_shape(header("llama"), GB), MACHINES["8 GB"], 8192).fit == "unknown"


@given(
    size_gb=st.floats(0.1, 400),
    gpus=st.lists(st.integers(1, 200), max_size=4),
    ram_gib=st.integers(4, 512),
    context=st.integers(256, 131_072),
    model=st.sampled_from([LLAMA_3_8B, QWEN3_30B_A3B, GPT_OSS_120B]),
)
def test_a_placement_never_exceeds_the_memory(
    size_gb: float, gpus: list[int], ram_gib: int, context: int, model: GgufHeader
) -> None:
    machine = MachineMemory(ram_gib * GIB, tuple(Gpu("GPU", one * GIB) for one in gpus))

    found = place(model_shape(model, int(size_gb * GB)), machine, context)

    assert found.gpu_bytes <= max(0, machine.gpu_budget_bytes)
    assert found.ram_bytes <= machine.ram_budget_bytes
    assert 0 <= found.gpu_layers <= found.layer_count
    assert found.cpu_expert_layers <= found.layer_count
    assert found.context_tokens <= context
    assert bool(found.arguments) == (found.fit != "too_large")
