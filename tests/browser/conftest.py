"""Fixtures of the browser tests: a Chromium, and notebooks open in a real JupyterLab.

Without a Chromium the tests are skipped, or fail if one is required.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from gglib_nb.demo.generated import generated_repositories
from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import CHROMIUM_ARGUMENTS, JupyterLab, NotebookPage
from tests.support.labpanel import OpenNotebook
from tests.support.models import MB
from tests.support.panelpage import OpenPanel, panel_pages

# Settings of the second server: no subshells for widgets, and widget state saved in notebooks.
_OTHER_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "disabled"},
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
}

# An expectation is about what a page shows, not about how fast a busy machine shows it.
expect.set_options(timeout=60_000)

_AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _chromium() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None and os.environ.get("GGLIB_NB_REQUIRE_BROWSER"):
        pytest.fail("Chromium is not installed, and this run requires it. On Debian: apt install chromium")
    if found is None:
        pytest.skip("Chromium is not installed. On Debian: apt install chromium")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all browser tests of a run."""
    executable = _chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_panel(browser: Browser) -> Iterator[OpenPanel]:
    """Opens panels over the test's managers, each on its own page without Jupyter."""
    with panel_pages(browser) as opened:
        yield opened


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which finds accessibility faults on a page."""
    if not _AXE.is_file() and os.environ.get("GGLIB_NB_REQUIRE_BROWSER"):
        pytest.fail("axe-core is not installed, and this run requires it: npm ci")
    if not _AXE.is_file():
        pytest.skip("axe-core is not installed: npm ci")
    return _AXE.read_text(encoding="utf-8")


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    """The generated repositories, on a line slow enough for user actions."""
    with FaultyHub(generated_repositories(), bytes_per_second=4 * MB) as hub:
        yield hub


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """One server for all tests; requests the browser first, because that may skip the test."""
    with JupyterLab(tmp_path_factory.mktemp("lab"), "http://127.0.0.1:9") as lab:
        yield lab


@pytest.fixture(scope="session")
def lab_with_other_settings(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """A second server with other settings."""
    with JupyterLab(tmp_path_factory.mktemp("lab"), "http://127.0.0.1:9", _OTHER_SETTINGS) as lab:
        yield lab


@pytest.fixture
def opened(
    browser: Browser, lab: JupyterLab, hub: FaultyHub, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[OpenNotebook]:
    """Opens a notebook of the given cells, `on` a server, behind a cell 0 that gives its kernel this test's hub and state.

    Called without cells, it opens the test's notebook in one more tab. `name` makes another notebook. `options` are
    `NotebookPage`'s.
    """
    setup = (
        "import os, time\n"
        f"os.environ |= {{'HF_ENDPOINT': {hub.url!r}, 'GGLIB_MODELS_DIR': {str(tmp_path / 'models')!r},"
        f" 'GGLIB_STATE_DIR': {str(tmp_path / 'state')!r}}}\n"
        "import gglib_nb\n"
        "%load_ext gglib_nb"
    )
    own_name = re.sub(r"\W+", "-", request.node.name) + ".ipynb"
    with ExitStack() as stack:

        def open_notebook(*cells: str, on: JupyterLab = lab, name: str = own_name, **options: Any) -> NotebookPage:
            if not cells:
                return stack.enter_context(NotebookPage(browser, on, name, **options))
            on.write_notebook(name, [setup, *cells])
            stack.callback(on.shut_down_kernels)
            page = stack.enter_context(NotebookPage(browser, on, name, **options))
            assert page.run(0) == ""
            return page

        yield open_notebook
