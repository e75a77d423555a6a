"""The manifest of a bundle: a folder that carries models to a machine without a network.

A bundle is laid out like a models folder, `<owner>/<repo>/<path in repo>`, with `gglib-bundle.json` in it. A manifest
comes from an unknown disk, so every name and number in it is checked when it is read.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from gglib_nb.domain.places import target_path
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import RequestError

MANIFEST_NAME: Final = "gglib-bundle.json"
LONGEST_MANIFEST_BYTES: Final = 16 * 1024**2
_FORMAT: Final = 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_KINDS: Final = frozenset({"shard", "mmproj", "imatrix", "adapter", "vocab", "draft", "other"})
_MOST_PARTS: Final = 10_000


class BundledFile(Struct, frozen=True):
    """One file of a model."""

    path_in_repo: str  # its path in the repository; in the bundle it has the same below `<owner>/<repo>/`
    kind: str  # `shard`, or the kind of companion
    size_bytes: int
    sha256: str
    # Sizes of the parts in which it is stored (`<path>.part1of3`, ...), because the file system of the bundle cannot
    # hold it in one piece; empty if it is in one piece.
    part_bytes: tuple[int, ...] = ()
    is_verified: bool = True  # whether that digest is the one the Hub states, and not only the one the file had

    @property
    def stored_paths(self) -> tuple[str, ...]:
        """Paths in the repository's folder under which it is stored, in order."""
        count = len(self.part_bytes)
        return tuple(f"{self.path_in_repo}.part{number + 1}of{count}" for number in range(count)) or (
            self.path_in_repo,
        )


class BundledModel(Struct, frozen=True):
    """One model."""

    id: str  # as in the catalog of the machine it comes from
    commit_sha: str | None  # the commit its files come from; None: unknown
    label: str | None  # quantization label; None if the files carry none
    licence: str | None  # as the repository or the GGUF header states it; None: unknown
    card: str | None  # path in the repository's folder of its model card; None if there was none to take
    files: tuple[BundledFile, ...]  # shards in their order, then companions

    @property
    def download_id(self) -> DownloadId:
        """The id as a value."""
        return DownloadId.parse(self.id)

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.size_bytes for file in self.files)


class BundleManifest(Struct, frozen=True):
    """The models of a bundle, each completely written and verified."""

    models: tuple[BundledModel, ...] = ()
    format: int = _FORMAT

    def with_model(self, model: BundledModel) -> "BundleManifest":
        """The manifest with one more model; one of the same id is replaced."""
        others = tuple(one for one in self.models if one.id != model.id)
        return BundleManifest((*others, model))


def encode_manifest(manifest: BundleManifest) -> bytes:
    """The manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> BundleManifest:
    """The manifest that `encode_manifest` wrote.

    Raises:
        RequestError: It is invalid, from a newer version, or names something that is not allowed in a bundle.
    """
    try:
        manifest = msgspec.json.decode(data, type=BundleManifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{MANIFEST_NAME} is not the manifest of a bundle. Export the bundle again, into another folder."
        ) from error
    if manifest.format != _FORMAT:
        raise RequestError(
            f"{MANIFEST_NAME} has format {manifest.format}; this gglib_nb reads format {_FORMAT}. Update gglib_nb."
        )
    for model in manifest.models:
        _check(model)
    return manifest


def _check(model: BundledModel) -> None:
    repo_id = model.download_id.repo_id
    seen: set[str] = set()
    names = [name for file in model.files for name in (file.path_in_repo, *file.stored_paths)]
    for name in [*names, *([model.card] if model.card is not None else [])]:
        target_path(Path(), repo_id, name)  # refuses a path outside the repository's folder
    for file in model.files:
        is_sound = (
            _SHA256.fullmatch(file.sha256)
            and file.kind in _KINDS
            and 0 <= file.size_bytes < 1 << 63
            and len(file.part_bytes) <= _MOST_PARTS
            and all(size > 0 for size in file.part_bytes)
            and (not file.part_bytes or sum(file.part_bytes) == file.size_bytes)
            and (folded := str(PurePosixPath(file.path_in_repo)).casefold()) not in seen
        )
        if not is_sound:
            raise _faulty(f"has an invalid entry for {file.path_in_repo!r}")
        seen.add(folded)
    if not any(file.kind == "shard" for file in model.files):
        raise _faulty(f"lists no model file for {model.id}")
    if model.commit_sha is not None and not _COMMIT.fullmatch(model.commit_sha):
        raise _faulty(f"has an invalid commit for {model.id}")


def _faulty(what: str) -> RequestError:
    return RequestError(f"{MANIFEST_NAME} {what}. Export the bundle again.")
