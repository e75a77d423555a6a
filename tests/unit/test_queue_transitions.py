"""The table of statuses, and the invariants that watch over it."""

import pytest

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.queue.downloads import Stop
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.queue.transitions import TRANSITIONS, Cause
from tests.support.plans import a_plan
from tests.support.queue_driver import QueueDriver


def test_every_status_can_be_reached_and_every_cause_is_used():
    reached = {DownloadStatus.QUEUED, *TRANSITIONS.steps.values()}

    assert reached == set(DownloadStatus)
    assert {cause for _status, cause in TRANSITIONS.steps} == set(Cause)


def test_from_every_status_but_completed_there_is_a_way_on():
    left = {status for status, _cause in TRANSITIONS.steps}

    assert set(DownloadStatus) - left == {DownloadStatus.COMPLETED}


def test_nothing_that_is_registering_can_be_stopped():
    causes = {cause for status, cause in TRANSITIONS.steps if status is DownloadStatus.REGISTERING}

    assert causes == {Cause.REGISTERED, Cause.FAILED}


def test_a_step_that_the_table_does_not_have_is_refused_by_name():
    with pytest.raises(AssertionError, match="a download that is completed has no step for: paused"):
        TRANSITIONS.following(DownloadStatus.COMPLETED, Cause.PAUSED)


def test_the_picture_has_a_line_for_every_step():
    lines = TRANSITIONS.as_mermaid().splitlines()

    assert lines[:3] == ["stateDiagram-v2", "    [*] --> queued", "    queued --> downloading: started"]
    assert len(lines) == 2 + len(TRANSITIONS.steps)


def test_the_machine_notices_a_free_slot_that_nobody_takes():
    queue = QueueDriver()
    queue.queue(a_plan(), starts=False)
    queue.machine._is_processing = True

    with pytest.raises(AssertionError, match="a slot is free and a download waits for it"):
        queue.machine.check_invariants()


def test_the_machine_notices_a_download_that_runs_without_a_processor():
    queue = QueueDriver()
    queue.queue(a_plan())
    queue.machine._is_processing = False

    with pytest.raises(AssertionError, match="a download runs without a processor"):
        queue.machine.check_invariants()


def test_the_machine_notices_a_download_in_two_places():
    queue = QueueDriver()
    queue.queue(a_plan(), starts=False)
    queue.machine._downloads.pending *= 2

    with pytest.raises(AssertionError, match="a download is live twice"):
        queue.machine.check_invariants()


def running():
    """A machine whose one download runs, with its innards in reach."""
    queue = QueueDriver()
    queue.queue(a_plan())
    return queue.machine, queue.machine._downloads


def test_the_machine_notices_what_stands_in_the_wrong_place():
    machine, downloads = running()
    downloads.pending.append(downloads.active.pop(1))

    with pytest.raises(AssertionError, match="pending, with another status"):
        machine.check_invariants()


def test_the_machine_notices_what_is_active_and_does_not_run():
    machine, downloads = running()
    downloads.active[1].status = DownloadStatus.QUEUED

    with pytest.raises(AssertionError, match="active, with another status"):
        machine.check_invariants()


def test_the_machine_notices_what_ended_and_still_runs():
    machine, downloads = running()
    downloads.ended.append(downloads.active.pop(1))

    with pytest.raises(AssertionError, match="ended, with another status"):
        machine.check_invariants()


def test_the_machine_notices_an_attempt_that_is_active_and_stopping_at_once():
    machine, downloads = running()
    downloads.stopping[1] = Stop(downloads.active[1])

    with pytest.raises(AssertionError, match="active and stopping at once"):
        machine.check_invariants()


def test_the_machine_notices_an_index_that_does_not_know_a_live_download():
    machine, downloads = running()
    downloads._live.clear()

    with pytest.raises(AssertionError, match="the index of live downloads finds others"):
        machine.check_invariants()


def test_the_machine_notices_an_index_that_knows_an_ended_download_of_no_list():
    machine, downloads = running()
    downloads._over.update(downloads._live)

    with pytest.raises(AssertionError, match="the index of ended downloads finds others"):
        machine.check_invariants()


def test_the_machine_notices_two_attempts_that_hold_one_target():
    machine, downloads = running()
    downloads.stopping[2] = Stop(downloads.active[1])

    with pytest.raises(AssertionError, match="two attempts hold one target"):
        machine.check_invariants()


def test_an_empty_machine_is_drained():
    assert QueueMachine().is_drained


def test_an_event_that_nobody_declared_is_a_bug_and_not_ignored():
    with pytest.raises(AssertionError, match="unreachable"):
        QueueMachine().handle("something happened", 1.0)
