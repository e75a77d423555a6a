"""VS Code's widget manager and a page like Colab's: the panel is shown, updates, works, and is readable in both themes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Frame, Locator, expect

from gglib_nb.demo.generated import generated_repositories
from tests.support.axe import unreadable_texts
from tests.support.faulty_hub import FaultyHub
from tests.support.hostpages import HostName, HostPage, Theme
from tests.support.jlab import START_TIMEOUT_S
from tests.support.jserver import JupyterServer
from tests.support.labpanel import percent, wait_until_bytes_flow
from tests.support.models import MB

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

F16, Q8_0, Q4_K_M = (f"demo/tiny-llama-GGUF:{label}" for label in ("F16", "Q8_0", "Q4_K_M"))
QUEUE = "%load_ext gglib_nb\n" + "\n".join(f"%gguf queue {one}" for one in (F16, Q8_0, Q4_K_M))

OpenHost = Callable[..., HostPage]


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    """A slow hub, so that the first download lasts as long as a test."""
    with FaultyHub(generated_repositories(), bytes_per_second=MB) as hub:
        yield hub


@pytest.fixture
def open_host(browser: Browser, hub: FaultyHub, tmp_path: Path) -> Iterator[OpenHost]:
    """Opens a page of a host on a server for this test."""
    with ExitStack() as stack:
        server = stack.enter_context(JupyterServer(tmp_path, hub.url))

        def open_page(host: HostName, theme: Theme = "light", *, has_scripts: bool = True) -> HostPage:
            return stack.enter_context(HostPage(browser, server, host, theme, has_scripts=has_scripts))

        yield open_page


def row_of(output: Frame, download_id: str) -> Locator:
    return output.locator(f'.gglib-list [role=listitem][data-key="{download_id}"]')


def pause(row: Locator) -> None:
    row.hover()
    row.locator('[data-action="pause"]').click()


def shown_panel(page: HostPage) -> Frame:
    """The output with the panel, when it shows the queue."""
    page.run("%gguf")
    output = page.outputs()[-1]
    expect(row_of(output, F16)).to_be_visible(timeout=START_TIMEOUT_S * 1000)
    return output


@pytest.mark.parametrize("host", ["vscode", "colab"])
def test_the_panel_updates_and_its_buttons_work(open_host: OpenHost, hub: FaultyHub, host: str) -> None:
    page = open_host(host)
    page.run(QUEUE)
    output = shown_panel(page)

    wait_until_bytes_flow(hub)
    bar = row_of(output, F16).get_by_role("progressbar").first
    expect(bar).to_have_count(1, timeout=START_TIMEOUT_S * 1000)
    shown = percent(bar)
    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))
    pause(row_of(output, Q4_K_M))

    expect(row_of(output, Q4_K_M)).to_have_attribute("data-status", "paused")
    assert page.problems == []


@pytest.mark.parametrize("host", ["vscode", "colab"])
def test_while_a_cell_runs_the_panel_updates_and_a_click_is_answered_afterwards(
    open_host: OpenHost, hub: FaultyHub, host: str, tmp_path: Path
) -> None:
    page = open_host(host)
    page.run(QUEUE)
    output = shown_panel(page)
    wait_until_bytes_flow(hub)
    bar = row_of(output, F16).get_by_role("progressbar").first

    page.start(
        f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'over')!r}).exists():\n    time.sleep(0.05)"
    )
    pause(row_of(output, Q4_K_M))
    shown = percent(bar)
    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))
    expect(row_of(output, Q4_K_M)).to_have_attribute("data-status", "queued")
    (tmp_path / "over").touch()

    expect(row_of(output, Q4_K_M)).to_have_attribute("data-status", "paused")


@pytest.mark.parametrize("host", ["vscode", "colab"])
def test_two_outputs_are_two_views_of_one_queue(open_host: OpenHost, host: str) -> None:
    page = open_host(host)
    page.run(QUEUE)
    page.run("%gguf")
    page.run("%gguf panel")
    first, *_, last = page.outputs() * 2
    rows = (row_of(first, Q4_K_M).first, row_of(last, Q4_K_M).last)
    for row in rows:
        expect(row).to_be_visible(timeout=START_TIMEOUT_S * 1000)

    pause(rows[0])

    for row in rows:
        expect(row).to_have_attribute("data-status", "paused")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("host", ["vscode", "vscode-bridged", "colab"])
def test_the_panel_is_readable_and_follows_the_hosts_theme(open_host: OpenHost, host: str, theme: str) -> None:
    page = open_host(host, theme)
    page.run(QUEUE)
    output = shown_panel(page)
    is_dark = "color => color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) < 384"

    background = output.locator(".gglib-panel").evaluate("panel => getComputedStyle(panel).backgroundColor")

    assert output.evaluate(is_dark, background) == (theme == "dark"), background
    assert unreadable_texts(output) == []


def test_a_page_that_cannot_load_the_script_gets_a_refreshed_table(open_host: OpenHost, hub: FaultyHub) -> None:
    hub.set_speed(MB)
    page = open_host("vscode", has_scripts=False)
    page.run(QUEUE)
    page.run("%gguf")

    table = page.page.get_by_role("table").first
    expect(table).to_contain_text("tiny-llama-GGUF", timeout=START_TIMEOUT_S * 1000)
    expect(page.page.get_by_text("The live panel did not load here.")).to_contain_text("%gguf help")
    first = table.inner_text()
    expect(table).not_to_have_text(first)
    assert page.page.locator(".gglib-panel").count() == 0
