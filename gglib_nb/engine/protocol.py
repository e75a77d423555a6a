"""Commands to an engine and reports from it: one JSON line each, with the class in `type`.

Commands go to the engine's standard input, events come from its standard output. The engine has no queue and no policy:
it runs the attempts it is given and reports on them. Nothing here is written to a file, because `Configure` carries the
token.

Every attempt that was started ends with exactly one of `TransferFinished`, `TransferFailed` and `TransferStopped`, and
every check with one `CheckEnded`. Progress may be dropped in favour of newer progress; ends never are.
"""

import json
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from typing_extensions import override

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.library import CheckedFile
from gglib_nb.domain.reports import (
    DiscardPartials,
    EngineLost,
    EnginesChanged,
    EngineSilent,
    LimitConcurrency,
    Message,
    Progress,
    StopTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
    TransferWaits,
)
from gglib_nb.domain.values import plain, restored

# --- Commands ---------------------------------------------------------------------------------------------------------


class Configure(Message, frozen=True):
    """First command, and sent again when a setting changes. Limits are for all transfers together."""

    endpoint: str  # the hub's base URL
    token: str | None  # None: anonymous. Sent to the endpoint's own origin only
    bandwidth_limit_bytes_per_second: int | None  # None is unlimited
    max_connections: int
    link_folders: tuple[str, ...]  # may hold an identical file to link (the Hugging Face cache, the models folder)
    user_agent: str  # sent with every request
    network_wait_s: float = 86_400.0  # how long a transfer waits for a network that is down before it fails
    mirrors: tuple[str, ...] = ()  # asked, without the token, for files of a known SHA-256 that the hub cannot provide
    modelscope: str = ""  # base URL of ModelScope, which serves the repositories of its prefix. It gets no token

    @override
    def __repr__(self) -> str:
        return f"Configure(endpoint={self.endpoint!r}, max_connections={self.max_connections})"  # never the token

    @override
    def __rich_repr__(self) -> Any:  # rich's protocol; the default would show the token
        yield "endpoint", self.endpoint
        yield "max_connections", self.max_connections


class StartTransfer(Message, frozen=True):
    """Download these files of a commit; `attempt` is unique in the kernel's life, and every event about it carries it.

    With `force`, nothing on this machine is linked, kept or reused, and another file at a target is replaced.
    """

    attempt: int
    repo_id: str
    commit_sha: str
    files: tuple[PlannedFile, ...]  # those with the same target are joined in it
    force: bool
    replaces: bool = False  # another file at a target is replaced once the new one is verified
    donors: tuple[str, ...] = ()  # files that may hold the same tensors, beside those in the repository's own folder
    # Lease owners (`lease.Owner.name`) that a cluster knows to be gone: their leases are soon taken over.
    gone_owners: tuple[str, ...] = ()
    known_folders: tuple[str, ...] = ()  # on the disk of the files; if none of them exists, it is not mounted


class FileToCheck(Struct, frozen=True, forbid_unknown_fields=True):
    """A file on the disk, and what it should be."""

    path: str
    size_bytes: int
    sha256: str | None  # None if unknown: then it is only hashed
    block_digests: str  # of its blocks (`domain.library`), in hexadecimal, to find the wrong ones; empty if unknown


class CheckFiles(Message, frozen=True):
    """Hash these files one after another, beside any transfers; every event about it carries the check's number."""

    check: int
    files: tuple[FileToCheck, ...]


class StopCheck(Message, frozen=True):
    """End the check; only its `CheckEnded` follows, with the files that were hashed."""

    check: int


Command = Configure | StartTransfer | StopTransfer | DiscardPartials | CheckFiles | StopCheck


class StartEverywhere(Message, frozen=True):
    """Run a transfer once for every models folder that the engines have. A single engine runs it once."""

    transfer: StartTransfer


EngineCommand = Command | LimitConcurrency | StartEverywhere
"""What an engine's `send` takes; the process itself does not know the last two."""


# --- Events of the process --------------------------------------------------------------------------------------------


class Ready(Message, frozen=True):
    """The engine runs and reads commands; `owner` is its name in leases (`lease.Owner.name`)."""

    pid: int
    owner: str = ""


class CheckProgress(Message, frozen=True):
    """Progress of a check, ten times a second: the file being read, and the bytes read of all its files together."""

    check: int
    file_index: int
    done_bytes: int


class CheckEnded(Message, frozen=True):
    """A check is over: the result for each file in order; fewer if it was stopped."""

    check: int
    files: tuple[CheckedFile, ...]


ProcessEvent = Ready | Progress | TransferFinished | TransferFailed | TransferStopped | CheckProgress | CheckEnded

ProcessReport = ProcessEvent | EngineLost | EngineSilent
"""What is reported of one engine; its client adds the last two."""

Report = ProcessReport | EnginesChanged | TransferWaits
"""What `on_event` of an engine's client receives."""

Task = tuple[str, int]
"""An attempt or a check: which of the two, and its number."""


def task_of(message: Message) -> Task | None:
    """The attempt or check that a message names; None: neither."""
    numbers = ((name, getattr(message, name, None)) for name in ("attempt", "check"))
    return next(((name, number) for name, number in numbers if number is not None), None)


# --- Lines ------------------------------------------------------------------------------------------------------------

_Message = TypeVar("_Message")

_encoder: Final = msgspec.json.Encoder(enc_hook=plain)
_command_decoder: Final = msgspec.json.Decoder(Command)
_report_decoder: Final = msgspec.json.Decoder(ProcessReport, dec_hook=restored)


def encode(message: Message) -> bytes:
    """One line, including its end; what is no valid text (a file's name, for example) has question marks in it."""
    try:
        return _encoder.encode(message) + b"\n"
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(message, enc_hook=plain), ensure_ascii=False)
        return text.encode(errors="replace") + b"\n"


def decode_command(line: bytes) -> Command:
    """The command that `encode` wrote; raises `ValueError` for any other line."""
    return decode_with(_command_decoder, line)


def decode_report(line: bytes) -> ProcessReport:
    """The report that `encode` wrote; raises `ValueError` for any other line."""
    return decode_with(_report_decoder, line)


def decode_with(decoder: "msgspec.json.Decoder[_Message]", line: bytes) -> _Message:
    """What the decoder makes of a line; raises `ValueError` if that is no message."""
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # Its bytes are not quoted: a broken `Configure` would put the token into a log.
    raise ValueError(f"not a message of the engine's protocol ({len(line)} bytes)")
