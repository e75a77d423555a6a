"""The checks of an engine: each a thread that hashes files and says how far it is. Knows no transfers and no network.

Methods are called by the command loop's thread only.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from gglib_nb.domain.library import CheckedFile
from gglib_nb.engine.protocol import CheckEnded, CheckFiles, CheckProgress, Event
from gglib_nb.engine.storage.content_check import check_file

_REPORT_S: Final = 0.1


class FileChecks:
    """All checks that run."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        """None runs yet; `emit` takes events, from any thread."""
        self._emit = emit
        self._running: dict[int, _Check] = {}

    def start(self, command: CheckFiles) -> None:
        """Begin one."""
        self._running = {number: one for number, one in self._running.items() if one.is_alive}
        check = self._running[command.check] = _Check(command, self._emit)
        check.start()

    def stop(self, check: int) -> None:
        """End one; of one that has ended nothing more is heard."""
        if (running := self._running.get(check)) is not None:
            running.stop()

    def stop_all(self) -> None:
        """End all; nobody waits for them, since they leave nothing behind."""
        for running in self._running.values():
            running.stop()


class _Check:
    """One check, on its thread."""

    def __init__(self, command: CheckFiles, emit: Callable[[Event], None]) -> None:
        self._command = command
        self._emit = emit
        self._stop = threading.Event()
        self._read_before = 0
        self._next_report_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"gglib-check-{command.check}", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether it still reads."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def _run(self) -> None:
        checked: list[CheckedFile] = []
        try:
            for index, file in enumerate(self._command.files):
                result = check_file(file, partial(self._report, index), self._stop)
                if result is None:
                    break
                checked.append(result)
                self._read_before += file.size_bytes
        finally:
            self._emit(CheckEnded(self._command.check, tuple(checked)))

    def _report(self, index: int, read_bytes: int) -> None:
        if time.monotonic() >= self._next_report_s:
            self._next_report_s = time.monotonic() + _REPORT_S
            self._emit(CheckProgress(self._command.check, index, self._read_before + read_bytes))
