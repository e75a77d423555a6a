"""Progress while a cell waits: redrawn bars in a terminal, lines in a log, one updated output in a notebook.

Each class accepts the latest state at any rate, and is independent of the manager.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import Final, Generic, TextIO, TypeVar

from typing_extensions import override

from gglib_nb.domain import units
from gglib_nb.domain.library import WorkProgress
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot
from gglib_nb.domain.text import printable
from gglib_nb.manager.progress import encodable, is_terminal, write_text
from gglib_nb.notebook import host, render, rows
from gglib_nb.notebook.outputs import CellOutput, Data

Progress = tuple[str, float | None]
"""A text, and the completed fraction, 0 to 1 (None: unknown)."""
_State = TypeVar("_State")
# ECMA-48: cursor up n lines, to the start of the line; erase to the end of the screen.
_UP: Final = "\x1b[{}F"
_ERASE_BELOW: Final = "\x1b[J"
_SEEN, _STARTED, _ENDED = -1, 0, 4  # quarters of a download
_PACE_S: Final = 0.2
"""Digits that change faster are unreadable, and every message redraws the output."""


def progress_of(what: str, state: WorkProgress) -> Progress:
    """A line about an operation: `verifying owner/name:Q8_0  5.1 MB of 8.0 MB`."""
    text = f"{what} {state.id or state.path}"
    if state.done_bytes is None or state.total_bytes is None:
        return text, state.done_files / max(1, state.total_files)
    amount = f"{units.size(state.done_bytes)} of {units.size(state.total_bytes)}"
    return f"{text}  {amount}", state.done_bytes / state.total_bytes if state.total_bytes else None


def has_work(snapshot: QueueSnapshot) -> bool:
    """Whether a download is in the queue, or the command of a complete one runs."""
    running = any(item.has_running_command for item in snapshot.recent_completed)
    return running or bool(snapshot.items or snapshot.resolving)


# Terminals and logs ----------------------------------------------------------------------------------------------


class _TextOutput:
    """Lines in a stream. Characters that its encoding lacks are replaced."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self._is_terminal: Final = is_terminal(stream)
        self._drawn: Sequence[str] = []

    def close(self) -> None:
        """Erases what is redrawn; the lines above are kept."""
        self._write([], [])

    def _write(self, lasting: Sequence[str], drawn: Sequence[str]) -> None:
        """Writes lines, and on a terminal others below them, which the next call replaces."""
        # On some terminals a full line wraps, and the cursor would move up too few lines.
        limit = shutil.get_terminal_size().columns - 1
        shown = [encodable(render.clip(line, limit), self._stream)[:limit] for line in drawn if self._is_terminal]
        if lasting or shown != self._drawn:
            back = f"{_UP.format(len(self._drawn))}{_ERASE_BELOW}" if self._drawn else ""
            write_text(self._stream, back + "".join(f"{line}\n" for line in [*lasting, *shown]))
            self._drawn = shown


class TextLine(_TextOutput):
    """One line of progress: redrawn in place on a terminal; in a log a line at the start and at each quarter."""

    _quarters = -1

    def show(self, state: Progress) -> None:
        """Shows the newest state."""
        text, fraction = state
        line = f"{units.percent(fraction):>5}  {printable(text)}"
        before, self._quarters = self._quarters, max(self._quarters, int(4 * (fraction or 0.0)))
        is_logged = self._quarters > before and not self._is_terminal
        self._write([line] if is_logged else [], [line])


class TextQueue(_TextOutput):
    """The queue: redrawn on a terminal; in a log a line at the start, each quarter and the end of each download.

    Reports the end of a download that was seen running, of `awaited` even if it has already ended.
    """

    def __init__(self, stream: TextIO, awaited: DownloadId | None = None) -> None:
        super().__init__(stream)
        self._reached: Final[dict[DownloadId, int]] = {} if awaited is None else {awaited: _SEEN}

    def show(self, snapshot: QueueSnapshot) -> None:
        """Writes the changes."""
        milestones = [line for item in snapshot.items if (line := self._milestone(item))]
        ended = [*snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled]
        new = [item for item in ended if self._reached.get(item.id, _ENDED) != _ENDED]
        self._reached.update((item.id, _ENDED) for item in new)
        screen = shutil.get_terminal_size()
        queue = replace(snapshot, recent_completed=(), recent_failures=(), recent_cancelled=())
        text = render.render_text(queue, screen.columns - 1) if self._is_terminal and has_work(queue) else ""
        lasting = [*([] if self._is_terminal else milestones), *map(render.ending, new)]
        self._write(lasting, text.splitlines()[: max(1, screen.lines - 1)])

    def _milestone(self, item: QueuedDownload) -> str:
        before = self._reached.get(item.id, _SEEN)
        if item.status.is_pending or before == _ENDED:  # paused, or queued again: reporting restarts
            before = self._reached[item.id] = _SEEN
        reached = min(_ENDED - 1, int(4 * (item.progress or 0.0)))
        if item.status.is_pending or reached <= before:
            return ""
        self._reached[item.id] = reached
        if reached == _STARTED:
            size = "" if item.total_bytes is None else f", {units.size(item.total_bytes)}"
            return printable(f"{item.id} started{size}")
        return printable(f"{item.id} {units.percent(item.progress)}  {render.facts(rows.download_row(item, 0, 1))}")


# Notebooks -------------------------------------------------------------------------------------------------------


class LiveOutput(Generic[_State]):
    """One output of a cell, updated while the cell waits, and kept with the final state.

    `draw` returns text and HTML of a state with a caption; `continues`: downloads or commands outlive the cell.
    """

    def __init__(self, draw: Callable[[_State, str], Data], continues: Callable[[_State], bool]) -> None:
        self._draw: Final = draw
        self._continues: Final = continues
        self._output: Final = CellOutput()
        self._newest: _State | None = None
        self._due_s = 0.0

    def show(self, state: _State) -> None:
        """Updates the output, at most five times a second; `close` shows the end."""
        self._newest = state
        if time.monotonic() >= self._due_s and self._continues(state) and not self._output.is_captured:
            self._due_s = time.monotonic() + _PACE_S
            self._output.show(self._content(state, ""))

    def close(self) -> None:
        """Shows the final state, or that the downloads continue if the cell stopped waiting."""
        if self._newest is not None:
            self._output.finish(self._content(self._newest, " This cell no longer waits; %gguf shows the queue."))

    def _content(self, state: _State, ending: str) -> Data:
        """A state that has not ended has its time: if the kernel ends, it stays in the notebook."""
        return self._draw(state, f"As of {units.minute(time.time())}.{ending}" if self._continues(state) else "")


def download_in_cell() -> LiveOutput[QueuedDownload] | None:
    """Shows a download in the cell that awaits it; None if the notebook runs without a user."""
    if not host.has_user():
        return None
    return LiveOutput(render.download_bundle, lambda item: item.status.is_active or item.status.is_pending)


class LineOutput(LiveOutput[Progress]):
    """One line of progress with a bar, emptied at the end."""

    def __init__(self) -> None:
        super().__init__(self._line, lambda _state: True)

    @staticmethod
    def _line(state: Progress, _caption: str) -> Data:
        text, fraction = state
        line = f"{units.percent(fraction)}  {printable(text)}"
        return {"text/plain": line, "text/html": f"<div>{render.bar_html(fraction)} {escape(line)}</div>"}

    @override
    def close(self) -> None:
        """Empties the output; the verb shows the result."""
        if self._output.is_shown:
            self._output.show({"text/plain": "", "text/html": ""})
