"""Makes the pictures of the panel and of a plan in this folder.

    python -m docs.make_screenshots [name ...]

From invented queues (tests/support/scenes.py) on a page without Jupyter, so that they show the same on every run. Those
of hosts (`vscode-light`, `colab-dark`, …) are of a real kernel that downloads from the embedded hub.
"""

import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from gglib_nb.demo.generated import generated_repositories
from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.faulty_hub import FaultyHub
from tests.support.hostpages import HostName, HostPage, Theme
from tests.support.jserver import JupyterServer
from tests.support.panelpage import DARK, PanelPage
from tests.support.plan_values import a_plan_of_25, plan_html

FOLDER = Path(__file__).parent
SECONDS_OF_RATE = 90


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: Its file is `panel-<name>.png`.
        scene: The queue it shows.
        act: User actions before it is taken.
        width: Of the window, in CSS pixels.
        is_dark: JupyterLab's dark theme.
        options: More of the browser's context, such as forced colours.
    """

    name: str
    scene: Callable[[], FakeManager]
    act: Callable[[PanelPage], None] = lambda _panel: None
    width: int = 880
    is_dark: bool = False
    options: tuple[tuple[str, Any], ...] = ()


def draw_rate(panel: PanelPage) -> None:
    """Simulates a minute and a half of rates."""
    for second in range(SECONDS_OF_RATE):
        snapshot = panel.manager.snapshot
        ended = (*snapshot.recent_failures, *snapshot.recent_completed)
        panel.manager.show(*snapshot.items, *ended, bytes_per_second=_rate(second), eta_seconds=512.0)
        panel.pump()
        panel.page.clock.run_for(1000)


def _rate(second: int) -> float:
    # A line that starts, slows down in the middle and recovers, with small variations.
    left = SECONDS_OF_RATE - 1 - second
    uneven = math.sin(second / 2.3) * 0.03 + math.sin(second / 5.1 + 1) * 0.06
    sag = 0.45 * math.exp(-(((second - 52) / 7) ** 2))
    rise = 1 - math.exp(-second / 3)
    return 58.4e6 * (1.0 if left == 0 else rise * (0.97 + uneven - sag))


def choose(panel: PanelPage) -> None:
    """Lists the variants of a repository."""
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")


def refuse(panel: PanelPage) -> None:
    """Retries a download with a full queue."""
    panel.manager.answers["retry"] = scenes.queue_full()
    panel.press("Retry DeepSeek-R1-Distill-Llama-70B-GGUF Q4_K_M")


PICTURES = (
    Picture("light", scenes.busy, draw_rate),
    Picture("dark", scenes.busy, draw_rate, is_dark=True),
    Picture("narrow", scenes.halfway, width=400),
    Picture("wide", scenes.halfway, draw_rate, width=1400),
    Picture("50-rows", scenes.many),
    Picture("variants", scenes.choosing, choose),
    Picture("errors", scenes.errors, refuse),
    Picture("done", scenes.done),
    Picture("models", scenes.models, lambda panel: panel.press("Models")),
    Picture("empty", scenes.empty),
    Picture("no-kernel", scenes.busy, lambda panel: panel.disconnect()),
    Picture("high-contrast", scenes.busy, options=(("forced_colors", "active"), ("color_scheme", "dark"))),
)


def take(browser: Browser, picture: Picture) -> None:
    """Opens the panel in its own window and writes the file."""
    context = browser.new_context(
        viewport={"width": picture.width, "height": 1100}, device_scale_factor=1.5, **dict(picture.options)
    )
    page = context.new_page()
    page.clock.install()
    panel = PanelPage(page, picture.scene())
    page.add_style_tag(content="body { margin: 8px; }" + (DARK if picture.is_dark else ""))
    picture.act(panel)
    panel.pump()
    page.locator(".gglib-panel").screenshot(path=FOLDER / f"panel-{picture.name}.png", animations="disabled")
    context.close()


def take_plan(browser: Browser) -> None:
    """Shows the output of `%gguf plan` alone, and writes `plan.png`."""
    page = browser.new_page(viewport={"width": 1200, "height": 900}, device_scale_factor=1.5)
    style = "width: fit-content; padding: 16px; font: 13px sans-serif"  # as in an output of JupyterLab
    page.set_content(f'<!doctype html><div id="plan" style="{style}">{plan_html(a_plan_of_25())}</div>')
    page.locator("#plan").screenshot(path=FOLDER / "plan.png")
    page.close()


HOSTS: tuple[tuple[HostName, Theme], ...] = (
    ("vscode", "light"), ("vscode", "dark"), ("colab", "light"), ("colab", "dark"),
)  # fmt: skip
QUEUED = "\n".join(f"%gguf queue demo/tiny-llama-GGUF:{label}" for label in ("F16", "Q8_0", "Q4_K_M"))


def take_host(browser: Browser, host: HostName, theme: Theme) -> None:
    """Queues three models in a page of a host, and writes the file while the first is downloading."""
    hub = FaultyHub(generated_repositories(), bytes_per_second=1_500_000)
    with (
        hub,
        tempfile.TemporaryDirectory() as folder,
        JupyterServer(Path(folder), hub.url) as server,
        HostPage(browser, server, host, theme) as page,
    ):
        page.run(f"%load_ext gglib_nb\n{QUEUED}")
        page.run("%gguf")
        output = page.outputs()[-1]
        expect(output.locator(".gglib-panel")).to_contain_text(" left", timeout=60_000)
        page.page.wait_for_timeout(15_000)  # for a graph of rates
        page.page.set_viewport_size({"width": 900, "height": 480})
        page.page.screenshot(path=FOLDER / f"panel-{host}-{theme}.png", animations="disabled")


def main(names: list[str]) -> None:
    """Takes the pictures of these names, or all."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for host, theme in HOSTS:
            if not names or f"{host}-{theme}" in names:
                take_host(browser, host, theme)
        for picture in PICTURES:
            if not names or picture.name in names:
                take(browser, picture)
        if not names or "plan" in names:
            take_plan(browser)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
