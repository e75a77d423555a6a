"""A real IPython kernel in a separate process, driven as a notebook drives it.

It uses none of this machine's state: models, queue, Hub cache and profile are below one folder, and its
hub is an argument. All waits are for a message or a process's end, with a deadline.
"""

import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.environment import isolated

START_TIMEOUT_S = 60.0


@dataclass
class Cell:
    """The result of running one cell, message by message.

    Attributes:
        message_id: Of its execute request.
        outputs: Contents of its output messages, each with its type under `type`.
        status: `ok` or `error`; None while it runs.
    """

    message_id: str
    outputs: list[dict[str, Any]] = field(default_factory=list)
    status: str | None = None

    def stream(self, name: str) -> str:
        """What it wrote to `stdout` or `stderr`."""
        return "".join(out["text"] for out in self.outputs if out["type"] == "stream" and out["name"] == name)

    @property
    def text(self) -> str:
        """Everything a user would read below it in a terminal, in order; errors as `Name: message`."""
        return "".join(_text_of(output) for output in self.outputs)

    @property
    def error(self) -> dict[str, Any] | None:
        """Content of its error message (`ename`, `evalue`, `traceback`); None without one."""
        return self.output_of("error")

    def output_of(self, kind: str) -> dict[str, Any] | None:
        """Its first output of a type; None without one so far."""
        return next((output for output in self.outputs if output["type"] == kind), None)


class Kernel:
    """One kernel. Use `running_kernel` to end it in any case.

    Args:
        folder: Holds its whole state; two kernels with one folder share models and queue.
        endpoint: Base URL of its hub.
        more_environment: Variables on top of the isolated ones.
        working_folder: The folder of its notebook; None is `folder`.
    """

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        more_environment: Mapping[str, str] | None = None,
        working_folder: Path | None = None,
    ) -> None:
        self.folder = folder
        environment = isolated(os.environ, folder, endpoint) | dict(more_environment or {})
        # Sockets in a folder: a port chosen for a kernel can be taken by another process before the kernel has started.
        self._sockets = TemporaryDirectory(prefix="gglib-nb-kernel-")
        self._manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self._sockets.name}/kernel")
        self._log = (folder / "kernel.log").open("ab")
        self._manager.start_kernel(
            env=environment, cwd=str(working_folder or folder), stdout=self._log, stderr=self._log
        )
        self._cells: dict[str, Cell] = {}
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_TIMEOUT_S)

    @property
    def models(self) -> Path:
        """Its models folder."""
        return self.folder / "models"

    @property
    def pid(self) -> int:
        """Process id of the kernel."""
        pid = self._manager.provisioner.pid  # type: ignore[union-attr]  # the local provisioner, after a start
        assert isinstance(pid, int)
        return pid

    @property
    def engine_pid(self) -> int | None:
        """Process id of its engine; None while there is none."""
        return next((child.pid for child in psutil.Process(self.pid).children() if is_engine(child)), None)

    def submit(self, code: str, *, has_person: bool = False) -> Cell:
        """Send a cell and return at once; `wait` for it later. Like Papermill, or like JupyterLab if a user is present."""
        # Otherwise older kernels also abort a cell that is sent just after the error of the one before it.
        cell = Cell(self._client.execute(code, allow_stdin=has_person, stop_on_error=False))
        self._cells[cell.message_id] = cell
        return cell

    def wait(self, cell: Cell, timeout_s: float = 60.0) -> Cell:
        """Collect the cell's outputs until the kernel is idle again."""
        deadline_s = time.monotonic() + timeout_s
        while cell.status is None:
            self._take_message(deadline_s - time.monotonic(), cell)
        return cell

    def wait_for_output(self, cell: Cell, timeout_s: float = 60.0) -> Cell:
        """Wait until the cell has an output, or has ended."""
        deadline_s = time.monotonic() + timeout_s
        while not cell.outputs and cell.status is None:
            self._take_message(deadline_s - time.monotonic(), cell)
        return cell

    def run(self, code: str, timeout_s: float = 60.0, *, has_person: bool = False) -> Cell:
        """Run a cell to its end."""
        return self.wait(self.submit(code, has_person=has_person), timeout_s)

    def wait_for_update(self, cell: Cell, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until an output of the cell is updated, even after its end, and return it."""
        deadline_s = time.monotonic() + timeout_s
        while (update := cell.output_of("update_display_data")) is None:
            self._take_message(deadline_s - time.monotonic(), cell)
        return update

    def value(self, expression: str, timeout_s: float = 60.0) -> str:
        """The output of `print(expression)`, without the newline."""
        cell = self.run(f"print({expression})", timeout_s)
        assert cell.status == "ok", cell.text
        return cell.stream("stdout").removesuffix("\n")

    def completions(self, text: str) -> list[str]:
        """The completions at the end of `text`, without the word already typed.

        IPython before 8.6 completes only from the last separator on, and a colon is one.
        """
        reply = self._client.complete(text, len(text), reply=True, timeout=60)["content"]
        kept = text[: reply["cursor_start"]].rsplit(" ", maxsplit=1)[-1] if "%gguf" in text else ""
        return [kept + match for match in reply["matches"] if match != text[reply["cursor_start"] :]]

    def interrupt(self) -> None:
        """Like the interrupt button: a signal to the kernel's process group."""
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """`kill -9` of the kernel's process alone."""
        psutil.Process(self.pid).kill()

    def shut_down(self) -> None:
        """End it as a server does, with a shutdown request first."""
        self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=not self._manager.is_alive())
        self._manager.cleanup_resources()
        self._sockets.cleanup()
        self._log.close()

    def _take_message(self, timeout_s: float, awaited: Cell) -> None:
        """Process one message, for any cell."""
        try:
            message = self._client.get_iopub_msg(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            raise TimeoutError(f"the cell did not end; so far it said: {awaited.text!r}") from None
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if cell is None:
            return
        kind, content = message["msg_type"], message["content"]
        if kind in ("stream", "display_data", "execute_result", "update_display_data", "error"):
            cell.outputs.append({"type": kind, **content})
        elif kind == "status" and content["execution_state"] == "idle":
            cell.status = self._reply_status(cell)

    def _reply_status(self, cell: Cell) -> str:
        """The text of the reply: a `UsageError` has no error output."""
        while True:
            reply = self._client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == cell.message_id:
                return str(reply["content"]["status"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut_down()


@contextmanager
def processes_gone(*pids: int) -> Iterator[None]:
    """Kill remaining processes at the end, so that a failed test leaves none."""
    try:
        yield
    finally:
        for pid in pids:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()


def is_engine(process: psutil.Process) -> bool:
    """Whether a process is an engine that is not ending."""
    try:
        is_one = any("gglib_nb.engine" in argument for argument in process.cmdline())
        return is_one and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(is_true: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Wait for an external condition, polling 50 times a second; return the seconds it took.

    Raises:
        TimeoutError: It did not become true in time; the text names `what`.
    """
    start_s = time.monotonic()
    while not is_true():
        if time.monotonic() - start_s > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)
    return time.monotonic() - start_s


def _text_of(output: Mapping[str, Any]) -> str:
    if output["type"] == "stream":
        return str(output["text"])
    if output["type"] == "error":
        return f"{output['ename']}: {output['evalue']}\n"
    return f"{output['data'].get('text/plain', '')}\n"
