"""Cell outputs that are updated after the cell has ended, and the outputs of the panel.

Saved notebooks, nbconvert, GitHub and papermill show only the text and HTML of the panel. So does a notebook server
without the widget, where no page ever answers. Depends on IPython's displays; of the queue, on whether it is idle.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.snapshot import QueueSnapshot
from gglib_nb.notebook import host
from gglib_nb.notebook.rows import no_page_text, still_text

Data = dict[str, Any]
"""The same content by MIME type: `text/plain`, `text/html`, ..."""
Bundle = tuple[Data, Data]
"""Data by MIME type, and metadata."""

_STATIC_KINDS: Final = ("text/plain", "text/html")
_MOST_OUTPUTS: Final = 20
"""Older outputs most likely belong to cells that were run again."""
_PAGE_WAIT_S: Final = 8
_LATE_S: Final = 0.5
_STATIC_EVERY_S: Final = 10.0


class CellOutput:
    """An output of the cell that creates it. Safe from threads, one at a time.

    It keeps the display publisher of that cell: user code such as `%%capture` replaces the shell's publisher during
    another cell, and must not capture the updates of a background thread.
    """

    def __init__(self) -> None:
        self._publisher: Final = getattr(get_ipython(), "display_pub", None)
        self._transient = {"display_id": uuid.uuid4().hex}
        self._shown: Data | None = None
        self._is_updated = False

    @property
    def is_shown(self) -> bool:
        """Whether the output has been shown."""
        return self._shown is not None

    @property
    def is_captured(self) -> bool:
        """Whether the cell captures its outputs: captured outputs cannot be updated."""
        return isinstance(self._publisher, CapturingDisplayPublisher)

    def show(self, data: Data, metadata: Data | None = None) -> None:
        """Replaces the content; sends nothing if it is unchanged."""
        if data == self._shown or (self.is_shown and self.is_captured):
            return
        self._is_updated, self._shown = self.is_shown, data
        self._publish(data, metadata, update=self._is_updated)

    def finish(self, data: Data) -> None:
        """Shows the final content in front ends that ignore updates: clears the output and displays a new one."""
        if data == self._shown and not self._is_updated:
            return
        if self.is_shown and not self.is_captured:
            self._publish(dict.fromkeys(data, ""), None, update=True)
            # A display with an existing id also updates the earlier output (JupyterLab, nbclient).
            self._transient = {"display_id": uuid.uuid4().hex}
        self._shown = data
        self._publish(data, None, update=False)

    def _publish(self, data: Data, metadata: Data | None, *, update: bool) -> None:
        publish = publish_display_data if self._publisher is None else self._publisher.publish
        publish(data=data, metadata=metadata or {}, transient=self._transient, update=update)


class PanelOutputs:
    """The outputs of one panel. `show` is called in a cell, `follow` and `page_answered` on any thread; none blocks.

    They are updated after changes, when nothing is active or waiting: with a user at once. A program that executes a
    notebook to save it receives no messages between cells: then at the end of a cell, and without the live view, which
    nbconvert would prefer.

    If no page answers within some seconds in which the kernel was idle, the outputs replace the live view by text and
    HTML with the time of their last update, until a page answers.

    Args:
        bundle: Returns the current panel, with this caption below its text and HTML.
        snapshot: Returns the current queue.
    """

    def __init__(self, bundle: Callable[[str], Bundle], snapshot: Callable[[], QueueSnapshot]) -> None:
        self._bundle: Final = bundle
        self._snapshot: Final = snapshot
        self._updating: Final = threading.Lock()  # the newest panel is shown last
        self._outputs: tuple[CellOutput, ...] = ()
        self._shell: Any = None
        self._shown: object = None  # the queue as the outputs show it
        self._has_page: bool | None = None  # None: not known yet
        self._updated_s = 0.0

    def show(self) -> None:
        """Shows the panel in the running cell."""
        output, shown = CellOutput(), _picture(self._snapshot())
        output.show(*self._content(still_text))
        if host.kernel() is None:
            return  # a terminal cannot update printed text
        if self._shell is None:
            self._shell = get_ipython()
            self._shell.events.register("post_run_cell", self._end_cell)
        self._outputs = (*self._outputs, output)[-_MOST_OUTPUTS:]
        self._shown = None if self._is_recording else shown
        self.follow(self._snapshot())
        with suppress(RuntimeError):  # without an event loop, idle time cannot be measured
            self._wait_for_page(asyncio.get_running_loop())

    def follow(self, snapshot: QueueSnapshot) -> None:
        """Updates the outputs if they are out of date and nothing is active or waiting."""
        is_old = self._has_page is False and time.monotonic() - self._updated_s > _STATIC_EVERY_S
        if (is_old or self._is_outdated(snapshot)) and not self._is_recording:
            self._update_in_thread()

    def page_answered(self) -> None:
        """Records that a page has sent a message, so the live view works."""
        lacked, self._has_page = self._has_page is False, True
        if lacked:
            self._update_in_thread()

    def close(self) -> None:
        """Stops updating the outputs."""
        self._outputs = ()
        if self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._end_cell)
            self._shell = None

    @property
    def _is_recording(self) -> bool:
        return host.is_recording() and not self._has_page

    def _wait_for_page(self, loop: asyncio.AbstractEventLoop, free_s: int = 0) -> None:
        """Counts the seconds in which the kernel was idle and no page answered; during a cell, a page cannot answer."""

        def tick(due_s: float) -> None:
            if self._has_page or self._shell is None:
                return
            idle_s = free_s + 1 if loop.time() - due_s < _LATE_S else 0
            if idle_s < _PAGE_WAIT_S:
                self._wait_for_page(loop, idle_s)
            elif not self._is_recording:
                self._has_page = False
                self._update_in_thread()

        loop.call_later(1, tick, loop.time() + 1)

    def _is_outdated(self, snapshot: QueueSnapshot) -> bool:
        # Paused downloads do not count.
        is_busy = any(item.status.is_active or item.status is DownloadStatus.QUEUED for item in snapshot.items)
        return bool(self._outputs) and not is_busy and not snapshot.resolving and self._shown != _picture(snapshot)

    def _end_cell(self, _result: object) -> None:
        if self._is_outdated(self._snapshot()):
            self._update()

    def _update_in_thread(self) -> None:
        self._shown, self._updated_s = _picture(self._snapshot()), time.monotonic()
        # A kernel's display blocks until the output of cells is flushed.
        threading.Thread(target=self._update, name="gglib-outputs", daemon=True).start()

    def _update(self) -> None:
        with self._updating:
            outputs, self._shown = self._outputs, _picture(self._snapshot())
            content = self._content(no_page_text if self._has_page is False else still_text)
            for output in outputs:
                output.show(*content)

    def _content(self, caption: Callable[[float], str]) -> Bundle:
        data, metadata = self._bundle(caption(time.time()))
        is_live = caption is still_text and not self._is_recording
        return {kind: part for kind, part in data.items() if is_live or kind in _STATIC_KINDS}, metadata


def _picture(snapshot: QueueSnapshot) -> object:
    """What the outputs show of a queue in which nothing runs."""
    ended = (snapshot.recent_failures, snapshot.recent_completed, snapshot.recent_cancelled)
    return snapshot.items, *ended, snapshot.last_run
