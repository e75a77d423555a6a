"""A real marimo on a loopback port, and a page in Chromium that edits one of its notebooks. Knows nothing about gglib_nb."""

import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from playwright.sync_api import Browser, Page

from tests.support.environment import isolated
from tests.support.jlab import START_TIMEOUT_S
from tests.support.kernel import wait_until
from tests.support.ports import free_port
from tests.support.processes import end

_CELL = "@app.cell\ndef _():\n{}\n    return\n\n\n"


class MarimoPage:
    """One notebook whose cells have been run in order, as on opening.

    Args:
        browser: Where the tab opens, with its own cookies and storage.
        folder: Holds the server's state.
        endpoint: Base URL of the kernel's hub.
        cells: Python, as a user writes it; a name may be defined in one cell only.
        theme: `light` or `dark`.

    Attributes:
        page: Playwright's page.
        problems: Errors in the page's console, and its uncaught exceptions.
    """

    def __init__(
        self, browser: Browser, folder: Path, endpoint: str, cells: Sequence[str], *, theme: str = "light"
    ) -> None:
        notebook, port = folder / "notebook.py", free_port()
        body = "".join(_CELL.format(textwrap.indent(cell, "    ")) for cell in cells)
        notebook.write_text(f"import marimo\n\napp = marimo.App()\n\n\n{body}")
        settings = folder / "config" / "marimo" / "marimo.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f'[display]\ntheme = "{theme}"\n\n[runtime]\nauto_instantiate = true\n')
        places = {"HOME": folder, "XDG_CONFIG_HOME": folder / "config", "XDG_STATE_HOME": folder / "state-of-marimo"}
        self._log = (folder / "marimo.log").open("wb")
        self._url = f"http://127.0.0.1:{port}/"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "marimo", "edit", str(notebook), "--headless", "--no-token"),
                *("--skip-update-check", "--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=folder,
            env=isolated(os.environ, folder, endpoint) | {name: str(place) for name, place in places.items()},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        wait_until(self._answers, START_TIMEOUT_S, "marimo's start")
        self._context = browser.new_context(viewport={"width": 1200, "height": 900})
        self._context.set_default_timeout(60_000)
        self.page: Page = self._context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(self._url)

    def run_again(self, cell: int) -> None:
        """Run a cell (0-based) again, as its button does."""
        self.page.locator(".marimo-cell").nth(cell).hover()
        self.page.locator(".marimo-cell").nth(cell).get_by_test_id("run-button").first.click()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._url, timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()
        end(self._process)
        self._log.close()
