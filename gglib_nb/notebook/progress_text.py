"""Progress while somebody waits: redrawn in place on a terminal, a line at every milestone elsewhere.

Gets snapshots from its caller and writes text. It knows no manager, no clock and no display: whoever waits decides how
often to call.
"""

import os
import shutil
from collections.abc import Callable
from typing import Final, TextIO

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.manager.progress import write_text
from gglib_nb.notebook import formats, rows, text

_QUARTERS: Final = (0.75, 0.5, 0.25)
_FOLLOWED: Final = -1.0
_STARTED: Final = 0.0
_ENDED: Final = 1.0
# ECMA-48: cursor to the start of the line so many lines up, and erase from there to the end of the screen.
_UP: Final = "\x1b[{}F"
_ERASE_BELOW: Final = "\x1b[J"


class Milestones:
    """What is worth a line of a log: a start, 25, 50 and 75 %, an end. Each is told once.

    Args:
        only: Tells of this download alone; None of all that were seen alive.
    """

    def __init__(self, only: DownloadId | None = None) -> None:
        self._only = only
        self._told: dict[DownloadId, float] = {}

    def of_live(self, snapshot: QueueSnapshot) -> list[str]:
        """The lines about what runs that this snapshot adds to those told before."""
        followed = [item for item in snapshot.items if self._only in (None, item.id)]
        return [line for item in followed if (line := self._step(item))]

    def of_ended(self, snapshot: QueueSnapshot) -> list[str]:
        """The lines about what ended that this snapshot adds to those told before."""
        followed = [item for item in ended(snapshot) if item.id == self._only or item.id in self._told]
        fresh = [item for item in followed if self._told.get(item.id) != _ENDED]
        self._told |= dict.fromkeys((item.id for item in fresh), _ENDED)
        return [text.ending(item) for item in fresh]

    def _step(self, item: QueuedDownload) -> str:
        told = self._told.get(item.id, _FOLLOWED)
        if item.status.is_pending or told == _ENDED:
            # Paused, or tried again after an end: told from its start once more.
            told = self._told[item.id] = _FOLLOWED
        if item.status.is_pending:
            return ""
        reached = next((quarter for quarter in _QUARTERS if (item.progress or 0.0) >= quarter), _STARTED)
        if reached <= told:
            return ""
        self._told[item.id] = reached
        return _milestone(item, reached)


def ended(snapshot: QueueSnapshot) -> list[QueuedDownload]:
    """Downloads that ended and are not in the queue again."""
    return [*snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled]


def _milestone(item: QueuedDownload, reached: float) -> str:
    row = rows.download_row(item, 0, 1)
    if reached == _STARTED:
        return printable(f"{row.id} started, {formats.size(item.total_bytes)}")
    return printable(f"{row.id} {formats.percent(reached)}  {text.facts(row)}")


class ProgressText:
    """Writes progress to a stream.

    Args:
        stream: Where to. Characters that its encoding lacks are replaced.
        only: Shows this download alone; None the whole queue.
        is_terminal: Redraw in place; False writes milestones only.
        screen: Asked at each drawing for the terminal's size, since a person may resize it.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        only: DownloadId | None,
        is_terminal: bool,
        screen: Callable[[], os.terminal_size] = shutil.get_terminal_size,
    ) -> None:
        self._stream = stream
        self._only = only
        self._is_terminal = is_terminal
        self._screen = screen
        self._milestones = Milestones(only)
        self._drawn: list[str] = []

    def show(self, snapshot: QueueSnapshot) -> None:
        """Writes what is new. On a terminal the bars of before are replaced; what ended stays above them."""
        live, ends = self._milestones.of_live(snapshot), self._milestones.of_ended(snapshot)
        if self._is_terminal:
            self._redraw(ends, self._bars(snapshot))
        elif live or ends:
            self._write("".join(f"{line}\n" for line in [*live, *ends]))

    def close(self) -> None:
        """Takes the bars away; the lines about what ended stay."""
        self._redraw([], [])

    def _bars(self, snapshot: QueueSnapshot) -> list[str]:
        screen = self._screen()
        # One column less than there is: a line that fills the last one wraps on some terminals, and the way up is miscounted.
        width = max(text.NARROWEST, screen.columns - 1)
        shown = [item for item in snapshot.items if self._only in (None, item.id)]
        lines = [line for item in shown if item.status.is_active for line in text.item_lines(item, width)]
        waiting = sum(item.status.is_pending for item in shown)
        if waiting:
            lines.append(f"  {waiting} waiting")
        return lines[: max(1, screen.lines - 1)]

    def _redraw(self, lasting: list[str], bars: list[str]) -> None:
        if not lasting and bars == self._drawn:
            return
        back = f"{_UP.format(len(self._drawn))}{_ERASE_BELOW}" if self._drawn else ""
        self._write(back + "".join(f"{line}\n" for line in [*lasting, *bars]))
        self._drawn = bars

    def _write(self, lines: str) -> None:
        write_text(self._stream, lines)
