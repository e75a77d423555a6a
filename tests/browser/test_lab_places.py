"""Where a panel can stand: in Notebook 7, inside other widgets, hidden at first, and many times over."""

import pytest
from playwright.sync_api import Locator, expect

from gglib_nb.demo import DemoHub
from tests.support.jlab import NotebookPage
from tests.support.labpanel import OpenNotebook, button_of, bytes_flow, percents, row_of
from tests.support.models import MB, one_model

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

MODEL = "demo/tiny-llama-GGUF:F16"
QUEUE = f"%gguf queue {MODEL}"
PANEL = "panel = gglib_nb.Panel(gglib_nb.get_manager())"
WAITING = 60


def panels_of(page: NotebookPage) -> Locator:
    return page.page.locator(".gglib-panel:visible")


@pytest.mark.slow
def test_in_notebook_7_the_panel_moves_and_its_buttons_act(opened: OpenNotebook, hub: DemoHub) -> None:
    page = opened(QUEUE, "%gguf", at="notebooks")
    page.run(1)
    page.run(2)
    hub.wait_for(bytes_flow)
    bar = row_of(page, MODEL).get_by_role("progressbar", name="Progress of")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    shown = percents(bar)[0]

    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))
    button_of(page, MODEL, "Cancel").click()

    expect(row_of(page, MODEL)).to_have_attribute("data-status", "cancelled")


def bottom_of(element: Locator) -> float:
    box = element.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


@pytest.mark.slow
def test_views_in_a_box_in_an_output_and_alone_are_all_live_and_act_for_each_other(
    opened: OpenNotebook, hub: DemoHub
) -> None:
    page = opened(
        QUEUE,
        f"import ipywidgets\n{PANEL}\nipywidgets.VBox([ipywidgets.Label('Models'), panel])",
        "output = ipywidgets.Output()\nwith output:\n    display(panel)\noutput",
        "panel",
        "%gguf",
    )
    for cell in (1, 2, 3, 4, 5):
        page.run(cell)
    hub.wait_for(bytes_flow)
    views = panels_of(page)
    expect(views).to_have_count(4)

    button_of(views.nth(1), MODEL, "Pause").click()

    for view in views.all():
        expect(row_of(view, MODEL)).to_have_attribute("data-status", "paused")
    button_of(views.nth(3), MODEL, "Resume").click()
    for view in views.all():
        expect(row_of(view, MODEL)).to_have_attribute("data-status", "downloading")
    assert page.problems == []


@pytest.mark.slow
def test_a_panel_in_a_tab_lays_out_when_the_tab_is_shown(opened: OpenNotebook, hub: DemoHub) -> None:
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
    assert 8 <= rows.count() < WAITING
    scroller.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    last = row_of(page, f"demo/model-{WAITING - 1:02}:Q4_K_M")
    expect(last).to_be_visible()
    assert bottom_of(last) == pytest.approx(bottom_of(scroller), abs=2)
