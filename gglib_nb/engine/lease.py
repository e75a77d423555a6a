"""Which process may write a partial file, and whether a process still runs.

A lease is a small file beside the partial file that names its owner, with a heartbeat: its content changes every second.
Locks of the filesystem are not used, since `flock` does nothing on some network filesystems and huggingface_hub
lost files to that (its issue 4196).

* Taking: the file is created exclusively. Where it exists, its owner is known dead at once on the same machine (and in the
  same process namespace), and where it is of an earlier boot of this machine; otherwise it is taken over after it has been
  silent for a while by the watcher's own clock, so that the clocks of two machines need not agree. One that cannot be read
  belongs to no process; it is only given the time that writing it takes. Of an owner that a cluster reports as gone a few
  seconds of silence are enough; while it shows life, the report is not believed.
* Taking over: an own file is renamed over the old one, and counts after a moment if it is still there.
* Renewing: the owner writes its heartbeat into its own open file, so that an owner that has lost its lease writes into a
  file that no process reads. It looks at the path before every journal record and before the final rename.
* Fencing: a process that was stopped and continues finds its last heartbeat too old (`is_fresh`) and writes nothing before it
  has looked again. If it was stopped after that check, its write goes to a file that is not its successor's (`has_other_writer`).
"""

import contextlib
import errno
import math
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, Self

import msgspec

from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import delete_partial, journal_path, lease_path, part_path, read_small, status_of
from gglib_nb.system import clock_s, is_running, open_file, process_place, process_start, write_at

# Padded to one length, so that a heartbeat replaces the whole of the one before.
_LENGTH: Final = 512
_SETTLE_S: Final = 0.2
# Longer than it takes to create a lease and to write it.
_WRITING_S: Final = 1.0
# Several heartbeats: an owner that is reported gone and writes none in this time is.
_GONE_S: Final = 3.0


class LeaseLostError(Exception):
    """Another process may own the partial file; nothing is written before that is known."""


class Owner(Value, frozen=True):
    """A process, wherever it runs.

    A process id means something on its machine, in its boot and in its process namespace only, and is given again after its process
    is gone. So an owner has all four and the time at which it began. Processes of another machine cannot be seen from here.
    """

    place: str  # machine, boot and process namespace
    pid: int  # its id there
    start: str = ""  # what distinguishes it from a later process with the same id; empty unknown

    @classmethod
    def this_process(cls) -> Self:
        """The one that asks."""
        return cls(process_place(), os.getpid(), process_start(os.getpid()))

    @property
    def host(self) -> str:
        """Name of its machine."""
        return self.place.partition(" ")[0]

    def is_of_other_boot(self, other: Self) -> bool:
        """Whether both state in which boot they run, and it is not the same."""
        mine, theirs = (f"{one.place}  ".split(" ")[1] for one in (self, other))
        return bool(mine and theirs) and mine != theirs

    def is_gone(self, written_s: float) -> bool:
        """Whether it is known to be gone, with the Unix time of its last sign of life; False where that cannot be seen from here."""
        here = Owner(process_place(), os.getpid())
        if self.place == here.place:
            return not is_running(self.pid) or (bool(self.start) and process_start(self.pid) not in (self.start, ""))
        # Two machines may have the same name, but a living owner, wherever it is, has written since this boot.
        is_of_earlier_boot = self.host == here.host and self.is_of_other_boot(here)
        return is_of_earlier_boot and written_s < time.time() - clock_s()


def owner_name(pid: int | None = None, place: str | None = None) -> str:
    """The name of a process where engines tell each other about leases; by default of this one."""
    return f"{os.getpid() if pid is None else pid} {process_place() if place is None else place}"


class LeaseState(msgspec.Struct, frozen=True):
    """What a lease says; fields of a newer version are ignored."""

    owner: str  # unique to one holder at one time
    place: str  # machine, boot and process namespace of the owner
    pid: int
    beat: int  # grows with every sign of life
    downloaded_bytes: int  # how far it is
    has_other_writer: bool = False  # a process before the owner may still have the partial file open for writing

    def is_owner_dead(self, written_s: float = math.inf) -> bool:
        """Whether the owner is known to be gone, with the Unix time of its last sign of life."""
        return Owner(self.place, self.pid).is_gone(written_s)


_decoder: Final = msgspec.json.Decoder(LeaseState)


def read_lease(path: Path) -> LeaseState | None:
    """The lease there; None without one, or where it cannot be read."""
    data = read_small(path)
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        return None if data is None else _decoder.decode(data)
    return None


class SeenLease(msgspec.Struct, frozen=True):
    """What a lease has said (None without one, or where it could not be read) since the first look at it, by `clock_s`."""

    state: LeaseState | None
    since_s: float

    @classmethod
    def of(cls, target: Path) -> Self:
        """What the lease of a target says now."""
        return cls(read_lease(lease_path(target)), clock_s())


class Lease:
    """The lease of one partial file, as one process sees it."""

    def __init__(
        self, path: Path, lease_s: float, seen: SeenLease | None = None, gone_owners: Collection[str] = ()
    ) -> None:
        """Look at it, take nothing.

        Args:
            path: Of the lease file.
            lease_s: Without a heartbeat for so long it may be taken over.
            seen: What was seen earlier, so that its silence since then counts; None: nothing.
            gone_owners: Names (`owner_name`) of processes that are reported gone.
        """
        self.owner = secrets.token_hex(8)
        # A process that had the lease before may still run, and write to the partial file that it has open. A process that resumes that
        # file copies it to another one and then sets this to False.
        self.has_other_writer = False
        self._place = process_place()
        self._path = path
        self._lease_s = lease_s
        self._gone_owners = gone_owners
        self._fd = -1
        self._beat = 0
        self._renewed_s = 0.0
        self._seen = seen if seen is not None and seen.state is not None else None

    @property
    def is_held(self) -> bool:
        """Whether it was acquired and not given back; `is_ours` tells whether another process has taken it since."""
        return self._fd >= 0

    def try_acquire(self) -> LeaseState | None:
        """Take it if it is free or its owner is gone: None when it is ours; otherwise what the present owner says. May raise `OSError`."""
        with contextlib.suppress(FileExistsError):
            self._create(self._path)
            return None
        if os.path.isdir(self._path):  # noqa: PTH112  # `Path.is_dir` may raise
            raise IsADirectoryError(errno.EISDIR, "there is a folder in its place", str(self._path))
        state, found = read_lease(self._path), status_of(self._path)
        is_dead = state is not None and found is not None and state.is_owner_dead(found.st_mtime)
        self.has_other_writer = not is_dead or (state is not None and state.has_other_writer)
        if (is_dead or self._is_silent(state)) and self._take_over(state):
            return None
        return state or LeaseState("", "", 0, 0, 0)

    def _is_silent(self, state: LeaseState | None) -> bool:
        """Whether it has said the same for too long; one that cannot be read may just be being written."""
        if self._seen is None or state != self._seen.state:
            self._seen = SeenLease(state, clock_s())
            return False
        limit_s = self._lease_s
        if state is None:
            limit_s = min(limit_s, _WRITING_S)
        elif owner_name(state.pid, state.place) in self._gone_owners:
            limit_s = min(limit_s, _GONE_S)
        return clock_s() - self._seen.since_s > limit_s

    def is_ours(self) -> bool:
        """Whether we hold the lease and its path still names us; asks the filesystem."""
        state = read_lease(self._path) if self.is_held else None
        return state is not None and state.owner == self.owner

    def is_fresh(self) -> bool:
        """Whether the last heartbeat is so recent that no process can have taken it over; asks only the clock."""
        return clock_s() - self._renewed_s < self._lease_s * 0.7

    def renew(self, downloaded_bytes: int) -> bool:
        """Give a sign of life; False when the lease is no longer ours."""
        if not self.is_ours():
            return False
        self._write(downloaded_bytes)
        return True

    def release(self) -> None:
        """Give it back, if it is ours; harmless when repeated.

        As long as another process may write to the partial file that is there, the lease stays as that of a dead process.
        """
        if not self.is_held:
            return
        try:
            if self.is_ours() and self.has_other_writer and os.path.lexists(self._path.with_suffix("")):
                self._write(0, pid=0)
            elif self.is_ours():
                self._path.unlink(missing_ok=True)
        finally:  # whatever the folder permits by now
            self._close()

    def _create(self, path: Path) -> None:
        """Create a lease of ours; raises `FileExistsError` where there is one."""
        self._fd = open_file(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        try:
            self._write(0)
        except OSError:
            self._close()
            path.unlink(missing_ok=True)
            raise

    def _take_over(self, stale: LeaseState | None) -> bool:
        mine = self._path.with_name(f"{self._path.name}.{self.owner}")
        self._create(mine)
        try:
            if read_lease(self._path) == stale:
                mine.replace(self._path)
                time.sleep(_SETTLE_S)
                self._write(0)
        except FileNotFoundError:
            pass  # another process cleaned up after us: it has the lease
        finally:
            mine.unlink(missing_ok=True)
        if not self.is_ours():
            self._close()
        return self.is_held

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _write(self, downloaded_bytes: int, pid: int | None = None) -> None:
        self._beat += 1
        pid = os.getpid() if pid is None else pid
        state = LeaseState(self.owner, self._place, pid, self._beat, downloaded_bytes, self.has_other_writer)
        write_at(self._fd, msgspec.json.encode(state).ljust(_LENGTH), 0)
        self._renewed_s = clock_s()


def delete_unowned(target: Path, lease_s: float) -> None:
    """Delete what a partial download of the target left, unless a process is at work on it. Raises `OSError` where it cannot."""
    if any(os.path.lexists(path) for path in (part_path(target), journal_path(target), lease_path(target))):
        lease = Lease(lease_path(target), lease_s)
        if lease.try_acquire() is None:
            delete_partial(target)
            lease.release()
