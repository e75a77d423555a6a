"""A hub's JSON as domain values. Pure: an invalid answer is an error of the hub, never a KeyError.

Field names are the Hub's (`huggingface_hub.hf_api.ModelInfo`, `RepoFile`); other hubs omit some.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, get_args

from gglib_nb.domain.http_rules import LARGEST_SIZE, sha256_of
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.domain.names import check_repo_id
from gglib_nb.domain.plan import Gate, HubFile, RepoListing, RepoSummary
from gglib_nb.domain.text import redacted
from gglib_nb.errors import HubUnavailableError, InvalidRepoIdError

Json = Mapping[str, Any]

_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")  # SHA-1 on the Hub, SHA-256 on others
_MOST_SHOWN: Final = 120


def listing(info: Json, asked: Asked, files_of: Callable[[Asked], tuple[HubFile, ...]]) -> RepoListing:
    """Reads a repository's info; `files_of` returns the files of what was requested, at a commit."""
    with as_the_hub_writes():
        repo_id, commit_sha = info.get("id") or info.get("modelId") or asked.what, info["sha"]
        check_repo_id(repo_id)
        if not _COMMIT.fullmatch(commit_sha):
            raise ValueError(commit_sha)
        gate, is_private = _gate(info), bool(info.get("private"))
    return RepoListing(repo_id, commit_sha, gate, is_private, files_of(Asked(asked.endpoint, repo_id, commit_sha)))


def files(entries: Iterable[Json]) -> tuple[HubFile, ...]:
    """The files among the entries of a tree, in the order of their paths."""
    with as_the_hub_writes():
        found = {file.path: file for file in (_file(entry) for entry in entries if entry["type"] == "file")}
        return tuple(found[path] for path in sorted(found))


def siblings(info: Json) -> list[dict[str, Any]]:
    """The files of a repository's info in the form of a tree; sizes and digests are there if `blobs` was requested."""
    with as_the_hub_writes():
        found = ((one, (one.get("lfs") or {}).get("sha256")) for one in info["siblings"])
        return [{**one, "type": "file", "path": one["rfilename"], "lfs": {"oid": digest}} for one, digest in found]


def expanded(entries: Iterable[Json], field: str, keys: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The texts under some keys of a field of files in an expanded tree, by path; empty if the hub omits one."""
    with as_the_hub_writes():
        said = {entry["path"]: entry.get(field) or {} for entry in entries if entry["type"] == "file"}
        return {path: tuple(_text(one, key) or "" for key in keys) for path, one in said.items()}


def repo_summary(row: Json) -> RepoSummary | None:
    """One row of a search, with the hub's texts, not made printable; None: its id is not of the form `owner/name`."""
    try:
        check_repo_id(row["id"])
    except (KeyError, TypeError, InvalidRepoIdError):
        return None
    with as_the_hub_writes():
        header = row.get("gguf") or {}
        return RepoSummary(
            repo_id=row["id"],
            downloads=count(row, "downloads"),
            likes=count(row, "likes"),
            parameter_count=count(header, "total"),
            architecture=_text(header, "architecture"),
            gate=_gate(row),
            modified_at=_text(row, "lastModified"),
        )


def revision_names(refs: Json) -> list[str]:
    """Branches, then tags."""
    with as_the_hub_writes():
        return [ref["name"] for kind in ("branches", "tags") for ref in refs.get(kind, ())]


@contextmanager
def as_the_hub_writes() -> Iterator[None]:
    """An answer of another form raises `HubUnavailableError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, InvalidRepoIdError) as error:
        said = " ".join(redacted(str(error)[:_MOST_SHOWN]).split())
        raise HubUnavailableError(
            f"The Hub's answer cannot be read ({type(error).__name__}: {said}); try again later, or check HF_ENDPOINT."
        ) from error


def _file(entry: Json) -> HubFile:
    # `oid` beside `lfs` is a git id, and `xetHash` a Merkle hash: neither is the content's SHA-256. Without
    # access, digests may be masked with stars.
    digest = (entry.get("lfs") or {}).get("oid")
    path: str = entry["path"]
    return HubFile(path, count(entry, "size"), sha256_of(digest) if isinstance(digest, str) else None)


def _gate(fields: Json) -> Gate | None:
    gate: Any = fields.get("gated")
    return gate if gate in get_args(Gate) else None


def count(fields: Json, name: str) -> int | None:
    """A number of an answer; None: it states none that is possible."""
    value = fields.get(name)
    return value if isinstance(value, int) and 0 <= value <= LARGEST_SIZE else None


def _text(fields: Json, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
