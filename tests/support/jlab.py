"""A real JupyterLab on a loopback port, and a page in Chromium that shows one of its notebooks, there or in Notebook 7.

Configuration, data, settings and workspaces of the server are below one folder; none of the user's files is read.
Knows nothing about gglib_nb.
"""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import nbformat
from playwright.sync_api import Browser, Page

from tests.support.environment import isolated
from tests.support.ports import free_port
from tests.support.processes import end

START_TIMEOUT_S = 60.0
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_QUIET = {
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    }
}
_KERNEL_IS_CONNECTED = """() => {
    const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === 'connected' && ['idle', 'busy'].includes(kernel.status);
}"""
# The count is removed first, because a restarted kernel counts from one again.
_RUN = """index => {
    const { content } = window.jupyterapp.shell.currentWidget;
    content.activeCellIndex = index;
    content.activeCell.model.sharedModel.execution_count = null;
    window.jupyterapp.commands.execute('notebook:run-cell');
}"""
_HAS_RUN = """index => {
    const { model } = window.jupyterapp.shell.currentWidget.content.widgets[index];
    return model.executionState !== 'running' && typeof model.sharedModel.execution_count === 'number';
}"""
_EXECUTE = """command => {
    window.isCommandOver = false;
    window.jupyterapp.commands.execute(command).finally(() => { window.isCommandOver = true; });
}"""
_IS_BUSY = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'busy'"
_IS_RUNNING = """index =>
    window.jupyterapp.shell.currentWidget.content.widgets[index].model.executionState === 'running'
"""
_OUTPUTS = "index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.outputs.toJSON()"


class JupyterLab:
    """The server; its kernels are this Python's.

    Args:
        folder: Holds its state; it serves `folder / "notebooks"`.
        endpoint: Base URL of the kernels' hub.
        settings: User settings of the page by plugin, such as `@jupyterlab/...:kernels-settings`.
    """

    def __init__(self, folder: Path, endpoint: str, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(16)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._write_settings({**_QUIET, **(settings or {})})
        self._log = (folder / "server.log").open("wb")
        environment = isolated(os.environ, folder, endpoint) | {
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        }
        self._process = subprocess.Popen(
            self._command(port), cwd=self.notebooks, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        self._wait_until_it_answers()

    def write_notebook(self, name: str, cells: Sequence[str]) -> None:
        """Write a notebook of code cells to the server's folder."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.notebooks / name)

    def ask(self, path: str, method: str = "GET") -> Any:
        """Call the server's own API."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            body = response.read()
        return json.loads(body) if body else None

    def shut_down_kernels(self) -> None:
        """End every kernel, as the menu does."""
        for kernel in self.ask("kernels"):
            self.ask(f"kernels/{kernel['id']}", "DELETE")

    def stop(self) -> None:
        """End the kernels, then the server."""
        try:
            if self._process.poll() is None:
                self.shut_down_kernels()
        finally:
            end(self._process)
            self._log.close()

    def _command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.notebooks}"),
            *("--ServerApp.terminals_enabled=False", "--LabApp.expose_app_in_browser=True"),
            "--JupyterNotebookApp.expose_app_in_browser=True",
            *("--LabApp.extension_manager=readonly", "--LabApp.news_url="),
        ]

    def _write_settings(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        for plugin, values in settings.items():
            package, _, name = plugin.rpartition(":")
            file = self.folder / "settings" / package / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))

    def _wait_until_it_answers(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                self.ask("status")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        self._process.kill()
        raise RuntimeError(f"JupyterLab did not start:\n{(self.folder / 'server.log').read_text()[-3000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class NotebookPage:
    """One browser tab with one notebook, its kernel connected.

    Args:
        browser: Where the tab opens, with its own cookies and storage.
        lab: The server.
        name: The notebook's file.
        at: The server's path to a notebook's page: JupyterLab's, or `notebooks` for Notebook 7.
        width: Of the window in pixels.

    Attributes:
        page: Playwright's page.
        problems: Errors in the page's console, and its uncaught exceptions.
    """

    def __init__(
        self, browser: Browser, lab: JupyterLab, name: str, *, at: str = "doc/tree", width: int = 1200
    ) -> None:
        self._context = browser.new_context(viewport={"width": width, "height": 900})
        self._context.set_default_timeout(60_000)
        self.page: Page = self._context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(f"{lab.url}/{at}/{name}?token={lab.token}")
        self.wait_for_kernel()

    def wait_for_kernel(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the notebook is shown and its kernel answers."""
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=timeout_s * 1000)
        self.page.wait_for_function(_KERNEL_IS_CONNECTED, timeout=timeout_s * 1000)

    def start(self, index: int) -> None:
        """Run a cell (0-based) without waiting for its end."""
        self.page.evaluate(_RUN, index)

    def run(self, index: int, timeout_s: float = 60.0) -> str:
        """Run a cell (0-based) to its end and return its text."""
        self.start(index)
        self.page.wait_for_function(_HAS_RUN, arg=index, timeout=timeout_s * 1000)
        return self.text(index)

    def is_running(self, index: int) -> bool:
        """Whether a cell (0-based) runs now."""
        return bool(self.page.evaluate(_IS_RUNNING, index))

    def wait_until_busy(self) -> None:
        """Wait until the page shows that the kernel is busy."""
        self.page.wait_for_function(_IS_BUSY)

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """A cell's outputs as the notebook stores them."""
        return list(self.page.evaluate(_OUTPUTS, index))

    def text(self, index: int) -> str:
        """A cell's outputs as plain text; errors as `Name: message`."""
        return "".join(_text_of(output) for output in self.outputs(index))

    def save(self) -> None:
        """Save the notebook, as Ctrl+S does."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def command(self, name: str) -> None:
        """Run one of the application's commands, as a menu does, without waiting for its end."""
        self.page.evaluate(_EXECUTE, name)

    def restart_kernel(self) -> None:
        """Restart the kernel from the menu and confirm it."""
        self.command("notebook:restart-kernel")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.wait_for_function("() => window.isCommandOver")
        self.wait_for_kernel()

    def reload(self) -> None:
        """Reload the page, as F5 does, and wait for the kernel."""
        self.page.reload()
        self.wait_for_kernel()

    def close(self) -> None:
        """Close the tab; the kernel continues."""
        self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _text_of(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return "".join(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}\n"
    return "".join(output["data"].get("text/plain", "")) + "\n"
