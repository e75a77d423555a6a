"""User stories in a real JupyterLab: actions on the panel take effect on the downloads."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import JupyterLab
from tests.support.labpanel import OpenNotebook, button_of, nothing_flows, percent, row_of, wait_until_bytes_flow
from tests.support.models import MB, one_model

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def until_exists(path: Path) -> str:
    """A cell that runs until this file exists."""
    return f"while not os.path.exists({str(path)!r}):\n    time.sleep(0.05)"


@pytest.mark.slow
def test_the_panel_shows_an_updating_bar_for_every_shard(opened: OpenNotebook, hub: FaultyHub) -> None:
    hub.set_speed(MB)
    page = opened("%gguf queue demo/sharded-llama-GGUF:Q4_K_M", "%gguf")
    page.run(1)
    page.run(2)
    row = row_of(page, "demo/sharded-llama-GGUF:Q4_K_M")
    opener = row.get_by_role("button", name="Details of")
    expect(opener).to_have_attribute("aria-expanded", "true")
    opener.click()
    opener.click()  # opened by the user, it stays open when the download has ended
    bars = row.get_by_role("progressbar", name=re.compile(r"Progress of sharded-llama-Q4_K_M-0000\d-of-00003\.gguf"))

    expect(bars).to_have_count(3)
    expect(bars.first).not_to_have_attribute("aria-valuenow", "0")
    early = sum(map(percent, bars.all()))
    hub.set_speed()
    expect(bars.first).to_have_attribute("aria-valuenow", "100")
    late = sum(map(percent, bars.all()))
    expect(row).to_have_attribute("data-status", "completed")

    assert 0 < early < late
    assert page.problems == []


def test_cancel_on_the_panel_works_while_a_cell_sleeps(opened: OpenNotebook, hub: FaultyHub, tmp_path: Path) -> None:
    page = opened(
        "%gguf queue demo/tiny-llama-GGUF:F16",
        "%gguf",
        until_exists(tmp_path / "over"),
        "print([str(item.id) for item in gglib_nb.get_manager().snapshot.recent_cancelled])",
    )
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    page.start(3)
    page.wait_until_busy()

    button_of(page, "demo/tiny-llama-GGUF:F16", "Cancel").click()

    hub.wait_for(nothing_flows)
    expect(row_of(page, "demo/tiny-llama-GGUF:F16")).to_have_attribute("data-status", "cancelled")
    assert page.is_running(3)
    (tmp_path / "over").touch()
    assert page.run(4) == "['demo/tiny-llama-GGUF:F16']\n"


@pytest.mark.slow
def test_reorder_by_button_changes_the_order_that_status_prints(opened: OpenNotebook, hub: FaultyHub) -> None:
    hub.set_speed(MB)
    for name in ("first", "second", "third"):
        hub.add_repository(one_model(f"demo/{name}", 200 * MB))
    page = opened("%gguf queue demo/first\n%gguf queue demo/second\n%gguf queue demo/third", "%gguf", "%gguf status")
    page.run(1)
    page.run(2)
    before = page.run(3)

    button_of(page, "demo/third:Q4_K_M", "Move third Q4_K_M up").click()
    expect(button_of(page, "demo/third:Q4_K_M", "Move third Q4_K_M up")).to_be_disabled()

    assert re.findall(r"demo/(\w+):", before) == ["first", "second", "third"]
    assert re.findall(r"demo/(\w+):", page.run(3)) == ["first", "third", "second"]


@pytest.mark.slow
def test_a_reload_during_a_download_shows_the_current_state(opened: OpenNotebook, hub: FaultyHub) -> None:
    page = opened("%gguf queue demo/tiny-llama-GGUF:F16", "%gguf")
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    page.save()

    page.reload()
    row = row_of(page, "demo/tiny-llama-GGUF:F16")
    bar = row.get_by_role("progressbar")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    shown = percent(bar)
    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))
    button_of(page, "demo/tiny-llama-GGUF:F16", "Cancel").click()

    expect(row).to_have_attribute("data-status", "cancelled")


@pytest.mark.slow
def test_a_saved_widget_without_its_kernel_shows_the_last_state_with_disabled_buttons(
    opened: OpenNotebook, lab_with_other_settings: JupyterLab
) -> None:
    page = opened("%gguf queue demo/tiny-llama-GGUF:Q2_K", "%gguf", on=lab_with_other_settings)
    page.run(1)
    page.run(2)
    expect(row_of(page, "demo/tiny-llama-GGUF:Q2_K")).to_have_attribute("data-status", "completed")
    page.save()
    lab_with_other_settings.shut_down_kernels()

    page.reload()
    panel = page.page.locator(".gglib-panel")

    expect(row_of(page, "demo/tiny-llama-GGUF:Q2_K")).to_have_attribute("data-status", "completed")
    expect(panel.get_by_role("button", name="Show variants")).to_be_disabled()


@pytest.mark.slow
def test_without_subshells_a_click_waits_for_the_cell_with_a_message(
    opened: OpenNotebook, lab_with_other_settings: JupyterLab, hub: FaultyHub, tmp_path: Path
) -> None:
    page = opened(
        "%gguf queue demo/tiny-llama-GGUF:F16", "%gguf", until_exists(tmp_path / "over"), on=lab_with_other_settings
    )
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    page.start(3)
    page.wait_until_busy()
    cancel = button_of(page, "demo/tiny-llama-GGUF:F16", "Cancel")

    cancel.click()

    expect(cancel).to_have_attribute("aria-busy", "true")
    (tmp_path / "over").touch()
    expect(row_of(page, "demo/tiny-llama-GGUF:F16")).to_have_attribute("data-status", "cancelled")
    hub.wait_for(nothing_flows)


@pytest.mark.slow
def test_the_page_sends_requests_only_to_its_own_server(opened: OpenNotebook, lab: JupyterLab) -> None:
    asked: list[Any] = []
    page = opened("%gguf queue demo/tiny-llama-GGUF:Q2_K", "%gguf")
    page.page.on("request", lambda request: asked.append(request.url))

    page.run(1)
    page.run(2)
    expect(row_of(page, "demo/tiny-llama-GGUF:Q2_K")).to_have_attribute("data-status", "completed")

    own = (lab.url, lab.url.replace("http", "ws"), "blob:", "data:")
    assert [url for url in asked if not url.startswith(own)] == []
