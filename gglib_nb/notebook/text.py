"""The queue as plain text, for terminals, logs and the `text/plain` of every output: rows, set in lines.

Deterministic: the same snapshot and width give the same text. No line is wider than asked, except paths and commands, which
users copy. What is said is decided in `rows`.
"""

import textwrap
from collections.abc import Iterator
from typing import Final

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueSnapshot
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import rows
from gglib_nb.notebook.rows import Row, View

NARROWEST: Final = 40
EMPTY: Final = "The queue is empty. Download a model: %gguf queue owner/repo"
MOST_ROWS: Final = 40
MOST_ENDED: Final = 5
MOST_FILES: Final = 8
COMMANDS: Final = {"retry": "Retry: %gguf retry {id}", "queue_partials": "Resume them: %gguf partials --queue"}
"""What to type for an action, in outputs that have no buttons."""
_MOVING: Final = ("downloading", "verifying")


def sections(snapshot: QueueSnapshot) -> list[tuple[View, list[Row]]]:
    """The lists of the queue with their rows, from top to bottom; no more of those that ended than are of interest."""
    context = (snapshot.pending_count, snapshot.active_count)
    items = (
        *snapshot.recent_cancelled,
        *snapshot.recent_completed,
        *snapshot.recent_failures,
        *snapshot.items,  # of two with one id, what it is now
    )
    by_id: dict[str, Row] = {str(item.id): rows.download_row(item, *context) for item in items}
    by_id |= {row.id: row for row in map(rows.resolving_row, snapshot.resolving)}
    by_id |= {row.id: row for row in map(rows.elsewhere_row, snapshot.elsewhere)}
    return [(view, [by_id[id_] for id_ in view.rows]) for view in rows.views(snapshot)]


def most_rows(view: View) -> int:
    """How many rows of a list are shown."""
    return MOST_ENDED if view.id in ("failed", "completed", "cancelled") else MOST_ROWS


def overview(snapshot: QueueSnapshot) -> str:
    """The queue in one line; how to begin where there is nothing in it."""
    if not (snapshot.items or snapshot.resolving or snapshot.recent_failures or snapshot.recent_completed):
        return EMPTY
    head = rows.header(snapshot)
    return " · ".join(filter(None, (head.counts, head.rate, *(fact.text for fact in head.pace))))


def notices(snapshot: QueueSnapshot) -> list[str]:
    """Lines about the queue as a whole, with what to type about them."""
    return [notice_line(notice) for notice in rows.header(snapshot).notices]


def notice_line(notice: rows.Notice) -> str:
    """One of them."""
    command = "" if notice.action is None else COMMANDS.get(notice.action.id, "")
    return f"{notice.text} {command}".rstrip()


def facts(row: Row) -> str:
    """What is known of a row, in one line."""
    return " · ".join(fact.text for fact in row.lines)


def command_of(row: Row) -> str:
    """What to type next; empty for nothing."""
    found = (COMMANDS.get(action.id, "") for action in row.actions)
    return printable(next((text.format(id=row.id) for text in found if text), ""))


def file_title(row: Row, number: int) -> str:
    """What a file is called beside its bar: its number, or the kind of a companion."""
    bar = row.bars[number]
    return bar.tag or f"{number + 1}/{sum(not one.tag for one in row.bars)}"


def shown_files(row: Row) -> list[int]:
    """Indexes of the bars that are shown: all of a few, else those that move."""
    many = range(len(row.bars)) if len(row.bars) > 1 else range(0)
    return [at for at in many if len(many) <= MOST_FILES or row.bars[at].status in _MOVING]


def render_text(snapshot: QueueSnapshot, width: int = 88) -> str:
    """The whole queue.

    Args:
        snapshot: What to show.
        width: Columns to keep to; below 40 counts as 40.
    """
    width = max(NARROWEST, width)
    lines = [line for notice in notices(snapshot) for line in _wrap(notice, width)]
    lines += [_clip(overview(snapshot), width)]
    for view, listed in sections(snapshot):
        lines += [view.title] if view.title else []
        for number, row in enumerate(listed[: most_rows(view)], 1):
            lines += _lines(row, view.id, number, width)
        if len(listed) > most_rows(view):
            lines.append(f"  … and {len(listed) - most_rows(view)} more")
    summary = rows.header(snapshot).summary
    return "\n".join([*lines, *_wrap(summary, width)])


def download_text(item: QueuedDownload, width: int = 88) -> str:
    """One download, live or ended."""
    return "\n".join(item_lines(item, width))


def item_lines(item: QueuedDownload, width: int) -> list[str]:
    """The same as lines."""
    row = rows.download_row(item, 1, 1)
    view = {
        DownloadStatus.FAILED: "failed",
        DownloadStatus.COMPLETED: "completed",
        DownloadStatus.CANCELLED: "cancelled",
    }.get(item.status, "pending" if item.status.is_pending else "active")
    return list(_lines(row, view, 0, width))


def ending(item: QueuedDownload) -> str:
    """How a download ended, in one line."""
    row = rows.download_row(item, 0, 0)
    match item.status:
        case DownloadStatus.COMPLETED:
            return printable(f"{row.id} finished: {', '.join(fact.text for fact in row.lines)}. {row.path}").rstrip(
                ". "
            )
        case DownloadStatus.FAILED:
            return printable(f"{row.id} failed: {row.note} {command_of(row)}").rstrip()
        case _:
            return printable(f"{row.id} was cancelled: {facts(row)}")


def _lines(row: Row, view: str, number: int, width: int) -> Iterator[str]:
    id_ = printable(row.id)
    match view:
        case "active":
            yield _clip(f"  {id_}", width)
            yield from _wrap(f"  {_bar(row.part, width)} {row.measure:>5}  {facts(row)}", width, indent=4)
            yield from ([_clip(f"    {row.note}", width)] if row.note else [])
            yield from (_clip(line, width) for line in _file_lines(row, width))
        case "pending" if row.position:
            told = "  ".join(filter(None, (row.measure, facts(row), row.note)))
            yield _clip(f"  {f'#{row.position}':>3} {id_}  {told}", width)
        case "pending":
            yield _clip(f"  {row.title}  {row.note}", width)
        case "failed":
            yield _clip(f"  {f'#{number} ' if number else ''}{id_}  {facts(row)}", width)
            yield from (f"    {line}" for line in _wrap(row.note, width - 4))
            yield from ([f"    {command_of(row)}"] if command_of(row) else [])
        case "elsewhere":
            yield _clip(f"  {row.title} {row.tag}  {row.measure}  {row.origin}", width)
            yield _clip(f"    {' · '.join(filter(None, (facts(row), row.note)))}", width)
        case _:
            told = " · ".join(filter(None, (facts(row), row.note)))
            is_short = len(id_) + len(told) + 4 <= width
            yield f"  {id_}  {told}" if is_short else _clip(f"  {id_}", width)
            yield from ([] if is_short else (f"    {line}" for line in _wrap(told, width - 4)))
            yield from ([f"    {row.path}"] if row.path else [])


def _file_lines(row: Row, width: int) -> Iterator[str]:
    shown = shown_files(row)
    for at in shown:
        bar = row.bars[at]
        yield f"    {file_title(row, at):>6} {_bar(bar.part, width - 12)} {bar.percent:>5}  {bar.amount}  {bar.state}"
    if len(row.bars) > 1 and len(shown) < len(row.bars):
        yield f"    {sum(bar.status == 'finished' for bar in row.bars)} of {len(row.bars)} files finished"


def _bar(part: float | None, width: int) -> str:
    cells = min(30, max(8, width - 62))
    full = int((part or 0.0) * cells)
    return "█" * full + "░" * (cells - full)


def _wrap(text: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=" " * indent)


def _clip(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
