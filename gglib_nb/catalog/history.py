"""The most recent downloads that ended, in all kernels of the user.

Rows only; the caller decides when to write.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import convert

from gglib_nb.catalog.database import Database
from gglib_nb.catalog.migrations import atomic
from gglib_nb.domain.stored import MOST_REMEMBERED, PastDownload
from gglib_nb.system import exists


class History:
    """The downloads that ended last. Every method may be called from any thread, and from several processes at once.

    Every method raises `CatalogError` when the database cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    def add(self, ended: Iterable[PastDownload]) -> None:
        """Writes each of them once, and removes the oldest if there are too many."""
        with self._database.open(is_light=True) as connection, atomic(connection):
            connection.executemany(_PUT, [_values(one) for one in ended])
            connection.execute(_DELETE_OLDEST, (MOST_REMEMBERED,))

    def newest(self) -> list[PastDownload]:
        """All stored downloads, the newest first; does not create the database."""
        if not exists(self._database.path):
            return []
        with self._database.open() as connection:
            return [_past(row) for row in connection.execute(_SELECT)]

    def clear(self) -> int:
        """Deletes them all; returns how many there were."""
        with self._database.open() as connection:
            return connection.execute("DELETE FROM past_download").rowcount


_FIELDS: Final = PastDownload.__struct_fields__[1:]  # after the id
_COLUMNS: Final = ", ".join(("repo_id", "quantization", "revision", *_FIELDS))
_PUT: Final = f"INSERT OR REPLACE INTO past_download ({_COLUMNS}) VALUES ({', '.join('?' * (3 + len(_FIELDS)))})"  # noqa: S608
_DELETE_OLDEST: Final = """
    DELETE FROM past_download WHERE rowid NOT IN (
        SELECT rowid FROM past_download ORDER BY ended_at_s DESC, rowid DESC LIMIT ?)"""
_SELECT: Final = f"SELECT {_COLUMNS} FROM past_download ORDER BY ended_at_s DESC, rowid DESC"  # noqa: S608 - our names


def _past(row: Sequence[Any]) -> PastDownload:
    repo_id, tail, revision, *values = row
    id_ = {"repo_id": repo_id, "quantization": tail or None, "revision": revision or None}
    return convert({"id": id_, **dict(zip(_FIELDS, values, strict=True))}, PastDownload, strict=False)


def _values(one: PastDownload) -> tuple[object, ...]:
    id_ = one.id
    return (id_.repo_id, id_.quantization or "", id_.revision or "", *(getattr(one, name) for name in _FIELDS))
