"""The table of statuses, and the invariants that check it."""

import pytest

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.queue.downloads import Stop
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.queue.transitions import TRANSITIONS, Cause
from tests.support.diagrams import mermaid
from tests.support.plans import a_plan
from tests.support.queue_driver import QueueDriver
from tests.support.queue_invariants import check_invariants


def test_every_status_can_be_reached_and_every_cause_is_used():
    reached = {DownloadStatus.QUEUED, *TRANSITIONS.values()}

    assert reached == set(DownloadStatus)
    assert {cause for _status, cause in TRANSITIONS} == set(Cause)


def test_every_status_except_completed_has_a_transition():
    left = {status for status, _cause in TRANSITIONS}

    assert set(DownloadStatus) - left == {DownloadStatus.COMPLETED}


def test_a_registration_cannot_be_stopped():
    causes = {cause for status, cause in TRANSITIONS if status is DownloadStatus.REGISTERING}

    assert causes == {Cause.REGISTERED, Cause.FAILED}


def test_the_diagram_has_a_line_for_every_transition():
    lines = mermaid().splitlines()

    assert lines[:3] == ["stateDiagram-v2", "    [*] --> queued", "    queued --> downloading: started"]
    assert len(lines) == 2 + len(TRANSITIONS)


def test_the_invariants_detect_an_unused_free_slot():
    queue = QueueDriver()
    queue.queue(a_plan(), starts=False)
    queue.machine._is_processing = True

    with pytest.raises(AssertionError, match="a slot is free and a download waits for it"):
        check_invariants(queue.machine)


def test_the_invariants_detect_a_download_that_runs_without_a_processor():
    queue = QueueDriver()
    queue.queue(a_plan())
    queue.machine._is_processing = False

    with pytest.raises(AssertionError, match="a download runs without a processor"):
        check_invariants(queue.machine)


def test_the_invariants_detect_a_download_in_two_lists():
    queue = QueueDriver()
    queue.queue(a_plan(), starts=False)
    queue.machine._downloads.pending *= 2

    with pytest.raises(AssertionError, match="a download is live twice"):
        check_invariants(queue.machine)


def running():
    """A machine with one active download, and access to its internals."""
    queue = QueueDriver()
    queue.queue(a_plan())
    return queue.machine, queue.machine._downloads


def test_the_invariants_detect_a_download_in_the_wrong_list():
    machine, downloads = running()
    downloads.pending.append(downloads.active.pop(1))

    with pytest.raises(AssertionError, match="pending, with another status"):
        check_invariants(machine)


def test_the_invariants_detect_an_active_download_without_an_attempt():
    machine, downloads = running()
    downloads.active[1].change(status=DownloadStatus.QUEUED)

    with pytest.raises(AssertionError, match="active, with another status"):
        check_invariants(machine)


def test_the_invariants_detect_an_ended_download_that_still_runs():
    machine, downloads = running()
    downloads.ended.append(downloads.active.pop(1))

    with pytest.raises(AssertionError, match="ended, with another status"):
        check_invariants(machine)


def test_the_invariants_detect_an_attempt_that_is_both_active_and_stopping():
    machine, downloads = running()
    downloads.stopping[1] = Stop(downloads.active[1], downloads.active[1].plan)

    with pytest.raises(AssertionError, match="active and stopping at once"):
        check_invariants(machine)


def test_the_invariants_detect_an_index_without_a_live_download():
    machine, downloads = running()
    downloads.index.clear()

    with pytest.raises(AssertionError, match="the index of live downloads finds others"):
        check_invariants(machine)


def test_the_invariants_detect_two_attempts_with_one_target():
    machine, downloads = running()
    downloads.stopping[2] = Stop(downloads.active[1], downloads.active[1].plan)

    with pytest.raises(AssertionError, match="two attempts hold one target"):
        check_invariants(machine)


def test_an_empty_machine_is_drained():
    assert QueueMachine().is_drained


def test_an_undeclared_event_raises():
    with pytest.raises(AssertionError, match="unreachable"):
        QueueMachine().handle("something happened", 1.0)
