"""`inspect`: reads the headers of a model, from its files here or, before a download, from the Hub in a few requests.

Plain blocking functions for a worker thread.
"""

import os
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.gguf import read_tensors
from gglib_nb.domain.gguf_tensors import TensorTable
from gglib_nb.domain.inspection import Inspection, inspection_of
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.model import Model
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.variants import Variant
from gglib_nb.errors import GgufError, HubUnavailableError, StorageError
from gglib_nb.system import open_file, read_at

# A header with a large vocabulary has up to 16 MB, and each request costs a round trip.
_WINDOW_BYTES: Final = 2 * 1024**2


class RangeReader(Protocol):
    """What is asked of a hub."""

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """A part of a file."""


def inspect_model(model: Model) -> Inspection:
    """What the files of a registered model contain.

    Raises:
        StorageError: A file is missing or cannot be read.
        GgufError: A file is not a GGUF file that can be read.
    """
    tables = [_of_file(Path(path)) for path in model.paths]
    return inspection_of(str(model.id), model.size_bytes, tables, model.paths[0])


def inspect_variant(hub: RangeReader, listing: RepoListing, variant: Variant) -> Inspection:
    """What a variant of a repository contains, without downloading it: only headers are read.

    Raises:
        HubError: The Hub refuses, or cannot be reached.
        HubUnavailableError: The Hub does not state the size of a file.
        GgufError: A file is not a GGUF file that can be read.
    """
    if variant.size_bytes is None:
        raise HubUnavailableError(f"{listing.repo_id} does not state the size of {variant.files[0]}. Try again later.")
    files = list(zip(variant.files, variant.sizes, strict=True))
    if variant.split == "bytes":  # one GGUF file in pieces: its header is in the first
        files = [(variant.files[0], variant.size_bytes)]
    tables = [_of_remote(hub, listing, path, size_bytes or 0) for path, size_bytes in files]
    return inspection_of(str(DownloadId(listing.repo_id, variant.key)), variant.size_bytes, tables)


def _of_remote(hub: RangeReader, listing: RepoListing, path: str, size_bytes: int) -> TensorTable:
    def read(offset: int, length: int) -> bytes:
        return hub.read_range(listing.repo_id, listing.commit_sha, path, offset, length)

    try:
        return read_tensors(read, size_bytes, window_bytes=_WINDOW_BYTES)
    except GgufError as error:
        raise GgufError(f"{path}: {error}") from error


def _of_file(path: Path) -> TensorTable:
    try:
        descriptor = open_file(path, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        size_bytes = os.fstat(descriptor).st_size
        return read_tensors(lambda offset, length: read_at(descriptor, length, offset), size_bytes)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except GgufError as error:
        raise GgufError(f"{path.name}: {error}") from error
    finally:
        os.close(descriptor)
