"""The panel's outputs, for readers without widgets: a text and a page, brought up to date when a run has ended.

Saved notebooks, nbconvert, GitHub and papermill have nothing else of the panel; nor does a person whose notebook server lacks
the widget, where no page ever answers. Knows IPython's displays; of the queue no more than whether it is at rest.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from IPython.core.getipython import get_ipython

from gglib_nb.domain.download import DownloadStatus, QueueSnapshot
from gglib_nb.notebook import host
from gglib_nb.notebook.cell_output import CellOutput
from gglib_nb.notebook.rows import no_page_text

Bundle = tuple[dict[str, Any], dict[str, Any]]

_TWINS: Final = ("text/plain", "text/html")
_MOST_OUTPUTS: Final = 20
"""Older ones most likely belong to cells that were run again."""
_PATIENCE_S: Final = 8
_LATE_S: Final = 0.5
_TWIN_EVERY_S: Final = 10.0


class PanelOutputs:
    """The outputs of one panel. `show` is called in a cell, `follow` and `hear` on any thread; nothing here waits.

    They are brought up to date once for each run of the queue, when nothing is active or waiting any more. With a person
    that is at once. A program that executes a notebook to save it takes no messages between two cells: there it is at the
    end of a cell, and without the live view, which nbconvert would show instead and has no kernel for.

    Where no page has answered although the kernel was free to listen for some seconds, the outputs show text and HTML in
    place of the live view, with the time of their data, until one answers.

    Args:
        bundle: Gives the panel as it is now: data by kind, and metadata.
        snapshot: Gives the queue as it is now.
    """

    def __init__(self, bundle: Callable[[], Bundle], snapshot: Callable[[], QueueSnapshot]) -> None:
        self._bundle: Final = bundle
        self._snapshot: Final = snapshot
        self._lock: Final = threading.Lock()
        self._outputs: Final[deque[CellOutput]] = deque(maxlen=_MOST_OUTPUTS)
        self._shell: Any = None
        self._last_run = snapshot().last_run
        self._is_stale = False
        self._is_due = False
        self._has_page = False
        self._lacks_page = False
        self._twin_at_s = 0.0

    def show(self) -> None:
        """Shows the panel in the cell that runs now."""
        output = CellOutput()
        output.show(*self._bundle())
        if host.kernel() is None:
            return  # what a terminal has printed stays
        if self._shell is None:
            self._shell = get_ipython()
            self._shell.events.register("post_run_cell", self._end_cell)
        with self._lock:
            self._outputs.append(output)
            self._is_stale |= self._is_recording
        self.follow(self._snapshot())
        self._listen()

    def follow(self, snapshot: QueueSnapshot) -> None:
        """Takes the queue as it is now; where that ends a run, the outputs follow."""
        is_over = self._ends_run(snapshot)
        is_old = self._lacks_page and time.monotonic() - self._twin_at_s > _TWIN_EVERY_S
        if (is_over or is_old) and not self._is_recording:
            self._bring_up_to_date_in_thread(always=is_old)

    def hear(self) -> None:
        """A page has sent a message: there is one, and it shows the live view."""
        self._has_page = True
        if self._lacks_page:
            self._lacks_page = False
            self._bring_up_to_date_in_thread(always=True)

    def close(self) -> None:
        """The outputs stay as they are."""
        with self._lock:
            self._outputs.clear()
        if self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._end_cell)
            self._shell = None

    @property
    def _is_recording(self) -> bool:
        return host.is_recording() and not self._has_page

    def _listen(self) -> None:
        """Counts seconds in which the kernel was free and no page answered; while a cell runs, none can."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # this kernel has no loop to tell by
        free_s = 0

        def tick(due_s: float) -> None:
            nonlocal free_s
            if self._has_page or self._shell is None:
                return
            free_s = free_s + 1 if loop.time() - due_s < _LATE_S else 0
            if free_s < _PATIENCE_S:
                loop.call_later(1, tick, loop.time() + 1)
            elif not self._is_recording:
                self._lacks_page = True
                self._bring_up_to_date_in_thread(always=True)

        loop.call_later(1, tick, loop.time() + 1)

    def _ends_run(self, snapshot: QueueSnapshot) -> bool:
        with self._lock:
            if not _is_at_rest(snapshot):
                self._is_stale = True
                return False
            # A short run may have passed between two looks.
            self._is_due |= self._is_stale or snapshot.last_run != self._last_run
            self._is_stale, self._last_run = False, snapshot.last_run
            return self._is_due

    def _end_cell(self, _result: object) -> None:
        if self._ends_run(self._snapshot()):
            self._bring_up_to_date()

    def _bring_up_to_date_in_thread(self, *, always: bool = False) -> None:
        self._twin_at_s = time.monotonic()
        # A kernel's display waits until everything that cells have printed is on its way.
        options = {"always": always}
        threading.Thread(target=self._bring_up_to_date, kwargs=options, name="gglib-outputs", daemon=True).start()

    def _bring_up_to_date(self, *, always: bool = False) -> None:
        with self._lock:
            outputs = list(self._outputs) if self._is_due or always else []
            self._is_due = False
        if not outputs:
            return
        data, metadata = self._bundle()
        if self._lacks_page:
            data = _with_line(data, no_page_text(time.time()))
        elif self._is_recording:
            data = {kind: data[kind] for kind in _TWINS if kind in data}
        for output in outputs:
            output.show(data, metadata)


def _with_line(data: dict[str, Any], line: str) -> dict[str, Any]:
    """Text and HTML with one more line, and no live view."""
    return {
        "text/plain": f"{data.get('text/plain', '')}\n{line}",
        "text/html": f'{data.get("text/html", "")}<div style="opacity:.75">{line}</div>',
    }


def _is_at_rest(snapshot: QueueSnapshot) -> bool:
    """Whether nothing is active or waiting; what is paused waits for a person."""
    is_at_work = any(item.status.is_active or item.status is DownloadStatus.QUEUED for item in snapshot.items)
    return not is_at_work and not snapshot.resolving
