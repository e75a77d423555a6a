"""Lost messages and missing host features: the panel recovers the correct state and keeps working."""

from typing import Any

import pytest
from playwright.sync_api import expect

from gglib_nb.domain.download import DownloadStatus
from tests.support import scenes
from tests.support.catalog_models import model as catalog_model
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import OpenPanel, PanelPage
from tests.support.snapshots import GB, completed, download

pytestmark = pytest.mark.browser

MODEL = "owner/model-GGUF:Q4_K_M"


def wait(panel: PanelPage, seconds: int) -> None:
    """Advances the page's clock second by second and delivers the messages sent in that time."""
    for _ in range(seconds):
        panel.page.clock.run_for(1000)
        panel.pump()


def test_a_widget_without_an_abort_signal_shows_the_panel_and_can_be_closed(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(download(MODEL, "downloading")), has_signal=False)

    panel.press("Pause model-GGUF Q4_K_M")
    panel.page.evaluate("views[0]()")
    panel.show_queue(download(MODEL, "paused"))

    assert panel.asked() == [("pause", MODEL)]
    expect(panel.page.locator(".gglib-panel")).to_have_count(0)


def test_a_request_with_a_lost_answer_is_sent_again_and_executed_once(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(download(MODEL, "downloading")), has_clock=True)
    panel.button("Pause model-GGUF Q4_K_M").click()
    panel.page.evaluate("1")
    panel.lose()

    wait(panel, 6)

    expect(panel.button("Pause model-GGUF Q4_K_M")).not_to_have_attribute("aria-busy", "true")
    assert panel.asked() == [("pause", MODEL)]


def test_a_lost_last_message_is_detected(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(download(MODEL)), has_clock=True)
    panel.manager.show(download(MODEL, "downloading", downloaded_bytes=GB))
    panel.lose()
    expect(panel.page.locator(".gglib-counts")).to_contain_text("0 active")

    wait(panel, 25)

    expect(panel.page.locator(".gglib-counts")).to_contain_text("1 active")


def test_a_lost_change_and_a_lost_answer_about_it_are_detected(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(download(MODEL)), has_clock=True)
    panel.manager.show(download(MODEL, "downloading", downloaded_bytes=GB))
    panel.lose()
    for _ in range(22):
        panel.page.clock.run_for(1000)
        panel.page.evaluate("1")
        panel.lose()

    wait(panel, 30)

    expect(panel.page.locator(".gglib-counts")).to_contain_text("1 active")


@pytest.mark.slow
def test_an_idle_panel_rarely_sends_requests(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(download(MODEL, "paused")), has_clock=True)
    panel.pump()
    asked = len(panel.sent)

    wait(panel, 60)

    assert len(panel.sent) - asked <= 3


def test_models_are_refreshed_while_shown(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.models(), has_clock=True)
    panel.press("Models")
    panel.pump()
    rows = panel.page.locator(".gglib-models .gglib-row")
    expect(rows).to_have_count(3)

    panel.manager.registered.append(catalog_model("owner/new-GGUF:Q8_0"))
    wait(panel, 12)

    expect(rows).to_have_count(4)


def test_models_are_refreshed_at_once_when_a_download_ends(open_panel: OpenPanel) -> None:
    manager = FakeManager(download(MODEL, "downloading"))
    panel = open_panel(manager, has_clock=True)
    panel.press("Models")
    panel.pump()

    manager.registered.append(catalog_model(MODEL))
    panel.show_queue(completed(MODEL))
    wait(panel, 2)

    expect(panel.page.locator(".gglib-models .gglib-row")).to_have_count(1)


def test_a_browser_that_refuses_notifications_keeps_the_panel_up_to_date(open_panel: OpenPanel) -> None:
    times: dict[str, Any] = {"started_at_s": 1000.0}
    panel = open_panel(FakeManager(download(MODEL, "downloading", **times)))
    panel.page.evaluate(
        """() => {
          window.Notification = class { constructor() { throw new TypeError("Illegal constructor"); } };
          Notification.requestPermission = async () => "granted";
        }"""
    )
    panel.press("Limits")
    panel.page.get_by_label("Notify me when a long download ends").check()
    panel.page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")

    panel.show_queue(completed(MODEL, seconds=90))

    expect(panel.row("model-GGUF")).to_have_attribute("data-status", DownloadStatus.COMPLETED.value)


def test_the_state_saved_with_a_notebook_has_no_comments_and_no_home_folder(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager())
    state = panel.widget.get_state()

    assert "home" not in state
    assert "@param" not in state["_esm"]
    assert len(state["_esm"]) + len(state["_css"]) < 95_000
