"""Progress where nobody watches: one line a minute about everything that is waited for, however much that is."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from gglib_nb.domain.download import QueuedDownload
from gglib_nb.manager import streams
from gglib_nb.manager.progress_words import said_briefly

_EVERY_S: Final = 60.0


class ProgressLog:
    """One log. Methods may be called from any thread.

    Args:
        write: Takes a line.
        clock: Seconds that only grow.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write: Final = write
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._followed: Final[dict[object, str]] = {}
        self._next_s: float | None = None

    def view(self) -> "LoggedDownload":
        """Shows one download more."""
        return LoggedDownload(self)

    def tell(self, who: object, words: str) -> None:
        """Takes how one is now; writes when a minute is over."""
        with self._lock:
            now_s = self._clock()
            if self._next_s is None:
                self._next_s = now_s + _EVERY_S
            self._followed[who] = words
            if now_s >= self._next_s:
                self._next_s = now_s + _EVERY_S
                self._write("; ".join(self._followed.values()))

    def forget(self, who: object) -> None:
        """It is waited for no more."""
        with self._lock:
            self._followed.pop(who, None)
            if not self._followed:
                self._next_s = None


class LoggedDownload:
    """One download in a log."""

    def __init__(self, log: ProgressLog) -> None:
        self._log: Final = log

    def show(self, download: QueuedDownload) -> None:
        """Takes how it is now."""
        if download.status.is_active or download.status.is_pending:
            self._log.tell(self, said_briefly(download))

    def close(self) -> None:
        """It is over, or nobody waits any more."""
        self._log.forget(self)


def _to_standard_error(line: str) -> None:
    if streams.is_open(sys.stderr):
        streams.write(sys.stderr, f"gglib_nb: {line}\n")


LOG: Final = ProgressLog(_to_standard_error)
"""The one of this process: several downloads together write one line a minute."""
