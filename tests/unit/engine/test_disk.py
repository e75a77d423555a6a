"""Sidecar files of a target: names that always fit, and no writes through other users' links."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine import disk
from gglib_nb.engine.disk import (
    check_way,
    disk_full,
    journal_path,
    lease_path,
    open_beside,
    part_path,
    read_small,
    rescue_renamed,
)
from gglib_nb.engine.journal import Journal, PartIdentity
from gglib_nb.engine.local import discard_leftovers, leftovers, read_facts
from gglib_nb.engine.pieces import WRITTEN, Pieces
from gglib_nb.errors import StorageError
from tests.support.partials import write_journal

SOMEBODY = 12_345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a link of another user")
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255).filter(
    lambda name: len(name.encode()) <= 255 and name not in {".", ".."}
)


@given(names)
def test_every_sidecar_name_fits_into_255_bytes(name) -> None:
    target = Path("/models/o/r") / name
    own = lease_path(target).with_name(f"{lease_path(target).name}.{'0' * 16}")

    for path in (part_path(target), journal_path(target), own, Path(f"{journal_path(target)}.new")):
        assert len(path.name.encode()) <= 255
        assert path.parent == target.parent


@given(names, names)
def test_two_targets_share_no_sidecar_name(one, other) -> None:
    if one != other:
        assert part_path(Path("/m") / one) != part_path(Path("/m") / other)


def test_a_partial_file_with_a_shortened_name_is_listed_and_can_be_deleted(tmp_path) -> None:
    target = tmp_path / "owner" / "repo" / f"{'ä' * 120}.gguf"
    target.parent.mkdir(parents=True)
    part_path(target).write_bytes(b"x")
    journal = Journal(journal_path(target), (PartIdentity("m", 0, 1, "a"),))
    journal.begin(Pieces(1))
    journal.close()

    (found,) = leftovers(tmp_path)

    assert discard_leftovers([found.target]) == {found.target}
    assert list(target.parent.iterdir()) == []


def test_a_file_that_another_process_renames_during_the_rescue_of_its_partial_file_is_not_deleted(
    tmp_path, monkeypatch
) -> None:
    """One that was frozen until its lease was taken over, between its last check and its last rename."""
    target = tmp_path / "model.gguf"
    part_path(target).write_bytes(b"all of it")
    looks, matching = list[str](), disk.matching

    def after_two_looks(folder: Path, pattern: str) -> list[Path]:
        looks.append(pattern)
        if len(looks) == 3:
            part_path(target).rename(f"{part_path(target)}.{'0' * 16}")
        return list(matching(folder, pattern))

    monkeypatch.setattr(disk, "matching", after_two_looks)

    disk.rescue_renamed(target)

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"all of it"]


def test_a_leftover_that_only_its_owner_may_delete_does_not_keep_others_from_the_file(tmp_path, monkeypatch) -> None:
    target = tmp_path / "model.gguf"
    leftovers_of_others = [one.with_name(f"{one.name}.{'0' * 16}") for one in (part_path(target), lease_path(target))]
    for path in leftovers_of_others:
        path.write_bytes(b"x")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "rename", refuse)
    rescue_renamed(target)

    assert all(path.exists() for path in leftovers_of_others)


@pytest.mark.parametrize(
    ("needed_bytes", "free_bytes", "text"),
    [
        (None, 5, "is full: 5 B is free. "),
        (9, 5, "is full: 9 B more is needed, but only 5 B is free. "),
        (5, 100_000, "is full although 100.0 kB is free: a quota"),
        (0, 100_000, "is full although 100.0 kB is free: a quota"),
        (5, 6, "is full: 5 B more is needed, but only 6 B is free. "),
        (0, 5, "is full: 5 B is free. "),
        (0, 0, "is full: 0 B is free. "),
        (9, None, "is full: 9 B more is needed. "),
        (None, None, "is full. "),
    ],
)
def test_a_full_disk_states_what_is_known_of_the_space(
    needed_bytes: int | None, free_bytes: int | None, text: str
) -> None:
    assert text in str(disk_full(Path("/models"), needed_bytes, free_bytes))


def test_a_partial_file_left_in_its_last_rename_is_listed_and_deleted(tmp_path) -> None:
    target = tmp_path / "owner" / "repo" / "model.gguf"
    target.parent.mkdir(parents=True)
    part_path(target).with_name(f"{part_path(target).name}.0123456789abcdef").write_bytes(b"12345")
    write_journal(target)

    (found,) = leftovers(tmp_path)

    assert (found.target, found.disk_bytes > 0) == (str(target), True)
    assert discard_leftovers([found.target]) == {found.target}
    assert list(target.parent.iterdir()) == []


def test_another_programs_partial_file_is_neither_listed_nor_deleted(tmp_path) -> None:
    target = tmp_path / "owner" / "repo" / "film.mkv"
    target.parent.mkdir(parents=True)
    part_path(target).write_bytes(b"not ours")

    assert leftovers(tmp_path) == []
    assert discard_leftovers([str(target)]) == frozenset()
    assert part_path(target).read_bytes() == b"not ours"


def test_a_partial_file_that_cannot_be_deleted_does_not_stay_in_use(tmp_path) -> None:
    """As one of another user in a folder where each may delete only their own files."""
    target = tmp_path / "owner" / "repo" / "model.gguf"
    part_path(target).mkdir(parents=True)  # `unlink` refuses a folder, too
    write_journal(target)

    assert discard_leftovers([str(target)]) == frozenset()
    assert not lease_path(target).exists()


def test_a_link_in_place_of_a_partial_file_is_not_followed(tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    planted = tmp_path / "m.gguf.part"
    planted.symlink_to(outside)

    with pytest.raises(StorageError, match="is a link, which is not followed"):
        open_beside(planted, os.O_RDWR | os.O_CREAT)

    assert outside.read_bytes() == b"precious"


FILE_SERVER = """
import fcntl, os, signal, sys
fd = os.open(sys.argv[1], os.O_RDWR)
signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK))
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
sys.stdin.read()
"""


def read_and_write(path: Path) -> bytes:
    fd = open_beside(path, os.O_RDWR)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases on files")
@pytest.mark.parametrize("use", [read_small, read_and_write])
def test_a_file_server_that_has_a_file_open_is_waited_for(tmp_path, use: Callable[[Path], bytes | None]) -> None:
    """As Samba, whose clients cache a file until another program opens it."""
    path = tmp_path / "m.gguf.part"
    path.write_bytes(b"12345")
    command = [sys.executable, "-c", FILE_SERVER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        if server.stdout.readline() != b"ready\n":
            pytest.skip("this filesystem has no leases")

        assert use(path) == b"12345"


def test_the_users_own_link_to_another_disk_is_followed(tmp_path, other_disk) -> None:
    (tmp_path / "models").symlink_to(other_disk)

    check_way(tmp_path / "models" / "owner" / "repo" / "m.gguf")


@as_root
@pytest.mark.parametrize("planted", ["models/owner", "models/owner/repo"])
def test_a_link_of_another_user_is_not_followed(tmp_path, planted) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    os.lchown(link, SOMEBODY, SOMEBODY)

    with pytest.raises(StorageError, match="link that belongs to another user"):
        check_way(tmp_path / "models" / "owner" / "repo" / "m.gguf")


@as_root
def test_a_link_of_the_folders_owner_is_followed(tmp_path) -> None:
    """The owner of the folder can put any file there anyway."""
    outside, models = tmp_path / "outside", tmp_path / "models"
    outside.mkdir()
    models.mkdir()
    os.chown(models, SOMEBODY, SOMEBODY)
    (models / "owner").symlink_to(outside)
    os.lchown(models / "owner", SOMEBODY, SOMEBODY)

    check_way(models / "owner" / "repo" / "m.gguf")


def test_the_size_of_a_partial_file_is_unknown_if_the_hub_did_not_state_it_and_none_of_its_bytes_count(
    tmp_path,
) -> None:
    target = tmp_path / "owner" / "name" / "model.gguf"
    target.parent.mkdir(parents=True)
    part_path(target).write_bytes(b"GGUF")
    write_journal(target, None, [(0, 4, WRITTEN)])

    (found,) = leftovers(tmp_path)

    assert (found.size_bytes, found.downloaded_bytes) == (None, 0)


@pytest.mark.parametrize("read", [read_small, read_facts])
def test_a_file_whose_status_cannot_be_read_is_not_left_open(
    tmp_path, monkeypatch, read: Callable[[Path], object]
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    fds, fstat = list[int](), os.fstat

    def refuses(fd: int) -> os.stat_result:
        fds.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", refuses)
        read(tmp_path / "model.gguf")

    (fd,) = fds
    with pytest.raises(OSError, match="descriptor"):
        fstat(fd)
