"""Copying tensors: what is copied, what stops a copy, and that a revoked copy never writes."""

import errno
import os
import queue
import threading
from pathlib import Path

import pytest

from gglib_nb.domain.gguf import read_tensors
from gglib_nb.domain.gguf_reuse import Copy
from gglib_nb.engine import reuse
from gglib_nb.engine.disk import identity, lease_path
from gglib_nb.engine.journal import PartIdentity
from gglib_nb.engine.lease import Lease
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.pieces import WRITTEN, Pieces, Range
from gglib_nb.engine.reuse import DonorFile, TensorCopy
from tests.support.gguf_files import Held, gguf_bytes, noise

SIZE = 200_000


def a_donor(path: Path) -> DonorFile:
    content = gguf_bytes([Held("a", noise(SIZE, 1))])
    path.write_bytes(content)
    table = read_tensors(lambda offset, length: content[offset : offset + length], len(content))
    found = path.stat()
    return DonorFile(path, path.stem, identity(found), True, table)


class Copying:
    """The target of a copy."""

    def __init__(self, folder: Path) -> None:
        target = folder / "model.gguf"
        self.lease = Lease(lease_path(target), 60)
        self.lease.try_acquire()
        parts = (PartIdentity("model.gguf", 0, SIZE, "a" * 64),)
        self.partial = PartialFile(target, parts, SIZE, self.lease, queue.SimpleQueue(), threading.Event())
        self.donors = [a_donor(folder / "one.gguf"), a_donor(folder / "two.gguf")]

    def copy(self, *copies: Copy) -> TensorCopy:
        return TensorCopy(self.partial, self.donors, copies)

    def run(self, *copies: Copy) -> tuple[TensorCopy, list[Range]]:
        """Copy to the end; returns the written ranges."""
        copy = self.copy(*copies).run()
        return copy, Pieces(SIZE, ((start, end, WRITTEN) for start, end in copy.take_written())).present()

    def written(self, start: int, end: int) -> bytes:
        return self.partial.path.read_bytes()[start:end]


@pytest.fixture
def copying(tmp_path):
    copying = Copying(tmp_path)
    yield copying
    copying.partial.close(is_ours=True)


def meddle(monkeypatch, happens) -> None:
    """Call a function after every twelve blocks read."""
    read_at = reuse.read_at

    def reads(fd: int, length: int, offset: int) -> bytes:
        data = read_at(fd, min(length, 49_152), offset)
        happens()
        return data

    monkeypatch.setattr(reuse, "read_at", reads)


def test_existing_bytes_are_not_copied_again(copying) -> None:
    copying.partial.write(1_000, memoryview(b"fetched"))
    copying.partial.pieces.set(1_000, 1_007, WRITTEN)

    copy, written = copying.run(Copy(0, 500, 0, 10_000))

    assert written == [(0, 1_000), (1_007, 10_000)]
    assert copying.written(1_000, 1_007) == b"fetched"
    assert copying.written(2_000, 10_000) == copying.donors[0].path.read_bytes()[2_500:10_500]
    assert copy.names == ("one",)


def test_the_donor_with_the_most_bytes_is_named_first(copying) -> None:
    assert copying.copy(Copy(0, 0, 0, 10), Copy(1, 0, 10, 500)).names == ("two", "one")


def test_a_revoked_copy_writes_nothing(copying) -> None:
    copy = copying.copy(Copy(0, 0, 0, SIZE))
    copy.revoke()

    copy.run()

    assert copy.take_written() == []
    assert copying.written(0, SIZE) == bytes(SIZE)


def test_a_donor_on_a_disk_that_hangs_does_not_stop_the_transfers_thread(copying, monkeypatch) -> None:
    hangs, answers = threading.Event(), threading.Event()
    meddle(monkeypatch, lambda: hangs.set() or answers.wait(30))
    copy = copying.copy(Copy(0, 0, 0, SIZE))
    copier, transfer = threading.Thread(target=copy.run), threading.Thread(target=copy.revoke)
    copier.start()
    hangs.wait(30)

    transfer.start()
    transfer.join(20)
    is_over = not transfer.is_alive()
    answers.set()
    copier.join(30)

    assert is_over


@pytest.mark.parametrize("change", ["grows", "is touched", "is cut short"])
def test_a_donor_that_changes_is_no_longer_copied_and_the_others_continue(copying, monkeypatch, change) -> None:
    donor = copying.donors[0].path

    def happens() -> None:
        match change:
            case "grows":
                with donor.open("ab") as file:
                    file.write(b"more")
            case "is touched":
                os.utime(donor, ns=(1, 1))
            case "is cut short":
                os.truncate(donor, 10)

    meddle(monkeypatch, happens)

    _, written = copying.run(Copy(0, 0, 0, 100_000), Copy(1, 0, 100_000, 40_000))

    assert written == [(100_000, 140_000)]


def test_a_donor_deleted_while_open_is_copied_to_its_end(copying, monkeypatch) -> None:
    content = copying.donors[0].path.read_bytes()
    meddle(monkeypatch, lambda: copying.donors[0].path.unlink(missing_ok=True))

    _, written = copying.run(Copy(0, 0, 0, SIZE))

    assert written == [(0, SIZE)]
    assert copying.written(0, SIZE) == content[:SIZE]


def test_a_donor_deleted_before_it_is_opened_is_skipped(copying) -> None:
    copying.donors[0].path.unlink()

    _, written = copying.run(Copy(0, 0, 0, 1_000), Copy(1, 0, 1_000, 500))

    assert written == [(1_000, 1_500)]


def test_a_full_disk_ends_the_copy_and_keeps_the_copied_bytes(copying, monkeypatch) -> None:
    write = PartialFile.write

    def fills_up(opened: PartialFile, offset: int, view: memoryview) -> None:
        if offset:
            raise OSError(errno.ENOSPC, "full")
        write(opened, offset, view)

    meddle(monkeypatch, lambda: None)
    monkeypatch.setattr(PartialFile, "write", fills_up)

    _, written = copying.run(Copy(0, 0, 0, SIZE))

    assert written == [(0, 49_152)]


def test_a_stale_lease_ends_the_copy_before_it_writes(copying) -> None:
    copying.lease._renewed_s -= 1_000

    copy = copying.copy(Copy(0, 0, 0, SIZE)).run()

    assert copy.take_written() == []
