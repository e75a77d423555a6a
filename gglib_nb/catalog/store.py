"""The registered models and the ended downloads: domain values in and out of the database. All SQL is in this layer.

It does not check whether the models' files exist; the caller does.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import convert, json
from msgspec.structs import replace

from gglib_nb.catalog.database import Database, consistent
from gglib_nb.catalog.migrations import atomic
from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.library import BLOCK_BYTES
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import find_model
from gglib_nb.domain.stored import MOST_REMEMBERED, PastDownload
from gglib_nb.errors import CatalogError, ModelNotFoundError
from gglib_nb.system import exists

_COMMANDS_S: Final = 90 * 86_400.0  # older queues are not adopted


class Catalog:
    """The models database. Every method may be called from any thread, and from several processes at once.

    Args:
        place: The SQLite file, which is created at the first use, or its path.

    All methods raise `CatalogError` when the database cannot be read or written.
    """

    def __init__(self, place: Database | Path) -> None:
        self.database: Final = place if isinstance(place, Database) else Database(place)
        self._is_closed = False

    def register(self, model: Model) -> None:
        """Records a model; one of the same id is replaced.

        Models whose files this one has overwritten with other content are removed.
        """
        with self._writing() as connection:
            _register(connection, model)

    def models(self) -> list[Model]:
        """All registered models, the newest first."""
        with self._open() as connection, consistent(connection):
            files: dict[int, list[StoredFile]] = {}
            for model, *values in connection.execute(_SELECT_FILES):
                files.setdefault(model, []).append(_file_of(values))
            hosts: dict[int, list[HostFolder]] = {}
            for model, *host in connection.execute(_SELECT_HOSTS):
                hosts.setdefault(model, []).append(HostFolder(*host))
            found = connection.execute(_SELECT_MODELS).fetchall()
        return [_model_of(values, tuple(files.get(row, ())), tuple(hosts.get(row, ()))) for row, *values in found]

    def find(self, text: DownloadId | str, others: Callable[[], Sequence[Model]] = tuple) -> Model:
        """The model that a user's text names, as `find_model` interprets it.

        `others` returns more models, such as those of other programs; called only if no registered one matches. Raises
        `ModelNotFoundError`, and `AmbiguousQuantizationError` with the ids in `choices`.
        """
        models = self.models()
        try:
            return find_model(models, str(text))
        except ModelNotFoundError:
            return find_model([*models, *others()], str(text))

    def forget(self, id: DownloadId | str) -> None:  # noqa: A002 - the port's word
        """Removes the model of this whole id, if there is one; its files stay on the disk."""
        with self._writing() as connection:
            for table in ("model", "model_use"):
                connection.execute(f"DELETE FROM {table} WHERE name = ?", (str(id),))  # noqa: S608 - our names

    def update_files(self, files: Iterable[StoredFile]) -> None:
        """Updates the records of files, in every model that has them.

        A model that was registered again meanwhile, with other content at the same path, is not changed.
        """
        with self._writing() as connection:
            for file in files:
                values = (*(getattr(file, name) for name in _UPDATED), *_json_columns(file), file.target, file.sha256)
                connection.execute(_UPDATE_FILE, values)
                if file.wrong_ranges is None:
                    _keep_index(connection, file)

    def block_digests(self, sha256: str) -> str:
        """The short digests of the blocks of a content (`domain.library`), in hexadecimal; empty if unknown."""
        with self._open() as connection:
            found = connection.execute(_SELECT_INDEX, (sha256, BLOCK_BYTES)).fetchone()
        return "" if found is None else bytes(found[0]).hex()

    def note_check(self, model: DownloadId, *, at_s: float, latest_commit_sha: str, has_update: bool) -> None:
        """Records the result of a check for a newer version of a model."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE model SET checked_at_s = ?, latest_commit_sha = ?, has_update = ? WHERE name = ?",
                (at_s, latest_commit_sha, has_update, str(model)),
            )

    def note_use(self, model: DownloadId, at_s: float) -> None:
        """Records that a model was used: its path was asked for."""
        with self._open() as connection, atomic(connection):
            connection.execute("INSERT OR REPLACE INTO model_use VALUES (?, ?)", (str(model), at_s))

    def note_command(self, name: str, at_s: float) -> bool:
        """Records that the command of a download is being started; False if it was started before."""
        with self._open() as connection, atomic(connection):
            connection.execute("DELETE FROM started_command WHERE started_at_s < ?", (at_s - _COMMANDS_S,))
            row = (name, at_s)
            return connection.execute("INSERT OR IGNORE INTO started_command VALUES (?, ?)", row).rowcount > 0

    def uses(self) -> dict[str, float]:
        """When each model was last used, as Unix time by id, without those that were never used."""
        with self._open() as connection:
            return dict(connection.execute("SELECT name, used_at_s FROM model_use").fetchall())

    def remember(self, ended: Iterable[PastDownload]) -> None:
        """Records ended downloads, each once; removes the oldest if there are too many."""
        with self._open(is_light=True) as connection, atomic(connection):
            connection.executemany(_INSERT_PAST, [_past_values(one) for one in ended])
            connection.execute(_DELETE_OLDEST, (MOST_REMEMBERED,))

    def history(self) -> list[PastDownload]:
        """The recorded downloads of all kernels, the newest first; does not create the database."""
        if not exists(self.database.path):
            return []
        with self._open() as connection:
            return [_past_of(row) for row in connection.execute(_SELECT_PAST)]

    def clear_history(self) -> int:
        """Deletes them all; returns how many there were."""
        with self._open() as connection:
            return connection.execute("DELETE FROM past_download").rowcount

    def close(self) -> None:
        """Closes the catalog: calls in progress finish, later ones raise `CatalogError`."""
        self._is_closed = True
        self.database.close()

    @contextmanager
    def _open(self, *, is_light: bool = False) -> Iterator[sqlite3.Connection]:
        if self._is_closed:
            raise CatalogError("The models database is closed. Create a new manager.")
        with self.database.open(is_light=is_light) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction; at its end, records of contents that no file has are deleted."""
        with self._open() as connection, atomic(connection):
            yield connection
            connection.execute(_DELETE_UNUSED_INDEXES)


def known_files(models: Sequence[Model]) -> dict[str, StoredFile]:
    """The records of the models' files by path, from the newest model first, without files known to be wrong."""
    return {file.target: file for model in reversed(models) for file in model.files if file.wrong_ranges is None}


# --- writing ---


def _register(connection: sqlite3.Connection, model: Model) -> None:
    model = _with_what_was_known(connection, model)
    verified = {file.target: _verified_at_s(connection, file, model.registered_at_s) for file in model.files}
    connection.execute("DELETE FROM model WHERE name = ?", (str(model.id),))
    for file in model.files:
        connection.execute(_DELETE_OVERWRITTEN, (file.target, file.sha256))
    id_ = model.id
    named = (str(id_), id_.repo_id, id_.revision, id_.quantization, model.commit_sha or "")
    rest = (*(getattr(model, name) for name in _MODEL[4:]), json.encode(model.replaces).decode())
    row = connection.execute(_INSERT_MODEL, (*named, *rest)).lastrowid
    for position, file in enumerate(model.files):
        dated = replace(file, verified_at_s=verified[file.target])
        values = (*(getattr(dated, name) for name in _FILE), *_json_columns(dated))
        connection.execute(_INSERT_FILE, (row, position, *values))
        _keep_index(connection, file)
    for position, host in enumerate(model.hosts):
        connection.execute(_INSERT_HOST, (row, position, host.host, host.models_directory))


def _with_what_was_known(connection: sqlite3.Connection, model: Model) -> Model:
    """A model registered again keeps its origin, and its repository's last known state unless it has a newer one."""
    found = connection.execute(_SELECT_KNOWN_MODEL, (str(model.id),)).fetchone()
    if found is None or model.checked_at_s is not None:
        return model
    commit_sha, origin, checked_at_s, latest, has_update = found
    if latest == model.commit_sha:
        has_update = False
    elif commit_sha != model.commit_sha:
        checked_at_s = latest = has_update = None
    has_update = None if has_update is None else bool(has_update)
    return replace(model, origin=origin, checked_at_s=checked_at_s, latest_commit_sha=latest, has_update=has_update)


def _keep_index(connection: sqlite3.Connection, file: StoredFile) -> None:
    if file.block_digests and file.sha256 is not None:
        connection.execute(_INSERT_INDEX, (file.sha256, BLOCK_BYTES, bytes.fromhex(file.block_digests)))


def _verified_at_s(connection: sqlite3.Connection, file: StoredFile, registered_at_s: float) -> float | None:
    """When it was last hashed: from the file, from an earlier row of this file, or the time of registration."""
    if file.verified_at_s is not None or not file.is_verified:
        return file.verified_at_s
    found = connection.execute(_SELECT_VERIFIED_AT, (file.target, file.sha256, file.mtime_ns)).fetchone()
    earlier: float | None = found[0]
    return registered_at_s if earlier is None else earlier


# --- rows ---


def _json_columns(file: StoredFile) -> tuple[str, str | None]:
    wrong = None if file.wrong_ranges is None else json.encode(file.wrong_ranges).decode()
    return json.encode(file.facts).decode(), wrong


def _file_of(row: Sequence[Any]) -> StoredFile:
    """A row of `_SELECT_FILES`, after its model."""
    *plain, facts, wrong_ranges = row
    values = dict(zip(_FILE, plain, strict=True))
    return StoredFile(
        **values | {"is_verified": bool(values["is_verified"])},
        was_present=True,  # nothing more is downloaded for it
        facts=json.decode(facts),
        wrong_ranges=None if wrong_ranges is None else json.decode(wrong_ranges, type=tuple[tuple[int, int], ...]),
    )


def _model_of(row: Sequence[Any], files: tuple[StoredFile, ...], hosts: tuple[HostFolder, ...]) -> Model:
    """A row of `_SELECT_MODELS`, after its number."""
    repo_id, revision, quantization, commit_sha, *rest, has_update, replaces = row
    return Model(
        DownloadId(repo_id, quantization, revision),
        commit_sha or None,
        files=files,
        hosts=hosts,
        has_update=None if has_update is None else bool(has_update),
        replaces=json.decode(replaces, type=tuple[str, ...]),
        **dict(zip(_MODEL[4:-1], rest, strict=True)),
    )


def _past_of(row: Sequence[Any]) -> PastDownload:
    repo_id, tail, revision, *values = row
    id_ = {"repo_id": repo_id, "quantization": tail or None, "revision": revision or None}
    return convert({"id": id_, **dict(zip(_PAST, values, strict=True))}, PastDownload, strict=False)


def _past_values(one: PastDownload) -> tuple[object, ...]:
    id_ = one.id
    return (id_.repo_id, id_.quantization or "", id_.revision or "", *(getattr(one, name) for name in _PAST))


_MODEL: Final = (
    *("repo_id", "revision", "quantization", "commit_sha"),
    *("label", "registered_at_s", "origin", "checked_at_s", "latest_commit_sha", "has_update"),
)
_FILE: Final = (
    *("target", "path_in_repo", "kind", "size_bytes", "sha256", "is_verified", "verified_at_s", "mtime_ns"),
)
_PAST: Final = PastDownload.__struct_fields__[1:]  # after the id
_UPDATED: Final = ("size_bytes", "sha256", "is_verified", "verified_at_s", "mtime_ns")


def _insert(table: str, *columns: str, verb: str = "INSERT") -> str:
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_INSERT_MODEL: Final = _insert("model", "name", *_MODEL, "replaces")
_INSERT_FILE: Final = _insert("file", "model", "position", *_FILE, "facts", "wrong_ranges")
_INSERT_HOST: Final = _insert("model_host", "model", "position", "host", "models_directory")
_INSERT_INDEX: Final = _insert("content_index", "sha256", "block_bytes", "digests", verb="REPLACE")
_INSERT_PAST: Final = _insert("past_download", "repo_id", "quantization", "revision", *_PAST, verb="REPLACE")
_UPDATE_FILE: Final = f"""
    UPDATE file SET {", ".join(f"{name} = ?" for name in (*_UPDATED, "facts", "wrong_ranges"))}
    WHERE target = ? AND (sha256 IS NULL OR sha256 = ?)"""  # noqa: S608 - our names
_DELETE_OVERWRITTEN: Final = """
    DELETE FROM model WHERE id IN (SELECT model FROM file WHERE target = ? AND kind = 'shard' AND sha256 IS NOT ?)"""
_DELETE_UNUSED_INDEXES: Final = """
    DELETE FROM content_index WHERE sha256 NOT IN (SELECT sha256 FROM file WHERE sha256 IS NOT NULL)"""
_SELECT_MODELS: Final = f"SELECT id, {', '.join(_MODEL)}, replaces FROM model ORDER BY registered_at_s DESC, id DESC"  # noqa: S608
_SELECT_FILES: Final = f"SELECT model, {', '.join(_FILE)}, facts, wrong_ranges FROM file ORDER BY model, position"  # noqa: S608
_SELECT_HOSTS: Final = "SELECT model, host, models_directory FROM model_host ORDER BY model, position"
_SELECT_KNOWN_MODEL: Final = """
    SELECT commit_sha, origin, checked_at_s, latest_commit_sha, has_update FROM model WHERE name = ?"""
_SELECT_INDEX: Final = "SELECT digests FROM content_index WHERE sha256 = ? AND block_bytes = ?"
_SELECT_VERIFIED_AT: Final = """
    SELECT max(verified_at_s) FROM file WHERE target = ? AND sha256 IS ? AND mtime_ns = ? AND wrong_ranges IS NULL"""
_DELETE_OLDEST: Final = """
    DELETE FROM past_download WHERE rowid NOT IN (
        SELECT rowid FROM past_download ORDER BY ended_at_s DESC, rowid DESC LIMIT ?)"""
_SELECT_PAST: Final = f"""
    SELECT repo_id, quantization, revision, {", ".join(_PAST)} FROM past_download
    ORDER BY ended_at_s DESC, rowid DESC"""  # noqa: S608 - our names
