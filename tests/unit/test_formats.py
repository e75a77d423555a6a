"""Formatted numbers; the table of cases is shared with the panel's script."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain import units

CASES = json.loads((Path(__file__).parent / "format_cases.json").read_text(encoding="utf-8"))
FLAT = [(name, value, text) for name, rows in CASES.items() for value, text in rows]


@pytest.mark.parametrize(("name", "value", "text"), FLAT)
def test_every_number_is_formatted_as_in_the_shared_table(name, value, text):
    assert getattr(units, name)(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_figure_has_no_exponent_and_is_the_number(number):
    assert "e" not in units.figure(number, 17).lower()
    assert float(units.figure(number, 17)) == number


@given(st.floats(min_value=0, max_value=1e15))
def test_a_size_never_shows_a_full_thousand_of_a_smaller_unit(size_bytes):
    number = float(units.size(size_bytes).split()[0])

    assert number < 1000 or size_bytes >= 1000**5


@given(st.floats(min_value=0, max_value=1e15))
def test_memory_never_shows_a_full_step_of_a_smaller_unit(memory_bytes):
    number = float(units.memory(memory_bytes).split()[0])

    assert number < 1024 or memory_bytes >= 1024**5


@given(st.integers(min_value=10**6, max_value=10**14))
def test_a_size_and_a_rate_of_equal_bytes_show_the_same_number(number):
    assert units.rate(number) == units.size(number) + "/s"


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_is_never_zero_seconds(seconds):
    assert units.duration(seconds) != "0 s"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_duration_that_is_not_a_number_is_unknown(value):
    assert units.duration(value) == "—"


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_only_finished_work_shows_a_hundred_percent(fraction):
    assert units.percent(fraction) != "100 %" or fraction > 1 - 1e-10


@pytest.mark.parametrize(
    ("downloaded_bytes", "total_bytes", "text"),
    [
        (0, 5000, "5.0 kB"),
        (5000, 5000, "5.0 kB"),
        (2, 5000, "2 B of 5.0 kB"),
        (2, None, "2 B"),
        (0, None, "—"),
        (0, 0, "0 B"),
    ],
)
def test_an_amount_names_the_total_if_that_is_known(downloaded_bytes, total_bytes, text):
    assert units.amount(downloaded_bytes, total_bytes) == text
