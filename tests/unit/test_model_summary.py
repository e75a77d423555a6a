"""A registered model as a row: its state from the files, and sorting and filtering of rows."""

from dataclasses import asdict, replace

import pytest

from gglib_nb.domain.download import HostFolder
from gglib_nb.domain.library import DiskUse
from gglib_nb.domain.model import FileLook, ordered, selected, summary_of
from gglib_nb.notebook.listings import model_list
from tests.support.catalog_models import model, stored, untouched


def test_a_row_is_flat() -> None:
    row = summary_of(model(), untouched(model()))

    assert all(isinstance(value, str | int | float | bool | None) for value in asdict(row).values())


def test_a_row_has_the_header_values_and_the_state_of_the_files() -> None:
    facts = {"architecture": "llama", "context_length": 8192, "parameter_count": 8_000_000_000}
    projector = stored("/models/owner/repo/mmproj.gguf", 20, kind="mmproj")
    vision = model("owner/repo:Q4_K_M", stored("/models/owner/repo/a.gguf", 100, facts=facts), projector)

    row = summary_of(vision, untouched(vision))

    assert (row.architecture, row.context_length, row.parameter_count) == ("llama", 8192, 8_000_000_000)
    assert (row.size_bytes, row.file_count) == (120, 2)
    assert (row.path, row.folder) == ("/models/owner/repo/a.gguf", "/models/owner/repo")
    assert row.projector_path == "/models/owner/repo/mmproj.gguf"


@pytest.mark.parametrize(
    ("changes", "look", "state"),
    [
        ({}, FileLook(1000, 111), "verified"),
        ({"is_verified": False}, FileLook(1000, 111), "unverified"),
        ({}, FileLook(999, 111), "changed"),
        ({}, FileLook(1000, 222), "changed"),
        ({"wrong_ranges": ()}, FileLook(1000, 111), "wrong"),
        ({"wrong_ranges": ()}, FileLook(1000, 222), "changed"),
        ({}, None, "missing"),
    ],
)
def test_the_state_is_the_worst_known_state(changes, look, state) -> None:
    one = model("owner/repo:Q4_K_M", stored("/models/a.gguf", **changes))

    assert summary_of(one, {"/models/a.gguf": look}).state == state


def test_for_a_model_on_inaccessible_hosts_the_record_counts() -> None:
    files = (stored("/there/a.gguf"), stored("/there/b.gguf"))
    away = replace(model("owner/repo:Q4_K_M", *files), hosts=(HostFolder("gpu-1", "/there"), HostFolder("gpu-2", "/m")))

    row = summary_of(away, {"/there/a.gguf": None, "/there/b.gguf": None})

    assert (row.state, row.hosts) == ("verified", "gpu-1, gpu-2")
    assert summary_of(away, {"/there/a.gguf": FileLook(1000, 111), "/there/b.gguf": None}).state == "missing"


def test_a_models_verification_time_is_that_of_its_oldest_verification() -> None:
    files = (stored("/a.gguf", verified_at_s=5.0), stored("/b.gguf", verified_at_s=3.0))

    assert model("a/b:Q4", *files).verified_at_s == 3.0
    assert model("a/b:Q4", files[0], replace(files[1], verified_at_s=None)).verified_at_s is None


SMALL = summary_of(model("owner/small:Q4_K_M", registered_at_s=1.0), untouched(model("owner/small:Q4_K_M")))
LARGE = replace(SMALL, id="other/LARGE:Q8_0", size_bytes=5000, registered_at_s=2.0, parameter_count=7, has_update=True)


@pytest.mark.parametrize(
    ("order", "first"),
    [("newest", LARGE), ("name", LARGE), ("size", LARGE), ("parameters", LARGE), ("verified", SMALL)],
)
def test_rows_are_sorted_as_requested_with_unknown_values_last(order, first) -> None:
    assert ordered([SMALL, replace(LARGE, verified_at_s=None)], order)[0].id == first.id


@pytest.mark.parametrize(
    ("text", "only", "found"),
    [
        ("", "", ["owner/small:Q4_K_M", "other/LARGE:Q8_0"]),
        ("large", "", ["other/LARGE:Q8_0"]),
        ("OWNER q4", "", ["owner/small:Q4_K_M"]),
        ("owner q8", "", []),
        ("", "update", ["other/LARGE:Q8_0"]),
        ("", "verified", ["owner/small:Q4_K_M", "other/LARGE:Q8_0"]),
        ("", "wrong", []),
    ],
)
def test_rows_are_filtered_by_words_and_state(text, only, found) -> None:
    large = replace(LARGE, path="/models/other/LARGE/model.gguf")

    assert [row.id for row in selected([SMALL, large], text, only)] == found


@pytest.mark.parametrize(
    ("atime_s", "recorded_s", "expected_s"),
    [(0, None, None), (5_000, None, 5_000), (5_000, 6_000.0, 6_000), (5_000, 4_000.0, 5_000), (1_010, None, None)],
    ids=["no access times", "opened", "asked for later", "opened later", "read when it was registered"],
)
def test_the_last_use_is_the_latest_known_use(atime_s, recorded_s, expected_s):
    one = model()
    look = FileLook(1000, 111, int(atime_s * 1e9))

    assert summary_of(one, {one.paths[0]: look}, recorded_s).last_used_at_s == expected_s


def test_a_row_of_the_panel_holds_no_control_characters_of_a_label() -> None:
    summary = summary_of(model("a/b:Q8_0", label="Q8\u202e\x1b"), {})

    assert model_list([summary], DiskUse(0, None, "/models")).rows[0].tag == "Q8  "
