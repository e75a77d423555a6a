"""Disks that are full, fill up or cannot be written: the error is reported early, and existing data is kept."""

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gglib_nb.domain.reports import DiscardPartials, StopTransfer, TransferFinished, TransferStopped
from gglib_nb.engine.disk import journal_path, part_path
from gglib_nb.engine.journal import Journal, runs_at
from gglib_nb.engine.pieces import Run
from gglib_nb.errors import DiskFullError, StorageError
from tests.support.engine import LocalEngine
from tests.support.transfers import (
    NAME,
    REPO,
    SIZE,
    begin_slowly,
)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A separate filesystem of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a filesystem can be mounted by root only: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_hangs_while_files_are_deleted_delays_only_downloads_of_them(hub, engine, monkeypatch) -> None:
    engine.stop(begin_slowly(engine))
    hub.set_speed()
    part, hangs, works, ended_in_time = part_path(engine.target(REPO, NAME)), threading.Event(), threading.Event(), []
    real_unlink = Path.unlink

    def unlink(path: Path, **options: bool) -> None:
        if path == part and not works.is_set():
            hangs.set()
            ended_in_time.append(works.wait(20))
        real_unlink(path, **options)

    def runs(target: Path, *arguments: Any, **options: bool) -> list[Run]:
        if part_path(target) == part and not works.is_set():
            ended_in_time.append(works.wait(20))
        return runs_at(target, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr("gglib_nb.engine.file.runs_at", runs)
    engine.send(DiscardPartials((str(engine.target(REPO, NAME)),)))
    assert hangs.wait(60)
    engine.send(DiscardPartials((str(engine.target(REPO, NAME)),)))  # ends at once, because the first has the lease

    waiting, again = engine.begin(REPO, NAME), engine.begin(REPO, NAME)
    engine.fetch(REPO, "small.gguf")
    engine.send(StopTransfer(waiting))
    assert isinstance(engine.log.end_of(waiting), TransferStopped)
    assert engine.log.progress_of(again) == []
    works.set()

    assert isinstance(engine.log.end_of(again), TransferFinished)
    assert engine.log.progress_of(again)[-1].received_bytes >= SIZE  # it began after they were deleted
    assert ended_in_time == [True]


def test_a_disk_that_fills_up_keeps_downloaded_data_and_reports_the_missing_space(hub, small_disk, monkeypatch) -> None:
    monkeypatch.setattr("gglib_nb.system._fallocate", lambda: None)
    engine = LocalEngine(hub, small_disk)
    attempt = begin_slowly(engine)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(100_000))

    end = engine.log.end_of(attempt)
    error = end.error
    assert isinstance(error, DiskFullError)
    assert 0 < error.needed_bytes <= SIZE - 4_000_000
    assert not end.can_retry

    (small_disk / "filler").unlink()
    hub.set_speed()
    engine.fetch(REPO, NAME)
    assert engine.log.progress_of(2)[-1].received_bytes <= SIZE - 4_000_000
    engine.close()


def test_a_second_attempt_counts_the_space_reserved_by_the_first(hub, small_disk, monkeypatch) -> None:
    monkeypatch.setattr("gglib_nb.system._fallocate", lambda: None)
    engine = LocalEngine(hub, small_disk)
    begin_slowly(engine)

    error = engine.failure(REPO, "other.gguf")

    assert isinstance(error, DiskFullError)
    engine.close()


def test_existing_files_need_no_more_space(hub, small_disk) -> None:
    engine = LocalEngine(hub, small_disk)
    engine.fetch(REPO, NAME)

    end = engine.fetch(REPO, "small.gguf", NAME, kind="mmproj")

    assert [one.was_present for one in end.files] == [False, True]
    engine.close()


def test_an_exhausted_quota_counts_as_a_full_disk(hub, engine, monkeypatch) -> None:
    write = os.pwrite

    def write_within_quota(fd: int, data: bytes, offset: int) -> int:
        if offset >= 2_000_000:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write_within_quota)
    error = engine.failure(REPO, NAME)
    monkeypatch.undo()

    assert isinstance(error, DiskFullError)
    assert error.needed_bytes is not None
    assert "is full although" in str(error)
    assert "a quota, or the number of files that it can store, is used up" in str(error)
    state = Journal.read(journal_path(engine.target(REPO, NAME)))
    kept_bytes = state.pieces.present_bytes if state is not None else 0  # nothing, if the very first write was refused
    engine.fetch(REPO, NAME)
    assert engine.log.progress_of(2)[-1].received_bytes == SIZE - kept_bytes


# The disk of the models folder.


def test_a_transfer_does_not_write_to_the_mount_point_of_an_unmounted_disk(hub, tmp_path) -> None:
    """The disk goes away while the download waits for a network: its folder is empty then, as a mount point is."""
    folder = tmp_path / "disk"
    engine = LocalEngine(hub, folder)
    attempt = begin_slowly(engine)

    folder.rename(tmp_path / "unmounted")
    folder.mkdir()
    end = engine.log.end_of(attempt)

    assert "If its disk is not mounted, mount it" in str(end.error)
    assert list(folder.iterdir()) == []
    engine.close()


def test_a_download_started_on_an_unmounted_disk_creates_nothing(engine) -> None:
    known_folders = (str(engine.folder / "demo"), str(engine.folder / "other"))
    error = engine.failure(REPO, NAME, known_folders=known_folders)

    assert isinstance(error, StorageError)
    assert str(error).startswith(f"The folder {known_folders[0]} does not exist.")
    assert not engine.target(REPO, NAME).parent.parent.exists()

    (engine.folder / "other").mkdir(parents=True)
    engine.fetch(REPO, NAME, known_folders=known_folders)
