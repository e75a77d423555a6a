"""What a panel's outputs say to readers without widgets: a text and a page, brought up to date when a run has ended.

Saved notebooks, nbconvert, GitHub and papermill have nothing else of the panel. Knows IPython's displays; of the queue, no
more than whether it is at rest.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from IPython.core.getipython import get_ipython

from gglib_nb.domain.download import DownloadStatus, QueueSnapshot
from gglib_nb.notebook import host
from gglib_nb.notebook.cell_output import CellOutput

Bundle = tuple[dict[str, Any], dict[str, Any]]

_STATIC: Final = ("text/plain", "text/html")
_MOST_OUTPUTS: Final = 20
"""Older ones are of cells that were run again, most likely, and nobody misses a message to an output that is gone."""


class PanelOutputs:
    """The outputs of one panel. `show` is called in a cell, `follow` on any thread; it does not wait.

    They are brought up to date once for each run of the queue, when nothing is active or waiting any more. Before a person
    that is at once. What works a notebook off, to save it, hears no message that comes between two cells: there it is at the
    end of a cell, and without the live view, which nbconvert would show in their place and has no kernel for.

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
            self._is_stale |= host.is_recording()
        self.follow(self._snapshot())

    def follow(self, snapshot: QueueSnapshot) -> None:
        """Takes the queue as it is now; where that ends a run, the outputs follow."""
        if self._ends_run(snapshot) and host.has_person():
            # On a thread of its own: a kernel's display waits until all that cells have printed is on its way.
            threading.Thread(target=self._bring_up_to_date, name="gglib-outputs", daemon=True).start()

    def close(self) -> None:
        """The outputs stay as they are."""
        with self._lock:
            self._outputs.clear()
        if self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._end_cell)
            self._shell = None

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

    def _bring_up_to_date(self) -> None:
        with self._lock:
            outputs = list(self._outputs) if self._is_due else []
            self._is_due = False
        if not outputs:
            return
        data, metadata = self._bundle()
        if host.is_recording():
            data = {kind: data[kind] for kind in _STATIC}
        for output in outputs:
            output.show(data, metadata)


def _is_at_rest(snapshot: QueueSnapshot) -> bool:
    """Whether nothing is active or waiting; what is paused waits for a person."""
    is_at_work = any(item.status.is_active or item.status is DownloadStatus.QUEUED for item in snapshot.items)
    return not is_at_work and not snapshot.resolving
