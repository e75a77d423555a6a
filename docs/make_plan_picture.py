"""Makes `plan.png`: `%gguf plan` of a repository with 25 variants.

    python -m docs.make_plan_picture

From an invented repository of a model of 8 billion parameters, on a machine with 16 GiB of memory and a GPU of 8 GiB,
so that it shows the same on every run.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.plan_values import a_plan_of_25, plan_html

PICTURE = Path(__file__).parent / "plan.png"
# An output cell of JupyterLab's light theme: its font, and the colours that the table uses.
PAGE = """<!doctype html><meta charset="utf-8"><style>
:root { --jp-ui-font-color1: rgba(0,0,0,.87); --jp-ui-font-color2: rgba(0,0,0,.54); --jp-layout-color1: #fff;
  --jp-success-color1: #388e3c; --jp-warn-color1: #f57c00; --jp-error-color1: #d32f2f; --jp-brand-color1: #1976d2; }
body { margin: 0; background: var(--jp-layout-color1); }
main { padding: 14px 18px; display: inline-block;
  font: 14px/1.3 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--jp-ui-font-color1); }
table { font-size: 12.5px; } code { font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; }
</style><main>%s</main>"""


def main() -> None:
    """Writes the file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 1000}, device_scale_factor=1.5)
        page.set_content(PAGE % plan_html(a_plan_of_25()))
        page.locator("main").screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
