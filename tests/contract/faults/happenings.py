"""The faults of the matrix in disks, journals, leases, processes and clocks, which neither hub nor line can make."""

import json
import os
import resource
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb.engine.disk import journal_path, lease_path, part_path
from gglib_nb.engine.journal import boot_id
from tests.contract.faults.row import Doing, Lift
from tests.contract.faults.world import SHORT, Subject, World
from tests.support.faulty_hub import StorageAt, Then
from tests.support.line import Line, Mode

# Disk ----------------------------------------------------------------------------------------------------------------


def _folder_is_read_only(world: World, subject: Subject) -> Lift:
    folder = world.target(subject).parent
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    return lambda: folder.chmod(0o755)


def _file_for_folder(world: World, subject: Subject) -> Lift:
    place = world.target(subject).parent
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file where a folder should be")
    return place.unlink


def _largest_file(world: World, subject: Subject) -> Lift:
    def limit(size_bytes: int) -> None:
        resource.prlimit(world.engine().pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    limit(1_000_000)
    return lambda: limit(resource.RLIM_INFINITY)


def _folder_at(place: Callable[[Path], Path]) -> Callable[[World, Subject], Lift]:
    def do(world: World, subject: Subject) -> Lift:
        folder = place(world.target(subject))
        folder.mkdir(parents=True)
        return folder.rmdir

    return do


def _another_file_at_the_target(world: World, subject: Subject) -> Lift:
    target = world.target(subject)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    return target.unlink


def _same_file_at_the_target(world: World, subject: Subject) -> None:
    target = world.target(subject)
    target.parent.mkdir(parents=True)
    commit = world.hub.repositories[subject.repo_id].commit("main")
    assert commit is not None
    target.write_bytes(b"".join(commit.files[target.name].content.slices()))


def _folder_removed(world: World, subject: Subject) -> None:
    shutil.rmtree(world.target(subject).parent)


def _part_deleted(world: World, subject: Subject) -> None:
    part_path(world.target(subject)).unlink()


def _part_replaced(world: World, subject: Subject) -> None:
    """Like an editor: another file of the same size under the same name."""
    part = part_path(world.target(subject))
    fresh = part.with_name("edited")
    fresh.write_bytes(b"x" * part.stat().st_size)
    fresh.replace(part)


READ_ONLY = Doing("the folder loses its write permission", _folder_is_read_only)
FILE_FOR_FOLDER = Doing("a file is in place of the repository's folder", _file_for_folder)
LARGEST_FILE = Doing("the filesystem stores no file above 1 MB", _largest_file)
FOLDER_AT_TARGET = Doing("a folder is in place of the target", _folder_at(lambda target: target))
FOLDER_AT_PART = Doing("a folder is in place of the partial file", _folder_at(part_path))
FOLDER_AT_JOURNAL = Doing("a folder is in place of the journal", _folder_at(journal_path))
FOLDER_AT_LEASE = Doing("a folder is in place of the lease", _folder_at(lease_path))
OTHER_FILE = Doing("a different file is at the target", _another_file_at_the_target)
SAME_FILE = Doing("the same file is at the target", _same_file_at_the_target)
FOLDER_REMOVED = Doing("`rm -r` of the repository's folder", _folder_removed)
PART_DELETED = Doing("`rm` of the partial file", _part_deleted)
PART_REPLACED = Doing("another file moved over the partial one", _part_replaced)

# Left over from an earlier run ---------------------------------------------------------------------------------------


def _while_paused(change: Callable[[Path], None]) -> Callable[[World, Subject], None]:
    """Pause, change the files, resume."""

    def do(world: World, subject: Subject) -> None:
        target = world.target(subject)
        world.manager.sync.pause(subject.id)
        world.wait_until(lambda: not lease_path(target).exists(), "the pause")
        change(target)
        world.manager.sync.resume(subject.id)

    return do


def _edit(target: Path) -> None:
    with part_path(target).open("r+b") as file:
        file.write(b"edited by somebody")


def _tear(target: Path) -> None:
    journal = journal_path(target)
    journal.write_bytes(journal.read_bytes()[:-20])


def _flip(target: Path) -> None:
    journal = journal_path(target)
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 0x10
    journal.write_bytes(data)


def _overstate(target: Path) -> None:
    """A journal that records more bytes than exist: the partial file was truncated."""
    os.truncate(part_path(target), 1000)


PART_EDITED = Doing("the partial file's first bytes are overwritten while it is paused", _while_paused(_edit))
PART_CUT = Doing("the partial file is cut to 1000 bytes while it is paused", _while_paused(_overstate))
PART_GONE = Doing(
    "the partial file is deleted while it is paused", _while_paused(lambda target: part_path(target).unlink())
)
JOURNAL_TORN = Doing("the journal's last line is torn while it is paused", _while_paused(_tear))
JOURNAL_FLIPPED = Doing("a bit of the journal flips while it is paused", _while_paused(_flip))
JOURNAL_GONE = Doing(
    "the journal is deleted while it is paused", _while_paused(lambda target: journal_path(target).unlink())
)

# Leases --------------------------------------------------------------------------------------------------------------


def _lease(text: bytes, written_s: float | None = None) -> Callable[[World, Subject], None]:
    def do(world: World, subject: Subject) -> None:
        for name in subject.files:
            path = lease_path(world.target(subject, name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            if written_s is not None:
                os.utime(path, (written_s, written_s))

    return do


def _says(place: str, pid: int = 1) -> bytes:
    return json.dumps({"owner": "somebody", "place": place, "pid": pid, "beat": 7, "downloaded_bytes": 0}).encode()


LEASE_OF_EARLIER_BOOT = Doing(
    "a lease of this machine's earlier boot", _lease(_says(f"{socket.gethostname()} another-boot pid:[1]"), 1e9)
)
LEASE_EMPTY = Doing("an empty lease", _lease(b""))
LEASE_GARBLED = Doing("an unreadable lease", _lease(b"\0\xff{not json"))
LEASE_OF_THE_DEAD = Doing(
    "a lease of a process of this boot that has stopped",
    _lease(_says(f"{socket.gethostname()} {boot_id()} {Path('/proc/self/ns/pid').readlink()}", pid=2**22 + 1)),
)
LEASE_OF_ANOTHER_HOST = Doing("a lease of another host, which is silent", _lease(_says("elsewhere boot pid:[1]")))


def it_waited_once_for_all_files(world: World, subject: Subject) -> None:
    assert world.took_s < (len(subject.files) - 2) * SHORT.lease_s


def it_did_not_wait(world: World, subject: Subject) -> None:
    assert not world.has_said(subject, "another process is downloading this file")


# Lines ---------------------------------------------------------------------------------------------------------------


def _trickle(world: World, subject: Subject) -> None:
    world.cdn_line.set(Mode.TRICKLE)
    world.wait_for_bytes(subject, world.reached(subject) + 30)
    world.cdn_line.set(Mode.OPEN)


TRICKLE = Doing("storage line: limits every connection to ten bytes per second for a few seconds", _trickle)


def _storage_by_name(world: World, subject: Subject) -> Lift:
    here = StorageAt(f"http://localhost:{world.cdn_line.port}")
    placed = world.hub.faults.add(here, origin="hub", path=f"{subject.repo_id}/*", times=None)
    return lambda: world.hub.faults.remove(placed)


STORAGE_BY_NAME = Doing("the Hub redirects to another host", _storage_by_name)


def tls(server: Callable[[World], ssl.SSLContext], words: str) -> Doing:
    """The storage uses TLS with a certificate of the world's company, or of another."""

    def do(world: World, subject: Subject) -> Lift:
        line = Line(world.hub.cdn_url, server(world))
        placed = world.hub.faults.add(StorageAt(line.url), origin="hub", path=f"{subject.repo_id}/*", times=None)

        def lift() -> None:
            world.hub.faults.remove(placed)
            line.close()

        return lift

    return Doing(f"storage over TLS: {words}", do)


# Processes and clocks ------------------------------------------------------------------------------------------------


def _engine_killed(world: World, subject: Subject) -> None:
    world.engine().kill()


def _engine_stopped(world: World, subject: Subject) -> Lift:
    engine = world.engine()
    engine.send_signal(signal.SIGSTOP)
    return lambda: engine.send_signal(signal.SIGCONT)


def _clock_moved(by_s: float) -> Callable[[World, Subject], Lift]:
    def do(world: World, subject: Subject) -> Lift:
        patch, real = pytest.MonkeyPatch(), time.time
        patch.setattr(time, "time", lambda: real() + by_s)
        world.on_restore(patch.undo)
        return lambda: None

    return do


def _branch_moved(world: World, subject: Subject) -> None:
    """When the first shard is resolved, main moves to another commit with other files of the same names."""
    other = world.repository("demo/other", subject.files).commit("main")
    assert other is not None
    move = Then(lambda: world.hub.move_branch(subject.repo_id, "main", other.files.values()))
    world.hub.faults.add(move, origin="hub", path=f"{subject.repo_id}/*")


BRANCH_MOVED = Doing("main gets other files after the first request", _branch_moved)
ENGINE_KILLED = Doing("`kill -9` of the download process", _engine_killed)
ENGINE_STOPPED = Doing("`kill -STOP` of the download process, later `kill -CONT`", _engine_stopped)
CLOCK_BACK = Doing("the clock of kernel and hub is set back by an hour", _clock_moved(-3600))
CLOCK_AHEAD = Doing("the clock of kernel and hub is set ahead by two hours", _clock_moved(7200))
URLS_EXPIRED = Doing("every signed URL becomes invalid", lambda world, subject: world.hub.expire_signed_urls())
CONNECTIONS_DROPPED = Doing("every connection is closed", lambda world, subject: world.hub.drop_connections())
