"""The byte map of a file; rows that are out of view; and that no counters are sent to invisible panels."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.snapshot import QueuedDownload
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import OpenPanel, PanelPage
from tests.support.snapshots import GB, download, shard

pytestmark = pytest.mark.browser
MODEL = "owner/model-GGUF:Q4_K_M"


def moving(size: int = 2, **steps: Any) -> QueuedDownload:
    first = replace(shard(1, size_bytes=2 * GB, downloaded_bytes=GB, status=ShardStatus.DOWNLOADING), **steps)
    rest = (shard(2, size_bytes=2 * GB),)[: size - 1]
    return download(MODEL, "downloading", downloaded_bytes=GB, shards=(first, *rest))


def test_an_opened_files_bar_shows_its_byte_ranges_and_verified_part(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(moving()))
    panel.hear("look")

    panel.show_queue(moving(arrived_steps=(0, 32, 64, 96), verified_steps=32))

    bar = panel.row("model-GGUF").locator(".gglib-shard .gglib-map").first
    widths = "nodes => nodes.map((node) => Math.round(100 * node.offsetWidth / node.parentElement.offsetWidth))"
    assert bar.locator(".gglib-run").evaluate_all(widths) == [25, 25]
    assert bar.locator(".gglib-proven").evaluate_all(widths) == [25]


def test_the_bar_of_a_single_file_shows_its_byte_ranges_without_expanding(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(moving(1)))
    panel.hear("look")

    panel.show_queue(moving(1, arrived_steps=(0, 32, 64, 96)))

    expect(panel.row("model-GGUF").locator("> .gglib-bar .gglib-run")).to_have_count(2)


def stop_the_clock(panel: PanelPage) -> None:
    """Rows out of view, which are drawn less often, are not drawn because their time has come."""
    panel.page.evaluate("const at = performance.now(); performance.now = () => at; 0")


def test_a_download_out_of_view_shows_its_new_amount_once_it_is_scrolled_into_view(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(*many(0)))
    panel.hear("look")
    stop_the_clock(panel)
    last = panel.row("model-29")
    expect(last).not_to_be_in_viewport()

    for step in range(1, 6):
        panel.show_queue(*many(step * GB // 10))
    last.scroll_into_view_if_needed()

    expect(last).to_contain_text("500.0 MB of 4.0 GB")


def test_the_end_of_a_download_out_of_view_is_rendered_at_once(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(*many(0)))
    panel.hear("look")
    stop_the_clock(panel)

    for step in range(1, 6):
        panel.show_queue(*many(step * GB // 10))
    panel.show_queue(*many(GB)[:-1], replace(many(GB)[-1], status=DownloadStatus.FINALIZING))

    expect(panel.row("model-29")).to_have_attribute("data-status", "finalizing")
    expect(panel.row("model-29")).not_to_be_in_viewport()


def many(downloaded_bytes: int) -> list[QueuedDownload]:
    """More downloads than fit into the list, all moving."""
    file = shard(1, size_bytes=2 * GB, downloaded_bytes=downloaded_bytes, status=ShardStatus.DOWNLOADING)
    ids = [f"owner/model-{number}-GGUF:Q4_K_M" for number in range(30)]
    return [download(one, "downloading", downloaded_bytes=downloaded_bytes, shards=(file,)) for one in ids]


def test_the_kernel_is_notified_whether_the_panel_is_visible(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(moving()))
    panel.hear("look")

    assert looks(panel) == [True]


def looks(panel: PanelPage) -> list[bool]:
    """The page's visibility messages, in order."""
    return [message["is_shown"] for message in panel.sent if message["kind"] == "look"]


def test_a_long_download_ends_with_a_notification_if_enabled_and_the_page_is_hidden(
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


def test_a_panel_scrolled_out_of_view_gets_no_progress_until_visible_again(
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
