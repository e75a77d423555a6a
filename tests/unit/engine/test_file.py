"""One file of a transfer: what proves it, where its bytes came from, and when its digest is behind."""

import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine.disk import lease_path, part_path
from gglib_nb.engine.file import DownloadFile, Part, Stage
from gglib_nb.engine.lease import Lease, LeaseState
from gglib_nb.engine.local import TargetCheck
from gglib_nb.engine.partial import PartialFile, StoppedError
from gglib_nb.engine.pieces import MIB
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer import JobEnded, prepare, release, run_job

SIZE = 64 * MIB
URL = "http://cdn.example/x"


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    lease = Lease(lease_path(tmp_path / "model.gguf"), 60)
    assert lease.try_acquire() is None
    yield lease
    lease.release()


def file_of(target: Path, *parts: PlannedFile) -> DownloadFile:
    parts = parts or (PlannedFile("model.gguf", SIZE, "a" * 64, str(target)),)
    asked = (Asked("http://hub", "o/r", "c" * 40, part.path_in_repo) for part in parts)
    return DownloadFile([Part(*one, Timeouts()) for one in zip(parts, asked, strict=True)])


def opened(file: DownloadFile, lease: Lease) -> PartialFile:
    partial = PartialFile(file.path, file.identities, file.size_bytes, lease, queue.SimpleQueue(), threading.Event())
    file.begin(partial, 0.0)
    return partial


def test_a_digest_that_arrives_after_the_bytes_were_accepted_does_not_make_them_verified(tmp_path, lease) -> None:
    target = str(tmp_path / "model.gguf")
    file = file_of(
        tmp_path, PlannedFile("a", 10, None, target), PlannedFile("b", 10, "b" * 64, target, offset_bytes=10)
    )
    partial = opened(file, lease)
    partial.hasher.digest.digests = ["1" * 64]
    assert file.verify() is None

    file.parts[0].resolved(Remote(URL, 10, "e" * 64), has_bytes=False)
    partial.hasher.digest.digests.append("b" * 64)
    assert file.verify() is None

    assert file.is_proven
    assert not file.is_verified
    partial.close(is_ours=True)


def test_a_mirror_counts_as_a_source_from_its_first_byte(tmp_path, lease) -> None:
    """The digest may prove the file before the event that ends the last request."""
    file = file_of(tmp_path / "model.gguf")
    partial = opened(file, lease)
    file.parts[0].resolved(Remote(URL, SIZE, "a" * 64, mirror="mirror.example"), has_bytes=False)
    request = file.next_request(0.0, MIB, 1)
    file.settle()
    assert file.as_stored().mirrors == ()

    request.write(memoryview(b"x"))
    file.parts[0].remote = None
    file.settle()

    assert file.as_stored().mirrors == ("mirror.example",)
    partial.close(is_ours=True)


def test_the_address_of_a_splits_next_part_is_asked_for_while_the_part_before_it_arrives(tmp_path, lease) -> None:
    target = str(tmp_path / "model.gguf")
    first = PlannedFile("model.gguf.part1of2", 16 * MIB, "a" * 64, target)
    second = PlannedFile("model.gguf.part2of2", 16 * MIB, "b" * 64, target, offset_bytes=16 * MIB)
    file = file_of(tmp_path / "model.gguf", first, second)
    partial = opened(file, lease)
    assert file.part_to_resolve(0.0) is file.parts[0]

    file.parts[0].resolved(Remote(URL, 16 * MIB, "a" * 64), has_bytes=False)
    running = file.next_request(0.0, 8 * MIB, SIZE)
    assert file.part_to_resolve(0.0) is None, "the first part has bytes that no request fetches"
    file.next_request(0.0, 8 * MIB, SIZE)
    assert file.part_to_resolve(0.0) is file.parts[1]

    file.parts[1].resolved(Remote(URL, 16 * MIB, "b" * 64), has_bytes=False)
    file.parts[0].remote = None
    assert file.part_to_resolve(0.0) is None
    file.end_request(running)
    assert file.part_to_resolve(0.0) is file.parts[0]
    partial.close(is_ours=True)


def checked_file(target: Path, lease: Lease) -> DownloadFile:
    """A file whose check runs and has acquired the lease."""
    file = file_of(target)
    command = StartTransfer(1, "o/r", "c" * 40, (file.parts[0].planned,), force=False)
    file.check = TargetCheck((file.parts[0].planned,), command, lease, ReuseLimits(), (), (), None, has_lease=True)
    file.jobs.add("check")
    return file


def test_a_file_that_another_process_stores_just_before_its_lease_is_free_is_not_downloaded_again(tmp_path) -> None:
    """The second copy could not get its name: the download would fail at its end."""
    target, content = tmp_path / "model.gguf", b"GGUF and more"

    class JustReleased(Lease):
        def try_acquire(self) -> LeaseState | None:
            target.write_bytes(content)
            return super().try_acquire()

    planned = PlannedFile(target.name, len(content), hashlib.sha256(content).hexdigest(), str(target))
    command = StartTransfer(1, "o/r", "c" * 40, (planned,), force=False)
    lease = JustReleased(lease_path(target), 10.0)
    check = TargetCheck((planned,), command, lease, ReuseLimits(), (), (), threading.Event())

    stored = check.run()

    assert stored is not None
    assert stored.was_present
    lease.release()


def test_a_check_that_was_stopped_while_it_took_the_lease_leaves_none(tmp_path, lease) -> None:
    file = checked_file(tmp_path / "model.gguf", lease)

    release(JobEnded("check", file, file.version, StoppedError()))

    assert not lease_path(file.path).exists()


def test_a_check_that_ends_while_its_lease_is_renewed_does_not_close_it(tmp_path, lease, monkeypatch) -> None:
    """The transfer's thread would write the heartbeat to a closed descriptor, or to that of another file."""
    file = checked_file(tmp_path / "model.gguf", lease)
    ends: list[JobEnded] = []
    is_ours = lease.is_ours

    def stopped(_check: TargetCheck) -> None:
        raise StoppedError

    def ends_meanwhile() -> bool:
        found = is_ours()
        work = file.check, lambda: None, queue.SimpleQueue()
        ends.append(run_job("check", file, file.version, prepare, file, *work))
        return found

    monkeypatch.setattr(TargetCheck, "run", stopped)
    monkeypatch.setattr(lease, "is_ours", ends_meanwhile)

    assert file.renew()

    assert [type(one.result) for one in ends] == [StoppedError]


def test_a_partial_file_that_no_transfer_takes_is_closed_and_its_lease_released(tmp_path, lease) -> None:
    file = checked_file(tmp_path / "model.gguf", lease)
    partial = PartialFile(file.path, file.identities, file.size_bytes, lease, queue.SimpleQueue(), threading.Event())

    release(JobEnded("check", file, file.version, partial))

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="descriptor"):
        partial.reader()


def test_a_redirect_that_a_request_followed_is_the_address_of_later_requests(tmp_path, lease) -> None:
    file = file_of(tmp_path / "model.gguf")
    partial = opened(file, lease)
    file.parts[0].resolved(Remote(URL, SIZE, "a" * 64), has_bytes=False)
    first, second = (file.next_request(0.0, 16 * MIB, SIZE) for _ in range(2))

    second.follow("/another")
    file.end_request(second)
    assert file.parts[0].remote.url == URL, "no byte came from there"
    first.follow("/elsewhere")
    first.write(memoryview(b"x"))
    file.end_request(first)

    assert file.next_request(0.0, MIB, SIZE).remote.url == "http://cdn.example/elsewhere"
    partial.close(is_ours=True)


def test_a_file_that_another_process_takes_over_while_it_is_closed_is_left_to_it(tmp_path, lease, monkeypatch) -> None:
    """Its disk hung, and nothing of it had arrived: only then are its partial files deleted."""
    file = checked_file(tmp_path / "model.gguf", lease)
    file.jobs.clear()
    opened(file, lease)
    ours = part_path(file.path), lease_path(file.path)

    def takes_long(_opened: PartialFile) -> None:
        for path in ours:
            path.unlink()
            path.write_bytes(b"theirs")

    monkeypatch.setattr(PartialFile, "record", takes_long)
    file.close()

    assert [path.read_bytes() for path in ours] == [b"theirs", b"theirs"]


def test_a_partial_file_that_another_program_truncated_is_not_filled_with_zeros_when_it_is_closed(
    tmp_path, lease
) -> None:
    """Its journal states the bytes that are gone: a resume would trust zeros."""
    file = checked_file(tmp_path / "model.gguf", lease)
    file.jobs.clear()
    partial = opened(file, lease)
    file.parts[0].resolved(Remote(URL, SIZE, "a" * 64), has_bytes=False)
    file.next_request(0.0, MIB, 1).write(memoryview(b"x" * 100))
    file.settle()
    partial.record()

    os.truncate(part_path(file.path), 10)
    file.close()

    assert part_path(file.path).stat().st_size == 10


def test_a_connection_that_ends_its_request_after_the_file_was_opened_again_changes_nothing(tmp_path, lease) -> None:
    """The first part is sent as a whole only, so what arrived of it is forgotten; the second is being fetched."""
    target = str(tmp_path / "model.gguf")
    first = PlannedFile("model.gguf.part1of2", 16 * MIB, "a" * 64, target)
    second = PlannedFile("model.gguf.part2of2", 16 * MIB, "b" * 64, target, offset_bytes=16 * MIB)
    file = file_of(tmp_path / "model.gguf", first, second)
    partial = opened(file, lease)
    for part in file.parts:
        part.resolved(Remote(URL, 16 * MIB, part.sha256), has_bytes=False)
    early, late = (file.next_request(0.0, 16 * MIB, SIZE) for _ in range(2))
    for request in (early, late):
        request.write(memoryview(b"x"))
    file.end_request(early)
    file.parts[0].is_whole = True

    assert file.next_request(0.0, 16 * MIB, SIZE) is None
    assert file.stage is Stage.CHECKING
    present_bytes = file.pieces.present_bytes
    late.write(memoryview(b"x"))
    file.end_request(late)

    assert (late.position, file.pieces.present_bytes) == (16 * MIB + 1, present_bytes)
    partial.close(is_ours=True)
