"""The engine process: reads commands from standard input, writes events to standard output.

Owns the transfers and the checks by their numbers, and the state they share. Exits by itself when its input closes, its
output is no longer read or its parent ends (a process that the user forked from the kernel can keep the pipe open, so
the parent is checked each second), and leaves everything so that it can be resumed. Python's own output goes to
standard error, up to a limit. No queue and no policy: each command runs at once.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO, assert_never, cast

from gglib_nb.domain import reports
from gglib_nb.domain.library import CheckedFile
from gglib_nb.domain.text import redacted
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.connections import Pool
from gglib_nb.engine.digest import check_file
from gglib_nb.engine.disk import DiskSpace
from gglib_nb.engine.http import Session
from gglib_nb.engine.lease import Owner
from gglib_nb.engine.local import discard_leftovers
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer import Shared, Transfer
from gglib_nb.errors import InvalidConfigError
from gglib_nb.network.tls import tls_context
from gglib_nb.system import PipeReader, allow_many_files, is_orphaned, lower_priority

_PARENT_LOOK_S: Final = 1.0
# A slightly lower priority than the user's cells: if both want a core, the cell gets it first.
_NICENESS: Final = 5
_LOG_LIMIT_BYTES: Final = 256 * 1024
_FLUSH_S: Final = 0.5
# How long all transfers together may take to stop when the engine exits.
_SHUTDOWN_S: Final = 1.2
_REPORT_S: Final = 0.1


class Engine:
    """Executes commands; for the command loop's thread. Idle until the first `Configure`."""

    def __init__(self, report: Callable[[wire.ProcessEvent], None], timeouts: Timeouts) -> None:
        self._report = report
        self._timeouts = timeouts
        self._pool, self._disk_space = Pool(1, timeouts.idle_s), DiskSpace()
        self._settings: tuple[object, ...] = ()  # of the session
        self._shared: Shared | None = None  # until the first `Configure`
        self._transfers: dict[int, Transfer] = {}
        self._checks: dict[int, threading.Event] = {}  # stops each of them; set at its end
        self._discards: dict[threading.Thread, tuple[str, ...]] = {}  # and targets; a disk may take long to delete

    def handle(self, command: wire.Command) -> None:
        """Execute a command; errors in it are reported."""
        match command:
            case wire.Configure():
                self._configured(command)
            case wire.StartTransfer():
                self._start(command)
            case reports.StopTransfer(attempt) if attempt in self._transfers:
                self._transfers[attempt].stop()
            case reports.DiscardPartials(targets):
                self._discard(targets)
            case wire.CheckFiles():
                self._check(command)
            case wire.StopCheck(check) if check in self._checks:
                self._checks[check].set()
            case reports.StopTransfer() | wire.StopCheck():
                pass  # it has reported its end; there is nothing to stop
            case _:
                assert_never(command)

    def shut_down(self) -> None:
        """Stop every transfer, so that it can be resumed; takes about a second at most. Checks leave nothing behind."""
        for transfer in self._transfers.values():
            transfer.stop()
        deadline_s = time.monotonic() + _SHUTDOWN_S
        tasks: list[Transfer | threading.Thread] = [*self._transfers.values(), *self._discards]
        for task in tasks:
            task.join(max(0.0, deadline_s - time.monotonic()))
        if self._shared is not None:
            self._shared.session.close()

    def _configured(self, command: wire.Configure) -> None:
        settings = command.endpoint, command.token, command.user_agent, command.mirrors, command.modelscope
        if self._shared is None or settings != self._settings:
            if self._shared is not None:
                self._shared.session.close()
            self._settings, session = settings, Session(command, self._timeouts)
            connectivity = Connectivity(session.can_reach_hub)
            # Running transfers keep theirs.
            self._shared = Shared(session, connectivity, self._pool, self._disk_space, self._timeouts)
        self._shared.link_folders, self._shared.network_wait_s = command.link_folders, command.network_wait_s
        self._pool.throttle.change(command.bandwidth_limit_bytes_per_second or None)
        self._pool.set_max(command.max_connections)

    def _start(self, command: wire.StartTransfer) -> None:
        if self._shared is None:
            raise ValueError("a transfer was started before the first Configure")
        self._transfers = {number: one for number, one in self._transfers.items() if not one.join(0)}
        wanted = {file.target for file in command.files}
        discards = [thread for thread, targets in self._discards.items() if not wanted.isdisjoint(targets)]
        transfer = self._transfers[command.attempt] = Transfer(command, self._shared, self._report, discards)
        transfer.start()

    def _discard(self, targets: tuple[str, ...]) -> None:
        thread = threading.Thread(target=discard_leftovers, args=(targets,), name="gglib-discard", daemon=True)
        self._discards = {one: theirs for one, theirs in self._discards.items() if one.is_alive()}
        try:
            thread.start()
            self._discards[thread] = targets
        except RuntimeError:  # there are too many threads
            thread.run()

    def _check(self, command: wire.CheckFiles) -> None:
        stop = threading.Event()
        arguments = command, self._report, stop
        try:
            threading.Thread(target=run_check, args=arguments, name=f"gglib-check-{command.check}", daemon=True).start()
            running = {number: one for number, one in self._checks.items() if not one.is_set()}
            self._checks = running | {command.check: stop}
        except RuntimeError:  # there are too many threads
            self._report(wire.CheckEnded(command.check, ()))


def _read_certificates() -> None:
    """Create the TLS context, which takes long, while the kernel asks the hub."""
    with contextlib.suppress(InvalidConfigError):  # the first request reports it
        tls_context()


def run_check(command: wire.CheckFiles, report: Callable[[wire.ProcessEvent], None], stop: threading.Event) -> None:
    """Hash files one after the other and report progress. It leaves nothing behind, so its thread is never joined."""
    checked: list[CheckedFile] = []
    before_bytes, next_report_s = 0, 0.0

    def note(read_bytes: int) -> None:
        nonlocal next_report_s
        if time.monotonic() >= next_report_s:
            next_report_s = time.monotonic() + _REPORT_S
            report(wire.CheckProgress(command.check, len(checked), before_bytes + read_bytes))

    try:
        for file in command.files:
            result = check_file(file, note, stop)
            if result is None:
                break
            checked.append(result)
            before_bytes += file.size_bytes
    finally:
        stop.set()
        report(wire.CheckEnded(command.check, tuple(checked)))


class PipeOutbox:
    """Events for the kernel: accepts them from any thread and writes them from its own, the only writer.

    A transfer never waits for the pipe. Progress that is not written yet is replaced by newer progress of its attempt,
    so a kernel that does not read costs no memory; every other event is kept until it is written.
    """

    def __init__(self, fd: int) -> None:
        self.is_lost = False  # the other end is no longer read
        self._fd = fd
        self._changed = threading.Condition()
        # In order; progress by its attempt or check; None: the end.
        self._waiting: dict[object, wire.ProcessEvent | None] = {}
        self._thread = threading.Thread(target=self._run, name="gglib-outbox", daemon=True)
        self._thread.start()

    def post(self, event: wire.ProcessEvent | None) -> None:
        """Queue an event; never blocks."""
        with self._changed:
            key = wire.task_of(event) if isinstance(event, reports.Progress | wire.CheckProgress) else object()
            self._waiting[key] = event
            self._changed.notify()

    def close(self) -> None:
        """Wait briefly until everything is written."""
        self.post(None)
        self._thread.join(_FLUSH_S)

    def _run(self) -> None:
        with contextlib.ExitStack() as end, contextlib.suppress(OSError):
            end.callback(setattr, self, "is_lost", True)
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting)
                    event = self._waiting.pop(next(iter(self._waiting)))
                if event is None:
                    return
                data = wire.encode(event)
                while data:
                    data = data[os.write(self._fd, data) :]


class LimitedText:
    """Replaces `sys.stderr`: hides secrets, and writes nothing beyond a limit. A full disk is no error."""

    def __init__(self, stream: TextIO, limit_bytes: int) -> None:
        self._stream = stream
        self._left_bytes = limit_bytes

    def write(self, text: str) -> int:
        """Write the text while the limit and the disk allow."""
        if self._left_bytes > 0:
            self._left_bytes -= len(text)
            with contextlib.suppress(OSError):  # it would end the thread that writes
                self._stream.write(redacted(text))
                self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Does nothing: every write is flushed."""


def lines_until_orphaned(fd: int, parent_pid: int, outbox: PipeOutbox) -> Iterator[bytes]:
    """Lines of the input, until it closes, the output is lost or the parent is another process."""
    rest, pipe = b"", PipeReader(fd)
    while True:
        data = pipe.read(_PARENT_LOOK_S)
        if data == b"" or outbox.is_lost or is_orphaned(parent_pid):
            return
        *lines, rest = (rest + (data or b"")).split(b"\n")
        yield from lines


def main(parent_pid: int) -> None:
    """Run until the kernel ends. The kernel passes its own process id, because it may end before this is called."""
    # Nothing else may write between the events: a stray print goes to the log.
    events = os.dup(1)
    os.dup2(2, 1)
    sys.stderr = sys.stdout = cast(TextIO, LimitedText(sys.stderr, _LOG_LIMIT_BYTES))
    lower_priority(_NICENESS)
    allow_many_files()
    outbox = PipeOutbox(events)
    engine = Engine(outbox.post, Timeouts.from_environment(os.environ))
    outbox.post(wire.Ready(os.getpid(), Owner.this_process().name))
    threading.Thread(target=_read_certificates, name="gglib-certificates", daemon=True).start()
    for line in lines_until_orphaned(0, parent_pid, outbox):
        try:
            engine.handle(wire.decode_command(line))
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
    engine.shut_down()
    outbox.close()
    # Does not wait for threads in a connect or a name lookup.
    os._exit(0)
