"""Where the bytes of a file are, and that counters are not sent to panels that nobody sees."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, ShardStatus
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import OpenPanel, PanelPage
from tests.support.snapshots import GB, download, shard

pytestmark = pytest.mark.browser
MODEL = "owner/model-GGUF:Q4_K_M"


def moving(size: int = 2, **steps: Any) -> QueuedDownload:
    first = replace(shard(1, size_bytes=2 * GB, downloaded_bytes=GB, status=ShardStatus.DOWNLOADING), **steps)
    rest = (shard(2, size_bytes=2 * GB),)[: size - 1]
    return download(MODEL, "downloading", downloaded_bytes=GB, shards=(first, *rest))


def test_an_opened_files_bar_shows_where_its_bytes_stand_and_what_is_verified(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(moving()))
    panel.hear("look")

    panel.show_queue(moving(arrived_steps=(0, 32, 64, 96), verified_steps=32))

    bar = panel.row("model-GGUF").locator(".gglib-shard .gglib-map").first
    widths = "nodes => nodes.map((node) => Math.round(100 * node.offsetWidth / node.parentElement.offsetWidth))"
    assert bar.locator(".gglib-run").evaluate_all(widths) == [25, 25]
    assert bar.locator(".gglib-proven").evaluate_all(widths) == [25]


def test_the_bar_of_a_download_in_one_file_shows_it_without_being_opened(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(moving(1)))
    panel.hear("look")

    panel.show_queue(moving(1, arrived_steps=(0, 32, 64, 96)))

    expect(panel.row("model-GGUF").locator("> .gglib-bar .gglib-run")).to_have_count(2)


def test_the_kernel_hears_whether_the_panel_is_in_sight(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(moving()))
    panel.hear("look")

    assert looks(panel) == [True]


def looks(panel: PanelPage) -> list[bool]:
    """What the page said of whether it is seen, in order."""
    return [message["is_shown"] for message in panel.sent if message["kind"] == "look"]


def test_the_end_of_a_long_download_is_notified_where_nobody_looks_once_a_person_asked_for_it(
    open_panel: OpenPanel,
) -> None:
    long = replace(moving(), started_at_s=1000.0)
    panel = open_panel(FakeManager(long))
    panel.page.evaluate(
        """() => {
          window.notified = [];
          window.Notification = class { constructor(title, { body }) { window.notified.push(body); } };
          Notification.requestPermission = async () => "granted";
        }"""
    )
    panel.press("Limits")
    panel.page.get_by_label("Notify me when a long download ends").check()
    panel.page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")

    panel.show_queue(replace(long, status=DownloadStatus.COMPLETED, ended_at_s=1090.0))

    assert panel.page.evaluate("notified") == ["model-GGUF Q4_K_M is complete."]


def test_a_panel_that_is_scrolled_away_is_told_nothing_that_only_counts_on_until_it_is_back(
    open_panel: OpenPanel,
) -> None:
    panel = open_panel(FakeManager(moving()))
    panel.page.add_style_tag(content="body { padding-bottom: 5000px }")
    panel.hear("look")
    panel.page.evaluate("scrollTo(0, 4000)")
    panel.page.wait_for_function("scrollY > 3000")
    panel.until(lambda: looks(panel)[-1] is False, "the page is out of sight")
    heard = len(panel.received)

    panel.show_queue(replace(moving(), downloaded_bytes=3 * GB))
    kept = [message for message in panel.received[heard:] if message["kind"] == "changes"]
    panel.page.evaluate("scrollTo(0, 0)")
    panel.until(lambda: looks(panel)[-1], "the page is in sight")
    panel.pump()

    assert kept == []
    expect(panel.row("model-GGUF")).to_contain_text("3.0 GB of 4.0 GB")
