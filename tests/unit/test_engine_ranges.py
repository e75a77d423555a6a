"""Sets of bytes and who fetches them next, against a plain set of numbers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.ranges import MIB, RangeSet, Runner, choose_split, next_range, range_bytes

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


def test_a_copy_does_not_change_with_the_original() -> None:
    original = RangeSet([(0, 5)])
    copy = original.copy()

    original.add(5, 9)

    assert list(copy) == [(0, 5)]


@given(RANGES, RANGES, st.integers(1, 20))
def test_the_next_range_is_the_lowest_that_nobody_has(done, taken, length) -> None:
    found = next_range(RangeSet(done), taken, 0, SIZE, length)

    free = set(range(SIZE)) - members(done) - members(taken)
    if not free:
        assert found is None
    else:
        assert found[0] == min(free)
        assert members([found]) <= free
        assert found[1] - found[0] <= length + length // 2


def test_a_short_rest_is_taken_along() -> None:
    assert next_range(RangeSet(), [], 0, 24, 16) == (0, 24)
    assert next_range(RangeSet(), [], 0, 25, 16) == (0, 16)


@pytest.mark.parametrize(
    ("bytes_per_second", "length"),
    [(None, 16 * MIB), (0.0, 16 * MIB), (1 * MIB, 16 * MIB), (12 * MIB, 24 * MIB), (900 * MIB, 64 * MIB)],
)
def test_a_range_lasts_about_two_seconds_within_its_bounds(bytes_per_second, length) -> None:
    assert range_bytes(bytes_per_second, 10**12, 4) == length


@pytest.mark.parametrize(
    ("free", "length"),
    [(800 * MIB, 64 * MIB), (160 * MIB, 20 * MIB), (80 * MIB, 10 * MIB), (5 * MIB, 8 * MIB), (0, 8 * MIB)],
)
def test_ranges_get_shorter_towards_the_end(free, length) -> None:
    assert range_bytes(900.0 * MIB, free, 4) == length


@pytest.mark.parametrize(("answer_s", "length"), [(0.01, 8 * MIB), (0.08, 32 * MIB), (0.2, 64 * MIB)])
def test_waiting_for_an_answer_is_a_tenth_of_a_ranges_time_also_towards_the_end(answer_s, length) -> None:
    assert range_bytes(40.0 * MIB, 0, 4, answer_s) == length


def test_a_tail_is_split_so_that_both_end_together() -> None:
    slow = Runner(position=0, end=40 * MIB, bytes_per_second=10 * MIB)

    assert choose_split([slow], 30 * MIB) == (0, 10 * MIB)


def test_the_range_that_takes_longest_is_split() -> None:
    runners = [Runner(0, 20 * MIB, 10 * MIB), Runner(0, 20 * MIB, 1 * MIB), Runner(0, 40 * MIB, 10 * MIB)]

    index, _ = choose_split(runners, 10 * MIB)

    assert index == 1


def test_a_range_that_is_nearly_done_is_left_alone() -> None:
    assert choose_split([Runner(0, 4 * MIB, 10 * MIB), Runner(0, MIB, 1000.0)], 100 * MIB) is None


def test_a_tail_is_left_where_another_connection_would_save_too_little() -> None:
    ends_in_one_second = Runner(0, 10 * MIB, 10 * MIB)

    assert choose_split([ends_in_one_second], 10 * MIB) is None
    assert choose_split([ends_in_one_second], 90 * MIB) == (0, MIB)


def test_a_range_that_has_brought_nothing_yet_is_left_alone() -> None:
    assert choose_split([Runner(0, 40 * MIB, None)], 100 * MIB) is None


def test_a_range_that_stands_still_is_given_away_but_for_a_rest() -> None:
    assert choose_split([Runner(0, 40 * MIB, 0.0)], 100 * MIB) == (0, MIB)


@given(
    st.lists(
        st.builds(Runner, st.integers(0, 50 * MIB), st.integers(50 * MIB, 99 * MIB), st.floats(0, 1e8)), max_size=5
    ),
    st.none() | st.floats(0, 1e9),
)
def test_a_split_always_leaves_both_something(runners, rate) -> None:
    choice = choose_split(runners, rate)

    if choice is not None:
        index, at = choice
        assert runners[index].position < at < runners[index].end
