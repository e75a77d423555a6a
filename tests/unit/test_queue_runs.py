"""The summary of a run: from the first start until the queue is drained."""

import pytest

from gglib_nb.domain import reports
from gglib_nb.domain import snapshot as announcements
from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.queue import events as on
from gglib_nb.queue.machine import QueueMachine
from tests.support.plans import a_plan, stored
from tests.support.queue_driver import QueueDriver

A, B, C = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K"


@pytest.fixture
def queue():
    return QueueDriver()


def summaries(queue):
    return [event.summary for event in queue.announced(announcements.RunSummarized)]


def attempts(run):
    return run.attempts_completed, run.attempts_failed, run.attempts_cancelled


def models(run):
    return run.models_completed, run.models_failed, run.models_cancelled


def test_a_drained_queue_summarizes_its_run(queue):
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    queue.now_s = 1060.0
    queue.complete(A)
    assert summaries(queue) == []

    queue.now_s = 1090.0
    queue.complete(B)

    run = summaries(queue)[0]
    assert (run.started_at_s, run.ended_at_s) == (1000.0, 1090.0)
    assert (attempts(run), models(run)) == ((2, 0, 0), (2, 0, 0))
    assert queue.snapshot.last_run == run
    assert not queue.snapshot.is_processing


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_durations_do_not_depend_on_the_wall_clock(jump_s):
    machine, plan = QueueMachine(), a_plan(A)
    machine.handle(on.RequestReceived(1, A), 1000.0, 1.0)
    machine.handle(on.PlanResolved(1, plan, starts=True, joins=True), 1000.0, 1.0)
    sizes = tuple(reports.FileProgress(file.size_bytes, ShardStatus.FINISHED) for file in plan.files)
    machine.handle(reports.Progress(1, 11.0, sizes, 5_000), 1000.0 + jump_s, 11.0)
    machine.handle(reports.TransferFinished(1, stored(plan)), 1000.0 + jump_s, 11.0)
    machine.handle(on.ModelRegistered(1), 1000.0 + jump_s, 11.0)

    [done] = machine.snapshot().recent_completed
    assert (done.took_s, done.bytes_per_second, done.ended_at_s) == (10.0, 500.0, 1000.0 + jump_s)


def test_a_run_is_summarized_when_everything_failed(queue):
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    queue.fail(A)
    queue.fail(B)

    run = summaries(queue)[0]
    assert (attempts(run), models(run)) == ((0, 2, 0), (0, 2, 0))


def test_a_run_is_summarized_when_everything_was_cancelled(queue):
    queue.queue(a_plan(A))
    queue.cancel_all()
    queue.stopped(1)

    assert attempts(summaries(queue)[0]) == (0, 0, 1)


def test_attempts_are_counted_by_outcome_and_models_by_their_last_outcome(queue):
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    queue.fail(A)
    queue.retry(A)
    queue.cancel(B)
    queue.stopped(B)
    queue.complete(A)

    run = summaries(queue)[0]
    assert attempts(run) == (1, 1, 1)
    assert models(run) == (1, 0, 1)


def test_the_newest_item_comes_first_with_its_outcome(queue):
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    queue.complete(A)
    queue.now_s = 1090.0
    queue.fail(B)

    newest, oldest = summaries(queue)[0].items
    assert (str(newest.id), newest.status, newest.ended_at_s) == (B, DownloadStatus.FAILED, 1090.0)
    assert (newest.total_bytes, str(newest.error)) == (100, "The line was cut. `retry` continues.")
    assert (str(oldest.id), oldest.status, oldest.error) == (A, DownloadStatus.COMPLETED, None)


def test_twenty_items_are_shown_and_all_are_counted():
    queue = QueueDriver(max_size=30)
    names = [f"owner/m{number}:Q4" for number in range(23)]
    for name in names:
        queue.queue(a_plan(name))
    for name in names:
        queue.complete(name)

    run = summaries(queue)[0]
    assert attempts(run) == (23, 0, 0)
    assert (len(run.items), run.is_truncated) == (20, True)
    assert (str(run.items[0].id), str(run.items[-1].id)) == ("owner/m22:Q4", "owner/m3:Q4")


def test_twenty_ended_downloads_are_not_truncated():
    queue = QueueDriver(max_size=30)
    names = [f"owner/m{number}:Q4" for number in range(20)]
    for name in names:
        queue.queue(a_plan(name))
    for name in names:
        queue.fail(name)

    run = summaries(queue)[0]
    assert (len(run.items), run.is_truncated) == (20, False)


def test_a_run_without_ended_downloads_is_not_summarized(queue):
    queue.queue(a_plan(A))
    queue.pause(A)
    queue.stopped(A)

    assert summaries(queue) == []
    assert queue.snapshot.last_run is None
    assert not queue.snapshot.is_processing


def test_the_summary_of_a_run_is_dropped_when_its_downloads_run_again(queue):
    queue.queue(a_plan(A))
    queue.cancel(A)
    queue.stopped(A)
    queue.put_back(A)
    queue.pause(A)
    queue.stopped(A)

    assert queue.snapshot.last_run is None


def test_a_run_waits_for_the_registration(queue):
    queue.queue(a_plan(A))

    queue.finish(A)
    assert summaries(queue) == []

    queue.registered(A)
    assert len(summaries(queue)) == 1


def test_a_failed_registration_ends_the_run(queue):
    queue.queue(a_plan(A))
    queue.finish(A)
    queue.registration_failed(A)

    assert attempts(summaries(queue)[0]) == (1, 0, 0)


def test_a_run_waits_for_the_last_attempt_to_stop(queue):
    queue.queue(a_plan(A))

    queue.cancel(A)
    assert summaries(queue) == []

    queue.stopped(A)
    assert len(summaries(queue)) == 1


def test_downloads_that_end_between_runs_belong_to_no_run(queue):
    queue.queue(a_plan(A), starts=False)
    queue.remove(A)

    assert queue.snapshot.last_run is None


def test_the_next_run_starts_empty(queue):
    queue.queue(a_plan(A))
    queue.fail(A)
    queue.now_s = 2000.0
    queue.queue(a_plan(B))
    queue.complete(B)

    run = summaries(queue)[0]
    assert (run.started_at_s, attempts(run)) == (2000.0, (1, 0, 0))
