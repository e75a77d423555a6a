"""Progress in a notebook while a cell waits: one output that is updated, HTML and text alike."""

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
from gglib_nb.notebook.rows import minute
from gglib_nb.notebook.text import download_text, render_text

_PACE_S: Final = 0.2
"""Digits that change more often cannot be read, and every message redraws the output."""


def view_in_cell() -> "DownloadDisplay | None":
    """Shows a download in the cell that waits for it; None where the notebook runs without a user."""
    return DownloadDisplay() if host.has_person() else None


def _caption(is_live: bool) -> str:
    """What an output says that is not updated any more although downloads continue."""
    return f"As of {minute(time.time())}. This cell no longer waits; %gguf shows the queue." if is_live else ""


class DownloadDisplay:
    """One download, for the cell that awaits it; the output stays as the record of its end.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._output: Final = CellOutput()
        self._newest: QueuedDownload | None = None
        self._due_s = 0.0

    def show(self, download: QueuedDownload) -> None:
        """Updates the output, five times a second at most."""
        self._newest = download
        if self._clock() >= self._due_s and not self._output.is_captured:
            self._due_s = self._clock() + _PACE_S
            self._output.show({"text/plain": download_text(download), "text/html": download_html(download)})

    def close(self) -> None:
        """Shows the end; or, where the cell gave up waiting, that the download continues."""
        if (last := self._newest) is None:
            return
        caption = _caption(last.status.is_active or last.status.is_pending)
        text = "\n".join(filter(None, (download_text(last), caption)))
        self._output.finish({"text/plain": text, "text/html": download_html(last, caption)})


class ProgressDisplay:
    """One download, or the whole queue where `only` is None."""

    def __init__(self, only: DownloadId | None) -> None:
        self._only = only
        self._newest: QueueSnapshot | None = None
        self._output = CellOutput()

    def show(self, snapshot: QueueSnapshot) -> None:
        """Updates the output; sends nothing if nothing changed. May be called at any rate."""
        if self._newest is not None and self._newest.version == snapshot.version:
            return
        self._newest = snapshot
        if not self._output.is_captured:
            shown = self._seen(snapshot)
            self._output.show({"text/plain": render_text(shown), "text/html": render_html(shown, is_redrawn=True)})

    def close(self) -> None:
        """Shows the end; or, where the cell gave up waiting, that the downloads continue."""
        if self._newest is None:
            return
        last = self._seen(self._newest)
        caption = _caption(bool(last.items or last.resolving))
        text = "\n".join(filter(None, (render_text(last), caption)))
        self._output.finish({"text/plain": text, "text/html": render_html(last, caption, is_redrawn=True)})

    def _seen(self, snapshot: QueueSnapshot) -> QueueSnapshot:
        return snapshot if self._only is None else _only(snapshot, self._only)


class LineDisplay:
    """One line of progress with a bar, in an output that is updated and cleared at the end."""

    def __init__(self) -> None:
        self._output = CellOutput()

    def show(self, text: str, fraction: float | None) -> None:
        """Shows a text and how much is done; sends nothing if nothing changed."""
        line = f"{formats.percent(fraction)}  {printable(text)}"
        if not self._output.is_captured:
            self._output.show({"text/plain": line, "text/html": f"<div>{bar(fraction)} {escape(line)}</div>"})

    def close(self) -> None:
        """Leaves an empty output: the result is shown by the verb."""
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
        elsewhere=(),
        last_run=None,
    )
