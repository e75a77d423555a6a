"""What a hub says about its repositories, as plain values; `gglib_nb.hub` sends the requests."""

from functools import cached_property
from typing import Literal

from gglib_nb.domain.values import Value

Gate = Literal["auto", "manual"]


class HubFile(Value, frozen=True):
    """One file of a repository at a commit.

    Attributes:
        path: Path in the repository, with `/`.
        size_bytes: Its size; None where the hub does not say.
        sha256: SHA-256 of the content in hexadecimal; None for small files kept in git, and where it is masked.
    """

    path: str
    size_bytes: int | None
    sha256: str | None


class FileCommit(Value, frozen=True):
    """The commit that changed a file last.

    Attributes:
        title: First line of its message.
        date: ISO date.
    """

    title: str
    date: str


class RepoListing(Value, frozen=True, dict=True):
    """All files of a repository at one commit.

    Attributes:
        repo_id: The id the hub uses now, also where it was asked under an older name.
        commit_sha: The commit, 40 hexadecimal digits.
        gate: How access is granted; None where the repository is open.
        is_private: Whether a token is needed to see it.
        files: Every file, in the order of their paths.
    """

    repo_id: str
    commit_sha: str
    gate: Gate | None
    is_private: bool
    files: tuple[HubFile, ...]

    @cached_property
    def _by_path(self) -> dict[str, HubFile]:
        return {file.path: file for file in self.files}

    def file(self, path: str) -> HubFile:
        """The file of that path; `KeyError` where there is none."""
        return self._by_path[path]

    def with_content(self, sha256: str | None) -> HubFile | None:
        """The file of that SHA-256, under whatever name; None where there is none or the digest is unknown."""
        return None if sha256 is None else next((file for file in self.files if file.sha256 == sha256), None)


class RepoSummary(Value, frozen=True):
    """One row of a search.

    Attributes:
        repo_id: `owner/name`.
        downloads: Downloads of the last 30 days; None unknown.
        likes: Likes; None unknown.
        parameter_count: Parameters of the model; None unknown.
        architecture: As in the GGUF header; None unknown.
        gate: How access is granted; None where it is open.
        modified_at: ISO date of the last change; None unknown.
        likely_size_bytes: How large its recommended variant likely is, from its parameters alone; None unknown.
        fit: Whether that likely fits this machine's memory.
        is_here: Whether a model of it is registered here.
        page_url: Its page on the hub; None unknown.
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
