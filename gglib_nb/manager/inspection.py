"""`inspect`: reads the headers of a model, from its local files or, before a download, from the Hub in a few requests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.gguf import FILE_WINDOW_BYTES, ReadBytes, TensorTable, read_tensors
from gglib_nb.domain.inspection import Inspection, inspection_of
from gglib_nb.domain.model import Model
from gglib_nb.domain.plan import RepoListing
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.variants import Variant
from gglib_nb.engine.disk import open_regular
from gglib_nb.errors import GgufError, HubUnavailableError, StorageError
from gglib_nb.system import read_at

if TYPE_CHECKING:
    from gglib_nb.hub.client import HubClient

# A header with a large vocabulary has up to 16 MB, and each request costs a round trip.
_WINDOW_BYTES: Final = 2 * 1024**2


@contextmanager
def reading(path: Path) -> Iterator[tuple[ReadBytes, int]]:
    """A function that reads a local file, and its size. Raises `OSError`."""
    fd = open_regular(path)
    try:
        yield lambda offset, length: read_at(fd, length, offset), os.fstat(fd).st_size
    finally:
        os.close(fd)


def remote_reader(hub: "HubClient", listing: RepoListing, path: str) -> ReadBytes:
    """A function that reads a file of a repository."""
    return partial(hub.read_range, listing.repo_id, listing.commit_sha, path)


def inspect_model(model: Model) -> Inspection:
    """The contents of a registered model's files."""
    tables = []
    for path in map(Path, model.paths):
        try:
            with reading(path) as (read, size_bytes):
                tables.append(_table(path.name, read, size_bytes))
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    return inspection_of(str(model.id), model.size_bytes, tables, model.paths[0])


def inspect_variant(hub: "HubClient", listing: RepoListing, variant: Variant) -> Inspection:
    """The contents of a variant of a repository, without downloading it: only headers are read."""
    if variant.size_bytes is None:
        raise HubUnavailableError(f"{listing.repo_id} does not state the size of {variant.files[0]}. Try again later.")
    files = list(zip(variant.files, variant.sizes, strict=True))
    if variant.split == "bytes":  # one GGUF file in pieces: its header is in the first
        files = [(variant.files[0], variant.size_bytes)]
    tables = [_table(path, remote_reader(hub, listing, path), size or 0, _WINDOW_BYTES) for path, size in files]
    return inspection_of(str(DownloadId(listing.repo_id, variant.key)), variant.size_bytes, tables)


def _table(name: str, read: ReadBytes, size_bytes: int, window_bytes: int = FILE_WINDOW_BYTES) -> TensorTable:
    try:
        return read_tensors(read, size_bytes, window_bytes=window_bytes)
    except GgufError as error:
        raise GgufError(f"{name}: {error}") from error
