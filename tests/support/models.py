"""Repositories of one model, for tests that need a certain size, and the digest to compare a file with."""

import hashlib
from pathlib import Path

from gglib_nb.demo import DemoFile, DemoRepository
from tests.support.hub import make_repository

MB = 1_000_000


def one_model(repo_id: str, size_bytes: int, quantization: str = "Q4_K_M") -> DemoRepository:
    """A repository with one valid GGUF file of exactly this size."""
    name = repo_id.rpartition("/")[2]
    return make_repository(repo_id, {f"{name}-{quantization}.gguf": size_bytes})


def only_file(repository: DemoRepository) -> DemoFile:
    """The one file of a repository's main branch."""
    commit = repository.commit()
    assert commit is not None
    (file,) = commit.files.values()
    return file


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
