"""Lines of `%gguf` in a real JupyterLab: an updating wait, and completion."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.jlab import JupyterLab, NotebookPage

MB = 1_000_000
SIZES = {"Q2_K": 1, "Q3_K_M": 2, "Q4_K_M": 3, "Q5_K_M": 4, "Q8_0": 40}
CELLS = ("%load_ext gglib_nb", "%gguf plan demo/model", "%gguf queue demo/model:Q8_0", "%gguf wait Q8_0", "%gguf canc")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def slow_hub() -> Iterator[FaultyHub]:
    """A hub on a line slow enough to see a download move."""
    files = {f"model-{label}.gguf": size * MB for label, size in SIZES.items()}
    with FaultyHub([make_repository("demo/model", files)], bytes_per_second=MB) as hub:
        yield hub


@pytest.fixture(scope="module")
def page(browser: Browser, slow_hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookPage]:
    """One notebook for all tests, with the extension loaded and the plan shown."""
    folder: Path = tmp_path_factory.mktemp("lab")
    with JupyterLab(folder, slow_hub.url) as lab:
        lab.write_notebook("lines.ipynb", CELLS)
        with NotebookPage(browser, lab, "lines.ipynb") as page:
            page.run(0)
            page.run(1)
            yield page


def test_an_interactive_wait_is_one_output_that_updates(page: NotebookPage, slow_hub: FaultyHub) -> None:
    page.run(2)
    page.start(3)
    # JupyterLab keeps the cleared output of the moving line as an empty one.
    outputs = page.page.locator(".jp-CodeCell").nth(3).locator(".jp-OutputArea-output")
    moving = outputs.filter(has_text=re.compile(r"\S"))

    expect(moving).to_contain_text("B/s")
    slow_hub.set_speed()
    expect(moving).to_contain_text("SHA-256 verified")
    expect(moving).to_have_count(1)


def test_completion_completes_a_verb(page: NotebookPage) -> None:
    editor = page.page.locator(".jp-CodeCell").nth(4).locator(".cm-content")
    editor.click()
    page.page.keyboard.press("End")

    page.page.keyboard.press("Tab")
    expect(page.page.locator(".jp-Completer")).to_contain_text("cancel")
    page.page.keyboard.press("Enter")

    expect(editor).to_have_text("%gguf cancel")
