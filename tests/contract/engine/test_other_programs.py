"""Other programs change, replace and delete files while the engine checks, writes or has just finished them."""

import errno
import os
import threading
from pathlib import Path

import pytest

from gglib_nb.domain.reports import DiscardPartials, TransferFailed, TransferFinished
from gglib_nb.engine import local
from gglib_nb.engine.digest import check_file
from gglib_nb.engine.disk import journal_path, part_path
from gglib_nb.engine.journal import Journal
from gglib_nb.engine.lease import delete_unowned
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.errors import StorageError
from tests.support.engine import LocalEngine
from tests.support.transfers import NAME, REPO, SIZE, begin_slowly, digest_of, right_digest

SMALL = "small.gguf"


def right_bytes(hub, name: str) -> bytes:
    return b"".join(hub.repositories[REPO].commit().files[name].content.slices())


def replace_by_wrong_bytes(path: Path) -> None:
    wrong = path.with_name("wrong")
    wrong.write_bytes(b"x" * path.stat().st_size)
    wrong.replace(path)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * 1000)


CHANGES = [replace_by_wrong_bytes, overwrite, Path.unlink]


# While a file is read.


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_changed_during_its_verification_is_not_right(hub, tmp_path, change) -> None:
    path = tmp_path / SMALL
    path.write_bytes(right_bytes(hub, SMALL))
    changes = [change]

    result = check_file(
        FileToCheck(str(path), path.stat().st_size, right_digest(hub, SMALL), ""),
        lambda _: changes.pop()(path) if changes else None,
        threading.Event(),
    )

    assert result is not None
    assert result.verdict in ("changed", "missing")


def change_when_hashed(monkeypatch, path: Path, change) -> None:
    """Change the file as soon as its last byte has been hashed, once."""
    changes, hash_file = [change], local.hash_file

    def hashing(*args):
        is_complete = hash_file(*args)
        if changes:
            changes.pop()(path)
        return is_complete

    monkeypatch.setattr(local, "hash_file", hashing)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("replaces", [False, True])
def test_a_file_at_the_target_changed_during_its_check_is_not_accepted(
    hub, engine, monkeypatch, change, replaces
) -> None:
    target = engine.target(REPO, SMALL)
    target.parent.mkdir(parents=True)
    target.write_bytes(right_bytes(hub, SMALL))
    change_when_hashed(monkeypatch, target, change)

    end = engine.log.end_of(engine.begin(REPO, SMALL, replaces=replaces))

    assert isinstance(end, TransferFailed) or digest_of(target) == right_digest(hub, SMALL)


@pytest.mark.parametrize("change", CHANGES)
def test_an_identical_file_changed_before_it_is_linked_is_not_used(hub, tmp_path, monkeypatch, change) -> None:
    models = tmp_path / "models"
    twin = models / "someone" / "copy" / SMALL
    twin.parent.mkdir(parents=True)
    twin.write_bytes(right_bytes(hub, SMALL))
    engine = LocalEngine(hub, models, link_folders=(str(models),))
    change_when_hashed(monkeypatch, twin, change)

    engine.fetch(REPO, SMALL)

    assert digest_of(engine.target(REPO, SMALL)) == right_digest(hub, SMALL)
    engine.close()


def test_an_identical_file_replaced_while_it_is_linked_is_not_used(hub, tmp_path, monkeypatch) -> None:
    models = tmp_path / "models"
    twin = models / "someone" / "copy" / SMALL
    twin.parent.mkdir(parents=True)
    twin.write_bytes(right_bytes(hub, SMALL))
    engine, link = LocalEngine(hub, models, link_folders=(str(models),)), Path.hardlink_to

    def linking(path, source) -> None:
        replace_by_wrong_bytes(twin)
        link(path, source)

    monkeypatch.setattr(Path, "hardlink_to", linking)
    engine.fetch(REPO, SMALL)

    assert digest_of(engine.target(REPO, SMALL)) == right_digest(hub, SMALL)
    engine.close()


# While a partial file is written.


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 1000)


@pytest.mark.parametrize("change", [append, lambda path: os.truncate(path, 1000)], ids=["grown", "truncated"])
def test_a_partial_file_of_another_size_is_not_finished(hub, engine, change) -> None:
    attempt = begin_slowly(engine)

    change(part_path(engine.target(REPO, NAME)))
    hub.set_speed(10_000_000)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes >= 12_000_000)
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert engine.target(REPO, NAME).stat().st_size == SIZE
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)


def test_a_partial_file_with_another_name_is_resumed_as_a_copy(hub, engine, tmp_path) -> None:
    engine.stop(begin_slowly(engine))
    part, other = part_path(engine.target(REPO, NAME)), tmp_path / "other name"
    other.hardlink_to(part)
    state, earlier = Journal.read(journal_path(engine.target(REPO, NAME))), len(hub.ranges(NAME))
    attempt = begin_slowly(engine, downloaded_bytes=12_000_000)

    overwrite(other)
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)
    kept = list(state.pieces.present())
    assert sum(kept_end - kept_start for kept_start, kept_end in kept) > 1_000_000
    for start, end in hub.ranges(NAME)[earlier:]:
        assert not any(start < kept_end and kept_start <= end for kept_start, kept_end in kept)


@pytest.mark.parametrize("change", [Path.unlink, append])
def test_a_file_changed_before_the_others_are_complete_is_not_reported_as_finished(hub, engine, change) -> None:
    hub.set_speed(10_000_000)
    attempt = engine.begin(REPO, SMALL, NAME, kind="mmproj")
    engine.log.wait_for_progress(attempt, lambda one: one.files[0].status.value == "finished")
    hub.set_speed(1_000_000)

    change(engine.target(REPO, SMALL))
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFailed)
    assert str(engine.target(REPO, SMALL)) in str(end.error)


# What a disk and other programs leave beside a target.


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_journal_that_cannot_be_read_for_now_loses_no_bytes(hub, engine, monkeypatch, code) -> None:
    engine.stop(begin_slowly(engine))
    hub.set_speed()
    journal, read = journal_path(engine.target(REPO, NAME)).name, os.open

    def fails(path, flags, *args, **options):
        if Path(path).name == journal and flags & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(code, os.strerror(code), str(path))
        return read(path, flags, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails)
        error = engine.failure(REPO, NAME)
    assert isinstance(error, StorageError)
    assert os.strerror(code) in str(error)

    end = engine.begin(REPO, NAME)
    assert isinstance(engine.log.end_of(end), TransferFinished)
    assert engine.log.progress_of(end)[-1].received_bytes <= SIZE - 4_000_000


def test_a_disk_that_accepts_no_byte_is_reported(engine, monkeypatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0 if len(data) > 4096 else write(fd, data, at))

    assert "nothing was written" in str(engine.failure(REPO, SMALL))


def test_a_folder_named_like_a_temporary_file_is_ignored(engine) -> None:
    target = engine.target(REPO, SMALL)
    for suffix in (".part.0123456789abcdef", ".part.lease.0123456789abcdef"):
        folder = target.with_name(target.name + suffix)
        folder.mkdir(parents=True)
        os.utime(folder, (1e9, 1e9))

    engine.fetch(REPO, SMALL)

    assert len(list(target.parent.iterdir())) == 3


def test_a_journal_left_by_a_kill_before_its_rename_is_deleted(tmp_path) -> None:
    target = tmp_path / NAME
    for path in (part_path(target), journal_path(target), Path(f"{journal_path(target)}.new")):
        path.write_bytes(b"left")

    delete_unowned(target)

    assert list(tmp_path.iterdir()) == []


def test_the_error_names_a_file_that_is_changed_all_the_time(hub, engine, monkeypatch) -> None:
    target = engine.target(REPO, SMALL)
    target.parent.mkdir(parents=True)
    target.write_bytes(right_bytes(hub, SMALL))
    change_when_hashed(monkeypatch, target, overwrite)

    end = engine.log.end_of(engine.begin(REPO, SMALL))

    assert str(end.error).startswith(f"Another file is stored at {target}.")


def test_a_discard_does_not_delete_another_programs_partial_file(engine) -> None:
    """Firefox calls its partial files so too."""
    target = engine.target(REPO, SMALL)
    target.parent.mkdir(parents=True)
    part_path(target).write_bytes(b"of another program")

    engine.send(DiscardPartials((str(target),)))
    engine.close()

    assert part_path(target).read_bytes() == b"of another program"
