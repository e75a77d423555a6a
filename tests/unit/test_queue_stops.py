"""Cancelling and removing: what stops, what is kept, what is deleted, and requests that are too late."""

import pytest

from gglib_nb.domain import snapshot as announcements
from gglib_nb.errors import NotInQueueError
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from tests.support.plans import a_file, a_plan, an_mmproj, shards
from tests.support.queue_driver import QueueDriver

A, B, C = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K"


@pytest.fixture
def queue():
    """A, of three shards, runs; B waits."""
    queue = QueueDriver()
    queue.queue(a_plan(A, *shards("a", 3)))
    queue.queue(a_plan(B))
    return queue


def cancelled(queue):
    return [str(item.id) for item in queue.snapshot.recent_cancelled]


def test_a_cancelled_queued_download_disappears_at_once(queue):
    queue.cancel(B)

    assert queue.rows == [f"{A} downloading 0"]
    assert cancelled(queue) == [B]
    assert [event.download.id for event in queue.announced(announcements.DownloadCancelled)] == [a_plan(B).id]


def test_a_sharded_download_is_cancelled_as_a_whole(queue):
    queue.cancel(A)
    queue.stopped(A)

    assert queue.rows == [f"{B} downloading 0"]
    assert cancelled(queue) == [A]


def test_cancelling_an_active_download_shows_at_once_and_holds_its_slot_until_it_has_stopped(queue):
    queue.cancel(A)

    assert queue.of(do.StopTransfer) == [do.StopTransfer(1)]
    assert queue.of(do.StartAttempt) == []
    assert queue.announced(announcements.DownloadCancelled) == []
    assert queue.rows == [f"{B} queued 1"]
    assert cancelled(queue) == [A]

    queue.stopped(A)

    assert queue.rows == [f"{B} downloading 0"]
    assert len(queue.announced(announcements.DownloadCancelled)) == 1


def test_cancelling_keeps_the_partial_file(queue):
    queue.cancel(A)
    queue.stopped(A)

    assert queue.of(do.DiscardPartials) == []


def test_discarding_deletes_partial_files_after_their_writer_has_stopped(queue):
    queue.cancel(A, discards=True)

    assert queue.of(do.DiscardPartials) == []

    queue.stopped(A)

    assert queue.of(do.DiscardPartials) == [
        do.DiscardPartials(
            (
                "/models/a-00001-of-00003.gguf",
                "/models/a-00002-of-00003.gguf",
                "/models/a-00003-of-00003.gguf",
            )
        )
    ]


def test_a_cancelled_download_whose_data_is_deleted_has_no_data(queue):
    queue.progress(A, 4 * 2**20)

    queue.cancel(A, discards=True)
    queue.stopped(A)

    (row,) = queue.snapshot.recent_cancelled
    assert (row.downloaded_bytes, [shard.downloaded_bytes for shard in row.shards]) == (0, [0, 0, 0])


def test_discarding_a_waiting_download_deletes_partial_files_of_an_earlier_run(queue):
    queue.cancel(B, discards=True)

    assert queue.of(do.DiscardPartials) == [do.DiscardPartials(("/models/owner/b/Q8_0.gguf",))]


def test_deleted_partial_files_of_ended_downloads_are_shown_as_missing(queue):
    queue.progress(A, 40, 30)
    queue.cancel(A)
    queue.stopped(A)
    queue.progress(B, 20)
    queue.fail(B)

    queue.send(on.PartialsDeleted(frozenset({"/models/a-00002-of-00003.gguf"})))

    [cancelled], [failed] = queue.snapshot.recent_cancelled, queue.snapshot.recent_failures
    assert [shard.downloaded_bytes for shard in cancelled.shards] == [40, 0, 0]
    assert (cancelled.downloaded_bytes, failed.downloaded_bytes) == (40, 20)

    queue.send(on.PartialsDeleted(a_plan(A, *shards("a", 3)).targets | a_plan(B).targets))

    [cancelled], [failed] = queue.snapshot.recent_cancelled, queue.snapshot.recent_failures
    assert (cancelled.downloaded_bytes, failed.downloaded_bytes) == (0, 0)


def test_a_completed_download_keeps_its_size_if_another_ones_partial_file_at_its_path_is_deleted(queue):
    queue.complete(A)
    before = queue.snapshot.recent_completed

    queue.send(on.PartialsDeleted(a_plan(A, *shards("a", 3)).targets))

    assert queue.snapshot.recent_completed == before


def test_discarding_keeps_a_companion_of_another_live_download(queue):
    queue.queue(a_plan("owner/v:Q4", a_file("v-q4.gguf"), an_mmproj()))
    queue.queue(a_plan("owner/v:Q8", a_file("v-q8.gguf"), an_mmproj()))

    queue.cancel("owner/v:Q8", discards=True)

    assert queue.of(do.DiscardPartials) == [do.DiscardPartials(("/models/v-q8.gguf",))]


def test_discarding_keeps_a_companion_that_a_cancelled_download_is_still_writing():
    queue = QueueDriver()
    queue.queue(a_plan(A, a_file("v-q4.gguf"), an_mmproj()))
    queue.queue(a_plan(B, a_file("v-q8.gguf"), an_mmproj()))
    queue.cancel(A)

    queue.cancel(B, discards=True)

    assert queue.of(do.DiscardPartials) == [do.DiscardPartials(("/models/v-q8.gguf",))]


def test_cancelling_a_stopping_paused_download_waits_for_its_stop(queue):
    queue.pause(A)
    queue.cancel(A, discards=True)

    assert queue.of(do.StopTransfer) == []
    assert queue.of(do.DiscardPartials) == []

    queue.stopped(A)

    assert len(queue.of(do.DiscardPartials)) == 1
    assert cancelled(queue) == [A]


def test_a_completed_rename_outranks_cancel(queue):
    queue.cancel(A)
    queue.finish(A)

    assert queue.rows == [f"{A} registering 0", f"{B} downloading 0"]
    assert cancelled(queue) == []
    assert queue.item(A).ended_at_s is None

    queue.registered(A)

    assert [str(item.id) for item in queue.snapshot.recent_completed] == [A]


def test_an_attempt_that_fails_while_being_cancelled_is_cancelled(queue):
    queue.cancel(A)
    queue.fail(A)

    assert cancelled(queue) == [A]
    assert queue.failures == []


def test_cancelling_during_registration_changes_nothing(queue):
    queue.finish(A)

    queue.cancel(A, discards=True)

    assert queue.of(do.DiscardPartials) == []
    assert queue.rows[0] == f"{A} registering 0"


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("complete", "owner/a:Q4_K_M is completed and no longer in the queue"),
        ("cancel", "owner/a:Q4_K_M is cancelled and no longer in the queue"),
        (
            "fail",
            "owner/a:Q4_K_M has failed and is not in the queue. To download it again: %gguf retry owner/a:Q4_K_M$",
        ),
    ],
)
def test_cancelling_an_ended_download_reports_its_outcome(queue, outcome, text):
    getattr(queue, outcome)(A)

    with pytest.raises(NotInQueueError, match=text):
        queue.cancel(A)


def test_cancelling_an_unknown_id_is_refused(queue):
    with pytest.raises(NotInQueueError, match="There is no download owner/nobody:Q4 in the queue"):
        queue.cancel("owner/nobody:Q4")


# Removing


def test_removing_a_pending_download_removes_all_its_shards(queue):
    queue.queue(a_plan(C, *shards("c", 12)))

    queue.remove(C)

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]


def test_a_paused_download_can_be_removed(queue):
    queue.pause(B)
    queue.remove(B)

    assert queue.rows == [f"{A} downloading 0"]


def test_an_active_download_is_not_removed_and_the_refusal_names_cancel(queue):
    with pytest.raises(NotInQueueError, match="owner/a:Q4_K_M is downloading; %gguf cancel stops it"):
        queue.remove(A)


# Queueing again before the stop is confirmed


def test_a_download_queued_again_before_it_has_stopped_starts_after_the_stop(queue):
    queue.remove(B)
    queue.cancel(A)

    answer = queue.queue(a_plan(A, *shards("a", 3)))

    assert (answer.position, answer.is_new) == (1, True)
    assert queue.of(do.StartAttempt) == []

    queue.stopped(1)

    assert [effect.attempt for effect in queue.of(do.StartAttempt)] == [2]


def test_queueing_a_stopping_download_again_reports_the_cancellation_once(queue):
    queue.cancel(A)

    queue.queue(a_plan(A, *shards("a", 3)))
    heard = len(queue.announced(announcements.DownloadCancelled))
    queue.stopped(1)

    assert (heard, len(queue.announced(announcements.DownloadCancelled))) == (1, 0)


def test_a_completed_rename_outranks_cancel_and_queueing_again(queue):
    queue.cancel(A)
    queue.queue(a_plan(A, *shards("a", 3)))

    queue.finish(1)

    assert queue.rows[0] == f"{A} registering 0"


def test_queueing_again_with_other_files_is_not_completed_by_the_old_attempt(queue):
    queue.cancel(A)
    queue.queue(a_plan(A, *shards("a", 3), force=True))
    queue.move(A, 1)

    queue.finish(1)

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]
    assert queue.attempts[A] == 2


def test_a_download_completed_with_other_files_can_be_queued_again_before_its_old_attempt_stopped():
    queue = QueueDriver(max_concurrent=2)
    queue.queue(a_plan(A, a_file("a.gguf")))
    queue.cancel(A)
    queue.queue(a_plan(A, a_file("new-a.gguf"), commit_sha="d" * 40))
    queue.complete(A)

    queue.queue(a_plan(A, a_file("a.gguf")))

    assert queue.rows == [f"{A} queued 1"]
    queue.stopped(1)
    assert queue.rows == [f"{A} downloading 0"]


def test_queueing_again_under_another_name_is_the_same_download(queue):
    queue.cancel(A)

    queue.queue(a_plan("owner/a@main:Q4_K_M", *shards("a", 3)))

    assert cancelled(queue) == []
    assert queue.rows == [f"{B} queued 1", "owner/a@main:Q4_K_M queued 2"]


def test_queueing_again_keeps_the_bars(queue):
    queue.progress(A, 100, 40)
    queue.cancel(A)

    queue.queue(a_plan(A, *shards("a", 3)))

    assert queue.item(A).downloaded_bytes == 140


def test_queueing_again_after_the_branch_moved_shows_the_bars_of_the_new_files(queue):
    queue.progress(A, 100, 40)
    queue.cancel(A)

    queue.queue(a_plan(A, *shards("new", 2), commit_sha="1" * 40))

    row = queue.item(A)
    assert [bar.path_in_repo for bar in row.shards] == ["new-00001-of-00002.gguf", "new-00002-of-00002.gguf"]
    assert row.downloaded_bytes == 0


def test_queueing_again_withdraws_the_discard(queue):
    queue.cancel(A, discards=True)
    queue.queue(a_plan(A, *shards("a", 3)))
    queue.cancel(A)

    queue.stopped(1)

    assert queue.of(do.DiscardPartials) == []


# Everything


def test_cancel_all_cancels_everything_and_starts_nothing(queue):
    queue.queue(a_plan(C))
    queue.pause(C)

    stopping = queue.cancel_all()

    assert queue.rows == []
    assert queue.of(do.StartAttempt) == []
    assert stopping == {1}
    assert set(cancelled(queue)) == {A, B, C}


def test_cancel_all_keeps_the_partial_files(queue):
    queue.cancel_all()
    discarded = queue.of(do.DiscardPartials)
    queue.stopped(1)

    assert discarded + queue.of(do.DiscardPartials) == []


def test_cancel_all_on_an_idle_queue_returns_at_once():
    assert QueueDriver().cancel_all() == frozenset()


def test_cancel_all_waits_for_downloads_already_stopping(queue):
    queue.cancel(A)

    assert queue.cancel_all() == {1} == queue.machine.stopping


def test_cancel_all_lets_a_registration_finish(queue):
    queue.finish(A)
    queue.cancel_all()

    assert queue.rows == [f"{A} registering 0"]


def test_cancel_all_keeps_the_failures(queue):
    queue.fail(A)

    queue.cancel_all()

    assert queue.failures == [A]


def test_after_cancel_all_the_queue_drains_when_the_last_attempt_has_stopped(queue):
    queue.cancel_all()

    assert not queue.machine.is_drained

    queue.stopped(1)

    assert queue.machine.is_drained
    assert not queue.snapshot.is_processing
