"""Which process may write a partial file.

A lease is a small file beside it that says who owns it, with a heartbeat: its content changes every second. Locks
of the filesystem are not used, since `flock` does nothing on some network filesystems and huggingface_hub
lost files to that (its issue 4196).

* Taking: the file is created exclusively. Where it exists, its owner is known dead at once on the same
  machine (and in the same process namespace), and where it is of an earlier boot of this machine; otherwise it is
  taken over after it has been silent for a while by the watcher's own clock, so that the clocks of two machines need
  not agree. One that says nothing readable is nobody's; it is only given the moment that writing it takes. Of an owner
  that a cluster reports as gone a few seconds of silence are enough; while it shows life, the report is not believed.
* Taking over: an own file is renamed over the old one, and counts after a moment if it is still there.
* Renewing: the owner writes its heartbeat into its own open file, so that an owner that has lost its lease writes into a
  file nobody reads. It looks at the path before every journal write and before the final rename.
* Fencing: a process that was stopped and goes on finds its last heartbeat too old (`is_fresh`) and writes
  nothing before it has looked again.
"""

import errno
import json
import os
import secrets
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from gglib_nb.engine.storage.owners import is_of_earlier_boot
from gglib_nb.system import clock_s, is_running, open_file, process_place, write_at

# Padded to one length, so that a heartbeat replaces the whole of the one before.
_LENGTH: Final = 512
_SETTLE_S: Final = 0.2
# Longer than it takes to create a lease and to write it.
_WRITING_S: Final = 1.0
# Several heartbeats: an owner that is reported gone and writes none in this time is.
_GONE_S: Final = 3.0


class LeaseLostError(Exception):
    """Another process may own the partial file; nothing is written before that is known."""


def owner_name(pid: int | None = None, place: str | None = None) -> str:
    """How a process is named where engines speak of each other's leases; by default this one."""
    return f"{os.getpid() if pid is None else pid} {process_place() if place is None else place}"


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What a lease says.

    Attributes:
        owner: Unique to one holder at one time.
        place: Machine, boot and process namespace of the owner.
        pid: Its process.
        beat: Grows with every sign of life.
        downloaded_bytes: How far it is.
    """

    owner: str
    place: str
    pid: int
    beat: int
    downloaded_bytes: int

    def is_owner_dead(self) -> bool:
        """Whether the owner is known to be gone; False where that cannot be seen from here."""
        return self.place == process_place() and not is_running(self.pid)


def read_lease(path: Path) -> LeaseState | None:
    """The lease there; None without one, or where it cannot be read."""
    try:
        return LeaseState(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class SeenLease:
    """What a watcher saw.

    Attributes:
        state: What the lease said; None without one, or where it could not be read.
        since_s: For how long it has said so, as `clock_s` at the first look.
    """

    state: LeaseState | None
    since_s: float

    @classmethod
    def at(cls, path: Path) -> Self:
        """What is to be seen there now."""
        return cls(read_lease(path), clock_s())


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
        self._path = path
        self._lease_s = lease_s
        self._gone_owners = gone_owners
        self._owner = secrets.token_hex(8)
        self._fd = -1
        self._beat = 0
        self._renewed_s = 0.0
        self._seen = seen or SeenLease(None, clock_s())
        self._unreadable_s: float | None = None

    def try_acquire(self) -> LeaseState | None:
        """Take it if it is free or its owner is gone.

        Returns:
            None when it is ours; otherwise what the present owner says.

        Raises:
            OSError: The folder cannot be written.
        """
        if self._create():
            return None
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder stands in its place", str(self._path))
        state = read_lease(self._path)
        is_free = self._is_long_unreadable() if state is None else self._is_silent(state) or self._is_dead(state)
        if is_free and self._take_over(state):
            return None
        return state or LeaseState("", "", 0, 0, 0)

    def _is_long_unreadable(self) -> bool:
        """Whether it is not just being written."""
        if self._unreadable_s is None:
            self._unreadable_s = clock_s()
            return False
        return clock_s() - self._unreadable_s > min(self._lease_s, _WRITING_S)

    def _is_silent(self, state: LeaseState) -> bool:
        self._unreadable_s = None
        if state != self._seen.state:
            self._seen = SeenLease(state, clock_s())
            return False
        is_gone = owner_name(state.pid, state.place) in self._gone_owners
        return clock_s() - self._seen.since_s > (min(_GONE_S, self._lease_s) if is_gone else self._lease_s)

    def _is_dead(self, state: LeaseState) -> bool:
        try:
            written_s = self._path.stat().st_mtime
        except OSError:
            return False
        return state.is_owner_dead() or is_of_earlier_boot(state.place, written_s)

    def is_ours(self) -> bool:
        """Whether the lease at the path still names us; asks the filesystem."""
        state = read_lease(self._path)
        return state is not None and state.owner == self._owner

    def is_fresh(self) -> bool:
        """Whether the last heartbeat is recent enough that nobody can have taken it over; asks only the clock."""
        return clock_s() - self._renewed_s < self._lease_s * 0.7

    def renew(self, downloaded_bytes: int) -> bool:
        """Give a sign of life; False when the lease is no longer ours."""
        if not self.is_ours():
            return False
        self._write(downloaded_bytes)
        return True

    def release(self) -> None:
        """Give it back, if it is ours."""
        if self._fd >= 0:
            try:
                if self.is_ours():
                    self._path.unlink(missing_ok=True)
            finally:  # whatever the folder permits by now
                os.close(self._fd)
                self._fd = -1

    def _create(self) -> bool:
        try:
            fd = open_file(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except FileExistsError:
            return False
        self._own(fd)
        return True

    def _take_over(self, stale: LeaseState | None) -> bool:
        mine = self._path.with_name(f"{self._path.name}.{self._owner}")
        self._own(open_file(mine, os.O_CREAT | os.O_EXCL | os.O_RDWR))
        if read_lease(self._path) == stale:
            mine.replace(self._path)
            time.sleep(_SETTLE_S)
            self._write(0)
        mine.unlink(missing_ok=True)
        if self.is_ours():
            return True
        os.close(self._fd)
        self._fd = -1
        return False

    def _own(self, fd: int) -> None:
        self._fd = fd
        self._write(0)

    def _write(self, downloaded_bytes: int) -> None:
        self._beat += 1
        state = LeaseState(self._owner, process_place(), os.getpid(), self._beat, downloaded_bytes)
        write_at(self._fd, json.dumps(asdict(state)).encode().ljust(_LENGTH), 0)
        self._renewed_s = clock_s()
