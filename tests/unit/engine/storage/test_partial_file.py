"""Bytes that come in any order, pieces, losses and repetitions make the same file and the same digest."""

import errno
import hashlib
import random
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gglib_nb.engine.storage.filesystem import storage_error
from gglib_nb.engine.storage.journal import Journal, PartIdentity
from gglib_nb.engine.storage.lease import Lease, LeaseLostError
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.engine.storage.paths import journal_path, lease_path, part_path
from gglib_nb.engine.transfer.range_request import RangeRequest, Source
from gglib_nb.engine.transfer.range_selection import next_range
from gglib_nb.errors import DiskFullError, StorageError
from gglib_nb.system import allocate

SIZE = 6_000
DATA = random.Random(1).randbytes(SIZE)
SOURCE = Source("http://cdn/x", SIZE, is_whole=False)


class Folder:
    """One partial file that is opened, written by requests, closed and opened again."""

    def __init__(self, folder: Path, ends: tuple[int, ...] = (SIZE,)) -> None:
        self.target = folder / "model.gguf"
        starts = (0, *ends[:-1])
        self.parts = tuple(
            PartIdentity(f"part{index}", start, end - start, "a" * 64)
            for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        )
        self.lease = Lease(lease_path(self.target), 60)
        self.lease.try_acquire()
        self.hashed = threading.Event()
        self.open()

    def open(self) -> None:
        self.hashed.clear()
        self.partial = PartialFile(self.target, self.parts, SIZE, self.lease, self.hashed.set)

    def reopen(self) -> None:
        self.partial.record()
        self.partial.close(is_ours=True)
        self.open()

    def request(self, start: int, end: int) -> RangeRequest:
        return RangeRequest(SOURCE, self.partial, 0, start, end)

    def take_back(self, request: RangeRequest) -> None:
        request.revoke()
        self.partial.done.add(request.start, request.position)
        self.partial.hasher.allow(self.partial.done.reach(self.partial.hasher.digest.front))

    def wait_for_digest(self) -> None:
        while not self.partial.hasher.digest.is_complete:
            assert self.hashed.wait(5)
            self.hashed.clear()

    def close(self) -> None:
        self.partial.close(is_ours=True)
        self.lease.release()


def feed(request: RangeRequest, length: int) -> None:
    """What a connection does: put the next bytes of the file."""
    request.write(memoryview(DATA[request.position : request.position + length]))


class Play:
    """What can happen to a download, one step at a time; `number` says which range and how much."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.running: list[RangeRequest] = []

    def give(self, number: int) -> None:
        taken = [(request.start, request.end) for request in self.running]
        found = next_range(self.folder.partial.done, taken, 0, SIZE, 1 + number % 2_000)
        self.running += [] if found is None else [self.folder.request(*found)]

    def feed(self, number: int) -> None:
        for request in self.running[number % 3 :][:1]:
            feed(request, 1 + number % 1_000)

    def lose(self, number: int) -> None:
        for request in self.running[number % 3 :][:1]:
            self.running.remove(request)
            self.folder.take_back(request)

    def cut(self, number: int) -> None:
        for request in self.running[number % 3 :][:1]:
            request.cut(request.position + number % (request.end - request.position + 1))

    def repeat(self, number: int) -> None:
        request = self.folder.request(number % SIZE, SIZE)
        feed(request, 1 + number % 500)
        self.folder.take_back(request)

    def restart(self, _number: int) -> None:
        while self.running:
            self.lose(0)
        self.folder.reopen()

    def finish(self) -> None:
        self.restart(0)
        while (found := next_range(self.folder.partial.done, [], 0, SIZE, 1_700)) is not None:
            request = self.folder.request(*found)
            feed(request, SIZE)
            self.folder.take_back(request)
        self.folder.wait_for_digest()


STEPS = st.sampled_from([Play.give, Play.feed, Play.feed, Play.lose, Play.cut, Play.repeat, Play.restart])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(STEPS, st.integers(0, 10**6)), max_size=40), st.sets(st.integers(1, SIZE - 1), max_size=2))
def test_any_partition_order_loss_and_repetition_gives_the_same_bytes_and_digest(steps, cuts) -> None:
    ends = (*sorted(cuts), SIZE)
    with tempfile.TemporaryDirectory() as name:
        play = Play(Folder(Path(name), ends))

        for step, number in steps:
            step(play, number)
        play.finish()

        digest = play.folder.partial.hasher.digest
        play.folder.close()
        assert part_path(play.folder.target).read_bytes() == DATA
        assert digest.whole == hashlib.sha256(DATA).hexdigest()
        parts = zip((0, *ends[:-1]), ends, strict=True)
        assert digest.digests == [hashlib.sha256(DATA[start:end]).hexdigest() for start, end in parts]


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    folder.close()


def test_a_revoked_job_writes_nothing_more(folder) -> None:
    request = folder.request(0, SIZE)
    feed(request, 100)

    request.revoke()
    feed(request, 100)

    assert request.position == 100
    assert part_path(folder.target).read_bytes()[100:200] == b"\0" * 100


def test_a_request_writes_nothing_beyond_an_end_that_was_pulled_in(folder) -> None:
    request = folder.request(0, 1_000)
    feed(request, 100)

    assert request.cut(150)
    feed(request, 900)

    assert (request.position, request.is_over) == (150, True)
    assert part_path(folder.target).read_bytes()[150:1_000] == b"\0" * 850


def test_an_end_cannot_be_pulled_behind_what_is_written(folder) -> None:
    request = folder.request(0, 1_000)
    feed(request, 500)

    assert not request.cut(400)


def test_nothing_is_written_when_the_lease_was_not_renewed_in_time(tmp_path) -> None:
    folder = Folder(tmp_path)
    folder.lease._renewed_s -= 100

    with pytest.raises(LeaseLostError):
        feed(folder.request(0, SIZE), 100)
    folder.close()


def test_its_whole_length_is_allocated_from_the_beginning(folder) -> None:
    assert part_path(folder.target).stat().st_size == SIZE


def test_a_filesystem_without_allocation_gets_its_length_all_the_same(tmp_path, monkeypatch) -> None:
    import ctypes

    from gglib_nb import system

    def refuses(*_: int) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(system, "_fallocate", lambda: refuses)
    with (tmp_path / "file").open("wb") as file:
        allocate(file.fileno(), 12_345)

    assert (tmp_path / "file").stat().st_size == 12_345


def test_a_full_disk_is_told_apart_from_other_trouble(tmp_path) -> None:
    full = storage_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "model.gguf")
    other = storage_error(OSError(errno.EACCES, "Permission denied"), tmp_path / "model.gguf")

    assert isinstance(full, DiskFullError)
    assert full.free_bytes > 0
    assert isinstance(other, StorageError)
    assert "Permission denied" in str(other)


def test_bytes_found_wrong_while_a_sync_was_under_way_are_not_written_down_as_synced(folder) -> None:
    request = folder.request(0, SIZE)
    feed(request, SIZE)
    folder.take_back(request)
    ranges, sync = folder.partial.done.copy(), folder.partial.syncer()
    folder.wait_for_digest()

    folder.partial.forget(0, SIZE)
    sync()
    folder.partial.record_synced(ranges)

    assert list(folder.partial.synced) == []


def test_what_was_synced_is_written_down_as_such(folder) -> None:
    request = folder.request(0, 1_000)
    feed(request, 1_000)
    folder.take_back(request)
    ranges, sync = folder.partial.done.copy(), folder.partial.syncer()

    sync()
    folder.partial.record_synced(ranges)

    state = Journal.read(journal_path(folder.target))
    assert list(state.synced) == [(0, 1_000)]
