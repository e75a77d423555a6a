"""Progress without a terminal: one line a minute about all downloads that are waited for."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

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
        self._followed: Final[dict[object, tuple[str, Callable[[str], object]]]] = {}
        self._next_s: float | None = None

    def view(self, write: Callable[[str], object] | None = None) -> "LoggedDownload":
        """Shows one more download.

        Args:
            write: Takes its lines; None: what takes those of the log. Downloads with the same one share a line.
        """
        return LoggedDownload(self, write or self._write)

    def tell(self, who: object, words: str, write: Callable[[str], object]) -> None:
        """Takes the state of one; writes when a minute is over."""
        with self._lock:
            now_s = self._clock()
            if self._next_s is None:
                self._next_s = now_s + _EVERY_S
            self._followed[who] = (words, write)
            if now_s >= self._next_s:
                self._next_s = now_s + _EVERY_S
                for one in dict.fromkeys(each for _, each in self._followed.values()):
                    one("; ".join(words for words, each in self._followed.values() if each == one))

    def forget(self, who: object) -> None:
        """Nothing waits for it any more."""
        with self._lock:
            self._followed.pop(who, None)
            if not self._followed:
                self._next_s = None


class LoggedDownload:
    """One download in a log."""

    def __init__(self, log: ProgressLog, write: Callable[[str], object]) -> None:
        self._log: Final = log
        self._write: Final = write

    def show(self, download: QueuedDownload) -> None:
        """Takes its state."""
        if download.status.is_active or download.status.is_pending:
            self._log.tell(self, said_briefly(download), self._write)

    def close(self) -> None:
        """It is over, or nothing waits for it any more."""
        self._log.forget(self)


@dataclass(frozen=True)
class LineWriter:
    """Writes lines of a log to a stream: the one of the code that waits, whatever `sys.stderr` is when a line is due."""

    stream: Any

    def __call__(self, line: str) -> None:
        """Writes one."""
        if streams.is_open(self.stream):
            streams.write(self.stream, f"gglib_nb: {line}\n")


LOG: Final = ProgressLog(lambda _line: None)
"""The one of this process: several downloads together write one line a minute."""
