"""What the panel shows when its kernel is interrupted, restarted, killed or shut down, and in a second tab.

The rule for all: the panel never shows progress that does not happen, and always says what to do next.
"""

import re
from collections.abc import Callable

import psutil
import pytest
from playwright.sync_api import Locator, expect

from tests.support.faulty_hub import FaultyHub
from tests.support.jlab import JupyterLab, NotebookPage
from tests.support.kernel import is_engine, is_running, processes_gone, wait_until
from tests.support.labpanel import OpenNotebook, button_of, nothing_flows, percent, row_of, wait_until_bytes_flow
from tests.support.models import MB

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = "demo/tiny-llama-GGUF:F16"
FILE = "tiny-llama-F16.gguf"
FILE_BYTES = 58_850_432
# Two seconds of the hub's line, including data in the sockets.
MOST_LOST_BYTES = 8 * MB
QUEUE = f"%gguf queue {MODEL}"
PID = "print(os.getpid())"
# A server checks for a dead kernel every 3 s; a panel sends a request after 5 s without news and, without an answer, 10
# s and 20 s later again.
NOTICED_WITHIN_MS = 60_000
STOPPED = "The kernel has stopped, and so have its downloads."


def panel_of(page: NotebookPage) -> Locator:
    return page.page.locator(".gglib-panel")


def engine_of(kernel_pid: int) -> int:
    return next(child.pid for child in psutil.Process(kernel_pid).children() if is_engine(child))


def restart(page: NotebookPage, kernel_pid: int) -> None:
    page.restart_kernel()


def kill(page: NotebookPage, kernel_pid: int) -> None:
    """`kill -9`; the server starts another kernel and JupyterLab shows a dialog."""
    psutil.Process(kernel_pid).kill()
    page.page.locator(".jp-Dialog button").click(timeout=60_000)
    page.wait_for_kernel()


def two_tabs(opened: OpenNotebook, hub: FaultyHub) -> tuple[NotebookPage, NotebookPage]:
    """The same notebook in two tabs, with a download that takes a minute."""
    first = opened(QUEUE, "%gguf")
    first.run(1)
    first.run(2)
    wait_until_bytes_flow(hub)
    first.save()
    return first, opened()


def says_that_it_has_stopped(panel: Locator) -> None:
    expect(panel).to_contain_text(STOPPED, timeout=NOTICED_WITHIN_MS)
    expect(row_of(panel, MODEL)).to_contain_text("stopped with the kernel")
    expect(panel.get_by_role("button", name="Show variants")).to_be_disabled()
    expect(button_of(panel, MODEL, "Cancel")).to_be_hidden()
    expect(row_of(panel, MODEL).locator(".gglib-facts")).to_have_text(re.compile(r"^[\d.]+ MB of 58.9 MB$"))
    expect(panel.locator(".gglib-pace")).to_have_text("")


@pytest.mark.parametrize("end", [restart, kill])
def test_a_panel_reports_that_its_kernel_ended_and_what_to_do(
    opened: OpenNotebook, hub: FaultyHub, end: Callable[[NotebookPage, int], None]
) -> None:
    page = opened(QUEUE, "%gguf", PID)
    page.run(1)
    page.run(2)
    kernel_pid = int(page.run(3))
    engine_pid = engine_of(kernel_pid)
    wait_until_bytes_flow(hub)

    with processes_gone(engine_pid):
        end(page, kernel_pid)

        says_that_it_has_stopped(panel_of(page))
        wait_until(lambda: not is_running(engine_pid), 30, "the engine's end")
    hub.wait_for(nothing_flows)


@pytest.mark.parametrize("end", [restart, kill])
def test_after_the_kernel_ended_one_gguf_line_resumes_the_queue(
    opened: OpenNotebook, hub: FaultyHub, end: Callable[[NotebookPage, int], None]
) -> None:
    page = opened(f"{QUEUE}\n%gguf queue demo/tiny-llama-GGUF:Q8_0\n%gguf pause Q8_0", "%gguf", PID)
    page.run(1)
    page.run(2)
    hub.wait_for(lambda records: sum(record.bytes_sent for record in records) > 20 * MB)
    hub.set_speed(MB / 2)
    end(page, int(page.run(3)))
    before_bytes = hub.bytes_sent(FILE)

    assert page.run(0) == ""
    said = page.run(2)
    expect(panel_of(page)).to_have_count(1)
    bar = row_of(page, MODEL).get_by_role("progressbar", name="Progress of")
    expect(bar).to_have_attribute("aria-valuenow", re.compile("^[2-9][0-9]$"))
    expect(row_of(page, "demo/tiny-llama-GGUF:Q8_0")).to_have_attribute("data-status", "paused")
    notice = "Took over 2 downloads from a previous kernel: 1 running, 1 paused."
    assert notice in said
    expect(panel_of(page).locator(".gglib-notices")).to_contain_text(notice)
    button_of(page, "demo/tiny-llama-GGUF:Q8_0", "Remove").click()
    expect(panel_of(page).locator(".gglib-notices")).to_be_hidden()
    hub.set_speed(None)

    expect(row_of(page, MODEL)).to_have_attribute("data-status", "completed")
    assert before_bytes > 20 * MB
    assert hub.bytes_sent(FILE) < FILE_BYTES + MOST_LOST_BYTES


def test_after_a_restart_earlier_downloads_are_in_a_collapsed_section(opened: OpenNotebook, hub: FaultyHub) -> None:
    small = "demo/tiny-llama-GGUF:Q2_K"
    page = opened(f"%gguf queue {small}", "%gguf", "%gguf history")
    page.run(1)
    page.run(2)
    expect(row_of(page, small)).to_have_attribute("data-status", "completed")
    expect(panel_of(page).get_by_role("button", name="Earlier")).to_be_hidden()

    page.restart_kernel()
    page.run(0)
    page.run(2)
    panel_of(page).get_by_role("button", name="Earlier · 1").click()

    past = panel_of(page).get_by_role("list", name="Earlier").get_by_role("listitem")
    expect(past).to_have_count(1)
    expect(past).to_contain_text("completed")
    expect(past).to_contain_text("MB/s")
    assert small in page.run(3)


def test_a_second_notebook_shows_the_firsts_download_and_joins_it(
    opened: OpenNotebook, lab: JupyterLab, hub: FaultyHub
) -> None:
    first = opened(QUEUE, "%gguf")
    first.run(1)
    wait_until_bytes_flow(hub)
    second = opened(QUEUE, "%gguf", f"%gguf cancel {MODEL}", name="second.ipynb")
    second.run(2)
    others = panel_of(second).locator(f'[role="listitem"][data-key$=" {MODEL}"]')

    expect(others).to_have_count(1)
    expect(others).to_contain_text("test_a_second_notebook")
    expect(others).to_contain_text("B/s")
    second.run(1)
    expect(row_of(second, MODEL)).to_contain_text("is downloading it")
    assert "continues it" in second.run(3)
    hub.set_speed(None)

    first.run(2)
    expect(row_of(first, MODEL)).to_have_attribute("data-status", "completed")


def test_a_panel_reports_that_its_kernel_was_shut_down(opened: OpenNotebook, lab: JupyterLab, hub: FaultyHub) -> None:
    page = opened(QUEUE, "%gguf")
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)

    lab.shut_down_kernels()

    says_that_it_has_stopped(panel_of(page))


def test_an_interrupt_ends_the_cell_without_affecting_panel_or_download(opened: OpenNotebook, hub: FaultyHub) -> None:
    page = opened(QUEUE, "%gguf", "time.sleep(600)")
    page.run(1)
    page.run(2)
    wait_until_bytes_flow(hub)
    page.start(3)
    page.wait_until_busy()
    bar = row_of(page, MODEL).get_by_role("progressbar", name="Progress of")

    page.command("notebook:interrupt-kernel")
    expect(page.page.locator(".jp-CodeCell").nth(3)).to_contain_text("KeyboardInterrupt")
    shown = percent(bar)

    expect(bar).not_to_have_attribute("aria-valuenow", str(shown))
    expect(panel_of(page)).to_contain_text("B/s")
    button_of(page, MODEL, "Pause").click()
    expect(row_of(page, MODEL)).to_have_attribute("data-status", "paused")


def test_two_tabs_on_one_kernel_stay_in_sync(opened: OpenNotebook, hub: FaultyHub) -> None:
    first, second = two_tabs(opened, hub)
    bar = row_of(second, MODEL).get_by_role("progressbar", name="Progress of")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    button_of(second, MODEL, "Pause").click()
    expect(row_of(first, MODEL)).to_have_attribute("data-status", "paused")
    expect(row_of(second, MODEL)).to_have_attribute("data-status", "paused")
    amounts = [row_of(tab, MODEL).locator(".gglib-facts").inner_text() for tab in (first, second)]
    button_of(first, MODEL, "Resume").click()

    expect(row_of(second, MODEL)).to_have_attribute("data-status", "downloading")
    expect(row_of(first, MODEL)).to_have_attribute("data-status", "downloading")
    assert amounts[0] == amounts[1]


def test_a_tab_reports_that_another_tab_restarted_its_kernel(opened: OpenNotebook, hub: FaultyHub) -> None:
    first, second = two_tabs(opened, hub)
    expect(row_of(second, MODEL)).to_be_visible()

    first.restart_kernel()

    expect(panel_of(second)).to_contain_text(
        re.compile("run the cell again|in the next kernel"), timeout=NOTICED_WITHIN_MS
    )
    expect(row_of(second, MODEL).locator(".gglib-facts")).to_have_text(re.compile(r"^[\d.]+ MB of 58.9 MB$"))
    expect(panel_of(second).locator(".gglib-pace")).to_have_text("")
