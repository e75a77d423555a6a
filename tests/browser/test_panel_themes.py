"""In every host, light and dark, each text of the panel has a contrast of at least 4.5 (axe's rule)."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from gglib_nb.notebook.render import render_html
from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import THEMES, OpenPanel, PanelPage

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def choose(panel: PanelPage) -> None:
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")
    panel.press("Download Q4_K_M")


STATES: dict[str, tuple[Callable[[], FakeManager], Callable[[PanelPage], None]]] = {
    "busy": (scenes.busy, lambda panel: panel.press("Limits")),
    "errors": (scenes.errors, lambda panel: None),
    "models": (scenes.models, lambda panel: panel.press("Models")),
    "choosing": (scenes.choosing, choose),
}


def faint_texts(panel: PanelPage, axe: str, selector: str) -> list[str]:
    panel.page.evaluate(axe)
    found = panel.page.evaluate("selector => axe.run(selector, {runOnly: ['color-contrast']})", selector)
    assert found["passes"], "axe found no text"
    faint = [node for rule in (*found["violations"], *found["incomplete"]) for node in rule["nodes"]]
    return [
        f"{node['html'][:90]} {node['any'][0]['data']}" for node in faint if node["any"][0]["data"].get("contrastRatio")
    ]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("state", STATES)
def test_every_panel_text_has_enough_contrast(open_panel: OpenPanel, axe: str, theme: str, state: str) -> None:
    make, act = STATES[state]
    panel = open_panel(make(), reduced_motion="reduce")
    panel.page.add_style_tag(content=THEMES[theme])
    act(panel)

    assert faint_texts(panel, axe, ".gglib-panel") == []


@pytest.mark.parametrize("theme", ["Colab dark", "VS Code dark"])
def test_the_background_and_the_text_come_from_the_same_host(open_panel: OpenPanel, theme: str) -> None:
    panel = open_panel(scenes.busy())
    panel.page.add_style_tag(content=THEMES[theme])

    body = panel.page.evaluate("getComputedStyle(document.body).backgroundColor")
    expect(panel.page.locator(".gglib-panel")).to_have_css("background-color", body)


@pytest.mark.parametrize("theme", ["Colab dark", "VS Code dark", "JupyterLab dark"])
def test_every_static_page_text_has_enough_contrast(open_panel: OpenPanel, axe: str, theme: str) -> None:
    manager = scenes.busy()
    panel = open_panel(manager)
    panel.page.add_style_tag(content=f"{THEMES[theme]} body {{ color: #d5d5d5 }}")
    panel.page.evaluate(
        "html => document.body.append(Object.assign(document.createElement('main'), {innerHTML: html}))",
        render_html(manager.snapshot),
    )

    assert faint_texts(panel, axe, "main") == []
