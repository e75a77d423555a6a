"""A model and its files as rows of the database, and back. SQL and columns; knows no connection and no disk."""

import json
from typing import Any, Final

from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.references import DownloadId

INSERT_MODEL: Final = """
    INSERT INTO model (name, repo_id, revision, quantization, commit_sha, label, registered_at_s, origin, checked_at_s,
                       latest_commit_sha, has_update)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_FILE: Final = """
    INSERT INTO file (model, position, target, path_in_repo, kind, size_bytes, sha256, is_verified, verified_at_s,
                      mtime_ns, facts, wrong_ranges)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
DELETE_OVERWRITTEN: Final = """
    DELETE FROM model WHERE id IN (SELECT model FROM file WHERE target = ? AND kind = 'shard' AND sha256 IS NOT ?)"""
SELECT_MODELS: Final = """
    SELECT id, repo_id, revision, quantization, commit_sha, label, registered_at_s, origin, checked_at_s,
           latest_commit_sha, has_update
    FROM model ORDER BY registered_at_s DESC, id DESC"""
SELECT_FILES: Final = """
    SELECT model, target, path_in_repo, kind, size_bytes, sha256, is_verified, mtime_ns, facts, verified_at_s,
           wrong_ranges
    FROM file ORDER BY model, position"""
INSERT_HOST: Final = "INSERT INTO model_host (model, position, host, models_directory) VALUES (?, ?, ?, ?)"
SELECT_HOSTS: Final = "SELECT model, host, models_directory FROM model_host ORDER BY model, position"
# Of two models that have one file, the one registered last comes last, and so is the one that counts.
SELECT_KNOWN: Final = """
    SELECT target, size_bytes, mtime_ns, sha256
    FROM file WHERE wrong_ranges IS NULL AND target IN (SELECT value FROM json_each(?)) ORDER BY model"""
SELECT_KNOWN_MODEL: Final = """
    SELECT commit_sha, origin, checked_at_s, latest_commit_sha, has_update FROM model WHERE name = ?"""
INSERT_INDEX: Final = "INSERT OR REPLACE INTO content_index (sha256, block_bytes, digests) VALUES (?, ?, ?)"
SELECT_INDEX: Final = "SELECT digests FROM content_index WHERE sha256 = ? AND block_bytes = ?"
SELECT_VERIFIED_AT: Final = """
    SELECT max(verified_at_s) FROM file WHERE target = ? AND sha256 IS ? AND mtime_ns = ? AND wrong_ranges IS NULL"""


def model_values(model: Model) -> tuple[Any, ...]:
    """For `INSERT_MODEL`."""
    id_ = model.id
    return (
        *(str(id_), id_.repo_id, id_.revision, id_.quantization),
        *(model.commit_sha or "", model.label, model.registered_at_s),
        *(model.origin, model.checked_at_s, model.latest_commit_sha, model.has_update),
    )


def file_values(file: StoredFile) -> tuple[Any, ...]:
    """For `INSERT_FILE`, behind the model's row and the position."""
    return (
        *(file.target, file.path_in_repo, file.kind, file.size_bytes, file.sha256),
        *(file.is_verified, file.verified_at_s, file.mtime_ns, json.dumps(file.facts), ranges_text(file.wrong_ranges)),
    )


def model_of(
    repo_id: str,
    revision: str | None,
    quantization: str | None,
    commit_sha: str,
    *values: Any,  # noqa: ANN401 - the columns as they come
    files: tuple[StoredFile, ...],
    hosts: tuple[HostFolder, ...] = (),
) -> Model:
    """A row of `SELECT_MODELS`, behind its number."""
    label, registered_at_s, origin, checked_at_s, latest_commit_sha, has_update = values
    return Model(
        DownloadId(repo_id, quantization, revision),
        commit_sha or None,
        label,
        files,
        registered_at_s,
        origin,
        checked_at_s,
        latest_commit_sha,
        None if has_update is None else bool(has_update),
        hosts,
    )


def file_of(
    target: str,
    path_in_repo: str,
    kind: str,
    size_bytes: int,
    sha256: str | None,
    *values: Any,  # noqa: ANN401 - the columns as they come
) -> StoredFile:
    """A row of `SELECT_FILES`, behind its model: present by definition, since nothing is fetched for it any more."""
    is_verified, mtime_ns, facts, verified_at_s, wrong_ranges = values
    return StoredFile(
        *(target, path_in_repo, kind, size_bytes, sha256, bool(is_verified), mtime_ns, True, json.loads(facts)),
        verified_at_s=verified_at_s,
        wrong_ranges=None if wrong_ranges is None else tuple((start, end) for start, end in json.loads(wrong_ranges)),
    )


def ranges_text(ranges: tuple[tuple[int, int], ...] | None) -> str | None:
    """Wrong ranges as their column has them."""
    return None if ranges is None else json.dumps(ranges)
