"""Pages like VS Code's webview and Colab's, in Chromium, with a real kernel of a real Jupyter server behind them.

Their scripts are in tests/support/hosts/: VS Code's is its real widget manager; Colab's, which is not published,
imitates how Colab stores and passes on widgets. Colours are from the hosts' own light and dark themes. Knows nothing
about gglib_nb.
"""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Frame, Page, Route

from tests.support.jserver import JupyterServer

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "support" / "hosts"
MODULES = ROOT / "node_modules"
SCRIPTS = Path(sys.prefix) / "share" / "jupyter" / "nbextensions"

HostName = Literal["vscode", "vscode-bridged", "colab"]
Theme = Literal["light", "dark"]

# The themes "Light Modern" and "Dark Modern", as VS Code sets them on the root element of a webview.
_VSCODE: dict[Theme, str] = {
    "light": "--vscode-editor-background: #ffffff; --vscode-editor-foreground: #3b3b3b; --vscode-foreground: #3b3b3b;"
    "--vscode-focusBorder: #005fb8; --vscode-button-background: #005fb8; --vscode-button-foreground: #ffffff;"
    "--vscode-button-hoverBackground: #0258a8; --vscode-button-secondaryBackground: #e5e5e5;"
    "--vscode-button-secondaryForeground: #3b3b3b; --vscode-input-background: #ffffff; --vscode-input-foreground: #3b3b3b;"
    "--vscode-input-border: #cecece; --vscode-descriptionForeground: #3b3b3b; --vscode-errorForeground: #f85149;"
    "--vscode-textLink-foreground: #005fb8; --vscode-panel-border: #e5e5e5; --vscode-progressBar-background: #005fb8;"
    "--vscode-notebook-cellEditorBackground: #f8f8f8; --vscode-editor-font-family: monospace; --vscode-font-size: 13px;"
    "--vscode-charts-green: #388a34; --vscode-charts-orange: #d18616; --vscode-charts-red: #e51400;",
    "dark": "--vscode-editor-background: #1f1f1f; --vscode-editor-foreground: #cccccc; --vscode-foreground: #cccccc;"
    "--vscode-focusBorder: #0078d4; --vscode-button-background: #0078d4; --vscode-button-foreground: #ffffff;"
    "--vscode-button-hoverBackground: #026ec1; --vscode-button-secondaryBackground: #313131;"
    "--vscode-button-secondaryForeground: #cccccc; --vscode-input-background: #313131; --vscode-input-foreground: #cccccc;"
    "--vscode-input-border: #3c3c3c; --vscode-descriptionForeground: #9d9d9d; --vscode-errorForeground: #f85149;"
    "--vscode-textLink-foreground: #4daafc; --vscode-panel-border: #2b2b2b; --vscode-progressBar-background: #0078d4;"
    "--vscode-notebook-cellEditorBackground: #202020; --vscode-editor-font-family: monospace; --vscode-font-size: 13px;"
    "--vscode-charts-green: #89d185; --vscode-charts-orange: #d18616; --vscode-charts-red: #f14c4c;",
}
# Newer versions of the Jupyter extension set ipywidgets' variables to VS Code's colours, only in widget outputs.
_BRIDGE = """.cell-output-ipywidget-background {
  --jp-layout-color1: var(--vscode-%s); --jp-ui-font-color1: var(--vscode-editor-foreground);
  --jp-brand-color1: var(--vscode-textLink-foreground); --jp-ui-inverse-font-color0: var(--vscode-button-foreground);
  --jp-ui-font-family: var(--vscode-editor-font-family); --jp-border-color1: var(--vscode-panel-border); }"""
_CELL_BACKGROUND: dict[Theme, str] = {"light": "notebook-cellEditorBackground", "dark": "input-background"}
# ipywidgets' own `labvariables.css` is light; Colab overrides the text colour, but not the background.
_COLAB: dict[Theme, str] = {
    "light": "--colab-primary-surface-color: #ffffff; --colab-primary-text-color: #212121;"
    "--colab-secondary-surface-color: #f7f7f7; --colab-secondary-text-color: #5f6368;"
    "--colab-border-color: #dadada; --colab-anchor-color: #1967d2; color-scheme: light;",
    "dark": "--colab-primary-surface-color: #383838; --colab-primary-text-color: #d5d5d5;"
    "--colab-secondary-surface-color: #424242; --colab-secondary-text-color: #a3a3a3;"
    "--colab-border-color: #575757; --colab-anchor-color: #8ab4f8; color-scheme: dark;",
}
_LAB_VARIABLES = (
    "--jp-layout-color0: white; --jp-layout-color1: white; --jp-layout-color2: #eeeeee; --jp-border-color1: #bdbdbd;"
    "--jp-brand-color1: #2196f3; --jp-success-color1: #4caf50; --jp-warn-color1: #ff9800; --jp-error-color1: #f44336;"
    "--jp-ui-inverse-font-color0: rgba(255, 255, 255, 1); --jp-ui-font-color1: var(--colab-primary-text-color);"
    "--jp-content-font-color1: var(--colab-primary-text-color);"
)


@cache
def _bundles() -> TemporaryDirectory[str]:
    """The bundled scripts of the pages, in a folder that lasts as long as the tests."""
    esbuild = MODULES / ".bin" / "esbuild"
    if not esbuild.exists():
        required = os.environ.get("GGLIB_NB_REQUIRE_BROWSER")
        (pytest.fail if required else pytest.skip)("the pages of hosts need node_modules: npm ci")
    folder = TemporaryDirectory()
    entries = [str(SOURCES / f"{name}.js") for name in ("vscode", "colab", "colab_frame")]
    subprocess.run(
        [str(esbuild), *entries, "--bundle", "--format=esm", f"--outdir={folder.name}", "--log-level=error"], check=True
    )
    return folder


class HostPage:
    """A page of a host, with its own kernel.

    Args:
        browser: Where the tab opens.
        server: Serves the kernel.
        host: `vscode-bridged` is VS Code with a newer Jupyter extension.
        theme: Of the host.
        has_scripts: Whether the page can load the scripts of widgets.

    Attributes:
        page: Playwright's page.
        problems: Uncaught exceptions, and resources that a script of the host could not load.
    """

    def __init__(
        self, browser: Browser, server: JupyterServer, host: HostName, theme: Theme, *, has_scripts: bool = True
    ) -> None:
        self._has_scripts = has_scripts
        self._folder = Path(_bundles().name)
        self._host: HostName = host
        self._context = browser.new_context(viewport={"width": 900, "height": 900}, color_scheme=theme)
        self._context.set_default_timeout(60_000)
        self._context.route(re.compile(r"/(host|nbextensions|frame\.html)\b|colab\.test"), self._serve)
        # Chromium treats content from elsewhere as foreign to this machine, which may then not send it requests without
        # permission.
        self._context.grant_permissions(["local-network-access"])
        self.page: Page = self._context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(f"{server.url}/host/{theme}")
        self.page.evaluate("token => window.startHost(token)", server.token)

    def run(self, code: str) -> None:
        """Run a cell to its end."""
        self.page.evaluate("code => window.run(code)", code)

    def start(self, code: str) -> None:
        """Run a cell without waiting for its end; `is_over` is False until then."""
        self.page.evaluate(
            "code => { window.isOver = false; window.run(code).then(() => { window.isOver = true; }); }", code
        )

    def is_over(self) -> bool:
        """Whether the last started cell has ended."""
        return bool(self.page.evaluate("window.isOver"))

    def outputs(self) -> list[Frame]:
        """The frames with outputs: the page's own if the host has no others."""
        wanted = self.page.locator("iframe").count()
        while len(frames := [frame for frame in self.page.frames if frame.name.startswith("output-")]) < wanted:
            self.page.wait_for_timeout(20)
        return frames or [self.page.main_frame]

    def _serve(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/host/") and path.endswith(".js"):
            route.fulfill(path=self._folder / path.removeprefix("/host/"), content_type="text/javascript")
        elif path == "/host/require":
            route.fulfill(path=MODULES / "requirejs" / "require.js", content_type="text/javascript")
        elif path.startswith("/nbextensions/") and self._has_scripts:
            script = SCRIPTS / path.removeprefix("/nbextensions/")
            route.fulfill(path=script.with_suffix(".js"), content_type="text/javascript")
        elif path == "/frame.html":
            theme: Theme = "dark" if route.request.url.endswith("dark") else "light"
            route.fulfill(body=_frame(theme, self._folder), content_type="text/html")
        elif path.startswith("/host/"):
            route.fulfill(
                body=_page(self._host, "dark" if path.endswith("dark") else "light"), content_type="text/html"
            )
        else:
            route.fulfill(status=404)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


def _page(host: HostName, theme: Theme) -> str:
    script, require = "colab", ""
    style = f"html {{ {_COLAB[theme]} background: var(--colab-primary-surface-color); }} iframe {{ border: 0; width: 100%; }}"
    if host != "colab":
        script, require = "vscode", '<script src="/host/require"></script>'
        style = f"html {{ {_VSCODE[theme]} color-scheme: {theme}; }} body {{ background: var(--vscode-editor-background); }}"
        style += _BRIDGE % _CELL_BACKGROUND[theme] if host == "vscode-bridged" else ""
    style += " iframe { height: 800px; }"
    return (
        f'<!doctype html><html theme="{theme}"><meta charset="utf-8"><style>{style}</style>'
        f'<body class="vscode-{theme}">{require}<script type="module" src="/host/{script}.js"></script>'
    )


def _frame(theme: Theme, bundles: Path) -> str:
    style = f":root {{ {_COLAB[theme]} {_LAB_VARIABLES} }}"
    script = (bundles / "colab_frame.js").read_text(encoding="utf-8").replace("</script", "<\\/script")
    return f'<!doctype html><html theme="{theme}"><meta charset="utf-8"><style>{style}</style><body><script type="module">{script}</script>'
