"""Which process may write a partial file, and whether a process still runs.

A lease is a small file beside the partial file that names its owner, with a heartbeat: its content changes every
second. Not a lock, because `flock` does nothing on some network filesystems (huggingface_hub's issue 4196).

* Acquiring: the file is created exclusively. One that exists is taken over at once if its owner is known to be dead (a
  process of this machine and process namespace, or of an earlier boot of this machine), otherwise once it has been
  silent for a while by the watcher's own clock, so that the clocks of two machines need not agree. For an owner that a
  cluster reports as gone, a few seconds are enough. The heartbeat of an unreadable lease (of another user, or of
  another version) is its modification time.
* Taking over: a new file is renamed over the old one, and counts if it is still at its path after a moment.
* Renewing: the owner writes its heartbeat into its own open file, so that an owner that has lost its lease writes into
  a file that no process reads. It checks the path before every journal record and before the final rename.
* Fencing: a process that was suspended and continues finds its last heartbeat too old (`is_fresh`) and writes nothing
  before it has checked again. If it was suspended after that check, its write goes to a file that its successor does
  not use (`has_other_writer`).
"""

import contextlib
import errno
import math
import os
import secrets
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec

from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import delete_partial, has_journal_or_lease, lease_path, part_path, read_small, status_of
from gglib_nb.system import clock_s, is_running, open_file, process_place, process_start, write_at

# Padded to one length, so that a heartbeat replaces the whole of the one before.
_LENGTH: Final = 512
_SETTLE_S: Final = 0.2
# Several heartbeats: an owner that is reported gone and writes none in this time counts as gone.
_GONE_S: Final = 3.0


class LeaseLostError(Exception):
    """Another process may own the partial file; nothing may be written until that is known."""


class Owner(Value, frozen=True):
    """A process on any machine: a process id is meaningful only at its place, and is reused after the process ends."""

    place: str  # machine, boot and process namespace
    pid: int  # its id there
    start: str = ""  # what distinguishes it from a later process with the same id; empty unknown

    @classmethod
    def this_process(cls) -> Self:
        """The calling process."""
        return cls(process_place(), os.getpid(), process_start(os.getpid()))

    @property
    def name(self) -> str:
        """Its name in messages between engines about leases."""
        return f"{self.pid} {self.place}"

    @property
    def host(self) -> str:
        """Name of its machine."""
        return self.place.partition(" ")[0]

    def is_of_other_boot(self, other: Self) -> bool:
        """Whether both state their boot, and the boots differ."""
        mine, theirs = (f"{one.place}  ".split(" ")[1] for one in (self, other))
        return bool(mine and theirs) and mine != theirs

    def is_gone(self, written_s: float = math.inf) -> bool:
        """Whether it is known to be gone, given the Unix time of its last heartbeat; False if that is unknown here."""
        if self.pid == 0:  # `Lease.release` wrote it; a process of the system may have that id
            return True
        here = Owner(process_place(), os.getpid())
        if self.place == here.place:
            return not is_running(self.pid) or (bool(self.start) and process_start(self.pid) not in (self.start, ""))
        # Two machines may have the same name, but a living owner, on any machine, has written since this boot.
        is_of_earlier_boot = self.host == here.host and self.is_of_other_boot(here)
        return is_of_earlier_boot and written_s < time.time() - clock_s()


class LeaseState(msgspec.Struct, frozen=True):
    """The content of a lease; fields of a newer version are ignored."""

    owner: str  # unique to one holder at one time
    place: str  # of the owner's process
    pid: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # the file may be another user's, and psutil raises for others
    beat: int  # grows with every heartbeat
    downloaded_bytes: int  # how many bytes it has
    has_other_writer: bool = False  # a process before the owner may still have the partial file open for writing

    @property
    def process(self) -> Owner:
        """The owner's process."""
        return Owner(self.place, self.pid)


_decoder: Final = msgspec.json.Decoder(LeaseState)


def read_lease(path: Path) -> LeaseState | None:
    """The lease at a path; None if there is none or it cannot be read."""
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        return _decoder.decode(read_small(path) or b"")
    return None


class SeenLease(msgspec.Struct, frozen=True):
    """A lease's content, unchanged since `since_s`, by `clock_s`."""

    state: LeaseState
    since_s: float


class Lease:
    """The lease of one partial file, from the point of view of one process.

    It may be taken over after `lease_s` without a heartbeat; since `seen` counts. `gone_owners` are reported gone.
    """

    def __init__(
        self, path: Path, lease_s: float, seen: SeenLease | None = None, gone_owners: Collection[str] = ()
    ) -> None:
        self.owner = secrets.token_hex(8)
        # A process that held it before may still run, and write to the partial file that it has open. A process that
        # resumes that file copies it to another one and then sets this to False.
        self.has_other_writer = False
        self._place = process_place()
        self._path = path
        self._lease_s = lease_s
        self._gone_owners = gone_owners
        self._fd = -1
        self._beat = 0
        self._renewed_s = 0.0
        self._seen = seen

    @property
    def is_held(self) -> bool:
        """Whether it was acquired and not released; `is_ours` tells whether another process has taken it since."""
        return self._fd >= 0

    def try_acquire(self) -> LeaseState | None:
        """Acquire it if it is free or its owner gone: None on success, else the owner's lease. May raise `OSError`."""
        with contextlib.suppress(FileExistsError):
            self._create(self._path)
            return None
        state, found = self._state(), status_of(self._path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "there is a folder in its place", str(self._path))
        is_dead = bool(state.owner) and found is not None and state.process.is_gone(found.st_mtime)
        self.has_other_writer = not is_dead or state.has_other_writer
        if (is_dead or self._is_silent(state)) and self._take_over(state):
            return None
        return state

    def _state(self) -> LeaseState:
        """The lease at the path; one that cannot be read has no owner, and its modification time is its heartbeat."""
        found = status_of(self._path)
        return read_lease(self._path) or LeaseState("", "", 0, 0 if found is None else found.st_mtime_ns, 0)

    def _is_silent(self, state: LeaseState) -> bool:
        """Whether it has not changed for too long."""
        if self._seen is None or state != self._seen.state:
            self._seen = SeenLease(state, clock_s())
            return False
        is_gone = state.process.name in self._gone_owners
        return clock_s() - self._seen.since_s > (min(self._lease_s, _GONE_S) if is_gone else self._lease_s)

    def is_ours(self) -> bool:
        """Whether this process holds the lease and its path still names this process; asks the filesystem."""
        state = read_lease(self._path) if self.is_held else None
        return state is not None and state.owner == self.owner

    def is_fresh(self) -> bool:
        """Whether the last heartbeat is so recent that no process can have taken it over; asks only the clock."""
        return clock_s() - self._renewed_s < self._lease_s * 0.7

    def renew(self, downloaded_bytes: int) -> bool:
        """Write a heartbeat; False if this process no longer holds the lease."""
        if is_ours := self.is_ours():
            self._write(downloaded_bytes)
        return is_ours

    def release(self) -> None:
        """Release it, if it is ours; may be called again.

        While another process may still write to the partial file, the lease remains, as that of a dead process; also in
        a folder that no longer permits changes, or the next attempt would wait for this one.
        """
        try:
            if self.is_ours():
                if not (self.has_other_writer and os.path.lexists(self._path.with_suffix(""))):
                    with contextlib.suppress(OSError):
                        self._path.unlink(missing_ok=True)
                        return
                self._write(0, pid=0)
        finally:
            self._close()

    def _create(self, path: Path) -> None:
        """Create our lease; raises `FileExistsError` if one exists."""
        self._fd = open_file(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        try:
            self._write(0)
        except OSError:
            self._close()
            path.unlink(missing_ok=True)
            raise

    def _take_over(self, stale: LeaseState) -> bool:
        mine = self._path.with_name(f"{self._path.name}.{self.owner}")
        self._create(mine)
        looked_s = clock_s()
        try:
            if self._state() == stale:
                mine.replace(self._path)
                self.has_other_writer |= clock_s() - looked_s >= _SETTLE_S  # another may have had it in between
                time.sleep(_SETTLE_S)
                self._write(0)
        except FileNotFoundError:
            pass  # another process deleted ours as a leftover: it has the lease
        finally:
            mine.unlink(missing_ok=True)
        if not self.is_ours():
            self._close()
        return self.is_held

    def _write(self, downloaded_bytes: int, pid: int | None = None) -> None:
        self._beat += 1
        pid = os.getpid() if pid is None else pid
        state = LeaseState(self.owner, self._place, pid, self._beat, downloaded_bytes, self.has_other_writer)
        write_at(self._fd, msgspec.json.encode(state).ljust(_LENGTH), 0)
        self._renewed_s = clock_s()

    def _close(self) -> None:
        if self.is_held:
            os.close(self._fd)
            self._fd = -1


def delete_unowned(target: Path, *, keeps_bytes: bool = False) -> None:
    """Delete our partial files of a target, if unused; `keeps_bytes` keeps one with a `.part`. May raise `OSError`."""
    if has_journal_or_lease(target):
        lease = Lease(lease_path(target), math.inf)
        if lease.try_acquire() is None:
            try:
                if not (keeps_bytes and os.path.lexists(part_path(target))):
                    delete_partial(target, lease.is_ours)
            finally:
                lease.release()
