"""The `models.ini` of llama-server's router: it lists all models, and the user's additions are kept."""

import configparser

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.loading import merged_preset
from tests.support.catalog_models import model, stored

SMALL = model("owner/small:Q4_K_M", stored("/m/small.gguf"))
VISION = model("owner/see:Q8_0", stored("/m/see.gguf"), stored("/m/mmproj.gguf", kind="mmproj"))
FAST = model("owner/fast:Q8_0", stored("/m/fast.gguf"), stored("/m/mtp-fast.gguf", kind="draft"))


def read(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, default_section="none")
    parser.read_string(f"[top]\n{text}")
    return {name: dict(parser[name]) for name in parser.sections()}


def test_a_new_file_has_a_section_for_each_model() -> None:
    text, left_out = merged_preset("", [SMALL, VISION, FAST])

    assert read(text) == {
        "top": {"version": "1"},
        "owner/small:Q4_K_M": {"model": "/m/small.gguf"},
        "owner/see:Q8_0": {"model": "/m/see.gguf", "mmproj": "/m/mmproj.gguf"},
        "owner/fast:Q8_0": {
            "model": "/m/fast.gguf",
            "spec-draft-model": "/m/mtp-fast.gguf",
            "spec-type": "draft-mtp",
        },
    }
    assert left_out == ()


def test_sections_added_by_the_user_are_kept() -> None:
    text, _ = merged_preset("", [SMALL, VISION])
    edited = text.replace("[owner/see:Q8_0]\n", "; my favourite\n[owner/see:Q8_0]\nctx-size = 8192\n")
    edited += "\n[*]\nn-gpu-layers = 99\n\n[mine]\nmodel = /elsewhere/mine.gguf\n; the end\n"
    moved = model("owner/see:Q8_0", stored("/new/see.gguf"), stored("/new/mmproj.gguf", kind="mmproj"))

    again, _ = merged_preset(edited, [SMALL, moved, FAST])

    found = read(again)
    assert found["owner/see:Q8_0"] == {"model": "/new/see.gguf", "mmproj": "/new/mmproj.gguf", "ctx-size": "8192"}
    assert (found["*"], found["mine"]) == ({"n-gpu-layers": "99"}, {"model": "/elsewhere/mine.gguf"})
    assert "owner/fast:Q8_0" in found
    assert "; my favourite\n" in again
    assert "; the end\n" in again


def test_a_deleted_model_is_removed_unless_the_user_edited_its_section() -> None:
    text, _ = merged_preset("", [SMALL, VISION])
    edited = text.replace("[owner/see:Q8_0]\n", "[owner/see:Q8_0]\nctx-size = 8192\n")

    again, _ = merged_preset(edited, [])

    assert set(read(again)) == {"top", "owner/see:Q8_0"}


def test_a_path_that_the_format_cannot_represent_is_skipped_and_reported() -> None:
    odd = model("owner/odd:Q4_K_M", stored("/m/a;b.gguf"))

    text, left_out = merged_preset("", [odd, SMALL])

    assert (set(read(text)), left_out) == ({"top", "owner/small:Q4_K_M"}, ("owner/odd:Q4_K_M",))


@given(st.text("[]=;# ab\n", max_size=60))
def test_any_text_is_kept_and_writing_is_idempotent(text: str) -> None:
    once, _ = merged_preset(text, [SMALL])

    assert merged_preset(once, [SMALL])[0] == once
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("["):
            assert line in once


def test_a_model_whose_id_cannot_name_a_section_is_left_out() -> None:
    text, left_out = merged_preset("", [SMALL, model("owner/odd:small [v2]", stored("/m/odd.gguf"))])

    assert list(read(text)) == ["top", "owner/small:Q4_K_M"]
    assert left_out == ("owner/odd:small [v2]",)
