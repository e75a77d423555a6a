"""How a model fits a machine: the five classes, on common machines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.fit import FitClass, Gpu, MachineMemory, model_shape, place
from gglib_nb.domain.gguf_header import GgufHeader
from tests.support.headers import GPT_OSS_120B, LLAMA_3_8B, QWEN3_30B_A3B, attention, header

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
        ("8 GB", "8B Q8_0", "gpu_partly", "-ngl 27 -c 8192 -np 1"),
        ("8 GB", "30B-A3B Q4_K_M", "gpu_partly", "-ngl 99 --n-cpu-moe 33 -c 8192 -np 1"),
        ("8 GB", "30B-A3B Q8_0", "gpu_partly", "-ngl 99 --n-cpu-moe 41 -c 8192 -np 1"),
        ("8 GB", "gpt-oss-120b", "too_large", ""),
        ("2 x 24 GB", "8B Q8_0", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("2 x 24 GB", "30B-A3B Q8_0", "gpu", "-ngl 99 -c 8192 -np 1"),
        ("2 x 24 GB", "gpt-oss-120b", "gpu_partly", "-ngl 99 --n-cpu-moe 10 -ts 23,14 -c 8192 -np 1"),
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


def test_all_of_more_than_99_layers_are_requested() -> None:
    goliath = header("llama", 32_000, **attention(137, 8, 128, embedding_length=8192))
    workstation = MachineMemory(256 * GIB, (Gpu("H100", 80 * GIB),) * 2)

    found = place(model_shape(goliath, 70 * GB), workstation, 8192)

    assert found.arguments[:2] == ("-ngl", "138")


def test_a_model_in_part_on_the_gpu_has_its_output_there_first() -> None:
    """As llama.cpp counts for `-ngl`; of a large vocabulary it is larger than any layer."""
    gemma = header("gemma3", 262_144, **attention(62, 16, 128, embedding_length=5376, feed_forward_length=21_504))
    shape = model_shape(gemma, int(28.7 * GB))
    assert shape is not None

    found = place(shape, MachineMemory(64 * GIB, (Gpu("GPU", 16 * GIB),)), 8192)

    layers = (found.gpu_layers - 1) * shape.block_bytes
    assert found.fit == "gpu_partly"
    assert shape.first_bytes > 1.4 * GB
    assert found.gpu_bytes >= layers + shape.first_bytes


def test_a_projector_is_on_the_gpu_beside_a_part_of_the_model() -> None:
    alone, seeing = (place(model_shape(LLAMA_3_8B, 8 * GB, beside), MACHINES["8 GB"], 8192) for beside in (0, GB))

    assert seeing.gpu_layers <= alone.gpu_layers - 3
    assert seeing.ram_bytes > alone.ram_bytes


def test_embeddings_for_each_layer_are_in_ram_beside_a_model_on_the_gpu() -> None:
    """`per_layer_token_embd` of Gemma 3n E4B is a third of its parameters; llama.cpp loads it as an input."""
    widths = {"embedding_length": 2048, "attention__head_count": 8, "feed_forward_length": 16_384}
    keys = attention(35, 2, 256, **widths, embedding_length_per_layer_input=256, attention__sliding_window=512)
    shape = model_shape(header("gemma3n", 262_144, **keys), int(7.35 * GB))
    assert shape is not None

    found, shared = (place(shape, MACHINES[one], 8192) for one in ("8 GB", "64 GB Mac"))

    assert (found.fit, shared.fit, found.ram_bytes, shared.ram_bytes) == ("gpu", "gpu", shape.host_bytes, 0)
    assert 0.3 < found.ram_bytes / shape.weights_bytes < 0.35
    assert found.gpu_bytes + found.ram_bytes == shared.gpu_bytes


def test_embeddings_of_ngrams_are_in_ram_and_must_fit_there() -> None:
    layers = {"ple.head_vocab_sizes": (20_000_000,) * 16}
    keys = attention(48, 2, 256, embedding_length=2560, embedding_length_per_layer_input=160, expert_count=512)
    shape = model_shape(header("qwen4exp", 248_320, layers, **keys, expert_feed_forward_length=512), 100 * GB)
    assert shape is not None
    gpus = (Gpu("H100", 80 * GIB),) * 2

    places = [place(shape, MachineMemory(ram * GIB, gpus), 8192) for ram in (16, 64)]

    assert 25 * GB < shape.host_bytes < 40 * GB
    assert [(one.fit, one.ram_bytes) for one in places] == [("too_large", 0), ("gpu", shape.host_bytes)]


def test_the_experts_of_an_older_mixture_have_the_width_of_its_layers() -> None:
    keys = attention(32, 8, 128, feed_forward_length=14_336, expert_count=8)

    found = place(model_shape(header("llama", 32_000, **keys), int(26.4 * GB)), MACHINES["8 GB"], 8192)

    assert (found.fit, found.gpu_layers, found.cpu_expert_layers) == ("gpu_partly", 32, 25)


def test_a_context_that_gpu_and_ram_together_do_not_hold_is_shortened() -> None:
    llama_70b = header("llama", 128_256, **attention(80, 8, 128, embedding_length=8192, feed_forward_length=28_672))
    machine = MachineMemory(32 * GIB, (Gpu("GPU", 24 * GIB),))

    found = place(model_shape(llama_70b, int(42.5 * GB)), machine, 131_072)

    assert found.fit == "gpu_partly"
    assert 32_768 <= found.context_tokens < 65_536


def test_several_gpus_get_the_layers_of_a_mixture_by_their_size() -> None:
    """The first ones are small, as their experts are in RAM, and llama.cpp divides by the number of layers."""
    shape = model_shape(GPT_OSS_120B, int(63.4 * GB))
    assert shape is not None

    found = place(shape, MACHINES["2 x 24 GB"], 8192)

    small, large = shape.block_bytes - shape.expert_bytes, shape.block_bytes
    first = found.cpu_expert_layers * small + (found.gpu_shares[0] - found.cpu_expert_layers) * large
    second = (found.gpu_shares[1] - 1) * large + shape.first_bytes
    assert sum(found.gpu_shares) == found.layer_count + 1
    assert max(first, second) < 24 * GIB - GIB // 2


def test_a_gpu_smaller_than_its_drivers_share_takes_nothing_from_another() -> None:
    machine = MachineMemory(32 * GIB, (Gpu("GT 610", GIB // 2), Gpu("RTX 3090", 24 * GIB)))

    assert machine.gpu_budget_bytes > 23 * GIB


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_header_with_more_layers_than_any_model_makes_the_fit_unknown(architecture: str) -> None:
    shape = model_shape(header(architecture, block_count=2**40, embedding_length=64, attention__head_count=8), 10**12)

    assert place(shape, MachineMemory(64 * GIB, (Gpu("a", 24 * GIB),)), 8192).fit == "unknown"


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
