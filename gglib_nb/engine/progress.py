"""The progress of a transfer as reported to the kernel: bytes, and the most useful notice. Only reads the files' state."""

from collections.abc import Sequence
from typing import Final

from gglib_nb.domain.download import BAR_STEPS, ShardStatus
from gglib_nb.domain.reports import FileProgress, NoticeKind, Progress
from gglib_nb.domain.values import Value
from gglib_nb.engine.connections import Connections
from gglib_nb.engine.file import DownloadFile, Part, Stage
from gglib_nb.engine.http import SilentError
from gglib_nb.engine.local import TargetCheck
from gglib_nb.engine.retry import Outage

# A line that receives nothing for this long is called stalled; connections are replaced later.
_SILENT_S: Final = 2.0


# --- One file ---------------------------------------------------------------------------------------------------------


def reports_of(file: DownloadFile) -> list[FileProgress]:
    """The progress of a file: one report for each part."""
    return [FileProgress(*_bytes_and_status(file, part), *_steps(file, part)) for part in file.parts]


def _bytes_and_status(file: DownloadFile, part: Part) -> tuple[int, ShardStatus]:
    if file.stage is Stage.DONE:
        return part.size_bytes or 0, ShardStatus.FINISHED
    count = file.pieces.present_within(part.start, file.end_of(part))
    if file.stage is Stage.CHECKING and file.check is not None:
        return _checked_bytes(file.check, part, count)
    is_there = file.opened is not None and count == part.size_bytes
    status = ShardStatus.VERIFYING if is_there else ShardStatus.DOWNLOADING
    return count, ShardStatus.QUEUED if file.stage is Stage.PENDING else status


def _checked_bytes(check: TargetCheck, part: Part, left_bytes: int) -> tuple[int, ShardStatus]:
    """How many bytes the check has hashed of a file, or else how many the process has that holds its lease."""
    hashed, owners = check.hashed_bytes, check.owner_bytes
    reached = hashed if hashed is not None else owners
    count = left_bytes if reached is None else max(0, reached - part.start)
    status = ShardStatus.VERIFYING if hashed is not None else ShardStatus.DOWNLOADING
    return (count if part.size_bytes is None else min(count, part.size_bytes)), status


def _steps(file: DownloadFile, part: Part) -> tuple[tuple[int, ...], int]:
    """Which steps of its bar have arrived, and how many are verified; empty for a part that is not being fetched."""
    if file.opened is None or not part.size_bytes or part.end is None or file.stage is Stage.DONE:
        return (), 0
    verified_bytes = min(max(0, file.opened.hasher.digest.front - part.start), part.size_bytes)
    return file.pieces.steps(part.start, part.end, BAR_STEPS), verified_bytes * BAR_STEPS // part.size_bytes


# --- All files --------------------------------------------------------------------------------------------------------


class Notice(Value, frozen=True):
    """The notice fields of `Progress`; the kind is None while bytes arrive normally."""

    kind: NoticeKind | None
    seconds: float | None = None
    text: str = ""
    is_finalizing: bool = False


def progress_of(
    attempt: int, files: Sequence[DownloadFile], now_s: float, connections: Connections, outage: Outage | None
) -> Progress:
    """The progress of an attempt, from the newest reports of its files."""
    reports = {index: one for file in files for index, one in zip(file.indexes, file.reports, strict=True)}
    reused = [one.reused for one in files]
    notice = _notice(files, now_s, connections, outage)
    return Progress(
        attempt=attempt,
        sampled_s=now_s,
        files=tuple(reports[index] for index in range(len(reports))),
        received_bytes=connections.received_bytes,
        notice_kind=notice.kind,
        notice_s=notice.seconds,
        notice_text=notice.text,
        is_finalizing=notice.is_finalizing,
        reused_bytes=sum(count for count, _ in reused),
        reused_from=tuple(dict.fromkeys(name for _, names in reused for name in names)),
        mirrors=tuple(sorted({host for file in files for host in file.mirrors})),
    )


def _notice(files: Sequence[DownloadFile], now_s: float, connections: Connections, outage: Outage | None) -> Notice:
    unfinished = [file for file in files if file.stage not in (Stage.PENDING, Stage.DONE)]
    if not any(file.stage is Stage.PENDING for file in files) and all(map(_has_all_bytes, unfinished)):
        if not unfinished and any(file.is_linked for file in files):
            return Notice("linked", is_finalizing=True)
        is_hashing = any(file.stage is Stage.FETCHING for file in unfinished)
        return Notice("verifying" if is_hashing else "finalizing", is_finalizing=True)
    checks = [file.check for file in unfinished if file.stage is Stage.CHECKING and file.check is not None]
    if any(check.owner_bytes is not None for check in checks):
        return Notice("waiting")  # the kernel may know for which process it waits
    if outage is not None:
        return Notice("offline", text=outage.since_text)
    notice = _notice_of_line(unfinished, now_s, connections)
    if notice.kind == "connecting" and not any(file.requests for file in unfinished):
        is_hashing = any(check.hashed_bytes is not None for check in checks)
        return Notice("verifying" if is_hashing else _of_reuse(unfinished) or "connecting")
    return notice


def _notice_of_line(unfinished: Sequence[DownloadFile], now_s: float, connections: Connections) -> Notice:
    silent_s = now_s - connections.moved_s
    if any(file.requests for file in unfinished):
        if silent_s >= _SILENT_S:
            return Notice("stalled", silent_s)
        return Notice(_of_reuse(unfinished) if connections.received_bytes else "connecting")
    waiting = [part.troubles for file in unfinished for part in file.parts if part.troubles.text]
    if waiting:
        first = min(waiting, key=lambda one: one.retry_at_s)
        if isinstance(first.last, SilentError):
            return Notice("stalled", silent_s, first.text)
        return Notice("retrying", max(0.0, first.retry_at_s - now_s), first.text)
    return Notice("connecting")


def _has_all_bytes(file: DownloadFile) -> bool:
    return file.stage is Stage.FINALIZING or (file.stage is Stage.FETCHING and file.pieces.is_complete)


def _of_reuse(files: Sequence[DownloadFile]) -> NoticeKind | None:
    if any(file.comparison is not None for file in files):
        return "comparing"
    return "copying" if any(file.copy is not None for file in files) else None
