"""Download hours and concurrency: what starts, what is held, and the notices."""

import pytest

from gglib_nb.domain import snapshot as announcements
from gglib_nb.domain.stored import StoredLimits
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import InvalidConfigError
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from tests.support.plans import a_plan
from tests.support.queue_driver import QueueDriver

A, B, C = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K"
NIGHT = "22:00-7:00"


@pytest.fixture
def queue():
    """A runs; B and C wait."""
    queue = QueueDriver()
    for text in (A, B, C):
        queue.queue(a_plan(text))
    return queue


def notices(queue):
    return {str(item.id): item.notice for item in queue.snapshot.items}


def test_downloads_running_when_the_hours_end_are_stopped_and_queued_first(queue):
    queue.keep_hours(NIGHT, is_open=False)

    assert queue.of(do.StopTransfer) == [do.StopTransfer(1)]
    assert queue.rows == [f"{A} queued 1", f"{B} queued 2", f"{C} queued 3"]
    assert queue.snapshot.waits_until == "22:00"


def test_waiting_downloads_show_when_they_continue(queue):
    queue.keep_hours(NIGHT, is_open=False)

    assert set(notices(queue).values()) == {"waiting until 22:00"}
    assert len(queue.announced(announcements.NoticeChanged)) == 3


def test_stopped_downloads_keep_their_order(queue):
    queue.run_at_once(2)

    queue.keep_hours(NIGHT, is_open=False)

    assert queue.rows == [f"{A} queued 1", f"{B} queued 2", f"{C} queued 3"]


def test_when_the_hours_begin_the_queue_resumes(queue):
    queue.keep_hours(NIGHT, is_open=False)
    queue.stopped(A)
    queue.keep_hours(NIGHT, is_open=True)

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1", f"{C} queued 2"]
    assert notices(queue) == {A: "connecting", B: None, C: None}
    assert queue.snapshot.waits_until is None


def test_nothing_starts_outside_the_hours(queue):
    queue.keep_hours(NIGHT, is_open=False)
    queue.stopped(A)

    queue.pause(A)
    queue.resume(A)
    queue.queue(a_plan("owner/d:Q4_0"))

    assert [row.split()[1] for row in queue.rows] == ["queued"] * 4
    assert set(notices(queue).values()) == {"waiting until 22:00"}
    assert not queue.machine.is_drained


def test_a_paused_download_waits_for_the_user_and_not_for_the_hours(queue):
    queue.pause(B)

    queue.keep_hours(NIGHT, is_open=False)
    queue.keep_hours(NIGHT, is_open=True)

    assert notices(queue)[B] is None
    assert f"{B} paused 2" in queue.rows


def test_a_finalizing_download_completes_outside_the_hours(queue):
    queue.progress(A, 100, received=100, is_finalizing=True)

    queue.keep_hours(NIGHT, is_open=False)
    queue.complete(A)

    assert [str(item.id) for item in queue.snapshot.recent_completed] == [A]
    assert queue.rows == [f"{B} queued 1", f"{C} queued 2"]


def test_a_download_that_must_restart_outside_the_hours_is_held(queue):
    queue.progress(A, 100, received=100, is_finalizing=True)
    queue.keep_hours(NIGHT, is_open=False)

    queue.progress(A, 0, received=100)

    assert queue.of(do.StopTransfer) == [do.StopTransfer(1)]
    assert queue.rows[0] == f"{A} queued 1"


def test_cancelling_all_downloads_that_wait_for_the_hours_drains_the_queue(queue):
    queue.keep_hours(NIGHT, is_open=False)
    queue.stopped(A)

    queue.cancel_all()

    assert queue.machine.is_drained
    assert not queue.snapshot.is_processing
    assert len(queue.announced(announcements.RunSummarized)) == 1


def test_without_hours_downloads_run_at_any_time(queue):
    queue.keep_hours(NIGHT, is_open=False)
    queue.stopped(A)

    queue.keep_hours(None, is_open=True)

    assert queue.rows[0] == f"{A} downloading 0"
    assert queue.snapshot.download_hours is None


def test_raising_max_concurrent_starts_downloads_at_once(queue):
    queue.run_at_once(2)

    assert queue.rows == [f"{A} downloading 0", f"{B} downloading 0", f"{C} queued 1"]
    assert queue.snapshot.max_concurrent == 2


def test_lowering_max_concurrent_stops_nothing_and_starts_nothing_until_a_slot_is_free(queue):
    queue.run_at_once(2)
    queue.run_at_once(1)
    queue.complete(A)

    assert queue.rows == [f"{B} downloading 0", f"{C} queued 1"]


@pytest.mark.parametrize(
    "change",
    [
        on.ConcurrencyChanged(0),
        on.LimitsChanged(StoredLimits(max_size=0)),
        on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=0)),
    ],
)
def test_a_limit_of_zero_is_refused_and_changes_nothing(queue, change):
    before = queue.snapshot

    with pytest.raises(InvalidConfigError):
        queue.send(change)

    assert queue.snapshot == before


@pytest.mark.parametrize("hours", [None, NIGHT])
def test_hours_set_by_hand_are_kept_for_the_next_kernel_even_if_they_are_the_configured_ones(queue, hours):
    configured = None if hours is None else DailyHours.parse(hours)
    queue = QueueDriver(hours=configured)

    queue.keep_hours(hours, is_open=True)

    assert queue.machine.stored().limits == StoredLimits(has_hours=True, hours=configured)


def test_hours_set_by_hand_are_not_replaced_by_those_of_an_earlier_kernel(queue):
    queue.keep_hours(None, is_open=True)

    queue.restore(limits=StoredLimits(has_hours=True, hours=DailyHours.parse(NIGHT)))

    assert queue.snapshot.download_hours is None


def test_the_clock_turns_the_configured_hours_without_setting_them_by_hand():
    queue = QueueDriver(hours=DailyHours.parse(NIGHT))

    queue.send(on.HoursTurned(False))

    assert queue.snapshot.waits_until == "22:00"
    assert queue.machine.stored().limits == StoredLimits()
