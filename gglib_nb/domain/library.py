"""Results of verifying, repairing, updating, deleting and pruning registered models."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import xxhash

from gglib_nb.domain.values import Value

SEE_DELETABLE: Final = "See what could be deleted: %gguf prune --unused 30d --dry-run"
"""What a user can do if there is no room for a download."""

FileVerdict = Literal["right", "unstated", "wrong", "changed", "missing", "unreadable"]
"""right: it has the SHA-256 that the Hub states, or the one it had when it was registered. unstated: hashed for the
first time, and no source states what it should be. wrong: it has other bytes. changed: it was changed while it was
read. missing, unreadable: as they say."""


class CheckedFile(Value, frozen=True):
    """The result of hashing one file. Size and time of None: it is missing.

    Attributes:
        sha256: Its SHA-256 now; None, as empty `block_digests` in hexadecimal: it was not read to its end.
        wrong_ranges: Its wrong bytes in whole blocks, half-open (empty: the whole file); None: nothing is wrong.
        reason: Why it cannot be read; empty otherwise.
    """

    path: str
    verdict: FileVerdict
    sha256: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    wrong_ranges: tuple[tuple[int, int], ...] | None = None
    block_digests: str = ""
    reason: str = ""


class Verification(Value, frozen=True):
    """The result of verifying the model of that id; its files are in order."""

    id: str
    files: tuple[CheckedFile, ...]

    @property
    def is_right(self) -> bool:
        """Whether every file exists and has the expected SHA-256, if that is known."""
        return not self.faults

    @property
    def faults(self) -> tuple[CheckedFile, ...]:
        """The files that are not right."""
        return tuple(file for file in self.files if file.verdict not in ("right", "unstated"))


class WorkProgress(Value, frozen=True):
    """The progress of a verification, an export or an import: the file at hand, and how much of all files is done.

    An import that reads only headers counts files, and its bytes are None. A verification states the `id` of the model.
    """

    path: str
    done_bytes: int | None = None
    total_bytes: int | None = None
    done_files: int = 0
    total_files: int = 0
    id: str = ""


OnWorkProgress = Callable[[WorkProgress], None]


class Repair(Value, frozen=True):
    """What repairing a model takes, if anything `is_needed`. Its id is also that of the download that repairs it.

    The bytes to fetch may be unknown (None); the rest is reused. The position is as in `QueuedUpdate`.
    """

    id: str
    is_needed: bool
    faulty_paths: tuple[str, ...]
    bytes_to_fetch: int | None
    position: int


Change = Literal["same", "metadata", "tensors", "content", "gone", "unknown"]
"""same: the same SHA-256. metadata: another header, and the same tensors as far as samples show. tensors: other names,
types, shapes or values. content: another file that could not be compared further. gone: the repository no longer has
it. unknown: the SHA-256 of the file here is not known; verify it first."""


class FileChange(Value, frozen=True):
    """How one file differs from the one on the Hub. What is unknown, or not changed, is empty.

    The commit is the last one that changed it; the keys are those of its header with another value, in alphabetical
    order; `template_diff` is the change of its chat template as a unified diff.
    """

    path_in_repo: str
    change: Change
    commit_title: str = ""
    commit_date: str = ""
    changed_keys: tuple[str, ...] = ()
    template_diff: str = ""


class ModelUpdate(Value, frozen=True):
    """How one model differs from its repository on the Hub. None is unknown.

    Attributes:
        has_update: Whether one of its files was changed or removed there.
        latest_commit_sha: The commit of its revision now; `commit_sha` is that of its files.
        problem: Why that is unknown, in words; empty otherwise.
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
    """What updating a model takes, if anything `is_needed`. Its id is also that of the download of the new version.

    The position is that in the queue; 0: active, or not needed. `scan_finding` is as in `QueuedDownload`.
    """

    id: str
    is_needed: bool
    latest_commit_sha: str
    position: int
    total_bytes: int | None
    scan_finding: str = ""


class SkippedFile(Value, frozen=True):
    """A file that was not registered, or not deleted, and why, as the end of a sentence: `owner/repo:Q8_0 uses it`."""

    path: str
    reason: str


class Deletion(Value, frozen=True):
    """The paths of a deleted model, and the space that this frees; files with another hard link do not count.

    With `is_dry_run`, nothing was deleted.
    """

    id: str
    deleted: tuple[str, ...]
    freed_bytes: int
    kept: tuple[SkippedFile, ...]
    is_dry_run: bool


class DiskUse(Value, frozen=True):
    """Disk space of the registered models, each file counted once; `free_bytes` of None is unknown.

    `missing_stores` are folders of `model_stores` that do not exist, perhaps because their disk is not mounted.
    """

    models_bytes: int
    free_bytes: int | None
    models_directory: str
    missing_stores: tuple[str, ...] = ()


class ModelUse(Value, frozen=True):
    """The use of one model."""

    id: str
    size_bytes: int  # that deleting it frees after the models unused for longer; 0 for files with other hard links
    last_used_at_s: float  # Unix time of its last known use, else of its registration
    is_kept: bool = False  # it is queued, being updated, imported from another folder, or its folder does not exist
    shares_with: tuple[str, ...] = ()  # ids of models used later whose deletion frees more if this one is deleted


class Leftover(Value, frozen=True):
    """One partial file.

    Attributes:
        target: Absolute path of the file it would have become.
        size_bytes: Size of that file; None if no journal states it.
        downloaded_bytes: Bytes that a resume would not fetch again.
        disk_bytes: Bytes that deleting it frees.
        modified_s: Unix time of its last byte.
        is_in_use: A process is using it, as far as can be determined here.
    """

    target: str
    size_bytes: int | None
    downloaded_bytes: int
    disk_bytes: int
    modified_s: float
    is_in_use: bool


class PrunePlan(Value, frozen=True):
    """What pruning would delete; nothing has been deleted yet.

    Attributes:
        models: To delete, the one unused for longest first.
        unfinished: Abandoned downloads to delete.
        kept_bytes: Size of the rest.
        missing_bytes: How much more would have to be deleted to reach the requested size; the rest is kept. 0: reached.
        missing_folders: Folders whose models, which are kept, were not found: perhaps their disk is not mounted.
    """

    models: tuple[ModelUse, ...]
    unfinished: tuple[Leftover, ...]
    kept_bytes: int
    missing_bytes: int
    missing_folders: tuple[str, ...] = ()

    @property
    def freed_bytes(self) -> int:
        """What deleting all of it frees."""
        return sum(model.size_bytes for model in self.models) + sum(one.disk_bytes for one in self.unfinished)

    def __bool__(self) -> bool:
        """Whether there is anything to delete."""
        return bool(self.models or self.unfinished)


def by_age(models: Iterable[ModelUse]) -> list[ModelUse]:
    """The models in the order in which they are deleted: unused for longest first."""
    return sorted(models, key=lambda model: (model.last_used_at_s, model.id))


def plan_pruning(
    models: Sequence[ModelUse],
    unfinished: Sequence[Leftover],
    now_s: float,
    *,
    keep_bytes: float | None = None,
    unused_s: float | None = None,
) -> PrunePlan:
    """Chooses what to delete of all registered models and of downloads that are in no kernel's queue.

    Abandoned downloads come first. `unused_s` selects models and abandoned downloads that were unused for that long;
    `keep_bytes` selects models, those unused for longest first, until the rest is no larger. With both, both hold.
    """
    deleted = [one for one in unfinished if unused_s is None or now_s - one.modified_s >= unused_s]
    chosen: list[ModelUse] = []
    needed: set[str] = set()
    left_bytes = sum(model.size_bytes for model in models)
    left_bytes += sum(one.disk_bytes for one in unfinished if one not in deleted)
    for model in by_age(models):
        is_old = unused_s is not None and now_s - model.last_used_at_s >= unused_s
        is_too_much = keep_bytes is not None and left_bytes > keep_bytes
        if not model.is_kept and (is_old or (is_too_much and (model.size_bytes > 0 or model.shares_with))):
            chosen.append(model)
            left_bytes -= model.size_bytes
            needed |= {model.id} if is_old or model.size_bytes else set()
    # One that frees nothing by itself is only deleted with one that then frees more.
    chosen = [model for model in chosen if not needed.isdisjoint((model.id, *model.shares_with))]
    missing_bytes = 0 if keep_bytes is None else int(max(0, left_bytes - keep_bytes))
    return PrunePlan(tuple(chosen), tuple(deleted), left_bytes, missing_bytes)


# A short digest for every block of a file finds its wrong bytes when the whole is wrong. XXH3 costs a twentieth of
# SHA-256, which alone decides whether a file is right: it is no protection against intent.

BLOCK_BYTES: Final = 4 * 1024**2
"""2 KB of digests for a GB of file, and at most this is downloaded again for one wrong byte."""
_DIGEST_BYTES: Final = 8


class BlockDigests:
    """Digests of consecutive blocks of the fed bytes, the last one shorter."""

    def __init__(self) -> None:
        self._digests: bytearray = bytearray()
        self._block = xxhash.xxh3_64()
        self._left_bytes: int = BLOCK_BYTES

    def feed(self, data: memoryview) -> None:
        """Takes the next bytes."""
        while len(data) > 0:
            piece = data[: self._left_bytes]
            self._block.update(piece)
            self._left_bytes -= len(piece)
            if not self._left_bytes:
                self._digests += self._block.digest()
                self._block.reset()
                self._left_bytes = BLOCK_BYTES
            data = data[len(piece) :]

    def digest(self) -> bytes:
        """The digests of all fed bytes."""
        return bytes(self._digests) + (b"" if self._left_bytes == BLOCK_BYTES else self._block.digest())


def wrong_ranges(expected: bytes, actual: bytes, size_bytes: int) -> tuple[tuple[int, int], ...]:
    """The changed bytes of a file of `size_bytes`, in whole blocks, from its digests when it was right and now."""
    joined: list[tuple[int, int]] = []
    for number, at in enumerate(range(0, len(expected), _DIGEST_BYTES)):
        if expected[at : at + _DIGEST_BYTES] != actual[at : at + _DIGEST_BYTES]:
            start = number * BLOCK_BYTES
            first = joined.pop()[0] if joined and joined[-1][1] == start else start
            joined.append((first, min(size_bytes, start + BLOCK_BYTES)))
    return tuple(joined)
