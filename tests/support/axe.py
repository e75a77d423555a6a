"""axe-core, which finds accessibility faults on a page."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Frame

_SCRIPT = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_UNREADABLE = """async () => {
    const { violations } = await axe.run(".gglib-panel", { runOnly: ["color-contrast"], resultTypes: ["violations"] });
    return violations.flatMap(({ nodes }) => nodes.map(({ html, any: [{ data }] }) =>
        `${data.contrastRatio} of ${data.fgColor} on ${data.bgColor}: ${html.slice(0, 120)}`));
}"""


def axe_script() -> str:
    """The text of axe-core; without it the test is skipped, or fails if a browser is required."""
    if not _SCRIPT.is_file():
        required = os.environ.get("GGLIB_NB_REQUIRE_BROWSER")
        (pytest.fail if required else pytest.skip)("axe-core is not installed: npm ci")
    return _SCRIPT.read_text(encoding="utf-8")


def unreadable_texts(frame: Frame) -> list[str]:
    """The texts of the panel whose contrast is below 4.5 (3 for large ones)."""
    frame.evaluate(axe_script())
    found: list[str] = frame.evaluate(_UNREADABLE)
    return found
