"""What the manager exchanges with an engine beyond the process protocol: the seam of both engines, local and Dask.

The process sends the events of `protocol`; its client adds that it died or fell silent. Where several engines share the
work, the client also takes the two commands below, which one process has no use for, and reports which host does what.
"""

from typing import Final

import msgspec

from gglib_nb.domain.download import HostFolder, HostProgress
from gglib_nb.engine.protocol import (
    Command,
    Event,
    Message,
    Progress,
    StartTransfer,
    TransferFinished,
    decode_with,
)


class SetConcurrency(Message, frozen=True):
    """How many transfers each of several engines may run at once. A single engine ignores it.

    Attributes:
        max_concurrent: At least 1.
    """

    max_concurrent: int


class StartEverywhere(Message, frozen=True):
    """Run a transfer once for every models folder that the engines have. A single engine runs it once.

    Attributes:
        transfer: What to run.
    """

    transfer: StartTransfer


EngineCommand = Command | SetConcurrency | StartEverywhere
"""What an engine's `send` takes."""


class EngineLost(Message, frozen=True):
    """An engine ended although nothing closed it; its attempts are void.

    Attributes:
        reason: How it ended, in words.
        attempts: Those that are void; None: all, because there is no other engine.
    """

    reason: str
    attempts: frozenset[int] | None = None


class EngineSilent(Message, frozen=True):
    """An engine is alive but does not report although it has work; repeated each second until it does or is replaced.

    Attributes:
        silent_s: Seconds since its last report.
        attempts: Those without reports; None: all, because there is no other engine.
        detail: What is known of the cause, such as that it has not started, and where its log is; empty without.
    """

    silent_s: float
    attempts: frozenset[int] | None = None
    detail: str = ""


class EnginesChanged(Message, frozen=True):
    """This many engines share the work from now on, each with its own slots; a single engine never sends it."""

    count: int


class TransferWaits(Message, frozen=True):
    """An attempt was started and no engine can take it now; it begins by itself when one can.

    Attributes:
        attempt: Its attempt.
        reason: What it waits for, in words.
    """

    attempt: int
    reason: str


class HostedProgress(Message, frozen=True):
    """Progress of an attempt that runs on named hosts.

    Attributes:
        progress: Of all of them together.
        hosts: The progress of each.
    """

    progress: Progress
    hosts: tuple[HostProgress, ...]


class HostedFinish(Message, frozen=True):
    """An attempt is finished, and these hosts have its files.

    Attributes:
        finished: The event of the process.
        hosts: Every host that sees the files, and its models folder.
    """

    finished: TransferFinished
    hosts: tuple[HostFolder, ...]


ProcessReport = Event | EngineLost | EngineSilent
"""What is reported of one engine."""

Report = ProcessReport | EnginesChanged | TransferWaits | HostedProgress | HostedFinish
"""What `on_event` of an engine's client receives."""

_decoder: Final = msgspec.json.Decoder(ProcessReport)


def decode_report(line: bytes) -> ProcessReport:
    """The report that `protocol.encode` wrote.

    Raises:
        ValueError: The line is not a report.
    """
    return decode_with(_decoder, line)
