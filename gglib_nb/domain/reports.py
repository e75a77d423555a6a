"""The messages of queue and engine: lines of the engine's protocol, and events and effects of the queue machine."""

from typing import Literal

from msgspec import Struct

from gglib_nb.domain.download import HostFolder, HostProgress, ShardStatus, StoredFile
from gglib_nb.errors import GglibError

NoticeKind = Literal[
    "connecting", "stalled", "retrying", "verifying", "finalizing", "waiting", "linked", "offline",
    "comparing", "copying",
]  # fmt: skip


class Message(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One line; its class name is sent as `type`."""


# --- Commands ---------------------------------------------------------------------------------------------------------


class StopTransfer(Message, frozen=True):
    """Stop the attempt within a second; its partial files are kept."""

    attempt: int


class DiscardPartials(Message, frozen=True):
    """Delete the partial files of these targets, which no attempt is writing."""

    targets: tuple[str, ...]


class LimitConcurrency(Message, frozen=True):
    """How many transfers each of several engines may run at once, at least 1. A single engine ignores it."""

    max_concurrent: int


# --- Reports ----------------------------------------------------------------------------------------------------------


class FileProgress(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an attempt, at the same index as in `StartTransfer.files`; fields as in `ShardProgress`."""

    downloaded_bytes: int
    status: ShardStatus
    arrived_steps: tuple[int, ...] = ()
    verified_steps: int = 0


class Progress(Message, frozen=True):
    """Sampled at 10 Hz while an attempt runs, even if nothing changed."""

    attempt: int
    sampled_s: float  # the machine's monotonic clock
    files: tuple[FileProgress, ...]
    received_bytes: int  # from the network in this attempt
    notice_kind: NoticeKind | None = None  # the condition to report; None while bytes arrive normally
    notice_s: float | None = None  # how long it has stalled, when it retries; None for other notices
    notice_text: str = ""  # detail for the notice (`429`, `connection reset`); empty if there is none
    is_finalizing: bool = False  # all bytes have arrived; the files are verified, synced and renamed
    reused_bytes: int = 0  # on the disk, copied from files on this machine in this attempt or an earlier one
    reused_from: tuple[str, ...] = ()  # names of those files, the one with the most bytes first
    mirrors: tuple[str, ...] = ()  # hosts of the mirrors that sent bytes of it in this attempt
    hosts: tuple[HostProgress, ...] = ()  # of a cluster; empty on this machine. With several, `files` counts all copies


class TransferWaits(Message, frozen=True):
    """An attempt was started but no engine can take it now, for this reason; it starts automatically when one can."""

    attempt: int
    reason: str


class TransferFinished(Message, frozen=True):
    """Every file has its final name."""

    attempt: int
    files: tuple[StoredFile, ...]  # one for every target, in the order of their first part
    hosts: tuple[HostFolder, ...] = ()  # of a cluster, that see the files; empty on this machine


class TransferFailed(Message, frozen=True):
    """The attempt failed; downloaded data is kept."""

    attempt: int
    error: GglibError
    can_retry: bool  # whether trying again can help without changing anything


class TransferStopped(Message, frozen=True):
    """The attempt stopped as requested; its targets are free."""

    attempt: int


class EngineLost(Message, frozen=True):
    """An engine ended although nothing closed it; its attempts are void (None: all, as there is no other engine)."""

    reason: str = ""
    attempts: frozenset[int] | None = None


class EngineSilent(Message, frozen=True):
    """An engine is alive but does not report although it has work; repeated each second until that ends."""

    silent_s: float  # since its last report
    attempts: frozenset[int] | None = None  # those without reports; None: all, because there is no other engine
    detail: str = ""  # what is known of the cause, such as that it has not started, and where its log is


class EnginesChanged(Message, frozen=True):
    """This many engines share the work from now on, each with its own slots; a single engine never sends it."""

    count: int
