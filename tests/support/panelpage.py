"""A panel on a page of its own, for the browser tests that need no Jupyter."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from playwright.sync_api import Browser, BrowserContext, Locator, expect

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


_windows: WeakKeyDictionary[Browser, dict[str, BrowserContext]] = WeakKeyDictionary()


@contextmanager
def panel_pages(browser: Browser) -> Iterator[OpenPanel]:
    """Opens panels, each in a tab of its own; fails where a page's script did.

    Windows of the same kind are opened once for all tests, since one costs more than most tests do. A window whose clock can be
    put forward (`has_clock`) is its test's own.
    """
    windows = _windows.setdefault(browser, {})
    with ExitStack() as stack:
        faults: list[str] = []
        stack.callback(lambda: _no_faults(faults))

        def open_panel(
            manager: Any, *, width: int = 900, height: int = 900, has_clock: bool = False, **options: Any
        ) -> PanelPage:
            options["viewport"] = {"width": width, "height": height}
            kind = repr(options)
            if has_clock:
                window = stack.enter_context(browser.new_context(**options))
            elif kind not in windows:
                window = windows[kind] = browser.new_context(**options)
            else:
                window = windows[kind]
            page = stack.enter_context(window.new_page())
            page.on("pageerror", lambda error: faults.append(str(error)))
            panel = PanelPage(page, manager)
            if has_clock:
                page.clock.install()
            return panel

        yield open_panel


def _no_faults(faults: list[str]) -> None:
    assert not faults, faults
