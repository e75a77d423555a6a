"""Variants by rule: an example list for each rule, and properties of any list."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gglib_nb.domain.companions import HeaderKind
from gglib_nb.domain.names import DownloadId, Quantization, parse_path
from gglib_nb.domain.units import DailyHours
from gglib_nb.domain.variants import Variants, companion_for, variants_of
from gglib_nb.errors import InvalidConfigError

GB = 10**9


def labels(*files: str) -> set[tuple[str | None, str]]:
    return {(variant.quantization, variant.files[0]) for variant in variants_of(files).variants}


def kinds(*files: str | tuple[str, int | None]) -> dict[str, str]:
    return {companion.path: companion.kind for companion in variants_of(files).companions}


def keys(*files: str) -> dict[str, str]:
    return {variant.files[0]: variant.key for variant in variants_of(files).variants}


def test_a_mapping_of_paths_to_sizes_keeps_the_sizes() -> None:
    assert variants_of({"m-Q8_0.gguf": 7, "m-F16.gguf": None}) == variants_of([("m-Q8_0.gguf", 7), "m-F16.gguf"])


@pytest.mark.parametrize("files", [3, None, [3], [b"m.gguf"], [Path("m.gguf")], [("m.gguf",)], [("m.gguf", "5")]])
def test_anything_but_paths_and_sizes_is_refused(files: Any) -> None:
    with pytest.raises(InvalidConfigError, match=r"^Files must be paths"):
        variants_of(files)


@pytest.mark.parametrize("make", [Quantization, DownloadId.parse, DailyHours.parse])
@pytest.mark.parametrize("value", [3, None, b"Q4_K_M"])
def test_anything_but_text_is_refused(make: Callable[[Any], object], value: object) -> None:
    with pytest.raises(InvalidConfigError, match="must be text, not"):
        make(value)


def test_shards_of_one_set_are_one_variant_in_their_order() -> None:
    (variant,) = variants_of([("Q8_0/m-Q8_0-00002-of-00002.gguf", 7), ("Q8_0/m-Q8_0-00001-of-00002.gguf", 5)]).variants

    assert variant.files == ("Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf")
    assert variant.sizes == (5, 7)
    assert variant.size_bytes == 12
    assert (variant.folder, variant.stem, variant.split) == ("Q8_0", "m-Q8_0", "gguf-split")


def test_a_single_path_is_one_file() -> None:
    assert variants_of("m-Q8_0.gguf") == variants_of(["m-Q8_0.gguf"])


def test_one_unknown_size_makes_the_sum_unknown() -> None:
    (variant,) = variants_of([("m-1-of-2.gguf", 5), ("m-2-of-2.gguf", None)]).variants

    assert variant.size_bytes is None


def test_a_missing_shard_is_named() -> None:
    (variant,) = variants_of(["m-Q4_0-00001-of-00003.gguf", "m-Q4_0-00003-of-00003.gguf"]).variants

    assert not variant.is_complete
    assert variant.missing == (2,)


@pytest.mark.parametrize(("folder", "key"), [("M-Q4_0/", "Q4_0"), ("M/", "~ce76a304"), ("", "~42736065")])
def test_shards_may_be_named_by_their_number_alone(folder: str, key: str) -> None:
    (variant,) = variants_of([f"{folder}00001-of-00002.gguf", f"{folder}00002-of-00002.gguf"]).variants

    assert (variant.key, len(variant.files), variant.is_complete) == (key, 2, True)


def test_a_number_beyond_the_total_is_no_shard() -> None:
    (variant,) = variants_of(["m-00004-of-00003.gguf"]).variants

    assert variant.stem == "m-00004-of-00003"
    assert variant.is_complete


def test_the_same_number_twice_makes_two_sets() -> None:
    files = ["m-1-of-10.gguf", *(f"m-{number:02}-of-10.gguf" for number in range(1, 11))]

    assert sorted(len(variant.files) for variant in variants_of(files).variants) == [1, 10]


@pytest.mark.parametrize(
    "parts",
    [
        ["m.Q8_0.gguf.part1of2", "m.Q8_0.gguf.part2of2"],
        ["m.Q8_0.gguf-split-a", "m.Q8_0.gguf-split-b"],
        ["m.Q8_0.gguf.a", "m.Q8_0.gguf.b"],
        ["m.Q8_0.gguf.aa", "m.Q8_0.gguf.ab"],
        ["m.Q8_0.gguf.001", "m.Q8_0.gguf.002"],
        ["m.Q8_0.gguf.00", "m.Q8_0.gguf.01"],
        ["m.Q8_0.gguf-part-a", "m.Q8_0.gguf-part-b"],
        ["m.Q8_0.gguf-00001-of-00002", "m.Q8_0.gguf-00002-of-00002"],
        ["m-Q8_0-chunk-001-of-002.gguf", "m-Q8_0-chunk-002-of-002.gguf"],
        ["m.Q8_0.part1of2.gguf", "m.Q8_0.part2of2.gguf"],
    ],
)
def test_raw_parts_are_one_variant_that_is_joined(parts: list[str]) -> None:
    (variant,) = variants_of(parts).variants

    assert variant.files == tuple(parts)
    assert (variant.quantization, variant.split) == ("Q8_0", "bytes")
    assert variant.is_complete
    assert variant.numbers == (1, 2)


def test_a_single_raw_part_is_incomplete() -> None:
    (variant,) = variants_of(["m.Q8_0.gguf-split-a"]).variants

    assert variant.missing == (2,)


@pytest.mark.parametrize(
    "name", ["m.gguf.xz", "m.gguf.md", "m.gguf.part3of2", "m.gguf.json", "README.md", ".gguf", "m.safetensors"]
)
def test_other_files_are_left_out(name: str) -> None:
    assert variants_of([name]) == Variants((), ())


def test_the_folder_gives_the_label_if_the_name_does_not() -> None:
    assert labels("UD-Q4_K_XL/model.gguf", "gguf/Q8_0/model-00001-of-00001.gguf", "Q8_0/model-Q4_K_M.gguf") == {
        ("UD-Q4_K_XL", "UD-Q4_K_XL/model.gguf"),
        ("Q8_0", "gguf/Q8_0/model-00001-of-00001.gguf"),
        ("Q4_K_M", "Q8_0/model-Q4_K_M.gguf"),
    }


def test_a_unique_label_is_the_key() -> None:
    assert keys("m-q4_k_m.gguf", "m-fp16.gguf") == {"m-q4_k_m.gguf": "Q4_K_M", "m-fp16.gguf": "F16"}


def test_an_ambiguous_label_is_replaced_by_stems_as_keys() -> None:
    assert keys("small-Q8_0.gguf", "large-Q8_0-1-of-1.gguf") == {
        "small-Q8_0.gguf": "small-Q8_0",
        "large-Q8_0-1-of-1.gguf": "large-Q8_0",
    }


def test_a_single_file_keeps_its_label_beside_its_split_copy() -> None:
    files = ["m-Q8_0.gguf", "Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf"]

    assert keys(*files) == {"m-Q8_0.gguf": "Q8_0", "Q8_0/m-Q8_0-00001-of-00002.gguf": "m-Q8_0"}


def test_if_stems_repeat_a_hash_of_the_first_path_is_the_key() -> None:
    assert keys("a/model.gguf", "b/Model.gguf") == {"a/model.gguf": "~b07628ad", "b/Model.gguf": "~94410ce9"}


def test_a_stem_that_is_invalid_in_an_id_is_not_a_key() -> None:
    assert keys("command-r:focus.gguf") == {"command-r:focus.gguf": "~cdc304bb"}


def test_importance_matrices_are_distinguished_from_models_made_with_one() -> None:
    files = [
        "imatrix_unsloth.gguf",
        "M.imatrix.gguf",
        "M-imatrix.dat",
        "M-F16-imatrix.gguf",
        "imatrix/M-small.gguf",
        "M-Q4_K_M-imat.gguf",
        "M-4.25bpw-imatrix.gguf",
        "M-IQ2XXS-chat-imatrix.gguf",
        "M-Imatrix-Q6_K.gguf",
        "imatrix/M-Q5_K_M.gguf",
    ]

    assert [path for path, kind in kinds(*files).items() if kind == "imatrix"] == sorted(files[:5])
    assert len(variants_of(files).variants) == 5


def test_a_file_of_many_gigabytes_is_not_an_importance_matrix() -> None:
    assert kinds(("M-imatrix.gguf", 13 * 1024**3)) == {}


@pytest.mark.parametrize(
    "name",
    [
        "mmproj-F16.gguf",
        "M-it-mmproj.gguf",
        "M.mmproj-Q8_0.gguf",
        "mmproj/M-F16.gguf",
        "vision/M-vision-F16.gguf",
        "M-vision_encoder-f16.gguf",
        "M-vision-f16.gguf",
        "M-clip.gguf",
        "projector-fp16.gguf",
    ],
)
def test_projectors_are_recognized_under_many_names(name: str) -> None:
    assert kinds("M-Q4_K_M.gguf", name) == {name: "mmproj"}


def test_a_vision_model_is_not_a_projector() -> None:
    assert kinds("Llama-3.2-11B-Vision-Instruct.Q4_K_M.gguf", "granite-vision-3.2-2b-Q8_0.gguf") == {}


@pytest.mark.parametrize("name", ["mtp-M-Q8_0.gguf", "MTP/M-Q8_0.gguf", "M-DFlash-BF16.gguf", "eagle3-M.gguf"])
def test_drafts_next_to_a_model_are_companions(name: str) -> None:
    assert kinds("M-Q4_K_M.gguf", name) == {name: "draft"}


@pytest.mark.parametrize("name", ["Mistral-DRAFT-0.5B-Q4_K_M.gguf", "Qwen3-4B-DFlash.Q8_0.gguf"])
def test_a_single_draft_is_a_variant(name: str) -> None:
    assert kinds(name) == {}


def test_a_head_after_the_label_belongs_to_the_file_without_it() -> None:
    assert kinds("m-Q4_K_M.gguf", "m-Q4_K_M-mtp.gguf") == {"m-Q4_K_M-mtp.gguf": "draft"}
    assert kinds("m-Q4_K_M-mtp.gguf") == {}


def test_a_head_before_a_label_next_to_the_same_label_is_a_second_edition() -> None:
    assert kinds("m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-MTP-Q4_K_M.gguf", "m-MTP-Q6_K.gguf") == {}


def test_a_head_before_its_own_label_belongs_to_all_siblings() -> None:
    assert kinds("m-Flash-Q2_K.gguf", "m-Flash-MTP-Q8_0.gguf") == {"m-Flash-MTP-Q8_0.gguf": "draft"}


def test_sizes_decide_whether_a_head_is_built_in() -> None:
    assert kinds(("m-Q4_K_M.gguf", 100), ("m-Q4_K_M-mtp.gguf", 103)) == {}
    assert kinds(("m-Q4_K_M.gguf", 100), ("m-MTP-Q4_K_M.gguf", 7)) == {"m-MTP-Q4_K_M.gguf": "draft"}


@pytest.mark.parametrize("name", ["MTP/m-27B-MTP-Q4_K_M.gguf", "MTP/m-27B-Q8_0.gguf", "q/nextn/m-27B.gguf"])
def test_a_folder_of_heads_has_whole_models_if_they_are_as_large(name: str) -> None:
    beside = [("m-27B-Q4_K_M.gguf", 17 * GB), ("m-27B-Q8_0.gguf", 29 * GB), ("mmproj-F16.gguf", GB)]

    assert kinds(*beside, (name, 30 * GB)) == {"mmproj-F16.gguf": "mmproj"}
    assert kinds(*beside, (name, GB)) == {"mmproj-F16.gguf": "mmproj", name: "draft"}


def test_the_companions_of_many_models_are_found_soon() -> None:
    """The models are compared with one another once, not for each pair of a model and a companion."""
    names = [f"{name}{number}-F16.gguf" for number in range(150) for name in ("m-", "mmproj-m-")]
    compared = []

    class Counted(list):
        def __iter__(self):
            compared.append(len(self))
            return super().__iter__()

    found = variants_of(names)
    counted = replace(found, variants=Counted(found.variants))
    for variant in found.variants:
        companion_for(counted, variant)

    assert len(compared) < 10


def test_a_folder_of_heads_without_another_model_has_models() -> None:
    assert kinds(("MTP/m-MTP-Q4_K_M.gguf", 17 * GB), ("mmproj-F16.gguf", GB)) == {"mmproj-F16.gguf": "mmproj"}


@pytest.mark.parametrize("small", ["m-Q4_K_M-00001-of-00003.gguf", "m.imatrix.gguf", "m.mmproj-f16.gguf"])
def test_the_size_of_a_head_is_compared_with_whole_models_only(small: str) -> None:
    files = [("m-Q4_K_M-00002-of-00003.gguf", 40 * GB), ("m-Q4_K_M-00003-of-00003.gguf", 40 * GB), (small, GB // 100)]

    assert kinds(*files, ("m-MTP-Q8_0.gguf", 4 * GB))["m-MTP-Q8_0.gguf"] == "draft"


def test_a_file_of_the_models_size_is_not_its_head_even_without_a_label() -> None:
    assert kinds(("m-Q4_K_M.gguf", 5 * GB), ("m-MTP.gguf", 5 * GB)) == {}
    assert kinds(("m-Q4_K_M.gguf", 5 * GB), ("m-MTP.gguf", GB)) == {"m-MTP.gguf": "draft"}


def test_the_assistant_of_a_gemma_is_its_draft_and_an_assistant_is_a_model() -> None:
    model, draft = "gemma-4-E4B-it-Q4_K_M.gguf", "gemma-4-E4B-it-assistant-Q4_K_M.gguf"

    listing = variants_of([(model, 5 * GB), (draft, GB // 10)])

    assert [one.key for one in listing.variants] == ["Q4_K_M"]
    found = companion_for(listing, listing.variants[0], "draft")
    assert found is not None
    assert found.path == draft
    assert kinds(("voice-assistant-8b-Q4_K_M.gguf", 5 * GB), ("voice-Q8_0.gguf", 5 * GB)) == {}
    assert kinds(draft) == {}


@pytest.mark.parametrize(
    "name", ["M-F16-LoRA.gguf", "LoRA-M-abliterated-f16.gguf", "loras/style.gguf", "M-control-vector.gguf"]
)
def test_adapters_are_recognized_by_prefix_or_suffix(name: str) -> None:
    assert kinds("M-Q4_K_M.gguf", name) == {name: "adapter"}


def test_a_model_once_trained_with_lora_is_a_model() -> None:
    assert (
        kinds("alpaca-lora.Q4_K_M.gguf", "alpaca-lora.Q8_0.gguf", "lora-merged-f16.gguf", "lorablated.Q4_0.gguf") == {}
    )


def test_vocabularies_are_not_models() -> None:
    assert kinds("ggml-vocab-phi-3.gguf", "M-7B-vocab.gguf") == {
        "M-7B-vocab.gguf": "vocab",
        "ggml-vocab-phi-3.gguf": "vocab",
    }


@pytest.mark.parametrize(
    "name",
    [
        "t5xxl_fp16-q4_0.gguf",
        "clip_l-Q4_0.gguf",
        "vae-BF16.gguf",
        "ae.gguf",
        "WavTokenizer-Large-75-F16.gguf",
        "tokenizer.gguf",
        "voice-en-Carter.gguf",
        "tts/M-projector-F16.gguf",
        "vocoder-M-Q8_0.gguf",
        "code2wav-F16.gguf",
        "._M-Q4_K_M.gguf",
        "md5sum",
    ],
)
def test_parts_of_a_pipeline_next_to_their_model_are_companions(name: str) -> None:
    assert kinds("M-Q4_K_M.gguf", name) == {name: "other"}


@pytest.mark.parametrize("name", ["umt5-xxl-encoder-Q8_0.gguf", "snac-24khz.gguf", "qwen3-tts-tokenizer-12hz.gguf"])
def test_a_single_pipeline_part_is_a_variant(name: str) -> None:
    assert len(variants_of([name]).variants) == 1


def test_the_projector_is_matched_by_folder_name_and_best_precision() -> None:
    listing = variants_of(
        [
            "a/M-2B-Q4_0.gguf",
            "a/mmproj-BF16.gguf",
            "mmproj-F16.gguf",
            "mmproj-M-2B-Q8_0.gguf",
            "mmproj-M-2B-F32.gguf",
            "mmproj-M-8B-F16.gguf",
            "M-2B-Q8_0.gguf",
        ]
    )
    in_folder, at_root = sorted(listing.variants, key=lambda variant: variant.folder, reverse=True)

    assert companion_for(listing, in_folder) == next(c for c in listing.companions if c.path == "a/mmproj-BF16.gguf")
    assert companion_for(listing, at_root) == next(c for c in listing.companions if c.path == "mmproj-M-2B-Q8_0.gguf")
    assert companion_for(listing, at_root, "draft") is None


def projectors(*files: str | tuple[str, int]) -> dict[str, str | None]:
    """The projector of each variant, by its first file."""
    listing = variants_of(files)
    found = {one.files[0]: companion_for(listing, one) for one in listing.variants}
    return {path: companion.path if companion else None for path, companion in found.items()}


def test_a_projector_belongs_to_the_model_in_its_name_and_no_other_size_or_family() -> None:
    projector = "mmproj-gemma-3-4b-it-f16.gguf"
    models = ["gemma-3-1b-it-Q8_0.gguf", "gemma-3-27b-it-Q8_0.gguf", "Qwen3-0.6B-Q8_0.gguf", "gemma-3-4b-it-Q8_0.gguf"]

    assert projectors(projector, *models) == dict.fromkeys(models[:3]) | {models[3]: projector}


def test_a_projector_without_a_model_name_is_not_paired_with_one_of_several_models() -> None:
    models = ["Qwen3.5-9B-Q4_K_M.gguf", "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf", "gemma-4-E4B-it-Q4_K_M.gguf"]

    assert projectors("mmproj-F16.gguf", *models) == dict.fromkeys(models)
    assert projectors("mmproj-gemma-4-E4B-it.gguf", *models) == dict.fromkeys(models[:2]) | {
        models[2]: "mmproj-gemma-4-E4B-it.gguf"
    }


@pytest.mark.parametrize(
    ("projector", "model"),
    [
        ("mmproj-model-f16.gguf", "ggml-model-Q4_K_M.gguf"),
        ("mmproj-BF16.gguf", "UD-Q4_K_XL/gemma-3-27b-it-UD-Q4_K_XL.gguf"),
        ("mmproj-Mistral-Small-3.1-24B.gguf", "Cydonia-24B-v3-Q4_K_M.gguf"),
        ("X-7B.mmproj-f16.gguf", "X-7B.i1-Q4_K_M.gguf"),
        ("mmproj-Qwen_Qwen2.5-VL-7B-Instruct-f16.gguf", "Qwen_Qwen2.5-VL-7B-Instruct-Q8_0.gguf"),
    ],
)
def test_a_projector_next_to_a_single_model_belongs_to_it(projector: str, model: str) -> None:
    assert projectors(projector, model) == {model: projector}


def test_a_projector_of_another_size_is_not_paired_even_with_the_only_model() -> None:
    assert projectors("mmproj-gemma-3-4b-it.gguf", "gemma-3-27b-it-Q8_0.gguf") == {"gemma-3-27b-it-Q8_0.gguf": None}


def test_a_draft_is_offered_with_its_model() -> None:
    drafts = ["mtp-gemma-4-12B-it.gguf", "gpt-oss-120b-eagle3-Q8_0.gguf", "Mistral-Small-3.1-24B-DRAFT-0.5B-Q8_0.gguf"]
    models = ["gemma-4-12B-it-Q4_K_M.gguf", "gpt-oss-120b-Q4_K_M.gguf", "Mistral-Small-3.1-24B-Q4_K_M.gguf"]
    listing = variants_of([*drafts, *models])
    found = {one.files[0]: companion_for(listing, one, "draft") for one in listing.variants}

    assert {path: one and one.path for path, one in found.items()} == dict(zip(models, drafts, strict=True))


def test_a_model_with_a_built_in_head_is_never_a_draft() -> None:
    assert kinds(("X-BF16.gguf", 54 * GB), ("X-MTP-Q4_K_M.gguf", 17 * GB), ("X-Q8_0.gguf", 29 * GB)) == {}
    assert kinds(("X.gguf", 54 * GB), ("X-MTP-Q2_K.gguf", 9 * GB)) == {}
    assert kinds(("X-Q4_K_M.gguf", 17 * GB), ("X-MTP-BF16.gguf", 2 * GB)) == {"X-MTP-BF16.gguf": "draft"}
    assert kinds(("X.gguf", 54 * GB), ("X-MTP-Q8_0.gguf", GB)) == {"X-MTP-Q8_0.gguf": "draft"}


def test_models_that_differ_only_by_folder_have_different_names() -> None:
    listing = variants_of(["8B/model-Q4_K_M.gguf", "70B/model-Q4_K_M.gguf"])

    assert [one.name for one in listing.variants] == ["70B/model-Q4_K_M", "8B/model-Q4_K_M"]
    assert len({parse_path(one.files[0]).model for one in listing.variants}) == 2


def test_a_folder_for_each_label_holds_one_model() -> None:
    paths = [
        "UD-Q4_K_XL/m-UD-Q4_K_XL-00001-of-00002.gguf",
        "m-Q8_0/m-Q8_0.gguf",
        "m-BF16/m-BF16.gguf",
        "Q2_K/m-Q2_K.gguf",
    ]

    assert {parse_path(path).model for path in paths} == {("m",)}


def test_sets_of_any_number_of_shards_are_one_variant() -> None:
    for digits in (6, 4):
        (found,) = variants_of(f"m-Q1-{number:05}-of-{1762:0{digits}}.gguf" for number in range(1, 1763)).variants
        assert (found.shards_expected, found.is_complete) == (1762, True)


def test_every_companion_has_its_own_key_and_can_be_downloaded_alone() -> None:
    files = ["m-Q8_0.gguf", "mmproj-F16.gguf", "a/mmproj-F16.gguf", "m.imatrix", "m-F16-LoRA.gguf"]
    listing = variants_of(files)

    assert {one.files for one in listing.single_files} == {(path,) for path in files[1:]}
    assert all(listing.by_key(one.key) == one for one in listing.single_files)
    assert [one.files for one in listing.offered] == [("m-Q8_0.gguf",)]
    assert len(variants_of(files[1:]).offered) == 4


# Headers


def test_a_header_outranks_a_name() -> None:
    files = ["medusa-1.1-l2-7b.Q4_K_M.gguf", "m-Q4_K_M.gguf", "plain-Q8_0.gguf"]
    stated: dict[str, HeaderKind] = {files[0]: "model", files[2]: "adapter"}
    listing = variants_of(files, stated)

    assert [one.files[0] for one in listing.variants] == [files[1], files[0]]
    assert [(one.path, one.kind) for one in listing.companions] == [(files[2], "adapter")]


@pytest.mark.parametrize("name", ["m-Q4_0-00001-of-999999999.gguf", "m-Q4_0.gguf.part1of999999999"])
def test_a_name_cannot_ask_for_more_pieces_than_any_model_has(name: str) -> None:
    assert not any(variant.missing for variant in variants_of([name]).variants)


def test_a_date_behind_the_ending_is_no_piece_of_a_model() -> None:
    assert variants_of(["m-Q4_0.gguf", "m-Q4_0.gguf.20260131"]).variants[0].files == ("m-Q4_0.gguf",)
    assert len(variants_of(["m-Q4_0.gguf", "m-Q4_0.gguf.20260131"]).variants) == 1


def test_big_endian_builds_are_recognized_by_name() -> None:
    listing = variants_of(["s-be.Q4_0.gguf", "s-f16-big-endian.gguf", "let-it-be-13b-Q4_0.gguf"])

    assert [variant.is_big_endian for variant in listing.variants] == [False, True, True]


@pytest.mark.parametrize(
    "path", ["let-it-be/m-Q4_0.gguf", "let-it-be/let-it-be-13b.Q4_0.gguf", "may-be.gguf", "be.Q4_0.gguf"]
)
def test_a_name_that_ends_in_be_says_nothing_about_the_byte_order_unless_it_is_the_suffix_of_a_label(path: str) -> None:
    assert not variants_of([path]).variants[0].is_big_endian


@pytest.mark.parametrize(
    "path", ["m-Q4_0-be.gguf", "m-be-Q4_0-00001-of-00002.gguf", "m/Q4_0-BE/m.gguf", "Q4_0-be.gguf"]
)
def test_be_beside_the_label_of_a_file_or_folder_names_a_big_endian_build(path: str) -> None:
    assert variants_of([path]).variants[0].is_big_endian


NAMES = st.sampled_from(
    [
        "m-Q4_K_M",
        "m-Q8_0",
        "M-q8_0",
        "m-MTP-Q8_0",
        "m-Q8_0-mtp",
        "big/m-Q8_0",
        "Q8_0/x",
        "x",
        "y",
        "imatrix",
        "mmproj-F16",
        "vae-F16",
        "m-F16-LoRA",
    ]
)
ENDINGS = st.sampled_from(
    [
        ".gguf",
        "-00001-of-00002.gguf",
        "-00002-of-00002.gguf",
        ".gguf.part1of2",
        ".gguf.part2of2",
        ".gguf.a",
        ".gguf.b",
        ".GGUF",
    ]
)
PATHS = st.builds(str.__add__, NAMES, ENDINGS)
LISTINGS = st.lists(PATHS, unique=True, max_size=12)


@given(LISTINGS, st.randoms())
def test_the_result_does_not_depend_on_the_listing_order(files: list[str], random: Random) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)

    assert variants_of(shuffled) == variants_of(files)


@given(LISTINGS)
def test_an_unrelated_model_does_not_change_the_grouping(files: list[str]) -> None:
    before = variants_of([*files, "unrelated-7B-Q5_K_S.gguf"])
    after = variants_of([*files, "unrelated-7B-Q5_K_S.gguf", "elsewhere/other-3B-IQ3_XS.gguf", "notes.txt"])

    assert {variant.files for variant in before.variants} < {variant.files for variant in after.variants}
    assert before.companions == after.companions


@given(LISTINGS)
def test_every_file_is_grouped_exactly_once(files: list[str]) -> None:
    listing = variants_of(files)

    placed = [path for variant in listing.variants for path in variant.files]
    placed += [companion.path for companion in listing.companions]
    assert sorted(placed) == sorted(files)


@given(LISTINGS)
def test_every_variant_is_found_by_its_key_case_insensitively_and_by_id(files: list[str]) -> None:
    listing = variants_of(files)

    for variant in listing.variants:
        parsed = DownloadId.parse(str(DownloadId("owner/repo", variant.key)))
        assert parsed.quantization == variant.key
        assert listing.by_key(variant.key.swapcase()) == variant


@given(st.lists(st.text(min_size=1, max_size=30), max_size=8))
def test_any_listing_can_be_grouped(files: list[str]) -> None:
    listing = variants_of([f"{name}.gguf" for name in files])

    assert len({variant.key.casefold() for variant in listing.variants}) == len(listing.variants)
