"""Places for a panel: Notebook 7, inside other widgets, hidden at first, and several at once."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import JupyterLab, NotebookPage
from tests.support.labpanel import OpenNotebook, button_of, percent, row_of, wait_until_bytes_flow
from tests.support.models import MB, one_model

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

MODEL = "demo/tiny-llama-GGUF:F16"
QUEUE = f"%gguf queue {MODEL}"
PANEL = "panel = gglib_nb.Panel(gglib_nb.get_manager())"
WAITING = 60


def panels_of(page: NotebookPage) -> Locator:
    return page.page.locator(".gglib-panel:visible")


@pytest.mark.slow
def test_in_notebook_7_the_panel_updates_and_its_buttons_work(opened: OpenNotebook, hub: FaultyHub) -> None:
    page = opened(QUEUE, "%gguf", at="notebooks")
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    bar = row_of(page, MODEL).get_by_role("progressbar", name="Progress of")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    shown = percent(bar)

    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))
    button_of(page, MODEL, "Cancel").click()

    expect(row_of(page, MODEL)).to_have_attribute("data-status", "cancelled")


@pytest.mark.slow
def test_a_finished_rows_folder_opens_in_jupyters_file_browser_for_any_server_root(
    browser: Browser, hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = "import os\nos.environ['GGLIB_MODELS_DIR'] = os.path.abspath('my models')\n%load_ext gglib_nb"
    with JupyterLab(tmp_path / "lab", hub.url) as lab:
        lab.write_notebook("folder.ipynb", [places, "%gguf queue demo/tiny-llama-GGUF:Q2_K\n%gguf wait", "%gguf"])
        with NotebookPage(browser, lab, "folder.ipynb") as page:
            for cell in range(3):
                page.run(cell)
            with page.page.context.expect_page() as shown:
                row_of(page, "demo/tiny-llama-GGUF:Q2_K").get_by_role("link", name="Show the folder of").click()

            files = shown.value.locator(".jp-DirListing-content")
            expect(files).to_contain_text("tiny-llama-Q2_K.gguf")
            assert shown.value.evaluate("window.opener") is None
        lab.shut_down_kernels()


def bottom_of(element: Locator) -> float:
    box = element.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


@pytest.mark.slow
def test_views_in_a_box_an_output_and_alone_are_live_and_in_sync(opened: OpenNotebook, hub: FaultyHub) -> None:
    page = opened(
        QUEUE,
        f"import ipywidgets\n{PANEL}\nipywidgets.VBox([ipywidgets.Label('Models'), panel])",
        "output = ipywidgets.Output()\nwith output:\n    display(panel)\noutput",
        "panel",
        "%gguf",
    )
    for cell in (1, 2, 3, 4, 5):
        page.run(cell)
    wait_until_bytes_flow(hub)
    views = panels_of(page)
    expect(views).to_have_count(4)

    button_of(views.nth(1), MODEL, "Pause").click()

    for view in views.all():
        expect(row_of(view, MODEL)).to_have_attribute("data-status", "paused")
    button_of(views.nth(3), MODEL, "Resume").click()
    for view in views.all():
        expect(row_of(view, MODEL)).to_have_attribute("data-status", "downloading")
    assert page.problems == []


BOXES = {
    "HBox": "HBox([ipywidgets.Textarea('notes'), panel])",
    "VBox": "VBox([ipywidgets.Label('Models'), panel])",
    "centred VBox": "VBox([panel], layout={'align_items': 'center'})",
    "Tab": "Tab([panel], selected_index=0)",
    "Accordion": "Accordion([panel], selected_index=0)",
    "GridBox": "GridBox([ipywidgets.Label('Models'), panel], layout={'grid_template_columns': '120px auto'})",
}
# Its width, the part outside of the output, and the overlap with a neighbour in its box; in pixels.
GEOMETRY = """panel => {
  const box = panel.getBoundingClientRect();
  const output = panel.closest(".jp-OutputArea-output").getBoundingClientRect();
  const host = panel.closest(".gglib-panel-host");
  const isOver = (one) => one.right > box.left + 1 && one.left < box.right - 1 && one.bottom > box.top + 1 && one.top < box.bottom - 1;
  const others = [...host.parentElement.children].filter((one) => one !== host);
  const outside = Math.max(0, box.right - output.right, output.left - box.left);
  return [box.width, outside, others.some((one) => isOver(one.getBoundingClientRect()))];
}"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 800])
def test_in_every_widget_box_the_panel_is_readable_and_covers_nothing(
    opened: OpenNotebook, hub: FaultyHub, width: int
) -> None:
    cells = [f"ipywidgets.{box}" for box in BOXES.values()]
    page = opened(f"import ipywidgets\n{PANEL}", *cells, width=width)
    for cell in range(1, 2 + len(cells)):
        page.run(cell)
    expect(panels_of(page)).to_have_count(len(BOXES))

    found = {box: panels_of(page).nth(at).evaluate(GEOMETRY) for at, box in enumerate(BOXES)}

    assert {box: wide for box, (wide, _, _) in found.items() if wide < 320} == {}
    assert {box: outside for box, (_, outside, _) in found.items() if outside > 1} == {}
    assert [box for box, (_, _, is_covered) in found.items() if is_covered] == []


@pytest.mark.slow
def test_a_panel_in_a_tab_lays_out_when_the_tab_is_shown(opened: OpenNotebook, hub: FaultyHub) -> None:
    hub.set_speed(MB)
    for number in range(WAITING):
        hub.add_repository(one_model(f"demo/model-{number:02}", 200 * MB))
    queue = "\n".join(f"%gguf queue demo/model-{number:02}" for number in range(WAITING))
    page = opened(
        f"%gguf limit {WAITING}\n{queue}",
        f"import ipywidgets\n{PANEL}\n"
        "ipywidgets.Tab([ipywidgets.HTML('first'), panel], titles=('Notes', 'Downloads'), selected_index=0)",
    )
    page.run(1)
    page.run(2)
    expect(page.page.get_by_role("tab", name="Downloads")).to_be_visible()
    expect(panels_of(page)).to_have_count(0)

    page.page.get_by_role("tab", name="Downloads").click()

    rows, scroller = panels_of(page).locator(".gglib-row:visible"), page.page.locator(".gglib-list")
    expect(rows.first).to_contain_text("model-00")
    assert rows.count() == WAITING
    scroller.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    last = row_of(page, f"demo/model-{WAITING - 1:02}:Q4_K_M")
    expect(last).to_be_visible()
    assert bottom_of(last) == pytest.approx(bottom_of(scroller), abs=2)
