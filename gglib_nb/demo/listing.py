"""The answers of the Hub's listing routes: model info, tree entries, references, search rows, pages for people.

Pure functions of repositories and queries. Knows nothing of sockets, tokens or pages of results. One quirk is
the Hub's own: the SHA-256 is called `sha256` in `siblings` and `oid` in tree entries.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from pathlib import PurePosixPath

from gglib_nb.demo.refusals import GRANTED_TOKEN
from gglib_nb.demo.repositories import Commit, DemoFile, DemoRepository

Row = dict[str, object]

_ROW_FIELDS = ("private", "gated", "downloads", "likes", "tags", "pipeline_tag", "library_name", "createdAt", "modelId")


def model_info(repository: DemoRepository, commit: Commit, *, with_blobs: bool, expand: Sequence[str]) -> Row:
    """The answer of `/api/models/{repo}`; with `expand` only the requested fields and the ids."""
    ids: Row = {"_id": repository.object_id, "id": repository.repo_id}
    fields = _fields(repository, commit)
    if expand:
        return ids | {name: fields[name] for name in expand if fields.get(name) is not None}
    fields.pop("trendingScore")
    if with_blobs:
        fields["siblings"] = [_sibling_with_blob(file) for file in commit.files.values()]
    return ids | {name: value for name, value in fields.items() if value is not None}


def model_row(repository: DemoRepository, commit: Commit, *, full: bool, expand: Sequence[str]) -> Row:
    """One row of `/api/models`; without `full` it has neither files nor a commit."""
    if expand or full:
        return model_info(repository, commit, with_blobs=False, expand=expand)
    fields = _fields(repository, commit)
    ids: Row = {"_id": repository.object_id, "id": repository.repo_id}
    return ids | {name: fields[name] for name in _ROW_FIELDS}


def is_match(repository: DemoRepository, query: dict[str, list[str]]) -> bool:
    """Whether a repository is a result of a search."""
    wanted_tags = [*query.get("filter", []), *query.get("pipeline_tag", []), *query.get("library", [])]
    tags = {*repository.tags, repository.pipeline_tag}
    return (
        all(text.lower() in repository.repo_id.lower() for text in query.get("search", []))
        and all(author == repository.author for author in query.get("author", []))
        and all(tag in tags for text in wanted_tags for tag in text.split(","))
        and all((value.lower() == "true") == bool(repository.gated) for value in query.get("gated", []))
    )


def sort_key(repository: DemoRepository, field: str) -> tuple[object, str]:
    """The order of search results: by the field, then by the id."""
    numbers = _numbers(repository)
    return numbers.get(field, numbers["trendingScore"]), repository.repo_id


def tree_entries(commit: Commit, folder: str, *, recursive: bool) -> list[Row] | None:
    """The entries below a folder (`""` is the root); `None` if there is no such folder."""
    prefix = f"{folder}/" if folder else ""
    files = [file for path, file in commit.files.items() if path.startswith(prefix)]
    if folder and not files:
        return None
    folders = {parent for file in files for parent in _parents(file.path, prefix)}
    entries = [file_entry(file) for file in files] + [folder_entry(commit, path) for path in folders]
    if not recursive:
        entries = [entry for entry in entries if "/" not in str(entry["path"]).removeprefix(prefix)]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def expanded(entry: Row, repository: DemoRepository, commit: Commit) -> Row:
    """An entry with the additional fields of `expand=true`."""
    last_commit = {"id": commit.sha, "title": commit.title, "date": repository.last_modified}
    if entry["type"] == "directory":
        return entry | {"lastCommit": last_commit}
    security = {
        "status": "unsafe" if entry["path"] in repository.unsafe else "safe",
        "avScan": None,
        "pickleImportScan": None,
    }
    return entry | {"lastCommit": last_commit, "securityFileStatus": security}


def file_entry(file: DemoFile) -> Row:
    """A file as tree and paths-info show it; only LFS files have `lfs`."""
    entry: Row = {"type": "file", "oid": file.blob_id, "size": file.size_bytes, "path": file.path}
    if file.is_lfs:
        pointer_size = len(file.lfs_pointer)
        entry["lfs"] = {"oid": file.content.sha256, "size": file.size_bytes, "pointerSize": pointer_size}
    return entry


def folder_entry(commit: Commit, path: str) -> Row:
    """A folder as tree and paths-info show it."""
    oid = sha1(f"{commit.sha} {path}".encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def references(repository: DemoRepository) -> dict[str, list[Row]]:
    """The answer of `/refs`; names like `v1.0` are tags, `refs/pr/1` pull requests, the rest branches."""
    answer: dict[str, list[Row]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    for name, sha in repository.names.items():
        if name.startswith("refs/pr/"):
            kind, ref = "pullRequests", name
        elif name[0] == "v" and name[1:2].isdigit():
            kind, ref = "tags", f"refs/tags/{name}"
        else:
            kind, ref = "branches", f"refs/heads/{name}"
        answer[kind].append({"name": name, "ref": ref, "targetCommit": sha})
    return answer


def page_lines(repositories: Iterable[DemoRepository]) -> Iterator[str]:
    """The text that a browser shows instead of the Hub's pages."""
    for repository in repositories:
        commit = repository.commit()
        files = list(commit.files.values()) if commit else []
        yield f"{repository.repo_id}: {len(files)} files, {sum(file.size_bytes for file in files) / 1e6:.1f} MB"
        if repository.gated:
            yield f"  gated: the token {GRANTED_TOKEN} opens it"
        yield from (f"  {file.path}  {file.size_bytes / 1e6:.1f} MB" for file in files)


def _fields(repository: DemoRepository, commit: Commit) -> Row:
    return {
        "modelId": repository.repo_id,
        "author": repository.author,
        "sha": commit.sha,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": repository.disabled,
        "tags": list(repository.tags),
        "pipeline_tag": repository.pipeline_tag,
        "library_name": "gguf" if "gguf" in repository.tags else None,
        "cardData": {"license": "mit"},
        "siblings": [{"rfilename": path} for path in commit.files],
        "gguf": dict(repository.gguf) if repository.gguf else None,
        "usedStorage": sum(file.size_bytes for file in commit.files.values()),
        **_numbers(repository),
    }


def _numbers(repository: DemoRepository) -> Row:
    return {
        "downloads": repository.downloads,
        "likes": repository.likes,
        "createdAt": repository.created_at,
        "lastModified": repository.last_modified,
        "trendingScore": repository.likes,
    }


def _sibling_with_blob(file: DemoFile) -> Row:
    sibling: Row = {"rfilename": file.path, "size": file.size_bytes, "blobId": file.blob_id}
    if file.is_lfs:
        pointer_size = len(file.lfs_pointer)
        sibling["lfs"] = {"sha256": file.content.sha256, "size": file.size_bytes, "pointerSize": pointer_size}
    return sibling


def _parents(path: str, prefix: str) -> Iterator[str]:
    for parent in PurePosixPath(path.removeprefix(prefix)).parents:
        if parent.name:
            yield f"{prefix}{parent}"
