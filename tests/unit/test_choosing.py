"""The rule that chooses one variant, and its errors if it chooses none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.choosing import Choice, choose
from gglib_nb.domain.variants import variants_of
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    IncompleteShardSetError,
    InvalidQuantizationError,
    NoGgufFilesError,
    RequestError,
)


def pick(labels: str, requested: str | None = None, memory_bytes: int | None = None) -> Choice:
    """Chooses among files named `m-<label>.gguf`."""
    return choose(variants_of(f"m-{label}.gguf" for label in labels.split()), requested, memory_bytes)


def test_a_request_is_matched_case_insensitively() -> None:
    choice = pick("Q4_K_M Q8_0", "q8_0")

    assert choice.variant.files == ("m-Q8_0.gguf",)
    assert choice.why == "Requested: Q8_0."


@pytest.mark.parametrize("requested", ["m-Q8_0.gguf", "M-q8_0", "Q8_0/m-Q8_0.gguf", "Q8_0/"])
def test_a_path_file_name_stem_or_folder_can_replace_a_label(requested: str) -> None:
    choice = choose(variants_of(["m-Q4_K_M.gguf", "Q8_0/m-Q8_0.gguf"]), requested)

    assert choice.variant.files == ("Q8_0/m-Q8_0.gguf",)


def test_the_name_of_any_shard_selects_its_set() -> None:
    files = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", "m-Q4_0.gguf"]

    assert choose(variants_of(files), "m-Q8_0-00002-of-00002.gguf").variant.files == tuple(files[:2])


def test_the_end_of_a_name_selects_it() -> None:
    files = ["m.i1-Q4_K_M.gguf", "m.Q4_K_M.gguf", "m-APEX-Quality.gguf"]

    assert choose(variants_of(files), "i1-q4_k_m").variant.files == ("m.i1-Q4_K_M.gguf",)
    assert choose(variants_of(files), "apex-quality").variant.files == ("m-APEX-Quality.gguf",)


@pytest.mark.parametrize(
    ("requested", "meant"),
    [("Q4KM", "Q4_K_M"), ("q4-km", "Q4_K_M"), ("Q5_K_XL", "UD-Q5_K_XL"), ("Q8", "Q8_0"), ("UD-Q8_0", "Q8_0")],
)
def test_a_near_miss_gets_a_suggestion(requested: str, meant: str) -> None:
    with pytest.raises(InvalidQuantizationError, match=f"Did you mean {meant}\\?") as caught:
        pick("Q4_K_M UD-Q5_K_XL Q8_0", requested)

    assert caught.value.choices[0] == meant


def test_an_unknown_label_lists_the_choices() -> None:
    with pytest.raises(InvalidQuantizationError) as caught:
        pick("Q8_0 Q4_K_M IQ2_M", "NVFP4")

    assert str(caught.value) == "The repository has no NVFP4. Available: Q4_K_M, Q8_0, IQ2_M."
    assert caught.value.choices == ("Q4_K_M", "Q8_0", "IQ2_M")


def test_many_choices_are_counted_rather_than_listed() -> None:
    with pytest.raises(InvalidQuantizationError, match=r" and 8 more\.$") as caught:
        choose(variants_of(f"m{number:02}.gguf" for number in range(20)), "F16")

    assert len(caught.value.choices) == 20


def test_an_ambiguous_label_lists_the_keys_of_its_variants() -> None:
    with pytest.raises(AmbiguousQuantizationError) as caught:
        choose(variants_of(["small-Q8_0.gguf", "large-Q8_0.gguf"]), "Q8_0")

    assert caught.value.choices == ("large-Q8_0", "small-Q8_0")
    assert "Choose one of them: large-Q8_0, small-Q8_0." in str(caught.value)


def test_a_hash_in_a_message_is_shown_with_its_file() -> None:
    with pytest.raises(AmbiguousQuantizationError, match=r"~\w{8} \(a/m-Q8_0.gguf\), ~\w{8} \(b/m-Q8_0.gguf\)"):
        choose(variants_of(["a/m-Q8_0.gguf", "b/m-Q8_0.gguf"]), "Q8_0")


def test_a_single_file_is_preferred_over_its_own_split_copy() -> None:
    listing = variants_of(["s/m-Q8_0-00001-of-00002.gguf", "s/m-Q8_0-00002-of-00002.gguf", "m-Q8_0.gguf"])

    assert choose(listing, "Q8_0").variant.files == ("m-Q8_0.gguf",)
    assert len(choose(listing, "m-Q8_0").variant.files) == 2


def test_a_complete_set_is_preferred_over_an_incomplete_one_with_the_same_label() -> None:
    listing = variants_of(["a-Q8_0-00001-of-00002.gguf", "b-Q8_0.gguf"])

    assert choose(listing, "Q8_0").variant.files == ("b-Q8_0.gguf",)


def test_a_big_endian_build_is_chosen_only_by_name() -> None:
    listing = variants_of(["s-be.Q4_K_M.gguf", "s.Q4_K_M.gguf"])

    assert choose(listing).variant.files == ("s.Q4_K_M.gguf",)
    assert choose(listing, "Q4_K_M").variant.files == ("s.Q4_K_M.gguf",)
    assert choose(listing, "s-be.Q4_K_M").variant.files == ("s-be.Q4_K_M.gguf",)


def test_an_incomplete_set_is_refused_by_name() -> None:
    listing = variants_of(["m-Q8_0-00002-of-00003.gguf", "m-Q4_0.gguf"])

    with pytest.raises(IncompleteShardSetError, match=r"missing 2 of the 3 files of Q8_0 \(number 1, 3\)") as caught:
        choose(listing, "q8_0")
    assert caught.value.missing == (1, 3)


def test_the_rule_skips_an_incomplete_set() -> None:
    files = ["m-Q4_K_M-00001-of-00002.gguf", "m-Q8_0.gguf", "m-Q6_K.gguf"]

    assert choose(variants_of(files)).variant.quantization == "Q6_K"


def test_a_repository_with_only_an_incomplete_set_is_refused() -> None:
    with pytest.raises(IncompleteShardSetError):
        choose(variants_of(["m-Q4_K_M-00001-of-00002.gguf"]))


def test_the_rule_chooses_no_incomplete_set() -> None:
    files = ["m-UD-Q4_K_XL-00001-of-00002.gguf", "m-IQ4_XS-00002-of-00002.gguf"]

    with pytest.raises(AmbiguousQuantizationError, match="2 variants but none is complete"):
        choose(variants_of(files))


def test_a_repository_without_a_model_is_refused() -> None:
    with pytest.raises(NoGgufFilesError, match="has no GGUF files"):
        choose(variants_of(["README.md"]))
    with pytest.raises(NoGgufFilesError, match=r"only companion files \(mmproj\)"):
        choose(variants_of(["mmproj-F16.gguf"]))


@pytest.mark.parametrize(
    ("files", "requested"),
    [
        ([], None),
        (["mmproj-F16.gguf"], None),
        (["m-Q8_0-00002-of-00003.gguf"], None),
        (["m-F16.gguf", "m-F32.gguf"], None),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], None),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], "Q4_K_M"),
        (["a-Q4_K_M.gguf"], "Q9_9"),
    ],
)
def test_every_refusal_names_the_repository(files: list[str], requested: str | None) -> None:
    with pytest.raises(RequestError, match=r"^owner/name "):
        choose(variants_of(files), requested, repository="owner/name")


def test_the_only_variant_is_chosen() -> None:
    assert pick("BF16").why == "BF16 is the only variant."


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("Q8_0 Q6_K Q4_K_S Q5_K_S Q5_K_M Q4_K_M", "Q4_K_M"),
        ("Q8_0 Q6_K Q4_K_S Q5_K_S Q5_K_M", "Q5_K_M"),
        ("Q8_0 Q6_K Q4_K_S Q5_K_S", "Q5_K_S"),
        ("Q8_0 Q6_K Q4_K_S", "Q4_K_S"),
        ("Q8_0 Q6_K", "Q6_K"),
        ("Q8_0 F16", "Q8_0"),
        ("UD-Q4_K_M Q8_0", "Q8_0"),
    ],
)
def test_among_several_variants_the_preference_order_decides(offered: str, taken: str) -> None:
    choice = pick(offered)

    assert choice.variant.quantization == taken
    assert "usual choice" in choice.why


def test_several_models_with_the_preferred_label_require_a_choice() -> None:
    with pytest.raises(AmbiguousQuantizationError, match="has 2 variants with the label Q4_K_M") as caught:
        choose(variants_of(["small-Q4_K_M.gguf", "large-Q4_K_M.gguf", "large-Q8_0.gguf"]))

    assert caught.value.choices == ("large-Q4_K_M", "small-Q4_K_M")


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("UD-Q8_K_XL UD-Q4_K_XL UD-IQ2_M BF16", "UD-Q4_K_XL"),
        ("IQ4_XS IQ4_NL IQ3_S F16", "IQ4_NL"),
        ("UD-Q6_K IQ4_XS", "IQ4_XS"),
    ],
)
def test_without_a_preferred_label_the_nearest_dynamic_or_iq_label_is_chosen(offered: str, taken: str) -> None:
    choice = pick(offered)

    assert choice.variant.quantization == taken
    assert "is the nearest to Q4_K_M" in choice.why


def test_the_nearest_label_must_fit_the_memory() -> None:
    listing = variants_of([("m-UD-Q4_K_XL.gguf", 900), ("m-IQ4_XS.gguf", 700), ("m-BF16.gguf", 3000)])

    assert choose(listing, memory_bytes=1000).variant.quantization == "UD-Q4_K_XL"
    assert choose(listing, memory_bytes=800).variant.quantization == "IQ4_XS"
    with pytest.raises(AmbiguousQuantizationError, match=r"3 variants, but none of 4 to 6 bits fits in memory\."):
        choose(listing, memory_bytes=600)


def test_a_preferred_variant_larger_than_the_memory_is_reported() -> None:
    listing = variants_of([("m-Q4_K_M.gguf", 900), ("m-Q2_K.gguf", 300)])

    choice = choose(listing, memory_bytes=500)
    assert choice.variant.quantization == "Q4_K_M"
    assert choice.why == "Q4_K_M is the usual choice. It is larger than this machine's memory."


def test_if_no_rule_applies_the_user_must_choose() -> None:
    with pytest.raises(AmbiguousQuantizationError) as caught:
        pick("Q2_K F16 Q4_0")

    assert caught.value.choices == ("Q2_K", "Q4_0", "F16")


def avoiding(*labels: str, memory_bytes: int | None = None) -> Choice:
    """Chooses among files of 900 bytes; the scan calls `m-Q4_K_M.gguf` unsafe."""
    listing = variants_of((f"m-{label}.gguf", 900) for label in ("Q4_K_M", *labels))
    return choose(listing, memory_bytes=memory_bytes, findings={"m-Q4_K_M.gguf": "unsafe"})


def test_the_choice_beside_an_unsafe_variant_says_why_and_that_it_is_too_large() -> None:
    assert avoiding("Q5_K_M").why == "Q5_K_M was chosen because the Hub's security scan calls Q4_K_M unsafe."
    assert avoiding("Q5_K_M", "Q2_K", memory_bytes=500).why.endswith(
        "calls Q4_K_M unsafe. It is larger than this machine's memory."
    )


@pytest.mark.parametrize("folder", ["big-endian", "Q4_K_M-BE", "Model-BE-Q4_K_M", "s390x/model-big-endian"])
def test_builds_in_a_folder_for_big_endian_machines_are_not_chosen_by_label(folder: str) -> None:
    listing = variants_of([f"{folder}/s.Q4_K_M.gguf", "s.Q4_K_M.gguf", "s.Q8_0.gguf"])
    assert choose(listing).variant.files == ("s.Q4_K_M.gguf",)
    assert choose(listing, "Q4_K_M").variant.files == ("s.Q4_K_M.gguf",)
    assert choose(listing, f"{folder}/s.Q4_K_M.gguf").variant.is_big_endian


@pytest.mark.parametrize(
    "files",
    [
        ["m-Q4_K_M.gguf", "M-Q4_K_M.GGUF"],
        ["Q4/m-Q4_K_M.gguf", "q4/m-Q4_K_M.gguf"],
        ["m-Q4_K_M.gguf", "m-Q4_K_M.gguf.gguf"],
        ["mmproj-F16.gguf", "MMPROJ-F16.gguf", "m-Q4_K_M.gguf"],
    ],
)
def test_an_exact_path_names_its_file_beside_one_that_differs_only_in_case(files: list[str]) -> None:
    assert [choose(variants_of(files), path).variant.files for path in files] == [(path,) for path in files]


def test_a_big_endian_build_is_not_chosen_beside_an_unsafe_variant() -> None:
    assert avoiding("Q4_K_M-be").variant.files == ("m-Q4_K_M.gguf",)


def test_an_error_names_the_unsafe_variant_that_was_avoided() -> None:
    with pytest.raises(AmbiguousQuantizationError) as caught:
        avoiding("F16", "BF16")

    assert str(caught.value).startswith("Without Q4_K_M, which the Hub's security scan calls unsafe, ")
    assert caught.value.choices == ("BF16", "F16")


LABELS = st.sampled_from(["Q4_K_M", "UD-Q4_K_XL", "IQ1_S", "F16", "i1-Q4_0", "x", "Q8_0-00001-of-00002"])


@given(st.lists(LABELS, min_size=2, max_size=6, unique=True).filter(lambda labels: "Q4_K_M" not in labels))
def test_every_choice_listed_by_an_error_can_be_requested(labels: list[str]) -> None:
    listing = variants_of(f"m-{label}.gguf" for label in labels)

    with pytest.raises(InvalidQuantizationError) as caught:
        choose(listing, "Q4_K_M")
    complete = [key for key in caught.value.choices if key != "Q8_0"]
    assert [choose(listing, key).variant.key for key in complete] == complete
