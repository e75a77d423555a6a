"""The embedded hub's data: repositories, their revisions and files, as values.

Knows nothing of HTTP. A commit is a frozen set of files; branches and tags are names of commits. Branches can be
moved to other commits while the hub runs; a commit never changes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Literal

from gglib_nb.demo.content import Content, file_content

Gated = Literal[False, "auto", "manual"]

# Files the real Hub's default .gitattributes leaves in git; everything else is stored as LFS.
_GIT_SUFFIXES = (".md", ".json", ".jsonl", ".txt", ".jinja", ".yaml", ".yml", ".py", ".gitattributes", ".gitignore")
_LARGEST_GIT_FILE_BYTES = 10_000_000


@dataclass(frozen=True)
class DemoFile:
    """One file of a commit.

    Attributes:
        path: path in the repository, with `/`.
        content: its bytes.
    """

    path: str
    content: Content

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return self.content.size_bytes

    @property
    def is_lfs(self) -> bool:
        """Whether the Hub would store it as LFS: served by the CDN, with a SHA-256."""
        return not (self.path.endswith(_GIT_SUFFIXES) and self.size_bytes <= _LARGEST_GIT_FILE_BYTES)

    @cached_property
    def lfs_pointer(self) -> bytes:
        """The text that git stores in place of an LFS file."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.content.sha256}\nsize {self.size_bytes}\n"
        return text.encode()

    @cached_property
    def blob_id(self) -> str:
        """The git id of the file, which for LFS is the id of its pointer."""
        if not self.is_lfs:
            return self.content.git_sha1
        pointer = self.lfs_pointer
        return hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commit:
    """One state of a repository: its id (40 hex digits), its files by path, and the first line of its message."""

    sha: str
    files: Mapping[str, DemoFile]
    title: str = "Upload"


@dataclass(frozen=True)
class Located:
    """A file where a request found it: in a commit of a repository."""

    repo_id: str
    commit_sha: str
    file: DemoFile


@dataclass(kw_only=True)
class DemoRepository:
    """A repository. Its branches can be moved while it is served; the rest is fixed.

    Attributes:
        repo_id: `owner/name`.
        files: the first files of the branch `main`.
        revisions: further branches and tags by name, such as `v1.0` or `refs/pr/1`.
        gated: `"auto"` and `"manual"` refuse the bytes (not the listing) to clients without access.
        private: whether it appears not to exist to clients without access.
        disabled: whether every request is refused with the Hub's text for that.
        renamed_from: former ids, which redirect here.
        gguf: the Hub's facts about the repository's GGUF header; `None` if it states none.
        unsafe: paths of files that the Hub's scan marks as unsafe.
    """

    repo_id: str
    files: Iterable[DemoFile]
    revisions: Mapping[str, Iterable[DemoFile]] = field(default_factory=dict)
    gated: Gated = False
    private: bool = False
    disabled: bool = False
    renamed_from: tuple[str, ...] = ()
    tags: tuple[str, ...] = ("gguf", "text-generation", "license:mit")
    pipeline_tag: str = "text-generation"
    downloads: int = 0
    likes: int = 0
    created_at: str = "2026-01-01T00:00:00.000Z"
    last_modified: str = "2026-06-01T00:00:00.000Z"
    gguf: Mapping[str, object] | None = None
    unsafe: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._commits: dict[str, Commit] = {}
        self._names: dict[str, str] = {}
        for name, files in {"main": self.files, **self.revisions}.items():
            self.move(name, files)

    @property
    def author(self) -> str:
        """The owner, the part of the id before the slash."""
        return self.repo_id.partition("/")[0]

    @property
    def object_id(self) -> str:
        """24 hex digits that never change for the repository: the Hub's `_id`."""
        return hashlib.sha256(self.repo_id.encode()).hexdigest()[:24]

    @property
    def names(self) -> dict[str, str]:
        """Branches and tags with the commit each points to."""
        with self._lock:
            return dict(self._names)

    def move(self, name: str, files: Iterable[DemoFile], title: str = "Upload") -> str:
        """Make a commit of `files`, point the branch `name` to it, and return its id.

        Earlier commits remain available by their id.
        """
        by_path = {file.path: file for file in sorted(files, key=lambda file: file.path)}
        with self._lock:
            lines = [self.repo_id, self._names.get(name, "")]
            lines += [f"{path} {file.content.identity}" for path, file in by_path.items()]
            sha = hashlib.sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest()
            self._commits[sha] = Commit(sha, by_path, title)
            self._names[name] = sha
        return sha

    def commit(self, revision: str = "main") -> Commit | None:
        """Return the commit of a branch, a tag or a commit id; `None` if there is none."""
        with self._lock:
            name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
            return self._commits.get(self._names.get(name, revision))


def _repository_from_folder(folder: Path, repo_id: str) -> DemoRepository:
    files = [
        DemoFile(path.relative_to(folder).as_posix(), file_content(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _is_hidden(path.relative_to(folder))
    ]
    return DemoRepository(repo_id=repo_id, files=files)


def repositories_from_folder(folder: Path) -> list[DemoRepository]:
    """Make repositories of a folder.

    Args:
        folder: if its layout is `<owner>/<name>/…`, each of these becomes a repository; otherwise it becomes one
            itself, `local/<its name>`. Hidden folders are left out.

    Raises:
        NotADirectoryError: `folder` is not a folder.
    """
    folder = folder.resolve()
    nested = [path for path in sorted(folder.glob("*/*")) if path.is_dir() and not _is_hidden(path.relative_to(folder))]
    if nested and not any(path.is_file() and not _is_hidden(path.relative_to(folder)) for path in folder.glob("*")):
        return [_repository_from_folder(path, f"{path.parent.name}/{path.name}") for path in nested]
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder. Name one that contains GGUF files.")
    return [_repository_from_folder(folder, f"local/{folder.name}")]


def _is_hidden(path: Path) -> bool:
    """Whether a folder on the way is hidden, such as `.git`; hidden files like `.gitattributes` count."""
    return any(part.startswith(".") for part in path.parts[:-1])
