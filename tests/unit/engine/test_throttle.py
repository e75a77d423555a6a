"""The bandwidth limit is exact over seconds, for any slices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.pacing import TokenBucket


def spend(bucket: TokenBucket, slices: list[int], now_s: float) -> float:
    """Take the slices one after another with the requested waits; returns the time at the end."""
    for count in slices:
        now_s += bucket.wait_s(bucket.reserve(count, now_s), now_s)
    return now_s


@given(st.lists(st.integers(1, 200_000), min_size=50, max_size=200))
def test_the_limit_is_exact_to_five_percent_over_ten_seconds(slices) -> None:
    rate = sum(slices) / 10
    bucket = TokenBucket(rate, 100.0)

    ended_s = spend(bucket, slices, 100.0)

    assert ended_s - 100.0 == pytest.approx(10, rel=0.05)


def test_credit_of_a_pause_is_not_saved_up() -> None:
    bucket = TokenBucket(1000.0, 0.0)

    ended_s = spend(bucket, [100] * 20, 60.0)

    assert ended_s - 60 == pytest.approx(2.0, abs=0.26)


def test_without_a_limit_no_read_waits() -> None:
    bucket = TokenBucket(None, 0.0)

    assert spend(bucket, [10**9] * 3, 5.0) == 5.0


def test_a_new_limit_counts_from_the_moment_it_is_set() -> None:
    bucket = TokenBucket(None, 0.0)
    spend(bucket, [10**9], 0.0)

    bucket.set_limit(1000.0, 10.0)

    assert spend(bucket, [500] * 4, 10.0) == pytest.approx(12.0, abs=0.26)


def test_lifting_the_limit_releases_waiting_reads() -> None:
    bucket = TokenBucket(10.0, 0.0)
    ticket = bucket.reserve(1000, 0.0)
    assert bucket.wait_s(ticket, 0.0) == pytest.approx(100)

    bucket.set_limit(None, 1.0)

    assert bucket.wait_s(ticket, 1.0) == 0
