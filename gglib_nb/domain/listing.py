"""Files and repositories as a hub lists them; `gglib_nb.hub` sends the requests."""

from functools import cached_property
from typing import Literal

from gglib_nb.domain.values import Value

Gate = Literal["auto", "manual"]


class HubFile(Value, frozen=True):
    """One file of a repository at a commit."""

    path: str
    size_bytes: int | None  # None: unknown
    sha256: str | None  # in hexadecimal; None: masked, or a small file that is kept in git


class FileCommit(Value, frozen=True):
    """The last commit that changed a file: the first line of its message, and its ISO date."""

    title: str
    date: str


class RepoListing(Value, frozen=True, dict=True):
    """All files of a repository at one commit."""

    repo_id: str
    commit_sha: str  # 40 hexadecimal digits
    gate: Gate | None  # how access is granted; None: open
    is_private: bool  # whether only a token shows it
    files: tuple[HubFile, ...]  # in the order of their paths

    @cached_property
    def _by_path(self) -> dict[str, HubFile]:
        return {file.path: file for file in self.files}

    def file(self, path: str) -> HubFile:
        """The file of that path; `KeyError` without one."""
        return self._by_path[path]

    def with_content(self, sha256: str | None) -> HubFile | None:
        """The file with that SHA-256, under any name; None without one."""
        return None if sha256 is None else next((file for file in self.files if file.sha256 == sha256), None)


class RepoSummary(Value, frozen=True):
    """One row of a search. None is unknown.

    Attributes:
        downloads: In the last 30 days.
        parameter_count: Of the model.
        architecture: As in the GGUF header.
        gate: How access is granted; None: open.
        modified_at: ISO date of the last change.
        likely_size_bytes: Estimated size of the recommended variant.
        fit: Whether that probably fits this machine's memory.
        is_here: Whether a model of it is registered.
        page_url: Its page on the hub.
    """

    repo_id: str
    downloads: int | None
    likes: int | None
    parameter_count: int | None
    architecture: str | None
    gate: Gate | None
    modified_at: str | None
    likely_size_bytes: int | None = None
    fit: Literal["fits", "tight", "too large", "unknown"] = "unknown"
    is_here: bool = False
    page_url: str | None = None
