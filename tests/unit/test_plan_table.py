"""What a repository offers, as a table in text and in HTML."""

import re

import pytest

from gglib_nb.domain.memory import MemoryEstimate
from gglib_nb.domain.plan import PlannedCompanion, fit_of
from gglib_nb.notebook.plan_table import plan_html, plan_text
from tests.support.plan_values import GIB, a_plan, a_variant


def rows_of(text):
    return [line for line in text.splitlines() if re.match(r"[* ] +\d+ ", line)]


def cells_of(line):
    return re.split(r"\s{2,}", line[2:].strip())


def test_a_row_says_size_bits_memory_fit_and_what_stays_free():
    row = rows_of(plan_text(a_plan(a_variant("Q4_K_M", 5.0))))[0]

    assert cells_of(row) == ["1", "Q4_K_M", "5.0 GiB", "4.9", "6.5 GiB", "GPU", "55.0 GiB"]


def test_the_title_says_what_there_is_of_disk_and_memory():
    assert plan_text(a_plan(a_variant())).splitlines()[0] == (
        "owner/model-GGUF · 1 variant · 60.0 GiB free · 32.0 GiB RAM · 12.0 GiB GPU"
    )


def test_the_recommended_row_is_marked_and_says_why():
    plan = a_plan(a_variant("Q2_K", 3), a_variant("Q4_K_M", 5, is_recommended=True, why="Q4_K_M is the usual choice."))

    text = plan_text(plan)

    assert [row[0] for row in rows_of(text)] == [" ", "*"]
    assert "Recommended: Q4_K_M is the usual choice." in text
    assert plan_html(plan).count("★ recommended") == 1


@pytest.mark.parametrize(
    ("size_gib", "fits"),
    [(5, "GPU"), (9.5, "GPU, tight"), (15, "RAM"), (27, "RAM, tight"), (50, "too large")],
)
def test_the_fit_is_the_best_place_it_fits_in(size_gib, fits):
    assert fits in cells_of(rows_of(plan_text(a_plan(a_variant("Q8_0", size_gib))))[0])


def test_a_rough_estimate_is_marked():
    rough = a_variant(memory=MemoryEstimate(5 * GIB, None, GIB, is_rough=True))

    text = plan_text(a_plan(rough))

    assert "~6.0 GiB" in text
    assert "rough (~)" in text


def test_without_an_estimate_there_is_no_column_for_it():
    unknown = a_variant(memory=None, ram_fit="unknown", vram_fit="unknown")

    text = plan_text(a_plan(unknown, context_tokens=None))

    assert "Memory" not in text
    assert "Fits" not in text


@pytest.mark.parametrize(("present", "says"), [(5 * GIB, "all of it"), (GIB, "20 %, 4.0 GiB to go"), (0, "Q4_K_M")])
def test_what_is_here_already_is_said(present, says):
    assert says in rows_of(plan_text(a_plan(a_variant("Q4_K_M", 5, present_bytes=present))))[0]


def test_a_disk_that_is_too_small_says_by_how_much():
    assert "2.0 GiB short" in plan_text(a_plan(a_variant(free_bytes_after=-2 * GIB)))


def test_an_incomplete_set_is_named():
    assert "incomplete: 1 of 3 files are missing" in plan_text(a_plan(a_variant(shard_count=3, missing=(2,))))


def test_a_gated_repository_names_the_page_and_the_login():
    text = plan_text(a_plan(a_variant(), gate="manual", has_access=False, accept_url="https://hub/owner/model"))

    assert text.splitlines()[1] == (
        "Gated: accept the terms at https://hub/owner/model and log in with hf auth login, then queue it."
    )


def test_a_companion_that_can_be_fetched_is_offered():
    offered = PlannedCompanion("mmproj-F16.gguf", "mmproj", GIB, can_fetch=True)
    other = PlannedCompanion("x.imatrix", "imatrix", GIB, can_fetch=False)

    text = plan_text(a_plan(a_variant(), companions=(offered, other)))

    assert "With it goes mmproj (1.0 GiB): add --with mmproj to %gguf queue" in text
    assert "imatrix" not in text


def test_html_from_outside_is_text():
    page = plan_html(a_plan(a_variant(label="x", key="<img src=x onerror=alert(1)>", bits_per_weight=None)))

    assert "<img" not in page
    assert "&lt;img" in page


@pytest.mark.parametrize(
    ("needed", "available", "fit"),
    [(85, 100, "fits"), (86, 100, "tight"), (100, 100, "tight"), (101, 100, "too large"), (None, 1, "unknown")],
)
def test_a_fit_leaves_something_to_the_rest_of_the_machine(needed, available, fit):
    assert fit_of(needed, available) == fit
