"""Which repository a GGUF file in a folder comes from, as far as its place shows. Pure: paths in, values out.

Folders that other programs keep, by their own documentation: the Hugging Face cache
(`models--<owner>--<repo>/snapshots/<commit>/<path>`), LM Studio and this package (`<owner>/<repo>/<path>`), llama.cpp
(`<owner>_<repo>_<file>` beside `manifest=<owner>=<repo>=<tag>.json`).
"""

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from gglib_nb.domain.model_summary import ModelSummary
from gglib_nb.domain.references import check_repo_id
from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidRepoIdError

_CACHED: Final = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MANIFEST: Final = re.compile(r"manifest=(?P<owner>[^=]+)=(?P<name>[^=]+)=[^=]*\.json")
_LONGEST_NAME: Final = 80


class FileOrigin(Value, frozen=True):
    """Where a file comes from."""

    repo_id: str | None  # `owner/name`; None where nothing tells
    commit_sha: str | None  # None: unknown
    path_in_repo: str  # its path in the repository, or its name where that is unknown


class SkippedFile(Value, frozen=True):
    """A file that was not registered.

    Attributes:
        path: Its path.
        reason: Why not, as the end of a sentence about it: `is already registered as owner/repo:Q8_0`.
    """

    path: str
    reason: str


class ImportReport(Value, frozen=True):
    """The result of importing a folder.

    Attributes:
        imported: The models that are registered now and were not before.
        skipped: The GGUF files that are not, and why.
    """

    imported: tuple[ModelSummary, ...]
    skipped: tuple[SkippedFile, ...]


class ImportProgress(Value, frozen=True):
    """How far the reading of headers is.

    Attributes:
        path: The file that is read now.
        done_files: Files that were read.
        total_files: Of how many.
        done_bytes: Of a bundle, the bytes that were copied and verified; None for another folder.
        total_bytes: Of a bundle, all of its bytes; None for another folder.
    """

    path: str
    done_files: int
    total_files: int
    done_bytes: int | None = None
    total_bytes: int | None = None


def origin_of(relative: PurePath, folder: PurePath, siblings: Iterable[str]) -> FileOrigin:
    """Where a file comes from.

    Args:
        relative: Its path below the folder that is looked through.
        folder: That folder, absolute.
        siblings: Names of the files beside it.
    """
    whole = folder / relative
    return _of_hub_cache(whole) or _of_llama_cpp(whole.name, siblings) or _of_layout(relative) or _unknown(relative)


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


def _unknown(relative: PurePath) -> FileOrigin:
    return FileOrigin(None, None, relative.name)


def _checked(repo_id: str) -> str | None:
    try:
        check_repo_id(repo_id)
    except InvalidRepoIdError:
        return None
    return repo_id


def local_name(stem: str, taken: Iterable[str]) -> str:
    """A name for a model of unknown repository, made of its file's; another one where that is taken."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)
    plain = re.sub(r"([-.])\1+", r"\1", plain).strip("-._")[:_LONGEST_NAME].strip("-._") or "model"
    names, number, name = set(taken), 2, plain
    while name in names:
        name, number = f"{plain}-{number}", number + 1
    return name
