"""What follows from a failure: which step, how long is waited, and when it is given up."""

import pytest

from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine.http import (
    BusyError,
    LineError,
    MovedError,
    RangeIgnoredError,
    RefusedError,
    SilentError,
    WrongAnswerError,
    WrongRangeError,
)
from gglib_nb.engine.retry import Step, Troubles, backoff_s, can_retry
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import (
    DiskFullError,
    GglibError,
    HubUnavailableError,
    NetworkError,
    RateLimitedError,
    StalledError,
)

TIMEOUTS = Timeouts(first_delay_s=1, longest_delay_s=8, give_up_s=100)
RESET = LineError("reset", is_refusal=True)


def test_delays_double_up_to_the_longest() -> None:
    assert [backoff_s(failures, TIMEOUTS, 1.0) for failures in range(1, 7)] == [1, 2, 4, 8, 8, 8]


def test_chance_spreads_a_delay_over_its_upper_half() -> None:
    assert (backoff_s(1, TIMEOUTS, 0.0), backoff_s(1, TIMEOUTS, 1.0)) == (0.5, 1.0)


def test_a_million_failures_do_not_overflow() -> None:
    assert backoff_s(1_000_000, TIMEOUTS, 1.0) == 8


def troubles() -> Troubles:
    return Troubles(Asked("http://hub", "a/b", "c" * 40, "m.gguf"), TIMEOUTS)


def fail_until(end_s: float, error, one: Troubles, **facts) -> list[Step]:
    """The same failure again and again, each as soon as it may be asked again, up to a time."""
    steps, now_s = [], one.retry_at_s
    while now_s < end_s:
        steps.append(one.failed(error, now_s, **facts))
        now_s = max(one.retry_at_s, now_s + 0.1)
    return steps


@pytest.mark.parametrize(
    ("error", "alone", "beside_others"),
    [
        (RESET, Step.AGAIN, Step.FEWER),
        (LineError("the connection ended early"), Step.AGAIN, Step.AGAIN),
        (SilentError("cdn", 15), Step.AGAIN, Step.AGAIN),
        (BusyError(429, 30), Step.AGAIN, Step.FEWER),
        (BusyError(503, None), Step.AGAIN, Step.FEWER),
        (RefusedError(403), Step.RESOLVE, Step.FEWER),
        (RefusedError(403, has_expired=True), Step.RESOLVE, Step.RESOLVE),
        (MovedError("/y"), Step.FOLLOW, Step.FOLLOW),
        (RangeIgnoredError("ignored"), Step.WHOLE, Step.WHOLE),
        (WrongRangeError("a 206 without a range"), Step.RESOLVE, Step.RESOLVE),
        (WrongAnswerError("HTTP 418"), Step.RESOLVE, Step.RESOLVE),
    ],
)
def test_the_table(error, alone, beside_others) -> None:
    assert troubles().failed(error, 5.0) is alone
    assert troubles().failed(error, 5.0, others_receive=True) is beside_others


@pytest.mark.parametrize(
    "error", [RESET, BusyError(503, None), BusyError(429, 30), RefusedError(403), SilentError("cdn", 15)]
)
def test_while_others_receive_bytes_nothing_is_given_up(error) -> None:
    fail_until(10_000, error, troubles(), others_receive=True)


def test_while_others_receive_bytes_a_wait_that_the_server_asks_for_stops_only_new_connections() -> None:
    one = troubles()

    one.failed(BusyError(429, 60), 100.0, others_receive=True)

    assert one.retry_at_s < 101


def test_a_file_that_is_refused_for_a_minute_beside_others_gets_another_address() -> None:
    steps = fail_until(130, RefusedError(403), troubles(), others_receive=True)

    assert steps.count(Step.RESOLVE) == 2
    assert Step.RESOLVE not in steps[:200]


@pytest.mark.parametrize(
    "error", [RESET, BusyError(503, None), RefusedError(403), RefusedError(404), WrongAnswerError("HTTP 418")]
)
def test_what_lasts_for_a_minute_and_a_half_is_not_given_up(error) -> None:
    fail_until(90, error, troubles())


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (RESET, NetworkError),
        (SilentError("cdn:80", 15), StalledError),
        (BusyError(429, 1.0), RateLimitedError),
        (BusyError(503, None), HubUnavailableError),
        (WrongAnswerError("HTTP 418"), HubUnavailableError),
        (RefusedError(403), HubUnavailableError),
        (MovedError("/again"), HubUnavailableError),
    ],
)
def test_what_never_passes_ends_in_an_error_that_a_retry_can_help(error, end) -> None:
    with pytest.raises(end) as raised:
        fail_until(1_000, error, troubles())

    assert can_retry(raised.value)


def test_a_silent_host_is_named_with_the_seconds_and_the_setting() -> None:
    with pytest.raises(StalledError, match=r"cdn:80 has not answered for 15 s.*HF_HUB_DOWNLOAD_TIMEOUT"):
        fail_until(1_000, SilentError("cdn:80", 15), troubles())


def test_without_a_network_nothing_is_given_up() -> None:
    fail_until(10_000, LineError("unreachable"), troubles(), is_offline=True)


def test_time_that_the_server_asked_to_wait_does_not_count() -> None:
    one = troubles()

    for _ in range(10):
        one.failed(BusyError(429, 80.0), one.retry_at_s)

    assert one.retry_at_s == 800.0


def test_a_server_that_asks_to_wait_for_too_long_ends_the_transfer() -> None:
    with pytest.raises(RateLimitedError):
        troubles().failed(BusyError(429, 1_000.0), 0.0)


def test_a_process_that_was_stopped_for_an_hour_has_not_tried_for_an_hour() -> None:
    one = troubles()
    one.failed(RESET, 0.0)

    assert one.failed(RESET, 3_600.0) is Step.AGAIN


def test_many_connections_with_the_same_failure_count_once() -> None:
    one, alone = troubles(), troubles()

    for _ in range(16):
        one.failed(BusyError(503, 7), 5.0)
    alone.failed(BusyError(503, 7), 5.0)

    assert one.retry_at_s == alone.retry_at_s == 12.0


def test_a_server_that_asks_for_no_wait_at_all_still_gets_longer_ones() -> None:
    one = troubles()
    one.failed(BusyError(503, 0), 0.0)
    before_s = one.retry_at_s

    one.failed(BusyError(503, 0), before_s)

    assert one.retry_at_s - before_s >= 1


def test_a_refused_address_is_asked_for_again_at_once_the_first_time_and_later_the_second() -> None:
    one = troubles()

    one.failed(RefusedError(403), 0.0)
    assert one.retry_at_s == 0.0

    one.failed(RefusedError(403), 0.0)
    assert one.retry_at_s > 0


def test_the_second_wrong_range_has_the_whole_asked_for() -> None:
    one = troubles()

    # Several connections at once count as one.
    assert [one.failed(WrongRangeError("a 206 without a range"), 5.0) for _ in range(4)] == [Step.RESOLVE] * 4
    assert one.failed(WrongRangeError("a 206 without a range"), one.retry_at_s) is Step.WHOLE


def test_wrong_ranges_with_bytes_between_them_cost_no_restart() -> None:
    one = troubles()

    for now_s in range(10):
        assert one.failed(WrongRangeError("another range than requested"), float(now_s)) is Step.RESOLVE
        one.received()


def test_a_byte_that_comes_forgives_what_failed_before() -> None:
    one = troubles()
    fail_until(90, RESET, one)

    one.received()

    assert one.text == ""
    fail_until(180, RESET, one)


def test_a_network_that_is_back_is_asked_at_once() -> None:
    one = troubles()
    one.failed(BusyError(503, 50), 0.0)

    one.network_is_back()

    assert one.retry_at_s == 0


def test_every_final_error_is_ours() -> None:
    for error in (RESET, BusyError(408, None), WrongRangeError("x"), MovedError("")):
        with pytest.raises(GglibError):
            troubles()._wait(error, 0.0, 10_000.0)


def test_a_full_disk_is_not_helped_by_trying_again() -> None:
    assert not can_retry(DiskFullError("full"))
