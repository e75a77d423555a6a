"""A snapshot of the queue as plain text, for terminals, logs and the `text/plain` of every output.

Deterministic: the same snapshot and width give the same text. Never wider than asked, except for paths and
commands, which a person copies.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gglib_nb.domain.download import (
    DownloadStatus,
    ElsewhereDownload,
    QueuedDownload,
    QueueSnapshot,
    ShardProgress,
    ShardStatus,
)
from gglib_nb.notebook import formats, wording

NARROWEST: Final = 40
_MOST_PENDING: Final = 40
_MOST_RECENT: Final = 5
_MOST_FILES: Final = 8


def render_text(snapshot: QueueSnapshot, width: int = 88) -> str:
    """The whole queue: active, pending, failed, done, and what the last run came to.

    Args:
        snapshot: What to show.
        width: Columns to keep to; below 40 counts as 40.
    """
    width = max(NARROWEST, width)
    lines = [line for notice in snapshot.notices for line in _wrap(wording.notice(notice), width)]
    lines += [_clip(line, width) for line in _head(snapshot)]
    lines += _section("", snapshot.items, width, item_lines, most=_MOST_PENDING)
    lines += _section("Failed", snapshot.recent_failures, width, _failed_lines)
    lines += _section("Done", snapshot.recent_completed, width, _done_lines)
    lines += _section("Cancelled", snapshot.recent_cancelled, width, _cancelled_lines)
    lines += _elsewhere(snapshot.elsewhere, width)
    if snapshot.last_run is not None:
        lines.append(wording.run(snapshot.last_run))
    return "\n".join(lines)


def download_text(item: QueuedDownload, width: int = 88) -> str:
    """One download, live or ended."""
    match item.status:
        case DownloadStatus.COMPLETED:
            lines = _done_lines(item, width)
        case DownloadStatus.FAILED:
            lines = _failed_lines(item, width)
        case DownloadStatus.CANCELLED:
            lines = _cancelled_lines(item, width)
        case _:
            lines = item_lines(item, width)
    return "\n".join(lines)


def item_lines(item: QueuedDownload, width: int) -> list[str]:
    """One live download: a line while it waits; bars, rate and notice while it is active."""
    if item.status.is_pending:
        return [_clip(_pending_line(item), width)]
    head = f"  {wording.name(item)}"
    lines = [head, f"  {_bar(item.progress, width)} {_numbers(item)}"]
    if item.notice or item.status.value != "downloading":
        lines.append(f"    {wording.state(item)}")
    lines += _file_lines(item, width)
    return [_clip(line, width) for line in lines]


def _head(snapshot: QueueSnapshot) -> Iterator[str]:
    something = snapshot.items or snapshot.resolving or snapshot.recent_failures or snapshot.recent_completed
    yield wording.overview(snapshot) if something else wording.EMPTY
    for request in snapshot.resolving:
        yield f"  {wording.printable(request)}  resolving"


def _elsewhere(items: Sequence[ElsewhereDownload], width: int) -> Iterator[str]:
    if items:
        yield "In other kernels"
    for item in items[:_MOST_PENDING]:
        yield _clip(
            f"  {wording.printable(str(item.id))}  {formats.percent(item.progress)}  {wording.whose(item)}", width
        )
        yield _clip(f"    {wording.elsewhere(item)}", width)
    if len(items) > _MOST_PENDING:
        yield f"  … and {len(items) - _MOST_PENDING} more"


def _section(
    title: str,
    items: Sequence[QueuedDownload],
    width: int,
    render: Callable[[QueuedDownload, int], list[str]],
    *,
    most: int = _MOST_RECENT,
) -> Iterator[str]:
    if title and items:
        yield title
    for item in items[:most]:
        yield from render(item, width)
    if len(items) > most:
        yield f"  … and {len(items) - most} more"


def _pending_line(item: QueuedDownload) -> str:
    told = "" if item.status.value == "queued" and not item.notice else f"  {wording.state(item)}"
    return f"  {wording.place(item):>3} {wording.name(item)}  {wording.amount(item.downloaded_bytes, item.total_bytes)}{told}"


def _numbers(item: QueuedDownload) -> str:
    parts = [f"{formats.percent(item.progress):>5}", wording.amount(item.downloaded_bytes, item.total_bytes)]
    return "  ".join([*parts, wording.pace(item)]).rstrip()


def _file_lines(item: QueuedDownload, width: int) -> Iterator[str]:
    files = wording.files(item)
    shown = [file for file in files if len(files) <= _MOST_FILES or _is_moving(file)]
    for file in shown:
        fraction = wording.shard_fraction(file)
        size = wording.amount(file.downloaded_bytes, file.size_bytes)
        told = f"{formats.percent(fraction):>5}  {size}  {file.status.value}"
        yield f"    {wording.file_title(item, file):>6} {_bar(fraction, width - 12)} {told}"
    if len(shown) < len(files):
        finished = sum(file.status is ShardStatus.FINISHED for file in files)
        yield f"    {finished} of {len(files)} files finished"


def _is_moving(file: ShardProgress) -> bool:
    return file.status in (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING)


def _failed_lines(item: QueuedDownload, width: int) -> list[str]:
    head = f"  {wording.name(item)}  {wording.reached(item)}"
    lines = [_clip(head, width), *_wrap(wording.failure(item), width - 4)]
    if command := wording.remedy(item):
        lines.append(f"Try again: {command}")
    return [lines[0], *(f"    {line}" for line in lines[1:])]


def _done_lines(item: QueuedDownload, width: int) -> list[str]:
    lines = [_clip(f"  {wording.name(item)}  {wording.result(item)}", width)]
    return [*lines, f"    {wording.location(item)}"] if item.paths else lines


def _cancelled_lines(item: QueuedDownload, width: int) -> list[str]:
    return [_clip(f"  {wording.name(item)}  {wording.reached(item)}", width)]


def _bar(fraction: float | None, width: int) -> str:
    cells = min(30, max(8, width - 62))
    full = int((fraction or 0.0) * cells)
    return "█" * full + "░" * (cells - full)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _clip(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
