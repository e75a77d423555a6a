"""How the database file is opened, and how SQLite's refusals become ours. It knows nothing of models.

Every operation opens a connection of its own and closes it: that costs a fraction of a millisecond, and so no
connection is ever shared between threads, carried over a fork (SQLite forbids both without more care), or left
open when a kernel dies.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gglib_nb.errors import CatalogDamagedError, CatalogError

# WAL needs memory shared by all who have the file open (sqlite.org/wal.html); other hosts cannot share it.
_NETWORK_FILESYSTEMS: Final = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"}
    | {"gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
_NEXT_STEP: Final = {
    "SQLITE_BUSY": "another program holds it; try again in a moment",
    "SQLITE_LOCKED": "another program holds it; try again in a moment",
    "SQLITE_PROTOCOL": "its folder does not support file locks; set GGLIB_STATE_DIR to a local folder",
    "SQLITE_READONLY": "it may not be written; set GGLIB_STATE_DIR to a folder of yours",
    "SQLITE_CANTOPEN": "it cannot be opened or written; check its folder, or set GGLIB_STATE_DIR to another",
    "SQLITE_PERM": "it may not be opened; check its folder, or set GGLIB_STATE_DIR to another",
    "SQLITE_FULL": "its disk is full; make room",
    "SQLITE_IOERR": "its disk fails; check the folder, or set GGLIB_STATE_DIR to another",
}
_DAMAGED: Final = {
    "SQLITE_NOTADB": "it is not a database",
    "SQLITE_CORRUPT": "it is damaged",
}
_KEPT: Final = "The file is kept beside it under another name, and a new one is begun; models stay on the disk"


@contextmanager
def connected(path: Path, *, use_wal: bool, busy_timeout_s: float) -> Iterator[sqlite3.Connection]:
    """A connection to the database, which is created where there is none; closed at the end.

    Args:
        path: The database file; its folder is created too.
        use_wal: Whether readers and a writer may work at once, by a write-ahead log.
        busy_timeout_s: How long to wait for another program's lock.

    Raises:
        CatalogError: The database could not be opened, or what was done with it failed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            _set_journal(connection, "wal" if use_wal else "delete")
            yield connection
    except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
        raise catalog_error(error, path) from error


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it; the write lock is taken at once, so that reads in it stay true."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when the disk is full or fails
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def consistent(connection: sqlite3.Connection) -> Iterator[None]:
    """One state of the database for all reads of the block, without a lock that a writer would wait for."""
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def catalog_error(error: Exception, path: Path) -> CatalogError:
    """Says in one sentence what is wrong with the database and what to do next."""
    name = getattr(error, "sqlite_errorname", None) or ""
    # Extended names (`SQLITE_IOERR_WRITE`) begin with the plain one.
    if (damage := next((words for known, words in _DAMAGED.items() if name.startswith(known)), None)) is not None:
        return CatalogDamagedError(f"The models database {path} cannot be used: {damage}. {_KEPT}.")
    steps = (step for known, step in _NEXT_STEP.items() if name.startswith(known))
    return CatalogError(f"The models database {path} cannot be used: {next(steps, _plain(error))}.")


def network_filesystem(folder: Path) -> str | None:
    """The kind of network filesystem that holds a folder; None for a local one, or where that cannot be told."""
    import psutil  # costs 20 ms, which loading the extension does not pay

    places = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    mounted = next((kind for place in (folder, *folder.parents) if (kind := places.get(place))), "")
    return mounted if mounted in _NETWORK_FILESYSTEMS else None


def _set_journal(connection: sqlite3.Connection, wanted: str) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == wanted:
        return
    try:
        connection.execute(f"PRAGMA journal_mode = {wanted}")
    except sqlite3.OperationalError as error:
        # The switch does not wait for others. It belongs to the file, so the next one to open it makes it.
        if getattr(error, "sqlite_errorname", None) != "SQLITE_BUSY":
            raise


def _plain(error: Exception) -> str:
    return f"{error}; check the folder, or set GGLIB_STATE_DIR to another"
