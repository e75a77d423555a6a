"""Shows how a download goes while somebody waits for it in Python: draws, tells a callback, or writes to a log.

A thread of its own looks at the snapshots, so that a busy loop does not freeze the bars; whoever waits gets the result only
after the last line is drawn, so that what a script prints next stands below it. How a bar looks is known to `progress_bars`,
what a log says to `progress_log`; a notebook brings its own (`use_views`).
"""

import logging
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from contextvars import copy_context
from typing import Final, Protocol, TypeVar

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.references import DownloadId
from gglib_nb.manager import streams
from gglib_nb.manager.thread_pool import fail, succeed

ProgressCallback = Callable[[QueuedDownload], object]
Progress = bool | ProgressCallback | None
"""None: by itself, as huggingface_hub does. False: nothing. A callback: it is told, and nothing is drawn."""

_LOOK_EVERY_S: Final = 0.1
_log: Final = logging.getLogger("gglib_nb")
_Result = TypeVar("_Result")


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


def watched(
    progress: Progress,
    queueing: "Future[DownloadId]",
    finishing: "Future[_Result]",
    snapshot: Callable[[], QueueSnapshot],
) -> "Future[_Result]":
    """What `finishing` comes to, shown on the way; cancelling it cancels `finishing`.

    Args:
        progress: What the caller asked for.
        queueing: The id that the queue gives the download.
        finishing: Its end.
        snapshot: The queue as it is now.
    """
    view = view_for(progress)
    if view is None:
        return finishing
    answer: Future[_Result] = Future()
    answer.add_done_callback(lambda done: finishing.cancel() if done.cancelled() else None)

    def work() -> None:
        try:
            _show_until_done(view, queueing, finishing, snapshot)
        finally:
            _pass_on(finishing, answer)

    # In the caller's context: a kernel's output then goes to the cell that waits.
    threading.Thread(target=copy_context().run, args=(work,), name="gglib-progress", daemon=True).start()
    return answer


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
    from gglib_nb.manager.progress_log import LOG

    return LOG.view()


def _is_unwanted() -> bool:
    """The Hub's own switch (`HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()`)."""
    from huggingface_hub.utils import are_progress_bars_disabled

    return are_progress_bars_disabled()


def _show_until_done(
    view: ProgressView,
    queueing: "Future[DownloadId]",
    finishing: "Future[_Result]",
    snapshot: Callable[[], QueueSnapshot],
) -> None:
    shown: QueuedDownload | None = None
    is_over = False
    try:
        while not is_over:
            is_over = bool(futures.wait([finishing], timeout=_LOOK_EVERY_S).done)
            id_ = (
                queueing.result() if queueing.done() and not queueing.cancelled() and not queueing.exception() else None
            )
            now = None if id_ is None else _find(id_, snapshot())
            if now is not None and now is not shown:
                shown = now
                view.show(now)
    except Exception:  # noqa: BLE001 - what draws must not take the download with it
        _log.warning("The progress of a download could not be shown", exc_info=True)
        futures.wait([finishing])
    finally:
        view.close()


def _find(id_: DownloadId, snapshot: QueueSnapshot) -> QueuedDownload | None:
    known = (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled)
    return next((item for item in known if item.id == id_), None)


def _pass_on(done: "Future[_Result]", answer: "Future[_Result]") -> None:
    if done.cancelled():
        answer.cancel()
    elif (error := done.exception()) is not None:
        fail(answer, error)
    else:
        succeed(answer, done.result())


class _Told:
    """Passes on to a callback."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback: Final = callback

    def show(self, download: QueuedDownload) -> None:
        """Calls it."""
        self._callback(download)

    def close(self) -> None:
        """Nothing is left to do."""
