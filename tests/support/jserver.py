"""A real jupyter_server on a loopback port, without a page: it culls kernels and reports their state."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from typing_extensions import override

from tests.support.jlab import START_TIMEOUT_S, JupyterLab
from tests.support.kernel import is_engine


class JupyterServer(JupyterLab):
    """The server alone.

    Args:
        folder: Holds its state.
        endpoint: Base URL of the kernels' hub.
        options: More of its command line.
    """

    def __init__(self, folder: Path, endpoint: str, options: Sequence[str] = ()) -> None:
        self._options = options
        super().__init__(folder, endpoint)

    @override
    def _command(self, port: int) -> list[str]:
        kept = [word for word in super()._command(port) if not word.startswith(("--Lab", "--JupyterNotebook"))]
        kept[kept.index("jupyterlab")] = "jupyter_server"
        return [*kept, *self._options]

    def start_kernel(self) -> "ServedKernel":
        """Start a kernel as a page does."""
        model = self.ask("kernels", "POST")
        return ServedKernel(self, model["id"])

    @property
    def kernel_ids(self) -> list[str]:
        """Its kernels."""
        return [str(kernel["id"]) for kernel in self.ask("kernels")]

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended, with all its threads."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Request its shutdown, as a service manager does, and return at once."""
        self._process.send_signal(signal.SIGTERM)


class ServedKernel:
    """One kernel of a server, used through its own sockets, which the server does not notice."""

    def __init__(self, server: JupyterServer, kernel_id: str) -> None:
        self.id = kernel_id
        runtime = server.folder / "jupyter" / "runtime"
        connection = runtime / f"kernel-{kernel_id}.json"
        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels()
        self._wait_until_it_answers()
        self.pid = int(self.run("import os; print(os.getpid())"))

    def _wait_until_it_answers(self) -> None:
        """A client without its own kernel treats a heartbeat one second late as the kernel's death."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client.wait_for_ready(timeout=START_TIMEOUT_S)
            except RuntimeError:
                if time.monotonic() > deadline_s:
                    raise
            else:
                return

    def run(self, code: str) -> str:
        """Run a cell to its end and return what it printed."""
        printed: list[str] = []

        def take(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        self.client.execute_interactive(code, allow_stdin=False, output_hook=take, timeout=60)
        return "".join(printed)

    @property
    def engine_pid(self) -> int | None:
        """Process id of its engine; None while there is none."""
        return next((child.pid for child in psutil.Process(self.pid).children() if is_engine(child)), None)

    def close(self) -> None:
        """Close the sockets; the kernel continues."""
        self.client.stop_channels()
