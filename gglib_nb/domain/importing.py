"""The repository that a GGUF file in a folder comes from, as far as its path shows it.

Folders of other programs, by their own documentation: the Hugging Face cache
(`models--<owner>--<repo>/snapshots/<commit>/<path>`), LM Studio and this package (`<owner>/<repo>/<path>`), llama.cpp
(`<owner>_<repo>_<file>` beside `manifest=<owner>=<repo>=<tag>.json`).
"""

import re
from collections.abc import Iterable
from pathlib import PurePath, PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from gglib_nb.domain.model import LOCAL_OWNER, ModelSummary
from gglib_nb.domain.references import DownloadId, check_repo_id
from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidRepoIdError

_CACHED: Final = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MANIFEST: Final = re.compile(r"manifest=(?P<owner>[^=]+)=(?P<name>[^=]+)=[^=]*\.json")
_LONGEST_NAME: Final = 80


class FileOrigin(Value, frozen=True):
    """The repository of a file, as far as it is known."""

    repo_id: str | None  # `owner/name`; None: unknown
    commit_sha: str | None  # None: unknown
    path_in_repo: str  # its name if that is unknown


class SkippedFile(Value, frozen=True):
    """A file that was not registered, and why, as the end of a sentence: `is already registered as owner/repo:Q8_0`."""

    path: str
    reason: str


class ImportReport(Value, frozen=True):
    """The models that were imported, and the GGUF files that were skipped."""

    imported: tuple[ModelSummary, ...]
    skipped: tuple[SkippedFile, ...]


class ImportProgress(Value, frozen=True):
    """The progress of an import: the file that is being read, and how many were; bytes only of a bundle, else None."""

    path: str
    done_files: int
    total_files: int
    done_bytes: int | None = None
    total_bytes: int | None = None


def origin_of(relative: PurePath, folder: PurePath, siblings: Iterable[str]) -> FileOrigin:
    """The origin of a file: its path below the imported, absolute folder, and the names of the files next to it."""
    whole = folder / relative
    return (
        _of_hub_cache(whole)
        or _of_llama_cpp(whole.name, siblings)
        or _of_layout(relative)
        or FileOrigin(None, None, relative.name)
    )


def _of_hub_cache(path: PurePath) -> FileOrigin | None:
    for at, part in enumerate(path.parts[:-3]):
        found = _CACHED.fullmatch(part)
        if found and path.parts[at + 1] == "snapshots":
            commit, inside = path.parts[at + 2], PurePath(*path.parts[at + 3 :])
            repo_id = _checked(f"{found['owner']}/{found['name']}")
            return FileOrigin(repo_id, commit if _COMMIT.fullmatch(commit) else None, inside.as_posix())
    return None


def _of_llama_cpp(name: str, siblings: Iterable[str]) -> FileOrigin | None:
    for sibling in siblings:
        if found := _MANIFEST.fullmatch(sibling):
            prefix = f"{found['owner']}_{found['name']}_"
            if name.startswith(prefix) and (repo_id := _checked(f"{found['owner']}/{found['name']}")):
                return FileOrigin(repo_id, None, name.removeprefix(prefix))
    return None


def _of_layout(relative: PurePath) -> FileOrigin | None:
    parts = relative.parts[1:] if relative.parts[0] == "models" and len(relative.parts) > 3 else relative.parts
    if len(parts) < 3 or (repo_id := _checked(f"{parts[0]}/{parts[1]}")) is None:
        return None
    return FileOrigin(repo_id, None, PurePath(*parts[2:]).as_posix())


def _checked(repo_id: str) -> str | None:
    try:
        check_repo_id(repo_id)
    except InvalidRepoIdError:
        return None
    return repo_id


def local_name(stem: str, taken: Iterable[str]) -> str:
    """A name for a model of unknown repository, made of its file's; with a number if that is taken."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)
    plain = re.sub(r"([-.])\1+", r"\1", plain).strip("-._")[:_LONGEST_NAME].strip("-._") or "model"
    names, number, name = set(taken), 2, plain
    while name in names:
        name, number = f"{plain}-{number}", number + 1
    return name


# Ollama's store: a manifest is a JSON file at `manifests/<registry>/<namespace>/<model>/<tag>`, with a list of layers;
# the content of a layer is `blobs/sha256-<digest>` (Ollama's docs and server/manifest.go).
LONGEST_MANIFEST_BYTES: Final = 1024**2
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_KINDS: Final = {
    "application/vnd.ollama.image.model": "shard",
    "application/vnd.ollama.image.projector": "mmproj",
}
_HUB_REGISTRIES: Final = frozenset({"hf.co", "huggingface.co"})
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._]+")


class _Layer(Struct, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(Struct):
    layers: list[_Layer] = []


class OllamaFile(Struct, frozen=True):
    """One GGUF file of a model."""

    kind: str  # `shard` or `mmproj`
    blob: str  # its path in the store
    size_bytes: int
    sha256: str


def ollama_files(manifest: bytes) -> tuple[OllamaFile, ...]:
    """The GGUF files that a manifest names; empty: it is no manifest, or names no model."""
    try:
        layers = msgspec.json.decode(manifest, type=_Manifest).layers
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ()
    found: list[OllamaFile] = []
    for layer in layers:
        kind, digest = _KINDS.get(layer.media_type), _DIGEST.fullmatch(layer.digest)
        if kind is not None and digest is not None and layer.size >= 0:
            found.append(OllamaFile(kind, f"blobs/sha256-{digest[1]}", layer.size, digest[1]))
    return tuple(found) if any(file.kind == "shard" for file in found) else ()


def ollama_id(path: PurePosixPath) -> DownloadId | None:
    """The id of a model from the path of its manifest below `manifests/`; None: it is no such path.

    A model from the Hub keeps its repository (`hf.co/owner/name/Q4_K_M`); one of Ollama's own library is
    `local/<model>`.
    """
    if len(path.parts) != 4:  # registry, namespace, model, tag
        return None
    registry, namespace, model, tag = path.parts
    if registry in _HUB_REGISTRIES:
        repo_id = _checked(f"{namespace}/{model}")
        return None if repo_id is None else DownloadId(repo_id, None if tag == "latest" else tag)
    name = _NOT_IN_A_NAME.sub("-", model if namespace == "library" else f"{namespace}-{model}").strip("-.")
    return DownloadId(f"{LOCAL_OWNER}/{name}", tag) if name else None
