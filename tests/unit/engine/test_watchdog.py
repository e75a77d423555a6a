"""The watchdog of a silent engine: time is an argument, so the tests do not wait."""

import pytest

from gglib_nb.domain.reports import Progress, StopTransfer, TransferFailed, TransferStopped
from gglib_nb.engine.protocol import CheckEnded, CheckFiles, Ready, StartTransfer
from gglib_nb.engine.watchdog import (
    KILLED_AFTER_S,
    SILENT_AFTER_S,
    START_LIMIT_S,
    START_REPORT_S,
    STOP_LIMIT_S,
    Watchdog,
)
from gglib_nb.errors import NetworkError

START = StartTransfer(1, "owner/name", "c" * 40, (), force=False)


def a_running_one() -> Watchdog:
    """Ready at 0, with a command to start attempt 1 at 100."""
    watchdog = Watchdog(0.0)
    watchdog.reported(Ready(7), 0.0)
    watchdog.sent(START, 100.0)
    return watchdog


def test_silence_without_work_is_ignored() -> None:
    watchdog = Watchdog(0.0)
    watchdog.reported(Ready(7), 0.0)

    assert (watchdog.verdict(10_000.0), watchdog.silent_s(10_000.0)) == ("well", 0.0)


@pytest.mark.parametrize(
    ("after_s", "verdict"),
    [
        (0.0, "well"),
        (SILENT_AFTER_S - 0.1, "well"),
        (SILENT_AFTER_S, "silent"),
        (KILLED_AFTER_S - 0.1, "silent"),
        (KILLED_AFTER_S, "dead"),
    ],
)
def test_silence_while_an_attempt_runs_counts_from_its_start(after_s, verdict) -> None:
    assert a_running_one().verdict(100.0 + after_s) == verdict


def test_every_message_ends_a_silence() -> None:
    watchdog = a_running_one()

    watchdog.reported(Progress(1, 0.0, (), 0), 120.0)

    assert (watchdog.verdict(121.0), watchdog.silent_s(121.0)) == ("well", 1.0)


@pytest.mark.parametrize(
    "end", [TransferFailed(1, NetworkError("The line was cut."), can_retry=True), TransferStopped(1)]
)
def test_after_the_last_attempt_ends_silence_is_ignored(end) -> None:
    watchdog = a_running_one()

    watchdog.reported(end, 101.0)

    assert watchdog.verdict(1_000.0) == "well"


def test_a_file_check_counts_as_work() -> None:
    watchdog = Watchdog(0.0)
    watchdog.reported(Ready(7), 0.0)
    watchdog.sent(CheckFiles(1, ()), 100.0)
    assert watchdog.verdict(100.0 + KILLED_AFTER_S) == "dead"

    watchdog.reported(CheckEnded(1, ()), 101.0)

    assert watchdog.verdict(1_000.0) == "well"


def test_an_unconfirmed_stop_is_fatal_even_if_others_report() -> None:
    watchdog = a_running_one()
    watchdog.sent(StopTransfer(1), 110.0)

    watchdog.reported(Progress(2, 0.0, (), 0), 110.0 + STOP_LIMIT_S)

    assert watchdog.verdict(109.0 + STOP_LIMIT_S) == "well"
    assert watchdog.verdict(110.0 + STOP_LIMIT_S) == "dead"


def test_stopping_an_ended_attempt_needs_no_confirmation() -> None:
    watchdog = a_running_one()
    watchdog.reported(TransferStopped(1), 101.0)

    watchdog.sent(StopTransfer(1), 102.0)

    assert watchdog.verdict(1_000.0) == "well"


def test_a_starting_process_has_a_longer_limit() -> None:
    watchdog = Watchdog(0.0)
    watchdog.sent(START, 0.0)

    assert watchdog.verdict(START_REPORT_S - 1) == "well"
    assert watchdog.verdict(START_LIMIT_S - 1) == "not started"
    assert watchdog.verdict(START_LIMIT_S) == "dead"


def test_time_the_watchdog_slept_does_not_count_as_silence() -> None:
    watchdog = a_running_one()
    watchdog.sent(StopTransfer(1), 101.0)

    watchdog.exclude(3_600.0)

    assert (watchdog.verdict(3_702.0), watchdog.silent_s(3_702.0)) == ("well", 2.0)
    assert watchdog.verdict(3_701.0 + STOP_LIMIT_S) == "dead"
