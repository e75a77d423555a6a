"""The queues of all kernels in the user's database: each writes its own, sees the others, and adopts what is left.

Rows and transactions only. Whether a kernel still lives is the caller's question; this asks it under the write lock, so
that of two kernels that come at once one gets everything and the other nothing. No row has a time that is compared with a
clock: `beat` only grows.

Targets are stored relative to the models folder and checked when they are read, so that no row leads a download out of it.
Tokens and signed addresses have no field here.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from gglib_nb.catalog.database import Database
from gglib_nb.catalog.migrations import atomic
from gglib_nb.domain.download import DownloadStatus, ElsewhereDownload, PlannedDownload, QueuedDownload
from gglib_nb.domain.stored_queue import StoredDownload, StoredLimits, StoredQueue
from gglib_nb.domain.values import Value, plain
from gglib_nb.errors import GglibError, from_wire, to_wire

_log: Final = logging.getLogger("gglib_nb")


class KernelRecord(Value, frozen=True):
    """The kernel that a queue belongs to.

    Attributes:
        owner: Unique to one manager at one time.
        title: What a person calls it, such as its notebook's name; empty unknown.
        place: Machine, boot and process namespace.
        pid: Its process there.
        start: What distinguishes the process from a later one with its id; empty unknown.
        models_directory: Where its downloads go, links followed.
        endpoint: The hub it asks.
        beat: Changes with every sign of life, and is larger than those that any kernel gave before.
        is_released: It has given up its queue: the next kernel may have it.
    """

    owner: str
    title: str
    place: str
    pid: int
    start: str
    models_directory: str
    endpoint: str
    beat: float = 0.0
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

    def write(self, queue: StoredQueue, items: Iterable[QueuedDownload]) -> None:
        """Makes the database have this queue, and how far its live downloads are; writes only what changed."""
        kept = [one for one in queue.downloads if is_kept(one.plan, self._models_directory)]
        wanted = _with_positions(kept, self._written or {})
        written, self._written = self._written, None  # unknown, should it fail in the middle
        owner = self._kernel.owner
        with self._database.open(is_light=True) as connection, atomic(connection):
            is_known = self._put_kernel(connection, queue, _progress(items))
            before = written if is_known else None
            if before is None:
                connection.execute("DELETE FROM download WHERE owner = ?", (owner,))
                before = {}
            gone = [(owner, name) for name in before.keys() - wanted.keys()]
            connection.executemany("DELETE FROM download WHERE owner = ? AND name = ?", gone)
            changed = [(name, *new) for name, new in wanted.items() if not _is_same(before.get(name), new)]
            rows = [(owner, name, at, to_row(stored, self._models_directory)) for name, stored, at in changed]
            connection.executemany(_PUT_DOWNLOAD, rows)
        self._written = wanted

    def beat(self, items: Iterable[QueuedDownload]) -> bool:
        """Gives a sign of life; False where the database does not know this queue any more."""
        with self._database.open(is_light=True) as connection:
            values = (_progress(items), self._kernel.owner)
            return connection.execute(_GIVE_BEAT, values).rowcount > 0

    def forget(self) -> None:
        """Removes this queue."""
        self._written = None
        with self._database.open(is_light=True) as connection:
            connection.execute("DELETE FROM kernel WHERE owner = ?", (self._kernel.owner,))

    def release(self) -> None:
        """Gives up this queue: the next kernel adopts it."""
        with self._database.open(is_light=True) as connection:
            connection.execute("UPDATE kernel SET is_released = 1 WHERE owner = ?", (self._kernel.owner,))

    def _put_kernel(self, connection: sqlite3.Connection, queue: StoredQueue, progress: str) -> bool:
        """Writes the row of this kernel; whether there was one."""
        values = (queue.is_processing, _text(queue.limits), progress)
        if connection.execute(_UPDATE_KERNEL, (*values, self._kernel.owner)).rowcount:
            return True
        mine = self._kernel
        place = (mine.owner, mine.title, mine.place, mine.pid, mine.start, mine.models_directory, mine.endpoint)
        connection.execute(_INSERT_KERNEL, (*place, *values))
        return False

    # Those of others ---------------------------------------------------------------------------------------------

    def others(self, is_gone: IsGone, describe: Describe) -> tuple[ElsewhereDownload, ...]:
        """The live downloads of other kernels with this models folder.

        Args:
            is_gone: Whether a kernel lives no more; its downloads are shown as left.
            describe: What a person calls it.
        """
        found: list[ElsewhereDownload] = []
        with self._database.open() as connection:
            rows = connection.execute(
                f"{_SELECT} AND progress != '[]' ORDER BY beat", (self._kernel.models_directory, self._kernel.owner)
            ).fetchall()
        for row in rows:
            record = _record(row)
            is_left = record.is_released or is_gone(record)
            found += _seen(row[-1], describe(record), is_left=is_left)
        return tuple(found)

    def adopt(self, is_gone: IsGone) -> StoredQueue | None:
        """Makes the queues of kernels that are gone this one's, all at once; None where there is none to take.

        What ran comes first, then what waited, then the failures; each kernel's in its order, the kernel that was seen
        last at the end. Its are the limits.
        """
        with self._database.open() as connection:
            if not _left_in(connection, self._kernel, is_gone):
                return None  # without the write lock, since there hardly ever is
            with atomic(connection):
                kernels = _left_in(connection, self._kernel, is_gone)
                if not kernels:
                    return None  # another kernel was faster
                downloads = [one for row, _, _ in kernels for one in self._downloads_of(connection, row)]
                limits = _merged(limits_of(text) for _, text, _ in kernels)
                queue = StoredQueue(tuple(_in_order(downloads)), limits, any(runs for _, _, runs in kernels))
                self._put_kernel(connection, queue, "[]")
                mine = [(self._kernel.owner, row.owner) for row, _, _ in kernels]
                connection.executemany("UPDATE OR IGNORE download SET owner = ? WHERE owner = ?", mine)
                connection.executemany("DELETE FROM kernel WHERE owner = ?", [(row.owner,) for row, _, _ in kernels])
        self._written = None
        return queue

    def _downloads_of(self, connection: sqlite3.Connection, record: KernelRecord) -> Iterable[StoredDownload]:
        rows = connection.execute("SELECT detail FROM download WHERE owner = ? ORDER BY position", (record.owner,))
        for (detail,) in rows.fetchall():
            try:
                yield from_row(detail, self._models_directory)
            except ValueError:
                _log.warning("A download of a previous kernel could not be read. Its downloaded data is kept.")


# Each sign of life, of whichever kernel, gets a larger number than all before it.
_GIVE_BEAT: Final = "UPDATE kernel SET beat = (SELECT max(beat) + 1 FROM kernel), progress = ? WHERE owner = ?"
_SELECT: Final = """
    SELECT owner, title, place, pid, start, models_directory, endpoint, beat, is_released, limits, is_processing,
           progress
    FROM kernel WHERE models_directory = ? AND owner != ?"""
_UPDATE_KERNEL: Final = """
    UPDATE kernel SET beat = (SELECT max(beat) + 1 FROM kernel), is_processing = ?, limits = ?, progress = ?,
                      is_released = 0 WHERE owner = ?"""
_INSERT_KERNEL: Final = """
    INSERT INTO kernel (owner, title, place, pid, start, models_directory, endpoint, is_released, is_processing, limits,
                        progress, beat)
    VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, (SELECT coalesce(max(beat), 0) + 1 FROM kernel))"""
_PUT_DOWNLOAD: Final = "INSERT OR REPLACE INTO download (owner, name, position, detail) VALUES (?, ?, ?, ?)"


def _left_in(
    connection: sqlite3.Connection, mine: KernelRecord, is_gone: IsGone
) -> list[tuple[KernelRecord, str, bool]]:
    """Kernels with this one's models folder and hub that are gone, the one seen last at the end."""
    rows = connection.execute(
        f"{_SELECT} AND endpoint = ? ORDER BY beat", (mine.models_directory, mine.owner, mine.endpoint)
    ).fetchall()
    records = [(_record(row), row[9], bool(row[10])) for row in rows]
    return [one for one in records if one[0].is_released or is_gone(one[0])]


def _record(row: Sequence[Any]) -> KernelRecord:
    values: tuple[Any, ...] = (*row[:8], bool(row[8]))
    return KernelRecord(*values)


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


# Values as JSON, and back ----------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:  # noqa: ANN401 - msgspec calls it with what it does not know
    return to_wire(value) if isinstance(value, GglibError) else plain(value)


def _restored(kind: type, value: Any) -> Any:  # noqa: ANN401 - as above
    return from_wire(value) if kind is GglibError else value


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)
_downloads: Final = msgspec.json.Decoder(StoredDownload, dec_hook=_restored)
_limits: Final = msgspec.json.Decoder(StoredLimits)
_elsewhere: Final = msgspec.json.Decoder(tuple[ElsewhereDownload, ...])


def _text(value: Any) -> str:  # noqa: ANN401 - any of our values
    return _encoder.encode(value).decode()


def is_kept(plan: PlannedDownload, models_directory: Path) -> bool:
    """Whether everything that a download writes is below the models folder, by names that are text.

    The repair of a model in another program's folder is not kept: what comes back may write below the models folder only.
    """
    try:
        return all(_relative(target, models_directory).encode() for target in plan.targets)
    except ValueError:
        return False


def to_row(stored: StoredDownload, models_directory: Path) -> str:
    """One download as it is kept."""
    files = tuple(replace(file, target=_relative(file.target, models_directory)) for file in stored.plan.files)
    return _text(replace(stored, plan=replace(stored.plan, files=files)))


def from_row(row: str, models_directory: Path) -> StoredDownload:
    """The download that was kept.

    Raises:
        ValueError: It is none, or leads out of the models folder.
    """
    try:
        stored = _downloads.decode(row)
    except (msgspec.MsgspecError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a download that was kept") from error
    if stored.status not in (DownloadStatus.QUEUED, DownloadStatus.PAUSED, DownloadStatus.FAILED):
        raise ValueError("not a download that was kept: no download rests in that status")
    files = tuple(replace(file, target=_absolute(file.target, models_directory)) for file in stored.plan.files)
    return replace(stored, plan=replace(stored.plan, files=files))


def limits_of(text: str) -> StoredLimits:
    """The limits that were kept; what cannot be a limit counts as not set."""
    try:
        return _limits.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return StoredLimits()


def _relative(target: str, models_directory: Path) -> str:
    return Path(target).relative_to(models_directory).as_posix()


def _absolute(relative: str, models_directory: Path) -> str:
    place = PurePosixPath(relative)
    # The same rule as for what is kept: below the folder, and no way up.
    if place.is_absolute() or ".." in place.parts or not place.parts or "\0" in relative or Path(relative).drive:
        raise ValueError("not a download that was kept: a target outside of the models folder")
    return str(models_directory / place)


def _progress(items: Iterable[QueuedDownload]) -> str:
    """What other kernels may show of live downloads."""
    return _text([_as_seen(item) for item in items])


def _as_seen(item: QueuedDownload) -> ElsewhereDownload:
    shown = {
        name: getattr(item, name) for name in ElsewhereDownload.__struct_fields__ if name not in ("owner", "is_left")
    }
    return ElsewhereDownload(owner="", is_left=False, **shown)


def _seen(progress: str, owner: str, *, is_left: bool) -> tuple[ElsewhereDownload, ...]:
    """The same back, as downloads of `owner`; empty where it cannot be read."""
    try:
        found = _elsewhere.decode(progress)
    except (msgspec.MsgspecError, RecursionError):
        return ()
    if is_left:
        return tuple(
            replace(one, owner=owner, is_left=True, bytes_per_second=None, eta_seconds=None, notice=None)
            for one in found
        )
    return tuple(replace(one, owner=owner) for one in found)
