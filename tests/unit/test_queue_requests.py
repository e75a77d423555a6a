"""Queueing: positions, joining, duplicates, targets, the limit, and requests whose files are still being listed."""

import pytest

from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import StoredLimits
from gglib_nb.errors import (
    AlreadyQueuedError,
    DownloadCancelledError,
    InvalidConfigError,
    NotInQueueError,
    QueueFullError,
)
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Limits
from tests.support.plans import a_file, a_plan, an_mmproj, shards
from tests.support.queue_driver import QueueDriver

A, B, C = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K"


@pytest.fixture
def queue():
    return QueueDriver()


def test_a_download_that_starts_at_once_has_position_0(queue):
    assert queue.queue(a_plan(A)).position == 0
    assert queue.rows == [f"{A} downloading 0"]


def test_position_1_is_next_to_run(queue):
    queue.queue(a_plan(A))

    assert queue.queue(a_plan(B)).position == 1
    assert queue.queue(a_plan(C)).position == 2
    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1", f"{C} queued 2"]


def test_queueing_without_starting_does_not_start_the_processor(queue):
    queue.queue(a_plan(A), starts=False)

    assert queue.of(do.StartAttempt) == []
    assert queue.rows == [f"{A} queued 1"]
    assert not queue.snapshot.is_processing


def test_a_download_queued_without_starting_runs_when_the_processor_runs(queue):
    queue.queue(a_plan(A), starts=False)
    queue.queue(a_plan(B), starts=True)

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1"]


def test_a_running_processor_starts_a_download_queued_without_starting(queue):
    queue.queue(a_plan(A))
    queue.queue(a_plan(B), starts=False)
    queue.complete(A)

    assert queue.rows == [f"{B} downloading 0"]


def test_the_result_has_id_position_shards_and_the_reason_for_the_variant(queue):
    plan = a_plan(A, *shards("a", 3), an_mmproj(), companions=("mmproj",), reason="Q4_K_M is the usual choice.")

    answer = queue.queue(plan)

    assert answer == do.QueuePosition(
        DownloadId("owner/a", "Q4_K_M"), 0, 3, True, "Q4_K_M is the usual choice.", plan.paths[0]
    )


def test_max_concurrent_is_obeyed():
    queue = QueueDriver(max_concurrent=2)

    for name in (A, B, C):
        queue.queue(a_plan(name))

    assert queue.rows == [f"{A} downloading 0", f"{B} downloading 0", f"{C} queued 1"]


@pytest.mark.parametrize("starts", [True, False])
def test_a_12_shard_model_fits_into_a_queue_of_10(queue, starts):
    answer = queue.queue(a_plan(A, *shards("a", 12)), starts=starts)

    assert answer.shard_count == 12


def test_a_12_shard_model_is_one_start_with_all_its_files(queue):
    queue.queue(a_plan(A, *shards("a", 12)))

    assert [len(effect.plan.files) for effect in queue.of(do.StartAttempt)] == [12]


# The same download


def test_joining_gives_the_present_position_of_a_pending_download(queue):
    for name in (A, B, C):
        queue.queue(a_plan(name))

    answer = queue.queue(a_plan(C))

    assert (answer.position, answer.is_new) == (2, False)
    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1", f"{C} queued 2"]


def test_joining_an_active_download_gives_position_0(queue):
    queue.queue(a_plan(A))

    answer = queue.queue(a_plan(A))

    assert (answer.position, answer.is_new) == (0, False)


def test_a_download_can_be_joined_during_registration(queue):
    queue.queue(a_plan(A))
    queue.finish(A)

    assert queue.queue(a_plan(A)).is_new is False


def test_joining_starts_the_processor(queue):
    queue.queue(a_plan(A), starts=False)

    assert queue.queue(a_plan(A), starts=True).position == 0


def test_without_joining_the_same_download_is_already_queued(queue):
    queue.queue(a_plan(A))

    with pytest.raises(AlreadyQueuedError, match="owner/a:Q4_K_M is already downloading") as refusal:
        queue.queue(a_plan(A), joins=False)
    assert refusal.value.other_id == A


def test_ids_that_resolve_to_the_same_commit_and_variant_are_one_download(queue):
    queue.queue(a_plan("owner/a:Q4_K_M"))

    answer = queue.queue(a_plan("owner/a@main:Q4_K_M"))

    assert (str(answer.id), answer.is_new) == ("owner/a:Q4_K_M", False)


def test_a_joined_download_is_found_by_both_ids(queue):
    queue.queue(a_plan(A))
    queue.queue(a_plan("owner/b:Q4"))
    queue.queue(a_plan("owner/b@main:Q4", a_file("owner/b/Q4.gguf")))

    queue.remove("owner/b@main:Q4")

    assert queue.rows == [f"{A} downloading 0"]


def test_an_id_is_live_once_even_after_its_branch_moved(queue):
    queue.queue(a_plan(A, a_file("old.gguf"), commit_sha="1" * 40))

    answer = queue.queue(a_plan(A, a_file("new.gguf"), commit_sha="2" * 40))

    assert answer.is_new is False
    assert queue.rows == [f"{A} downloading 0"]


def test_a_companion_missing_from_the_live_download_cannot_be_joined(queue):
    queue.queue(a_plan(A))

    with pytest.raises(AlreadyQueuedError, match=r"without its mmproj. Cancel it first, then queue it again"):
        queue.queue(a_plan(A, a_file("owner/a/Q4_K_M.gguf"), an_mmproj(), companions=("mmproj",)))


def test_the_case_of_a_quantization_does_not_matter(queue):
    queue.queue(a_plan(A))

    queue.cancel("owner/a:q4_k_m")

    assert queue.rows == []


# Targets


def test_two_live_downloads_never_share_a_target_and_the_refusal_names_the_other(queue):
    queue.queue(a_plan("owner/a:Q4", a_file("a.gguf")))

    with pytest.raises(AlreadyQueuedError, match="owner/a:Q4 is downloading and writes the same files") as refusal:
        queue.queue(a_plan("owner/a@v1:Q4", a_file("a.gguf"), commit_sha="1" * 40))
    assert refusal.value.other_id == "owner/a:Q4"


def test_a_shared_companion_is_not_a_conflict_and_has_one_writer_at_a_time():
    queue = QueueDriver(max_concurrent=3)
    queue.queue(a_plan(A, a_file("q4.gguf"), an_mmproj()))
    queue.queue(a_plan(B, a_file("q8.gguf"), an_mmproj()))
    queue.queue(a_plan(C))

    assert queue.rows == [f"{A} downloading 0", f"{C} downloading 0", f"{B} queued 1"]

    queue.finish(A)

    assert queue.of(do.StartAttempt)[0].plan.id == DownloadId.parse(B)


def test_companions_with_one_name_and_different_content_conflict(queue):
    queue.queue(a_plan(A, a_file("q4.gguf"), an_mmproj(sha256="1" * 64)))

    with pytest.raises(AlreadyQueuedError):
        queue.queue(a_plan(B, a_file("q8.gguf"), an_mmproj(sha256="2" * 64)))


def test_a_model_and_a_companion_with_one_name_conflict(queue):
    queue.queue(a_plan(A, a_file("x.gguf", sha256="1" * 64)))

    with pytest.raises(AlreadyQueuedError):
        queue.queue(a_plan(B, a_file("q8.gguf"), an_mmproj("x.gguf", sha256="1" * 64)))


def test_a_target_can_be_requested_again_after_its_file_is_stored(queue):
    queue.queue(a_plan("owner/a:Q4", a_file("a.gguf")))
    queue.finish("owner/a:Q4")

    queue.queue(a_plan("owner/a@v1:Q4", a_file("a.gguf"), commit_sha="1" * 40, force=True))

    assert queue.rows == ["owner/a:Q4 registering 0", "owner/a@v1:Q4 downloading 0"]


# The limit


def test_the_limit_counts_waiting_downloads_and_not_the_active_one():
    queue = QueueDriver(max_size=2)
    for name in (A, B, C):
        queue.queue(a_plan(name))

    with pytest.raises(
        QueueFullError, match="2 are waiting, and its limit is 2, so owner/d:Q4 was not added"
    ) as refusal:
        queue.queue(a_plan("owner/d:Q4"))
    assert refusal.value.max_size == 2


def test_one_waiting_download_is_counted_in_the_singular():
    queue = QueueDriver(max_size=1)
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))

    with pytest.raises(QueueFullError, match="1 is waiting, and its limit is 1"):
        queue.queue(a_plan(C))


def test_paused_downloads_count_as_waiting():
    queue = QueueDriver(max_size=1)
    queue.queue(a_plan(A))
    queue.pause(A)

    with pytest.raises(QueueFullError):
        queue.queue(a_plan(B))


def test_joining_needs_no_free_place():
    queue = QueueDriver(max_size=1)
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))

    assert queue.queue(a_plan(B)).position == 1


def test_a_lower_limit_never_evicts(queue):
    for name in (A, B, C):
        queue.queue(a_plan(name))

    queue.send(on.LimitsChanged(StoredLimits(max_size=1)))

    assert queue.rows == [f"{A} downloading 0", f"{B} queued 1", f"{C} queued 2"]
    assert queue.snapshot.max_size == 1


def test_a_higher_limit_counts_at_once():
    queue = QueueDriver(max_size=1)
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))

    queue.send(on.LimitsChanged(StoredLimits(max_size=2)))

    assert queue.queue(a_plan(C)).position == 2


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "3"])
def test_a_limit_is_a_whole_number_of_at_least_1(queue, limit):
    with pytest.raises(InvalidConfigError, match=r"max_queue_size is .*; it must be a whole number, 1 or more"):
        queue.send(on.LimitsChanged(StoredLimits(max_size=limit)))
    assert queue.snapshot.max_size == 10


def test_a_limit_that_is_too_large_is_refused_with_the_largest_one(queue):
    with pytest.raises(InvalidConfigError, match=r"it must be a whole number, from 1 to \d+\."):
        queue.send(on.LimitsChanged(StoredLimits(max_size=10**30)))


@pytest.mark.parametrize("config", [{"max_size": 0}, {"max_concurrent": 0}])
def test_a_queue_that_holds_or_runs_nothing_is_refused(config):
    with pytest.raises(InvalidConfigError):
        Limits(**config)


# Bandwidth


def test_a_bandwidth_limit_is_passed_on_and_shown(queue):
    queue.send(on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=5_000_000)))

    assert queue.effects == [do.LimitBandwidth(5_000_000), do.StoreQueue()]
    assert queue.snapshot.bandwidth_limit_bytes_per_second == 5_000_000


def test_an_unlimited_bandwidth_is_none(queue):
    queue.send(on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=5_000_000)))
    queue.send(on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=None)))

    assert queue.effects == [do.LimitBandwidth(None), do.StoreQueue()]
    assert queue.snapshot.bandwidth_limit_bytes_per_second is None


def test_a_bandwidth_of_0_is_refused_since_it_would_stop_everything(queue):
    with pytest.raises(InvalidConfigError, match="bandwidth limit in bytes per second"):
        queue.send(on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=0)))


# While files are being listed


def test_a_request_shows_while_its_files_are_listed(queue):
    queue.receive("owner/a")

    assert queue.snapshot.resolving == ("owner/a",)
    assert not queue.machine.is_drained


def test_an_abandoned_request_is_removed(queue):
    request = queue.receive("owner/a")

    queue.drop(request)

    assert queue.snapshot.resolving == ()
    assert queue.machine.is_drained


def test_abandoning_a_request_twice_is_harmless(queue):
    request = queue.receive("owner/a")

    queue.drop(request)
    queue.drop(request)

    assert queue.snapshot.resolving == ()


def test_cancel_all_voids_requests_that_are_still_being_listed(queue):
    request = queue.receive("owner/a")

    queue.cancel_all()

    assert queue.snapshot.resolving == ()
    with pytest.raises(DownloadCancelledError, match="was cancelled while its files were being listed"):
        queue.resolve(request, a_plan(A))
    assert queue.rows == []


def test_a_refused_request_changes_nothing(queue):
    queue.send(on.LimitsChanged(StoredLimits(max_size=1)))
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    request = queue.receive("owner/c")
    before = queue.snapshot

    with pytest.raises(QueueFullError):
        queue.resolve(request, a_plan(C))
    with pytest.raises(NotInQueueError):
        queue.cancel("owner/nobody:Q4")

    assert queue.snapshot == before


def test_a_downloads_own_id_outranks_another_downloads_alias():
    queue = QueueDriver()
    queue.queue(a_plan("owner/a@main:Q4", a_file("a.gguf")))
    moved = a_plan("owner/a:Q4", a_file("new-a.gguf"), commit_sha="d" * 40)
    queue.queue(moved)
    queue.queue(a_plan("owner/a:Q4", a_file("a.gguf")))  # it is also an alias of the first one

    queue.pause("owner/a:Q4")

    assert queue.rows == ["owner/a@main:Q4 downloading 0", "owner/a:Q4 paused 1"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"force": True}, "without `force`"),
        ({"everywhere": True}, "not on every host"),
        ({"add_to_db": False}, "and will be registered"),
        ({"is_update": True}, "as a download and not as an update"),
        ({"replaces": True}, "without the repair"),
        ({"to": "/disk"}, "to be stored in the models folder"),
    ],
)
def test_a_join_that_would_lose_an_option_is_refused(queue, wanted, said):
    queue.queue(a_plan(A))

    with pytest.raises(AlreadyQueuedError, match=said):
        queue.queue(a_plan(A, **wanted))


@pytest.mark.parametrize(("live", "wanted"), [(True, False), (False, True)])
def test_updates_that_differ_in_keeping_the_old_version_are_not_joined(queue, live, wanted):
    queue.queue(a_plan(A, is_update=True, keeps_old=live))

    with pytest.raises(AlreadyQueuedError, match="the old version"):
        queue.queue(a_plan(A, is_update=True, keeps_old=wanted))


def test_a_download_that_does_more_than_requested_can_be_joined(queue):
    queue.queue(a_plan(A, force=True, everywhere=True))

    assert not queue.queue(a_plan(A)).is_new


def test_a_download_is_registered_under_every_id_that_it_was_requested_by(queue):
    queue.queue(a_plan("owner/a@v1:Q4"))
    queue.queue(a_plan("owner/a:Q4"))
    queue.queue(a_plan("owner/a@v1:Q4"))

    queue.finish("owner/a@v1:Q4")

    [registration] = queue.of(do.RegisterModel)
    assert [str(id_) for id_ in (registration.plan.id, *registration.also)] == ["owner/a@v1:Q4", "owner/a:Q4"]


def test_a_join_during_registration_is_registered_before_the_download_is_complete(queue):
    queue.queue(a_plan("owner/a@v1:Q4", add_to_db=False, then="true"))
    queue.finish("owner/a@v1:Q4")

    queue.queue(a_plan("owner/a:Q4"))
    queue.registered("owner/a@v1:Q4")

    [registration] = queue.of(do.RegisterModel)
    assert (registration.plan.add_to_db, registration.plan.then, len(registration.also)) == (True, None, 1)
    assert queue.rows == ["owner/a@v1:Q4 registering 0"]
    queue.registered("owner/a@v1:Q4")
    assert queue.rows == []


def test_a_join_adds_registration_to_a_download_without_it(queue):
    queue.queue(a_plan(A, add_to_db=False))
    queue.queue(a_plan(A))

    queue.finish(A)

    assert queue.of(do.RegisterModel) != []
