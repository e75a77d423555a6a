"""The registered models: domain values in and out of the database. SQL stands here and nowhere above.

It does not look at the models' files; whether they are still there is the caller's question.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Final, NamedTuple

from gglib_nb.catalog.connection import atomic, connected, consistent, network_filesystem
from gglib_nb.catalog.migrations import migrate
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
        path: The SQLite file; it and its folder are created at the first use, not before.
        busy_timeout_s: How long a call waits for another program's lock before it raises `CatalogError`.

    All methods raise `CatalogError`, in one sentence, when the database cannot be read or written.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._is_closed = False

    def register(self, model: Model) -> None:
        """Records a model; one of the same id is replaced.

        Models whose files were overwritten with other content by this one are forgotten: they are gone.
        """
        with self._open() as connection, atomic(connection):
            connection.execute("DELETE FROM model WHERE name = ?", (str(model.id),))
            for file in model.files:
                connection.execute(_DELETE_OVERWRITTEN, (file.target, file.sha256))
            row = connection.execute(_INSERT_MODEL, _model_values(model)).lastrowid
            for position, file in enumerate(model.files):
                connection.execute(_INSERT_FILE, (row, position, *_file_values(file, model.registered_at_s)))
            for position, host in enumerate(model.hosts):
                connection.execute(_INSERT_HOST, (row, position, host.host, host.models_directory))

    def models(self) -> list[Model]:
        """All registered models, the newest first."""
        with self._open() as connection, consistent(connection):
            files: dict[int, list[StoredFile]] = {}
            for model, *values in connection.execute(_SELECT_FILES):
                files.setdefault(model, []).append(_stored_file(*values))
            hosts: dict[int, list[HostFolder]] = {}
            for model, *host in connection.execute(_SELECT_HOSTS):
                hosts.setdefault(model, []).append(HostFolder(*host))
            rows = connection.execute(_SELECT_MODELS).fetchall()
        return [
            _model(*values, files=tuple(files.get(row, ())), hosts=tuple(hosts.get(row, ()))) for row, *values in rows
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

    def known_files(self, paths: Iterable[str | PathLike[str]]) -> dict[str, KnownFile]:
        """What was recorded about these files, by path; those that no model has are left out."""
        wanted = json.dumps([fspath(path) for path in paths])
        with self._open() as connection:
            rows = connection.execute(_SELECT_KNOWN, (wanted,)).fetchall()
        return {target: KnownFile(*values) for target, *values in rows}

    @property
    def notice(self) -> str | None:
        """What a person should know of the database's place; None when all is well."""
        if self._network is None:
            return None
        return (
            f"The models database is on a network filesystem ({self._network}), which cannot share a write-ahead "
            "log: kernels wait for each other. Set GGLIB_STATE_DIR to a local folder to avoid that."
        )

    def close(self) -> None:
        """Ends the use of the catalog: calls under way finish, later ones raise `CatalogError`."""
        self._is_closed = True

    @cached_property
    def _network(self) -> str | None:
        return network_filesystem(self.path.parent.resolve())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if self._is_closed:
            raise CatalogError("The catalog was closed; make a new manager.")
        use_wal = self._network is None
        with connected(self.path, use_wal=use_wal, busy_timeout_s=self._busy_timeout_s) as connection:
            migrate(connection)
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


# --- rows ---

_INSERT_MODEL: Final = """
    INSERT INTO model (name, repo_id, revision, quantization, commit_sha, label, registered_at_s)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_INSERT_FILE: Final = """
    INSERT INTO file (model, position, target, path_in_repo, kind, size_bytes, sha256, is_verified, verified_at_s,
                      mtime_ns, facts)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_HOST: Final = "INSERT INTO model_host (model, position, host, models_directory) VALUES (?, ?, ?, ?)"
_DELETE_OVERWRITTEN: Final = """
    DELETE FROM model WHERE id IN (SELECT model FROM file WHERE target = ? AND kind = 'shard' AND sha256 IS NOT ?)"""
_SELECT_MODELS: Final = """
    SELECT id, repo_id, revision, quantization, commit_sha, label, registered_at_s
    FROM model ORDER BY registered_at_s DESC, id DESC"""
_SELECT_FILES: Final = """
    SELECT model, target, path_in_repo, kind, size_bytes, sha256, is_verified, mtime_ns, facts
    FROM file ORDER BY model, position"""
_SELECT_HOSTS: Final = "SELECT model, host, models_directory FROM model_host ORDER BY model, position"
# Of two models that have one file, the one registered last comes last, and so is the one that counts.
_SELECT_KNOWN: Final = """
    SELECT target, size_bytes, mtime_ns, sha256
    FROM file WHERE target IN (SELECT value FROM json_each(?)) ORDER BY model"""


def _model_values(model: Model) -> tuple[str | float | None, ...]:
    id_ = model.id
    return (
        *(str(id_), id_.repo_id, id_.revision, id_.quantization),
        *(model.commit_sha, model.label, model.registered_at_s),
    )


def _file_values(file: StoredFile, registered_at_s: float) -> tuple[str | float | None, ...]:
    verified_at_s = registered_at_s if file.is_verified else None
    return (
        *(file.target, file.path_in_repo, file.kind, file.size_bytes, file.sha256),
        *(file.is_verified, verified_at_s, file.mtime_ns, json.dumps(file.facts)),
    )


def _model(
    repo_id: str,
    revision: str | None,
    quantization: str | None,
    commit_sha: str,
    label: str | None,
    registered_at_s: float,
    *,
    files: tuple[StoredFile, ...],
    hosts: tuple[HostFolder, ...],
) -> Model:
    return Model(DownloadId(repo_id, quantization, revision), commit_sha, label, files, registered_at_s, hosts)


def _stored_file(
    target: str,
    path_in_repo: str,
    kind: str,
    size_bytes: int,
    sha256: str | None,
    is_verified: int,
    mtime_ns: int,
    facts: str,
) -> StoredFile:
    """A file as the catalog has it: present by definition, since nothing is fetched for it any more."""
    return StoredFile(
        target, path_in_repo, kind, size_bytes, sha256, bool(is_verified), mtime_ns, True, json.loads(facts)
    )
