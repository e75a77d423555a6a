"""What has become of a model on the Hub since it came here, and what fetching that comes to. Values; asks nobody."""

from typing import Literal

from gglib_nb.domain.values import Value

Change = Literal["same", "metadata", "tensors", "content", "gone", "unknown"]
"""same: the same SHA-256. metadata: another header, and the tensors are the same as far as samples tell. tensors: other
names, types, shapes or values. content: another file that could not be compared further. gone: the repository has it no more.
unknown: nobody knows what the file here is; verify it first."""


class FileChange(Value, frozen=True):
    """What has become of one file.

    Attributes:
        path_in_repo: Its path in the repository.
        change: What has become of it.
        commit_title: Of the commit that changed it last, in its author's words; empty where the Hub does not tell, or where
            it is the same.
        commit_date: Of that commit, ISO; empty likewise.
        changed_keys: Keys of its header with another value, in alphabetical order; empty where they were not compared.
        template_diff: Its chat template here and on the Hub as a unified diff; empty where it is the same or not known.
    """

    path_in_repo: str
    change: Change
    commit_title: str = ""
    commit_date: str = ""
    changed_keys: tuple[str, ...] = ()
    template_diff: str = ""


class ModelUpdate(Value, frozen=True):
    """What has become of one model.

    Attributes:
        id: The model's id.
        has_update: Whether a file of it is another one now, or gone; None where that could not be found out.
        commit_sha: The commit that its files come from; None unknown.
        latest_commit_sha: What its revision means now; None where that could not be found out.
        files: What has become of each of its files.
        problem: Why it could not be found out, in words; empty otherwise.
    """

    id: str
    has_update: bool | None
    commit_sha: str | None
    latest_commit_sha: str | None
    files: tuple[FileChange, ...]
    problem: str = ""

    @property
    def changes(self) -> tuple[FileChange, ...]:
        """The files that are not the same."""
        return tuple(file for file in self.files if file.change != "same")


class QueuedUpdate(Value, frozen=True):
    """What updating a model comes to.

    Attributes:
        id: The model's id; that of the download that brings the new version, too.
        is_needed: Whether there is a new version; where not, nothing was queued.
        latest_commit_sha: The commit of the new version.
        position: Of the download in the queue; 0 where it runs already, or is not needed.
        total_bytes: Of the new version; None where a size is unknown.
    """

    id: str
    is_needed: bool
    latest_commit_sha: str
    position: int
    total_bytes: int | None
