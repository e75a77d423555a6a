"""The partial file: what is written where, and that no two processes ever write the same one."""

import errno
import hashlib
import os
import queue
import random
import threading
from pathlib import Path

import msgspec
import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine import partial as partial_module
from gglib_nb.engine.disk import DiskSpace, journal_path, lease_path, part_path, storage_error
from gglib_nb.engine.file import DownloadFile, Part, Request
from gglib_nb.engine.journal import Journal, PartIdentity
from gglib_nb.engine.lease import Lease, LeaseLostError, LeaseState, delete_unowned
from gglib_nb.engine.partial import PartialFile, StoppedError, sync
from gglib_nb.engine.pieces import SYNCED, WRITTEN
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import DiskFullError, StorageError
from gglib_nb.system import allocate, process_place

SIZE = 6_000
DATA = random.Random(1).randbytes(SIZE)


def identity(digest: str = "a" * 64) -> tuple[PartIdentity, ...]:
    return (PartIdentity("model.gguf", 0, SIZE, digest),)


def opened(target: Path, lease: Lease, digest: str = "a" * 64, stop: threading.Event | None = None) -> PartialFile:
    return PartialFile(target, identity(digest), SIZE, lease, queue.SimpleQueue(), stop or threading.Event())


def acquired(target: Path) -> Lease:
    lease = Lease(lease_path(target), 60)
    assert lease.try_acquire() is None
    return lease


def taken_from(target: Path, pid: int) -> Lease:
    """A lease taken from a silent process."""
    path = lease_path(target)
    path.unlink(missing_ok=True)
    theirs = Lease(path, 60)
    theirs.try_acquire()
    state = LeaseState("theirs", process_place(), pid, 1, 0)
    path.write_bytes(msgspec.json.encode(state))
    lease = Lease(path, 0.05)
    while lease.try_acquire() is not None:
        pass
    lease._lease_s = 60
    return lease


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "model.gguf"


@pytest.fixture
def lease(target):
    lease = acquired(target)
    yield lease
    lease.release()


@pytest.fixture
def partial(target, lease):
    partial = opened(target, lease)
    yield partial
    partial.close(is_ours=True)


def file_of(target: Path, partial: PartialFile) -> DownloadFile:
    planned = PlannedFile("model.gguf", SIZE, hashlib.sha256(DATA).hexdigest(), str(target))
    file = DownloadFile([Part(planned, Asked("http://hub", "o/r", "c" * 40, planned.path_in_repo), Timeouts())])
    file.begin(partial, 0.0)
    return file


def request(target: Path, partial: PartialFile, start: int, end: int) -> Request:
    file = file_of(target, partial)
    partial.pieces.claim(start, end)
    return file._request(file.parts[0], Remote("http://cdn/x", SIZE, None), start, end)


def write(request: Request, data: bytes) -> None:
    request.write(memoryview(data))


def feed(request: Request, length: int) -> None:
    write(request, DATA[request.position : request.position + length])


# One request.


def test_a_revoked_request_writes_and_hashes_nothing_more(target, partial) -> None:
    one = request(target, partial, 0, SIZE)
    feed(one, 100)

    one.revoke()
    feed(one, 100)

    assert one.position == 100
    assert partial.hasher.digest.front == 100
    assert part_path(target).read_bytes()[100:200] == b"\0" * 100


def test_bytes_of_a_revoked_request_are_not_in_the_digest_of_the_repeated_one(target, lease) -> None:
    """A connection that notices late still offers its bytes: the part was wrong and is fetched again."""
    first = opened(target, lease)
    late = request(target, first, 0, SIZE)
    write(late, b"\1" * 1000)
    late.file.end_request(late)
    late.file.forget(late.part)
    first.close(is_ours=True)
    partial = opened(target, lease)
    assert not partial.pieces.present_bytes

    again = request(target, partial, 0, SIZE)
    while again.position < SIZE:
        feed(again, 700)
        write(late, b"\1" * 1000)

    assert partial.hasher.digest.whole == hashlib.sha256(DATA).hexdigest()
    assert part_path(target).read_bytes() == DATA
    partial.close(is_ours=True)


def test_a_request_writes_nothing_beyond_its_shortened_end(target, partial) -> None:
    one = request(target, partial, 0, 1_000)
    feed(one, 100)

    assert one.cut(150)
    feed(one, 900)

    assert (one.position, one.is_over) == (150, True)
    assert part_path(target).read_bytes()[150:1_000] == b"\0" * 850


def test_an_end_cannot_be_moved_before_written_bytes(target, partial) -> None:
    one = request(target, partial, 0, 1_000)
    feed(one, 500)

    assert not one.cut(400)


def test_nothing_is_written_if_the_lease_was_not_renewed_in_time(target, lease, partial) -> None:
    lease._renewed_s -= 100

    with pytest.raises(LeaseLostError):
        feed(request(target, partial, 0, SIZE), 100)


# Several processes.


def test_new_content_is_a_new_file_that_a_stopped_writer_of_the_old_one_cannot_change(target) -> None:
    """The writer was suspended after it checked its lease; its write happens after the successor has hashed everything."""
    first_lease = acquired(target)
    first = opened(target, first_lease, "a" * 64)
    lease = taken_from(target, os.getpid())
    second = opened(target, lease, "b" * 64)
    second.pieces.claim(0, SIZE)
    second.write(0, memoryview(DATA))
    second.pieces.settle(0, SIZE)

    os.pwrite(first._fd, b"\1" * SIZE, 0)
    mtime_ns = second.finish(target, "b" * 64, threading.Lock(), may_replace=False)

    assert mtime_ns is not None
    assert target.read_bytes() == DATA
    first.close(is_ours=False)
    second.close(is_ours=False)
    lease.release()


def test_a_partial_file_with_a_possible_other_writer_is_resumed_as_a_copy(target) -> None:
    first_lease = acquired(target)
    first = opened(target, first_lease)
    first.write(0, memoryview(DATA[:1000]))
    first.pieces.set(0, 1000, WRITTEN)
    first.record()

    lease = taken_from(target, os.getpid())
    second = opened(target, lease)
    os.pwrite(first._fd, b"\1" * SIZE, 0)

    assert second.pieces.present() == [(0, 1000)]
    assert part_path(target).read_bytes()[:1000] == DATA[:1000]
    assert second.is_in_place
    first.close(is_ours=False)
    second.close(is_ours=True)
    lease.release()


def test_a_partial_file_that_cannot_be_opened_for_a_moment_keeps_its_bytes(target, lease, monkeypatch) -> None:
    def is_scanned(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))

    first = opened(target, lease)
    first.pieces.set(0, 1000, WRITTEN)
    first.close(is_ours=True)
    with monkeypatch.context() as patch:
        patch.setattr(partial_module.disk, "open_beside", is_scanned)
        with pytest.raises(PermissionError):
            opened(target, lease)

    again = opened(target, lease)

    assert again.pieces.present() == [(0, 1000)]
    again.close(is_ours=True)


def test_a_partial_file_of_an_ended_process_is_resumed_in_place(target) -> None:
    first_lease = acquired(target)
    first = opened(target, first_lease)
    first.pieces.set(0, 1000, WRITTEN)
    first.close(is_ours=True)
    before = part_path(target).stat().st_ino

    lease = taken_from(target, 2**22 + 1)
    second = opened(target, lease)

    assert part_path(target).stat().st_ino == before
    assert second.pieces.present() == [(0, 1000)]
    second.close(is_ours=True)
    lease.release()


def test_a_lease_taken_from_a_live_process_keeps_its_warning_after_release(target) -> None:
    first_lease = acquired(target)
    first = opened(target, first_lease)
    first.pieces.set(0, 1000, WRITTEN)
    first.record()
    taken_from(target, os.getpid()).release()

    lease = Lease(lease_path(target), 60)
    assert lease.try_acquire() is None
    assert lease.has_other_writer
    lease.release()
    first.close(is_ours=False)


def test_a_pipe_in_place_of_the_partial_file_is_replaced_and_not_waited_for(target) -> None:
    first = opened(target, acquired(target))
    first.pieces.set(0, 1000, WRITTEN)
    first.close(is_ours=True)
    part_path(target).unlink()
    os.mkfifo(part_path(target))

    lease_path(target).unlink()
    partial = opened(target, acquired(target))

    assert partial.is_in_place
    assert partial.pieces.present_bytes == 0
    partial.close(is_ours=True)


def test_a_stop_ends_the_copying_of_a_file_that_another_process_may_write_to(target) -> None:
    first = opened(target, acquired(target))
    first.pieces.set(0, 1000, WRITTEN)
    first.close(is_ours=True)
    lease, stop, before = taken_from(target, os.getpid()), threading.Event(), part_path(target).stat().st_ino
    stop.set()

    with pytest.raises(StoppedError):
        opened(target, lease, stop=stop)

    assert part_path(target).stat().st_ino == before
    assert not list(target.parent.glob(f"{part_path(target).name}.{lease.owner}"))
    lease.release()


@pytest.mark.parametrize("step", ["copy_bytes", "Pieces"])
def test_a_file_whose_lease_is_released_while_it_is_opened_changes_neither_its_bytes_nor_its_journal(
    target, monkeypatch, step
) -> None:
    first_lease = acquired(target)
    first = opened(target, first_lease)
    first.pieces.set(0, 1000, WRITTEN)
    first.record()
    first.close(is_ours=False)
    lease = taken_from(target, os.getpid() if step == "copy_bytes" else 2**22 + 1)
    before = part_path(target).stat().st_ino, journal_path(target).stat().st_ino, journal_path(target).read_bytes()
    original = getattr(partial_module, step)

    def slowly(*args: object) -> object:
        lease.release()
        return original(*args)

    monkeypatch.setattr(partial_module, step, slowly)
    with pytest.raises(LeaseLostError):
        opened(target, lease)

    assert before == (
        part_path(target).stat().st_ino,
        journal_path(target).stat().st_ino,
        journal_path(target).read_bytes(),
    )
    assert not list(target.parent.glob(f"{part_path(target).name}.{lease.owner}"))


def test_a_file_that_another_process_took_over_before_the_rename_is_left_to_it_although_its_bytes_are_right(
    target, monkeypatch
) -> None:
    first, rename, others = opened(target, acquired(target)), Path.rename, list[PartialFile]()
    first.write(0, memoryview(DATA))

    def takes_long(path: Path, new: Path) -> Path:
        if not others:
            others.append(opened(target, taken_from(target, os.getpid()), "b" * 64))
            others[0].write(0, memoryview(DATA))
        return rename(path, new)

    monkeypatch.setattr(Path, "rename", takes_long)
    with pytest.raises(LeaseLostError):
        first.finish(target, hashlib.sha256(DATA).hexdigest(), threading.Lock(), may_replace=False)

    assert others[0].is_in_place
    assert not target.exists()
    first.close(is_ours=False)
    others[0].close(is_ours=True)


def test_a_file_whose_private_name_another_process_has_taken_over_is_left_to_it(target, monkeypatch) -> None:
    first, replace, others = opened(target, acquired(target)), Path.replace, list[PartialFile]()
    first.write(0, memoryview(DATA))

    def takes_long(path: Path, new: Path) -> Path:
        if new == target:
            others.append(opened(target, taken_from(target, os.getpid())))
        return replace(path, new)

    monkeypatch.setattr(Path, "replace", takes_long)
    with pytest.raises(LeaseLostError):
        first.finish(target, hashlib.sha256(DATA).hexdigest(), threading.Lock(), may_replace=False)

    assert others[0].is_in_place
    assert not target.exists()
    first.close(is_ours=False)
    others[0].close(is_ours=True)


def test_deleting_stops_once_another_process_has_taken_the_file_over(target, monkeypatch) -> None:
    partial = opened(target, acquired(target))
    partial.close(is_ours=True)
    lease_path(target).unlink()
    unlink, theirs = Path.unlink, (part_path(target), journal_path(target), lease_path(target))

    def takes_long(path: Path, *, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        if path == part_path(target):
            for one in theirs:
                one.write_bytes(b"theirs")

    monkeypatch.setattr(Path, "unlink", takes_long)
    delete_unowned(target)

    assert [one.read_bytes() for one in theirs] == [b"theirs"] * 3


def test_a_complete_file_left_between_two_renames_is_resumed(target, lease) -> None:
    first = opened(target, lease)
    first.write(0, memoryview(DATA))
    first.pieces.set(0, SIZE, SYNCED)
    first.close(is_ours=True)
    part_path(target).rename(part_path(target).with_name(f"{part_path(target).name}.0123456789abcdef"))

    again = opened(target, lease)

    assert again.pieces.is_complete
    again.close(is_ours=True)


# The disk.


def test_the_whole_length_is_allocated_at_the_start(target, partial) -> None:
    assert part_path(target).stat().st_size == SIZE


def test_a_filesystem_without_allocation_still_gets_the_full_length(tmp_path, monkeypatch) -> None:
    import ctypes

    from gglib_nb import system

    def refuses(*_: int) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(system, "_fallocate", lambda: refuses)
    with (tmp_path / "file").open("wb") as file:
        allocate(file.fileno(), 12_345)

    assert (tmp_path / "file").stat().st_size == 12_345


def test_a_refused_allocation_leaves_no_bytes_on_the_disk(tmp_path, monkeypatch) -> None:
    """ext4 keeps the blocks that it allocated before the disk was full or the quota used up."""
    import ctypes

    from gglib_nb import system

    def fills_up(fd: int, *_: int) -> int:
        os.posix_fallocate(fd, 0, 1_000_000)
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(system, "_fallocate", lambda: fills_up)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="space"):
        allocate(file.fileno(), 2_000_000)

    assert system.allocated_bytes(tmp_path / "file") == 0


def test_a_full_disk_is_distinguished_from_other_errors(tmp_path) -> None:
    full = storage_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "model.gguf")
    other = storage_error(OSError(errno.EACCES, "Permission denied"), tmp_path / "model.gguf")

    assert isinstance(full, DiskFullError)
    assert full.free_bytes > 0
    assert isinstance(other, StorageError)
    assert "Permission denied" in str(other)


def test_after_a_failed_sync_only_bytes_of_earlier_syncs_count(target, partial, monkeypatch) -> None:
    """The system may have dropped them without writing them, and the next sync would succeed."""

    def refuses(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    partial.pieces.set(0, 4_000, SYNCED)
    partial.pieces.set(4_000, SIZE, WRITTEN)
    partial.record()
    monkeypatch.setattr(partial_module, "sync_data", refuses)
    with pytest.raises(OSError, match="Input"):
        partial.finish(target, "a" * 64, threading.Lock(), may_replace=False)

    assert Journal.read(journal_path(target)).runs == [(0, 4_000, SYNCED)]


@pytest.mark.parametrize("call", ["close", "ftruncate"])
def test_after_a_write_error_that_a_network_disk_reports_at_the_end_only_synced_bytes_count(
    target, lease, monkeypatch, call: str
) -> None:
    partial, work = opened(target, lease), getattr(os, call)
    reported, sync_data = [partial._fd], partial_module.sync_data

    def reports(fd: int, *args: int) -> None:
        work(fd, *args)
        if reported == [fd]:
            reported.clear()
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def reports_again(fd: int) -> None:
        if fd == partial._fd:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        sync_data(fd)

    partial.pieces.set(0, 2_000, SYNCED)
    partial.pieces.set(2_000, 4_000, WRITTEN)
    monkeypatch.setattr(partial_module.os, call, reports)
    monkeypatch.setattr(partial_module, "sync_data", reports_again)
    partial.close(is_ours=True)

    assert Journal.read(journal_path(target)).runs == [(0, 2_000, SYNCED)]
    assert partial.journal.fd == -1


def test_a_full_disk_that_cannot_even_truncate_a_file_keeps_its_last_bytes(target, lease, monkeypatch) -> None:
    """A copy-on-write disk needs space for that too."""

    def is_full(fd: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    partial = opened(target, lease)
    partial.pieces.set(0, 2_000, SYNCED)
    partial.pieces.set(2_000, 4_000, WRITTEN)
    monkeypatch.setattr(partial_module.os, "ftruncate", is_full)
    partial.close(is_ours=True)

    assert Journal.read(journal_path(target)).runs == [(0, 2_000, SYNCED), (2_000, 4_000, WRITTEN)]


@pytest.mark.parametrize("change", ["forget", "distrust"])
def test_bytes_that_are_found_missing_change_no_journal_of_another_process(target, monkeypatch, change: str) -> None:
    """A disk may take so long that another process takes the file over meanwhile."""
    partial = opened(target, acquired(target))
    partial.pieces.set(0, SIZE, WRITTEN)

    def takes_long(_fd: int) -> None:
        monkeypatch.undo()
        taken_from(target, os.getppid())
        journal_path(target).write_bytes(b"theirs")

    monkeypatch.setattr("gglib_nb.engine.journal.sync_data", takes_long)
    if change == "forget":
        partial.pieces.forget(0, SIZE)
        partial.restart_journal()
    else:
        partial.distrust()

    assert journal_path(target).read_bytes() == b"theirs"
    partial.close(is_ours=False)


@pytest.mark.parametrize("change", ["forget", "distrust"])
def test_a_lease_that_cannot_be_read_for_a_moment_does_not_end_the_records(
    target, partial, monkeypatch, change: str
) -> None:
    partial.pieces.set(0, SIZE, WRITTEN)
    partial.record()

    def is_unreadable(_fd: int) -> None:
        lease_path(target).rename(target.with_name("elsewhere"))

    monkeypatch.setattr("gglib_nb.engine.journal.sync_data", is_unreadable)
    if change == "forget":
        partial.pieces.forget(0, SIZE)
        partial.restart_journal()
    else:
        partial.distrust()
    target.with_name("elsewhere").rename(lease_path(target))
    partial.record()
    assert Journal.read(journal_path(target)).runs == []

    partial.pieces.set(0, 1_000, WRITTEN)
    partial.record()
    assert Journal.read(journal_path(target)).runs == [(0, 1_000, WRITTEN)]


def test_a_new_file_that_cannot_be_opened_leaves_nothing_beside_the_target(target, lease, monkeypatch) -> None:
    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gglib_nb.engine.journal.write_all", is_full)
    with pytest.raises(OSError, match="space"):
        opened(target, lease)
    lease.release()

    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("step", ["target.parent.stat", "create_beside", "Hasher"])
def test_opening_that_fails_leaves_no_file_open(target, monkeypatch, step: str) -> None:
    partial = opened(target, acquired(target))
    partial.pieces.set(0, 1_000, WRITTEN)
    partial.close(is_ours=True)
    lease = taken_from(target, os.getpid())
    fds, open_beside, stat = list[int](), partial_module.disk.open_beside, Path.stat

    def notes(path: Path, flags: int) -> int:
        fds.append(open_beside(path, flags))
        return fds[-1]

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    def refuses_folder(path: Path, **options: bool) -> os.stat_result:
        if path == target.parent and fds:
            refuses()
        return stat(path, **options)

    monkeypatch.setattr(partial_module.disk, "open_beside", notes)
    if step == "create_beside":
        monkeypatch.setattr(partial_module.disk, step, refuses)
    elif step == "Hasher":
        monkeypatch.setattr(partial_module, step, refuses)
    else:
        monkeypatch.setattr(Path, "stat", refuses_folder)
    with pytest.raises(OSError, match="memory"):
        opened(target, lease)

    assert fds
    for fd in fds:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)


def test_a_partial_file_whose_size_cannot_be_read_is_not_left_open(target, monkeypatch) -> None:
    partial = opened(target, acquired(target))
    partial.pieces.set(0, 1_000, WRITTEN)
    partial.close(is_ours=True)
    lease = taken_from(target, os.getpid())
    fds, open_beside, fstat = list[int](), partial_module.disk.open_beside, os.fstat

    def notes(path: Path, flags: int) -> int:
        fds.append(open_beside(path, flags))
        return fds[-1]

    def refuses(fd: int) -> os.stat_result:
        if fd in fds:
            raise OSError(errno.EIO, "Input/output error")
        return fstat(fd)

    with monkeypatch.context() as patch:
        patch.setattr(partial_module.disk, "open_beside", notes)
        patch.setattr(os, "fstat", refuses)
        with pytest.raises(OSError, match="Input/output"):
            opened(target, lease)

    assert len(fds) == 1
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fds[0])


def test_synced_bytes_are_recorded_unless_they_were_found_wrong_in_the_meantime(target, partial) -> None:
    partial.pieces.set(0, SIZE, WRITTEN)
    ranges, reader = partial.pieces.present(), partial.reader()
    partial.pieces.forget(0, 1_000)

    partial.pieces.synced(sync([reader], ranges))
    partial.record()

    state = Journal.read(journal_path(target))
    assert state.runs == [(1_000, SIZE, SYNCED)]


def test_opening_that_lost_its_lease_meanwhile_does_not_replace_the_file_of_the_new_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.gguf"
    lease = acquired(target)

    def takes_long(_target: Path) -> None:
        taken_from(target, os.getppid())
        part_path(target).write_bytes(b"theirs")

    monkeypatch.setattr(partial_module.disk, "rescue_renamed", takes_long)

    with pytest.raises(LeaseLostError):
        opened(target, lease)

    assert part_path(target).read_bytes() == b"theirs"


def test_opening_that_lost_its_lease_during_a_sync_does_not_replace_the_journal_of_the_new_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.gguf"
    lease = acquired(target)

    def takes_long(_fd: int) -> None:
        taken_from(target, os.getppid())
        journal_path(target).write_bytes(b"theirs")

    monkeypatch.setattr("gglib_nb.engine.journal.sync_data", takes_long)

    with pytest.raises(LeaseLostError):
        opened(target, lease)

    assert journal_path(target).read_bytes() == b"theirs"


def test_a_transfer_that_has_ended_reserves_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gglib_nb.engine.disk.free_bytes", lambda _folder: 100)
    stop, space = threading.Event(), DiskSpace()
    stop.set()
    space.release(1)

    space.reserve(1, {tmp_path / "model.gguf": 80}, stop, are_replaced=False)  # its disk answered late

    space.reserve(2, {tmp_path / "other.gguf": 50}, are_replaced=False)


def test_a_disk_that_hangs_does_not_hold_up_the_end_of_its_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, answers = DiskSpace(), threading.Event()
    monkeypatch.setattr("gglib_nb.engine.disk.free_bytes", lambda _folder: answers.wait(60) and None)
    job = threading.Thread(target=space.reserve, args=(1, {tmp_path / "a": 1}), kwargs={"are_replaced": False})
    job.start()
    ending = threading.Thread(target=space.release, args=(1,))
    ending.start()

    ending.join(30)
    is_over = not ending.is_alive()
    answers.set()
    job.join()

    assert is_over


def test_space_is_reserved_without_asking_the_disks_of_other_transfers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them may hang."""
    space, asked = DiskSpace(), list[Path]()
    monkeypatch.setattr("gglib_nb.engine.disk.device_of", lambda folder: asked.append(folder) or hash(folder))
    monkeypatch.setattr("gglib_nb.engine.disk.free_bytes", lambda folder: asked.append(folder) or 100)
    monkeypatch.setattr("gglib_nb.engine.disk.allocated_bytes", lambda path: asked.append(path.parent) or 0)
    space.reserve(1, {tmp_path / "network" / "a": 80}, are_replaced=False)
    asked.clear()

    space.reserve(2, {tmp_path / "local" / "b": 80}, are_replaced=False)

    assert set(asked) == {tmp_path / "local"}
    with pytest.raises(DiskFullError):
        space.reserve(3, {tmp_path / "local" / "c": 80}, are_replaced=False)


def test_the_disk_of_a_thousand_shards_is_looked_up_once_per_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("gglib_nb.engine.disk.device_of", lambda folder: asked.append(folder) or 1)

    DiskSpace().reserve(1, {tmp_path / f"m-{number}.gguf": 1 for number in range(1_000)}, are_replaced=False)

    assert asked == [tmp_path]
