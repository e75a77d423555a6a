"""Failures, retries, lost engines, and stale events.

It is long because there are many kinds of failure.
"""

import pytest

from gglib_nb.domain.download import ShardStatus
from gglib_nb.domain.stored import StoredLimits
from gglib_nb.errors import (
    AlreadyQueuedError,
    CatalogError,
    EngineLostError,
    IntegrityError,
    NotInQueueError,
    QueueFullError,
)
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from tests.support.plans import a_file, a_plan, an_mmproj, shards
from tests.support.queue_driver import TIMEOUT, QueueDriver

A, B, C = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K"


@pytest.fixture
def queue():
    """A, of twelve shards, runs; B waits."""
    queue = QueueDriver()
    queue.queue(a_plan(A, *shards("a", 12)))
    queue.queue(a_plan(B))
    return queue


def failure(queue):
    return queue.snapshot.recent_failures[0]


def test_a_failed_group_leaves_no_siblings_and_the_next_download_starts(queue):
    queue.fail(A)

    assert queue.rows == [f"{B} downloading 0"]
    assert queue.failures == [A]


def test_a_failure_records_time_bytes_error_and_whether_a_retry_can_help(queue):
    error = IntegrityError("The file is not the Hub's. Tell the publisher.", "a" * 64, "b" * 64)
    queue.progress(A, 100, 30)
    queue.now_s = 1060.0

    queue.fail(A, error, can_retry=False)

    row = failure(queue)
    assert (row.ended_at_s, row.downloaded_bytes, row.error, row.can_retry) == (1060.0, 130, error, False)


def test_the_newest_failure_comes_first(queue):
    queue.fail(A)
    queue.fail(B)

    assert queue.failures == [B, A]


def test_clearing_removes_only_the_failures(queue):
    queue.queue(a_plan(C))
    queue.fail(A)
    queue.complete(B)

    queue.clear_failed()

    assert queue.failures == []
    assert [str(item.id) for item in queue.snapshot.recent_completed] == [B]
    assert queue.rows == [f"{C} downloading 0"]


def test_one_failure_can_be_cleared_without_the_others(queue):
    queue.fail(A)
    queue.fail(B)

    queue.clear_failed("Owner/A:q4_k_m")

    assert queue.failures == [B]
    assert queue.effects == [do.StoreQueue()]


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        (B, f"{B} is downloading; only a failed download can be cleared."),
        ("owner/nobody:Q4", "There is no failed download owner/nobody:Q4. %gguf status shows the queue."),
    ],
)
def test_only_a_failed_download_can_be_cleared(queue, other, refusal):
    queue.fail(A)

    with pytest.raises(NotInQueueError) as refused:
        queue.clear_failed(other)
    assert str(refused.value) == refusal
    assert queue.failures == [A]


def test_queueing_again_removes_the_failure(queue):
    queue.fail(A)

    queue.queue(a_plan(A, *shards("a", 12)))

    assert queue.failures == []


def test_queueing_again_under_another_name_removes_the_failure(queue):
    queue.fail(A)

    queue.queue(a_plan("owner/a@main:Q4_K_M", *shards("a", 12)))

    assert queue.failures == []


# Retrying


def test_a_retry_queues_all_shards_as_one_download_and_returns_its_position(queue):
    queue.fail(A)

    position = queue.retry(A)

    assert position == 1
    assert queue.failures == []
    assert queue.rows == [f"{B} downloading 0", f"{A} queued 1"]
    assert len(queue.item(A).shards) == 12


def test_a_retry_is_a_new_attempt_of_the_same_files(queue):
    queue.fail(A)
    queue.retry(A)
    queue.finish(B)

    assert queue.of(do.StartAttempt)[0] == do.StartAttempt(3, a_plan(A, *shards("a", 12)))


def test_a_retry_that_can_start_at_once_has_position_0_and_starts_the_processor(queue):
    queue.fail(A)
    queue.complete(B)

    assert queue.retry(A) == 0
    assert queue.snapshot.is_processing


def test_a_retry_keeps_the_bars_and_clears_the_error(queue):
    queue.progress(A, 100, 30)
    queue.fail(A)
    queue.retry(A)

    row = queue.item(A)
    assert (row.downloaded_bytes, row.error, row.can_retry, row.ended_at_s) == (130, None, False, None)


def test_a_retry_on_a_full_queue_is_refused_and_keeps_the_failure(queue):
    queue.fail(A)
    queue.queue(a_plan(C))
    queue.send(on.LimitsChanged(StoredLimits(max_size=1)))

    with pytest.raises(QueueFullError):
        queue.retry(A)
    assert queue.failures == [A]


def test_a_retry_whose_target_another_download_writes_is_refused_and_names_it():
    queue = QueueDriver()
    queue.queue(a_plan("owner/a:Q4", a_file("a.gguf")))
    queue.fail("owner/a:Q4")
    queue.queue(a_plan("owner/a@v1:Q4", a_file("a.gguf"), commit_sha="1" * 40))

    with pytest.raises(AlreadyQueuedError) as refusal:
        queue.retry("owner/a:Q4")
    assert refusal.value.other_id == "owner/a@v1:Q4"
    assert queue.failures == ["owner/a:Q4"]


def test_only_a_failed_download_can_be_retried(queue):
    with pytest.raises(NotInQueueError, match="owner/a:Q4_K_M is downloading; only a failed download can be retried"):
        queue.retry(A)


def test_retrying_an_unknown_id_suggests_the_command_that_queues_it(queue):
    with pytest.raises(
        NotInQueueError,
        match=r"There is no failed download owner/nobody:Q4. To download it: %gguf queue owner/nobody:Q4$",
    ):
        queue.retry("owner/nobody:Q4")


# Registering


def test_a_slow_registration_never_blocks_the_next_start(queue):
    queue.finish(A)

    assert queue.rows == [f"{A} registering 0", f"{B} downloading 0"]
    assert not queue.machine.is_drained


def test_a_download_is_completed_after_its_row_is_written(queue):
    queue.finish(A)
    assert queue.snapshot.recent_completed == ()

    queue.registered(A)

    assert [str(item.id) for item in queue.snapshot.recent_completed] == [A]


def test_a_download_that_cannot_be_registered_is_completed_with_a_notice(queue):
    error = CatalogError("The models database is locked. Close the other program.")
    queue.finish(A)

    queue.registration_failed(A, error)

    [done] = queue.snapshot.recent_completed
    assert (done.notice_kind, len(done.paths)) == ("unregistered", 12)
    assert done.notice == f"not added to your models: {error}"
    assert queue.snapshot.recent_failures == ()


def test_without_add_to_db_a_finished_download_is_completed_at_once():
    queue = QueueDriver()
    queue.queue(a_plan(A, add_to_db=False))
    queue.queue(a_plan(B))

    queue.finish(A)

    assert queue.of(do.RegisterModel) == []
    assert queue.rows == [f"{B} downloading 0"]


def test_the_catalog_gets_the_plan_the_files_and_the_time(queue):
    queue.now_s = 1060.0

    queue.finish(A)

    registration = queue.of(do.RegisterModel)[0]
    assert (registration.attempt, str(registration.plan.id), registration.at_s) == (1, A, 1060.0)
    assert [file.target for file in registration.files][:2] == [
        "/models/a-00001-of-00012.gguf",
        "/models/a-00002-of-00012.gguf",
    ]


# A lost engine


def test_a_download_restarts_after_its_engine_is_lost(queue):
    queue.lose_engine()

    assert [(effect.attempt, str(effect.plan.id)) for effect in queue.of(do.StartAttempt)] == [(2, A)]
    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]


def test_three_restarts_without_progress_fail_the_download(queue):
    for _loss in range(3):
        queue.lose_engine()
    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]

    queue.lose_engine()

    assert queue.rows == [f"{B} downloading 0"]
    assert isinstance(failure(queue).error, EngineLostError)
    assert failure(queue).can_retry


def test_a_silent_engine_is_reported_without_a_rate(queue):
    queue.progress(A, 10, received=10, at_s=1.0)
    queue.progress(A, 40, received=40, at_s=3.0)
    assert queue.item(A).bytes_per_second is not None

    queue.fall_silent(4.0)

    silent = queue.item(A)
    assert (silent.notice_kind, silent.notice) == ("silent", "the download process does not answer (4 s)")
    assert (silent.bytes_per_second, silent.eta_seconds, silent.downloaded_bytes) == (None, None, 40)


def test_an_engine_that_reports_again_is_no_longer_shown_as_silent(queue):
    queue.fall_silent(4.0)

    queue.progress(A, 50, received=50, at_s=9.0)

    assert queue.item(A).notice is None


def test_a_new_byte_resets_the_restart_count(queue):
    for _loss in range(3):
        queue.lose_engine()
    queue.progress(A, received=1)

    for _loss in range(3):
        queue.lose_engine()

    assert queue.rows[0] == f"{A} downloading 0"


def test_bytes_already_on_disk_do_not_reset_the_restart_count(queue):
    for _loss in range(4):
        queue.progress(A, 100, 50, received=0)
        queue.lose_engine()

    assert queue.failures == [A]


def test_a_retry_resets_the_restart_count(queue):
    for _loss in range(4):
        queue.lose_engine()
    queue.complete(B)
    queue.retry(A)

    for _loss in range(3):
        queue.lose_engine()

    assert queue.rows == [f"{A} downloading 0"]


def test_losing_the_engine_confirms_the_pending_stop(queue):
    queue.cancel(A)

    queue.lose_engine()

    assert queue.rows == [f"{B} downloading 0"]
    assert queue.machine.stopping == frozenset()


def test_a_download_restarted_after_a_lost_engine_starts_once(queue):
    queue.cancel(A)

    queue.lose_engine()

    assert [(effect.attempt, str(effect.plan.id)) for effect in queue.of(do.StartAttempt)] == [(2, B)]


def test_interrupted_downloads_resume_before_waiting_ones():
    queue = QueueDriver(max_concurrent=2)
    for name in (A, B, C):
        queue.queue(a_plan(name))
    queue.cancel(A)

    queue.lose_engine()

    assert [str(effect.plan.id) for effect in queue.of(do.StartAttempt)] == [B, C]


def test_a_registration_does_not_need_the_engine(queue):
    queue.finish(A)
    queue.lose_engine()

    assert queue.rows == [f"{A} registering 0", f"{B} downloading 0"]


def test_losing_an_idle_engine_changes_nothing():
    queue = QueueDriver()

    queue.lose_engine()

    assert queue.effects == []


# Stale events


@pytest.mark.parametrize("report", ["progress", "finish", "fail", "stopped"])
def test_a_report_of_an_old_attempt_changes_nothing(queue, report):
    queue.lose_engine()
    before = queue.snapshot.items

    getattr(queue, report)(1)

    assert queue.effects == []
    assert queue.snapshot.items == before


@pytest.mark.parametrize("report", ["progress", "finish", "fail", "stopped"])
def test_reports_of_a_finished_attempt_are_ignored(queue, report):
    queue.finish(A)

    getattr(queue, report)(A)

    assert queue.effects == []
    assert queue.rows == [f"{A} registering 0", f"{B} downloading 0"]


@pytest.mark.parametrize("report", ["registered", "registration_failed"])
def test_only_a_download_that_is_being_registered_can_be_registered(queue, report):
    getattr(queue, report)(A)

    assert queue.effects == []
    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]


def test_progress_of_a_stopping_attempt_is_not_shown(queue):
    queue.pause(A)

    queue.progress(A, 50, received=50)

    assert queue.effects == []
    assert queue.item(A).downloaded_bytes == 0


def test_a_file_that_must_be_downloaded_again_returns_to_downloading(queue):
    queue.progress(A, 100, is_finalizing=True)
    assert queue.item(A).status == "finalizing"

    queue.progress(A, 0, is_finalizing=False)

    assert queue.item(A).status == "downloading"


def test_a_stored_download_shows_every_file_finished():
    queue = QueueDriver()
    queue.queue(a_plan(A, a_file("a.gguf"), an_mmproj()))
    queue.finish(A)

    row = queue.item(A)
    assert [file.status for file in (*row.shards, *row.companions)] == [ShardStatus.FINISHED] * 2
    assert row.progress == 1.0


def test_an_error_suggests_the_next_step(queue):
    queue.fail(A, TIMEOUT)

    assert str(failure(queue).error) == "The line was cut. `retry` continues."
