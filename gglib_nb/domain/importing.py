"""The repository that a GGUF file in a folder comes from, as far as its path shows it; bundles of models.

Known are the Hugging Face cache (`models--<owner>--<repo>/snapshots/<commit>/<path>`), LM Studio and this package
(`<owner>/<repo>/<path>`), llama.cpp (`<owner>_<repo>_<file>` beside `manifest=<owner>=<repo>=<tag>.json`) and Ollama.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, count
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from gglib_nb.domain.library import SkippedFile
from gglib_nb.domain.model import LOCAL_OWNER, ModelSummary
from gglib_nb.domain.names import MODELSCOPE, DownloadId, check_repo_id, parse_path, target_path
from gglib_nb.domain.values import Value, plain
from gglib_nb.errors import InvalidRepoIdError, RequestError

_CACHED: Final = re.compile(r"models--([^/]+?)--([^/]+)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
VERSION: Final = re.compile(r"@([0-9a-f]{8})")
"""The folder of a new version, or of an old one that is kept, named by the first digits of its commit."""

_MANIFEST: Final = re.compile(r"manifest=([^=]+)=([^=]+)=[^=]*\.json")
_LONGEST_NAME: Final = 80


class FileOrigin(Value, frozen=True):
    """The repository (`owner/name`) and commit of a file, None if unknown, and its path there, else its name."""

    repo_id: str | None
    commit_sha: str | None
    path_in_repo: str


class ImportReport(Value, frozen=True):
    """The models that were imported, and the GGUF files that were skipped."""

    imported: tuple[ModelSummary, ...]
    skipped: tuple[SkippedFile, ...]


def origin_of(relative: PurePath, folder: PurePath, siblings: Iterable[str]) -> FileOrigin:
    """The origin of a file: its path below the imported, absolute folder, and the names of the files next to it."""
    parts = (folder / relative).parts
    for at, part in enumerate(parts[:-3]):
        if (found := _CACHED.fullmatch(part)) and parts[at + 1] == "snapshots":
            commit = parts[at + 2] if _COMMIT.fullmatch(parts[at + 2]) else None
            return FileOrigin(_checked(*found.groups()), commit, PurePath(*parts[at + 3 :]).as_posix())
    for found in filter(None, map(_MANIFEST.fullmatch, siblings)):
        prefix = f"{found[1]}_{found[2]}_"
        if relative.name.startswith(prefix) and (repo_id := _checked(*found.groups())):
            return FileOrigin(repo_id, None, relative.name.removeprefix(prefix))
    parts = relative.parts[relative.parts[0] == "models" :]
    if len(parts) > 2 and (repo_id := _checked(*parts[:2])):
        version = VERSION.fullmatch(parts[2]) if len(parts) > 3 else None
        inside = parts[2:] if version is None else parts[3:]
        return FileOrigin(repo_id, None if version is None else version[1], PurePath(*inside).as_posix())
    return FileOrigin(None, None, relative.name)


def _checked(owner: str, name: str) -> str | None:
    with suppress(InvalidRepoIdError):
        check_repo_id(f"{owner}/{name}")
        return f"{owner}/{name}"
    return None


def local_name(stem: str, taken: Iterable[str]) -> str:
    """A name for a model of unknown repository, made of its file's; with a number if that is taken."""
    plain = re.sub(r"([-.])\1+", r"\1", re.sub(r"[^A-Za-z0-9._-]+", "-", stem))
    plain = plain.strip("-._")[:_LONGEST_NAME].strip("-._") or "model"
    names, numbered = set(taken), (f"{plain}-{number}" for number in count(2))
    return next(name for name in chain([plain], numbered) if name not in names)


# Ollama's store: a manifest is a JSON file at `manifests/<registry>/<namespace>/<model>/<tag>`, with a list of layers;
# the content of a layer is `blobs/sha256-<digest>` (Ollama's docs and server/manifest.go).
LONGEST_MANIFEST_BYTES: Final = 1024**2
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_KINDS: Final = {"application/vnd.ollama.image.model": "shard", "application/vnd.ollama.image.projector": "mmproj"}
_REGISTRIES: Final = {"hf.co": "", "huggingface.co": "", "modelscope.cn": MODELSCOPE}  # what our ids begin with
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._]+")


class _Layer(Struct, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(Struct):
    layers: list[_Layer] = []


def ollama_files(manifest: bytes) -> tuple[tuple[str, str, int], ...]:
    """Kind, SHA-256 and size of the GGUF files that a manifest names; empty: it is no manifest, or names no model."""
    layers: list[_Layer] = []
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        layers = msgspec.json.decode(manifest, type=_Manifest).layers
    found = tuple(
        (_KINDS[layer.media_type], digest[1], layer.size)
        for layer in layers
        if layer.media_type in _KINDS and layer.size >= 0 and (digest := _DIGEST.fullmatch(layer.digest))
    )
    return found if any(kind == "shard" for kind, _, _ in found) else ()


def ollama_id(path: PurePosixPath) -> DownloadId | None:
    """The id of a model from the path of its manifest below `manifests/`; None: it is no such path.

    A model from the Hub or ModelScope keeps its repository (`hf.co/owner/name/Q4_K_M`); others are `local/<model>`.
    """
    if len(path.parts) != 4:
        return None
    registry, namespace, model, tag = path.parts
    if registry in _REGISTRIES:
        repo_id = _checked(f"{_REGISTRIES[registry]}{namespace}", model)
        return None if repo_id is None else DownloadId(repo_id, None if tag == "latest" else tag)
    name = _NOT_IN_A_NAME.sub("-", model if namespace == "library" else f"{namespace}-{model}").strip("-.")
    return DownloadId(f"{LOCAL_OWNER}/{name}", tag) if name else None


# Bundles: folders that carry models to a machine without a network, laid out like a models folder. Their manifest comes
# from an unknown disk, so every name and number in it is checked when it is read.

MANIFEST_NAME: Final = "gglib-bundle.json"
LONGEST_BUNDLE_MANIFEST_BYTES: Final = 16 * 1024**2
_FORMAT: Final = 1
_Commit = Annotated[str, Meta(pattern=r"^[0-9a-f]{7,64}\Z")]
_Kind = Annotated[str, Meta(pattern=r"^(shard|mmproj|imatrix|adapter|vocab|draft|other)\Z")]
_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Sizes = Annotated[tuple[Annotated[int, Meta(gt=0)], ...], Meta(max_length=10_000)]


class BundledFile(Struct, frozen=True):
    """One file of a model."""

    path_in_repo: str  # its path in the repository; in the bundle it has its usual place below `<owner>/<repo>/`
    kind: _Kind  # `shard`, or the kind of companion
    size_bytes: _Size
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    # Sizes of the parts in which it is stored (`<path>.part1of3`, ...), because the file system of the bundle cannot
    # hold it in one piece; empty if it is in one piece.
    part_bytes: _Sizes = ()
    is_verified: bool = True  # whether that digest is the one the Hub states, and not only the one the file had

    @property
    def stored_paths(self) -> tuple[str, ...]:
        """Paths in the repository's folder under which it is stored, in order."""
        place, count = parse_path(self.path_in_repo).place, len(self.part_bytes)
        return tuple(f"{place}.part{number + 1}of{count}" for number in range(count)) or (place,)


class BundledModel(Struct, frozen=True):
    """One model."""

    id: str  # as in the catalog of the machine it comes from
    commit_sha: _Commit | None  # the commit its files come from; None: unknown
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
    return msgspec.json.format(msgspec.json.encode(manifest, enc_hook=plain), indent=2) + b"\n"


def decode_manifest(data: bytes) -> BundleManifest:
    """The manifest that `encode_manifest` wrote; a `RequestError` for one that is invalid or from a newer version."""
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
        paths = [file.path_in_repo for file in model.files]
        stored = [path for file in model.files for path in file.stored_paths]
        for path in filter(None, (*paths, *stored, model.card)):
            target_path(Path(), model.download_id.repo_id, path)  # refuses a path outside the repository's folder
        has_model = any(file.kind == "shard" for file in model.files)
        has_all_bytes = all(sum(file.part_bytes) in (file.size_bytes, 0) for file in model.files)
        if not has_model or not has_all_bytes or len({path.casefold() for path in paths}) < len(paths):
            raise RequestError(f"{MANIFEST_NAME} has an invalid entry for {model.id}. Export the bundle again.")
    return manifest
