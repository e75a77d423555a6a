"""Download hours: how users write them, which times they contain, and when they change."""

from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import InvalidConfigError

MINUTES = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))
SPANS = st.tuples(MINUTES, MINUTES).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: DailyHours(*pair))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("22:00-7:00", "22:00-07:00"),
        ("22-7", "22:00-07:00"),
        (" 8:30 to 17 ", "08:30-17:00"),
        ("22:00\N{EN DASH}07:00", "22:00-07:00"),
        ("18:00 until 24:00", "18:00-00:00"),
    ],
)
def test_hours_are_parsed_in_common_notations(text, meant):
    assert str(DailyHours.parse(text)) == meant


@pytest.mark.parametrize(
    "text", ["", "22", "22:00", "25-7", "22:60-7", "7-7", "24-0", "10 pm - 7 am", "22:00-7:00-8:00"]
)
def test_an_invalid_time_range_is_refused(text):
    with pytest.raises(InvalidConfigError):
        DailyHours.parse(text)


@pytest.mark.parametrize(
    ("moment", "is_inside"), [("21:59", False), ("22:00", True), ("00:00", True), ("06:59", True), ("07:00", False)]
)
def test_a_range_over_midnight_includes_its_start_and_excludes_its_end(moment, is_inside):
    assert DailyHours.parse("22-7").contains(time.fromisoformat(moment)) is is_inside


@given(SPANS)
def test_hours_are_unchanged_after_formatting_and_parsing(hours):
    assert DailyHours.parse(str(hours)) == hours


@given(SPANS, st.times())
def test_the_hours_change_exactly_at_the_next_turn(hours, now):
    moment = datetime.combine(date(2026, 6, 1), now)
    turn_s = hours.seconds_until_turn(now)

    before = (moment + timedelta(seconds=turn_s) - timedelta(milliseconds=1)).time()
    after = (moment + timedelta(seconds=turn_s) + timedelta(milliseconds=1)).time()
    assert 0 < turn_s <= 24 * 60 * 60
    assert hours.contains(after) is not hours.contains(now)
    assert turn_s < 0.002 or hours.contains(before) is hours.contains(now)


@given(st.text(max_size=16))
def test_any_text_is_parsed_as_hours_or_refused(text):
    try:
        hours = DailyHours.parse(text)
    except InvalidConfigError:
        return
    assert DailyHours.parse(str(hours)) == hours
