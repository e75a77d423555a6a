"""The state of each byte, compared with a plain list of states."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.pieces import (
    COPIED,
    COPIED_SYNCED,
    MISSING,
    SYNCED,
    TAKEN,
    WRITTEN,
    Pieces,
    decode_runs,
    encode_runs,
)

SIZE = 60
STATES = (MISSING, TAKEN, WRITTEN, SYNCED, COPIED, COPIED_SYNCED)
CHANGES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE), st.sampled_from(STATES)), max_size=12)
PRESENT = {WRITTEN, SYNCED, COPIED, COPIED_SYNCED}


def members(ranges) -> set[int]:
    return {byte for start, end in ranges for byte in range(start, end)}


def changed(changes) -> tuple[Pieces, list[int]]:
    """The map, and the expected state of every byte."""
    pieces, states = Pieces(SIZE), [MISSING] * SIZE
    for start, end, state in changes:
        pieces.set(start, end, state)
        states[start:end] = [state] * max(0, end - start)
    return pieces, states


@given(CHANGES)
def test_every_byte_has_the_state_set_last(changes) -> None:
    pieces, states = changed(changes)

    assert [state for start, end, state in pieces.runs() for _ in range(start, end)] == states
    assert all(one[2] != two[2] for one, two in itertools.pairwise(pieces.runs()))
    assert pieces.present_bytes == sum(state in PRESENT for state in states)
    assert pieces.copied_bytes == sum(state in (COPIED, COPIED_SYNCED) for state in states)
    assert pieces.unsynced_bytes == sum(state in (WRITTEN, COPIED) for state in states)
    assert pieces.missing_bytes == states.count(MISSING)
    assert pieces.last_end == max((at + 1 for at, state in enumerate(states) if state in PRESENT), default=0)


@given(CHANGES, st.integers(0, SIZE))
def test_reach_ends_at_the_first_missing_byte(changes, start) -> None:
    pieces, states = changed(changes)
    expected = start
    while expected < SIZE and states[expected] in PRESENT:
        expected += 1

    assert pieces.reach(start) == expected


@given(CHANGES, st.integers(0, SIZE), st.integers(0, SIZE))
def test_only_missing_bytes_can_be_claimed_and_only_once(changes, start, end) -> None:
    pieces, states = changed(changes)

    if any(state != MISSING for state in states[start:end]):
        with pytest.raises(AssertionError):
            pieces.claim(start, end)
    else:
        pieces.claim(start, end)
        if start < end:
            with pytest.raises(AssertionError):
                pieces.claim(start, end)


@given(CHANGES, st.integers(0, SIZE), st.integers(0, SIZE))
def test_only_claimed_bytes_are_settled_or_released(changes, position, end) -> None:
    pieces, states = changed(changes)
    pieces.settle(0, position)
    pieces.release(0, end)

    expected = [
        WRITTEN if state == TAKEN and at < position else MISSING if state == TAKEN and at < end else state
        for at, state in enumerate(states)
    ]
    assert [state for start, stop, state in pieces.runs() for _ in range(start, stop)] == expected


@given(CHANGES)
def test_a_journal_restores_the_bytes_on_disk_and_after_a_power_cut_the_synced_ones(changes) -> None:
    pieces, states = changed(changes)
    data = encode_runs(pieces, 10_000)

    there = Pieces(SIZE, decode_runs(data, only_synced=False))
    after = Pieces(SIZE, decode_runs(data, only_synced=True))

    assert all(one[1] < two[0] for one, two in itertools.pairwise(there.present()))
    assert members(there.present()) == {at for at, state in enumerate(states) if state in PRESENT}
    assert members(after.present()) == {at for at, state in enumerate(states) if state in (SYNCED, COPIED_SYNCED)}


@given(CHANGES, st.integers(0, 5))
def test_a_record_that_is_too_long_states_fewer_bytes_and_never_more(changes, runs) -> None:
    pieces, states = changed(changes)

    kept = Pieces(SIZE, decode_runs(encode_runs(pieces, runs * 17), only_synced=False))

    assert len(kept.present()) <= runs
    assert members(kept.present()) <= {at for at, state in enumerate(states) if state in PRESENT}


@given(st.binary(max_size=60))
def test_invalid_runs_are_refused(data) -> None:
    try:
        runs = decode_runs(data, only_synced=False)
    except ValueError:
        return
    assert all(start < end for start, end, _ in runs)


def test_sequential_bytes_need_no_steps() -> None:
    assert Pieces(200, [(100, 150, WRITTEN)]).steps(100, 200, 128) == ()
    assert Pieces(200).steps(0, 200, 128) == ()


def test_gaps_and_small_runs_are_shown() -> None:
    assert Pieces(1000, [(0, 500, WRITTEN), (600, 999, SYNCED)]).steps(0, 1000, 10) == (0, 5, 6, 9)
    assert Pieces(1000, [(0, 500, WRITTEN), (700, 701, COPIED)]).steps(0, 1000, 10) == (0, 5, 7, 8)
