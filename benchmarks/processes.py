"""Runs a downloader as a process and measures wall time, CPU of all its processes, and peak memory.

CPU comes from the system when the process has ended (`wait4` counts its children, if it waited for them). Memory is
each process's own peak, sampled ten times a second and added up. Knows no downloaders, except that a process of
`gglib_nb.engine` is reported separately.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import psutil

_LOOK_S = 0.1
_TIMEOUT_S = 600.0
_ENGINE = "gglib_nb.engine"


@dataclass(frozen=True)
class Usage:
    """The cost of a run.

    Attributes:
        wall_s: from the start of the first process to the end of the last.
        cpu_s: user and system seconds of all processes.
        peak_bytes: peak resident memory of all processes together.
        output: standard output.
        engine: the engine's part; `None` if no engine was observed.
        ended_s: when it finished, on the monotonic clock; `None` if it does not report that.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str = ""
    engine: "EngineUsage | None" = None
    ended_s: float | None = None


@dataclass
class EngineUsage:
    """The cost of the engine process, as last sampled.

    Attributes:
        peak_bytes: its peak resident memory.
        cpu_s: its user and system seconds.
        sockets: the maximum number of open sockets in a sample.
    """

    peak_bytes: int = 0
    cpu_s: float = 0.0
    sockets: int = 0


@dataclass
class _Watch:
    """Samples a tree of processes from a thread until stopped."""

    root_pid: int
    peaks: dict[int, int] = field(default_factory=dict)
    engine: EngineUsage | None = None

    def look_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        # A process can end at any moment; its last sample is kept.
        with contextlib.suppress(psutil.Error, OSError):
            root = psutil.Process(self.root_pid)
            for process in [root, *root.children(recursive=True)]:
                self._look_at(process)

    def _look_at(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error, OSError):
            peak_bytes = high_water_bytes(process.pid)
            self.peaks[process.pid] = max(peak_bytes, self.peaks.get(process.pid, 0))
            if any(_ENGINE in argument for argument in process.cmdline()):
                times = process.cpu_times()
                self.engine = self.engine or EngineUsage()
                self.engine.peak_bytes = max(self.engine.peak_bytes, peak_bytes)
                self.engine.cpu_s = max(self.engine.cpu_s, times.user + times.system)
                self.engine.sockets = max(self.engine.sockets, _socket_count(process.pid))


def high_water_bytes(pid: int) -> int:
    """The peak resident memory of a running process.

    Raises:
        OSError: there is no such process.
    """
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _socket_count(pid: int) -> int:
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(link.readlink()).startswith("socket:")
    return count


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[_Watch]:
    watch, is_over = _Watch(pid), threading.Event()
    thread = threading.Thread(target=watch.look_until, args=(is_over,), daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        is_over.set()
        thread.join()


def run_all(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> Usage:
    """Run commands one after another and add up their cost.

    Raises:
        RuntimeError: one of them failed, or took more than ten minutes; the text has the end of its output.
    """
    usages = [run(command, environment) for command in commands]
    return Usage(
        wall_s=sum(usage.wall_s for usage in usages),
        cpu_s=sum(usage.cpu_s for usage in usages),
        peak_bytes=max(usage.peak_bytes for usage in usages),
        output="".join(usage.output for usage in usages),
        engine=next((usage.engine for usage in usages if usage.engine), None),
    )


def run(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run one command; see `run_all`."""
    with TemporaryFile() as output, TemporaryFile() as errors:
        start_s = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment)
        timer = threading.Timer(_TIMEOUT_S, process.kill)
        timer.start()
        with _watched(process.pid) as watch:
            _, status, used = os.wait4(process.pid, 0)
            wall_s = time.monotonic() - start_s
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{Path(command[0]).name} ended with status {process.returncode}: {said}")
        output.seek(0)
        return Usage(
            wall_s=wall_s,
            cpu_s=used.ru_utime + used.ru_stime,
            # The cost of a process too short to be sampled is read from the system.
            peak_bytes=max(sum(watch.peaks.values()), used.ru_maxrss * 1024),
            output=output.read().decode(errors="replace"),
            engine=watch.engine,
        )
