"""Which process may write a partial file, with real files and without waiting for real processes to end."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gglib_nb.engine.lease import Lease, SeenLease, read_lease
from gglib_nb.system import clock_s, process_place
from tests.support.rights import as_ordinary_user


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf.part.lease"


def owned_by(path: Path, **changes) -> None:
    """Make the lease at the path look as if another process had it."""
    state = read_lease(path)
    path.unlink()
    path.write_text(msgspec.json.encode(msgspec.structs.replace(state, **changes)).decode())


def test_the_first_process_acquires_a_lease_and_the_second_learns_its_owner(path) -> None:
    first, second = Lease(path, 10), Lease(path, 10)

    assert first.try_acquire() is None
    assert second.try_acquire().pid == os.getpid()
    first.release()


def test_the_watcher_sees_the_owners_progress(path) -> None:
    first, second = Lease(path, 10), Lease(path, 10)
    first.try_acquire()

    first.renew(12_345)

    assert second.try_acquire().downloaded_bytes == 12_345
    first.release()


def test_a_released_lease_can_be_acquired(path) -> None:
    first, second = Lease(path, 10), Lease(path, 10)
    first.try_acquire()

    first.release()

    assert not path.exists()
    assert second.try_acquire() is None
    second.release()


def test_the_lease_of_a_dead_local_process_is_acquired_at_once(path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", pid=dead.pid)
    watcher = Lease(path, 10)

    assert watcher.try_acquire() is None
    assert watcher.is_ours()
    watcher.release()


def test_a_process_that_was_held_up_while_it_took_a_lease_writes_to_no_file_that_another_may_have_open(
    path, monkeypatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", pid=dead.pid)
    first, late, looks = Lease(path, 10), Lease(path, 10), []

    def look_and_be_held_up(place: Path):
        state = read_lease(place)
        looks.append(state)
        if len(looks) == 2:  # the last look before it renames its own lease
            assert first.try_acquire() is None
        return state

    monkeypatch.setattr("gglib_nb.engine.lease.read_lease", look_and_be_held_up)

    assert late.try_acquire() is None
    assert not first.is_ours()
    assert late.has_other_writer
    late.release()


def test_the_lease_of_a_zombie_process_is_acquired_at_once(path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", pid=zombie.pid)
    watcher = Lease(path, 10)

    assert watcher.try_acquire() is None
    zombie.wait()
    watcher.release()


def test_a_process_of_another_machine_counts_as_alive_while_it_sends_heartbeats(path) -> None:
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", place="elsewhere", pid=1)

    assert Lease(path, 10).try_acquire().owner == "other"


def test_a_lease_that_was_released_on_another_machine_is_acquired_at_once(path) -> None:
    """It remains because of a writer before that owner; process 0 runs on macOS and Windows."""
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", place="elsewhere", pid=0, has_other_writer=True)
    lease = Lease(path, 10)

    assert lease.try_acquire() is None
    assert lease.has_other_writer
    lease.release()


def test_a_lease_that_cannot_be_deleted_is_acquired_at_once(path, monkeypatch) -> None:
    """The folder lost its write permission during a download, and is repaired before the next attempt."""

    def refuses(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    first, second = Lease(path, 10), Lease(path, 10)
    assert first.try_acquire() is None
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuses)
        first.release()

    assert second.try_acquire() is None
    assert not second.has_other_writer
    second.release()


def test_an_owner_without_heartbeats_loses_its_lease_by_the_watchers_clock(path) -> None:
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", place="elsewhere")
    watcher = Lease(path, 0.0)
    assert watcher.try_acquire() is not None

    assert watcher.try_acquire() is None
    watcher.release()


def an_earlier_boot(path: Path) -> str:
    """The place of a process of this machine before its reboot."""
    host, _boot, namespace = read_lease(path).place.split(" ")
    return f"{host} 00000000-0000-0000-0000-000000000000 {namespace}"


def test_a_lease_from_an_earlier_boot_is_acquired_at_once(path) -> None:
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", place=an_earlier_boot(path), pid=os.getpid())
    before_this_boot_s = time.time() - clock_s() - 60
    os.utime(path, (before_this_boot_s, before_this_boot_s))
    watcher = Lease(path, 10)

    assert watcher.try_acquire() is None
    watcher.release()


def test_another_machine_with_the_same_name_counts_as_alive_after_a_recent_write(path) -> None:
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", place=an_earlier_boot(path))

    assert Lease(path, 10).try_acquire().owner == "other"


def test_silence_since_an_earlier_check_counts(path) -> None:
    Lease(path, 10).try_acquire()
    owned_by(path, owner="other", place="elsewhere")
    seen = SeenLease(read_lease(path), clock_s() - 11)
    watcher = Lease(path, 10, seen)

    assert watcher.try_acquire() is None
    watcher.release()


IMPOSSIBLE: dict[str, Any] = {"owner": "x", "place": process_place(), "beat": 1, "downloaded_bytes": 0}


@pytest.mark.parametrize(
    "content", ["", "half a li", '{"owner": 7}', *(json.dumps({**IMPOSSIBLE, "pid": pid}) for pid in (-5, 2**40))]
)
def test_an_unreadable_lease_is_free_after_the_timeout(path, content) -> None:
    path.write_text(content)
    watcher = Lease(path, 0.0)
    assert watcher.try_acquire().owner == ""

    assert watcher.try_acquire() is None
    watcher.release()


def test_a_folder_in_place_of_a_lease_is_reported_by_name(path) -> None:
    path.mkdir()

    with pytest.raises(IsADirectoryError, match=r"there is a folder in its place: .*model\.gguf\.part\.lease"):
        Lease(path, 10).try_acquire()


def test_an_owner_that_lost_its_lease_detects_it_and_releases_nothing(path) -> None:
    first = Lease(path, 0.0)
    first.try_acquire()
    second = Lease(path, 0.0)
    second.try_acquire()
    assert second.try_acquire() is None

    assert not first.is_ours()
    assert not first.renew(99)
    first.release()
    assert second.is_ours()
    assert read_lease(path).downloaded_bytes == 0
    second.release()


def test_an_owner_without_a_recent_heartbeat_is_not_fresh(path) -> None:
    lease = Lease(path, 0.0)
    lease.try_acquire()

    assert not lease.is_fresh()
    assert lease.is_ours()
    lease.release()


def test_an_inaccessible_lease_is_neither_ours_nor_free(path) -> None:
    path.write_text("half a li")

    assert Lease(path, 10).try_acquire().owner == ""


def test_only_the_lease_remains_in_the_folder(path) -> None:
    Lease(path, 0.0).try_acquire()
    watcher = Lease(path, 0.0)
    watcher.try_acquire()
    watcher.try_acquire()

    assert [one.name for one in path.parent.iterdir()] == [path.name]
    watcher.release()


def test_an_unwritable_lease_is_not_left_behind(path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    lease = Lease(path, 10)
    with monkeypatch.context() as patched:
        patched.setattr("gglib_nb.engine.lease.write_at", full)
        with pytest.raises(OSError, match="No space left"):
            lease.try_acquire()

    assert not lease.is_held
    assert not path.exists()
    assert lease.try_acquire() is None
    lease.release()


@pytest.mark.parametrize("content", ['{"owner": 7}', '{"owner": "of a newer version"}'.ljust(2000), "\xff"])
def test_an_unreadable_lease_is_not_taken_from_its_owner_while_that_writes_heartbeats(
    path, content, monkeypatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("gglib_nb.engine.lease.clock_s", lambda: now_s)
    watcher = Lease(path, 10)

    for beat in range(5):
        path.write_text(content)
        os.utime(path, (beat, beat))
        assert watcher.try_acquire() is not None
        now_s += 9
    assert watcher.try_acquire() is not None

    now_s += 2
    assert watcher.try_acquire() is None
    assert watcher.has_other_writer
    watcher.release()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root has other users")
def test_another_users_private_lease_is_not_taken_while_it_has_heartbeats(path) -> None:
    owner = Lease(path, 10)
    owner.try_acquire()
    path.chmod(0o600)
    os.chown(path, 12_345, -1)
    script = (
        "import os, sys, time; from pathlib import Path; from gglib_nb.engine.lease import Lease\n"
        "lease, until_s = Lease(Path(sys.argv[1]), 10), time.monotonic() + 2\n"
        "print(all(lease.try_acquire() is not None and not time.sleep(0.2) for _ in iter(lambda: time.monotonic() < until_s, False)))"
    )
    command = [sys.executable, "-c", script, str(path)]
    watcher = as_ordinary_user(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))

    while watcher.poll() is None:
        assert owner.renew(1)
        time.sleep(0.2)

    assert watcher.communicate()[0].strip() == "True"
    owner.release()
