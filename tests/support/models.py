"""Repositories for tests that need a size rather than a content, and what to compare a file with."""

import hashlib
from pathlib import Path

from gglib_nb.demo import DemoFile, DemoRepository
from gglib_nb.demo.content import noise_content

MB = 1_000_000


def noise_model(repo_id: str, size_bytes: int, quantization: str = "Q4_K_M") -> DemoRepository:
    """A repository with one file of noise under the name of a model."""
    name = repo_id.rpartition("/")[2]
    path = f"{name}-{quantization}.gguf"
    return DemoRepository(repo_id=repo_id, files=[DemoFile(path, noise_content(size_bytes, seed=repo_id))])


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
