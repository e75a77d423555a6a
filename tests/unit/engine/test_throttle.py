"""The bandwidth limit is exact over seconds, for any slices."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.connections import Throttle


class Line:
    """A connection that reads slices under a limit, by a clock of its own."""

    def __init__(self, bytes_per_second: float | None, now_s: float) -> None:
        self.now_s = now_s
        self.throttle = Throttle(lambda: self.now_s)
        self.throttle.change(bytes_per_second)

    def read(self, slices: list[int]) -> float:
        """Read the slices one after another with the required waits; returns the time at the end."""
        stopped = threading.Event()
        stopped.set()  # so that no thread waits
        for count in slices:
            self.throttle.pay(count, stopped)
            self.now_s = max(self.now_s, self.throttle._paid_until_s)
        return self.now_s


@given(st.lists(st.integers(1, 200_000), min_size=50, max_size=200))
def test_the_limit_is_exact_to_five_percent_over_ten_seconds(slices) -> None:
    line = Line(sum(slices) / 10, 100.0)

    assert line.read(slices) - 100.0 == pytest.approx(10, rel=0.05)


def test_credit_of_a_pause_is_not_saved_up() -> None:
    line = Line(1000.0, 0.0)
    line.now_s = 60.0

    assert line.read([100] * 20) - 60 == pytest.approx(2.0, abs=0.26)


def test_without_a_limit_no_read_waits() -> None:
    assert Line(None, 5.0).read([10**9] * 3) == 5.0


def test_a_new_limit_counts_from_the_moment_it_is_set() -> None:
    line = Line(None, 0.0)
    line.read([10**9])
    line.now_s = 10.0

    line.throttle.change(1000.0)

    assert line.read([500] * 4) == pytest.approx(12.0, abs=0.26)


@pytest.mark.parametrize("limit", [None, 1_000_000.0])
def test_changing_the_limit_releases_waiting_reads(limit) -> None:
    throttle = Throttle()
    throttle.change(10.0)
    waiting = threading.Thread(target=lambda: throttle.pay(1000, threading.Event()))
    waiting.start()

    throttle.change(limit)

    waiting.join(30)
    assert not waiting.is_alive()


def test_a_stop_releases_a_waiting_read() -> None:
    throttle, stop = Throttle(), threading.Event()
    throttle.change(10.0)
    waiting = threading.Thread(target=lambda: throttle.pay(1000, stop))
    waiting.start()

    stop.set()

    waiting.join(30)
    assert not waiting.is_alive()
