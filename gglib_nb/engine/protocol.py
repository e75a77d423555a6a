"""Commands to the engine and events from it: one JSON line each, with the class in `type`.

Commands go to the engine's standard input, events come from its standard output. The engine has no queue and no policy:
it runs the attempts it is given and reports on them. Nothing here is written to a file, because `Configure` carries
the token.

Every attempt that was started ends with exactly one of `TransferFinished`, `TransferFailed` and `TransferStopped`, and
every check with one `CheckEnded`. Progress may be dropped in favour of newer progress; ends never are.
"""

from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct
from typing_extensions import override

from gglib_nb.domain.download import PlannedFile, ShardStatus, StoredFile
from gglib_nb.domain.library import CheckedFile
from gglib_nb.domain.values import plain

NoticeKind = Literal[
    "connecting", "stalled", "retrying", "verifying", "finalizing", "waiting", "linked", "offline",
    "comparing", "copying",
]  # fmt: skip


class Message(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One line; its class name is sent as `type`."""


class Configure(Message, frozen=True):
    """First command, and sent again when a setting changes.

    Attributes:
        endpoint: The hub's base URL.
        token: None: anonymous. Sent to the endpoint's own origin only.
        bandwidth_limit_bytes_per_second: For all transfers together; None is unlimited.
        max_connections: For all transfers together.
        link_folders: Folders that may hold an identical file to link (the Hugging Face cache, the models folder).
        user_agent: Sent with every request.
        network_wait_s: How long a transfer waits for a network that is down before it fails.
        timeout_s: How long a host may be silent before it answers; None: the engine's own.
    """

    endpoint: str
    token: str | None
    bandwidth_limit_bytes_per_second: int | None
    max_connections: int
    link_folders: tuple[str, ...]
    user_agent: str
    network_wait_s: float = 86_400.0
    timeout_s: float | None = None

    @override
    def __repr__(self) -> str:
        return f"Configure(endpoint={self.endpoint!r}, max_connections={self.max_connections})"  # never the token

    @override
    def __rich_repr__(self) -> Any:  # rich's protocol; the default would show the token
        yield "endpoint", self.endpoint
        yield "max_connections", self.max_connections


class StartTransfer(Message, frozen=True):
    """Download these files.

    Attributes:
        attempt: Unique in the kernel's life; every event about it carries it.
        repo_id: Repository.
        commit_sha: Commit for every URL.
        files: What to download; files with the same target are joined in it.
        force: Download although an identical file could be linked or is present, reuse nothing, and replace another
            file at the target.
        replaces: Another file at a target is replaced once the new one is verified.
        donors: Files that may hold the same tensors, beside those in the repository's own folder.
        folder: A folder that must exist, or the disk that it is on counts as not mounted; None: folders are made as needed.
        gone_owners: Lease owners (`lease.owner_name`) that a cluster knows to be gone: after a moment's silence their
            leases are taken over.
    """

    attempt: int
    repo_id: str
    commit_sha: str
    files: tuple[PlannedFile, ...]
    force: bool
    replaces: bool = False
    donors: tuple[str, ...] = ()
    gone_owners: tuple[str, ...] = ()
    folder: str | None = None


class StopTransfer(Message, frozen=True):
    """Stop the attempt within a second; its partial files are kept."""

    attempt: int


class DiscardPartials(Message, frozen=True):
    """Delete the partial files of these targets, which no attempt is writing."""

    targets: tuple[str, ...]


class FileToCheck(Struct, frozen=True, forbid_unknown_fields=True):
    """A file on the disk, and what it should be.

    Attributes:
        path: Where it is.
        size_bytes: Its size.
        sha256: What it must hash to; None if unknown: then it is only hashed.
        block_digests: Short digests of its blocks (`domain.content_index`) in hexadecimal, to find the wrong ones;
            empty if unknown.
    """

    path: str
    size_bytes: int
    sha256: str | None
    block_digests: str


class CheckFiles(Message, frozen=True):
    """Hash these files one after another, beside any transfers.

    Attributes:
        check: Unique in the kernel's life; every event about it carries it.
        files: What to hash.
    """

    check: int
    files: tuple[FileToCheck, ...]


class StopCheck(Message, frozen=True):
    """End the check; only its `CheckEnded` follows, with the files that were hashed."""

    check: int


Command = Configure | StartTransfer | StopTransfer | DiscardPartials | CheckFiles | StopCheck


class Ready(Message, frozen=True):
    """The engine runs and reads commands.

    Attributes:
        pid: Its process id.
        owner: Its name in leases (`lease.owner_name`).
    """

    pid: int
    owner: str = ""


class FileProgress(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an attempt, at the same index as in `StartTransfer.files`.

    Attributes:
        downloaded_bytes: Bytes on the disk.
        status: Its stage.
        arrived_steps: Which parts have arrived, as in `gglib_nb.domain.download.ShardProgress`.
        verified_steps: How far its digest has come, as there.
    """

    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


class Progress(Message, frozen=True):
    """Sampled at 10 Hz while an attempt runs, also when nothing changed.

    Attributes:
        attempt: Its attempt.
        sampled_s: The machine's monotonic clock at the moment of sampling.
        files: One for every file.
        received_bytes: Bytes received from the network in this attempt.
        notice_kind: What is happening; None when bytes simply arrive.
        notice_s: Seconds that belong to the notice: how long it has stalled, when it retries; None without.
        notice_text: Detail for the notice (`429`, `connection reset`); empty without.
        is_finalizing: All bytes have arrived; the files are verified, synced and renamed.
        reused_bytes: Bytes on the disk that were copied from files of this machine, in this attempt or an earlier one.
        reused_from: Names of those files, the one that gave most first.
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


class TransferFinished(Message, frozen=True):
    """Every file has its final name.

    Attributes:
        attempt: Its attempt.
        files: One for every target, in the order of their first part.
    """

    attempt: int
    files: tuple[StoredFile, ...]


class TransferFailed(Message, frozen=True):
    """The attempt failed; downloaded data is kept.

    Attributes:
        attempt: Its attempt.
        error: As `gglib_nb.errors.to_wire` gives it.
        can_retry: Whether trying again can help without changing anything.
    """

    attempt: int
    error: dict[str, Any]
    can_retry: bool


class TransferStopped(Message, frozen=True):
    """The attempt stopped as requested; its targets are free."""

    attempt: int


class CheckProgress(Message, frozen=True):
    """Progress of a check, ten times a second; a newer one replaces it.

    Attributes:
        check: Its check.
        file_index: The file being read.
        done_bytes: Bytes read of all its files together.
    """

    check: int
    file_index: int
    done_bytes: int


class CheckEnded(Message, frozen=True):
    """A check is over.

    Attributes:
        check: Its check.
        files: The result for each file in order; fewer if it was stopped.
    """

    check: int
    files: tuple[CheckedFile, ...]


Event = Ready | Progress | TransferFinished | TransferFailed | TransferStopped | CheckProgress | CheckEnded

_Message = TypeVar("_Message")

_encoder: Final = msgspec.json.Encoder(enc_hook=plain)
_command_decoder: Final = msgspec.json.Decoder(Command)
_event_decoder: Final = msgspec.json.Decoder(Event)


def encode(message: Message) -> bytes:
    """One line, including its end."""
    return _encoder.encode(message) + b"\n"


def decode_command(line: bytes) -> Command:
    """The command that `encode` wrote.

    Raises:
        ValueError: It is not a command: the other end is not ours, or broke off in the middle of a line.
    """
    return decode_with(_command_decoder, line)


def decode_event(line: bytes) -> Event:
    """The event that `encode` wrote.

    Raises:
        ValueError: It is not an event.
    """
    return decode_with(_event_decoder, line)


def decode_with(decoder: "msgspec.json.Decoder[_Message]", line: bytes) -> _Message:
    """What the decoder makes of a line.

    Raises:
        ValueError: The line is not such a message. Its bytes are not quoted: a broken `Configure` would put the token
            into a log.
    """
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    raise ValueError(f"not a message of the engine's protocol ({len(line)} bytes)")
