"""The history in the panel: one collapsed line below everything else, without duplicates."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import PastDownload, remembered
from gglib_nb.errors import CatalogError
from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import OpenPanel, PanelPage
from tests.support.snapshots import completed

pytestmark = pytest.mark.browser

MODEL = "ggml-org/SmolLM3-3B-GGUF:Q4_K_M"
DONE = completed(MODEL)


def rows_of(panel: PanelPage) -> list[str]:
    panel.pump()
    return panel.page.locator(".gglib-earlier .gglib-row:visible .gglib-name").all_inner_texts()


def test_earlier_downloads_are_one_collapsed_line_that_opens_to_its_rows(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.earlier())
    expect(panel.button("Earlier · 4")).to_have_attribute("aria-expanded", "false")
    assert rows_of(panel) == []

    panel.press("Earlier · 4")

    assert len(rows_of(panel)) == 4
    panel.sees("The line was cut.")
    panel.sees("already downloaded")
    panel.press("Earlier · 4")
    assert rows_of(panel) == []


def test_downloads_ended_here_move_to_the_history_when_their_list_is_cleared(open_panel: OpenPanel) -> None:
    past = remembered(DONE)
    assert past is not None
    manager = FakeManager(DONE)
    manager.answers["history"] = [past, replace(past, ended_at_s=past.ended_at_s - 5000)]
    panel = open_panel(manager)
    expect(panel.button("Earlier · 1")).to_be_visible()

    panel.show_queue()

    expect(panel.button("Earlier · 2")).to_be_visible()


@pytest.mark.parametrize("answer", [[], CatalogError("The models database cannot be used.")], ids=["empty", "unusable"])
def test_without_a_history_no_line_is_shown(open_panel: OpenPanel, answer: object) -> None:
    manager = FakeManager(DONE)
    manager.answers["history"] = answer
    panel = open_panel(manager)

    panel.hear("show")

    expect(panel.page.locator(".gglib-earlier")).to_be_hidden()


def test_clear_deletes_the_history(open_panel: OpenPanel) -> None:
    manager = FakeManager()
    manager.answers["history"] = [PastDownload(DownloadId("owner/a", "Q8_0"), DownloadStatus.FAILED, 9, None, 1.0, 2.0)]
    panel = open_panel(manager)
    panel.press("Earlier · 1")
    manager.answers["history"] = []

    panel.press("Clear earlier downloads")

    assert panel.asked() == [("clear_history",)]
    expect(panel.page.locator(".gglib-earlier")).to_be_hidden()
    expect(panel.page.locator(".gglib-panel :focus")).to_have_count(1)


def test_the_history_is_hidden_while_models_are_shown(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.earlier())

    panel.press("Models")

    expect(panel.button("Earlier · 4")).to_be_hidden()
