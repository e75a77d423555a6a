"""Lines of `%gguf` in a real JupyterLab: sorting a plan, an updating wait, and completion."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from gglib_nb.domain.quality import Quality
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.jlab import JupyterLab, NotebookPage
from tests.support.plan_values import GB, a_plan, a_variant, plan_html

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


def test_clicking_a_column_header_sorts_a_plan(page: NotebookPage) -> None:
    rows = page.page.locator(".jp-OutputArea tbody tr")
    expect(rows.first).to_contain_text("Q2_K")

    page.page.get_by_role("button", name="Size").click()
    page.page.get_by_role("button", name="Size").click()

    expect(rows.first).to_contain_text("Q8_0")


def test_a_column_sorts_by_its_values_and_keeps_what_is_unknown_last(browser: Browser) -> None:
    kinds = {
        "reduced": ("gpu_reduced", 9.0, 0, {}),
        "whole48": ("gpu", 10.0, 0, {"longest_gpu_context": 4_800}),
        "no": ("too_large", 800.0, 0, {}),
        "partly28": ("gpu_partly", 30.0, 15 * GB, {"gpu_layers": 28}),
        "unknown": ("unknown", 0.5, 0, {}),
        "whole": ("gpu", 1.5, 0, {}),
    }
    variants = [
        replace(
            a_variant(key, size, placement=replace(a_variant().placement, fit=fit, **more), present_bytes=here),
            reusable_bytes=int(0.9 * size * GB) if key == "no" else None,
            memory=None if fit == "unknown" else a_variant(key, size).memory,
            quality=Quality(kl_divergence=size / 7) if size > 5 else None,
        )
        for key, (fit, size, here, more) in kinds.items()
    ]
    by_fit = ["whole48", "whole", "reduced", "partly28", "no", "unknown"]
    by_size = ["unknown", "whole", "reduced", "whole48", "partly28", "no"]
    by_memory = ["whole", "reduced", "whole48", "partly28", "no", "unknown"]
    known_quality = ["reduced", "whole48", "partly28", "no"]
    with browser.new_page() as page:
        page.set_content(plan_html(a_plan(*variants)))
        names = page.locator("tbody code")

        def order(column: str) -> list[str]:
            page.get_by_role("button", name=column).click()
            return [text for text in names.all_text_contents() if text in kinds]

        assert order("Fits") == by_fit
        assert order("Fits") == ["no", "partly28", "reduced", "whole48", "whole", "unknown"]
        assert order("Size") == by_size
        assert order("Memory") == by_memory
        assert order("Memory") == [*reversed(by_memory[:-1]), "unknown"]
        assert order("KL divergence")[:4] == known_quality
        assert order("KL divergence")[:4] == known_quality[::-1]
        assert order("On disk")[:2] == ["no", "partly28"]
        assert order("Free after")[0] == "no"
        assert order("Row") == list(kinds)


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
