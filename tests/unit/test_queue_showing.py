"""What the queue shows: rows, rates, notices, events, and that unchanged rows are the same objects.

It is long because a row has many fields.
"""

from dataclasses import replace

import pytest

from gglib_nb.domain import reports
from gglib_nb.domain import snapshot as announcements
from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import remembered
from gglib_nb.manager.progress import parts_of
from gglib_nb.queue.downloads import Downloads
from gglib_nb.queue.entry import Entry
from gglib_nb.queue.notices import notice_of, reused
from tests.support.plans import a_file, a_plan, an_mmproj, shards, stored
from tests.support.queue_driver import QueueDriver

A, B, C = "owner/a:Q4_K_M", "owner/b:Q8_0", "owner/c:Q6_K"


@pytest.fixture
def queue():
    """A, of two shards and an mmproj, runs; B waits."""
    queue = QueueDriver()
    queue.queue(a_plan(A, *shards("a", 2), an_mmproj(), companions=("mmproj",), reason="It is the usual choice."))
    queue.queue(a_plan(B))
    return queue


def flow(queue, text, *, rate, seconds, start_s=0.0):
    """Samples twice a second while `rate` bytes per second arrive."""
    for half in range(2 * seconds + 1):
        queue.progress(text, received=rate * half // 2, at_s=start_s + half / 2)


# Rows


def test_a_row_has_a_bar_for_every_shard_and_companion(queue):
    queue.progress(A, 100, 40, 10)

    row = queue.item(A)
    assert [(bar.number, bar.path_in_repo, bar.downloaded_bytes) for bar in row.shards] == [
        (1, "a-00001-of-00002.gguf", 100),
        (2, "a-00002-of-00002.gguf", 40),
    ]
    assert [(bar.kind, bar.downloaded_bytes, bar.size_bytes) for bar in row.companions] == [("mmproj", 10, 30)]
    assert (row.shard_count, row.downloaded_bytes, row.total_bytes) == (2, 150, 230)


@pytest.mark.parametrize("end", ["pause", "cancel", "fail"])
def test_no_shard_of_a_download_at_rest_is_downloading(queue, end):
    queue.progress(A, 100, 40, 10)

    getattr(queue, end)(A)

    row = next(
        one
        for one in (*queue.snapshot.items, *queue.snapshot.recent_cancelled, *queue.snapshot.recent_failures)
        if str(one.id) == A
    )
    assert {bar.status for bar in (*row.shards, *row.companions)} <= {ShardStatus.QUEUED, ShardStatus.FINISHED}
    assert row.downloaded_bytes == 150


def test_a_row_shows_variant_commit_and_reason(queue):
    row = queue.item(A)

    assert (row.error, row.can_retry) == (None, False)
    assert (row.label, row.commit_sha, row.reason) == ("Q4_K_M", "c" * 40, "It is the usual choice.")
    assert (row.group_id, row.display_name) == (A, "a")


def test_a_row_has_the_times_of_request_first_start_and_end(queue):
    queue.now_s = 1050.0
    queue.complete(A)
    queue.now_s = 1060.0
    queue.fail(B)
    queue.now_s = 1070.0
    queue.retry(B)
    queue.now_s = 1080.0
    queue.complete(B)

    row = queue.snapshot.recent_completed[0]
    assert (row.queued_at_s, row.started_at_s, row.ended_at_s) == (1070.0, 1050.0, 1080.0)


def test_a_pause_of_twelve_hours_is_not_counted_as_time_of_the_download():
    queue = QueueDriver()
    queue.now_s = 1000.0
    queue.queue(a_plan(A))
    queue.now_s = 1003.0
    queue.pause(A)
    queue.stopped(A)
    queue.now_s += 12 * 3600
    queue.resume(A)
    queue.now_s += 2.0
    queue.complete(A)

    row = queue.snapshot.recent_completed[0]
    assert (row.ran_s, row.took_s) == (5.0, 5.0)
    assert parts_of(row)[-1] == "in 5 s"
    assert remembered(row).took_s == 5.0


def test_the_time_of_a_download_survives_its_kernel():
    queue = QueueDriver()
    queue.queue(a_plan(A))
    queue.now_s += 3.0
    queue.pause(A)
    (kept,) = queue.machine.stored().downloads

    restored = QueueDriver()
    restored.now_s = queue.now_s + 12 * 3600
    restored.restore(kept)
    restored.resume(A)
    restored.now_s += 2.0
    restored.complete(A)

    assert restored.snapshot.recent_completed[0].took_s == 5.0


def test_a_start_time_of_0_counts_as_started(queue):
    queue = QueueDriver()
    queue.now_s = 0.0
    queue.queue(a_plan(A))
    queue.now_s = 5.0
    queue.lose_engine()

    assert queue.item(A).started_at_s == 0.0


def test_only_a_completed_row_has_paths_in_shard_order(queue):
    assert queue.item(A).paths == ()

    queue.complete(A)

    row = queue.snapshot.recent_completed[0]
    assert row.paths == ("/models/a-00001-of-00002.gguf", "/models/a-00002-of-00002.gguf")


def test_joined_parts_are_one_path():
    queue = QueueDriver()
    parts = (
        a_file("b.gguf.part1of2", target="/models/b.gguf"),
        a_file("b.gguf.part2of2", target="/models/b.gguf", offset_bytes=100),
    )
    queue.queue(a_plan(B, *parts))
    queue.complete(B)

    assert queue.snapshot.recent_completed[0].paths == ("/models/b.gguf",)


def test_an_unknown_size_is_none_and_never_0(queue):
    queue.queue(a_plan(C, a_file("c.gguf", size_bytes=None)))

    row = queue.item(C)
    assert (row.total_bytes, row.progress) == (None, None)


def test_a_file_of_unknown_size_has_the_size_of_its_downloaded_bytes():
    queue = QueueDriver()
    queue.queue(a_plan(C, a_file("c.gguf", size_bytes=None)))
    queue.progress(C, 70)

    queue.send(reports.TransferFinished(1, (replace(stored(a_plan(C, a_file("c.gguf")))[0], size_bytes=77),)))

    assert queue.item(C).downloaded_bytes == 77


def test_the_limit_and_the_counts_refer_to_whole_downloads(queue):
    queue.queue(a_plan(C, *shards("c", 12)))

    snapshot = queue.snapshot
    assert (snapshot.active_count, snapshot.pending_count, snapshot.max_size) == (1, 2, 10)


def test_a_download_is_found_by_id_live_or_ended(queue):
    queue.complete(A)

    machine = queue.machine
    assert machine.find(DownloadId.parse(A)) is None
    assert machine.find_ended(DownloadId.parse(A)).status == "completed"
    assert machine.find(DownloadId.parse(B)).position == 0
    assert machine.find_ended(DownloadId.parse(B)) is None


def test_the_newest_200_ended_downloads_and_every_failure_are_kept():
    downloads = Downloads()
    failed = Entry(a_plan("owner/bad:Q4"), queued_at_s=0.0, status=DownloadStatus.FAILED)
    completed = [Entry(a_plan(), queued_at_s=number, status=DownloadStatus.COMPLETED) for number in range(202)]

    for number, entry in enumerate((failed, *completed)):
        entry.change(ended_at_s=float(number))
        downloads.add_ended(entry)

    assert downloads.ended == [failed, *completed[2:]]


def test_all_that_cancel_all_cancelled_can_be_put_back():
    queue = QueueDriver(max_size=500)
    names = [f"owner/m{number}:Q4" for number in range(400)]
    for name in names:
        queue.queue(a_plan(name), starts=False)

    for _ in range(2):  # the first time the list is empty, the second time it is not
        queue.cancel_all()
        queue.now_s += 1.0
        assert len(queue.put_back(*names)) == 400
        queue.queue(a_plan(A), starts=False)
        queue.cancel(A)


# Rates


def test_a_rate_is_unknown_for_the_first_second_and_a_half(queue):
    flow(queue, A, rate=10, seconds=1)
    assert queue.item(A).bytes_per_second is None

    flow(queue, A, rate=10, seconds=2)
    assert queue.item(A).bytes_per_second == pytest.approx(10.0)


def test_a_download_has_an_eta(queue):
    flow(queue, A, rate=10, seconds=5)

    assert queue.item(A).eta_seconds == pytest.approx(23.0, abs=0.5)


def test_the_total_rate_is_that_of_all_active_downloads():
    queue = QueueDriver(max_concurrent=2)
    queue.queue(a_plan(A))
    queue.queue(a_plan(B))
    assert queue.snapshot.bytes_per_second is None

    flow(queue, A, rate=10, seconds=2)
    flow(queue, B, rate=30, seconds=2)

    assert queue.snapshot.bytes_per_second == pytest.approx(40.0)


def test_the_total_eta_includes_waiting_but_not_paused_downloads(queue):
    queue.queue(a_plan(C))
    queue.pause(C)

    flow(queue, A, rate=10, seconds=2)

    assert queue.snapshot.eta_seconds == pytest.approx((230 + 100) / 10)


def test_the_total_eta_is_unknown_if_a_size_is(queue):
    queue.queue(a_plan(C, a_file("c.gguf", size_bytes=None)))

    flow(queue, A, rate=10, seconds=2)

    assert queue.snapshot.eta_seconds is None


def test_while_stalled_the_rate_is_0_and_there_is_no_eta(queue):
    flow(queue, A, rate=10, seconds=2)

    queue.progress(A, received=20, at_s=3.0, notice=("stalled", 1.0, ""))

    row = queue.item(A)
    assert (row.bytes_per_second, row.eta_seconds) == (0.0, None)
    assert queue.snapshot.eta_seconds is None


@pytest.mark.parametrize("kind", ["waiting", "verifying", "comparing", "copying"])
def test_while_nothing_is_requested_there_is_no_rate_and_that_time_does_not_count(queue, kind):
    for second in range(60):
        queue.progress(A, second, at_s=float(second), notice=(kind, None, ""))
    assert queue.item(A).bytes_per_second is None

    for second in range(60, 70):
        queue.progress(A, 50, received=10 * (second - 60), at_s=float(second))

    assert queue.item(A).bytes_per_second == pytest.approx(10, rel=0.2)


def test_while_finalizing_there_is_no_rate(queue):
    flow(queue, A, rate=10, seconds=2)

    queue.progress(A, 100, 100, 30, received=21, at_s=3.0, is_finalizing=True)

    row = queue.item(A)
    assert (row.status, row.bytes_per_second, row.eta_seconds) == ("finalizing", None, None)


def test_an_attempt_starts_with_an_unknown_rate(queue):
    flow(queue, A, rate=10, seconds=2)

    queue.lose_engine()

    assert queue.item(A).bytes_per_second is None


# Notices


@pytest.mark.parametrize(
    ("kind", "seconds", "text", "notice"),
    [
        (None, None, "", None),
        ("connecting", None, "", ("connecting", "connecting")),
        ("stalled", None, "", ("stalled", "stalled")),
        ("stalled", 24.6, "", ("stalled", "stalled for 25 s")),
        ("retrying", 0.2, "", ("retrying", "retrying in 1 s")),
        ("retrying", 30.0, "429", ("retrying", "retrying in 30 s (429)")),
        ("retrying", None, "connection reset", ("retrying", "retrying in a moment (connection reset)")),
        ("verifying", None, "", ("verifying", "verifying")),
        ("finalizing", None, "", ("finalizing", "finalizing")),
        ("waiting", None, "", ("waiting", "another process is downloading this file")),
        ("comparing", None, "", ("comparing", "comparing with files on this disk")),
        ("copying", None, "", ("copying", "copying from files on this disk")),
        ("linked", None, "linked to the Hugging Face cache", ("linked", "linked to the Hugging Face cache")),
        ("of tomorrow", None, "something new", ("of tomorrow", "something new")),
        ("of tomorrow", None, "", ("of tomorrow", "of tomorrow")),
    ],
)
def test_a_notice_is_one_line_of_text(kind, seconds, text, notice):
    assert notice_of(kind, seconds, text) == notice


def test_events_report_when_a_notice_appears_and_disappears(queue):
    queue.progress(A, notice=("stalled", 3.0, ""))
    assert queue.announced(announcements.NoticeChanged) == [
        announcements.NoticeChanged(DownloadId.parse(A), "stalled for 3 s")
    ]

    queue.progress(A)
    assert queue.announced(announcements.NoticeChanged) == [announcements.NoticeChanged(DownloadId.parse(A), None)]


def test_a_download_of_an_existing_file_is_marked(queue):
    queue.finish(A, was_present=True)
    queue.registered(A)

    row = queue.snapshot.recent_completed[0]
    assert (row.notice_kind, row.was_present, row.is_verified) == ("already_present", True, True)


def test_a_download_without_a_digest_is_marked_unverified(queue):
    queue.finish(A, is_verified=False)
    queue.registered(A)

    row = queue.snapshot.recent_completed[0]
    assert (row.notice_kind, row.is_verified) == ("unverified", False)


@pytest.mark.parametrize(
    ("reused_bytes", "total_bytes", "names", "says"),
    [
        (13_200_000_000, 17_040_000_000, ("Q4_K_M",), "13.2 GB of 17.0 GB taken from Q4_K_M on this disk"),
        (
            900_000_000,
            17_040_000_000,
            ("Q4_K_M", "Q8_0"),
            "900.0 MB of 17.0 GB taken from Q4_K_M and Q8_0 on this disk",
        ),
        (5, 100, ("a", "b", "c"), "5 B of 100 B taken from a, b and c on this disk"),
        (5, None, ("a", "b", "c", "d"), "5 B taken from 4 files on this disk"),
        (100, 100, (), "100 B taken from files on this disk"),
    ],
)
def test_bytes_copied_from_disk_are_shown_with_their_source(reused_bytes, total_bytes, names, says):
    assert reused(reused_bytes, total_bytes, names) == ("reused", says)


def test_a_row_shows_copied_bytes_until_another_notice_replaces_them(queue):
    queue.progress(A, 60, received=2, reused=(58, ("Q8_0",)))
    row = queue.item(A)
    queue.progress(A, 60, received=2, reused=(58, ("Q8_0",)), notice=("stalled", None, ""))

    assert (row.reused_bytes, row.reused_from) == (58, ("Q8_0",))
    assert (row.notice_kind, row.notice) == ("reused", "58 B of 230 B taken from Q8_0 on this disk")
    assert queue.item(A).notice == "stalled"


def test_a_completed_row_shows_the_bytes_copied_from_disk(queue):
    queue.finish(A, reused=(58, ("Q8_0",)))
    queue.registered(A)

    row = queue.snapshot.recent_completed[0]
    assert (row.notice, row.reused_bytes) == ("174 B of 230 B taken from Q8_0 on this disk", 174)


def test_copied_bytes_do_not_count_as_speed(queue):
    for second in range(4):
        queue.progress(A, 20 * second, received=0, at_s=float(second), reused=(20 * second, ("Q8_0",)))

    assert queue.item(A).bytes_per_second == 0


def test_a_verified_download_has_no_notice(queue):
    queue.complete(A)

    row = queue.snapshot.recent_completed[0]
    assert (row.notice, row.was_present, row.is_verified) == (None, False, True)


# Events


def test_the_events_of_a_download_are_in_order():
    queue = QueueDriver()
    heard = []
    for step in (
        lambda: queue.queue(a_plan(A)),
        lambda: queue.progress(A, 100, received=100, is_finalizing=True),
        lambda: queue.finish(A),
        lambda: queue.registered(A),
    ):
        step()
        heard += [type(event).__name__ for event in queue.announced(object)]

    assert heard == [
        "StatusChanged",
        "DownloadStarted",
        "StatusChanged",
        "StatusChanged",
        "ShardProgressed",
        "NoticeChanged",
        "DownloadProgressed",
        "StatusChanged",
        "StatusChanged",
        "DownloadCompleted",
        "RunSummarized",
    ]


def test_only_changed_files_are_in_an_event(queue):
    queue.progress(A, 10)
    queue.progress(A, 10, 20)

    assert [
        (event.shard.number, event.shard.downloaded_bytes) for event in queue.announced(announcements.ShardProgressed)
    ] == [(2, 20)]


def test_a_sample_without_changes_emits_no_event(queue):
    queue.progress(A, at_s=1.0, notice=("stalled", 3.0, ""))
    before = queue.item(A)

    queue.progress(A, at_s=1.1, notice=("stalled", 3.1, ""))

    assert queue.effects == []
    assert queue.item(A) is before


def test_an_unchanged_row_is_the_same_object(queue):
    queue.fail(A)
    queue.queue(a_plan(A, *shards("a", 2)))
    before = queue.snapshot

    queue.progress(B, 10)

    after = queue.snapshot
    assert after.items[1] is before.items[1]
    assert after.items[0] is not before.items[0]


def test_a_row_with_a_new_position_is_a_new_object(queue):
    queue.queue(a_plan(C))
    before = queue.item(C)

    queue.move(C, 1)

    assert queue.item(C) == replace(before, position=1)


def test_the_version_grows_with_every_accepted_event(queue):
    before = queue.machine.version

    queue.pause(B)
    queue.resume(B)

    assert queue.machine.version == queue.snapshot.version == before + 2


def test_a_file_shows_its_status(queue):
    queue.finish(A)

    assert {bar.status for bar in queue.item(A).shards} == {ShardStatus.FINISHED}


def test_a_download_during_registration_is_marked(queue):
    queue.finish(A)

    assert (queue.item(A).notice_kind, queue.item(A).notice) == ("registering", "registering")


def test_a_completed_row_has_the_mean_rate_of_its_last_attempt(queue):
    queue.now_s += 4
    queue.progress(A, 1000, received=1000)
    queue.finish(A)
    queue.registered(A)

    [row] = queue.snapshot.recent_completed
    assert row.bytes_per_second == 250.0
