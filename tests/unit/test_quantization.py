"""Labels: the label in a name, its spelling, and its approximate bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.names import Quantization, read_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("llama-2-7b.Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-72b-instruct-q5_k_m", "Q5_K_M"),
        ("ggml-model-q4_0.gguf", "Q4_0"),
        ("c4ai-command-r-v01-fp16", "F16"),
        ("Model-7B.i1-IQ2_XXS", "IQ2_XXS"),
        ("Ling-flash-AD-IQ1_M", "IQ1_M"),
        ("Kimi-K2-UD-TQ1_0", "UD-TQ1_0"),
        ("coder-ud-q4_k_xl", "UD-Q4_K_XL"),
        ("phi-Q4_0_8_8", "Q4_0_8_8"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Coder-Next-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("Cascade-30B-A3B-MXFP4_MOE_BF16.gguf", "MXFP4_MOE_BF16"),
        ("Lightning-30B-NVFP4-MTP", "NVFP4"),
        ("bonsai-Q2_0_g64", "Q2_0_G64"),
        ("bonsai-PQ2_0", "PQ2_0"),
        ("smol-IQ4_KSS", "IQ4_KSS"),
        ("DeepSeek-IQ1_S_R4", "IQ1_S_R4"),
        ("model-TQ3_4S", "TQ3_4S"),
        ("talkie-13b-q5", "Q5"),
        ("Cerebellum-v4-Q2_K_Mixed", "Q2_K_MIXED"),
        ("model-q4-k-m", "Q4_K_M"),
        ("Q8_0.gguf", "Q8_0"),
        ("devstral-fp8", "FP8"),
        ("ggml-model-i2_s.gguf", "I2_S"),
        ("sd3.5_large_turbo-q4_k_5_0", "Q4_K_5_0"),
        ("Model-DQ4_K", "DQ4_K"),
    ],
)
def test_a_label_is_parsed_into_its_canonical_spelling(name: str, label: str) -> None:
    assert read_label(name) == label


@pytest.mark.parametrize(
    "name",
    [
        "stories260K.gguf",
        "Deepseek-Q6King-7B",
        "Q3.5-9B-Opus",
        "muse-glimmer-30B-kquant-17gb",
        "Hy-MT1.5-1.8B-1.25bit",
        "Flash-Q4KExperts-F16HC-Q8Attn",
        "gemma-4-26B-A4B-APEX-I-Quality",
        "Rocinante-XL-16B-v1a",
    ],
)
def test_a_similar_word_is_not_a_label(name: str) -> None:
    assert read_label(name) is None


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Instella-16B.f16.gguf.Q4_K_M.gguf", "Q4_K_M"),
        ("OpenZero-Q5_K_M-F16-Merged", "Q5_K_M"),
        ("LFM2-8B-F32-finetune-Q8_0", "Q8_0"),
        ("Phi-3-mini.f16.q5", "Q5"),
        ("Devstral-FP8-BF16", "BF16"),
        ("Q3-reasoner-F16", "F16"),
        ("gemma-3-27b-it-qat-q4_0-BF16", "BF16"),
        ("gemma-3-27b-it-qat-q4_0", "Q4_0"),
        ("gemma-4-26B_q4_0-it", "Q4_0"),
        ("gemma-it-NVFP4-turbo-NVFP4", "NVFP4"),
    ],
)
def test_the_label_of_the_file_itself_outranks_others(name: str, label: str) -> None:
    assert read_label(name) == label


def test_a_label_behaves_as_a_plain_string() -> None:
    label = Quantization(" q4_k_m ")

    assert label == "Q4_K_M"
    assert f"{label}" == "Q4_K_M"


def test_unsloths_prefix_is_part_of_the_label() -> None:
    assert Quantization("ud_q4_k_xl") == "UD-Q4_K_XL"


@pytest.mark.parametrize(
    ("label", "bits"),
    [("Q4_K_M", 4.89), ("UD-Q4_K_XL", 4.89), ("F16", 16.0), ("Q8_K_XL", 8.5), ("IQ6_ZZ", 6.5), ("MXFP4_MOE", 4.25)],
)
def test_bits_of_an_unknown_size_are_those_of_its_type(label: str, bits: float) -> None:
    assert Quantization(label).bits_per_weight == bits


def test_bits_of_a_label_without_a_digit_are_unknown() -> None:
    assert Quantization("ternary").bits_per_weight is None


@given(st.text(alphabet="UDIQKFPBMXNSL0123456789_-.", max_size=12))
def test_canonical_spelling_is_idempotent_and_case_insensitive(text: str) -> None:
    label = Quantization(text)

    assert Quantization(label) == label
    assert Quantization(text.lower()) == label


@given(st.text(max_size=40))
def test_any_name_can_be_parsed(name: str) -> None:
    label = read_label(name)

    assert label is None or label == Quantization(label)
