"""When a run ends, the kernel updates the panel's saved outputs without disturbing a user who looks at a panel."""

from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import JupyterLab, NotebookPage
from tests.support.labpanel import OpenNotebook, row_of, wait_until_bytes_flow

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ID = "demo/tiny-llama-GGUF:F16"

# For each frame: the number of panels, a placeholder, and the position of the first panel.
_WATCH = """() => {
    const root = document.querySelector('.gglib-panel');
    const cell = root.closest('.jp-CodeCell');
    window.seen = new Set();
    window.before = root.parentElement;
    const look = () => {
        const isHolder = cell.textContent.includes('Loading widget');
        seen.add(JSON.stringify([cell.querySelectorAll('.gglib-panel').length, isHolder, root.isConnected,
            Math.round(root.getBoundingClientRect().top)]));
        requestAnimationFrame(look);
    };
    look();
}"""
_SEEN = "() => [...seen].map(one => JSON.parse(one))"
_CARET = "() => [document.activeElement.value, document.activeElement.selectionStart]"


def wait_until_it_says_how_it_ended(page: NotebookPage, index: int) -> None:
    """Wait until the page's own copy of the notebook has the final text in a cell's output."""
    page.page.wait_for_function(
        """index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.outputs.toJSON()
            .some(output => `${output.data?.['text/plain']}`.includes('SHA-256 verified'))""",
        arg=index,
        timeout=60_000,
    )


@pytest.mark.slow
@pytest.mark.parametrize("at", ["doc/tree", "notebooks"], ids=["JupyterLab", "Notebook 7"])
def test_typed_text_and_opened_rows_are_kept_when_the_run_ends(
    opened: OpenNotebook, lab: JupyterLab, hub: FaultyHub, at: str
) -> None:
    page = opened(f"%gguf queue {ID}", "%gguf", "0", at=at)
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    panel = page.page.locator(".gglib-panel")
    opener = row_of(page, ID).get_by_role("button", name="Details of")
    if opener.get_attribute("aria-expanded") == "false":
        opener.click()
    field = panel.get_by_role("combobox")
    field.fill("owner/name")
    field.press("Home")
    field.press("ArrowRight")
    page.problems.clear()
    page.page.evaluate(_WATCH)
    hub.set_speed()

    wait_until_it_says_how_it_ended(page, 2)
    expect(row_of(page, ID)).to_have_attribute("data-status", "completed")
    field.page.keyboard.type("X")

    assert page.page.evaluate("() => before !== document.querySelector('.gglib-panel').parentElement")
    seen: list[Any] = page.page.evaluate(_SEEN)
    assert [state[:3] for state in seen] == [[1, False, True]] * len(seen)
    assert len({top for *_, top in seen}) == 1, seen
    assert page.page.evaluate(_CARET) == ["oXwner/name", 2]
    expect(opener).to_have_attribute("aria-expanded", "true")
    assert page.problems == []


@pytest.mark.slow
def test_a_notebook_saved_after_the_run_shows_its_outcome(
    opened: OpenNotebook, lab: JupyterLab, hub: FaultyHub
) -> None:
    page = opened(f"%gguf queue {ID}", "%gguf", name="ended.ipynb")
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    hub.set_speed()

    wait_until_it_says_how_it_ended(page, 2)
    page.save()
    page.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    saved = nbformat.read(lab.notebooks / "ended.ipynb", as_version=4)
    saved.cells = saved.cells[2:]
    html, _ = HTMLExporter(exclude_input=True).from_notebook_node(saved)

    assert "SHA-256 verified" in html
    assert "downloading" not in html


@pytest.mark.slow
def test_each_of_two_panels_keeps_its_own_state_while_a_cell_runs(opened: OpenNotebook, hub: FaultyHub) -> None:
    page = opened(f"%gguf queue {ID}", "%gguf", "%gguf", "time.sleep(600)")
    for index in (1, 2, 3):
        page.run(index)
    wait_until_bytes_flow(hub)
    fields = page.page.locator(".gglib-panel").get_by_role("combobox")
    fields.nth(0).fill("the/first")
    fields.nth(1).fill("the/second")
    page.start(4)
    page.wait_until_busy()
    hub.set_speed()

    for index in (2, 3):
        wait_until_it_says_how_it_ended(page, index)

    assert page.is_running(4)
    expect(fields).to_have_count(2)
    assert [field.input_value() for field in fields.all()] == ["the/first", "the/second"]


@pytest.mark.slow
def test_a_panel_in_an_output_widget_or_side_area_is_not_duplicated(opened: OpenNotebook, hub: FaultyHub) -> None:
    page = opened(
        f"%gguf queue {ID}",
        "from ipywidgets import Output\nfrom IPython.display import display\nside = Output()\ndisplay(side)\n"
        "with side:\n    display(gglib_nb.Panel(gglib_nb.get_manager()))",
        "%gguf",
    )
    for index in (1, 2, 3):
        page.run(index)
    wait_until_bytes_flow(hub)
    panels = page.page.locator(".gglib-panel")
    expect(panels).to_have_count(2)
    hub.set_speed()

    wait_until_it_says_how_it_ended(page, 3)

    expect(row_of(page, ID)).to_have_count(2)
    for row in row_of(page, ID).all():
        expect(row).to_have_attribute("data-status", "completed")
    expect(panels).to_have_count(2)
