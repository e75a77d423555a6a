"""How long requests are and which are split; the next missing bytes, compared with a plain set of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine import pieces
from gglib_nb.engine.pacing import Running, choose_split, request_bytes, window_bytes
from gglib_nb.engine.pieces import MIB, TAKEN, WRITTEN, Pieces

SIZE = 60
RANGES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8)


def split(running: list[Running], rate: float | None, answer_s: float | None = None) -> tuple[int, int] | None:
    return choose_split(dict(enumerate(running)), rate, answer_s)


def members(ranges) -> set[int]:
    return {byte for start, end in ranges for byte in range(start, end)}


@given(RANGES, RANGES, st.integers(1, 20), st.integers(1, 9))
def test_the_next_request_is_the_lowest_missing_run_up_to_a_piece_boundary(done, taken, length, piece) -> None:
    file = Pieces(SIZE)
    for ranges, state in ((taken, TAKEN), (done, WRITTEN)):
        for start, end in ranges:
            file.set(start, end, state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece)
        found = file.next_missing(0, SIZE, length)

    free = set(range(SIZE)) - members(done) - members(taken)
    if not free:
        assert found is None
        return
    assert found[0] == min(free)
    assert members([found]) <= free
    assert found[1] - found[0] <= length + length // 2
    ends_here = found[1] not in free
    assert ends_here or found[1] % piece == 0 or found[1] - found[0] == length


def test_a_short_remainder_is_included() -> None:
    assert Pieces(24 * MIB).next_missing(0, 24 * MIB, 16 * MIB) == (0, 24 * MIB)
    assert Pieces(25 * MIB).next_missing(0, 25 * MIB, 16 * MIB) == (0, 16 * MIB)


@pytest.mark.parametrize("bytes_per_second", [None, 0.0, 1.0 * MIB, 900.0 * MIB])
def test_several_connections_make_short_requests_and_a_single_one_long_ones(bytes_per_second) -> None:
    assert request_bytes(bytes_per_second, 10**12, 4) == 16 * MIB
    assert request_bytes(bytes_per_second, 10**12, 1) == 64 * MIB


@pytest.mark.parametrize("connections", [2, 4, 8, 16])
def test_every_connection_has_a_place_in_the_window_for_the_next_request_of_each(connections) -> None:
    length = request_bytes(20.0 * MIB, 10**12, connections)

    assert window_bytes(connections, length) >= 2 * connections * length


@pytest.mark.parametrize(
    ("free", "length"),
    [(800 * MIB, 16 * MIB), (192 * MIB, 16 * MIB), (80 * MIB, 8 * MIB), (5 * MIB, 8 * MIB), (0, 8 * MIB)],
)
def test_ranges_become_shorter_towards_the_end(free, length) -> None:
    assert request_bytes(900.0 * MIB, free, 4) == length


@pytest.mark.parametrize(("answer_s", "length"), [(0.01, 8 * MIB), (0.08, 32 * MIB), (0.2, 64 * MIB)])
def test_response_latency_is_at_most_a_tenth_of_a_ranges_time_even_towards_the_end(answer_s, length) -> None:
    assert request_bytes(40.0 * MIB, 0, 4, answer_s) == length


def test_a_tail_is_split_so_that_both_parts_end_together() -> None:
    slow = Running(position=0, end=40 * MIB, bytes_per_second=10 * MIB)

    assert split([slow], 30 * MIB) == (0, 10 * MIB)


def test_the_slowest_range_is_split() -> None:
    runners = [
        Running(0, 20 * MIB, 10 * MIB),
        Running(0, 20 * MIB, 1 * MIB),
        Running(0, 40 * MIB, 10 * MIB),
    ]

    index, _ = split(runners, 10 * MIB)

    assert index == 1


def test_a_nearly_finished_range_is_not_split() -> None:
    assert split([Running(0, 4 * MIB, 10 * MIB), Running(0, MIB, 1000.0)], 100 * MIB) is None


def test_a_tail_is_not_split_for_a_small_saving() -> None:
    ends_in_one_second = Running(0, 10 * MIB, 10 * MIB)

    assert split([ends_in_one_second], 10 * MIB) is None
    assert split([ends_in_one_second], 90 * MIB) == (0, MIB)


def test_a_tail_starts_where_the_first_connection_will_be_when_the_response_arrives() -> None:
    slow = Running(position=0, end=40 * MIB, bytes_per_second=10 * MIB)

    assert split([slow], 30 * MIB, answer_s=0.4) == (0, 13 * MIB)


def test_a_tail_is_not_split_if_latency_uses_up_the_saving() -> None:
    ends_in_two_seconds = Running(0, 20 * MIB, 10 * MIB)

    assert split([ends_in_two_seconds], 10 * MIB, answer_s=0.1) is not None
    assert split([ends_in_two_seconds], 10 * MIB, answer_s=0.9) is None


def test_a_range_without_data_yet_is_not_split() -> None:
    assert split([Running(0, 40 * MIB, None)], 100 * MIB) is None


def test_a_stalled_range_is_given_away_except_for_a_remainder() -> None:
    assert split([Running(0, 40 * MIB, 0.0)], 100 * MIB) == (0, MIB)


@given(
    st.lists(
        st.builds(Running, st.integers(0, 50 * MIB), st.integers(50 * MIB, 99 * MIB), st.floats(0, 1e8)),
        max_size=5,
    ),
    st.none() | st.floats(0, 1e9),
    st.none() | st.floats(0, 30),
)
def test_a_split_leaves_bytes_for_both_parts(runners, rate, answer_s) -> None:
    choice = split(runners, rate, answer_s)

    if choice is not None:
        index, at = choice
        assert runners[index].position < at < runners[index].end
