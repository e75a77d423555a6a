"""The order of downloads: reordering, pausing, resuming, and skipped downloads."""

import pytest

from gglib_nb.errors import NotInQueueError, QueueFullError
from gglib_nb.queue import effects as do
from tests.support.plans import a_plan, an_mmproj, shards
from tests.support.queue_driver import QueueDriver

A, B, C, D = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K", "owner/d:Q5_K_M"


@pytest.fixture
def queue():
    """A runs; B, C and D wait."""
    queue = QueueDriver()
    for name in (A, B, C, D):
        queue.queue(a_plan(name, *shards(name[6], 3)))
    return queue


def waiting(queue):
    return [str(item.id) for item in queue.snapshot.items if item.position]


def test_moving_to_1_makes_a_download_next_to_run(queue):
    assert queue.move(D, 1) == 1
    assert waiting(queue) == [D, B, C]

    queue.complete(A)

    assert queue.rows == [f"{D} downloading 0", f"{B} queued 1", f"{C} queued 2"]


def test_moving_down_gives_the_requested_position(queue):
    assert queue.move(B, 2) == 2
    assert waiting(queue) == [C, B, D]


@pytest.mark.parametrize(("asked", "given"), [(0, 1), (-5, 1), (4, 3), (99, 3)])
def test_a_position_out_of_range_is_clamped(queue, asked, given):
    assert queue.move(C, asked) == given


def test_a_download_moves_with_all_its_shards_and_never_lands_inside_another(queue):
    queue.move(D, 2)

    assert [len(item.shards) for item in queue.snapshot.items] == [3, 3, 3, 3]
    assert waiting(queue) == [B, D, C]


def test_moving_to_the_current_position_changes_nothing(queue):
    assert queue.move(C, 2) == 2
    assert waiting(queue) == [B, C, D]


def test_an_active_download_cannot_be_moved(queue):
    with pytest.raises(NotInQueueError, match="owner/a:Q4_K_M is downloading; only waiting downloads have a position"):
        queue.move(A, 1)


def test_a_paused_download_moves_like_any_other(queue):
    queue.pause(D)

    assert queue.move(D, 1) == 1
    assert waiting(queue) == [D, B, C]


# Pausing


def test_a_paused_download_keeps_its_position_and_is_skipped(queue):
    queue.pause(B)

    queue.complete(A)

    assert queue.rows == [f"{C} downloading 0", f"{B} paused 1", f"{D} queued 2"]


def test_an_active_download_that_is_paused_shows_at_position_1_at_once(queue):
    queue.pause(A)

    assert queue.rows == [f"{A} paused 1", f"{B} queued 2", f"{C} queued 3", f"{D} queued 4"]
    assert queue.of(do.StopTransfer) == [do.StopTransfer(1)]


def test_a_paused_active_download_holds_its_slot_until_it_has_stopped(queue):
    queue.pause(A)

    assert queue.of(do.StartAttempt) == []

    queue.stopped(A)

    assert queue.rows == [f"{B} downloading 0", f"{A} paused 1", f"{C} queued 2", f"{D} queued 3"]


def test_a_download_being_finalized_can_be_paused(queue):
    queue.progress(A, 100, 100, 100, is_finalizing=True)

    queue.pause(A)

    assert queue.item(A).status == "paused"


def test_pausing_is_idempotent(queue):
    queue.pause(A)
    queue.pause(A)

    assert queue.effects == []
    assert queue.item(A).status == "paused"


def test_pausing_keeps_the_bars_and_clears_rate_and_notice(queue):
    queue.progress(A, 60, 20)

    queue.pause(A)

    row = queue.item(A)
    assert (row.downloaded_bytes, row.bytes_per_second, row.eta_seconds, row.notice) == (80, None, None, None)


def test_pausing_a_download_during_registration_changes_nothing(queue):
    queue.finish(A)

    queue.pause(A)

    assert queue.rows[0] == f"{A} registering 0"


def test_a_resumed_download_runs_in_turn(queue):
    queue.pause(B)
    queue.resume(B)

    queue.complete(A)

    assert queue.rows[0] == f"{B} downloading 0"


def test_resuming_starts_the_processor():
    queue = QueueDriver()
    queue.queue(a_plan(A), starts=False)
    queue.pause(A)

    queue.resume(A)

    assert queue.rows == [f"{A} downloading 0"]


def test_resuming_a_waiting_download_starts_the_processor():
    queue = QueueDriver()
    queue.queue(a_plan(A), starts=False)

    queue.resume(A)

    assert queue.rows == [f"{A} downloading 0"]


def test_resuming_an_active_download_changes_nothing(queue):
    queue.resume(A)

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1", f"{C} queued 2", f"{D} queued 3"]


def test_a_download_resumed_before_it_has_stopped_starts_after_the_stop(queue):
    queue.pause(A)
    queue.resume(A)

    assert queue.item(A).status == "queued"
    assert queue.of(do.StartAttempt) == []

    queue.stopped(A)

    assert [(effect.attempt, str(effect.plan.id)) for effect in queue.of(do.StartAttempt)] == [(2, A)]


def test_pausing_the_last_download_leaves_the_queue_drained():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.pause(A)

    assert not queue.machine.is_drained

    queue.stopped(A)

    assert queue.machine.is_drained
    assert not queue.snapshot.is_processing


def test_an_attempt_that_fails_while_being_paused_is_paused(queue):
    queue.pause(A)
    queue.fail(A)

    assert queue.item(A).status == "paused"
    assert queue.failures == []


def test_an_attempt_that_fails_after_pause_and_resume_runs_again(queue):
    queue.pause(A)
    queue.resume(A)
    queue.fail(A)

    assert queue.item(A).status == "downloading"


def test_a_completed_rename_outranks_pause(queue):
    queue.pause(A)
    queue.finish(A)

    assert queue.rows == [f"{A} registering 0", f"{B} downloading 0", f"{C} queued 1", f"{D} queued 2"]


def test_a_completed_rename_outranks_pause_and_resume(queue):
    queue.pause(A)
    queue.resume(A)
    queue.finish(A)

    assert queue.rows[:2] == [f"{A} registering 0", f"{B} downloading 0"]


@pytest.mark.parametrize("step", ["pause", "resume"])
def test_an_unknown_id_is_refused_with_a_hint_where_to_look(queue, step):
    with pytest.raises(
        NotInQueueError, match=r"no download owner/nobody:Q4 in the queue. %gguf status shows the queue"
    ):
        getattr(queue, step)("owner/nobody:Q4")


def test_run_now_gives_a_waiting_download_the_slot_of_the_last_started_one(queue):
    queue.run_now(C)

    assert queue.rows == [f"{C} queued 1", f"{A} queued 2", f"{B} queued 3", f"{D} queued 4"]
    queue.stopped(A)
    assert queue.rows == [f"{C} downloading 0", f"{A} queued 1", f"{B} queued 2", f"{D} queued 3"]


def test_run_now_stops_no_download_if_a_slot_is_free(queue):
    queue.pause(D)
    queue.run_at_once(4)

    queue.run_now(D)

    assert [row.split()[1] for row in queue.rows] == ["downloading"] * 4


def test_run_now_gives_a_paused_download_its_slot_back(queue):
    queue.pause(A)
    queue.stopped(A)

    queue.run_now(A)
    queue.stopped(B)

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1", f"{C} queued 2", f"{D} queued 3"]


def test_run_now_does_not_stop_a_nearly_finished_download(queue):
    queue.progress(A, 100, is_finalizing=True)

    queue.run_now(C)

    assert queue.rows[:2] == [f"{A} finalizing 0", f"{C} queued 1"]


def test_run_now_stops_no_download_if_a_slot_is_about_to_be_free(queue):
    queue.run_at_once(2)
    queue.pause(A)

    queue.run_now(C)

    assert queue.of(do.StopTransfer) == []
    queue.stopped(A)
    assert queue.rows[:2] == [f"{B} downloading 0", f"{C} downloading 0"]


def test_after_lowering_max_concurrent_run_now_stops_as_many_downloads_as_needed(queue):
    queue.run_at_once(3)
    queue.run_at_once(1)

    queue.run_now(D)
    for text in (A, B, C):
        queue.stopped(text)

    assert queue.rows == [f"{D} downloading 0", f"{A} queued 1", f"{B} queued 2", f"{C} queued 3"]


def test_run_now_stops_the_download_that_writes_a_shared_file():
    queue = QueueDriver(max_concurrent=2)
    for label in ("Q8", "Q5"):
        queue.queue(a_plan(f"owner/v:{label}", *shards(f"v-{label}", 1), an_mmproj(), companions=("mmproj",)))
    queue.queue(a_plan(C))

    queue.run_now("owner/v:Q5")
    queue.stopped("owner/v:Q8")

    assert queue.rows == [f"{C} downloading 0", "owner/v:Q5 downloading 0", "owner/v:Q8 queued 1"]


def test_an_active_download_cannot_be_run_now(queue):
    with pytest.raises(NotInQueueError, match="it is already running"):
        queue.run_now(A)


def test_clearing_one_outcome_keeps_the_others(queue):
    queue.cancel(D)
    queue.fail(A)

    queue.clear("cancelled")

    assert (queue.snapshot.recent_cancelled, len(queue.snapshot.recent_failures)) == ((), 1)


def test_partial_files_of_a_cancelled_download_can_be_deleted(queue):
    queue.cancel(D)

    queue.discard(D)

    assert queue.of(do.DiscardPartials) != []
    assert queue.snapshot.recent_cancelled == ()


# Operations on all downloads, and undo


def test_discarding_after_a_cancel_deletes_the_partial_files_when_the_attempt_has_stopped(queue):
    queue.cancel(A)

    queue.discard(A)
    at_once = queue.of(do.DiscardPartials)
    queue.stopped(1)

    [deleted] = queue.of(do.DiscardPartials)
    assert (at_once, len(deleted.targets)) == ([], 3)
    assert queue.snapshot.recent_cancelled == ()


def test_pausing_everything_is_one_event_and_keeps_the_order():
    queue = QueueDriver(max_concurrent=2)
    for text in (A, B, C):
        queue.queue(a_plan(text))
    queue.pause_all()

    assert queue.rows == [f"{A} paused 1", f"{B} paused 2", f"{C} paused 3"]
    assert queue.of(do.StartAttempt) == []


def test_a_request_listed_during_pause_all_is_queued_paused_until_resume_all(queue):
    early, late = queue.receive("owner/e"), queue.receive("owner/f")
    queue.pause_all()

    queue.resolve(early, a_plan("owner/e:Q4_K_M"))
    waiting = queue.rows[-1]
    queue.resume_all()
    queue.resolve(late, a_plan("owner/f:Q4_K_M"))

    assert waiting == "owner/e:Q4_K_M paused 5"
    assert queue.rows[-1].startswith("owner/f:Q4_K_M queued")


def test_undoing_a_removal_restores_the_position_and_the_request(queue):
    plan = a_plan("owner/e:Q4_K_M", force=True, add_to_db=False, everywhere=True)
    queue.queue(plan)
    queue.move("owner/e:Q4_K_M", 1)
    queue.pause("owner/e:Q4_K_M")
    before = queue.rows

    queue.remove("owner/e:Q4_K_M")
    positions = queue.put_back("owner/e:Q4_K_M")

    assert positions == (1,)
    assert queue.rows == before
    assert next(one.plan for one in queue.machine.stored().downloads if one.plan.id == plan.id) == plan
    assert queue.snapshot.recent_cancelled == ()


def test_a_download_restored_before_its_cancel_has_stopped_it_runs_again_first(queue):
    queue.cancel(A)

    queue.put_back(A)
    waiting = queue.rows[0]
    queue.stopped(1)

    assert (waiting, queue.rows[0]) == (f"{A} queued 1", f"{A} downloading 0")
    assert queue.snapshot.recent_cancelled == ()


def test_a_download_queued_without_starting_does_not_start_when_restored():
    queue = QueueDriver()
    queue.queue(a_plan(A), starts=False)
    queue.remove(A)

    positions = queue.put_back(A)

    assert (positions, queue.rows) == ((1,), [f"{A} queued 1"])
    assert not queue.snapshot.is_processing


def test_undoing_cancel_all_restores_the_original_order(queue):
    queue.pause(C)
    before = queue.rows
    queue.cancel_all()
    queue.stopped(1)

    positions = queue.put_back(C, A, D, B)

    assert positions == (2, 0, 3, 1)
    assert queue.rows == before


def test_restoring_more_than_the_queue_holds_changes_nothing():
    queue = QueueDriver(max_size=2)
    for text in (A, B, C):
        queue.queue(a_plan(text))
    queue.cancel_all()
    queue.stopped(1)
    queue.queue(a_plan("owner/e:Q4_K_M"))
    queue.queue(a_plan("owner/f:Q4_K_M"))
    before = queue.snapshot

    with pytest.raises(
        QueueFullError, match=r"no room for 2 more downloads: .* so none of the 3 downloads was added\."
    ):
        queue.put_back(A, B, C)

    assert queue.snapshot == before


def test_the_refusal_of_several_does_not_name_one_of_them_though_only_one_would_wait():
    queue = QueueDriver(max_size=1)
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    queue.cancel_all()
    queue.stopped(1)
    queue.queue(a_plan(C))
    queue.queue(a_plan("owner/e:Q4_K_M"))
    before = queue.snapshot

    with pytest.raises(QueueFullError, match=r"The queue is full: .* so none of the 2 downloads was added\."):
        queue.put_back(A, B)

    assert queue.snapshot == before


def test_only_cancelled_or_removed_downloads_can_be_restored(queue):
    queue.complete(A)

    with pytest.raises(NotInQueueError, match="so none can be put back"):
        queue.put_back(A)
