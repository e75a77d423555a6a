"""Finds out what has become of a model on the Hub: file by file, with as few bytes as will do. Touches nothing.

A file of another SHA-256 is compared by its header and by samples of its tensors, which tells a mended chat template from
another quantization. Runs on a thread for the Hub.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import read_tensors
from gglib_nb.domain.gguf_tensors import Tensor, TensorTable
from gglib_nb.domain.listing import FileCommit, HubFile, RepoListing
from gglib_nb.domain.model import Model
from gglib_nb.domain.updates import Change, FileChange, ModelUpdate
from gglib_nb.errors import GglibError, GgufError, HubError
from gglib_nb.system import read_at

_SAMPLE_BYTES: Final = 4096
_WINDOW_BYTES: Final = 1024**2


class UpdatingHub(Protocol):
    """What is asked of a hub."""

    def list_files(self, repo_id: str, revision: str | None = None) -> RepoListing:
        """Every file at the commit that the revision means."""

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """A part of a file."""

    def file_commits(self, repo_id: str, commit_sha: str, paths: Iterable[str]) -> dict[str, FileCommit]:
        """The commits that changed files last."""


def check_update(hub: UpdatingHub, model: Model) -> ModelUpdate:
    """What has become of one model; a hub that says no, or nothing, is the `problem` of the answer."""
    if model.origin == "local":
        return ModelUpdate(str(model.id), None, None, None, (), "Nobody knows which repository it comes from.")
    try:
        listing = hub.list_files(model.id.repo_id, model.id.revision)
        changes = [_change(hub, model, file, listing) for file in model.files]
        files = _with_commits(hub, listing, changes)
    except GglibError as error:
        return ModelUpdate(str(model.id), None, model.commit_sha, None, (), str(error))
    has_update = None if "unknown" in changes_of(files) else any(change != "same" for change in changes_of(files))
    return ModelUpdate(str(model.id), has_update, model.commit_sha, listing.commit_sha, files)


def changes_of(files: Iterable[FileChange]) -> list[Change]:
    """The changes alone."""
    return [file.change for file in files]


def _with_commits(hub: UpdatingHub, listing: RepoListing, changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
    wanted = [file.path_in_repo for file in changes if file.change not in ("same", "gone", "unknown")]
    try:
        commits = hub.file_commits(listing.repo_id, listing.commit_sha, wanted) if wanted else {}
    except HubError:
        commits = {}  # what has changed is known all the same
    return tuple(_dated(file, commits.get(file.path_in_repo)) for file in changes)


def _dated(file: FileChange, commit: FileCommit | None) -> FileChange:
    if commit is None or file.change == "same":
        return file
    return FileChange(file.path_in_repo, file.change, commit.title, commit.date)


def _change(hub: UpdatingHub, model: Model, file: StoredFile, listing: RepoListing) -> FileChange:
    if listing.commit_sha == model.commit_sha:
        return FileChange(file.path_in_repo, "same")
    parts = _parts(listing, file.path_in_repo)
    if not parts:  # under another name now, where the digest is listed
        return FileChange(file.path_in_repo, "gone" if listing.with_content(file.sha256) is None else "same")
    if parse_path(file.path_in_repo).place != file.path_in_repo:
        before = (
            ()
            if model.commit_sha is None
            else _parts(hub.list_files(listing.repo_id, model.commit_sha), file.path_in_repo)
        )
        return FileChange(file.path_in_repo, "same" if parts == before else "content")
    (remote,) = parts
    if file.sha256 is None or remote.sha256 is None:
        return FileChange(file.path_in_repo, "content" if remote.size_bytes != file.size_bytes else "unknown")
    if remote.sha256 == file.sha256:
        return FileChange(file.path_in_repo, "same")
    return FileChange(file.path_in_repo, _kind_of_change(hub, listing, remote, Path(file.target)))


def _parts(listing: RepoListing, path_in_repo: str) -> tuple[HubFile, ...]:
    """The files of the listing that become one here: one, or the pieces of a byte split."""
    place = parse_path(path_in_repo).place
    if place == path_in_repo:
        return tuple(file for file in listing.files if file.path == path_in_repo)
    return tuple(file for file in listing.files if parse_path(file.path).place == place)


def _kind_of_change(hub: UpdatingHub, listing: RepoListing, remote: HubFile, here: Path) -> Change:
    def read_remote(offset: int, length: int) -> bytes:
        return hub.read_range(listing.repo_id, listing.commit_sha, remote.path, offset, length)

    try:
        with here.open("rb", buffering=0) as opened:
            fd = opened.fileno()
            mine = read_tensors(lambda offset, length: read_at(fd, length, offset), os.fstat(fd).st_size)
            theirs = read_tensors(read_remote, remote.size_bytes or 0, window_bytes=_WINDOW_BYTES)
            if _shapes(mine) != _shapes(theirs):
                return "tensors"
            pairs = _sampled(mine, theirs)
            agree = all(read_at(fd, length, at) == read_remote(other, length) for at, other, length in pairs)
            return "metadata" if agree else "tensors"
    except (GgufError, HubError, OSError):
        return "content"  # that it is another file is known all the same


def _shapes(table: TensorTable) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {tensor.name: (tensor.type, tensor.shape) for tensor in table.tensors}


def _sampled(mine: TensorTable, theirs: TensorTable) -> list[tuple[int, int, int]]:
    """Where to compare: in the middle of the first, the middle, the last and the largest tensor."""
    others = {tensor.name: tensor for tensor in theirs.tensors}
    tensors = mine.tensors
    if not tensors:
        return []
    largest = max(tensors, key=lambda tensor: tensor.span_bytes)
    chosen = dict.fromkeys((tensors[0], tensors[len(tensors) // 2], tensors[-1], largest))
    return [_middle(tensor, others[tensor.name]) for tensor in chosen]


def _middle(mine: Tensor, theirs: Tensor) -> tuple[int, int, int]:
    # The last tensor's span may hold what stands behind the data.
    span = min(mine.span_bytes, theirs.span_bytes)
    length = min(_SAMPLE_BYTES, span)
    at = (span - length) // 2
    return mine.offset_bytes + at, theirs.offset_bytes + at, length
