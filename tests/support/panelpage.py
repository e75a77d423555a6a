"""A panel on a page of its own, for the browser tests that need no Jupyter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, expect

from gglib_nb.notebook.panel import Panel
from tests.support.fakehost import LightHost

OpenPanel = Callable[..., "PanelPage"]

# JupyterLab's own dark theme, the variables that the panel reads.
DARK = """
body { background: #111; color-scheme: dark; --jp-layout-color1: #111; --jp-ui-font-color1: rgba(255, 255, 255, .87);
  --jp-ui-inverse-font-color0: #000; --jp-brand-color1: #64b5f6; --jp-success-color1: #81c784;
  --jp-warn-color1: #ffb74d; --jp-error-color1: #e57373; }
"""


class PanelPage(LightHost):
    """A panel over a manager, mostly a fake one, and how a person finds their way on it."""

    def __init__(self, page: Any, manager: Any) -> None:
        self.manager = manager
        super().__init__(page, lambda: Panel(manager, pace_s=0.0))

    def show_queue(self, *items: Any, **fields: Any) -> None:
        """The queue becomes this, and the page has heard of it."""
        self.manager.show(*items, **fields)
        self.pump()

    def button(self, name: str) -> Locator:
        """A button by its label."""
        return self.page.get_by_role("button", name=name, exact=True).first

    def press(self, name: str) -> None:
        """Clicks it, and waits for what follows."""
        self.button(name).click()
        self.pump()

    def row(self, text: str) -> Locator:
        """The row in which the text stands."""
        return self.page.get_by_role("listitem").filter(has_text=text).first

    def rows(self) -> list[str]:
        """The names of the rows in the document, from top to bottom."""
        return self.page.locator(".gglib-row .gglib-name").all_inner_texts()

    def sees(self, text: str) -> None:
        """Fails unless a person sees the text."""
        expect(self.page.get_by_text(text).first).to_be_visible(timeout=3000)

    def asked(self) -> list[tuple[Any, ...]]:
        """What the manager was asked for: the operation and its arguments."""
        return [(operation, *arguments) for operation, arguments, _ in self.manager.asked]


@contextmanager
def panel_pages(browser: Browser) -> Iterator[OpenPanel]:
    """Opens panels, each on a page of its own; fails where a page's script did."""
    contexts = []
    faults: list[str] = []

    def open_panel(manager: Any, *, width: int = 900, height: int = 900, **options: Any) -> PanelPage:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        return PanelPage(page, manager)

    yield open_panel
    for context in contexts:
        context.close()
    assert not faults, faults
