"""Detects an engine process that no longer responds, from the commands it got and the time of its last report.

A process can be alive and silent: stopped, swapped out, blocked by a dead network disk. While an attempt runs it
reports ten times a second. Pure except for its lock: the caller passes the time.
"""

import math
import threading
from typing import Final, Literal

from gglib_nb.domain import reports
from gglib_nb.engine import protocol as wire

# Thirty missed reports are reported; a process that is silent for longer is killed, and another one resumes its work.
SILENT_AFTER_S: Final = 3.0
KILLED_AFTER_S: Final = 30.0
# A stop takes a second; nothing else may start in its slot before it is confirmed.
STOP_LIMIT_S: Final = 10.0
# An interpreter on a slow network disk may take long to start; after the first limit that is reported.
START_REPORT_S: Final = 20.0
START_LIMIT_S: Final = 120.0

_ENDS: Final = (reports.TransferFinished, reports.TransferFailed, reports.TransferStopped, wire.CheckEnded)


class Watchdog:
    """Watches one process from its start. Methods may be called from any thread."""

    def __init__(self, now_s: float) -> None:
        self._lock = threading.Lock()
        self._reported_s = now_s
        self._is_ready = False
        self._running: dict[wire.Task | None, float] = {}  # when its stop was sent; infinity: not yet

    def sent(self, command: wire.Command, now_s: float) -> None:
        """Record that a command was sent to the process."""
        with self._lock:
            task = wire.task_of(command)
            if isinstance(command, wire.StartTransfer | wire.CheckFiles):
                if not self._running:  # it had nothing to report before
                    self._reported_s = max(self._reported_s, now_s)
                self._running[task] = math.inf
            elif isinstance(command, reports.StopTransfer) and task in self._running:
                self._running[task] = min(self._running[task], now_s)

    def reported(self, event: wire.ProcessReport, now_s: float) -> None:
        """Record a report of the process."""
        with self._lock:
            self._reported_s = now_s
            self._is_ready = self._is_ready or isinstance(event, wire.Ready)
            if isinstance(event, _ENDS):
                self._running.pop(wire.task_of(event), None)

    def exclude(self, for_s: float) -> None:
        """Exclude a time in which the watcher itself was suspended, with its process or the machine."""
        with self._lock:
            self._reported_s += for_s
            self._running = {task: stop_s + for_s for task, stop_s in self._running.items()}

    def silent_s(self, now_s: float) -> float:
        """Seconds since its last report while it should report; 0 otherwise."""
        with self._lock:
            return max(0.0, now_s - self._reported_s) if self._running else 0.0

    def verdict(self, now_s: float) -> Literal["well", "silent", "not started", "dead"]:
        """The state of the process, by its silence and its overdue stops."""
        silent_s = self.silent_s(now_s)
        with self._lock:
            is_stop_overdue = any(now_s - stop_s >= STOP_LIMIT_S for stop_s in self._running.values())
            is_ready = self._is_ready
        if not is_ready:
            if silent_s >= START_LIMIT_S:
                return "dead"
            return "not started" if silent_s >= START_REPORT_S else "well"
        if is_stop_overdue or silent_s >= KILLED_AFTER_S:
            return "dead"
        return "silent" if silent_s >= SILENT_AFTER_S else "well"
