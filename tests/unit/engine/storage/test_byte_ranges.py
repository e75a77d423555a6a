"""Sets of bytes: what was added and not removed, in whatever order."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.storage.byte_ranges import RangeSet

SIZE = 60
RANGES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8)


def members(ranges) -> set[int]:
    return {byte for start, end in ranges for byte in range(start, end)}


@given(RANGES, RANGES)
def test_a_range_set_holds_what_was_added_and_not_removed(added, removed) -> None:
    ranges = RangeSet(added)
    for start, end in removed:
        ranges.remove(start, end)

    expected = members(added) - members(removed)
    assert members(ranges) == expected
    assert ranges.total_bytes == len(expected)
    assert ranges.last_end == max(expected, default=-1) + 1


@given(RANGES)
def test_its_ranges_are_sorted_and_neither_touch_nor_overlap(added) -> None:
    pieces = list(RangeSet(added))

    assert all(start < end for start, end in pieces)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(pieces))


@given(RANGES, st.integers(0, SIZE), st.integers(0, SIZE))
def test_gaps_are_what_is_not_in_it(added, start, end) -> None:
    gaps = list(RangeSet(added).gaps(start, end))

    assert members(gaps) == set(range(start, end)) - members(added)
    assert gaps == sorted(gaps)


@given(RANGES, st.integers(0, SIZE))
def test_reach_ends_at_the_first_byte_that_is_missing(added, start) -> None:
    expected = start
    while expected in members(added):
        expected += 1

    assert RangeSet(added).reach(start) == expected


@given(RANGES, st.integers(0, SIZE), st.integers(0, SIZE))
def test_bytes_within_counts_the_part_of_it(added, start, end) -> None:
    assert RangeSet(added).bytes_within(start, end) == len(members(added) & set(range(start, end)))


@given(RANGES, st.integers(0, SIZE), st.integers(1, SIZE), st.integers(1, 12))
def test_steps_are_runs_in_order_of_which_each_step_holds_a_byte(added, start, length, count) -> None:
    end = start + length
    steps = RangeSet(added).steps_within(start, end, count)

    assert list(steps) == sorted(set(steps))
    assert not steps or (len(steps) % 2 == 0 and steps[0] >= 0 and steps[-1] <= count)
    inside = {(byte - start) * count // length for byte in members(added) if start <= byte < end}
    covered = {step for first, last in zip(steps[::2], steps[1::2], strict=True) for step in range(first, last)}
    if length >= count:
        assert covered <= inside


def test_bytes_in_their_order_need_no_steps() -> None:
    assert RangeSet([(100, 150)]).steps_within(100, 200, 128) == ()
    assert RangeSet().steps_within(0, 200, 128) == ()


def test_a_gap_before_the_end_shows_and_what_is_small_too() -> None:
    assert RangeSet([(0, 500), (600, 999)]).steps_within(0, 1000, 10) == (0, 5, 6, 9)
    assert RangeSet([(0, 500), (700, 701)]).steps_within(0, 1000, 10) == (0, 5, 7, 8)


def test_a_copy_does_not_change_with_the_original() -> None:
    original = RangeSet([(0, 5)])
    copy = original.copy()

    original.add(5, 9)

    assert list(copy) == [(0, 5)]
