"""Progress in a notebook while somebody waits: one output that is brought up to date, HTML and text alike."""

from dataclasses import replace
from html import escape

from IPython.display import DisplayHandle

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook import formats
from gglib_nb.notebook.markup import bar, render_html
from gglib_nb.notebook.text import render_text


class ProgressDisplay:
    """One display of one download, or of the whole queue where `only` is None."""

    def __init__(self, only: DownloadId | None) -> None:
        self._only = only
        self._shown: QueueSnapshot | None = None
        self._handle: DisplayHandle | None = None

    def show(self, snapshot: QueueSnapshot) -> None:
        """Brings the output up to date; sends nothing where nothing changed. As often as it is called."""
        if self._shown is not None and self._shown.version == snapshot.version:
            return
        self._shown = snapshot
        seen = snapshot if self._only is None else _only(snapshot, self._only)
        bundle = {"text/plain": render_text(seen), "text/html": render_html(seen, is_redrawn=True)}
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(bundle, raw=True)
        else:
            self._handle.update(bundle, raw=True)

    def close(self) -> None:
        """The output stays as it was last: the record of what was waited for."""


class LineDisplay:
    """One line of progress with a bar, in an output that is brought up to date and taken away at the end."""

    def __init__(self) -> None:
        self._shown = ""
        self._handle: DisplayHandle | None = None

    def show(self, text: str, fraction: float | None) -> None:
        """Says how far it is; sends nothing where nothing changed."""
        line = f"{formats.percent(fraction)}  {printable(text)}"
        if line == self._shown:
            return
        self._shown = line
        self._update({"text/plain": line, "text/html": f"<div>{bar(fraction)} {escape(line)}</div>"})

    def close(self) -> None:
        """Leaves an empty output: what came of it all is said by another."""
        if self._handle is not None:
            self._update({"text/plain": "", "text/html": ""})

    def _update(self, bundle: dict[str, str]) -> None:
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(bundle, raw=True)
        else:
            self._handle.update(bundle, raw=True)


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
