"""Shows how a download goes while somebody waits for it in Python: draws, tells a callback, or writes to a log.

The operation's own thread looks at the snapshots, so that a busy loop does not freeze the bars; the caller gets the result
after the last line is drawn, so that what a script prints next is below it. How a bar looks is known to `progress_bars`,
what a log says to `progress_log`; a notebook brings its own (`use_views`).
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.references import DownloadId
from gglib_nb.manager import streams

ProgressCallback = Callable[[QueuedDownload], object]
Progress = bool | ProgressCallback | None
"""None: by itself, as huggingface_hub does. False: nothing. A callback: it is told, and nothing is drawn."""

_log: Final = logging.getLogger("gglib_nb")


class ProgressView(Protocol):
    """Whatever shows one download."""

    def show(self, download: QueuedDownload) -> None:
        """Takes how it is now; called when something changed, ten times a second at most."""

    def close(self) -> None:
        """It is over, or nobody waits any more."""


MakeView = Callable[[], ProgressView | None]
_make_view_of_place: MakeView | None = None


def use_views(make: MakeView) -> None:
    """Lets the place where this process runs show downloads in its own way, as a notebook does in the cell that waits.

    Args:
        make: Gives a view of one more download; None where standard error is the better place. Called by whoever asks for
            the download, on the same thread.
    """
    global _make_view_of_place  # noqa: PLW0603 - a process runs in one place
    _make_view_of_place = make


@contextmanager
def shown(
    progress: Progress, id_: DownloadId, snapshot: Callable[[], QueueSnapshot]
) -> Iterator[Callable[[], None] | None]:
    """Shows a download during the block, where what it gives is called ten times a second; None: nothing is shown.

    Args:
        progress: What the caller asked for.
        id_: The download.
        snapshot: The queue as it is now.
    """
    view = view_for(progress)
    if view is None:
        yield None
        return
    look = _Look(view, id_, snapshot)
    try:
        yield look
    finally:
        look()  # the last line is drawn before the caller gets the result
        look.close()


def view_for(progress: Progress) -> ProgressView | None:
    """What shows a download that was asked for so; None where nothing does."""
    if callable(progress):
        return _Told(progress)
    if progress is False or (progress is None and _is_unwanted()):
        return None
    if _make_view_of_place is not None and (view := _make_view_of_place()) is not None:
        return view
    stream = sys.stderr
    if not streams.is_open(stream):  # a program without a console
        return None
    if streams.is_terminal(stream):
        from gglib_nb.manager.progress_bars import ProgressBars

        return ProgressBars(stream)
    from gglib_nb.manager.progress_log import LOG, LineWriter

    return LOG.view(LineWriter(stream))


def _is_unwanted() -> bool:
    """The Hub's own switch (`HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()`)."""
    from huggingface_hub.utils import are_progress_bars_disabled

    return are_progress_bars_disabled()


class _Look:
    """One view of one download; a view that fails is not used again, and the download is not affected."""

    def __init__(self, view: ProgressView, id_: DownloadId, snapshot: Callable[[], QueueSnapshot]) -> None:
        self._view: Final = view
        self._id: Final = id_
        self._snapshot: Final = snapshot
        self._shown: QueuedDownload | None = None
        self._has_failed = False

    def __call__(self) -> None:
        """Shows it as it is now, where that is new."""
        now = _find(self._id, self._snapshot())
        if now is not None and now is not self._shown:
            self._shown = now
            self._guarded(lambda: self._view.show(now))

    def close(self) -> None:
        """Ends the view."""
        self._guarded(self._view.close)

    def _guarded(self, draw: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            draw()
        except Exception:  # noqa: BLE001 - what draws must not take the download with it
            self._has_failed = True
            _log.warning("The progress of a download could not be shown", exc_info=True)


def _find(id_: DownloadId, snapshot: QueueSnapshot) -> QueuedDownload | None:
    known = (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled)
    return next((item for item in known if item.id == id_), None)


class _Told:
    """Passes on to a callback."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback: Final = callback

    def show(self, download: QueuedDownload) -> None:
        """Calls it."""
        self._callback(download)

    def close(self) -> None:
        """Nothing is left to do."""
