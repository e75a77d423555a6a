"""The memory estimate compared with what llama.cpp prints for known models, and its notes about unknowns."""

from types import MappingProxyType
from typing import Any

import pytest

from gglib_nb.domain.gguf_header import GgufHeader, Scalar
from gglib_nb.domain.memory import CacheType, estimate_memory

MIB = 1024**2


def header(
    architecture: str, vocabulary: int | None = None, layers: dict[str, tuple[int, ...]] | None = None, **keys: Any
) -> GgufHeader:
    """A header with the architecture's own keys; `__` means a dot."""
    own = {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    lengths = {f"{architecture}.{key}": len(values) for key, values in (layers or {}).items()}
    return GgufHeader(
        version=3,
        tensor_count=0,
        metadata=MappingProxyType({"general.architecture": architecture} | own),
        array_lengths=lengths if vocabulary is None else lengths | {"tokenizer.ggml.tokens": vocabulary},
        layer_values={f"{architecture}.{key}": values for key, values in (layers or {}).items()},
        has_chat_template=False,
        tensor_parameters=None,
        header_bytes=None,
    )


LLAMA_3_8B = header(
    "llama",
    vocabulary=128_256,
    block_count=32,
    embedding_length=4096,
    context_length=8192,
    attention__head_count=32,
    attention__head_count_kv=8,
)


def test_llama_3_8b_takes_the_memory_that_llama_cpp_prints() -> None:
    estimate = estimate_memory(LLAMA_3_8B, 4_920_734_272, 2048)

    assert estimate.kv_cache_bytes == 256 * MIB
    assert estimate.overhead_bytes / MIB == pytest.approx(258.50 + 12.01, abs=0.02)
    assert estimate.total_bytes == 4_920_734_272 + estimate.kv_cache_bytes + estimate.overhead_bytes
    assert (estimate.is_rough, estimate.notes) == (False, ())


def test_compressed_keys_take_a_part_of_the_context() -> None:
    """As in llama-kv-cache-dsv4.cpp: a window of 768 cells for all layers, a quarter, and a 128th of the context."""
    model = header(
        "deepseek4",
        129_280,
        {"attention.compress_ratios": (0, 4, 128, 0)},
        block_count=4,
        nextn_predict_layers=1,
        embedding_length=4096,
        attention__head_count=64,
        attention__head_count_kv=1,
        attention__key_length=512,
        attention__value_length=512,
        attention__sliding_window=128,
        attention__indexer__key_length=128,
    )

    estimate = estimate_memory(model, 1, 32_768)

    assert estimate.kv_cache_bytes == 2 * (3 * 512 * 768 + 8192 * (512 + 128) + 256 * 512)
    assert estimate.state_bytes == 4 * 2 * (8 * 2 * (512 + 128) + 128 * 512)
    assert not estimate.is_rough


def test_qwen_2_5_7b_takes_the_memory_that_llama_cpp_prints() -> None:
    qwen = header(
        "qwen2",
        152_064,
        block_count=28,
        embedding_length=3584,
        attention__head_count=28,
        attention__head_count_kv=4,
    )

    estimate = estimate_memory(qwen, 0, 4096)
    assert estimate.kv_cache_bytes == 224 * MIB
    assert estimate.overhead_bytes / MIB == 304 + 7 + 8  # the graph's buffer, and on the host an input and the mask


def test_qwen_2_5_3b_takes_the_memory_that_llama_cpp_prints() -> None:
    qwen = header(
        "qwen2",
        151_936,
        block_count=36,
        embedding_length=2048,
        attention__head_count=16,
        attention__head_count_kv=2,
    )

    estimate = estimate_memory(qwen, 0, 4096)
    assert estimate.kv_cache_bytes == 144 * MIB
    assert estimate.overhead_bytes / MIB == pytest.approx(300.75 + 12.01, abs=0.02)


def test_without_grouped_queries_every_head_has_its_own_cache() -> None:
    llama_2_7b = header("llama", 32_000, block_count=32, embedding_length=4096, attention__head_count=32)

    assert estimate_memory(llama_2_7b, 0, 4096).kv_cache_bytes == 2048 * MIB


def test_head_widths_are_read_from_the_header() -> None:
    qwen_3_4b = header(
        "qwen3",
        block_count=36,
        embedding_length=2560,
        attention__head_count=32,
        attention__head_count_kv=8,
        attention__key_length=128,
        attention__value_length=128,
    )

    assert estimate_memory(qwen_3_4b, 0, 4096).kv_cache_bytes == 576 * MIB


def test_layers_with_a_sliding_window_keep_only_the_window() -> None:
    gemma_3_4b = header(
        "gemma3",
        block_count=34,
        embedding_length=2560,
        attention__head_count=8,
        attention__head_count_kv=4,
        attention__key_length=256,
        attention__value_length=256,
        attention__sliding_window=1024,
    )

    # 5 layers with 32,768 cells and 29 with 1,536: the window and a batch.
    assert estimate_memory(gemma_3_4b, 0, 32_768).kv_cache_bytes == (640 + 174) * MIB
    assert estimate_memory(gemma_3_4b, 0, 512).kv_cache_bytes == 68 * MIB


def test_a_flag_per_layer_selects_the_layers_with_the_window() -> None:
    model = header(
        "gemma4",
        layers={"attention.sliding_window_pattern": (1, 0), "attention.head_count_kv": (8, 2)},
        block_count=2,
        attention__head_count=8,
        attention__key_length=512,
        attention__value_length=512,
        attention__key_length_swa=256,
        attention__value_length_swa=256,
        attention__sliding_window=512,
    )

    windowed, full = 1024 * 8 * 512 * 2, 8192 * 2 * 1024 * 2
    assert estimate_memory(model, 0, 8192).kv_cache_bytes == windowed + full


def test_layers_that_share_a_cache_are_counted_once() -> None:
    keys: dict[str, Any] = {"block_count": 10, "embedding_length": 1024, "attention__head_count": 8}

    assert estimate_memory(header("gemma3", **keys, attention__shared_kv_layers=5), 0, 1024).kv_cache_bytes == 20 * MIB


def test_layers_without_attention_keep_nothing() -> None:
    model = header(
        "granitehybrid",
        layers={"attention.head_count_kv": (0, 0, 0, 4)},
        block_count=4,
        embedding_length=1024,
        attention__head_count=8,
        ssm__state_size=128,
    )

    estimate = estimate_memory(model, 0, 1024)
    assert estimate.kv_cache_bytes == 2 * MIB
    assert estimate.notes == ("Layers with a state of fixed size are not counted.",)


def test_linear_attention_between_full_layers_is_marked_rough() -> None:
    model = header(
        "qwen3next",
        block_count=8,
        embedding_length=1024,
        attention__head_count=8,
        attention__head_count_kv=2,
        attention__key_length=256,
        attention__value_length=256,
        full_attention_interval=4,
    )

    estimate = estimate_memory(model, 0, 1024)
    assert (estimate.kv_cache_bytes, estimate.is_rough) == (4 * MIB, True)


def test_latent_attention_keeps_one_vector() -> None:
    deepseek = header(
        "deepseek2",
        block_count=61,
        embedding_length=7168,
        attention__head_count=128,
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__kv_lora_rank=512,
    )

    estimate = estimate_memory(deepseek, 0, 4096)
    assert (estimate.kv_cache_bytes, estimate.is_rough) == (61 * 4096 * 576 * 2, False)


def test_an_encoder_needs_no_cache() -> None:
    bert = header(
        "bert", 30_522, block_count=12, embedding_length=384, attention__head_count=12, attention__causal=False
    )

    assert estimate_memory(bert, 0, 512).kv_cache_bytes == 0


def test_an_encoder_of_which_llama_cpp_keeps_a_cache_is_not_counted_without_one() -> None:
    assert estimate_memory(header("t5encoder", block_count=24), 0, 512).kv_cache_bytes is None


def test_missing_header_values_are_unknown_and_not_zero() -> None:
    estimate = estimate_memory(header("llama"), 100, 4096)

    assert estimate.kv_cache_bytes is None
    assert estimate.is_rough
    assert estimate.total_bytes == 100 + estimate.overhead_bytes


@pytest.mark.parametrize("heads_kv", [(8,), (8, -1), (-1, -1)])
def test_heads_that_are_not_stated_for_each_layer_are_unknown(heads_kv: tuple[int, ...]) -> None:
    """llama.cpp refuses such a file; without the key every head has its own keys."""
    keys: dict[str, Any] = {"block_count": 2, "embedding_length": 1024, "attention__head_count": 16}
    model = header("llama", layers={"attention.head_count_kv": heads_kv}, **keys)

    assert estimate_memory(model, 0, 4096).kv_cache_bytes is None


def test_a_model_without_layers_has_an_unknown_cache() -> None:
    model = header("llama", block_count=0, embedding_length=1024, attention__head_count=16)

    assert estimate_memory(model, 0, 4096).kv_cache_bytes is None


def test_an_ignored_or_unknown_window_is_not_assumed() -> None:
    keys: dict[str, Any] = {"block_count": 2, "embedding_length": 1024, "attention__head_count": 8}
    ignored = estimate_memory(header("llama", **keys, attention__sliding_window=512), 0, 65_536)
    unclear = estimate_memory(header("novel", **keys, attention__sliding_window=512), 0, 65_536)

    assert ignored.kv_cache_bytes == unclear.kv_cache_bytes == 512 * MIB
    assert (ignored.notes, ignored.is_rough) == ((), False)
    assert unclear.notes[-1] == "The header does not say which layers have a sliding window; none is assumed."


@pytest.mark.parametrize("block_count", [10**12, 513, "many", -3])
def test_a_hostile_layer_count_is_ignored(block_count: Scalar) -> None:
    model = header("llama", block_count=block_count, embedding_length=1024, attention__head_count=8)

    assert estimate_memory(model, 0, 4096).kv_cache_bytes is None


def test_more_context_than_trained_for_is_reported_and_not_marked_rough() -> None:
    estimate = estimate_memory(LLAMA_3_8B, 0, 16_384)

    assert estimate.notes == ("The model was trained for 8,192 tokens.",)
    assert not estimate.is_rough


def test_an_unknown_architecture_is_marked_rough() -> None:
    model = header("novel", block_count=4, embedding_length=1024, attention__head_count=8)

    assert estimate_memory(model, 0, 1024).notes == ("The architecture novel may keep more state.",)


# What llama.cpp allocates for common models, cache and state in MiB at 8k and 131k


SSM = {"ssm__conv_kernel": 4, "ssm__state_size": 128}
DEEPSEEK: dict[str, Any] = {
    "block_count": 61,
    "embedding_length": 7168,
    "attention__head_count": 128,
    "attention__head_count_kv": 1,
    "attention__key_length": 576,
    "attention__value_length": 512,
    "attention__key_length_mla": 192,
    "attention__value_length_mla": 128,
    "attention__kv_lora_rank": 512,
}


def test_a_width_of_zero_means_no_latent_attention() -> None:
    widths = {"attention__head_count_kv": 16, "attention__key_length": 192, "attention__value_length": 128}
    without = header("deepseek2", **DEEPSEEK | widths | {"attention__key_length_mla": 0})
    assert estimate_memory(without, 0, 4096).kv_cache_bytes == 61 * 4096 * 16 * (192 + 128) * 2


def attention(layers: int, heads_kv: int, width: int, **keys: Any) -> dict[str, Any]:
    own = {"attention__key_length": width, "attention__value_length": width, "attention__head_count_kv": heads_kv}
    return {"block_count": layers, "embedding_length": 4096, "attention__head_count": 32} | own | keys


MODELS: dict[str, tuple[GgufHeader, tuple[float, float], tuple[float, float]]] = {
    "Qwen3-Next-80B": (
        header("qwen3next", **attention(48, 2, 256, ssm__inner_size=4096, ssm__group_count=16, **SSM)),
        (192, 75),
        (3072, 75),
    ),
    "GLM-4.5-Air": (header("glm4moe", **attention(47, 8, 128, nextn_predict_layers=1)), (1472, 0), (23_552, 0)),
    "GLM-OCR": (header("glm4", **attention(17, 8, 128, nextn_predict_layers=1)), (512, 0), (8192, 0)),
    "Llama 4 Scout": (header("llama4", **attention(48, 8, 128)), (1536, 0), (7368, 0)),
    "Nemotron-Nano-9B-v2": (
        header(
            "nemotron_h",
            layers={
                "attention.head_count_kv": (0,) * 27 + (8,) * 4 + (0,) * 25,
                "feed_forward_length": (0,) * 31 + (15_680,) * 25,
            },
            **attention(56, 8, 128, ssm__inner_size=10_240, ssm__group_count=8, **SSM),
        ),
        (128, 139),
        (2048, 139),
    ),
    "Granite-4.0-H-Small": (
        header(
            "granitehybrid",
            layers={"attention.head_count_kv": ((0,) * 9 + (8,)) * 4},
            **attention(40, 8, 128, ssm__inner_size=8192, ssm__group_count=1, **SSM),
        ),
        (128, 147),
        (2048, 147),
    ),
    "Mamba2 2.7B": (
        header("mamba2", block_count=64, embedding_length=2560, ssm__inner_size=5120, ssm__group_count=1, **SSM),
        (0, 164),
        (0, 164),
    ),
    "DeepSeek-V3.2": (header("deepseek32", **DEEPSEEK, attention__indexer__key_length=128), (671, 0), (10_736, 0)),
    "DeepSeek-V3": (header("deepseek2", **DEEPSEEK), (549, 0), (8784, 0)),
    "Gemma 3 27B": (
        header("gemma3", **attention(62, 16, 128, attention__sliding_window=1024)),
        (1264, 0),
        (10_864, 0),
    ),
    "gpt-oss-120b": (header("gpt-oss", **attention(36, 8, 64, attention__sliding_window=128)), (315, 0), (4635, 0)),
    "Mistral Small 24B": (header("llama", **attention(40, 8, 128)), (1280, 0), (20_480, 0)),
    "Phi-3 mini": (header("phi3", **attention(32, 32, 96, attention__sliding_window=2047)), (3072, 0), (49_152, 0)),
    "Qwen3.8-Flash-Next": (
        header(
            "qwen4exp",
            attention__indexer__key_length=128,
            **attention(49, 2, 256, nextn_predict_layers=1, ssm__inner_size=4096, ssm__group_count=16, **SSM),
        ),
        (240, 75),
        (3840, 75),
    ),
    "GLM-5.3-Flash": (
        header(
            "glm5-next",
            layers={"attention.head_count_kv": (0, 0, 0, 1) * 11 + (0, 1)},
            attention__indexer__key_length=128,
            kda__head_dim=128,
            **DEEPSEEK
            | {"block_count": 46, "nextn_predict_layers": 1, "attention__head_count": 64}
            | {"attention__key_length": 512, "ssm__conv_kernel": 4},
        ),
        (154, 146),
        (2464, 146),
    ),
    "RWKV 7 2.9B": (
        header("rwkv7", block_count=32, embedding_length=2560, wkv__head_size=64, attention__head_count=0),
        (0, 20.6),
        (0, 20.6),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_cache_and_state_are_within_two_percent_of_llama_cpps_allocation(name: str) -> None:
    model, *expected = MODELS[name]

    for context, (cache, state) in zip((8192, 131_072), expected, strict=True):
        estimate = estimate_memory(model, 0, context)
        assert estimate.kv_cache_bytes is not None
        assert estimate.kv_cache_bytes / MIB == pytest.approx(cache, rel=0.02)
        assert estimate.state_bytes / MIB == pytest.approx(state, rel=0.02)
        assert not estimate.is_rough


def test_the_context_is_rounded_up_to_cells() -> None:
    assert estimate_memory(LLAMA_3_8B, 0, 5000).kv_cache_bytes == 640 * MIB


def test_llama_server_keeps_windows_and_states_for_four_conversations() -> None:
    gemma, mamba = MODELS["Gemma 3 27B"][0], MODELS["Mamba2 2.7B"][0]

    assert estimate_memory(gemma, 0, 8192, sequences=4).kv_cache_bytes == 2512 * MIB
    assert estimate_memory(mamba, 0, 8192, sequences=4).state_bytes == 4 * estimate_memory(mamba, 0, 8192).state_bytes


@pytest.mark.parametrize(("cache_type", "mib"), [("f16", 1024), ("q8_0", 544), ("q4_0", 288)])
def test_a_quantized_cache_is_counted_in_blocks(cache_type: CacheType, mib: int) -> None:
    assert estimate_memory(LLAMA_3_8B, 0, 8192, cache_type=cache_type).kv_cache_bytes == mib * MIB


def test_flags_of_recurrent_layers_outrank_the_usual_interval() -> None:
    keys = attention(8, 2, 256, ssm__inner_size=512, ssm__group_count=1, **SSM)
    flagged = header("qwen35", layers={"attention.recurrent_layers": (1, 0) * 4}, **keys)

    assert estimate_memory(flagged, 0, 1024).kv_cache_bytes == 8 * MIB
    assert estimate_memory(header("qwen35", **keys), 0, 1024).kv_cache_bytes == 4 * MIB


def test_chunks_disabled_by_the_header_are_ignored() -> None:
    chunked = header("llama4", **attention(48, 8, 128, attention__sliding_window=0))

    assert estimate_memory(chunked, 0, 131_072).kv_cache_bytes == 24_576 * MIB
