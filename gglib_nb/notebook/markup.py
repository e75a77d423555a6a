"""A snapshot of the queue as static HTML: what nbconvert, GitHub, nbviewer and a saved notebook show.

Deterministic. Everything from outside is escaped. Every style is inline and nothing hangs on one: GitHub and untrusted
notebooks strip them, and then the words and percents still say it all. No script, no class, no image.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from gglib_nb.domain.download import DownloadStatus, ElsewhereDownload, QueuedDownload, QueueSnapshot, ShardStatus
from gglib_nb.notebook import formats, wording

_MOST_ROWS: Final = 40
_MOST_RECENT: Final = 5
_MOST_SHOWN_FILES: Final = 8
_MOVING: Final = (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING)
# Middle tones that keep 4.5:1 as text on white and on JupyterLab's dark grey come from its own variables where it is there.
_MUTED: Final = "color:var(--jp-ui-font-color2,#6b6b6b)"
_OF_FILE: Final = f"{_MUTED};padding-left:1.5em"
_BAD: Final = "color:var(--jp-error-color1,#c62828)"
_FILL: Final = "var(--jp-brand-color1,#1976d2)"
_EMPTY: Final = "rgba(128,128,128,.28)"
_CELL: Final = "text-align:left;vertical-align:top;padding:.3em .9em .3em 0;border:0"
_FIXED: Final = f"{_CELL};white-space:nowrap;font-variant-numeric:tabular-nums"


def render_html(snapshot: QueueSnapshot, caption: str | None = None, *, is_redrawn: bool = False) -> str:
    """The whole queue as one `div`.

    Args:
        snapshot: What to show.
        caption: A line below it, such as when it was so; None for none.
        is_redrawn: It is brought up to date while somebody looks: what a person opened would close again, so nothing
            has to be opened.
    """
    parts = [_muted(wording.notice(notice)) for notice in snapshot.notices]
    parts.append(f"<strong>{escape(wording.overview(snapshot))}</strong>" if _has_content(snapshot) else _empty())
    parts += [f"<div>{escape(request)}: resolving</div>" for request in map(wording.printable, snapshot.resolving)]
    parts += _table("", [_live_row(item, _files(item, is_redrawn=is_redrawn)) for item in snapshot.items], _MOST_ROWS)
    parts += _table("Failed", [_failed_row(item) for item in snapshot.recent_failures], _MOST_RECENT)
    parts += _table("Done", [_done_row(item) for item in snapshot.recent_completed], _MOST_RECENT)
    parts += _table("Cancelled", [_cancelled_row(item) for item in snapshot.recent_cancelled], _MOST_RECENT)
    parts += _table("In other kernels", [_elsewhere_row(item) for item in snapshot.elsewhere], _MOST_ROWS)
    if snapshot.last_run is not None:
        parts.append(_muted(wording.run(snapshot.last_run)))
    if caption:
        parts.append(_muted(caption))
    return f'<div style="line-height:1.4">{"".join(parts)}</div>'


def download_html(item: QueuedDownload) -> str:
    """One download, live or ended, that is brought up to date while somebody looks: its own line, and one for each file."""
    match item.status:
        case DownloadStatus.COMPLETED:
            rows = [_done_row(item)]
        case DownloadStatus.FAILED:
            rows = [_failed_row(item)]
        case DownloadStatus.CANCELLED:
            rows = [_cancelled_row(item)]
        case _:
            # In one table, so that all bars stand below one another.
            files = _file_rows(item, is_redrawn=True)
            rows = [_live_row(item), *((f'<span style="{_OF_FILE}">{title}</span>', *rest) for title, *rest in files)]
    return f'<div style="line-height:1.4">{table(rows)}</div>'


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells that are HTML already, the first cell free to wrap and the others on one line each."""
    return f'<table style="border-collapse:collapse;border:0;margin:.4em 0;color:inherit">{"".join(map(_row, rows))}</table>'


def _row(cells: Sequence[str]) -> str:
    styles = [_CELL, *[_FIXED] * (len(cells) - 1)]
    inside = "".join(f'<td style="{style}">{cell}</td>' for style, cell in zip(styles, cells, strict=True))
    return f'<tr style="background:none">{inside}</tr>'


def _has_content(snapshot: QueueSnapshot) -> bool:
    return bool(snapshot.items or snapshot.resolving or snapshot.recent_failures or snapshot.recent_completed)


def _empty() -> str:
    return _muted(wording.EMPTY)


def _table(title: str, rows: list[tuple[str, ...]], most: int) -> Iterator[str]:
    if not rows:
        return
    if title:
        yield f'<div style="margin-top:.6em"><strong>{title}</strong></div>'
    yield table(rows[:most])
    if len(rows) > most:
        yield _muted(f"… and {len(rows) - most} more")


def _live_row(item: QueuedDownload, files: str = "") -> tuple[str, ...]:
    title = f"<code>{escape(wording.name(item))}</code>"
    told = " ".join(part for part in (wording.place(item), wording.state(item)) if part)
    below = _muted(told) + files
    amount = escape(wording.amount(item.downloaded_bytes, item.total_bytes))
    started = item.status is not DownloadStatus.QUEUED or item.downloaded_bytes
    meter = f"{bar(item.progress)} {formats.percent(item.progress)}" if started else ""
    return (title + below, meter, amount, escape(wording.pace(item)))


def _files(item: QueuedDownload, *, is_redrawn: bool) -> str:
    rows = _file_rows(item, is_redrawn=is_redrawn)
    if not rows or is_redrawn:
        return table(rows) if rows else ""
    summary = f'<summary style="cursor:pointer">{len(wording.files(item))} files</summary>'
    return f"<details>{summary}{table(rows)}</details>"


def _file_rows(item: QueuedDownload, *, is_redrawn: bool) -> list[tuple[str, ...]]:
    files = () if item.status.is_pending else wording.files(item)
    return [
        (
            escape(wording.file_title(item, file)),
            f"{bar(wording.shard_fraction(file))} {formats.percent(wording.shard_fraction(file))}",
            escape(wording.amount(file.downloaded_bytes, file.size_bytes)),
            file.status.value,
        )
        for file in files
        if not is_redrawn or len(files) <= _MOST_SHOWN_FILES or file.status in _MOVING
    ]


def _failed_row(item: QueuedDownload) -> tuple[str, ...]:
    said = f'<div style="{_BAD}">{escape(wording.failure(item))}</div>'
    command = wording.remedy(item)
    again = f"<div>Try again: <code>{escape(command)}</code></div>" if command else ""
    return (f"<code>{escape(wording.name(item))}</code>{said}{again}", escape(wording.reached(item)))


def _done_row(item: QueuedDownload) -> tuple[str, ...]:
    path = f"<div><code>{escape(wording.location(item))}</code></div>" if item.paths else ""
    return (f"<code>{escape(wording.name(item))}</code>{path}", escape(wording.result(item)))


def _cancelled_row(item: QueuedDownload) -> tuple[str, ...]:
    return (f"<code>{escape(wording.name(item))}</code>", escape(wording.reached(item)))


def _elsewhere_row(item: ElsewhereDownload) -> tuple[str, ...]:
    whose = f'<div style="{_MUTED}">{escape(wording.whose(item))}</div>'
    return (
        f"<code>{escape(wording.printable(str(item.id)))}</code>{whose}",
        f"{bar(item.progress)} {formats.percent(item.progress)}",
        escape(wording.elsewhere(item)),
    )


def bar(fraction: float | None) -> str:
    """A bar that only decorates: the percent beside it is what says it, also to a screen reader."""
    edge = f"{(fraction or 0.0) * 100:.1f}%"
    paint = f"linear-gradient(90deg,{_FILL} {edge},{_EMPTY} {edge})"
    shape = "display:inline-block;width:9em;height:.6em;border-radius:.3em;vertical-align:middle"
    return f'<span aria-hidden="true" style="{shape};background:{paint}"></span>'


def _muted(text: str) -> str:
    return f'<div style="{_MUTED}">{escape(text)}</div>'
