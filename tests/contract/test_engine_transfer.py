"""What an attempt does with files: resuming, joining, linking, replacing, sharing the line and the folder."""

import contextlib
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gglib_nb.demo import Cut, Status, WrongBytes
from gglib_nb.domain.download import PlannedFile, ShardStatus
from gglib_nb.engine.journal import Journal
from gglib_nb.engine.leftovers import leftovers
from gglib_nb.engine.place import journal_path, part_path
from gglib_nb.engine.protocol import DiscardPartials, TransferFinished, TransferStopped
from gglib_nb.errors import DiskFullError, IncompleteShardSetError, IntegrityError, StorageError, from_wire
from tests.support.engine import EngineProcess, LocalEngine, configured, planned
from tests.support.hub import make_repository, small_gguf

REPO = "demo/model"
NAME = "model.gguf"
SIZE = 40_000_000
SHARDS = [f"split/m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
PARTS = ["big.gguf.part1of3", "big.gguf.part2of3", "big.gguf.part3of3"]


@pytest.fixture
def hub(make_hub):
    joined = b"".join(small_gguf("big.gguf", 3_000_000).slices())
    return make_hub(
        [
            make_repository(
                REPO,
                {
                    NAME: SIZE,
                    "other.gguf": SIZE,
                    "small.gguf": 200_000,
                    **{name: 400_000 + number for number, name in enumerate(SHARDS)},
                    **dict(
                        zip(PARTS, (joined[:1_000_000], joined[1_000_000:2_500_000], joined[2_500_000:]), strict=True)
                    ),
                },
            )
        ]
    )


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def right_digest(hub, path: str) -> str:
    return hub.repositories[REPO].commit().files[path].content.sha256


def begin_slowly(engine, name: str = NAME, downloaded_bytes: int = 4_000_000, **options) -> int:
    engine.hub.set_speed(10_000_000)
    attempt = engine.begin(REPO, name, **options)
    engine.log.wait_for_progress(attempt, lambda one: one.files[0].downloaded_bytes >= downloaded_bytes)
    return attempt


def parts_of(hub, target: Path) -> tuple[PlannedFile, ...]:
    files, offset = [], 0
    for file in planned(hub, REPO, *PARTS, folder=target.parent):
        files.append(replace(file, target=str(target), offset_bytes=offset))
        offset += file.size_bytes
    return tuple(files)


# Names, facts and sets.


def test_a_finished_file_stands_alone_in_its_folder_with_its_facts(hub, engine) -> None:
    end = engine.fetch(REPO, "small.gguf")

    (stored,) = end.files
    path = engine.target(REPO, "small.gguf")
    assert stored.target == str(path)
    assert stored.sha256 == digest_of(path) == right_digest(hub, "small.gguf")
    assert stored.mtime_ns == path.stat().st_mtime_ns
    assert (stored.is_verified, stored.was_present) == (True, False)
    assert stored.facts["architecture"] == "llama"
    assert [one.name for one in path.parent.iterdir()] == ["small.gguf"]


def test_the_shards_of_a_set_come_in_one_attempt_over_kept_connections(hub, engine) -> None:
    end = engine.fetch(REPO, *SHARDS)

    assert [Path(one.target).name for one in end.files] == [Path(name).name for name in SHARDS]
    connections = {one.connection_id for one in hub.requests if one.origin == "cdn"}
    assert len([one for one in hub.requests if one.origin == "cdn"]) == 3
    assert len(connections) <= 3


def test_a_set_that_lacks_a_shard_by_its_own_headers_is_refused(engine) -> None:
    error = engine.failure(REPO, *SHARDS[:2])

    assert isinstance(error, IncompleteShardSetError)
    assert error.missing == (3,)


def test_byte_splits_are_joined_and_each_part_is_verified(hub, engine, tmp_path) -> None:
    target = tmp_path / "models" / "big.gguf"

    end = engine.fetch(REPO, files=parts_of(hub, target))

    (stored,) = end.files
    assert stored.sha256 == digest_of(target)
    assert stored.facts["architecture"] == "llama"
    assert (stored.size_bytes, stored.is_verified) == (3_000_000, True)
    assert [one.files[1].status for one in engine.log.progress_of(1)][-1] is ShardStatus.FINISHED


def test_only_the_wrong_part_of_a_byte_split_is_fetched_again(hub, engine, tmp_path) -> None:
    hub.faults.add(WrongBytes(at_byte=9), path=PARTS[1], origin="cdn")
    target = tmp_path / "models" / "big.gguf"

    engine.fetch(REPO, files=parts_of(hub, target))

    assert digest_of(target) == hashlib.sha256(b"".join(small_gguf("big.gguf", 3_000_000).slices())).hexdigest()
    assert [len(hub.ranges(name)) for name in PARTS] == [1, 2, 1]


# What is there already.


def test_a_file_the_catalog_knows_is_not_read_again(hub, engine) -> None:
    path = engine.target(REPO, "small.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 200_000)

    end = engine.fetch(REPO, "small.gguf", known_mtime_ns=path.stat().st_mtime_ns)

    assert end.files[0].was_present
    assert end.files[0].sha256 == right_digest(hub, "small.gguf")
    assert hub.requests == ()


def test_a_file_nobody_knows_is_verified_and_kept(hub, engine) -> None:
    engine.fetch(REPO, "small.gguf")
    before = len(hub.requests)

    end = engine.fetch(REPO, "small.gguf")

    assert (end.files[0].was_present, end.files[0].is_verified) == (True, True)
    assert len(hub.requests) == before


def test_another_file_at_the_target_is_refused_and_left_alone(engine) -> None:
    path = engine.target(REPO, "small.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")

    error = engine.failure(REPO, "small.gguf")

    assert isinstance(error, StorageError)
    assert "force" in str(error)
    assert path.read_bytes() == b"mine"


def test_force_replaces_another_file_only_after_the_new_one_is_verified(hub, engine) -> None:
    path = engine.target(REPO, "small.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    wrong = hub.faults.add(WrongBytes(), path="small.gguf", origin="cdn", times=None)

    error = engine.failure(REPO, "small.gguf", force=True)
    assert isinstance(error, IntegrityError)
    assert path.read_bytes() == b"mine"

    hub.faults.remove(wrong)
    engine.fetch(REPO, "small.gguf", force=True)
    assert digest_of(path) == right_digest(hub, "small.gguf")


def test_shards_that_were_finished_before_a_stop_are_not_hashed_again(hub, engine) -> None:
    hub.faults.add(Cut(after_bytes=0), path=SHARDS[2], origin="cdn", times=None)
    attempt = engine.begin(REPO, *SHARDS)
    engine.log.wait_for_progress(
        attempt, lambda one: [file.status for file in one.files[:2]] == [ShardStatus.FINISHED] * 2
    )
    engine.stop(attempt)
    hub.faults.clear()
    for name in SHARDS[:2]:
        path = engine.target(REPO, name)
        stat = path.stat()
        with path.open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"x" * 10)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    end = engine.log.end_of(engine.begin(REPO, *SHARDS))

    # They were not read, or their last bytes would have been found wrong.
    assert isinstance(end, TransferFinished)
    assert [one.was_present for one in end.files] == [True, True, False]


def test_an_identical_blob_of_the_hugging_face_cache_is_linked(hub, tmp_path) -> None:
    cache = tmp_path / "hub"
    shared = cache / "blobs" / "ab" / "xet"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    blob = cache / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.symlink_to(shared)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(cache),))

    end = engine.fetch(REPO, "small.gguf")

    path = engine.target(REPO, "small.gguf")
    assert path.samefile(shared)
    assert end.files[0].is_verified
    assert hub.requests == ()
    assert "linked" in engine.log.notices_of(1)
    engine.close()


def test_a_blob_with_the_right_name_and_wrong_bytes_is_not_linked(hub, tmp_path) -> None:
    blob = tmp_path / "hub" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 200_000)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "hub"),))

    engine.fetch(REPO, "small.gguf")

    assert not engine.target(REPO, "small.gguf").samefile(blob)
    engine.close()


def test_an_identical_file_elsewhere_in_the_models_folder_is_linked_unless_forced(hub, tmp_path) -> None:
    models = tmp_path / "models"
    twin = models / "someone" / "copy" / "small.gguf"
    twin.parent.mkdir(parents=True)
    twin.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    engine = LocalEngine(hub, models, link_folders=(str(models),))

    engine.fetch(REPO, "small.gguf")
    assert engine.target(REPO, "small.gguf").samefile(twin)

    engine.fetch(REPO, "small.gguf", force=True)
    assert not engine.target(REPO, "small.gguf").samefile(twin)
    engine.close()


# Stopping and resuming.


def test_a_resume_asks_for_nothing_that_is_there_and_counts_it_as_no_speed(hub, engine) -> None:
    end, _ = engine.stop(begin_slowly(engine))
    assert isinstance(end, TransferStopped)
    state = Journal.read(journal_path(engine.target(REPO, NAME)))
    hub.set_speed()

    attempt = engine.begin(REPO, NAME)
    assert isinstance(engine.log.end_of(attempt), TransferFinished)

    last = engine.log.progress_of(attempt)[-1]
    assert last.received_bytes == SIZE - state.done.total_bytes
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


@pytest.mark.parametrize("damage", ["no journal", "torn journal", "shorter file", "no file"])
def test_what_is_left_of_a_partial_file_is_believed_only_with_its_journal(hub, engine, damage) -> None:
    engine.stop(begin_slowly(engine))
    target = engine.target(REPO, NAME)
    match damage:
        case "no journal":
            journal_path(target).unlink()
        case "torn journal":
            journal_path(target).write_bytes(journal_path(target).read_bytes()[:200])
        case "shorter file":
            os.truncate(part_path(target), 1_000)
        case "no file":
            part_path(target).unlink()
    hub.set_speed()

    engine.fetch(REPO, NAME)

    assert digest_of(target) == right_digest(hub, NAME)


def test_bytes_that_rot_in_a_partial_file_are_found_and_fetched_again(hub, engine) -> None:
    engine.stop(begin_slowly(engine))
    with part_path(engine.target(REPO, NAME)).open("r+b") as file:
        file.write(b"rotten")
    hub.set_speed()

    engine.fetch(REPO, NAME)

    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)


def test_a_stop_before_the_first_byte_leaves_no_trace_that_matters(hub, engine) -> None:
    hub.faults.add(Status(503), origin="hub", times=None)
    attempt = engine.begin(REPO, "small.gguf")
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "retrying")

    end, took_s = engine.stop(attempt)

    assert isinstance(end, TransferStopped)
    assert took_s < 1
    assert list(engine.target(REPO, "small.gguf").parent.iterdir()) == []


def test_the_room_of_what_never_came_is_given_back_at_a_stop(engine) -> None:
    engine.stop(begin_slowly(engine, downloaded_bytes=1_000_000))

    part = part_path(engine.target(REPO, NAME))
    state = Journal.read(journal_path(engine.target(REPO, NAME)))
    assert part.stat().st_size == state.done.last_end


# Several at once.


def test_two_attempts_run_side_by_side_within_the_bound_of_connections(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path / "models", max_connections=6)
    first = begin_slowly(engine, downloaded_bytes=1_000_000)
    second = engine.begin(REPO, "other.gguf")
    engine.log.wait_for_progress(second, lambda one: one.files[0].downloaded_bytes >= 1_000_000)

    def open_requests() -> int:
        return sum(one.ended_s is None for one in hub.requests if one.origin == "cdn")

    assert open_requests() <= 6
    hub.set_speed()
    assert isinstance(engine.log.end_of(first), TransferFinished)
    assert isinstance(engine.log.end_of(second), TransferFinished)
    engine.close()


def test_stopping_one_attempt_leaves_the_other_alone(hub, engine) -> None:
    first = begin_slowly(engine, downloaded_bytes=1_000_000)
    second = engine.begin(REPO, "other.gguf")
    engine.log.wait_for_progress(second, lambda one: one.files[0].downloaded_bytes >= 500_000)

    engine.stop(first)
    hub.set_speed()

    assert isinstance(engine.log.end_of(second), TransferFinished)


@pytest.mark.slow
def test_a_bandwidth_limit_holds_for_all_attempts_together_and_can_be_changed(hub, engine) -> None:
    limit = 4_000_000
    engine.send(configured(hub, bandwidth_limit_bytes_per_second=limit))
    attempts = [engine.begin(REPO, NAME), engine.begin(REPO, "other.gguf")]

    def received(after: int) -> tuple[float, int]:
        """The time and the bytes of both once each has reported so often."""
        reports = [engine.log.progress_of(attempt)[after] for attempt in attempts]
        return max(one.sampled_s for one in reports), sum(one.received_bytes for one in reports)

    engine.log.wait_for(lambda _: all(len(engine.log.progress_of(one)) > 40 for one in attempts))
    (began_s, began), (ended_s, ended) = received(10), received(40)
    assert (ended - began) / (ended_s - began_s) == pytest.approx(limit, rel=0.12)

    engine.send(configured(hub))
    for attempt in attempts:
        assert isinstance(engine.log.end_of(attempt), TransferFinished)


# Other processes.


@pytest.mark.slow
def test_a_second_process_waits_shows_the_firsts_progress_and_takes_its_file(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    begin_slowly(first)

    attempt = engine.begin(REPO, NAME)
    waiting = engine.log.wait_for_progress(
        attempt, lambda one: one.notice_kind == "waiting" and one.files[0].downloaded_bytes > 0
    )
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert waiting.received_bytes == 0
    assert isinstance(end, TransferFinished)
    assert end.files[0].was_present
    first.close()


@pytest.mark.slow
def test_a_second_process_takes_over_when_the_first_dies(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    begin_slowly(first, downloaded_bytes=20_000_000)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")

    os.kill(first.client.pid, signal.SIGKILL)
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert engine.log.progress_of(attempt)[-1].received_bytes < SIZE - 10_000_000
    first.close()


@pytest.mark.slow
def test_an_engine_that_was_stopped_and_goes_on_writes_nothing_into_a_file_it_lost(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    lost = begin_slowly(first)
    process = psutil.Process(first.client.pid)
    process.suspend()
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 0)

    process.resume()
    first.log.wait_for_progress(lost, lambda one: one.notice_kind == "waiting")
    hub.set_speed()

    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    assert isinstance(first.log.end_of(lost), TransferFinished)
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)
    first.close()


def test_partial_files_that_another_process_writes_are_not_deleted(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    attempt = begin_slowly(first)

    engine.send(DiscardPartials((str(engine.target(REPO, NAME)),)))
    hub.set_speed()

    assert isinstance(first.log.end_of(attempt), TransferFinished)
    first.close()


# The disk.


def test_too_little_room_is_told_before_the_first_byte(hub, engine) -> None:
    error = engine.failure(REPO, "small.gguf", size_bytes=10**16)

    assert isinstance(error, DiskFullError)
    assert error.needed_bytes == 10**16
    assert error.free_bytes is not None
    assert hub.ranges("small.gguf") == []


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(hub, engine) -> None:
    engine.folder.mkdir()
    (engine.folder / "demo").write_text("a file where a folder should be")

    error = engine.failure(REPO, "small.gguf")

    assert isinstance(error, StorageError)
    assert "models/demo" in str(error)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A filesystem of 64 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a filesystem can be mounted by root only: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_meanwhile_keeps_what_is_there_and_says_what_is_missing(
    hub, small_disk, monkeypatch
) -> None:
    monkeypatch.setattr("gglib_nb.engine.place._fallocate", lambda: None)
    engine = LocalEngine(hub, small_disk)
    attempt = begin_slowly(engine)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(100_000))

    end = engine.log.end_of(attempt)
    error = from_wire(end.error)
    assert isinstance(error, DiskFullError)
    assert 0 < error.needed_bytes <= SIZE - 4_000_000
    assert not end.can_retry

    (small_disk / "filler").unlink()
    hub.set_speed()
    engine.fetch(REPO, NAME)
    assert engine.log.progress_of(2)[-1].received_bytes <= SIZE - 4_000_000
    engine.close()


def test_a_second_attempt_counts_the_room_that_the_first_will_take(hub, small_disk, monkeypatch) -> None:
    monkeypatch.setattr("gglib_nb.engine.place._fallocate", lambda: None)
    engine = LocalEngine(hub, small_disk)
    begin_slowly(engine)

    error = engine.failure(REPO, "other.gguf")

    assert isinstance(error, DiskFullError)
    engine.close()


def test_files_that_are_there_need_no_more_room(hub, small_disk) -> None:
    engine = LocalEngine(hub, small_disk)
    engine.fetch(REPO, NAME)

    end = engine.fetch(REPO, "small.gguf", NAME)

    assert [one.was_present for one in end.files] == [False, True]
    engine.close()


def test_bytes_of_an_earlier_run_count_before_it_is_a_shards_turn(hub, engine) -> None:
    engine.failure(REPO, SHARDS[2])  # alone it is no model, and stays all the same
    hub.faults.add(Status(503), path=SHARDS[0], origin="hub", times=None)

    attempt = engine.begin(REPO, *SHARDS)
    first = engine.log.wait_for_progress(attempt, lambda _: True)
    engine.stop(attempt)

    assert [one.downloaded_bytes for one in first.files] == [0, 0, 400_002]


def test_a_stop_while_another_process_has_the_file_leaves_that_alone(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    theirs = begin_slowly(first)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")

    end, took_s = engine.stop(attempt)
    hub.set_speed()

    assert isinstance(end, TransferStopped)
    assert took_s < 1
    assert isinstance(first.log.end_of(theirs), TransferFinished)
    first.close()


def test_partial_files_that_lie_about_are_listed_with_what_they_hold(hub, engine) -> None:
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
