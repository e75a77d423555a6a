"""The rate estimator: its limits, and its results on simple lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.queue.rate import RateEstimator

SAMPLES = st.lists(
    st.tuples(st.floats(0.0, 60.0), st.integers(0, 10**9), st.booleans()), min_size=1, max_size=40
)  # seconds since the last sample, bytes since the last sample, stalled


def observe_steps(rate, steps, *, remaining_bytes=None, start_bytes=0):
    """Feeds steps; returns the highest rate of a single step."""
    now_s, received, greatest = 100.0, start_bytes, 0.0
    rate.observe(now_s, received, remaining_bytes, is_stalled=False)
    for elapsed_s, moved, is_stalled in steps:
        before_s, now_s, received = now_s, now_s + elapsed_s, received + moved
        rate.observe(now_s, received, remaining_bytes, is_stalled=is_stalled)
        if now_s > before_s:
            greatest = max(greatest, moved / (now_s - before_s))
    return greatest


def steady(rate, *, bytes_per_second, seconds, start_s=0.0, start_bytes=0, total_bytes=None):
    """Ten samples a second of a steady line."""
    for tenth in range(10 * seconds + 1):
        received = start_bytes + bytes_per_second * tenth // 10
        remaining = None if total_bytes is None else total_bytes - received
        rate.observe(start_s + tenth / 10, received, remaining, is_stalled=False)


@given(SAMPLES)
def test_the_rate_is_between_zero_and_the_highest_observed_rate(steps):
    rate = RateEstimator()

    greatest = observe_steps(rate, steps)

    assert rate.bytes_per_second is None or 0 <= rate.bytes_per_second <= greatest * (1 + 1e-9)


@given(SAMPLES, st.integers(0, 10**15))
def test_bytes_on_disk_before_a_resume_do_not_count_as_speed(steps, on_disk):
    fresh, resumed = RateEstimator(), RateEstimator()

    observe_steps(fresh, steps)
    observe_steps(resumed, steps, start_bytes=on_disk)

    assert resumed.bytes_per_second == fresh.bytes_per_second


@given(SAMPLES)
def test_the_rate_and_eta_are_unknown_for_the_first_second_and_a_half(steps):
    rate = RateEstimator()
    now_s = 0.0
    for elapsed_s, moved, _is_stalled in steps:
        now_s = min(1.49, now_s + elapsed_s)
        rate.observe(now_s, moved, 10**9, is_stalled=False)

    assert (rate.bytes_per_second, rate.eta_seconds) == (None, None)


@given(SAMPLES)
def test_a_stalled_line_has_no_speed_and_no_eta(steps):
    rate = RateEstimator()
    observe_steps(rate, [*steps, (2.0, 0, True)], remaining_bytes=10**9)

    assert (rate.bytes_per_second, rate.eta_seconds) == (0.0, None)


@given(SAMPLES, st.integers(1, 10**13))
def test_an_eta_is_a_non_negative_number_of_seconds(steps, remaining_bytes):
    rate = RateEstimator()
    observe_steps(rate, steps, remaining_bytes=remaining_bytes)

    assert rate.eta_seconds is None or 0 <= rate.eta_seconds <= 10**13


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 10**12), st.integers(0, 10**12)), max_size=30))
def test_a_clock_or_a_counter_that_jumps_breaks_nothing(samples):
    rate = RateEstimator()
    for now_s, received, remaining in samples:
        rate.observe(now_s, received, remaining, is_stalled=False)

    assert rate.bytes_per_second is None or rate.bytes_per_second >= 0
    assert rate.eta_seconds is None or 0 <= rate.eta_seconds <= 10**12


def test_an_estimator_without_samples_knows_nothing():
    assert (RateEstimator().bytes_per_second, RateEstimator().eta_seconds) == (None, None)


def test_a_steady_line_has_its_own_rate():
    rate = RateEstimator()

    steady(rate, bytes_per_second=1000, seconds=10)

    assert rate.bytes_per_second == pytest.approx(1000.0)


def test_the_rate_is_known_after_a_second_and_a_half():
    rate = RateEstimator()

    rate.observe(0.0, 0, None, is_stalled=False)
    rate.observe(1.5, 3000, None, is_stalled=False)

    assert rate.bytes_per_second == 2000.0


def test_a_burst_does_not_spike():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=30)

    rate.observe(30.1, 30_000 + 5_000, None, is_stalled=False)  # fifty times as fast, for a tenth of a second

    assert rate.bytes_per_second == pytest.approx(1380, rel=0.01)


def test_the_rate_moves_two_thirds_towards_a_new_rate_in_15_seconds():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=120)

    steady(rate, bytes_per_second=4000, seconds=15, start_s=120.0, start_bytes=120_000)

    assert rate.bytes_per_second == pytest.approx(1000 + 3000 * 0.632, rel=0.01)


def test_samples_without_progress_lower_the_rate():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=120)

    steady(rate, bytes_per_second=0, seconds=15, start_s=120.0, start_bytes=120_000)

    assert rate.bytes_per_second == pytest.approx(368, rel=0.01)


def test_after_hours_of_silence_the_rate_is_0_and_the_eta_unknown():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=10)

    rate.observe(10_000.0, 10_000, 10**12, is_stalled=False)

    assert (rate.bytes_per_second, rate.eta_seconds) == (0.0, None)


def test_after_a_stall_the_rate_is_that_of_the_line_again():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=10)
    rate.observe(10.1, 10_000, None, is_stalled=True)
    assert rate.bytes_per_second == 0.0

    rate.observe(10.2, 10_100, None, is_stalled=False)

    assert rate.bytes_per_second == pytest.approx(1000, rel=0.03)


def test_a_counter_that_goes_backwards_is_a_new_baseline():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=10)

    steady(rate, bytes_per_second=1000, seconds=10, start_s=10.1, start_bytes=0)

    assert rate.bytes_per_second == pytest.approx(1000.0)


# Remaining time


def test_the_eta_of_a_steady_line_is_exact():
    rate = RateEstimator()

    steady(rate, bytes_per_second=1000, seconds=10, total_bytes=60_000)

    assert rate.eta_seconds == pytest.approx(50.0)


def test_the_eta_is_hidden_while_the_rate_still_rises():
    rate = RateEstimator()

    steady(rate, bytes_per_second=1000, seconds=4, total_bytes=60_000)
    at_first = rate.eta_seconds
    steady(rate, bytes_per_second=100_000, seconds=2, start_s=4.0, start_bytes=4000, total_bytes=10**6)

    assert at_first is None
    assert rate.eta_seconds is not None
    assert rate.eta_seconds < 60  # at the rate of the first seconds it would be a quarter of an hour


def test_the_eta_is_smoothed_over_5_seconds():
    rate = RateEstimator()
    steady(rate, bytes_per_second=1000, seconds=10, total_bytes=60_000)

    rate.observe(10.1, 10_100, 99_900, is_stalled=False)  # 50 000 bytes more than before

    assert rate.eta_seconds == pytest.approx(49.9 + (99.9 - 49.9) * 0.0198, rel=0.001)


def test_without_a_total_there_is_no_eta():
    rate = RateEstimator()

    steady(rate, bytes_per_second=1000, seconds=10)

    assert rate.eta_seconds is None


def test_a_complete_download_has_no_eta():
    rate = RateEstimator()

    steady(rate, bytes_per_second=1000, seconds=10, total_bytes=10_000)

    assert rate.eta_seconds is None


def test_the_first_eta_is_not_a_guess_of_years():
    rate = RateEstimator()

    rate.observe(0.0, 0, 10**12, is_stalled=False)
    rate.observe(0.1, 1, 10**12 - 1, is_stalled=False)

    assert rate.eta_seconds is None
