"""JupyterLab has shortcuts for nearly every key; on the panel, keys control the panel."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from gglib_nb.demo.generated import generated_repositories
from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import JupyterLab, NotebookPage
from tests.support.models import MB

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


def test_keys_on_the_panel_press_its_buttons_and_do_not_reach_the_notebook(browser: Browser, tmp_path: Path) -> None:
    with FaultyHub(generated_repositories(), bytes_per_second=MB) as hub, JupyterLab(tmp_path / "lab", hub.url) as lab:
        lab.write_notebook("keys.ipynb", ["%load_ext gglib_nb", "%gguf queue demo/tiny-llama-GGUF:F16", "%gguf"])
        with NotebookPage(browser, lab, "keys.ipynb") as page:
            for cell in range(3):
                page.run(cell)
            row = page.page.locator('.gglib-panel [data-key="demo/tiny-llama-GGUF:F16"]')
            cells = page.page.locator(".jp-Cell").count()
            row.get_by_role("button", name="Pause").focus()

            page.page.keyboard.press("b")
            page.page.keyboard.press("Enter")

            expect(row).to_have_attribute("data-status", "paused")
            expect(row.get_by_role("button", name="Resume")).to_be_visible()
            assert page.page.locator(".jp-Cell").count() == cells

            field = page.page.locator(".gglib-panel").get_by_role("combobox")
            field.fill("demo/tiny-llama-GGUF")
            field.press("Enter")

            expect(page.page.get_by_role("button", name="Download Q4_K_M")).to_be_visible()
        lab.shut_down_kernels()
