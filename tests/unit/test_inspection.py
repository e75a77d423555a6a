"""Inspections of headers, and comparisons of two."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.gguf import Tensor, TensorTable
from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.inspection import TensorGroup, compare, inspection_of, shown, template_diff


def a_table(metadata, tensors=(), array_lengths=None):
    header = GgufHeader(
        version=3,
        tensor_count=len(tensors),
        metadata=metadata,
        array_lengths=array_lengths or {},
        layer_values={},
        has_chat_template="tokenizer.chat_template" in metadata,
        tensor_parameters=None,
        header_bytes=64,
    )
    return TensorTable(header, tuple(tensors), 32, tensors[0].name if tensors else "")


def an_inspection(name="o/r:Q4_K_M", **metadata):
    return inspection_of(name, 1_000, [a_table(metadata)])


LLAMA = {
    "general.architecture": "llama",
    "general.name": "Tiny Llama",
    "general.license": "apache-2.0",
    "general.base_model.count": 2,
    "general.base_model.0.repo_url": "https://huggingface.co/o/base",
    "general.base_model.1.name": "Other",
    "llama.context_length": 8192,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.chat_template.tool_use": "{{ tools }}",
}


def test_the_header_is_summarized():
    inspection = inspection_of("o/r", 2_000, [a_table(LLAMA, array_lengths={"tokenizer.ggml.tokens": 32_000})])

    assert inspection.architecture == "llama"
    assert inspection.title == "Tiny Llama"
    assert inspection.licence == "apache-2.0"
    assert inspection.base_models == ("https://huggingface.co/o/base", "Other")
    assert inspection.context_length == 8192
    assert inspection.vocabulary_size == 32_000
    assert inspection.chat_templates == {"": "{{ messages }}", "tool_use": "{{ tools }}"}
    assert "tokenizer.chat_template" not in inspection.metadata


def test_missing_header_values_are_none():
    inspection = an_inspection()

    facts = (inspection.architecture, inspection.licence, inspection.context_length, inspection.bits_per_weight)
    assert facts == (None, None, None, None)
    assert inspection.base_models == ()


def test_the_tensors_of_all_shards_are_grouped_by_type():
    shards = [
        a_table(LLAMA, [Tensor("a", 12, (256, 2), 64, 288), Tensor("b", 0, (8,), 352, 32)]),
        a_table({}, [Tensor("c", 12, (256,), 64, 144), Tensor("d", 99, (1,), 208, 4)]),
    ]

    inspection = inspection_of("o/r", 2_000, shards)

    assert inspection.tensors == (
        TensorGroup("Q4_K", 2, 768, 432),
        TensorGroup("F32", 1, 8, 32),
        TensorGroup("type 99", 1, 1, 4),
    )
    assert inspection.tensors[0].bits_per_weight == 4.5
    assert inspection.parameter_count == 777


def test_only_keys_that_differ_are_compared():
    first = an_inspection(**{"general.name": "A", "llama.block_count": 32, "general.file_type": 15})
    second = an_inspection(**{"general.name": "A", "llama.block_count": 30, "general.tags": "x"})

    found = {one.key: (one.first, one.second) for one in compare(first, second).keys}

    assert found == {
        "general.file_type": ("15", None),
        "general.tags": (None, "x"),
        "llama.block_count": ("32", "30"),
    }


def test_templates_are_compared_as_a_diff_and_not_as_keys():
    first = an_inspection(**{"tokenizer.chat_template": "one\ntwo\nthree"})
    second = an_inspection("o/r:Q8_0", **{"tokenizer.chat_template": "one\n2\nthree"})

    comparison = compare(first, second)

    assert comparison.keys == ()
    assert not comparison.is_same_template
    assert comparison.template_diff.splitlines() == [
        "--- o/r:Q4_K_M",
        "+++ o/r:Q8_0",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two",
        "+2",
        " three",
    ]


def test_identical_models_have_no_difference():
    comparison = compare(an_inspection(**LLAMA), an_inspection(**LLAMA))

    assert (comparison.keys, comparison.template_diff, comparison.is_same_template) == ((), "", True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (7, "7"),
        (0.1, "0.1"),
        (1e-05, "0.00001"),
        (1e7, "10000000"),
        (math.nan, "NaN"),
        ("a\x1b[2J\nb", "a [2J b"),
        ("x" * 400, "x" * 299 + "…"),
        ("\u202eevil", " evil"),
    ],
)
def test_a_value_is_shown_as_one_bounded_printable_line(value, expected):
    assert shown(value) == expected


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_diff_of_any_templates_is_printable(first, second):
    lines = template_diff({"": first}, {"": second}, ("a", "b")).split("\n")

    assert not any(c in line for line in lines for c in "\x1b\r\u202e")


def test_hostile_templates_are_compared_in_bounded_time():
    first = {"": "\n".join(str(number % 997) for number in range(60_000))}
    second = {"": "\n".join(str(number % 991) for number in range(60_000))}

    assert len(template_diff(first, second, ("a", "b")).splitlines()) < 20_000
