"""`make demo` as a user sees it: JupyterLab on the first notebook, in its own workspace, with no dialog over the panel."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.environment import isolated
from tests.support.kernel import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"
STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Demo:
    """The demonstration while it runs: its folder, and the address that it opens in a browser."""

    folder: Path
    address: str


@pytest.fixture
def demo(browser: Browser, tmp_path: Path) -> Iterator[Demo]:
    """It starts the user's browser, here a program that does nothing."""
    environment = isolated(os.environ, tmp_path, "http://127.0.0.1:9") | {"BROWSER": "true"}
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, DEMO, "--folder", tmp_path / "demo"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        running = tmp_path / "jupyter" / "runtime"
        wait_until(lambda: any(running.glob("jpserver-*.json")), STARTS_WITHIN_S, "JupyterLab's start")
        server = json.loads(next(running.glob("jpserver-*.json")).read_text())
        yield Demo(tmp_path / "demo", f"{server['url']}?token={server['token']}")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(ENDS_WITHIN_S)


def test_the_demo_opens_its_notebook_in_its_own_workspace_without_dialogs(
    browser: Browser, demo: Demo, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1300, "height": 950})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(demo.address)
    expect(page.get_by_role("tab", name="01_first_download.ipynb")).to_be_visible(timeout=30_000)

    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=30_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    rows = page.locator('.gglib-row[data-status="completed"]')

    expect(rows).to_have_count(2, timeout=60_000)
    expect(page.locator(".jp-CodeCell").last).to_contain_text("b'GGUF'")
    assert page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []
    assert page.locator(".jp-NotebookPanel").count() == 1
    workspaces = demo.folder / "jupyter" / "workspaces"
    wait_until(lambda: any(workspaces.glob("*.jupyterlab-workspace")), 60.0, "the workspace to be stored")
    assert list((tmp_path / "jupyter" / "config").rglob("*.jupyterlab-workspace")) == []
    context.close()
