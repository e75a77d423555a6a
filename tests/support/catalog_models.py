"""Registered models for tests that show or handle them: short to write, complete, and the same on every run."""

from dataclasses import replace
from typing import Any

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.model import FileLook, Looks, Model
from gglib_nb.domain.names import DownloadId

SHA = "a" * 64


def stored(target: str, size_bytes: int = 1000, **changes: Any) -> StoredFile:
    """A verified file."""
    name = target.rpartition("/")[2]
    file = StoredFile(target, name, "shard", size_bytes, SHA, True, 111, True, {}, verified_at_s=1000.0)
    return replace(file, **changes)


def model(text: str = "owner/repo:Q4_K_M", *files: StoredFile, **changes: Any) -> Model:
    """A model with one file, or with these."""
    id_ = DownloadId.parse(text)
    files = files or (stored(f"/models/{id_.repo_id}/{id_.quantization}.gguf"),)
    return replace(Model(id_, "c" * 40, id_.quantization, files, 1000.0), **changes)


def untouched(*models: Model) -> Looks:
    """The observed state of unchanged model files."""
    return {file.target: FileLook(file.size_bytes, file.mtime_ns) for each in models for file in each.files}
