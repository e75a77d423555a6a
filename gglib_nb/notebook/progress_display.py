"""Progress in a notebook while somebody waits: one output that is brought up to date, HTML and text alike."""

import time
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Final

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook import formats, host
from gglib_nb.notebook.cell_output import CellOutput
from gglib_nb.notebook.markup import bar, download_html, render_html
from gglib_nb.notebook.text import download_text, render_text

_PACE_S: Final = 0.2
"""Digits that change more often are not read, and every message redraws the output."""


def view_in_cell() -> "DownloadDisplay | None":
    """Shows one more download in the cell that waits for it; None where nobody sits before the kernel."""
    return DownloadDisplay() if host.has_person() else None


class DownloadDisplay:
    """One download for whoever awaits it; the output stays as the record of its end.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._output: Final = CellOutput()
        self._newest: QueuedDownload | None = None
        self._due_s = 0.0

    def show(self, download: QueuedDownload) -> None:
        """Brings the output up to date, five times a second at most."""
        self._newest = download
        if self._clock() >= self._due_s:
            self._due_s = self._clock() + _PACE_S
            self._draw(download)

    def close(self) -> None:
        """Draws what came last."""
        if self._newest is not None:
            self._draw(self._newest)

    def _draw(self, download: QueuedDownload) -> None:
        self._output.show({"text/plain": download_text(download), "text/html": download_html(download)})


class ProgressDisplay:
    """One display of one download, or of the whole queue where `only` is None."""

    def __init__(self, only: DownloadId | None) -> None:
        self._only = only
        self._shown: QueueSnapshot | None = None
        self._output = CellOutput()

    def show(self, snapshot: QueueSnapshot) -> None:
        """Brings the output up to date; sends nothing where nothing changed. As often as it is called."""
        if self._shown is not None and self._shown.version == snapshot.version:
            return
        self._shown = snapshot
        seen = snapshot if self._only is None else _only(snapshot, self._only)
        self._output.show({"text/plain": render_text(seen), "text/html": render_html(seen, is_redrawn=True)})

    def close(self) -> None:
        """The output stays as it was last: the record of what was waited for."""


class LineDisplay:
    """One line of progress with a bar, in an output that is brought up to date and taken away at the end."""

    def __init__(self) -> None:
        self._output = CellOutput()

    def show(self, text: str, fraction: float | None) -> None:
        """Says how far it is; sends nothing where nothing changed."""
        line = f"{formats.percent(fraction)}  {printable(text)}"
        self._output.show({"text/plain": line, "text/html": f"<div>{bar(fraction)} {escape(line)}</div>"})

    def close(self) -> None:
        """Leaves an empty output: what came of it all is said by another."""
        if self._output.is_shown:
            self._output.show({"text/plain": "", "text/html": ""})


def _only(snapshot: QueueSnapshot, id_: DownloadId) -> QueueSnapshot:
    def of(items: tuple[QueuedDownload, ...]) -> tuple[QueuedDownload, ...]:
        return tuple(item for item in items if item.id == id_)

    return replace(
        snapshot,
        items=of(snapshot.items),
        recent_completed=of(snapshot.recent_completed),
        recent_failures=of(snapshot.recent_failures),
        recent_cancelled=of(snapshot.recent_cancelled),
        resolving=(),
        last_run=None,
    )
