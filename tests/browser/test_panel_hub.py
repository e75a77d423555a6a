"""The panel with a real manager, engine and embedded hub: searching, downloading and verifying from the page."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from gglib_nb import DownloadManager
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.models import MB, one_model
from tests.support.panelpage import PanelPage, panel_pages

pytestmark = pytest.mark.browser
pytest_plugins = ("tests.support.manager_fixtures",)

SMALL, LARGE, SEEING = "demo/small-GGUF", "demo/large-GGUF", "demo/seeing-GGUF"


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    """Three repositories that filters can distinguish, and one without GGUF files from which one of them was converted."""
    size = {"m-Q4_K_M.gguf": 300_000}
    repositories = [
        make_repository(SMALL, size, gguf={"total": 3_000_000_000}, downloads=9),
        make_repository(LARGE, size, gguf={"total": 70_000_000_000}, downloads=8, tags=("gguf", "license:apache-2.0")),
        make_repository(
            SEEING,
            size,
            gguf={"total": 3_000_000_000},
            downloads=7,
            pipeline_tag="image-text-to-text",
            tags=("gguf", "license:mit", "base_model:quantized:demo/safetensors"),
        ),
        make_repository("demo/safetensors", {"model.safetensors": 1000}, tags=("safetensors",)),
    ]
    with FaultyHub(repositories) as hub:
        yield hub


@pytest.fixture
def panel(browser: Browser, manager: DownloadManager) -> Iterator[PanelPage]:
    with panel_pages(browser) as open_panel:
        yield open_panel(manager, permissions=["clipboard-read", "clipboard-write"])


@pytest.fixture
def field(panel: PanelPage) -> Locator:
    return panel.page.get_by_role("combobox", name="Repository on the Hub")


def found(panel: PanelPage) -> list[str]:
    return panel.page.locator(".gglib-found").all_inner_texts()


def finds(panel: PanelPage, *repos: str) -> None:
    panel.until(lambda: found(panel) == [*repos], f"the page suggests {repos}")


def shows_variants_of(panel: PanelPage, repo: str) -> None:
    head = panel.page.locator(".gglib-offer header strong")
    panel.until(lambda: head.is_visible() and head.inner_text() == repo, f"the variants of {repo}")


def test_a_search_can_be_filtered_by_size_task_and_licence(panel: PanelPage, field: Locator) -> None:
    field.fill("demo")
    finds(panel, SMALL, LARGE, SEEING)
    panel.press("Filter")

    panel.page.get_by_label("Largest model").select_option("up to 8 B")
    finds(panel, SMALL, SEEING)
    panel.page.get_by_label("Task").select_option("image-text-to-text")
    finds(panel, SEEING)
    panel.page.get_by_label("Task").select_option("any task")
    panel.page.get_by_label("Largest model").select_option("any size")
    finds(panel, SMALL, LARGE, SEEING)
    panel.page.get_by_label("Licence").fill("apache-2.0")
    panel.page.get_by_label("Licence").press("Enter")

    finds(panel, LARGE)


def test_a_repository_without_gguf_files_offers_its_conversions(panel: PanelPage, field: Locator) -> None:
    field.fill("demo/safetensors")
    panel.press("Show variants")
    child = panel.page.locator(".gglib-alternatives").get_by_role("button", name=SEEING)
    panel.until(child.is_visible, "its GGUF child")

    child.click()
    shows_variants_of(panel, SEEING)
    panel.press("Download Q4_K_M")

    row = panel.page.locator(f'[data-key="{SEEING}:Q4_K_M"][data-status="completed"]')
    panel.until(row.is_visible, "the download")
    expect(field).to_have_value(SEEING)
    expect(child).to_be_hidden()


def test_a_click_opens_a_suggestions_model_card_in_a_new_tab(panel: PanelPage, field: Locator, hub: FaultyHub) -> None:
    field.fill("demo")
    finds(panel, SMALL, LARGE, SEEING)
    card = panel.page.get_by_role("link", name=f"Open the page of {LARGE} in a new tab")

    with panel.page.context.expect_page() as opened:
        card.click()

    assert opened.value.url == f"{hub.url}/{LARGE}"
    assert opened.value.evaluate("window.opener") is None
    assert found(panel) == [SMALL, LARGE, SEEING]
    expect(field).to_be_focused()


def test_arrow_keys_reach_a_suggestions_model_card(panel: PanelPage, field: Locator, hub: FaultyHub) -> None:
    field.fill("demo")
    finds(panel, SMALL, LARGE, SEEING)
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        panel.page.keyboard.press(key)
    panel.pump()
    chosen = panel.page.get_by_role("gridcell", selected=True)

    expect(chosen).to_have_id(field.get_attribute("aria-activedescendant") or "none")
    with panel.page.context.expect_page() as opened:
        panel.page.keyboard.press("Enter")
    assert opened.value.url == f"{hub.url}/{LARGE}"

    panel.page.keyboard.press("ArrowLeft")
    panel.page.keyboard.press("Enter")
    shows_variants_of(panel, LARGE)


@pytest.fixture
def done(panel: PanelPage, manager: DownloadManager) -> Path:
    """The path of a stored model's file."""
    path = manager.sync.download(SMALL, "Q4_K_M")
    panel.until(panel.page.locator('.gglib-row[data-status="completed"]').is_visible, "the done row")
    return path


def says(panel: PanelPage, text: str) -> None:
    panel.until(lambda: text in panel.page.locator(".gglib-panel").inner_text(), f"the page says {text!r}", 20)


def test_a_finished_row_is_verified_from_the_page_and_a_damaged_file_is_reported(panel: PanelPage, done: Path) -> None:
    panel.press("Verify small-GGUF Q4_K_M")
    says(panel, "SHA-256 matches")

    with done.open("r+b") as file:
        file.seek(200_000)
        file.write(b"damaged")
    panel.press("Verify small-GGUF Q4_K_M")

    says(panel, f"{SMALL}:Q4_K_M is damaged.")
    expect(panel.page.locator(".gglib-row > .gglib-message")).to_have_attribute("data-mood", "bad")


@pytest.mark.slow
def test_a_stored_model_is_verified_from_the_page(panel: PanelPage, done: Path) -> None:
    panel.press("Models")
    verify = panel.button(f"Verify {SMALL}:Q4_K_M")
    panel.until(verify.is_visible, "the model")

    verify.click()

    says(panel, "SHA-256 matches")
    expect(verify).not_to_have_attribute("aria-busy", "true")


_WATCH_THE_FOCUS = """() => {
  window.lost = [];
  let last = null;
  document.addEventListener("focusin", ({ target }) => { last = target; });
  const look = () => {
    if (last && document.activeElement === document.body) window.lost.push(last.ariaLabel ?? last.textContent);
    requestAnimationFrame(look);
  };
  look();
}"""
_FOCUSED = "document.activeElement.ariaLabel ?? document.activeElement.textContent"


def go_to(panel: PanelPage, name: str, key: str) -> None:
    """Presses one key until the control of this name has the focus."""
    for _ in range(40):
        if panel.page.evaluate(_FOCUSED) == name:
            return
        panel.page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {name!r} but to {panel.page.evaluate(_FOCUSED)!r}")


def enter(panel: PanelPage, name: str, key: str, then: Callable[[], bool]) -> None:
    """Moves to a control with one key, presses Enter, and waits for the result."""
    go_to(panel, name, key)
    panel.page.keyboard.press("Enter")
    panel.until(then, f"what comes of {name!r}")


@pytest.mark.slow
def test_a_session_with_only_the_keyboard_never_loses_the_focus(
    panel: PanelPage, manager: DownloadManager, hub: FaultyHub
) -> None:
    for name in ("first", "second", "third"):
        hub.add_repository(one_model(f"demo/{name}", 40 * MB))
    hub.set_speed(MB)
    for name in ("first", "second"):
        manager.sync.queue_smart(f"demo/{name}")
    panel.page.evaluate(_WATCH_THE_FOCUS)
    live = panel.page.locator("[aria-live=polite]")

    def is_said(text: str, times: int = 1) -> bool:
        return live.inner_text().count(text) == times

    def stand(*names: str) -> bool:
        return panel.page.locator(".gglib-row .gglib-name").all_inner_texts() == [*names]

    # Adds a repository …
    go_to(panel, "Repository on the Hub", "Tab")
    panel.page.keyboard.type("demo/third")
    panel.page.keyboard.press("Enter")
    shows_variants_of(panel, "demo/third")
    enter(panel, "Download Q4_K_M", "Tab", lambda: stand("first", "second", "third"))
    # … moves it, pauses and resumes it, removes it and undoes that …
    go_to(panel, "Details of first Q4_K_M", "Tab")
    go_to(panel, "Details of second Q4_K_M", "Tab")
    go_to(panel, "Details of third Q4_K_M", "Tab")
    enter(panel, "Move third Q4_K_M up", "ArrowLeft", lambda: is_said("third Q4_K_M is number 1 now."))
    panel.until(lambda: stand("first", "third", "second"), "the third before the second")
    enter(panel, "Pause third Q4_K_M", "ArrowRight", lambda: is_said("third Q4_K_M is paused."))
    enter(panel, "Resume third Q4_K_M", "ArrowRight", lambda: is_said("third Q4_K_M is waiting in the queue again."))
    enter(panel, "Remove third Q4_K_M", "ArrowRight", lambda: is_said("third Q4_K_M was cancelled."))
    enter(
        panel, "Undo third Q4_K_M", "ArrowLeft", lambda: is_said("third Q4_K_M is waiting in the queue again.", times=2)
    )
    panel.until(lambda: stand("first", "third", "second"), "the third at its old place")
    # … cancels the active one and undoes that …
    go_to(panel, "Details of first Q4_K_M", "ArrowUp")
    enter(panel, "Cancel first Q4_K_M", "ArrowLeft", lambda: is_said("first Q4_K_M was cancelled."))
    # Before the next one has started, the first would start again at once instead of waiting.
    panel.until(lambda: is_said("third Q4_K_M started."), "the start of the third")
    enter(panel, "Undo first Q4_K_M", "ArrowLeft", lambda: is_said("first Q4_K_M is waiting in the queue again."))
    hub.set_speed(None)
    manager.sync.join()
    panel.until(lambda: len(panel.page.locator('[data-status="completed"]').all()) == 3, "all three")
    # … opens a finished one and copies its path.
    go_to(panel, "Details of third Q4_K_M", "ArrowDown")
    panel.page.keyboard.press("Enter")
    expect(panel.button("Details of third Q4_K_M")).to_have_attribute("aria-expanded", "true")
    go_to(panel, "Copy the path of third Q4_K_M", "ArrowRight")
    panel.page.keyboard.press("Enter")
    panel.pump()

    assert re.search(r"/demo/third/third-Q4_K_M\.gguf$", panel.page.evaluate("navigator.clipboard.readText()"))
    assert panel.page.evaluate("lost") == []
