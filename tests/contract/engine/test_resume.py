"""What a stop leaves of a file, and what the next attempt uses."""

from gglib_nb.domain.reports import TransferFinished, TransferStopped
from gglib_nb.engine.disk import journal_path, part_path
from gglib_nb.engine.journal import Journal
from gglib_nb.engine.local import leftovers
from tests.support.faulty_hub import Status
from tests.support.transfers import (
    NAME,
    REPO,
    SHARDS,
    SIZE,
    begin_slowly,
    digest_of,
    right_digest,
)


def test_a_resume_requests_only_missing_bytes_and_counts_no_speed_for_others(hub, engine) -> None:
    end, _ = engine.stop(begin_slowly(engine))
    assert isinstance(end, TransferStopped)
    state = Journal.read(journal_path(engine.target(REPO, NAME)))
    hub.set_speed()

    attempt = engine.begin(REPO, NAME)
    assert isinstance(engine.log.end_of(attempt), TransferFinished)

    last = engine.log.progress_of(attempt)[-1]
    assert last.received_bytes == SIZE - state.pieces.present_bytes
    assert last.files[0].downloaded_bytes == SIZE
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)


def test_a_partial_file_of_another_digest_is_not_continued(hub, engine) -> None:
    engine.stop(begin_slowly(engine))
    part_path(engine.target(REPO, NAME)).rename(part_path(engine.target(REPO, "other.gguf")))
    journal_path(engine.target(REPO, NAME)).rename(journal_path(engine.target(REPO, "other.gguf")))
    hub.set_speed()

    attempt = engine.begin(REPO, "other.gguf")
    assert isinstance(engine.log.end_of(attempt), TransferFinished)

    assert engine.log.progress_of(attempt)[-1].received_bytes == SIZE


def test_a_stop_before_the_first_byte_leaves_no_files(hub, engine) -> None:
    hub.faults.add(Status(503), origin="hub", times=None)
    attempt = engine.begin(REPO, "small.gguf")
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "retrying")

    end, _ = engine.stop(attempt)

    assert isinstance(end, TransferStopped)
    assert list(engine.target(REPO, "small.gguf").parent.iterdir()) == []


def test_a_stop_releases_the_space_allocated_for_missing_bytes(engine) -> None:
    engine.stop(begin_slowly(engine, downloaded_bytes=1_000_000))

    part = part_path(engine.target(REPO, NAME))
    state = Journal.read(journal_path(engine.target(REPO, NAME)))
    assert part.stat().st_size == max(end for _, end in state.pieces.present())


def test_bytes_of_an_earlier_run_count_before_a_shard_starts(hub, engine) -> None:
    engine.failure(REPO, SHARDS[2])  # alone it is not a model, and it is kept
    hub.faults.add(Status(503), path=SHARDS[0], origin="hub", times=None)

    attempt = engine.begin(REPO, *SHARDS)
    first = engine.log.wait_for_progress(attempt, lambda _: True)
    engine.stop(attempt)

    assert [one.downloaded_bytes for one in first.files] == [0, 0, 400_002]


def test_leftover_partial_files_are_listed_with_their_bytes(hub, engine) -> None:
    attempt = begin_slowly(engine)
    (running,) = leftovers(engine.folder)
    engine.stop(attempt)
    (left,) = leftovers(engine.folder)

    assert (running.is_in_use, left.is_in_use) == (True, False)
    assert left.target == str(engine.target(REPO, NAME))
    assert left.size_bytes == SIZE
    assert 4_000_000 <= left.downloaded_bytes < SIZE
    assert 0 < left.disk_bytes <= SIZE
    assert leftovers(engine.folder / "nothing") == []
