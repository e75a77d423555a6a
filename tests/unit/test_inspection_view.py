"""The display of an inspection: complete, short, and harmless for any file content."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gglib_nb.domain.gguf import Tensor, TensorTable
from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.inspection import Inspection, compare, inspection_of
from gglib_nb.notebook.results import comparison_blocks, inspection_blocks
from gglib_nb.notebook.tables import Diff, blocks_html, blocks_text

TENSORS = (Tensor("a", 12, (256,), 0, 144),)
EVIL = "<script>alert(1)</script>\x1b[2J\u202e\"'>&"


def an_inspection(metadata=None, tensors=TENSORS, name="o/r:Q4_K_M", arrays=None):
    metadata = {"general.architecture": "llama"} if metadata is None else metadata
    header = GgufHeader(
        version=3,
        tensor_count=len(tensors),
        metadata=metadata,
        array_lengths=arrays or {},
        layer_values={},
        has_chat_template="tokenizer.chat_template" in metadata,
        tensor_parameters=None,
        header_bytes=64,
    )
    return inspection_of(name, 1_000, [TensorTable(header, tuple(tensors), 0, "a")])


def inspection_text(one, width=None):
    return blocks_text(inspection_blocks(one), width)


def inspection_html(one):
    return blocks_html(inspection_blocks(one))


class Tags(HTMLParser):
    """The tags and attributes, and whether every tag is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.data = [], set(), set(), ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data += data


def parsed(html):
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    return tags


SAFE_TAGS = {"div", "strong", "table", "thead", "tbody", "tr", "td", "th", "code", "details", "summary", "pre", "span"}


def test_both_forms_show_the_type_of_every_tensor_group_and_every_key():
    one = an_inspection({"general.architecture": "llama", "llama.block_count": 16}, arrays={"tokenizer.ggml.tokens": 9})

    for text in (inspection_text(one, 100), parsed(inspection_html(one)).data):
        for expected in ("Q4_K", "llama.block_count", "16", "tokenizer.ggml.tokens", "9 values"):
            assert expected in text


def test_a_template_is_shown_as_text():
    one = an_inspection({"tokenizer.chat_template": "{{ '<b>' }}\nnext"})

    assert "{{ &#x27;&lt;b&gt;&#x27; }}\nnext" in inspection_html(one)
    assert "{{ '<b>' }}\nnext" in inspection_text(one)


def test_hostile_metadata_is_harmless_in_html_and_text():
    metadata = {
        f"general.{EVIL}": EVIL,
        "general.architecture": EVIL,
        "general.name": EVIL,
        "tokenizer.chat_template": EVIL,
    }
    one, other = an_inspection(metadata, name=EVIL), an_inspection({}, name="o/r")

    for html in (
        inspection_html(one),
        blocks_html(comparison_blocks(compare(one, other))),
        blocks_html(comparison_blocks(compare(other, one))),
    ):
        found = parsed(html)
        assert found.tags <= SAFE_TAGS
        assert not any(name.startswith("on") for name in found.attributes)
    for text in (inspection_text(one), blocks_text(comparison_blocks(compare(one, other)))):
        assert "\x1b" not in text
        assert "\u202e" not in text


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=20), st.text(max_size=60) | st.integers() | st.booleans() | st.floats(), max_size=6
    )
)
def test_any_metadata_is_rendered(metadata):
    one = an_inspection(metadata)

    assert parsed(inspection_html(one)).tags <= SAFE_TAGS
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", inspection_text(one, 80))


def test_thousands_of_keys_and_lines_are_truncated():
    metadata = {f"key.{number}": number for number in range(3_000)}
    one = an_inspection({**metadata, "tokenizer.chat_template": "x\n" * 20_000})

    assert len(inspection_html(one)) < 200_000
    assert inspection_text(one).count("\n") < 600


def test_a_comparison_shows_only_differences():
    first = an_inspection({"a": 1, "b": 2, "tokenizer.chat_template": "x\ny"})
    second = an_inspection({"a": 1, "b": 3, "tokenizer.chat_template": "x\nz"}, name="o/r:Q8_0")

    text = blocks_text(comparison_blocks(compare(first, second)))

    assert re.search(r"b\s+2\s+3", text)
    assert "-y" in text
    assert "+z" in text
    assert not re.search(r"\ba\s+1\s+1", text)


def test_a_diff_marks_added_and_removed_lines():
    html = blocks_html([Diff("--- a\n+++ b\n@@ -1 +1 @@\n-old <b>\n+new")])

    assert html.count("background:rgba(229") == 2
    assert html.count("background:rgba(67") == 2
    assert "-old &lt;b&gt;" in html


def test_the_share_of_each_type_of_tensor_is_a_bar():
    assert "█" * 20 + " 100.0 %" in inspection_text(an_inspection({}))
    assert "█" * 20 + " 100.0 %" in inspection_html(an_inspection({}))


def test_a_missing_or_introspective_template_is_reported():
    def notes(template: dict[str, str]) -> int:
        return inspection_text(an_inspection(template)).count("\nNote: ")

    assert notes({}) == 1
    assert notes({"tokenizer.chat_template": "{{ ''.__class__ }}"}) == 1
    assert notes({"tokenizer.chat_template": "{{ messages }}"}) == 0


def test_a_very_long_line_of_a_template_is_cut():
    one = an_inspection({"general.architecture": "llama", "tokenizer.chat_template": "x" * 2_000 + "Z" * 200_000})

    for text in (inspection_text(one), inspection_html(one)):
        assert "xxx … 200,000 more characters" in text
        assert "Z" not in text


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        ((None, None), "Neither has a chat template."),
        (("{{ x }}", "{{ x }}"), "The chat templates are the same."),
        ((None, "{{ x }}"), "The chat template is different:"),
        ((EVIL, None), "A chat template is too long to compare."),
        ((EVIL, "{{ x }}"), "A chat template is too long to compare."),
    ],
)
def test_a_comparison_claims_nothing_about_a_template_that_was_not_read(templates, said):
    def with_template(text: str | None) -> Inspection:
        one = an_inspection({} if text is None else {"tokenizer.chat_template": text})
        return replace(one, chat_templates={}) if text == EVIL else one  # too long to keep

    shown = blocks_text(comparison_blocks(compare(*map(with_template, templates))))
    assert said in shown
    assert ("+{{ x }}" in shown) == said.endswith(":")
