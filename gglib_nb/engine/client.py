"""The kernel's end of the engine: starts the process, sends commands and passes events on.

Sending never blocks: a thread starts the process and calls `on_event`, and another writes the commands in order, so
that a stopped engine or a full pipe delays no caller. When the process ends by itself, all commands sent to it are
void, the last report is `EngineLost` with the cause, and the next command starts another process, after a pause if
several ended soon after their start. `watchdog` kills a process that does not respond for a long time.
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
from gglib_nb.domain.text import printable, redacted, without_tokens
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.watchdog import Watchdog
from gglib_nb.system import PipeReader, exit_reason, start_detached

# -P keeps the working directory off the interpreter's path, and the entries of PYTHONPATH, which are on it in absolute
# form, are moved behind the standard library, so that a `queue.py` beside the notebook cannot replace the engine's. The
# folder that contains the package comes last, for dependencies installed beside it. The package itself is loaded from
# its own folder and not searched for on the path: another installed copy may use another protocol, and a kernel may run
# from a checkout.
_BOOTSTRAP: Final = """
import os, sys
package, parent_pid = sys.argv[1:]
if extra := os.environ.get("PYTHONPATH"):
    sys.path.sort(key=[os.path.abspath(p) for p in extra.split(os.pathsep)].__contains__)
sys.path.append(os.path.dirname(package))
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


class _Life:
    """One process, from the first command for it to its end. Commands that are in its queue then are void."""

    def __init__(self, configure: wire.Configure) -> None:
        self.commands: queue.SimpleQueue[wire.Command | None] = queue.SimpleQueue()  # None ends the writer
        self.commands.put(configure)
        self.started_s = time.monotonic()
        self.watchdog = Watchdog(self.started_s)
        self.process: subprocess.Popen[bytes] | None = None
        self.thread: threading.Thread | None = None
        self.log_size_bytes = 0  # before it wrote anything
        self.is_over = False


class EngineClient:
    """One engine at a time, started on first need. Methods may be called from any thread.

    Args:
        configure: Sent first to every process; a later `Configure` replaces it.
        log_folder: Where the engine's standard error goes, in a file of limited size.
        on_event: Called by a thread of the client, in the order of events; must not block.
    """

    def __init__(
        self, configure: wire.Configure, *, log_folder: Path, on_event: Callable[[wire.ProcessReport], None]
    ) -> None:
        self._configure = configure
        self._log_path = log_folder / "engine.log"
        self._on_event = on_event
        self._lock = threading.RLock()
        self._life: _Life | None = None  # the latest
        self._short_lives = 0  # how many of the latest processes ended soon, in a row
        self._closing = threading.Event()

    @property
    def pid(self) -> int | None:
        """Process id of the running engine; None while there is none."""
        life = self._life
        return None if life is None or life.is_over or life.process is None else life.process.pid

    def start(self) -> None:
        """Start the engine if it does not run, so that it is ready before the first transfer."""
        self._post(None)

    def send(self, command: wire.EngineCommand) -> None:
        """Queue the command for the engine, starting it if needed. Does nothing after `close`."""
        if isinstance(command, wire.StartEverywhere):
            command = command.transfer
        if not isinstance(command, reports.LimitConcurrency):
            self._post(command)

    def _post(self, command: wire.Command | None) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            if isinstance(command, wire.Configure):
                self._configure = command
            if self._life is None or self._life.is_over:
                # A new process gets the newest `Configure`; without a process there is nothing to stop.
                if isinstance(command, wire.Configure | reports.StopTransfer | wire.StopCheck):
                    return
                self._life = life = _Life(self._configure)
                thread = threading.Thread(target=self._live, args=(life,), name="gglib-engine-reader", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # there are too many threads
                    self._ended(life, f"it could not be started: {error}")
                    return
                life.thread = thread
            if command is not None:
                self._life.commands.put(command)

    def close(self, timeout_s: float = 2.0) -> None:
        """End the engine: close its input, wait, then kill it. No `EngineLost` is reported."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            self._closing.set()
        if (life := self._life) is None:
            return
        life.commands.put(None)
        _join(life.thread, deadline_s)  # it ends with the process; `wait` would poll
        if life.process is not None:
            try:  # waits if this is that thread
                life.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                life.process.kill()
        _join(life.thread, time.monotonic() + 1)

    def abandon(self) -> None:
        """In a forked child: close our copies of the pipe's ends, so that the engine's input ends with the parent.

        Takes no lock of its own, since the fork may have copied one in its locked state.
        """
        life, self._life = self._life, None
        self._closing.set()
        if life is not None and (process := life.process) is not None:
            process.returncode = 0  # it is not this process's child
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        os.close(stream.fileno())

    # The threads -----------------------------------------------------------------------------------------------------

    def _live(self, life: _Life) -> None:
        if self._short_lives:
            self._closing.wait(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._short_lives - 1)))
        if self._closing.is_set():
            return
        life.started_s = time.monotonic()
        try:
            process = life.process = self._start(life)
            threading.Thread(target=_write_all, args=(life, process), name="gglib-engine-writer", daemon=True).start()
        except Exception as error:  # noqa: BLE001  # a program that patches process creation may raise anything
            if life.process is not None:
                with life.process:  # closes its pipes
                    life.process.kill()
            self._ended(life, f"it could not be started: {error}")
            return
        assert process.stdout is not None  # noqa: S101  # it was just started, with pipes
        reason = ""
        try:
            self._read_events(life, process, PipeReader(process.stdout.fileno()))
        except Exception as error:  # noqa: BLE001  # any error of reading is reported, or downloads would freeze
            reason = f"its reports could not be read ({type(error).__name__}: {error})"
        try:
            code = process.wait(_WAIT_AFTER_END_S)
        except subprocess.TimeoutExpired:
            process.kill()  # without its reports it is of no use
            code = process.wait()
        process.stdout.close()
        self._ended(life, reason or self._cause(life, code))

    def _start(self, life: _Life) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).resolve().parents[1])
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, package, str(os.getpid())]
        if os.access(_SHELL, os.X_OK):
            command = [str(_SHELL), "-c", 'exec "$0" "$@"', *command]
        pipe, env = subprocess.PIPE, without_tokens(os.environ)
        with self._open_log() as log:
            life.log_size_bytes = log.tell()
            return start_detached(command, stdin=pipe, stdout=pipe, stderr=log, env=env)

    def _open_log(self) -> BinaryIO:
        """The log file; if its folder is not writable, downloads continue without a log."""
        with contextlib.suppress(OSError):
            path = self._log_path
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
                path.replace(path.with_name("engine.log.1"))
            return path.open("ab")
        return Path(os.devnull).open("wb")

    def _read_events(self, life: _Life, process: subprocess.Popen[bytes], pipe: PipeReader) -> None:
        """Pass on events until the end of the output; checks for silence meanwhile."""
        rest, asked_s, has_begun = b"", time.monotonic(), False
        while (data := pipe.read(_WATCH_S)) != b"":
            now_s = time.monotonic()
            if data is None:
                if now_s - asked_s > _SUSPENDED_S:
                    life.watchdog.exclude(now_s - asked_s)
                self._check_silence(life, process, now_s)
            else:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    try:
                        event = wire.decode_report(line)
                    except ValueError:
                        if has_begun:
                            raise
                        continue  # printed at the interpreter's start, by a `sitecustomize` for example
                    has_begun = True
                    life.watchdog.reported(event, now_s)
                    self._report(event)
            asked_s = time.monotonic()

    def _check_silence(self, life: _Life, process: subprocess.Popen[bytes], now_s: float) -> None:
        verdict, detail = life.watchdog.verdict(now_s), ""
        if verdict == "dead":
            process.kill()
        elif verdict != "well":
            if verdict == "not started":
                detail = f"{sys.executable} has not started; its log is {self._log_path}"
            self._report(reports.EngineSilent(life.watchdog.silent_s(now_s), detail=detail))

    def _cause(self, life: _Life, code: int) -> str:
        """Why the process ended: its exit status and the last line of its log."""
        reason, last = exit_reason(code), ""
        if code == -getattr(signal, "SIGKILL", 9):
            reason += ", as the system does when memory runs out"
        with contextlib.suppress(OSError), self._log_path.open("rb") as log:
            log.seek(max(life.log_size_bytes, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read(_LOG_TAIL_BYTES).decode(errors="replace").split("\n")
            last = printable(redacted(next((line.strip() for line in reversed(lines) if line.strip()), "")))[:200]
        return f"{reason} ({last})" if last else reason

    def _report(self, report: wire.ProcessReport) -> None:
        try:
            self._on_event(report)
        except BaseException:  # noqa: BLE001  # nothing that the callback raises may end the thread
            _log.exception("a report of the download process could not be handled")

    def _ended(self, life: _Life, reason: str) -> None:
        is_short = time.monotonic() - life.started_s < _SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        life.commands.put(None)
        with self._lock:
            life.is_over = True
            is_closed = self._closing.is_set()
        if not is_closed:
            self._report(reports.EngineLost(reason))


def _write_all(life: _Life, process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101  # it was just started, with pipes
    while (command := life.commands.get()) is not None:
        life.watchdog.sent(command, time.monotonic())
        data = memoryview(wire.encode(command))
        with contextlib.suppress(OSError):  # a broken pipe: the end of the process is reported
            while data:
                data = data[process.stdin.write(data) or 0 :]
    with contextlib.suppress(OSError):
        process.stdin.close()


def _join(thread: threading.Thread | None, deadline_s: float) -> None:
    if thread is not None and thread is not threading.current_thread():
        thread.join(max(0.0, deadline_s - time.monotonic()))
