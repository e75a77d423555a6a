"""Other hosts than JupyterLab and Notebook 7: marimo, the classic notebook, and the side area of the sidecar package."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import START_TIMEOUT_S, JupyterLab
from tests.support.labpanel import OpenNotebook, percent, wait_until_bytes_flow
from tests.support.marimo_page import MarimoPage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

F16, Q8_0, Q4_K_M, Q2_K = (f"demo/tiny-llama-GGUF:{label}" for label in ("F16", "Q8_0", "Q4_K_M", "Q2_K"))

OpenMarimo = Callable[..., MarimoPage]


def row_of(page: Page, download_id: str) -> Locator:
    return page.locator(f'.gglib-list [role=listitem][data-key="{download_id}"]')


def button_of(page: Page, download_id: str, name: str) -> Locator:
    return row_of(page, download_id).get_by_role("button", name=name)


def order_of(page: Page) -> list[str | None]:
    """Ids of the rows, from top to bottom."""
    return [row.get_attribute("data-key") for row in page.locator(".gglib-row").all()]


def moves(page: Page, hub: FaultyHub) -> None:
    """Fails unless the bar of the first download moves without a user action."""
    wait_until_bytes_flow(hub)
    bar = row_of(page, F16).get_by_role("progressbar", name="Progress of")
    expect(bar).to_have_count(1, timeout=START_TIMEOUT_S * 1000)
    shown = percent(bar)
    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))


def acts(page: Page) -> None:
    """Fails unless a user can reorder, pause, cancel and add downloads. F16 is active, two are waiting."""
    button_of(page, Q4_K_M, "Move tiny-llama-GGUF Q4_K_M up").click()
    expect(button_of(page, Q4_K_M, "Move tiny-llama-GGUF Q4_K_M up")).to_be_disabled()
    assert order_of(page) == [F16, Q4_K_M, Q8_0]

    button_of(page, F16, "Pause").click()
    expect(row_of(page, F16)).to_have_attribute("data-status", "paused")
    expect(row_of(page, Q4_K_M)).to_have_attribute("data-status", "downloading")
    button_of(page, Q4_K_M, "Cancel").click()
    expect(row_of(page, Q4_K_M)).to_have_attribute("data-status", "cancelled")

    field = page.locator(".gglib-panel").get_by_role("combobox")
    field.click()
    page.keyboard.type("demo/tiny-llama-GGUF")
    page.locator(".gglib-panel").get_by_role("button", name="Show variants").click()
    variant = page.locator(".gglib-variants li").filter(has_text="Q2_K")
    variant.get_by_role("button").click()
    expect(row_of(page, Q2_K)).to_have_attribute("data-status", "queued")


# marimo

SETUP = "import gglib_nb\nmanager = gglib_nb.get_manager()"
QUEUE = 'queued = [manager.sync.queue_smart("demo/tiny-llama-GGUF", label) for label in ("F16", "Q8_0", "Q4_K_M")]'
PANEL = "panel = gglib_nb.Panel(manager)\npanel"


@pytest.fixture
def open_marimo(browser: Browser, hub: FaultyHub, tmp_path: Path) -> Iterator[OpenMarimo]:
    """Opens a marimo notebook of the given cells; `theme` is its theme."""
    with ExitStack() as stack:
        yield lambda *cells, **options: stack.enter_context(MarimoPage(browser, tmp_path, hub.url, cells, **options))


@pytest.mark.parametrize(
    "panel", [PANEL, "import marimo as mo\nmo.ui.anywidget(gglib_nb.Panel(manager))"], ids=["as a value", "mo.ui"]
)
def test_in_marimo_the_panel_updates_and_its_buttons_work(open_marimo: OpenMarimo, hub: FaultyHub, panel: str) -> None:
    marimo = open_marimo(SETUP, QUEUE, panel)
    moves(marimo.page, hub)
    expect(row_of(marimo.page, F16)).to_contain_text("F16")

    acts(marimo.page)

    assert marimo.problems == []


def test_in_marimo_the_panel_is_dark_in_a_dark_theme(open_marimo: OpenMarimo) -> None:
    marimo = open_marimo(SETUP, PANEL, theme="dark")

    panel = marimo.page.locator(".gglib-panel")

    expect(panel).to_have_css("background-color", "rgb(24, 28, 26)", timeout=START_TIMEOUT_S * 1000)
    expect(panel).to_have_css("color", "rgb(236, 238, 237)")


def test_in_marimo_an_empty_panel_shows_a_call_instead_of_a_magic(open_marimo: OpenMarimo, tmp_path: Path) -> None:
    call, wanted = 'await gglib_nb.get_manager().queue_smart("owner/repo")', tmp_path / "wanted"
    cell = call.replace("owner/repo", "demo/tiny-llama-GGUF")
    marimo = open_marimo(SETUP, PANEL, f"import os\nif os.path.exists({str(wanted)!r}):\n    {cell}")
    expect(marimo.page.locator(".gglib-empty pre")).to_have_text(call, timeout=START_TIMEOUT_S * 1000)

    wanted.touch()
    marimo.run_again(2)

    expect(row_of(marimo.page, Q4_K_M)).to_be_visible()


def test_in_marimo_running_a_cell_again_or_reloading_shows_the_current_queue(
    open_marimo: OpenMarimo, hub: FaultyHub
) -> None:
    marimo = open_marimo(SETUP, QUEUE, PANEL)
    moves(marimo.page, hub)

    marimo.run_again(2)
    moves(marimo.page, hub)
    marimo.page.reload()
    moves(marimo.page, hub)

    expect(marimo.page.locator(".gglib-panel")).to_have_count(1)


def test_in_marimo_the_panel_moves_while_a_cell_runs_and_a_click_waits_for_the_cell(
    open_marimo: OpenMarimo, hub: FaultyHub, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    marimo = open_marimo(
        SETUP, QUEUE, PANEL, f"import os, time\nwhile os.path.exists({str(work)!r}):\n    time.sleep(0.05)"
    )
    moves(marimo.page, hub)
    work.touch()
    marimo.run_again(3)
    expect(marimo.page.get_by_test_id("interrupt-button")).to_be_enabled()

    moves(marimo.page, hub)
    button_of(marimo.page, F16, "Pause").click()
    expect(row_of(marimo.page, F16)).to_contain_text("Waiting for the kernel")
    work.unlink()

    expect(row_of(marimo.page, F16)).to_have_attribute("data-status", "paused")


# The classic notebook

_IS_CONNECTED = "() => window.Jupyter?.notebook?.kernel?.is_connected()"
_RUN = "index => { Jupyter.notebook.execute_cells([index]); }"
_HAS_RUN = r"index => /\d/.test(Jupyter.notebook.get_cell(index).element.find('.input_prompt').text())"


@pytest.fixture
def classic(browser: Browser, lab: JupyterLab, hub: FaultyHub, tmp_path: Path) -> Iterator[Page]:
    """A notebook in the classic interface that has queued three downloads and shows the panel."""
    setup = (
        f"import os\nos.environ |= {{'HF_ENDPOINT': {hub.url!r}, 'GGLIB_MODELS_DIR': {str(tmp_path / 'models')!r},"
        f" 'GGLIB_STATE_DIR': {str(tmp_path / 'state')!r}}}\n%load_ext gglib_nb"
    )
    queue = "\n".join(f"%gguf queue {download_id}" for download_id in (F16, Q8_0, Q4_K_M))
    lab.write_notebook("classic.ipynb", [setup, queue, "%gguf"])
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(f"{lab.url}/nbclassic/notebooks/classic.ipynb?token={lab.token}")
    page.wait_for_function(_IS_CONNECTED, timeout=START_TIMEOUT_S * 1000)
    for cell in range(3):
        page.evaluate(_RUN, cell)
        page.wait_for_function(_HAS_RUN, arg=cell, timeout=START_TIMEOUT_S * 1000)
    yield page
    context.close()
    lab.shut_down_kernels()


def test_in_the_classic_notebook_the_panel_updates_and_its_buttons_work(classic: Page, hub: FaultyHub) -> None:
    moves(classic, hub)

    acts(classic)

    # Keys typed into the panel must not reach the notebook, where `b` adds a cell and `d` `d` deletes one.
    assert classic.evaluate("Jupyter.notebook.get_cells().length") == 3


def test_in_the_classic_notebook_one_panel_is_shown_and_keeps_typed_text_when_the_run_ends(
    classic: Page, hub: FaultyHub
) -> None:
    moves(classic, hub)
    field = classic.locator(".gglib-panel").get_by_role("combobox")
    field.fill("owner/name")
    hub.set_speed()

    classic.wait_for_function(
        "() => JSON.stringify(Jupyter.notebook.get_cell(2).output_area.toJSON()).includes('SHA-256 verified')",
        timeout=START_TIMEOUT_S * 1000,
    )

    expect(classic.locator(".gglib-panel")).to_have_count(1)
    expect(row_of(classic, Q4_K_M)).to_have_attribute("data-status", "completed")
    expect(field).to_have_value("owner/name")


# Side panel


def tabs_of(page: Page) -> Locator:
    """The tabs of the right side area that are ours."""
    return page.locator(".jp-SideBar.jp-mod-right .lm-TabBar-tab").filter(has_text="Downloads")


def close_tab(page: Page) -> None:
    """Closes the side panel like a user. The tab is rotated, so its close button is clicked by position."""
    box = tabs_of(page).locator(".lm-TabBar-tabCloseIcon").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_side_panel_is_shown_once_survives_reruns_and_can_be_reopened(opened: OpenNotebook, hub: FaultyHub) -> None:
    notebook = opened(f"%gguf queue {F16}", *["%gguf panel --side"] * 3, at="lab/tree", width=1500)
    page, beside = notebook.page, notebook.page.locator("#jp-right-stack .gglib-panel")
    notebook.run(1)
    notebook.run(2)
    expect(beside).to_be_visible()
    moves(page, hub)

    notebook.run(3)
    expect(beside).to_be_visible()
    expect(tabs_of(page)).to_have_count(1)
    expect(page.locator(".gglib-panel")).to_have_count(1)
    close_tab(page)
    expect(page.locator(".gglib-panel")).to_have_count(0)
    notebook.run(4)

    expect(beside).to_be_visible()
    expect(tabs_of(page)).to_have_count(1)
    moves(page, hub)
    button_of(page, F16, "Cancel").click()
    expect(row_of(page, F16)).to_have_attribute("data-status", "cancelled")
    assert notebook.problems == []
