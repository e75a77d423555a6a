"""Ollama's store: which GGUF files its manifests name. Pure: names and bytes in, values out.

A manifest is a JSON file at `manifests/<registry>/<namespace>/<model>/<tag>`, with a list of layers; the content of a
layer is `blobs/sha256-<digest>` (Ollama's docs and server/manifest.go).
"""

import re
from pathlib import PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from gglib_nb.domain.model import LOCAL_OWNER
from gglib_nb.domain.references import DownloadId, check_repo_id
from gglib_nb.errors import InvalidRepoIdError

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
    """The GGUF files that a manifest names; empty if it is no manifest, or names no model."""
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
    """The id of a model from the path of its manifest below `manifests/`.

    What was pulled from the Hub keeps its repository (`hf.co/owner/name/Q4_K_M`); a model of Ollama's own library is
    `local/<model>` with its tag. None if the path is not that of a manifest.
    """
    if len(path.parts) != 4:  # registry, namespace, model, tag
        return None
    registry, namespace, model, tag = path.parts
    if registry in _HUB_REGISTRIES:
        try:
            check_repo_id(f"{namespace}/{model}")
        except InvalidRepoIdError:
            return None
        return DownloadId(f"{namespace}/{model}", None if tag == "latest" else tag)
    name = _NOT_IN_A_NAME.sub("-", model if namespace == "library" else f"{namespace}-{model}").strip("-.")
    return DownloadId(f"{LOCAL_OWNER}/{name}", tag) if name else None
