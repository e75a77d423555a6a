"""The wire between page and kernel: one parser, and one set of shapes in both languages."""

import contextlib
import re
from pathlib import Path
from typing import get_args, is_typeddict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.errors import RequestError
from gglib_nb.notebook import messages
from gglib_nb.notebook.messages import parse_request

TYPEDEFS = (Path(messages.__file__).parent / "static" / "messages.js").read_text(encoding="utf-8")
REQUESTS = get_args(messages.Request)
SHAPES = [shape for shape in vars(messages).values() if is_typeddict(shape) and shape not in REQUESTS]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def fields_in_javascript(name: str) -> set[str]:
    """The property names of a typedef of the page."""
    found = re.search(r"@typedef \{\{((?:[^@])*?)\}\} " + name + r"\b", TYPEDEFS)
    assert found, f"messages.js has no typedef {name}"
    return set(re.findall(r"(?:^|[,{\s*])(\w+)\??:", found.group(1)))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_both_languages_name_the_same_fields(shape):
    assert fields_in_javascript(shape.__name__) == set(shape.__annotations__)


@pytest.mark.parametrize(
    "request_",
    [
        {"cid": "1", "kind": "sync"},
        {"cid": "1", "kind": "sight", "view": "a", "is_shown": True, "rows": ["owner/repo:Q4_K_M"], "mapped": []},
        {"cid": "1", "kind": "cancel_all"},
        {"cid": "1", "kind": "cancel", "id": "owner/repo:Q4_K_M"},
        {"cid": "1", "kind": "dismiss", "id": "owner/repo:Q4_K_M"},
        {"cid": "1", "kind": "move", "id": "owner/repo:Q4_K_M", "position": 2},
        {"cid": "1", "kind": "queue", "repo_id": "owner/repo"},
        {"cid": "1", "kind": "queue", "repo_id": "owner/repo", "quantization": None, "companions": ["mmproj"]},
        {"cid": "1", "kind": "variants", "repo_id": "owner/repo"},
        {"cid": "1", "kind": "suggest", "text": "llama"},
        {"cid": "1", "kind": "limit", "max_size": 12},
        {"cid": "1", "kind": "bandwidth", "bytes_per_second": None},
        {"cid": "1", "kind": "models"},
        {"cid": "1", "kind": "delete_preview", "id": "owner/repo:Q4_K_M"},
        {"cid": "1", "kind": "loading", "id": "owner/repo:Q4_K_M"},
    ],
    ids=lambda request_: request_["kind"],
)
def test_a_request_of_the_page_is_read_as_it_is(request_):
    assert parse_request(request_) == request_


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("cancel", "no request"),
        ({"cid": "1"}, "no request"),
        ({"cid": "1", "kind": "format_disk"}, "'format_disk'"),
        ({"cid": "1", "kind": "cancel"}, "wrong id"),
        ({"cid": "1", "kind": "cancel", "id": 7}, "wrong id"),
        ({"cid": "1", "kind": "move", "id": "a/b", "position": True}, "wrong position"),
        ({"cid": "1", "kind": "move", "id": "a/b", "position": 1.5}, "wrong position"),
        ({"cid": "1", "kind": "queue", "repo_id": "a/b", "companions": [1]}, "wrong companions"),
        ({"cid": "1", "kind": "sync", "token": "hf_x"}, "wrong token"),
    ],
)
def test_what_is_no_request_is_refused_by_name(content, complaint):
    with pytest.raises(RequestError, match=complaint):
        parse_request(content)


@given(json_values | st.fixed_dictionaries({"cid": st.text(), "kind": st.sampled_from(["move", "queue"])}))
def test_whatever_arrives_is_read_or_refused(content):
    read = None
    with contextlib.suppress(RequestError):
        read = parse_request(content)

    assert read is None or read is content
