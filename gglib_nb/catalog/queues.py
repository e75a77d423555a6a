"""The queues of all kernels in the user's database: each kernel writes its own, reads and adopts those of others.

Rows and transactions only. The caller decides whether a kernel still runs. The decision is made under the write lock,
so that one of two kernels gets everything and the other nothing. No time in a row is compared: `beat` only grows.

Targets are stored relative to the models folder and checked when they are read, so that no download leaves it.
Tokens and signed addresses have no field here.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gglib_nb.catalog.database import Database
from gglib_nb.catalog.migrations import atomic
from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.snapshot import ElsewhereDownload, QueuedDownload
from gglib_nb.domain.stored import StoredDownload, StoredLimits, StoredQueue
from gglib_nb.domain.values import Value, plain, restored
from gglib_nb.errors import GglibError
from gglib_nb.system import exists

_log: Final = logging.getLogger("gglib_nb")


class KernelRecord(Value, frozen=True):
    """The kernel that a queue belongs to."""

    owner: str  # unique to one manager at one time
    title: str  # its name for users, such as its notebook's; empty if unknown
    place: str  # machine, boot and process namespace
    pid: int  # its process there
    start: str  # what distinguishes the process from a later one with its id; empty if unknown
    models_directory: str  # where its downloads are stored, links resolved
    endpoint: str  # the hub it uses
    beat: float = 0.0  # changes with every heartbeat, and is larger than all earlier ones of any kernel
    is_released: bool = False  # it has released its queue: the next kernel may adopt it
    is_processing: bool = False  # whether its queue runs
    limits: str = "{}"  # those that a user set, as JSON
    progress: str = "[]"  # its live downloads, as JSON


IsGone = Callable[[KernelRecord], bool]
Describe = Callable[[KernelRecord], str]


class Queues:
    """The queue of one kernel among all. One thread at a time uses it, several processes may at once.

    Every method raises `CatalogError` when the database cannot be read or written.

    Args:
        database: The user's file.
        kernel: Whose queue is written.
        models_directory: Its models folder, by the path that its downloads use.
    """

    def __init__(self, database: Database, kernel: KernelRecord, models_directory: Path) -> None:
        self._database: Final = database
        self._kernel: Final = kernel
        self._models_directory: Final = models_directory
        # This queue in the database, by name; empty: unknown.
        self._written: dict[str, tuple[int, StoredDownload]] = {}

    # This kernel's -----------------------------------------------------------------------------------------------

    def write(self, queue: StoredQueue, items: Iterable[QueuedDownload]) -> None:
        """Stores this queue and the progress of its live downloads; writes only the rows that changed."""
        before, self._written = self._written, {}  # unknown if the transaction fails
        owner, folder, position = self._kernel.owner, self._models_directory, 0
        rows: dict[str, tuple[int, StoredDownload]] = {}
        for one in queue.downloads:
            name = str(one.plan.id)
            old_position, old = before.get(name, (0, None))
            if name not in rows and (one is old or is_kept(one.plan, folder)):
                position = max(old_position, position + 1)  # the rows behind one that left keep their positions
                rows[name] = position, one
        with self._database.open(is_light=True) as connection, atomic(connection):
            if not (self._put_kernel(connection, queue, _progress(items)) and before):
                before = {}
                connection.execute("DELETE FROM download WHERE owner = ?", (owner,))
            gone = [(owner, name) for name in before.keys() - rows.keys()]
            connection.executemany("DELETE FROM download WHERE owner = ? AND name = ?", gone)
            changed = [(name, *row) for name, row in rows.items() if row != before.get(name)]
            values = [(owner, name, at, to_row(one, folder)) for name, at, one in changed]
            connection.executemany(_PUT_DOWNLOAD, values)
        self._written = rows

    def beat(self, items: Iterable[QueuedDownload]) -> bool:
        """Writes a heartbeat; False if the database no longer has this queue."""
        with self._database.open(is_light=True) as connection:
            values = (_progress(items), self._kernel.owner)
            return connection.execute(_GIVE_BEAT, values).rowcount > 0

    def forget(self) -> None:
        """Removes this queue."""
        with self._database.open(is_light=True) as connection:
            connection.execute("DELETE FROM kernel WHERE owner = ?", (self._kernel.owner,))

    def release(self) -> None:
        """Releases this queue: the next kernel adopts it."""
        with self._database.open(is_light=True) as connection:
            connection.execute("UPDATE kernel SET is_released = 1 WHERE owner = ?", (self._kernel.owner,))

    def _put_kernel(self, connection: sqlite3.Connection, queue: StoredQueue, progress: str) -> bool:
        """Writes the row of this kernel; returns whether there was one."""
        values = (queue.is_processing, _text(queue.limits), progress)
        if connection.execute(_UPDATE_KERNEL, (*values, self._kernel.owner)).rowcount:
            return True
        mine = [getattr(self._kernel, name) for name in _KERNEL]
        connection.execute(_INSERT_KERNEL, (*mine, *values))
        return False

    # Other kernels' ----------------------------------------------------------------------------------------------

    def others(self, is_gone: IsGone, describe: Describe, is_silent: IsGone) -> tuple[ElsewhereDownload, ...]:
        """The live downloads of other kernels with this models folder.

        Args:
            is_gone: Whether a kernel has stopped; its downloads are shown as left by it.
            describe: Returns its name for users.
            is_silent: Whether its last heartbeat was too long ago; its downloads are shown without a rate.
        """
        found: list[ElsewhereDownload] = []
        with self._database.open() as connection:
            kernels = _kernels(connection, self._kernel, "AND progress != '[]'")
        for record in kernels:
            is_left = record.is_released or is_gone(record)
            found += _seen(record.progress, describe(record), is_left=is_left, is_silent=is_silent(record))
        return tuple(found)

    def targets(self) -> frozenset[str]:
        """The paths that the downloads of other kernels with this models folder write; failed ones do not count."""
        if not exists(self._database.path):
            return frozenset()
        with self._database.open() as connection:
            records = _kernels(connection, self._kernel, "")
            found = [one for record in records for one in self._downloads_of(connection, record)]
        live = (one.plan.targets for one in found if one.status is not DownloadStatus.FAILED)
        return frozenset[str]().union(*live)

    def adopt(self, is_gone: IsGone) -> StoredQueue | None:
        """Adopts the queues of all kernels that have stopped, at once; None if there are none.

        Running downloads come first, then waiting ones, then failures; each kernel's in its order, the kernel
        seen last at the end. The limits are that kernel's.
        """
        with self._database.open() as connection:
            if not self._left_in(connection, is_gone):
                return None  # without the write lock, because there is rarely an abandoned queue
            with atomic(connection):
                kernels = self._left_in(connection, is_gone)
                if not kernels:
                    return None  # another kernel was faster
                downloads = [one for record in kernels for one in self._downloads_of(connection, record)]
                limits = reduce(lambda earlier, later: later.over(earlier), [limits_of(one.limits) for one in kernels])
                downloads.sort(key=lambda one: 2 if one.status is DownloadStatus.FAILED else 0 if one.was_active else 1)
                queue = StoredQueue(tuple(downloads), limits, any(record.is_processing for record in kernels))
                self._put_kernel(connection, queue, "[]")
                mine = [(self._kernel.owner, record.owner) for record in kernels]
                connection.executemany("UPDATE OR IGNORE download SET owner = ? WHERE owner = ?", mine)
                connection.executemany("DELETE FROM kernel WHERE owner = ?", [(owner,) for _, owner in mine])
        self._written = {}
        return queue

    def _left_in(self, connection: sqlite3.Connection, is_gone: IsGone) -> list[KernelRecord]:
        """Stopped kernels with the same models folder and hub, the one seen last at the end."""
        kernels = _kernels(connection, self._kernel, "AND endpoint = ?", self._kernel.endpoint)
        return [record for record in kernels if record.is_released or is_gone(record)]

    def _downloads_of(self, connection: sqlite3.Connection, record: KernelRecord) -> Iterable[StoredDownload]:
        rows = connection.execute("SELECT detail FROM download WHERE owner = ? ORDER BY position", (record.owner,))
        for (detail,) in rows.fetchall():
            try:
                yield from_row(detail, self._models_directory)
            except ValueError:
                _log.warning("A download of a previous kernel could not be read. Its downloaded data is kept.")


_KERNEL: Final = ("owner", "title", "place", "pid", "start", "models_directory", "endpoint")
# Each heartbeat of any kernel gets a larger number than all before it.
_GIVE_BEAT: Final = "UPDATE kernel SET beat = (SELECT max(beat) + 1 FROM kernel), progress = ? WHERE owner = ?"
_SELECT: Final = f"""
    SELECT {", ".join(KernelRecord.__struct_fields__)} FROM kernel WHERE models_directory = ? AND owner != ?"""  # noqa: S608 - our names
_UPDATE_KERNEL: Final = """
    UPDATE kernel SET beat = (SELECT max(beat) + 1 FROM kernel), is_processing = ?, limits = ?, progress = ?,
                      is_released = 0 WHERE owner = ?"""
_INSERT_KERNEL: Final = f"""
    INSERT INTO kernel ({", ".join(_KERNEL)}, is_released, is_processing, limits, progress, beat)
    VALUES ({"?, " * len(_KERNEL)} 0, ?, ?, ?, (SELECT coalesce(max(beat), 0) + 1 FROM kernel))"""  # noqa: S608 - our names
_PUT_DOWNLOAD: Final = "INSERT OR REPLACE INTO download (owner, name, position, detail) VALUES (?, ?, ?, ?)"


def _kernels(connection: sqlite3.Connection, mine: KernelRecord, condition: str, *values: str) -> list[KernelRecord]:
    """Other kernels with the same models folder, the one seen last at the end."""
    found = connection.execute(f"{_SELECT} {condition} ORDER BY beat", (mine.models_directory, mine.owner, *values))
    return [KernelRecord(*row) for row in found.fetchall()]


# Values as JSON, and back ---------------------------------------------------------------------------------------------

_encoder: Final = msgspec.json.Encoder(enc_hook=plain)
_downloads: Final = msgspec.json.Decoder(StoredDownload, dec_hook=restored)
_limits: Final = msgspec.json.Decoder(StoredLimits)
_elsewhere: Final = msgspec.json.Decoder(tuple[ElsewhereDownload, ...])


def _text(value: Any) -> str:  # noqa: ANN401 - any of our values
    return _encoder.encode(value).decode()


def is_kept(plan: PlannedDownload, models_directory: Path) -> bool:
    """Whether everything that a download writes is below its folder, with names that are valid text.

    The repair of a model in another program's folder is not stored: what is restored writes only below it.
    """
    folder = _folder(plan, models_directory)
    try:
        "".join((plan.then or "", str(folder), *(_relative(target, folder) for target in plan.targets))).encode()
    except ValueError:
        return False
    return True


def to_row(stored: StoredDownload, models_directory: Path) -> str:
    """One download as stored."""
    folder = _folder(stored.plan, models_directory)
    files = tuple(replace(file, target=_relative(file.target, folder)) for file in stored.plan.files)
    return _text(replace(stored, plan=replace(stored.plan, files=files)))


def from_row(row: str, models_directory: Path) -> StoredDownload:
    """Reads a stored download; a `ValueError` if it is not valid, or would write outside its folder."""
    try:
        stored = _downloads.decode(row)
    except (msgspec.MsgspecError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a download that was kept") from error
    if stored.status not in (DownloadStatus.QUEUED, DownloadStatus.PAUSED, DownloadStatus.FAILED):
        raise ValueError("not a download that was kept: no download rests in that status")
    folder = _folder(stored.plan, models_directory)
    if "\0" in str(folder) or ".." in folder.parts or not folder.is_absolute():
        raise ValueError("not a download that was kept: its folder is not an absolute path")
    files = tuple(replace(file, target=_absolute(file.target, folder)) for file in stored.plan.files)
    return replace(stored, plan=replace(stored.plan, files=files))


def limits_of(text: str) -> StoredLimits:
    """The stored limits; an invalid one counts as not set."""
    try:
        return _limits.decode(text)
    except (msgspec.MsgspecError, GglibError, RecursionError):
        return StoredLimits()


def _folder(plan: PlannedDownload, models_directory: Path) -> Path:
    return models_directory if plan.to is None else Path(plan.to)


def _relative(target: str, folder: Path) -> str:
    return Path(target).relative_to(folder).as_posix()


def _absolute(relative: str, folder: Path) -> str:
    place = PurePosixPath(relative)
    # The same rule as when storing: below the folder, without `..`.
    if place.is_absolute() or ".." in place.parts or not place.parts or "\0" in relative or Path(relative).drive:
        raise ValueError("not a download that was kept: a target outside of its folder")
    return str(folder / place)


def _progress(items: Iterable[QueuedDownload]) -> str:
    """The live downloads, for other kernels to show."""
    return _text(msgspec.convert(list(items), list[ElsewhereDownload], from_attributes=True))


def _seen(progress: str, owner: str, *, is_left: bool, is_silent: bool) -> tuple[ElsewhereDownload, ...]:
    """Reads `progress`, as downloads of `owner`; empty if it cannot be read."""
    try:
        found = _elsewhere.decode(progress)
    except (msgspec.MsgspecError, RecursionError):
        return ()
    # A download of a stopped kernel that had every byte is complete.
    live = [one for one in found if not (is_left and one.status.is_active and one.progress == 1.0)]
    notice = None if is_left else "no news from its kernel"
    outdated = {"bytes_per_second": None, "eta_seconds": None, "notice": notice} if is_left or is_silent else {}
    return tuple(replace(one, owner=owner, is_left=is_left, **outdated) for one in live)
