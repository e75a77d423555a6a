"""The kernel's end of the engine: starts the process, sends commands and passes events on.

Sending never blocks: a writer thread writes the commands in order, so that a stopped engine or a full pipe delays no
caller. A reader thread calls `on_event`. When the process ends by itself, all commands sent to it are void, the last report
is `EngineLost` with the cause, and the next command starts another process, after a pause if several ended soon after
their start. A process that does not respond for a long time is killed (`watchdog`), with the same result.
"""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from gglib_nb.domain import reports
from gglib_nb.domain.text import redacted, without_tokens
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.watchdog import Watchdog
from gglib_nb.system import PipeReader, exit_reason, start_detached

# -P keeps the working directory off the interpreter's path, and the entries of PYTHONPATH are moved behind the standard
# library, so that a `queue.py` beside the notebook cannot replace the engine's. The folder that contains the package comes
# last, for dependencies installed beside it. The package itself is loaded from its own folder and not searched for on
# the path: another installed copy may use another protocol, and a kernel may run from a checkout.
_BOOTSTRAP: Final = """
import os, sys
package, parent_pid = sys.argv[1:]
extra = os.environ.get("PYTHONPATH", "").split(os.pathsep)
sys.path[:] = [p for p in sys.path if p not in extra] + [p for p in extra if p] + [os.path.dirname(package)]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location(
    "gglib_nb", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
)
sys.modules["gglib_nb"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["gglib_nb"])
from gglib_nb.engine.main import main
main(int(parent_pid))
"""
_LOG_LIMIT_BYTES: Final = 256 * 1024
_WAIT_AFTER_END_S: Final = 5.0
_WATCH_S: Final = 1.0
# A poll that took longer: this process or the whole machine was suspended meanwhile (a laptop, a paused container).
_SUSPENDED_S: Final = 3.0
# A process that ended sooner after its start than this will probably do so again: the next one starts after a pause.
_SHORT_LIFE_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 4.0
# Programs that patch process creation in the kernel (a debugger) rewrite the command lines of Python interpreters, but
# not that of a shell, which then replaces itself with the interpreter.
_SHELL: Final = Path("/bin/sh")
_LOG_TAIL_BYTES: Final = 4096
_log: Final = logging.getLogger("gglib_nb")


class EngineClient:
    """One engine at a time, started on first need. Methods may be called from any thread.

    Args:
        configure: Sent first to every process; a later `Configure` replaces it.
        log_folder: Where the engine's standard error goes, in a file of limited size.
        on_event: Called by the reader thread, in the order of events; must not block.
    """

    def __init__(
        self, configure: wire.Configure, *, log_folder: Path, on_event: Callable[[wire.ProcessReport], None]
    ) -> None:
        self._configure = configure
        self._log_folder = log_folder
        self._on_event = on_event
        self._lock = threading.Lock()
        self._pipe_lock = threading.Lock()
        # With the number of the process for which it was sent; None ends the writer.
        self._commands: queue.SimpleQueue[tuple[wire.Command | None, int] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._writer: threading.Thread | None = None
        self._watchdog = Watchdog(time.monotonic())
        self._life = 0
        self._short_lives = 0
        self._started_s = 0.0
        self._log_size_bytes = 0
        self._closing = threading.Event()

    @property
    def pid(self) -> int | None:
        """Process id of the running engine; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the engine if it does not run, so that it is ready before the first transfer."""
        self._post(None)

    def send(self, command: wire.EngineCommand) -> None:
        """Queue the command for the engine, starting it if needed. Does nothing after `close`."""
        if isinstance(command, wire.StartEverywhere):
            command = command.transfer
        if not isinstance(command, wire.SetConcurrency):
            self._post(command)

    def _post(self, command: wire.Command | None) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="gglib-engine-writer", daemon=True)
                self._writer.start()
            self._commands.put((command, self._life))

    def close(self, timeout_s: float = 2.0) -> None:
        """End the engine: close its input, wait, then kill it. No `EngineLost` is reported."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            self._closing.set()
        self._commands.put(None)
        # If the engine is stopped and its pipe full, the writer blocks until the kill below.
        self._join(self._writer, deadline_s - timeout_s / 2)
        process = self._process
        deadline_s = max(deadline_s, time.monotonic() + 0.05)
        self._join(self._reader, deadline_s)  # it ends with the process; `wait` would poll
        if process is not None:
            try:  # waits if this is the reader's own thread
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        self._join(self._writer, time.monotonic() + 1)
        self._join(self._reader, time.monotonic() + 1)

    def abandon(self) -> None:
        """In a forked child: close our copies of the pipe's ends, so that the engine's input ends with the parent.

        Takes no lock of its own, since the fork may have copied one in its locked state.
        """
        process, self._process = self._process, None
        self._closing.set()
        if process is not None:
            process.returncode = 0  # it is not this process's child
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        os.close(stream.fileno())

    @staticmethod
    def _join(thread: threading.Thread | None, deadline_s: float) -> None:
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _write_all(self) -> None:
        while (sent := self._commands.get()) is not None:
            command, life = sent
            if isinstance(command, wire.Configure):
                self._configure = command
            with self._lock:
                process = self._process
                is_void = life != self._life or (process is None and self._closing.is_set())
            if is_void:
                continue
            # (`_start` sends the newest `Configure`; without a process there is nothing to stop.)
            if process is None and not isinstance(command, wire.Configure | wire.StopTransfer | wire.StopCheck):
                process = self._start()
            if process is not None and command is not None:
                self._put(process, command)
        if self._process is not None:
            self._close_input(self._process)

    def _put(self, process: subprocess.Popen[bytes], command: wire.Command) -> None:
        self._watchdog.sent(command, time.monotonic())
        data = memoryview(wire.encode(command))
        # The reader reports a broken pipe when it reads the end of the events.
        with self._pipe_lock, contextlib.suppress(OSError, ValueError):
            while data and process.stdin is not None:
                data = data[process.stdin.write(data) or 0 :]

    def _close_input(self, process: subprocess.Popen[bytes]) -> None:
        with self._pipe_lock, contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes] | None:
        """A new process, which gets the newest `Configure`; None if it could not be started."""
        if self._short_lives:
            self._closing.wait(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._short_lives - 1)))
        package = str(Path(__file__).resolve().parents[1])
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, package, str(os.getpid())]
        if os.access(_SHELL, os.X_OK):
            command = [str(_SHELL), "-c", 'exec "$0" "$@"', *command]
        pipe, env = subprocess.PIPE, without_tokens(os.environ)
        try:
            with self._open_log() as log:
                self._log_size_bytes = log.tell()
                process = start_detached(command, stdin=pipe, stdout=pipe, stderr=log, env=env)
        except Exception as error:  # noqa: BLE001  # a program that patches process creation may raise anything
            self._short_lives += 1
            self._lost(f"it could not be started: {error}")
            return None
        with self._lock:
            self._process = process
            self._started_s = time.monotonic()
            self._watchdog = Watchdog(self._started_s)
        self._reader = threading.Thread(target=self._read_all, args=(process,), name="gglib-engine-reader", daemon=True)
        self._reader.start()
        self._put(process, self._configure)
        return process

    @property
    def _log_path(self) -> Path:
        return self._log_folder / "engine.log"

    def _open_log(self) -> BinaryIO:
        """The log file; None if its folder is not writable, and downloads continue without a log."""
        with contextlib.suppress(OSError):
            self._log_folder.mkdir(parents=True, exist_ok=True)
            path = self._log_path
            if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
                path.replace(path.with_name("engine.log.1"))
            return path.open("ab")
        return Path(os.devnull).open("wb")

    def _read_all(self, process: subprocess.Popen[bytes]) -> None:
        reason = ""
        try:
            self._read_events(process)
        except Exception as error:  # noqa: BLE001  # any error of the reader is reported, or downloads would freeze
            reason = f"its reports could not be read ({type(error).__name__}: {error})"
        try:
            code = process.wait(_WAIT_AFTER_END_S)
        except subprocess.TimeoutExpired:
            process.kill()  # without its reports it is of no use
            code = process.wait()
        self._close_input(process)
        if process.stdout is not None:
            process.stdout.close()
        is_short = time.monotonic() - self._started_s < _SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        self._lost(reason or self._cause(code))

    def _read_events(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101  # it was started with a pipe
        rest, pipe = b"", PipeReader(process.stdout.fileno())
        while (data := self._read(process, pipe)) != b"":
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                event = wire.decode_report(line)
                self._watchdog.reported(event, time.monotonic())
                self._report(event)

    def _read(self, process: subprocess.Popen[bytes], pipe: PipeReader) -> bytes:
        """The next bytes from the engine; empty at the end of its output. Checks for silence while it waits."""
        asked_s = time.monotonic()
        while (data := pipe.read(_WATCH_S)) is None:
            now_s = time.monotonic()
            if now_s - asked_s > _SUSPENDED_S:
                self._watchdog.exclude(now_s - asked_s)
            asked_s = now_s
            verdict = self._watchdog.verdict(now_s)
            if verdict == "dead":
                process.kill()
            elif verdict != "well":
                detail = (
                    f"{sys.executable} has not started; its log is {self._log_path}" if verdict == "not started" else ""
                )
                self._report(reports.EngineSilent(self._watchdog.silent_s(now_s), detail=detail))
        return data

    def _cause(self, code: int) -> str:
        """Why the process ended: its exit status and the last line of its log."""
        reason = exit_reason(code)
        if code == -getattr(signal, "SIGKILL", 9):
            reason += ", as the system does when memory runs out"
        return reason if not (last := self._last_line()) else f"{reason} ({last})"

    def _last_line(self) -> str:
        with contextlib.suppress(OSError), self._log_path.open("rb") as log:
            log.seek(max(self._log_size_bytes, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read(_LOG_TAIL_BYTES).decode(errors="replace").split("\n")
            return redacted(next((line.strip() for line in reversed(lines) if line.strip()), ""))[:200]
        return ""

    def _report(self, report: wire.ProcessReport) -> None:
        try:
            self._on_event(report)
        except BaseException:  # noqa: BLE001  # nothing that the callback raises may end the reader
            _log.exception("a report of the download process could not be handled")

    def _lost(self, reason: str) -> None:
        with self._lock:
            self._process = None
            self._life += 1
            is_closed = self._closing.is_set()
        if not is_closed:
            self._report(reports.EngineLost(reason))
