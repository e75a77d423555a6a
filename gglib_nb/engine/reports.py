"""What an engine reports to whoever sends it commands: the protocol's events, and what only its client can know.

The process says the events of `protocol`; that it died or fell silent is said for it, and where several engines share
the work, so is which host does what. All of them as lines, too, since they may cross a network.
"""

import json
from dataclasses import dataclass

from gglib_nb.domain.download import HostFolder, HostProgress
from gglib_nb.engine.protocol import Event, Progress, TransferFinished, decode, encode


@dataclass(frozen=True, slots=True)
class EngineLost:
    """An engine ended although nobody closed it; its attempts are void.

    Attributes:
        reason: How it ended, in words.
        attempts: Those that are void; None: all, since there is no other engine.
    """

    reason: str
    attempts: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class EngineSilent:
    """An engine lives and does not report although it has work; said each second until it does or is replaced.

    Attributes:
        silent_s: Seconds since it last said something.
        attempts: Those of which nothing is heard; None: all, since there is no other engine.
    """

    silent_s: float
    attempts: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class EnginesChanged:
    """So many engines share the work from now on, each with slots of its own; a single engine never says so."""

    count: int


@dataclass(frozen=True, slots=True)
class TransferWaits:
    """An attempt was started and no engine can take it now; it begins by itself when one can.

    Attributes:
        reason: What it waits for, in words.
    """

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class HostedProgress:
    """Progress of an attempt that runs on named hosts.

    Attributes:
        progress: Of all of them together.
        hosts: How far each is.
    """

    progress: Progress
    hosts: tuple[HostProgress, ...]


@dataclass(frozen=True, slots=True)
class HostedFinish:
    """An attempt is finished, and these hosts have its files.

    Attributes:
        finished: What the protocol says of it.
        hosts: Every host that sees the files, and the models folder there.
    """

    finished: TransferFinished
    hosts: tuple[HostFolder, ...]


ProcessReport = Event | EngineLost | EngineSilent
"""What is reported of one engine."""

Report = ProcessReport | EnginesChanged | TransferWaits | HostedProgress | HostedFinish
"""What `on_event` of an engine's client gets."""


def encode_report(report: ProcessReport) -> bytes:
    """One line, its end included."""
    if isinstance(report, EngineLost):
        return json.dumps({"type": "EngineLost", "reason": report.reason}).encode() + b"\n"
    if isinstance(report, EngineSilent):
        return json.dumps({"type": "EngineSilent", "silent_s": report.silent_s}).encode() + b"\n"
    return encode(report)


def decode_report(line: bytes) -> ProcessReport:
    """The report of a line that `encode_report` wrote.

    Raises:
        ValueError: The line is none.
    """
    if line.startswith(b'{"type": "EngineLost"'):
        return EngineLost(json.loads(line)["reason"])
    if line.startswith(b'{"type": "EngineSilent"'):
        return EngineSilent(json.loads(line)["silent_s"])
    event: Event = decode(line)  # type: ignore[assignment]  # an engine sends events only
    return event
