"""A panel on its own page, for the browser tests that need no Jupyter."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from playwright.sync_api import Browser, BrowserContext, Locator, expect

from gglib_nb.notebook.panel import Panel
from tests.support.fakehost import LightHost

OpenPanel = Callable[..., "PanelPage"]

# ipywidgets' labvariables.css, which VS Code and Colab set on the root of every page, dark or not.
_IPYWIDGETS_LIGHT = """
:root { --jp-layout-color1: white; --jp-ui-font-color1: rgba(0, 0, 0, .87); --jp-ui-font-color2: rgba(0, 0, 0, .54);
  --jp-ui-inverse-font-color0: white; --jp-brand-color1: #1976d2; --jp-success-color1: #4caf50; --jp-warn-color1: #ff9800;
  --jp-error-color1: #f44336; }
"""


def _vscode(scheme: str, background: str, text: str, button: str | None, on_button: str) -> str:
    behind = "" if button is None else f"--vscode-button-background: {button};"
    return f"""{_IPYWIDGETS_LIGHT}
:root {{ --vscode-editor-background: {background}; --vscode-editor-foreground: {text}; --vscode-foreground: {text};
  {behind} --vscode-button-foreground: {on_button}; }}
body {{ background: {background}; color-scheme: {scheme}; }}"""


def _colab(surface: str, text: str) -> str:
    # Colab declares no colour scheme.
    return f"""{_IPYWIDGETS_LIGHT}
:root {{ --colab-primary-surface-color: {surface}; --colab-primary-text-color: {text};
  --jp-ui-font-color1: var(--colab-primary-text-color); }}
body {{ background: {surface}; }}"""


# The variables of JupyterLab's dark theme that the panel reads.
DARK = """
body { background: #111; color-scheme: dark; --jp-layout-color1: #111; --jp-ui-font-color1: rgba(255, 255, 255, .87);
  --jp-ui-inverse-font-color0: #000; --jp-brand-color1: #64b5f6; --jp-success-color1: #81c784;
  --jp-warn-color1: #ffb74d; --jp-error-color1: #e57373; }
"""
HIGH_CONTRAST = """
body { background: #111; color-scheme: dark; --jp-layout-color1: #111; --jp-ui-font-color1: #fff;
  --jp-ui-inverse-font-color0: white; --jp-brand-color1: #319bf2; }
"""
LIGHT = """
body { background: white; --jp-layout-color1: white; --jp-ui-font-color1: rgba(0, 0, 0, .87);
  --jp-ui-inverse-font-color0: white; --jp-brand-color1: #1976d2; --jp-success-color1: #388e3c; --jp-warn-color1: #f57c00;
  --jp-error-color1: #d32f2f; }
"""

THEMES = {
    "JupyterLab light": LIGHT,
    "JupyterLab dark": DARK,
    "Colab light": _colab("white", "#212121"),
    "Colab dark": _colab("#383838", "#d5d5d5"),
    "VS Code light": _vscode("light", "#ffffff", "#3b3b3b", "#005fb8", "#ffffff"),
    "VS Code dark": _vscode("dark", "#1f1f1f", "#cccccc", "#0078d4", "#ffffff"),
    "VS Code dark high contrast": _vscode("dark", "#000000", "#ffffff", None, "#ffffff"),
    "VS Code light high contrast": _vscode("light", "#ffffff", "#292929", "#0f4a85", "#ffffff"),
    "JupyterLab dark high contrast": HIGH_CONTRAST,
    "marimo dark": "body { background: #181c1a; color-scheme: dark; }",
}
"""What each host declares, as far as the panel reads it."""


class PanelPage(LightHost):
    """A panel of a manager, usually a fake one, with locators for its parts."""

    def __init__(self, page: Any, manager: Any, *, has_signal: bool = True) -> None:
        self.manager = manager
        super().__init__(page, lambda: Panel(manager, pace_s=0.0), has_signal=has_signal)

    def show_queue(self, *items: Any, **fields: Any) -> None:
        """Changes the queue and waits until the page has received it."""
        self.manager.show(*items, **fields)
        self.pump()

    def button(self, name: str) -> Locator:
        """A button by its label."""
        return self.page.get_by_role("button", name=name, exact=True).first

    def press(self, name: str) -> None:
        """Clicks it, and waits for the result."""
        self.button(name).click()
        self.pump()

    def row(self, text: str) -> Locator:
        """The row that contains the text."""
        return self.page.get_by_role("listitem").filter(has_text=text).first

    def rows(self) -> list[str]:
        """The names of the rows in the document, from top to bottom."""
        return self.page.locator(".gglib-row .gglib-name").all_inner_texts()

    def sees(self, text: str) -> None:
        """Fails unless the text is visible."""
        expect(self.page.get_by_text(text).first).to_be_visible()

    def asked(self) -> list[tuple[Any, ...]]:
        """The manager's calls: operation and arguments."""
        return [(operation, *arguments) for operation, arguments, _ in self.manager.asked]


_windows: WeakKeyDictionary[Browser, dict[str, BrowserContext]] = WeakKeyDictionary()


@contextmanager
def panel_pages(browser: Browser) -> Iterator[OpenPanel]:
    """Opens panels, each in its own tab; fails if a page's script failed.

    Windows of the same kind are opened once for all tests, because opening one takes longer than most tests. A window
    whose clock can be advanced (`has_clock`) belongs to one test.
    """
    windows = _windows.setdefault(browser, {})
    with ExitStack() as stack:
        faults: list[str] = []
        stack.callback(lambda: _no_faults(faults))

        def open_panel(
            manager: Any,
            *,
            width: int = 900,
            height: int = 900,
            has_clock: bool = False,
            has_signal: bool = True,
            **options: Any,
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
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: faults.append(str(error)))
            if has_clock:
                page.clock.install()
            return PanelPage(page, manager, has_signal=has_signal)

        yield open_panel


def _no_faults(faults: list[str]) -> None:
    assert not faults, faults
