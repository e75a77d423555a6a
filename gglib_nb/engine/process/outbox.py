"""Events on their way to the kernel: the only writer of the engine's standard output.

A transfer never waits for the pipe. An event that ends an attempt is kept until it is written; a progress that was
not written yet is replaced by the newer one of its attempt, so a kernel that does not read costs no memory.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from gglib_nb.engine.protocol import CheckEnded, CheckProgress, Event, Progress, encode

_FLUSH_S: Final = 0.5


_Of = tuple[str, int | None]
"""What an event is about: an attempt or a check, and which."""


def _subject(event: Event) -> _Of:
    if isinstance(event, CheckProgress | CheckEnded):
        return "check", event.check
    return "attempt", getattr(event, "attempt", None)


class Outbox:
    """Takes events from any thread and writes them from its own."""

    def __init__(self, fd: int, on_lost: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            fd: Where to write.
            on_lost: Called once when nobody reads any more.
        """
        self._fd = fd
        self._on_lost = on_lost
        self._changed = threading.Condition()
        self._kept: deque[Event] = deque()
        self._progress: dict[_Of, Progress | CheckProgress] = {}
        self._is_writing = False
        threading.Thread(target=self._run, name="gglib-outbox", daemon=True).start()

    def post(self, event: Event) -> None:
        """Send it as soon as the pipe takes it."""
        with self._changed:
            if isinstance(event, Progress | CheckProgress):
                self._progress[_subject(event)] = event
            else:
                if (last := self._progress.pop(_subject(event), None)) is not None:
                    self._kept.append(last)
                self._kept.append(event)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait a moment until everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._kept or self._is_writing), _FLUSH_S)

    def _run(self) -> None:
        try:
            while True:
                self._write(encode(self._next()))
        except OSError:
            self._on_lost()

    def _next(self) -> Event:
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._kept or self._progress)
            self._is_writing = True
            if self._kept:
                return self._kept.popleft()
            return self._progress.pop(next(iter(self._progress)))

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
