"""Has the engine hash files, and brings back what came out: the kernel's end of a check.

The engine does it because a cell that computes slows every thread of the kernel. What came out is the caller's to judge
and to write down. Safe from any thread; nothing here waits.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from gglib_nb.domain.checking import CheckedFile
from gglib_nb.engine.protocol import CheckEnded, CheckFiles, CheckProgress, Command, FileToCheck, StopCheck
from gglib_nb.errors import EngineLostError, GglibError, ManagerClosedError
from gglib_nb.manager.thread_pool import fail, succeed

_LOST: Final = "The download process ended while it verified; verify again."

Checked = tuple[CheckedFile, ...]
OnRead = Callable[[int, int], None]
"""Told the index of the file that is read, and the bytes that were read of all files; ten times a second at most."""


@dataclass(frozen=True, slots=True)
class _Pending:
    answer: "Future[Checked]"
    on_read: OnRead
    file_count: int


class FileChecks:
    """All checks of one manager.

    Args:
        send: Has a command sent to the engine.
    """

    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send: Final = send
        self._numbers: Final = itertools.count(1)
        self._lock: Final = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._is_closed = False

    def check(self, files: Sequence[FileToCheck], on_read: OnRead) -> "Future[Checked]":
        """Has files hashed; cancelling the future ends that.

        Raises:
            EngineLostError: The download process ended meanwhile; nothing was changed.
        """
        answer: Future[Checked] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._is_closed:
                answer.set_exception(ManagerClosedError("This download manager is closed."))
                return answer
            self._pending[number] = _Pending(answer, on_read, len(files))
        answer.add_done_callback(lambda done: self._stop(number) if done.cancelled() else None)
        self._send(CheckFiles(number, tuple(files)))
        return answer

    def progressed(self, event: CheckProgress) -> None:
        """The engine says how far one is."""
        if (pending := self._pending.get(event.check)) is not None:
            pending.on_read(event.file_index, event.done_bytes)

    def ended(self, event: CheckEnded) -> None:
        """The engine is through with one."""
        with self._lock:
            pending = self._pending.pop(event.check, None)
        if pending is None:
            return
        if len(event.files) < pending.file_count:
            fail(pending.answer, EngineLostError(_LOST))
        else:
            succeed(pending.answer, event.files)

    def engine_lost(self) -> None:
        """The engine ended by itself, and with it every check."""
        self._fail_all(EngineLostError(_LOST))

    def close(self) -> None:
        """Whoever waits gets an error; later ones too."""
        self._is_closed = True
        self._fail_all(ManagerClosedError("This download manager was closed before the files were verified."))

    def _stop(self, number: int) -> None:
        with self._lock:
            pending = self._pending.pop(number, None)
        if pending is not None:
            self._send(StopCheck(number))

    def _fail_all(self, error: GglibError) -> None:
        with self._lock:
            pending, self._pending = list(self._pending.values()), {}
        for one in pending:
            fail(one.answer, error)
