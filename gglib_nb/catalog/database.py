"""The user's one SQLite file: one connection per thread, and SQLite's errors mapped to ours.

A connection stays open between uses, because closing the last one writes the whole log back to the file and waits for
the disk. It is never shared between threads or carried over a fork, and it is reopened if the file was replaced or
deleted. A file that SQLite reports as damaged is renamed, never deleted, and a new one is created: the models that it
recorded are on the disk as files, and an unreadable queue must not stop another one.

It knows nothing of models and queues; those are in `store`, `queues` and `history`.
"""

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Final

from msgspec import MsgspecError

from gglib_nb.catalog.migrations import migrate
from gglib_nb.errors import CatalogDamagedError, CatalogError

_log: Final = logging.getLogger("gglib_nb")
# How long an operation waits for another program's lock.
_BUSY_TIMEOUT_S: Final = 5.0
_COMPANIONS: Final = ("-wal", "-shm", "-journal")
# Longer than a few renames take; a process that was killed between them must not keep the others waiting.
_MOVING_S: Final = 10.0
# WAL needs memory shared by all processes that have the file open (sqlite.org/wal.html); hosts cannot share it.
_NETWORK_FILESYSTEMS: Final = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "fuse.vmhgfs-fuse"}
    | {"gpfs", "lustre", "nfs", "nfs4", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs"}
)
# Extended names (`SQLITE_IOERR_WRITE`) begin with the plain one.
_DAMAGED: Final = {"SQLITE_NOTADB": "it is not a database", "SQLITE_CORRUPT": "it is damaged"}
_NEXT_STEP: Final = {
    "SQLITE_BUSY": "another program has locked it; try again in a moment",
    "SQLITE_LOCKED": "another program has locked it; try again in a moment",
    "SQLITE_PROTOCOL": "its folder does not support file locks; set GGLIB_STATE_DIR to a local folder",
    "SQLITE_READONLY": "it cannot be written; set GGLIB_STATE_DIR to a folder that you can write",
    "SQLITE_CANTOPEN": "it cannot be opened or written; check its folder, or set GGLIB_STATE_DIR to another",
    "SQLITE_PERM": "permission to open it was denied; check its folder, or set GGLIB_STATE_DIR to another",
    "SQLITE_FULL": "its disk is full; free some space",
    "SQLITE_IOERR_SHMSIZE": "its disk is full; free some space",
    "SQLITE_IOERR": "its disk has an error; check the folder, or set GGLIB_STATE_DIR to another",
}

_of_parents: Final[list["_Connection"]] = []
"""Connections inherited by a fork: closing one here would remove the log of the parent."""


class _Connection:
    """The connection of one thread."""

    def __init__(self, path: Path, *, use_wal: bool) -> None:
        # Only its own thread uses it; any thread may close it.
        self.sqlite: Final = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self.in_use: Final = threading.Lock()
        self.pid: Final = os.getpid()
        self.is_light = False
        try:
            self.sqlite.execute("PRAGMA foreign_keys = ON")
            _set_journal(self.sqlite, "wal" if use_wal else "delete")
        except BaseException:
            self.sqlite.close()
            raise
        self.file: Final = _identity(path)

    def set_light(self, is_light: bool) -> None:
        if is_light is not self.is_light:
            self.sqlite.execute(f"PRAGMA synchronous = {'NORMAL' if is_light else 'FULL'}")
            self.is_light = is_light

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was never opened
            self.sqlite.close()


class Database:
    """The file. Every method may be called from any thread, and from several processes at once.

    Args:
        path: The path of the file; it and its folder are created at the first use.

    Attributes:
        path: As given.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._own: Final = threading.local()
        self._all: Final[weakref.WeakSet[_Connection]] = weakref.WeakSet()
        self._is_closed = False

    @cached_property
    def network(self) -> str | None:
        """The kind of network filesystem it is on; None on a local one."""
        return network_filesystem(Path(os.path.realpath(self.path.parent)))

    @contextmanager
    def open(self, *, is_light: bool = False) -> Iterator[sqlite3.Connection]:
        """This thread's connection, with the schema of this version; not to be used after the block.

        Args:
            is_light: A power failure (not a kill) may lose the writes, so they do not wait for the disk.

        Raises:
            CatalogError: The database could not be opened, or an operation in the block failed. A damaged file has been
                renamed: the next call creates a new one.
        """
        looked_at = _identity(self.path)
        try:
            own = self._connection()
            with own.in_use:
                own.set_light(is_light)
                migrate(own.sqlite)
                yield own.sqlite
        except (sqlite3.Error, OSError, UnicodeEncodeError, MsgspecError) as error:  # or a row that cannot be decoded
            self._drop()
            ours = catalog_error(error, self.path)
            if isinstance(ours, CatalogDamagedError) and looked_at is not None:
                self._move_aside(looked_at, ours)
            raise ours from error
        finally:
            if self._is_closed:
                self._drop()

    def close(self) -> None:
        """Closes unused connections; those in use are closed after their use."""
        self._is_closed = True
        for connection in list(self._all):
            if connection.pid == os.getpid() and connection.in_use.acquire(blocking=False):
                connection.sqlite.close()
                connection.in_use.release()
        self._own.__dict__.clear()

    def _connection(self) -> _Connection:
        own: _Connection | None = getattr(self._own, "connection", None)
        if own is not None and own.pid != os.getpid():
            _of_parents.append(own)
        elif own is not None and own.file == _identity(self.path) and own.file is not None:
            return own
        elif own is not None:
            self._drop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._own.connection = own = _Connection(self.path, use_wal=self.network is None)
        self._all.add(own)
        return own

    def _drop(self) -> None:
        if (own := self._own.__dict__.pop("connection", None)) is not None:
            own.sqlite.close()

    def _move_aside(self, damaged: tuple[int, int], error: CatalogError) -> None:
        """Renames the damaged file, unless another process has done so meanwhile and a new one is in its place."""
        guard = self.path.with_name(f"{self.path.name}.moving")
        with suppress(OSError):
            if time.time() - guard.stat().st_mtime > _MOVING_S:
                guard.unlink()
        with suppress(OSError):
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
            try:
                if _identity(self.path) == damaged:
                    _log.warning("%s It was kept as %s.", error, self._move())
            finally:
                guard.unlink(missing_ok=True)

    def _move(self) -> Path:
        name = f"{self.path.name}.damaged-{time.strftime('%Y-%m-%dT%H-%M-%S')}"
        names = chain([name], (f"{name}-{number}" for number in count(1)))
        aside = next(path for path in map(self.path.with_name, names) if not path.exists())
        # The file is renamed last: once its name is free, another thread creates one, whose log must not be moved.
        for suffix in _COMPANIONS:
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).replace(aside.with_name(aside.name + suffix))
        self.path.replace(aside)
        return aside


@contextmanager
def consistent(connection: sqlite3.Connection) -> Iterator[None]:
    """One state of the database for all reads of the block, without a lock that a writer would wait for."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def network_filesystem(folder: Path) -> str | None:
    """The kind of network filesystem that holds a folder; None if local or unknown."""
    import psutil  # takes 20 ms, which would slow the extension's start

    places: dict[Path, str] = {}
    with suppress(OSError):  # a sandbox without /proc
        places = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    mounted = next((kind for place in (folder, *folder.parents) if (kind := places.get(place))), "")
    return mounted if mounted in _NETWORK_FILESYSTEMS else None


def catalog_error(error: Exception, path: Path) -> CatalogError:
    """Says in one sentence what is wrong with the database and what to do next."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if (damage := next((words for known, words in _DAMAGED.items() if name.startswith(known)), None)) is not None:
        return CatalogDamagedError(
            f"The models database {path} cannot be used: {damage}. The file was renamed and a new one was created; "
            "the models' files are not affected."
        )
    steps = (step for known, step in _NEXT_STEP.items() if name.startswith(known))
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    said = f"{place}{getattr(error, 'strerror', None) or error}"
    otherwise = f"{said}; check the folder, or set GGLIB_STATE_DIR to another"
    return CatalogError(f"The models database {path} cannot be used: {next(steps, otherwise)}.")


def _set_journal(connection: sqlite3.Connection, wanted: str) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == wanted:
        return
    try:
        connection.execute(f"PRAGMA journal_mode = {wanted}")
    except sqlite3.OperationalError as error:
        # The switch does not wait for others. The mode belongs to the file, so the next process that opens it retries.
        if getattr(error, "sqlite_errorname", None) != "SQLITE_BUSY":
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    """The identity of the file at a path; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
