"""What follows from a failure: how long is waited, and when it is given up."""

import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.http.errors import STALLED, BusyError, ExpiredUrlError, LineError, MovedError, WrongAnswerError
from gglib_nb.engine.http.resolve import FileAddress, Remote
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.retry import after_failure, backoff_s, can_retry
from gglib_nb.engine.transfer.target import Part
from gglib_nb.errors import (
    DiskFullError,
    HubUnavailableError,
    NetworkError,
    RateLimitedError,
    StalledError,
)

TIMEOUTS = Timeouts(first_delay_s=1, longest_delay_s=8, tries=3, resolves=2)


def test_delays_double_up_to_the_longest() -> None:
    assert [backoff_s(failures, TIMEOUTS, 1.0) for failures in range(1, 7)] == [1, 2, 4, 8, 8, 8]


def test_chance_spreads_a_delay_over_its_upper_half() -> None:
    assert (backoff_s(1, TIMEOUTS, 0.0), backoff_s(1, TIMEOUTS, 1.0)) == (0.5, 1.0)


def test_a_million_failures_do_not_overflow() -> None:
    assert backoff_s(1_000_000, TIMEOUTS, 1.0) == 8


def a_part() -> Part:
    planned = PlannedFile("m.gguf", 100, None, "/models/m.gguf")
    part = Part(planned, FileAddress("http://hub", "a/b", "c" * 40, "m.gguf"), 0, 100)
    part.remote = Remote("http://cdn/x?signature=1", 100, None)
    return part


def fail(part, *errors, is_excused=False) -> None:
    """Meet the errors one after the other, each when the wait of the one before is over."""
    for error in errors:
        after_failure(part, error, part.retry_at_s + 1000, TIMEOUTS, is_excused=is_excused)


def test_many_connections_that_meet_one_trouble_count_as_one_failure() -> None:
    part = a_part()

    for _ in range(16):
        after_failure(part, LineError("reset"), 5.0, TIMEOUTS, is_excused=False)

    assert part.failures == 1


def test_while_others_bring_bytes_a_lost_connection_is_no_failure() -> None:
    part = a_part()

    fail(part, *[LineError("reset")] * 50, is_excused=True)

    assert part.failures == 0


def test_a_wait_that_the_server_asks_for_is_kept() -> None:
    part = a_part()

    after_failure(part, BusyError(429, 77.0), 100.0, TIMEOUTS, is_excused=False)

    assert part.retry_at_s == 177.0


def test_a_server_that_asks_for_no_wait_at_all_still_gets_longer_ones() -> None:
    part = a_part()

    fail(part, BusyError(503, 0))
    before_s = part.retry_at_s
    after_failure(part, BusyError(503, 0), before_s, TIMEOUTS, is_excused=False)

    assert part.retry_at_s - before_s >= 1


def test_an_expired_url_is_asked_for_again_at_once_the_first_time_and_later_the_second() -> None:
    part = a_part()

    fail(part, ExpiredUrlError("HTTP 403"))
    assert (part.remote, part.retry_at_s) == (None, 0.0)

    fail(part, ExpiredUrlError("HTTP 403"))
    assert part.retry_at_s > 0


def test_a_redirect_is_followed_relative_to_where_it_came_from() -> None:
    part = a_part()

    fail(part, MovedError("/y?signature=2"))

    assert part.remote.url == "http://cdn/y?signature=2"


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (LineError("reset"), NetworkError),
        (LineError(STALLED), StalledError),
        (BusyError(429, 1.0), RateLimitedError),
        (BusyError(503, None), HubUnavailableError),
        (WrongAnswerError("a 206 without a range"), HubUnavailableError),
        (ExpiredUrlError("HTTP 403"), HubUnavailableError),
        (MovedError("/again"), HubUnavailableError),
    ],
)
def test_what_never_passes_ends_in_an_error_that_a_retry_can_help(error, end) -> None:
    with pytest.raises(end) as raised:
        fail(a_part(), *[error] * 4)

    assert can_retry(raised.value)


def test_a_byte_that_comes_forgives_what_failed_before() -> None:
    part = a_part()
    fail(part, LineError("reset"), LineError("reset"))

    part.succeeded()
    fail(part, LineError("reset"), LineError("reset"))

    assert part.failures == 2


def test_a_full_disk_is_not_helped_by_trying_again() -> None:
    assert not can_retry(DiskFullError("full"))
