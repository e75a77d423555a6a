"""Requests, plans and stored files: what is to be downloaded, and what was."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from os import PathLike
from typing import Any, Final, TypeVar

from gglib_nb.domain.names import MOST_PIECES, DownloadId, parse_path
from gglib_nb.domain.units import listed
from gglib_nb.domain.values import Value, known_sum
from gglib_nb.errors import IncompleteShardSetError

Fact = TypeVar("Fact", str, int)
Facts = dict[str, str | int | float | bool | None]
"""What a GGUF header says, as JSON scalars; empty if it cannot be read."""
MOST_NAMED: Final = 12
"""Missing shards, or choices, that an error names."""
BAR_STEPS: Final = 128
"""A file is divided into this many equal steps to report which bytes have arrived."""


class DownloadStatus(StrEnum):
    """The state of a download, in snapshots, events and the database."""

    QUEUED = "queued"
    PAUSED = "paused"
    DOWNLOADING = "downloading"
    FINALIZING = "finalizing"
    REGISTERING = "registering"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_pending(self) -> bool:
        """Whether it waits in the queue, paused or not."""
        return self in (DownloadStatus.QUEUED, DownloadStatus.PAUSED)

    @property
    def is_active(self) -> bool:
        """Whether it runs or is being registered."""
        return self in (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING, DownloadStatus.REGISTERING)


class ShardStatus(StrEnum):
    """The state of one file of a download."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    FINISHED = "finished"


class DownloadRequest(Value, frozen=True):
    """What a caller asks for.

    Attributes:
        repo_id: `owner/name` on the Hub.
        quantization: Label, file name or key of the variant, in any case; None: gglib_nb chooses.
        revision: Branch, tag or commit; None: the default branch.
        force: Download again, and replace a file of another commit once the new one is verified.
        add_to_db: Register the finished model in the catalog.
        companions: Kinds of companion files to download with it, such as `("mmproj",)`.
        everywhere: On a cluster, download a copy for the folder of every host.
        to: An existing folder to use in place of the models folder; None: the models folder.
        then: A shell line, or a callable that takes a `FinishedDownload`; it runs once, when the download is complete.
    """

    repo_id: str
    quantization: str | None = None
    revision: str | None = None
    force: bool = False
    add_to_db: bool = True
    companions: tuple[str, ...] = ()
    everywhere: bool = False
    to: str | PathLike[str] | None = None
    then: str | Callable[[Any], object] | None = None

    @property
    def id(self) -> DownloadId:
        """The id as requested; the queue's own id names the variant that was chosen."""
        return DownloadId(self.repo_id, self.quantization, self.revision)


class PlannedFile(Value, frozen=True):
    """One file to download."""

    path_in_repo: str
    size_bytes: int | None  # None: unknown
    sha256: str | None  # the expected SHA-256; None: unknown, and the file ends as `unverified`
    target: str  # absolute path of the finished file. The parts of a byte split have the same target
    offset_bytes: int = 0  # of its first byte in the target; not 0 for later parts of a byte split
    kind: str = "shard"  # `shard`, or the kind of companion
    # Modification time of the target when it was last verified against `sha256`, None: never. A target that still has
    # it is not hashed again.
    known_mtime_ns: int | None = None
    # Bytes of the target that were wrong when it had that modification time (empty: the whole file); it is replaced,
    # and its right bytes are reused. None: nothing wrong is known.
    wrong_ranges: tuple[tuple[int, int], ...] | None = None


def sizes_by_target(files: Iterable[PlannedFile]) -> dict[str, int]:
    """The sizes of files as they are stored: the parts of a byte split are one file; an unknown size counts as 0."""
    sizes: dict[str, int] = {}
    for file in files:
        sizes[file.target] = sizes.get(file.target, 0) + (file.size_bytes or 0)
    return sizes


class PlannedDownload(Value, frozen=True):
    """A request with its commit, variant and files."""

    id: DownloadId  # the queue's id; its tail names the variant
    commit_sha: str
    label: str | None  # label of the quantization; None: the file names state none
    files: tuple[PlannedFile, ...]  # shards in order, then companions
    reason: str = ""  # why this variant, in words; empty if it was requested by name
    force: bool = False
    add_to_db: bool = True
    companions: tuple[str, ...] = ()
    # A file of another commit at a target is replaced once the new one is verified; until then its tensors may be
    # copied. Unlike with `force`, files that are present are used.
    replaces: bool = False
    # Paths of registered files that may contain the same tensors; those in the repository's own folder are found
    # anyway.
    donors: tuple[str, ...] = ()
    is_update: bool = False  # it replaces the registered model of the same id
    keeps_old: bool = False  # the old version stays registered, under an id with its commit
    everywhere: bool = False
    to: str | None = None  # absolute; the repository's folder in it exists while its disk is mounted
    then: str | None = None  # the shell line of the request
    scan_finding: str = ""  # the verdict of the Hub's security scan on one of its files; empty: no finding

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """Two plans with the same identity are the same download."""
        return (self.id.repo_id, self.commit_sha, self.id.quantization)

    @property
    def shard_count(self) -> int:
        """Files of the model itself, without companions."""
        return sum(file.kind == "shard" for file in self.files)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all files; None: one size is unknown."""
        return known_sum(file.size_bytes for file in self.files)

    @property
    def targets(self) -> frozenset[str]:
        """The paths that it writes."""
        return frozenset(file.target for file in self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """Targets of the model itself, in shard order, each once."""
        return tuple(dict.fromkeys(file.target for file in self.files if file.kind == "shard"))


class StoredFile(Value, frozen=True):
    """A file on the disk after its download.

    Attributes:
        target: Absolute path.
        kind: `shard`, or the kind of companion.
        sha256: None: not computed.
        is_verified: Whether its SHA-256 is the one that the Hub states; False: the Hub states none.
        mtime_ns: Modification time; another one later means that the file was changed.
        was_present: It existed before; no byte was downloaded.
        facts: What its GGUF header says, as JSON scalars; empty if it cannot be read.
        verified_at_s: Unix time of the last successful verification; None: never, or unknown.
        wrong_ranges: Bytes found wrong, as half-open ranges (empty: the whole file); None: nothing wrong is known.
        block_digests: Digests of its blocks in hexadecimal; empty once the catalog keeps them.
        reused_from: Labels of the files (`Q4_K_M`) with the `reused_bytes`, the one with the most bytes first.
        mirrors: Hosts of the mirrors that sent bytes of it.
    """

    target: str
    path_in_repo: str
    kind: str
    size_bytes: int
    sha256: str | None
    is_verified: bool
    mtime_ns: int
    was_present: bool
    facts: Facts
    verified_at_s: float | None = None
    wrong_ranges: tuple[tuple[int, int], ...] | None = None
    block_digests: str = ""
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()

    def fact(self, name: str, kind: type[Fact]) -> Fact | None:
        """One of the facts; None: unknown, or of another type."""
        value = self.facts.get(name)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None


class HostProgress(Value, frozen=True):
    """The progress of a download on one host of a cluster; a total of None is unknown."""

    host: str
    downloaded_bytes: int
    total_bytes: int | None
    is_finished: bool = False


class HostFolder(Value, frozen=True):
    """The models folder of one host of a cluster: the absolute path on that host."""

    host: str
    models_directory: str


def shards_of_one_set(files: Sequence[StoredFile]) -> list[StoredFile]:
    """The shards among these files, one complete set (else an `IncompleteShardSetError`); none for a single model."""
    readable = [file for file in files if file.kind == "shard" and file.facts]
    shards = [file for file in readable if _number(file, "split_count") > 1]
    if not shards and len(readable) <= 1:
        return []
    counts = {_number(shard, "split_count") for shard in shards}
    numbers = {_number(shard, "split_no") + 1 for shard in shards}
    expected = range(1, min(max(counts, default=0), MOST_PIECES) + 1)
    missing = tuple(number for number in expected if number not in numbers)
    if missing and len(shards) == len(readable):
        raise IncompleteShardSetError(
            f"Shards {listed(missing, MOST_NAMED)} of {max(counts)} are missing, according to the headers of the "
            "others. Download the whole set.",
            missing=missing,
        )
    tensors = {_number(shard, "split_tensors_count") for shard in shards} - {0}
    architectures = {shard.fact("architecture", str) for shard in shards} - {None}
    is_one_set = counts == {len(readable)} == {len(shards)} and len(tensors) <= 1 >= len(architectures)
    if not is_one_set or (tensors and tensors != {sum(_number(shard, "tensor_count") for shard in shards)}):
        raise not_one_set()
    return shards


def not_one_set() -> IncompleteShardSetError:
    """The error for shards of several models."""
    return IncompleteShardSetError(
        "According to their headers, the files are not shards of one model. Choose another variant."
    )


def refuse_stray_shard(path: str, facts: Facts) -> None:
    """Raises `IncompleteShardSetError` if a header and a path number a shard differently: it cannot be loaded."""
    split = parse_path(path).split
    named = (split.number, split.total) if split else (1, 1)
    found = (int(facts.get("split_no") or 0) + 1, int(facts.get("split_count") or 1))
    if found != named:
        raise IncompleteShardSetError(
            f"{path} is shard {found[0]} of {found[1]} by its header, not {named[0]} of {named[1]} as its name says, "
            "so nothing could load it; queue another variant."
        )


def _number(file: StoredFile, name: str) -> int:
    return file.fact(name, int) or 0
