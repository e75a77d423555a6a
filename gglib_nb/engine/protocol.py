"""What the kernel and the engine say to each other: JSON lines, shared by both ends.

Commands go down the engine's standard input, events come up its standard output, one object a line, its
class in `type`. The engine has no queue and no policy: it runs the attempts it is told to and reports.
Nothing here is written to a file, since `Configure` carries the token.

Every attempt that was started ends with exactly one of `TransferFinished`, `TransferFailed`,
`TransferStopped`, and every check with one `CheckEnded`. Progress may be dropped when a newer one replaces it; the ends
never are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from gglib_nb.domain.checking import CheckedFile
from gglib_nb.domain.download import PlannedFile, ShardStatus, StoredFile

NoticeKind = Literal[
    "connecting", "stalled", "retrying", "verifying", "finalizing", "waiting", "linked", "offline",
    "comparing", "copying",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Configure:
    """First command, and again when a setting changes.

    Attributes:
        endpoint: The hub's base URL.
        token: None: anonymous. Sent to the endpoint's own origin only.
        bandwidth_limit_bytes_per_second: For all transfers together; None is unlimited.
        max_connections: For all transfers together.
        link_folders: Folders that may hold an identical file to link (the Hugging Face cache, the models folder).
        user_agent: Sent with every request.
        network_wait_s: How long a transfer waits for a network that is gone before it fails.
        max_concurrent: Transfers that each of several engines may run at once; said to those who place them, a process
            takes no note of it.
    """

    endpoint: str
    token: str | None = field(repr=False)
    bandwidth_limit_bytes_per_second: int | None
    max_connections: int
    link_folders: tuple[str, ...]
    user_agent: str
    network_wait_s: float = 86_400.0
    max_concurrent: int = 1


@dataclass(frozen=True, slots=True)
class StartTransfer:
    """Fetch these files.

    Attributes:
        attempt: Unique in the kernel's life; every event about it carries it.
        repo_id: Repository.
        commit_sha: Commit for every URL.
        files: What to fetch; those with one target are joined in it.
        force: Fetch although an identical file could be linked or is there, and reuse nothing; replace another file at
            the target.
        replaces: Another file at a target is replaced once the new one is verified.
        donors: Files that may hold the same tensors, beside those in the repository's own folder.
        everywhere: On the host of every engine there is; said to those who place attempts, a process takes no note of it.
        gone_owners: Lease owners (`storage.lease.owner_name`) that a cluster knows to be gone: after a moment's silence
            their leases are taken over.
    """

    attempt: int
    repo_id: str
    commit_sha: str
    files: tuple[PlannedFile, ...]
    force: bool
    replaces: bool = False
    donors: tuple[str, ...] = ()
    everywhere: bool = False
    gone_owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StopTransfer:
    """Stop the attempt within a second; its partial files stay."""

    attempt: int


@dataclass(frozen=True, slots=True)
class DiscardPartials:
    """Delete the partial files of these targets, of which no attempt runs."""

    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileToCheck:
    """A file that stands on the disk, and what it is said to be.

    Attributes:
        path: Where it stands.
        size_bytes: Its size.
        sha256: What it must hash to; None where nobody says: then it is only hashed.
        block_digests: Short digests of its blocks (`domain.content_index`) in hexadecimal, to say which are wrong;
            empty without.
    """

    path: str
    size_bytes: int
    sha256: str | None
    block_digests: str


@dataclass(frozen=True, slots=True)
class CheckFiles:
    """Hash these files, one after another, beside whatever else runs.

    Attributes:
        check: Unique in the kernel's life; every event about it carries it.
        files: What to hash.
    """

    check: int
    files: tuple[FileToCheck, ...]


@dataclass(frozen=True, slots=True)
class StopCheck:
    """End the check; nothing more is heard of it than `CheckEnded`, with the files that were hashed."""

    check: int


Command = Configure | StartTransfer | StopTransfer | DiscardPartials | CheckFiles | StopCheck


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine runs and reads commands.

    Attributes:
        pid: Its process id.
        owner: How its leases name it (`storage.lease.owner_name`).
    """

    pid: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """One file of an attempt, at the same index as in `StartTransfer.files`.

    Attributes:
        downloaded_bytes: Bytes on the disk.
        status: Where it is.
        arrived_steps: Where they stand, as in `gglib_nb.domain.download.ShardProgress`.
        verified_steps: How far its digest has come, as there.
    """

    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Sampled at 10 Hz while an attempt runs, also when nothing moved.

    Attributes:
        attempt: Of which attempt.
        sampled_s: Monotonic clock of the machine at the moment of sampling.
        files: One for every file.
        received_bytes: Bytes that came over the line in this attempt (what was on disk before is not speed).
        notice_kind: What is going on; None when bytes just flow.
        notice_s: Seconds that go with it: for how long it stalls, in how many it retries; None without.
        notice_text: What goes with it in words (`429`, `connection reset`); empty without.
        is_finalizing: All bytes are here; verifying, syncing, renaming.
        reused_bytes: Bytes on the disk that were copied from files of this machine, in this attempt or an earlier one.
        reused_from: What those files are called, the one that gave most first.
    """

    attempt: int
    sampled_s: float
    files: tuple[FileProgress, ...]
    received_bytes: int
    notice_kind: NoticeKind | None = None
    notice_s: float | None = None
    notice_text: str = ""
    is_finalizing: bool = False
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferFinished:
    """Everything stands under its final name.

    Attributes:
        files: One for every target, in the order of their first part.
    """

    attempt: int
    files: tuple[StoredFile, ...]


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The attempt ended without its goal; what is right stays on the disk.

    Attributes:
        error: As `gglib_nb.errors.to_wire` gives it.
        can_retry: Whether trying again can help without changing anything.
    """

    attempt: int
    error: dict[str, Any]
    can_retry: bool


@dataclass(frozen=True, slots=True)
class TransferStopped:
    """The attempt stopped as told; its targets are free."""

    attempt: int


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """How far a check is, ten times a second; a newer one replaces it.

    Attributes:
        check: Which.
        file_index: The file that is read now.
        done_bytes: Read of all its files together.
    """

    check: int
    file_index: int
    done_bytes: int


@dataclass(frozen=True, slots=True)
class CheckEnded:
    """A check is over.

    Attributes:
        check: Which.
        files: What came out, for each in order; fewer where it was stopped.
    """

    check: int
    files: tuple[CheckedFile, ...]


Event = Ready | Progress | TransferFinished | TransferFailed | TransferStopped | CheckProgress | CheckEnded

_MESSAGES: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Configure,
        StartTransfer,
        StopTransfer,
        DiscardPartials,
        Ready,
        Progress,
        TransferFinished,
        TransferFailed,
        TransferStopped,
        CheckFiles,
        StopCheck,
        CheckProgress,
        CheckEnded,
    )
}


def encode(message: Command | Event) -> bytes:
    """One line, its end included."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Command | Event:
    """The message of a line that `encode` wrote.

    Raises:
        ValueError: The line is not one: the other end is not ours, or broke in mid-line.
    """
    try:
        data = json.loads(line)
        kind = _MESSAGES[data.pop("type")]
        for name in _TUPLES & data.keys():
            data[name] = tuple(data[name])
        if (file := _FILE.get(kind)) is not None:
            data["files"] = tuple(file(**fields) for fields in data["files"])
        message: Command | Event = kind(**data)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        # Its bytes are not quoted: a broken `Configure` would put the token into a log.
        raise ValueError(f"not a message of the engine's protocol ({len(line)} bytes)") from error
    return message


def _file_progress(
    downloaded_bytes: int, status: str, arrived_steps: Sequence[int] = (), verified_steps: int = 0
) -> FileProgress:
    return FileProgress(downloaded_bytes, ShardStatus(status), tuple(arrived_steps), verified_steps)


def _stored_file(**fields: Any) -> StoredFile:  # noqa: ANN401  # fields of several types
    typed = {"wrong_ranges": _ranges(fields["wrong_ranges"]), "reused_from": tuple(fields["reused_from"])}
    return StoredFile(**fields | typed)


def _planned_file(**fields: Any) -> PlannedFile:  # noqa: ANN401  # as above
    return PlannedFile(**fields | {"wrong_ranges": _ranges(fields["wrong_ranges"])})


def _checked_file(**fields: Any) -> CheckedFile:  # noqa: ANN401  # as above
    return CheckedFile(**fields | {"wrong_ranges": _ranges(fields["wrong_ranges"])})


def _ranges(pairs: list[list[int]] | None) -> tuple[tuple[int, int], ...] | None:
    return None if pairs is None else tuple((start, end) for start, end in pairs)


_TUPLES: Final = frozenset({"link_folders", "targets", "donors", "reused_from", "gone_owners"})
_FILE: Final[Mapping[type[Any], Any]] = {
    StartTransfer: _planned_file,
    Progress: _file_progress,
    TransferFinished: _stored_file,
    CheckFiles: FileToCheck,
    CheckEnded: _checked_file,
}
