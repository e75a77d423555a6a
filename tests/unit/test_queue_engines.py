"""Several engines of one queue: slots for each, losses of some, downloads for every host, and their rows."""

from dataclasses import replace

import pytest

from gglib_nb.domain import reports
from gglib_nb.domain.download import HostFolder, HostProgress, ShardStatus
from gglib_nb.queue import effects as do
from tests.support.plans import a_plan, stored
from tests.support.queue_driver import QueueDriver

A, B, C, D = "owner/a:Q4", "owner/b:Q4", "owner/c:Q4", "owner/d:Q4"


@pytest.fixture
def queue():
    """Two engines with one slot each: A and B run, C and D wait."""
    queue = QueueDriver(max_concurrent=1)
    queue.send(reports.EnginesChanged(2))
    for text in (A, B, C, D):
        queue.queue(a_plan(text))
    return queue


def test_each_engine_has_slots_of_its_own(queue):
    assert queue.rows == [f"{A} downloading 0", f"{B} downloading 0", f"{C} queued 1", f"{D} queued 2"]


def test_an_additional_engine_takes_the_next_download_at_once(queue):
    queue.send(reports.EnginesChanged(3))

    assert queue.rows[2] == f"{C} downloading 0"


def test_run_now_stops_no_download_if_another_engine_has_a_free_slot(queue):
    queue.pause(D)
    queue.complete(A)
    queue.complete(C)

    queue.run_now(D)

    assert queue.of(do.StopTransfer) == []
    assert queue.rows[:2] == [f"{B} downloading 0", f"{D} downloading 0"]


def test_fewer_engines_stop_nothing_and_start_nothing(queue):
    queue.send(reports.EnginesChanged(1))
    queue.complete(A)

    assert queue.rows == [f"{B} downloading 0", f"{C} queued 1", f"{D} queued 2"]


def test_without_an_engine_the_next_download_shows_why_it_waits(queue):
    queue.send(reports.EnginesChanged(0))
    queue.complete(A)
    queue.complete(B)

    queue.send(reports.TransferWaits(queue.attempts[C], "waiting for a worker of the cluster"))

    assert queue.rows == [f"{C} downloading 0", f"{D} queued 1"]
    assert (queue.item(C).notice, queue.item(C).notice_kind) == ("waiting for a worker of the cluster", "waiting")


def test_only_attempts_of_the_lost_engine_are_restarted(queue):
    before = dict(queue.attempts)

    queue.send(reports.EngineLost(attempts=frozenset({before[A]})))

    assert queue.attempts[A] > before[A]
    assert queue.attempts[B] == before[B]
    assert [effect.plan.id.repo_id for effect in queue.of(do.StartAttempt)] == ["owner/a"]


def test_losing_an_engine_confirms_its_pending_stops(queue):
    queue.cancel(A)
    attempt = queue.attempts[A]

    queue.send(reports.EngineLost(attempts=frozenset({attempt})))

    assert attempt not in queue.machine.stopping
    assert queue.rows[1] == f"{C} downloading 0"


def test_a_pending_stop_on_another_engine_stays_pending(queue):
    queue.cancel(A)
    attempt = queue.attempts[A]

    queue.send(reports.EngineLost(attempts=frozenset({queue.attempts[B]})))

    assert attempt in queue.machine.stopping


def test_silence_is_shown_on_the_affected_downloads(queue):
    queue.send(reports.EngineSilent(4.0, frozenset({queue.attempts[B]})))

    assert (queue.item(A).notice_kind, queue.item(B).notice_kind) == ("connecting", "silent")


def test_a_download_for_every_host_holds_a_slot_of_each():
    queue = QueueDriver(max_concurrent=1)
    queue.send(reports.EnginesChanged(2))

    queue.queue(a_plan(A, everywhere=True))
    queue.queue(a_plan(B))

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]


def hosted(queue, text, *hosts, downloaded, received=0):
    files = (reports.FileProgress(downloaded, ShardStatus.DOWNLOADING),)
    progressed = reports.Progress(queue.attempts[text], 1.0, files, received, None, None, "", False, hosts=hosts)
    queue.send(progressed)


def test_a_row_names_the_host_that_runs_it(queue):
    hosted(queue, A, HostProgress("gpu-1", 40, 100), downloaded=40)

    assert queue.item(A).hosts == (HostProgress("gpu-1", 40, 100),)
    assert queue.item(B).hosts == ()
    assert (queue.item(A).downloaded_bytes, queue.item(A).total_bytes) == (40, 100)


def test_a_download_for_every_host_counts_the_bytes_of_all_copies():
    queue = QueueDriver()
    queue.send(reports.EnginesChanged(2))
    queue.queue(a_plan(A, everywhere=True))

    hosted(queue, A, HostProgress("gpu-1", 100, 100), HostProgress("gpu-2", 20, 100), downloaded=120)

    row = queue.item(A)
    assert (row.downloaded_bytes, row.total_bytes, row.shards[0].size_bytes) == (120, 200, 200)
    assert queue.snapshot.items[0].progress == 0.6


def test_a_completed_download_names_the_hosts_that_have_it_and_its_paths_there():
    queue = QueueDriver()
    plan = a_plan(A)
    queue.queue(plan)
    (file,) = stored(plan)
    there = (HostFolder("gpu-1", "/data"),)
    moved = replace(file, target="/data/a.gguf")

    queue.send(reports.TransferFinished(queue.attempts[A], (moved,), there))
    assert queue.of(do.RegisterModel)[0].hosts == there
    queue.registered(A)

    (done,) = queue.snapshot.recent_completed
    assert done.paths == ("/data/a.gguf",)
    assert done.hosts == (HostProgress("gpu-1", 100, 100, is_finished=True),)
