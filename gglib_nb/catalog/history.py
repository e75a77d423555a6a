"""What ended in all kernels of the user: the newest downloads of the database, and no more of them.

Rows only; who writes and when is the caller's business.
"""

from collections.abc import Iterable
from typing import Final

from gglib_nb.catalog.connection import atomic
from gglib_nb.catalog.database import Database
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.history import MOST_REMEMBERED, PastDownload
from gglib_nb.domain.references import DownloadId


class History:
    """The downloads that ended last. Every method may be called from any thread, and from several processes at once.

    Every method raises `CatalogError`, in one sentence, when the database cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        """Opens nothing yet."""
        self._database: Final = database

    def add(self, ended: Iterable[PastDownload]) -> None:
        """Writes them down, each once however often it is told, and lets the oldest go where there are too many."""
        with self._database.open(is_light=True) as connection, atomic(connection):
            connection.executemany(_PUT, [_values(one) for one in ended])
            connection.execute(_DELETE_OLDEST, (MOST_REMEMBERED,))

    def newest(self) -> list[PastDownload]:
        """All that are remembered, the newest first; no database is made for the question."""
        if not self._database.path.exists():
            return []
        with self._database.open() as connection:
            return [_past(*row) for row in connection.execute(_SELECT)]

    def clear(self) -> int:
        """Forgets them all; returns how many there were."""
        with self._database.open() as connection:
            return connection.execute("DELETE FROM past_download").rowcount


_PUT: Final = """
    INSERT OR REPLACE INTO past_download (repo_id, quantization, revision, outcome, total_bytes, bytes_per_second,
                                          started_at_s, ended_at_s, was_present, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_DELETE_OLDEST: Final = """
    DELETE FROM past_download WHERE rowid NOT IN (
        SELECT rowid FROM past_download ORDER BY ended_at_s DESC, rowid DESC LIMIT ?)"""
_SELECT: Final = """
    SELECT repo_id, quantization, revision, outcome, total_bytes, bytes_per_second, started_at_s, ended_at_s,
           was_present, error
    FROM past_download ORDER BY ended_at_s DESC, rowid DESC"""


def _values(one: PastDownload) -> tuple[object, ...]:
    return (
        *(one.id.repo_id, one.id.quantization or "", one.id.revision or "", one.outcome.value, one.total_bytes),
        *(one.bytes_per_second, one.started_at_s, one.ended_at_s, one.was_present, one.error),
    )


def _past(
    repo_id: str,
    quantization: str,
    revision: str,
    outcome: str,
    total_bytes: int | None,
    bytes_per_second: float | None,
    started_at_s: float | None,
    ended_at_s: float,
    was_present: int,
    error: str,
) -> PastDownload:
    id_ = DownloadId(repo_id, quantization or None, revision or None)
    times = (started_at_s, ended_at_s)
    return PastDownload(id_, DownloadStatus(outcome), total_bytes, bytes_per_second, *times, bool(was_present), error)
