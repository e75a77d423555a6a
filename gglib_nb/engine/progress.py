"""How far a transfer is, as reported to the kernel: bytes, and the one most useful notice. Only reads the files' state."""

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
    """The network as a transfer sees it: its clock, when the last byte came, the bytes so far, the outage if there is one."""

    now_s: float
    moved_s: float
    received_bytes: int
    outage: Outage | None


class Notice(Value, frozen=True):
    """The notice fields of `Progress`; the kind is None while bytes simply arrive."""

    kind: NoticeKind | None
    seconds: float | None = None
    text: str = ""
    is_finalizing: bool = False


def progress_of(attempt: int, files: Sequence[DownloadFile], reports: Sequence[FileProgress], line: Line) -> Progress:
    """The progress of an attempt; `reports` has one entry for each file of the command."""
    notice = notice_of(files, line)
    reused = [one.reused for one in files]
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


def notice_of(files: Sequence[DownloadFile], line: Line) -> Notice:
    """The notice of a transfer of these files."""
    unfinished = [file for file in files if file.stage not in (Stage.PENDING, Stage.DONE)]
    if not any(file.stage is Stage.PENDING for file in files) and all(map(_has_all_bytes, unfinished)):
        if not unfinished and any(file.is_linked for file in files):
            return Notice("linked", is_finalizing=True)
        is_hashing = any(file.stage is Stage.FETCHING for file in unfinished)
        return Notice("verifying" if is_hashing else "finalizing", is_finalizing=True)
    checks = [file.check for file in unfinished if file.stage is Stage.CHECKING and file.check is not None]
    if any(check.owner_bytes is not None for check in checks):
        return Notice("waiting")  # the kernel may know for which process
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
