"""The user's one SQLite file: opened for one piece of work at a time, in the shape of this version.

Models and queues are tables of it (`store`, `queues`). A file that SQLite finds damaged is moved aside, never deleted,
and a new one begun: what it held is on the disk as files, and a queue that cannot be read must not stop another.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from gglib_nb.catalog.connection import connected, network_filesystem
from gglib_nb.catalog.migrations import migrate
from gglib_nb.errors import CatalogDamagedError, CatalogError
from gglib_nb.system import open_file

_log: Final = logging.getLogger("gglib_nb")
_COMPANIONS: Final = ("-wal", "-shm", "-journal")
# Longer than a few renames take; whoever was killed between them must not keep the others waiting.
_MOVING_S: Final = 10.0


class Database:
    """The file. Every method may be called from any thread, and from several processes at once.

    Args:
        path: Where it is; it and its folder are created at the first use, not before.
        busy_timeout_s: How long a piece of work waits for another program's lock.

    Attributes:
        path: As given.
        moved_aside: Where a damaged file was moved to by this process; None where none was.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self.path: Final = path
        self.moved_aside: Path | None = None
        self._busy_timeout_s: Final = busy_timeout_s

    @cached_property
    def network(self) -> str | None:
        """The kind of network filesystem it is on; None on a local one."""
        return network_filesystem(self.path.parent.resolve())

    @contextmanager
    def open(self, *, is_light: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection to the file in this version's shape; closed at the end.

        Args:
            is_light: What is written may be lost by a power cut (not by a kill), so nobody waits for the disk.

        Raises:
            CatalogError: It could not be opened, or what was done with it failed. A damaged one has been moved aside:
                to do the same once more begins a new one.
        """
        looked_at = _identity(self.path)
        try:
            with connected(self.path, use_wal=self.network is None, busy_timeout_s=self._busy_timeout_s) as connection:
                if is_light:
                    connection.execute("PRAGMA synchronous = NORMAL")
                migrate(connection)
                yield connection
        except CatalogDamagedError as error:
            if looked_at is not None:
                self._move_aside(looked_at, error)
            raise

    def _move_aside(self, damaged: tuple[int, int], error: CatalogError) -> None:
        """Moves the damaged file, unless another process has done so meanwhile and a new one stands in its place."""
        guard = self.path.with_name(f"{self.path.name}.moving")
        with suppress(OSError):
            if time.time() - guard.stat().st_mtime > _MOVING_S:
                guard.unlink()
        with suppress(OSError):
            os.close(open_file(guard, os.O_CREAT | os.O_EXCL))
            try:
                if _identity(self.path) == damaged:
                    self.moved_aside = self._move(time.strftime("%Y-%m-%dT%H-%M-%S"))
                    _log.warning("%s It was kept as %s.", error, self.moved_aside)
            finally:
                guard.unlink(missing_ok=True)

    def _move(self, when: str) -> Path:
        number = 0
        while (aside := self.path.with_name(_aside_name(self.path.name, when, number))).exists():
            number += 1
        self.path.replace(aside)
        for suffix in _COMPANIONS:
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).replace(aside.with_name(aside.name + suffix))
        return aside


def _aside_name(name: str, when: str, number: int) -> str:
    return f"{name}.damaged-{when}" + (f"-{number}" if number else "")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells the file there from any other; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
