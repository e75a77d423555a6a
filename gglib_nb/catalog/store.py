"""The registered models: domain values in and out of the database. SQL stands here and nowhere above.

It does not look at the models' files; whether they are still there is the caller's question.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, NamedTuple

from gglib_nb.catalog import rows
from gglib_nb.catalog.connection import atomic, consistent
from gglib_nb.catalog.database import Database
from gglib_nb.domain.content_index import BLOCK_BYTES
from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import AmbiguousQuantizationError, CatalogError, ModelNotFoundError

_BUSY_TIMEOUT_S: Final = 5.0


class KnownFile(NamedTuple):
    """What the catalog recorded about a file when it was registered.

    Attributes:
        size_bytes: Its size.
        mtime_ns: Its modification time; another one now means that somebody touched it.
        sha256: Its SHA-256 in hexadecimal; None where it was not computed.
    """

    size_bytes: int
    mtime_ns: int
    sha256: str | None


class Catalog:
    """The models database. Every method may be called from any thread, and from several processes at once.

    Args:
        place: The SQLite file, which is created at the first use and not before, or its path.
        busy_timeout_s: How long a call waits for another program's lock before it raises `CatalogError`; for a path.

    All methods raise `CatalogError`, in one sentence, when the database cannot be read or written.
    """

    def __init__(self, place: Database | Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> None:
        given = place if isinstance(place, Database) else Database(place, busy_timeout_s=busy_timeout_s)
        self.database: Final = given
        self._is_closed = False

    def register(self, model: Model) -> None:
        """Records a model; one of the same id is replaced.

        Models whose files were overwritten with other content by this one are forgotten: they are gone.
        """
        with self._open() as connection, atomic(connection):
            _register(connection, model)

    def models(self) -> list[Model]:
        """All registered models, the newest first."""
        with self._open() as connection, consistent(connection):
            files: dict[int, list[StoredFile]] = {}
            for model, *values in connection.execute(rows.SELECT_FILES):
                files.setdefault(model, []).append(rows.file_of(*values))
            hosts: dict[int, list[HostFolder]] = {}
            for model, *host in connection.execute(rows.SELECT_HOSTS):
                hosts.setdefault(model, []).append(HostFolder(*host))
            found = connection.execute(rows.SELECT_MODELS).fetchall()
        return [
            rows.model_of(*values, files=tuple(files.get(row, ())), hosts=tuple(hosts.get(row, ())))
            for row, *values in found
        ]

    def find(self, text: DownloadId | str) -> Model:
        """The model that a person means by a text; case does not matter.

        It is the id, or what of it is unique here: without its revision, the repository alone, the
        repository's name without owner, any part of the id.

        Raises:
            ModelNotFoundError: None answers to it; the text names near ones.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
        """
        wanted, models = str(text).strip(), self.models()
        for matches in (
            _is_id,
            _is_id_in_any_case,
            _is_id_without_revision,
            _is_repository,
            _is_display_name,
            _is_part,
        ):
            found = [model for model in models if matches(model, wanted)]
            if len(found) == 1:
                return found[0]
            if found:
                choices = tuple(str(model.id) for model in found)
                raise AmbiguousQuantizationError(
                    f"{wanted!r} could be several models; say which one: {', '.join(choices)}.", choices
                )
        raise _not_found(wanted, models)

    def forget(self, text: DownloadId | str) -> Model:
        """Removes a model from the catalog and returns it; its files stay on the disk.

        Raises:
            ModelNotFoundError: As `find`.
            AmbiguousQuantizationError: As `find`.
        """
        model = self.find(text)
        with self._open() as connection, atomic(connection):
            connection.execute("DELETE FROM model WHERE name = ?", (str(model.id),))
        return model

    def update_files(self, files: Iterable[StoredFile]) -> None:
        """Brings what is recorded of files up to date, in every model that has them.

        A model that was registered anew with other content under the same path meanwhile is left as it is.
        """
        with self._open() as connection, atomic(connection):
            for file in files:
                connection.execute(_UPDATE_FILE, _update_values(file))
                if file.wrong_ranges is None:
                    _keep_index(connection, file)

    def block_digests(self, sha256: str) -> str:
        """The short digests of the blocks of a content (`domain.content_index`), in hexadecimal; empty where unknown."""
        with self._open() as connection:
            found = connection.execute(rows.SELECT_INDEX, (sha256, BLOCK_BYTES)).fetchone()
        return "" if found is None else bytes(found[0]).hex()

    def note_check(self, model: DownloadId, *, at_s: float, latest_commit_sha: str, has_update: bool) -> None:
        """Records that somebody looked for a newer version of a model, and what was found."""
        with self._open() as connection, atomic(connection):
            connection.execute(
                "UPDATE model SET checked_at_s = ?, latest_commit_sha = ?, has_update = ? WHERE name = ?",
                (at_s, latest_commit_sha, has_update, str(model)),
            )

    def known_files(self, paths: Iterable[str | PathLike[str]]) -> dict[str, KnownFile]:
        """What was recorded about these files, by path; those that no model has, or that are known wrong, are left out."""
        wanted = json.dumps([fspath(path) for path in paths])
        with self._open() as connection:
            found = connection.execute(rows.SELECT_KNOWN, (wanted,)).fetchall()
        return {target: KnownFile(*values) for target, *values in found}

    @property
    def notice(self) -> str | None:
        """What a person should know of the database's place; None when all is well."""
        if self.database.network is None:
            return None
        return (
            f"The models database is on a network filesystem ({self.database.network}), which cannot share a write-ahead "
            "log: kernels wait for each other. Set GGLIB_STATE_DIR to a local folder to avoid that."
        )

    def close(self) -> None:
        """Ends the use of the catalog: calls under way finish, later ones raise `CatalogError`."""
        self._is_closed = True

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if self._is_closed:
            raise CatalogError("The catalog was closed; make a new manager.")
        with self.database.open() as connection:
            yield connection


# --- what a person may type for a model, from the plainest to the shortest ---


def _is_id(model: Model, text: str) -> bool:
    return str(model.id) == text


def _is_id_in_any_case(model: Model, text: str) -> bool:
    return str(model.id).casefold() == text.casefold()


def _is_id_without_revision(model: Model, text: str) -> bool:
    tails = (model.id.quantization, model.label)
    return text.casefold() in {str(DownloadId(model.id.repo_id, tail)).casefold() for tail in tails if tail}


def _is_repository(model: Model, text: str) -> bool:
    return model.id.repo_id.casefold() == text.casefold()


def _is_display_name(model: Model, text: str) -> bool:
    full = f"{model.id.repo_id.partition('/')[0]}/{text}"
    return any(matches(model, full) for matches in _FULL_FORMS)


def _is_part(model: Model, text: str) -> bool:
    return bool(text) and text.casefold() in str(model.id).casefold()


_FULL_FORMS: Final[tuple[Callable[[Model, str], bool], ...]] = (
    _is_id_in_any_case,
    _is_id_without_revision,
    _is_repository,
)


def _not_found(wanted: str, models: list[Model]) -> ModelNotFoundError:
    if not models:
        return ModelNotFoundError(
            f"There is no model {wanted!r}: none is registered yet. `%gguf queue owner/repo` downloads one."
        )
    ids = {str(model.id).casefold(): str(model.id) for model in models}
    near = [ids[key] for key in get_close_matches(wanted.casefold(), ids, n=3, cutoff=0.5)]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return ModelNotFoundError(f"There is no model {wanted!r}. {hint}`%gguf models` lists all.")


def _register(connection: sqlite3.Connection, model: Model) -> None:
    model = _with_what_was_known(connection, model)
    verified = {file.target: _verified_at_s(connection, file, model.registered_at_s) for file in model.files}
    connection.execute("DELETE FROM model WHERE name = ?", (str(model.id),))
    for file in model.files:
        connection.execute(rows.DELETE_OVERWRITTEN, (file.target, file.sha256))
    row = connection.execute(rows.INSERT_MODEL, rows.model_values(model)).lastrowid
    for position, file in enumerate(model.files):
        dated = replace(file, verified_at_s=verified[file.target])
        connection.execute(rows.INSERT_FILE, (row, position, *rows.file_values(dated)))
        _keep_index(connection, file)
    for position, host in enumerate(model.hosts):
        connection.execute(rows.INSERT_HOST, (row, position, host.host, host.models_directory))


def _with_what_was_known(connection: sqlite3.Connection, model: Model) -> Model:
    """Registered anew, it keeps where it came from; and what was last seen of its repository, unless it says so itself."""
    found = connection.execute(rows.SELECT_KNOWN_MODEL, (str(model.id),)).fetchone()
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
        connection.execute(rows.INSERT_INDEX, (file.sha256, BLOCK_BYTES, bytes.fromhex(file.block_digests)))


def _verified_at_s(connection: sqlite3.Connection, file: StoredFile, registered_at_s: float) -> float | None:
    """When it was last hashed: as it says, as an earlier row of this very file says, or just now."""
    if file.verified_at_s is not None or not file.is_verified:
        return file.verified_at_s
    earlier: float | None = connection.execute(
        rows.SELECT_VERIFIED_AT, (file.target, file.sha256, file.mtime_ns)
    ).fetchone()[0]
    return registered_at_s if earlier is None else earlier


_UPDATE_FILE: Final = """
    UPDATE file SET size_bytes = ?, sha256 = ?, is_verified = ?, verified_at_s = ?, mtime_ns = ?, facts = ?,
                    wrong_ranges = ?
    WHERE target = ? AND (sha256 IS NULL OR sha256 = ?)"""


def _update_values(file: StoredFile) -> tuple[Any, ...]:
    return (
        *(file.size_bytes, file.sha256, file.is_verified, file.verified_at_s, file.mtime_ns, json.dumps(file.facts)),
        *(rows.ranges_text(file.wrong_ranges), file.target, file.sha256),
    )
