"""How far a transfer is, as the kernel is told: bytes, and one notice, the most useful one.

Reads the state of the targets and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gglib_nb.engine.http import SilentError
from gglib_nb.engine.protocol import NoticeKind, Progress
from gglib_nb.engine.retry import Outage
from gglib_nb.engine.transfer.stages import Stage
from gglib_nb.engine.transfer.target import Part, Target

# A line that gives nothing for so long is called stalled; connections are made anew later than that.
_SILENT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Notice:
    """What is going on.

    Attributes:
        kind: None when bytes just flow.
        seconds: What goes with it; None without.
        text: In words; empty without.
        is_finalizing: All bytes are here.
    """

    kind: NoticeKind | None
    seconds: float | None = None
    text: str = ""
    is_finalizing: bool = False


def progress_of(
    attempt: int, targets: Sequence[Target], now_s: float, moved_s: float, received_bytes: int, outage: Outage | None
) -> Progress:
    """The whole of it; arguments as for `notice_of`."""
    files = {
        index: progress for target in targets for index, progress in zip(target.indexes, target.progress(), strict=True)
    }
    notice = notice_of(targets, now_s, moved_s, received_bytes, outage)
    return Progress(
        attempt=attempt,
        sampled_s=now_s,
        files=tuple(files[index] for index in range(len(files))),
        received_bytes=received_bytes,
        notice_kind=notice.kind,
        notice_s=notice.seconds,
        notice_text=notice.text,
        is_finalizing=notice.is_finalizing,
        reused_bytes=sum(target.reused_bytes for target in targets),
        reused_from=tuple(dict.fromkeys(name for target in targets for name in target.reused_from)),
    )


def notice_of(
    targets: Sequence[Target], now_s: float, moved_s: float, received_bytes: int, outage: Outage | None
) -> Notice:
    """The notice of a transfer.

    Args:
        targets: All of it.
        now_s: The coordinator's clock.
        moved_s: When the last byte came.
        received_bytes: In this attempt; 0 before the first.
        outage: Set while the network is gone.
    """
    if any(target.is_linked for target in targets) and all(target.stage is Stage.DONE for target in targets):
        return Notice("linked", is_finalizing=True)
    if _has_all_bytes(targets):
        is_hashing = any(target.stage is Stage.FETCHING for target in targets)
        return Notice("verifying" if is_hashing else "finalizing", is_finalizing=True)
    checks = [one.check for one in targets if one.stage is Stage.CHECKING and one.check]
    if any(one.owner_bytes is not None for one in checks):
        return Notice("waiting")  # who it is, the kernel may know
    if outage is not None:
        return Notice("offline", text=outage.since_text)
    if any(target.requests for target in targets):
        line = _of_line(now_s - moved_s, received_bytes)
        return _of_reuse(targets) or line if line.kind is None else line
    waiting = [
        part for target in targets if target.stage is Stage.FETCHING for part in target.parts if part.troubles.text
    ]
    if waiting:
        return _of_wait(min(waiting, key=lambda one: one.troubles.retry_at_s), now_s, moved_s)
    if any(one.hashed_bytes is not None for one in checks):
        return Notice("verifying")
    return _of_reuse(targets) or Notice("connecting")


def _has_all_bytes(targets: Sequence[Target]) -> bool:
    complete = (Stage.FINALIZING, Stage.DONE)
    return all(
        target.stage in complete or (target.stage is Stage.FETCHING and target.has_all_bytes) for target in targets
    )


def _of_reuse(targets: Sequence[Target]) -> Notice | None:
    """What is done with files of this machine; None: nothing."""
    if any(target.stage is Stage.COMPARING for target in targets):
        return Notice("comparing")
    return Notice("copying") if any(target.copy is not None for target in targets) else None


def _of_wait(part: Part, now_s: float, moved_s: float) -> Notice:
    if isinstance(part.troubles.last, SilentError):
        return Notice("stalled", now_s - moved_s)
    return Notice("retrying", max(0.0, part.troubles.retry_at_s - now_s), part.troubles.text)


def _of_line(silent_s: float, received_bytes: int) -> Notice:
    if silent_s >= _SILENT_S:
        return Notice("stalled", silent_s)
    return Notice(None if received_bytes else "connecting")
