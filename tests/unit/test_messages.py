"""Messages between the page and the kernel: one form on both sides, and a parser that refuses everything else."""

import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.errors import RequestError
from gglib_nb.notebook import messages
from gglib_nb.notebook.messages import parse_request

TYPES = Path(messages.__file__).parent / "static" / "types.js"
SHARED = (
    messages.Fact,
    messages.Action,
    messages.Bar,
    messages.Row,
    messages.View,
    messages.Field,
    messages.Notice,
    messages.Header,
    messages.PanelState,
    messages.News,
    messages.Changes,
    messages.Answer,
    messages.Listing,
    messages.Reply,
    messages.Progress,
)


def page_fields(name: str) -> set[str]:
    text = re.sub(r"\n \*\s*", " ", TYPES.read_text(encoding="utf-8"))
    (body,) = re.findall(rf"@typedef {{{{(.*?)}}}} {name} ", text)
    plain = re.sub(r"<[^<>]*>|\[[^\]]*\]|\"[^\"]*\"", "", body)
    return set(re.findall(r"(\w+)\??:", plain))


@pytest.mark.parametrize("struct", SHARED, ids=lambda struct: struct.__name__)
def test_the_page_and_the_kernel_know_the_same_fields(struct):
    fields = {field.encode_name for field in msgspec.structs.fields(struct)}
    tag = {"kind"} if struct.__struct_config__.tag is not None else set()

    assert page_fields(struct.__name__) == fields | tag


@pytest.mark.parametrize(
    "request_",
    [
        messages.Sync(cid="1", seq=3),
        messages.SetVisible(cid="1", view="a", is_shown=True),
        messages.Act(cid="1", action="move", id="owner/m:Q4", position=2),
        messages.Set(cid="1", id="bandwidth_limit_bytes_per_second", value=""),
        messages.Show(cid="1", what="models"),
        messages.Show(cid="1", what="found", text="llama", task="text-generation"),
        messages.Show(cid="1", what="variants", text="owner/m"),
        messages.Add(cid="1", repo_id="owner/m", key="Q4", choices=("mmproj",)),
    ],
    ids=lambda request_: type(request_).__name__,
)
def test_every_request_is_unchanged_after_encoding_and_decoding(request_):
    assert parse_request(msgspec.to_builtins(request_)) == request_


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"kind": "sync"},
        {"cid": "1", "kind": "explode"},
        {"cid": "1", "kind": "sync", "seq": "3"},
        {"cid": "1", "kind": "act", "action": "pause", "id": "a", "more": 1},
        {"cid": "1", "kind": "act", "action": "move", "id": "a", "position": True},
    ],
)
def test_any_other_message_is_refused_in_one_sentence(content):
    with pytest.raises(RequestError, match=r"Reload the page\.$"):
        parse_request(content)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["cid", "kind", "id", "action", "seq", "value", "view", "x"]), json))
def test_a_page_message_can_only_raise_a_request_error(content):
    with suppress(RequestError):
        assert parse_request(content).cid == content["cid"]
