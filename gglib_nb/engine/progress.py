"""How far a transfer is, as it is reported to the kernel: bytes, and one notice, the most useful one.

Reads the state of the files and changes nothing.
"""

from collections.abc import Sequence
from typing import Final

from gglib_nb.domain.values import Value
from gglib_nb.engine.file import DownloadFile, Part, Stage
from gglib_nb.engine.http import SilentError
from gglib_nb.engine.protocol import FileProgress, NoticeKind, Progress
from gglib_nb.engine.retry import Outage

# A line that receives nothing for so long is called stalled; connections are replaced later than that.
_SILENT_S: Final = 2.0


class Line(Value, frozen=True):
    """How the line is.

    Attributes:
        now_s: The coordinator's clock.
        moved_s: When the last byte came.
        received_bytes: In this attempt; 0 before the first.
        outage: Set while there is no network.
    """

    now_s: float
    moved_s: float
    received_bytes: int
    outage: Outage | None


class Notice(Value, frozen=True):
    """What is happening.

    Attributes:
        kind: None when bytes simply arrive.
        seconds: What belongs to it; None without.
        text: In words; empty without.
        is_finalizing: All bytes are on the disk.
    """

    kind: NoticeKind | None
    seconds: float | None = None
    text: str = ""
    is_finalizing: bool = False


class Rest(Value, frozen=True):
    """What there is to say of the files that are not open: those that are pending, and those that are done.

    Attributes:
        has_pending: Some are pending.
        is_linked: One was linked from elsewhere on this machine.
        reused: How many bytes of those that are done were copied from files of this machine, and their names.
    """

    has_pending: bool
    is_linked: bool
    reused: tuple[int, tuple[str, ...]]


def progress_of(
    attempt: int, open_files: Sequence[DownloadFile], rest: Rest, reports: Sequence[FileProgress], line: Line
) -> Progress:
    """The whole of it; `reports` has one entry for each file of the command. Files that are not open cost nothing here."""
    notice = notice_of(open_files, rest, line)
    reused = [rest.reused, *(file.reused for file in open_files)]
    return Progress(
        attempt=attempt,
        sampled_s=line.now_s,
        files=tuple(reports),
        received_bytes=line.received_bytes,
        notice_kind=notice.kind,
        notice_s=notice.seconds,
        notice_text=notice.text,
        is_finalizing=notice.is_finalizing,
        reused_bytes=sum(count for count, _ in reused),
        reused_from=tuple(dict.fromkeys(name for _, names in reused for name in names)),
    )


def notice_of(unfinished: Sequence[DownloadFile], rest: Rest, line: Line) -> Notice:
    """The notice of a transfer with these open files."""
    if not unfinished and not rest.has_pending and rest.is_linked:
        return Notice("linked", is_finalizing=True)
    if not rest.has_pending and all(_has_all_bytes(file) for file in unfinished):
        is_hashing = any(file.stage is Stage.FETCHING for file in unfinished)
        return Notice("verifying" if is_hashing else "finalizing", is_finalizing=True)
    checks = [file.check for file in unfinished if file.stage is Stage.CHECKING and file.check is not None]
    if any(check.owner_bytes is not None for check in checks):
        return Notice("waiting")  # which process it is, the kernel may know
    if line.outage is not None:
        return Notice("offline", text=line.outage.since_text)
    if any(file.requests for file in unfinished):
        found = _of_line(line)
        return _of_reuse(unfinished) or found if found.kind is None else found
    waiting = [part for file in unfinished for part in file.parts if part.troubles.text]
    if waiting:
        return _of_wait(min(waiting, key=lambda one: one.troubles.retry_at_s), line)
    if any(check.hashed_bytes is not None for check in checks):
        return Notice("verifying")
    return _of_reuse(unfinished) or Notice("connecting")


def _has_all_bytes(file: DownloadFile) -> bool:
    return file.stage is Stage.FINALIZING or (file.stage is Stage.FETCHING and file.has_all_bytes)


def _of_reuse(files: Sequence[DownloadFile]) -> Notice | None:
    """What is done with files of this machine; None: nothing."""
    if any(file.stage is Stage.COMPARING for file in files):
        return Notice("comparing")
    return Notice("copying") if any(file.copy is not None for file in files) else None


def _of_wait(part: Part, line: Line) -> Notice:
    if isinstance(part.troubles.last, SilentError):
        return Notice("stalled", line.now_s - line.moved_s, part.troubles.text)
    return Notice("retrying", max(0.0, part.troubles.retry_at_s - line.now_s), part.troubles.text)


def _of_line(line: Line) -> Notice:
    silent_s = line.now_s - line.moved_s
    if silent_s >= _SILENT_S:
        return Notice("stalled", silent_s)
    return Notice(None if line.received_bytes else "connecting")
