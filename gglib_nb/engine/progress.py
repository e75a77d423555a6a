"""The progress of a transfer as reported to the kernel: bytes, and the most useful notice. Only reads files' state."""

from collections.abc import Sequence
from typing import Final

from gglib_nb.domain.download import BAR_STEPS, ShardStatus
from gglib_nb.domain.reports import FileProgress, NoticeKind, Progress
from gglib_nb.engine.connections import Connections
from gglib_nb.engine.file import DownloadFile, Part, Stage
from gglib_nb.engine.http import SilentError
from gglib_nb.engine.retry import Outage

# A line that receives nothing for this long is called stalled; connections are replaced later.
_SILENT_S: Final = 2.0


def _progress_of(file: DownloadFile, part: Part) -> FileProgress:
    size_bytes = part.size_bytes or 0
    if file.stage is Stage.DONE:
        return FileProgress(size_bytes, ShardStatus.FINISHED)
    count = file.pieces.present_within(part.start, part.end)
    if file.stage is Stage.PENDING:
        return FileProgress(count, ShardStatus.QUEUED)
    is_verifying = file.opened is not None and count == part.size_bytes
    if file.opened is None and file.check is not None:
        hashed, owners = file.check.hashed_bytes, file.check.owner_bytes
        if (reached := owners if hashed is None else hashed) is not None:
            count = max(0, min(reached, part.end) - part.start)
        is_verifying = hashed is not None
    status = ShardStatus.VERIFYING if is_verifying else ShardStatus.DOWNLOADING
    if file.opened is None or not size_bytes:
        return FileProgress(count, status)
    verified_bytes = min(max(0, file.opened.hasher.digest.front - part.start), size_bytes)
    steps = file.pieces.steps(part.start, part.end, BAR_STEPS)
    return FileProgress(count, status, steps, verified_bytes * BAR_STEPS // size_bytes)


Notice = tuple[NoticeKind | None, float | None, str]
"""The kind (None while bytes arrive normally), the seconds (None without any) and the text of `Progress.notice_…`."""


def progress_of(
    attempt: int, files: Sequence[DownloadFile], now_s: float, connections: Connections, outage: Outage | None
) -> Progress:
    """The progress of an attempt."""
    reports = {part.index: _progress_of(file, part) for file in files for part in file.parts}
    reused = [one.reused for one in files]
    unfinished = [file for file in files if file.stage not in (Stage.PENDING, Stage.DONE)]
    is_finalizing = not any(file.stage is Stage.PENDING for file in files) and all(
        file.opened is not None and file.pieces.is_complete for file in unfinished
    )
    if is_finalizing:
        is_hashing = any(file.stage is Stage.FETCHING for file in unfinished)
        is_linked = not unfinished and any(file.check is not None and file.check.is_linked for file in files)
        notice: Notice = "linked" if is_linked else "verifying" if is_hashing else "finalizing", None, ""
    else:
        notice = _notice(unfinished, now_s, connections, outage)
    return Progress(
        attempt=attempt,
        sampled_s=now_s,
        files=tuple(reports[index] for index in range(len(reports))),
        received_bytes=connections.received_bytes,
        notice_kind=notice[0],
        notice_s=notice[1],
        notice_text=notice[2],
        is_finalizing=is_finalizing,
        reused_bytes=sum(count for count, _ in reused),
        reused_from=tuple(dict.fromkeys(name for _, names in reused for name in names)),
        mirrors=tuple(sorted({host for file in files for host in file.mirrors})),
    )


def _notice(
    unfinished: Sequence[DownloadFile], now_s: float, connections: Connections, outage: Outage | None
) -> Notice:
    checks = [file.check for file in unfinished if file.stage is Stage.CHECKING and file.check is not None]
    if any(check.owner_bytes is not None for check in checks):
        return "waiting", None, ""  # the kernel may know for which process it waits
    if outage is not None:
        return "offline", None, outage.since_text
    silent_s = now_s - connections.moved_s
    waiting = [part.troubles for file in unfinished for part in file.parts if part.troubles.last]
    reuse: NoticeKind | None = "copying" if any(file.copy is not None for file in unfinished) else None
    if any(file.comparison is not None for file in unfinished):
        reuse = "comparing"
    if any(file.requests for file in unfinished):
        if silent_s >= _SILENT_S:
            return "stalled", silent_s, ""
        return reuse if connections.received_bytes else "connecting", None, ""
    if waiting:
        first = min(waiting, key=lambda one: one.retry_at_s)
        if isinstance(first.last, SilentError):
            return "stalled", silent_s, str(first.last)
        return "retrying", max(0.0, first.retry_at_s - now_s), str(first.last)
    is_hashing = any(check.hashed_bytes is not None for check in checks)
    return "verifying" if is_hashing else reuse or "connecting", None, ""
