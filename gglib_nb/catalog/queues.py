"""The queues of all kernels in the user's database: each writes its own, sees the others, and takes up what is left.

Rows and transactions only. Whether a kernel still lives is the caller's question; this asks it under the write lock, so
that of two kernels that come at once one gets everything and the other nothing.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from gglib_nb.catalog.connection import atomic
from gglib_nb.catalog.database import Database
from gglib_nb.catalog.queue_rows import (
    download_from_json,
    download_to_json,
    is_below,
    limits_from_json,
    limits_to_json,
    progress_from_json,
    progress_to_json,
)
from gglib_nb.domain.download import DownloadStatus, ElsewhereDownload, QueuedDownload
from gglib_nb.domain.stored_queue import StoredDownload, StoredLimits, StoredQueue
from gglib_nb.domain.values import Value

_log: Final = logging.getLogger("gglib_nb")


class KernelRecord(Value, frozen=True):
    """Whose a queue is.

    Attributes:
        owner: Unique to one manager at one time.
        title: What a person calls it, such as its notebook's name; empty unknown.
        place: Machine, boot and process namespace.
        pid: Its process there.
        start: What tells the process from a later one with its id; empty unknown.
        models_directory: Where its downloads go, links followed.
        endpoint: The hub it asks.
        seen_at_s: Unix time of its last sign of life.
        is_released: It has let go of its queue: whoever comes may have it.
    """

    owner: str
    title: str
    place: str
    pid: int
    start: str
    models_directory: str
    endpoint: str
    seen_at_s: float = 0.0
    is_released: bool = False


IsGone = Callable[[KernelRecord], bool]
Describe = Callable[[KernelRecord], str]


class Queues:
    """The queue of one kernel among all. One thread at a time uses it, several processes may at once.

    Every method raises `CatalogError`, in one sentence, when the database cannot be read or written.
    """

    def __init__(self, database: Database, kernel: KernelRecord, models_directory: Path) -> None:
        """Makes nothing yet.

        Args:
            database: The user's file.
            kernel: Whose queue is written.
            models_directory: Its models folder by the name under which its downloads have it.
        """
        self._database: Final = database
        self._kernel: Final = kernel
        self._models_directory: Final = models_directory
        self._written: dict[str, tuple[StoredDownload, int]] | None = None
        """What the database has of this queue, by name; None where that is not known."""

    # One's own ---------------------------------------------------------------------------------------------------

    def write(self, queue: StoredQueue, items: Iterable[QueuedDownload], at_s: float) -> None:
        """Makes the database have this queue, and how far its live downloads are; writes only what changed."""
        progress = progress_to_json(items)
        # One that mends a model in another program's folder is not kept: what comes back may write below the models folder only.
        kept = [one for one in queue.downloads if is_below(one.plan, self._models_directory)]
        wanted = _with_positions(kept, self._written or {})
        written, self._written = self._written, None  # unknown, should it fail in the middle
        with self._database.open(is_light=True) as connection, atomic(connection):
            is_known = self._put_kernel(connection, queue, progress, at_s)
            before = written if is_known and written is not None else self._forget_rows(connection)
            gone = [(self._kernel.owner, name) for name in before.keys() - wanted.keys()]
            connection.executemany("DELETE FROM download WHERE owner = ? AND name = ?", gone)
            changed = [(name, *new) for name, new in wanted.items() if not _is_same(before.get(name), new)]
            connection.executemany(
                _PUT_DOWNLOAD, [self._row(name, stored, position) for name, stored, position in changed]
            )
        self._written = wanted

    def beat(self, items: Iterable[QueuedDownload], at_s: float) -> bool:
        """Gives a sign of life; False where the database knows nothing of this queue any more."""
        with self._database.open(is_light=True) as connection:
            values = (at_s, progress_to_json(items), self._kernel.owner)
            cursor = connection.execute("UPDATE kernel SET seen_at_s = ?, progress = ? WHERE owner = ?", values)
            return cursor.rowcount > 0

    def forget(self) -> None:
        """Removes this queue."""
        self._written = None
        with self._database.open() as connection:
            connection.execute("DELETE FROM kernel WHERE owner = ?", (self._kernel.owner,))

    def release(self) -> None:
        """Lets go of this queue: the next kernel takes it up."""
        with self._database.open() as connection:
            connection.execute("UPDATE kernel SET is_released = 1 WHERE owner = ?", (self._kernel.owner,))

    def _put_kernel(self, connection: sqlite3.Connection, queue: StoredQueue, progress: str, at_s: float) -> bool:
        """Writes the row of this kernel; whether there was one."""
        values = (at_s, queue.is_processing, limits_to_json(queue.limits), progress)
        if connection.execute(_UPDATE_KERNEL, (*values, self._kernel.owner)).rowcount:
            return True
        mine = self._kernel
        place = (mine.owner, mine.title, mine.place, mine.pid, mine.start, mine.models_directory, mine.endpoint)
        connection.execute(_INSERT_KERNEL, (*place, *values))
        return False

    def _forget_rows(self, connection: sqlite3.Connection) -> dict[str, tuple[StoredDownload, int]]:
        connection.execute("DELETE FROM download WHERE owner = ?", (self._kernel.owner,))
        return {}

    def _row(self, name: str, stored: StoredDownload, position: int) -> tuple[str, str, int, str]:
        detail = download_to_json(stored, self._models_directory)
        return self._kernel.owner, name, position, detail

    # Those of others ---------------------------------------------------------------------------------------------

    def others(self, is_gone: IsGone, describe: Describe) -> tuple[ElsewhereDownload, ...]:
        """The live downloads of other kernels with this models folder.

        Args:
            is_gone: Whether a kernel lives no more; its downloads are shown as left.
            describe: Who it is, for a person.
        """
        found: list[ElsewhereDownload] = []
        with self._database.open() as connection:
            rows = connection.execute(
                f"{_SELECT} AND progress != '[]' ORDER BY seen_at_s",
                (self._kernel.models_directory, self._kernel.owner),
            ).fetchall()
        for row in rows:
            record = _record(row)
            is_left = record.is_released or is_gone(record)
            found += progress_from_json(row[-1], describe(record), is_left=is_left)
        return tuple(found)

    def adopt(self, is_gone: IsGone, at_s: float) -> StoredQueue | None:
        """Makes the queues of kernels that are gone this one's, all at once; None where there is none to take.

        What ran comes first, then what waited, then the failures; each kernel's in its order, the kernel that was seen
        last at the end. Its are the limits.
        """
        if not self._left(is_gone):
            return None
        with self._database.open() as connection, atomic(connection):
            kernels = [(row, limits, runs) for row, limits, runs in _left_in(connection, self._kernel, is_gone)]
            if not kernels:
                return None  # another kernel was faster
            downloads = [one for row, _, _ in kernels for one in self._downloads_of(connection, row)]
            limits = _merged(limits_from_json(limits) for _, limits, _ in kernels)
            queue = StoredQueue(tuple(_in_order(downloads)), limits, any(runs for _, _, runs in kernels))
            self._put_kernel(connection, queue, "[]", at_s)
            mine = ((self._kernel.owner, row.owner) for row, _, _ in kernels)
            connection.executemany("UPDATE OR IGNORE download SET owner = ? WHERE owner = ?", mine)
            connection.executemany("DELETE FROM kernel WHERE owner = ?", [(row.owner,) for row, _, _ in kernels])
        self._written = None
        return queue

    def _left(self, is_gone: IsGone) -> bool:
        """Whether there is anything to adopt; without the write lock, since there hardly ever is."""
        with self._database.open() as connection:
            return bool(_left_in(connection, self._kernel, is_gone))

    def _downloads_of(self, connection: sqlite3.Connection, record: KernelRecord) -> Iterable[StoredDownload]:
        rows = connection.execute("SELECT detail FROM download WHERE owner = ? ORDER BY position", (record.owner,))
        for (detail,) in rows.fetchall():
            try:
                yield download_from_json(detail, self._models_directory)
            except ValueError:
                _log.warning("A download of an earlier kernel could not be read; what it fetched is kept.")


_SELECT: Final = """
    SELECT owner, title, place, pid, start, models_directory, endpoint, seen_at_s, is_released, limits, is_processing,
           progress
    FROM kernel WHERE models_directory = ? AND owner != ?"""
_UPDATE_KERNEL: Final = """
    UPDATE kernel SET seen_at_s = ?, is_processing = ?, limits = ?, progress = ?, is_released = 0 WHERE owner = ?"""
_INSERT_KERNEL: Final = """
    INSERT INTO kernel (owner, title, place, pid, start, models_directory, endpoint, is_released, seen_at_s,
                        is_processing, limits, progress)
    VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)"""
_PUT_DOWNLOAD: Final = "INSERT OR REPLACE INTO download (owner, name, position, detail) VALUES (?, ?, ?, ?)"


def _left_in(
    connection: sqlite3.Connection, mine: KernelRecord, is_gone: IsGone
) -> list[tuple[KernelRecord, str, bool]]:
    """Kernels with this one's models folder and hub that are gone, the one seen last at the end."""
    rows = connection.execute(
        f"{_SELECT} AND endpoint = ? ORDER BY seen_at_s", (mine.models_directory, mine.owner, mine.endpoint)
    ).fetchall()
    records = [(_record(row), row[9], bool(row[10])) for row in rows]
    return [one for one in records if one[0].is_released or is_gone(one[0])]


def _record(row: Sequence[object]) -> KernelRecord:
    *values, is_released = row[:9]
    record: Any = KernelRecord
    found: KernelRecord = record(*values, bool(is_released))  # as the table has them
    return found


def _with_positions(
    downloads: Iterable[StoredDownload], before: dict[str, tuple[StoredDownload, int]]
) -> dict[str, tuple[StoredDownload, int]]:
    """The downloads by name with a position each; one that still comes after its predecessor keeps its own."""
    placed: dict[str, tuple[StoredDownload, int]] = {}
    last = 0
    for stored in downloads:
        name = str(stored.plan.id)
        if name in placed:
            continue
        old = before.get(name)
        last = old[1] if old is not None and old[1] > last else last + 1
        placed[name] = (stored, last)
    return placed


def _is_same(old: tuple[StoredDownload, int] | None, new: tuple[StoredDownload, int]) -> bool:
    return old is not None and old[0] is new[0] and old[1] == new[1]


def _in_order(downloads: Sequence[StoredDownload]) -> list[StoredDownload]:
    def rank(stored: StoredDownload) -> int:
        return 2 if stored.status is DownloadStatus.FAILED else 0 if stored.was_active else 1

    return sorted(downloads, key=rank)


def _merged(all_limits: Iterable[StoredLimits]) -> StoredLimits:
    """Of each limit the one that was set in the kernel seen last."""
    merged = StoredLimits()
    for limits in all_limits:
        later = limits if limits.has_bandwidth_limit else merged
        merged = StoredLimits(
            limits.max_size or merged.max_size, later.has_bandwidth_limit, later.bandwidth_limit_bytes_per_second
        )
    return merged
