"""The reaction to a failure: which step, which delay, and when to give up."""

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
from gglib_nb.engine.retry import TEMPORARY, Step, Troubles
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
RESET = LineError("reset", may_be_limit=True)
REFUSED, EXPIRED = RefusedError("HTTP 403", may_be_limit=True), RefusedError("HTTP 403")


def troubles() -> Troubles:
    return Troubles(Asked("http://hub", "a/b", "c" * 40, "m.gguf"), TIMEOUTS)


def fail_until(end_s: float, error, one: Troubles, **facts) -> list[Step]:
    """The same failure repeatedly, each as soon as a retry is allowed, up to a time."""
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
        (REFUSED, Step.RESOLVE, Step.FEWER),
        (EXPIRED, Step.RESOLVE, Step.RESOLVE),
        (MovedError("/y"), Step.RESOLVE, Step.RESOLVE),
        (RangeIgnoredError("ignored"), Step.WHOLE, Step.WHOLE),
        (WrongRangeError("a 206 without a range"), Step.RESOLVE, Step.RESOLVE),
        (WrongAnswerError("HTTP 418"), Step.RESOLVE, Step.RESOLVE),
    ],
)
def test_every_failure_leads_to_its_step(error, alone, beside_others) -> None:
    assert troubles().failed(error, 5.0) is alone
    assert troubles().failed(error, 5.0, others_receive=True) is beside_others


@pytest.mark.parametrize("error", [RESET, BusyError(503, None), BusyError(429, 30), REFUSED, SilentError("cdn", 15)])
def test_no_connection_is_given_up_while_others_receive_data(error) -> None:
    fail_until(10_000, error, troubles(), others_receive=True)


def test_while_others_receive_data_retry_after_delays_only_new_connections() -> None:
    one = troubles()

    one.failed(BusyError(429, 60), 100.0, others_receive=True)

    assert one.retry_at_s < 101


def test_a_file_refused_for_a_minute_while_others_receive_data_is_resolved_again() -> None:
    steps = fail_until(130, REFUSED, troubles(), others_receive=True)

    assert steps.count(Step.RESOLVE) == 2
    assert Step.RESOLVE not in steps[:200]


@pytest.mark.parametrize(
    "error",
    [RESET, BusyError(503, None), REFUSED, RefusedError("HTTP 404", may_be_limit=True), WrongAnswerError("HTTP 418")],
)
def test_a_failure_that_lasts_90_seconds_does_not_end_the_transfer(error) -> None:
    fail_until(90, error, troubles())


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (RESET, NetworkError),
        (SilentError("cdn:80", 15), StalledError),
        (BusyError(429, 1.0), RateLimitedError),
        (BusyError(503, None), HubUnavailableError),
        (WrongAnswerError("HTTP 418"), HubUnavailableError),
        (REFUSED, HubUnavailableError),
        (MovedError("/again"), HubUnavailableError),
    ],
)
def test_a_permanent_failure_ends_in_an_error_that_can_be_retried(error, end) -> None:
    with pytest.raises(end) as raised:
        fail_until(1_000, error, troubles())

    assert isinstance(raised.value, TEMPORARY)


def test_a_silent_host_is_reported_with_the_seconds_and_the_setting() -> None:
    with pytest.raises(StalledError, match=r"cdn:80 has not answered for 15 s.*HF_HUB_DOWNLOAD_TIMEOUT"):
        fail_until(1_000, SilentError("cdn:80", 15), troubles())


def test_without_a_network_no_transfer_is_given_up() -> None:
    fail_until(10_000, LineError("unreachable"), troubles(), is_offline=True)


def test_retry_after_does_not_count_as_time_spent_failing() -> None:
    one = troubles()

    for _ in range(10):
        one.failed(BusyError(429, 80.0), one.retry_at_s)

    assert one.retry_at_s == 800.0


def test_a_too_long_retry_after_ends_the_transfer() -> None:
    with pytest.raises(RateLimitedError):
        troubles().failed(BusyError(429, 1_000.0), 0.0)


def test_time_while_the_process_is_stopped_does_not_count_as_failing() -> None:
    one = troubles()
    one.failed(RESET, 0.0)

    assert one.failed(RESET, 3_600.0) is Step.AGAIN


def test_the_same_failure_on_many_connections_counts_once() -> None:
    one, alone = troubles(), troubles()

    for _ in range(16):
        one.failed(BusyError(503, 7), 5.0)
    alone.failed(BusyError(503, 7), 5.0)

    assert one.retry_at_s == alone.retry_at_s == 12.0


def test_delays_grow_even_if_retry_after_is_0() -> None:
    one = troubles()
    one.failed(BusyError(503, 0), 0.0)
    before_s = one.retry_at_s

    one.failed(BusyError(503, 0), before_s)

    assert one.retry_at_s - before_s >= 1


def test_a_refused_address_is_resolved_again_at_once_and_the_second_time_after_a_delay() -> None:
    one = troubles()

    one.failed(REFUSED, 0.0)
    assert one.retry_at_s == 0.0

    one.failed(REFUSED, 0.0)
    assert one.retry_at_s > 0


def test_a_second_wrong_range_leads_to_a_request_for_the_whole_file() -> None:
    one = troubles()

    # Several connections at once count as one.
    assert [one.failed(WrongRangeError("a 206 without a range"), 5.0) for _ in range(4)] == [Step.RESOLVE] * 4
    assert one.failed(WrongRangeError("a 206 without a range"), one.retry_at_s) is Step.WHOLE


@pytest.mark.parametrize("error", [RangeIgnoredError("ignored"), WrongRangeError("a 206 without a range")])
def test_the_bytes_on_the_disk_are_given_up_only_after_several_wrong_ranges(error) -> None:
    one, steps, now_s = troubles(), [], 5.0

    while Step.WHOLE not in steps:
        steps.append(one.failed(error, now_s, has_bytes=True))
        now_s = max(now_s, one.retry_at_s)
        assert one.failed(error, now_s, has_bytes=True, others_receive=True) is Step.AGAIN
        now_s = max(now_s, one.retry_at_s)

    assert 5 <= len(steps) <= 8


def test_wrong_ranges_with_progress_between_them_cost_no_restart() -> None:
    one = troubles()

    for now_s in range(10):
        assert one.failed(WrongRangeError("another range than requested"), float(now_s)) is Step.RESOLVE
        one.received()


def test_a_received_byte_resets_the_failure_count() -> None:
    one = troubles()
    fail_until(90, RESET, one)

    one.received()

    assert one.last is None
    fail_until(180, RESET, one)


def test_transfers_retry_at_once_when_the_network_is_back() -> None:
    one = troubles()
    one.failed(BusyError(503, 50), 0.0)

    one.network_is_back()

    assert one.retry_at_s == 0


def test_every_final_error_is_a_gglib_error() -> None:
    for error in (RESET, BusyError(408, None), WrongRangeError("x"), MovedError("")):
        with pytest.raises(GglibError):
            troubles()._wait(error, 0.0, 10_000.0)


def test_a_full_disk_is_not_retried() -> None:
    assert not issubclass(DiskFullError, TEMPORARY)
