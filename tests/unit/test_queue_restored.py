"""The queue of an earlier kernel is restored unchanged, and other kernels' downloads are seen."""

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import Adoption, StoredDownload, StoredLimits
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import AlreadyQueuedError, GatedRepoError
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from tests.support.plans import a_file, a_plan
from tests.support.queue_driver import QueueDriver

A, B, C, D = (f"owner/{name}:Q4_K_M" for name in "abcd")
NIGHT = DailyHours.parse("22-7")
GATED = GatedRepoError("Accept the terms on its page.", "https://hub/owner/d")


def left(text, status="queued", *, was_active=False, **fields):
    plan = fields.pop("plan", None) or a_plan(text)
    return StoredDownload(plan, DownloadStatus(status), was_active, (), 500.0, **fields)


def test_restored_active_downloads_resume_first_and_the_others_keep_their_state():
    queue = QueueDriver()

    adopted = queue.restore(
        left(A, was_active=True), left(B, "paused"), left(C), left(D, "failed", error=GATED, ended_at_s=600.0)
    )

    assert adopted == Adoption(going_on=1, waiting=1, paused=1, failed=1)
    assert queue.rows == [f"{A} downloading 0", f"{B} paused 1", f"{C} queued 2"]
    [failed] = queue.snapshot.recent_failures
    assert (failed.error, failed.ended_at_s, failed.queued_at_s) == (GATED, 600.0, 500.0)
    assert queue.item(B).downloaded_bytes == 10


def test_a_stored_queue_is_restored_in_the_next_kernel():
    queue = QueueDriver(max_size=3)
    for text in (A, B, C, D):
        queue.queue(a_plan(text, force=text == B, add_to_db=False, companions=("mmproj",)))
    queue.pause(C)
    queue.move(D, 1)
    queue.fail(A)
    queue.send(on.LimitsChanged(StoredLimits(max_size=7)))
    queue.send(on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=5_000_000)))
    queue.send(on.LimitsChanged(StoredLimits(has_hours=True, hours=NIGHT), True))
    stored = queue.machine.stored()

    successor = QueueDriver(max_size=3)
    successor.restore(*stored.downloads, limits=stored.limits, starts=stored.is_processing)

    assert successor.rows == queue.rows == [f"{D} downloading 0", f"{B} queued 1", f"{C} paused 2"]
    assert successor.failures == queue.failures == [A]
    assert successor.machine.stored().downloads == stored.downloads
    assert successor.snapshot.max_size == 7
    assert successor.snapshot.bandwidth_limit_bytes_per_second == 5_000_000
    assert successor.snapshot.download_hours == NIGHT


def test_local_downloads_are_placed_between_restored_active_and_waiting_ones():
    queue = QueueDriver()
    queue.queue(a_plan(A), starts=False)

    queue.restore(left(B, was_active=True), left(C), starts=False)

    assert [row.split()[0] for row in queue.rows] == [B, A, C]


def test_downloads_that_were_not_running_are_not_started_by_a_restore():
    queue = QueueDriver()

    queue.restore(left(A), starts=False)

    assert queue.rows == [f"{A} queued 1"]
    assert not queue.snapshot.is_processing


def test_restoring_more_than_the_limit_evicts_nothing():
    queue = QueueDriver(max_size=1)

    queue.restore(left(A), left(B), left(C), starts=False)

    assert queue.snapshot.pending_count == 3


def test_a_download_already_in_the_queue_is_not_restored_again():
    queue = QueueDriver()
    queue.queue(a_plan(A), starts=False)

    assert queue.restore(left(A, was_active=True), starts=False) == Adoption()
    assert queue.rows == [f"{A} queued 1"]


def test_an_adoption_of_nothing_is_a_whole_sentence():
    assert str(Adoption()).endswith(" kernel")


def test_a_download_cancelled_here_is_not_restored():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.cancel(A)

    assert queue.restore(left(A)) == Adoption()
    queue.stopped(A)

    assert queue.restore(left(A)) == Adoption()
    assert queue.rows == []


def test_a_restored_download_with_a_conflicting_target_fails_with_an_explanation():
    queue = QueueDriver()
    queue.queue(a_plan(A, a_file("same.gguf")), starts=False)

    queue.restore(left(B, plan=a_plan(B, a_file("same.gguf", sha256="b" * 64))), starts=False)

    [failed] = queue.snapshot.recent_failures
    assert isinstance(failed.error, AlreadyQueuedError)
    assert failed.can_retry


def test_a_limit_set_here_is_not_replaced_by_a_stored_one():
    queue = QueueDriver()
    queue.send(on.LimitsChanged(StoredLimits(max_size=4)))
    queue.send(on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=None)))

    queue.restore(limits=StoredLimits(9, has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=1000))

    assert (queue.snapshot.max_size, queue.snapshot.bandwidth_limit_bytes_per_second) == (4, None)


def test_a_limit_from_the_settings_is_not_stored():
    queue = QueueDriver(max_size=4, bandwidth_bytes_per_second=5)

    assert queue.machine.stored().limits == StoredLimits()


def test_progress_stores_nothing():
    queue = QueueDriver()
    queue.queue(a_plan(A))

    queue.progress(A, 50, received=50)

    assert queue.of(do.StoreQueue) == []


def test_a_download_of_another_kernel_names_that_kernel():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.progress(A, 50, notice=("waiting", None, ""))
    assert queue.item(A).notice == "another process is downloading this file"

    queue.see(**{"a.ipynb": a_plan(A)})
    assert queue.item(A).notice == "a.ipynb is downloading it"
    queue.progress(A, 60, notice=("waiting", None, ""))

    assert queue.item(A).notice == "a.ipynb is downloading it"


def test_a_download_that_waits_for_a_host_is_not_shown_as_another_kernels():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.see(**{"a.ipynb": a_plan(A)})
    queue.progress(A, 50, notice=("waiting", None, "waiting for a free host"))
    assert queue.item(A).notice == "waiting for a free host"

    queue.cancel(A)

    assert queue.snapshot.recent_cancelled[0].notice is None


def test_cancelling_a_download_of_another_kernel_drops_only_this_request_with_a_notice():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.see(**{"a.ipynb": a_plan(A)})
    queue.progress(A, 50, notice=("waiting", None, ""))

    queue.cancel(A)
    queue.stopped(A)

    [cancelled] = queue.snapshot.recent_cancelled
    assert (cancelled.notice_kind, cancelled.notice) == ("elsewhere", "a.ipynb continues it")

    assert queue.restore(left(A, was_active=True)) == Adoption(going_on=1)  # when that kernel has stopped
    assert queue.rows == [f"{A} downloading 0"]
    assert not queue.snapshot.recent_cancelled


def test_discarding_a_download_that_another_kernel_continues_shows_its_data_which_is_in_use():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.see(**{"a.ipynb": a_plan(A)})
    queue.progress(A, 50, notice=("waiting", None, ""))

    queue.cancel(A, discards=True)

    assert queue.snapshot.recent_cancelled[0].downloaded_bytes == 50


def test_an_alias_of_a_download_is_restored_in_the_next_kernel():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.queue(a_plan("owner/a@main:Q4_K_M", *a_plan(A).files))
    successor = QueueDriver()

    successor.restore(*queue.machine.stored().downloads)

    assert successor.machine.find(DownloadId("owner/a", "Q4_K_M", "main")) is not None
