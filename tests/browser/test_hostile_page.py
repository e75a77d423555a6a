"""Names, texts and paths that are HTML, script or quotes: a real page shows them as text, and loading code is correct."""

import ast
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from gglib_nb.errors import HubError
from tests.support.fake_manager import FakeManager
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.labpanel import OpenNotebook, row_of
from tests.support.panelpage import OpenPanel
from tests.support.snapshots import completed, download

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

IMAGE = "<img src=x onerror=window.wasRun=1>"
SCRIPT = "</textarea></style></script><script>window.wasRun=1</script>"
QUOTES = 'it\'s "so" `here` ${window.wasRun=1} \\ and\nmore\u2028'


def test_html_in_any_panel_text_is_shown_as_text(open_panel: OpenPanel) -> None:
    names = [f"owner/{kind}-GGUF:{IMAGE}" for kind in ("running", "waiting", "failed", "done")]
    manager = FakeManager(
        download(names[0], "downloading", notice=SCRIPT, reason=IMAGE),
        download(names[1], "queued", notice=IMAGE),
        download(names[2], "failed", error=HubError(f"{IMAGE} {SCRIPT} {QUOTES}")),
    )
    panel = open_panel(manager)
    panel.show_queue(*manager.snapshot.items, recent_completed=(completed(names[3]),))

    expect(panel.page.get_by_text(IMAGE).first).to_be_visible()
    assert panel.page.locator(".gglib-panel img, .gglib-panel script").count() == 0
    assert panel.page.evaluate("window.wasRun") is None


@pytest.mark.parametrize(
    "path",
    [
        f"/m/{QUOTES}/m.gguf",
        pytest.param(f"/m/{IMAGE}{SCRIPT}.gguf", marks=pytest.mark.slow),
        pytest.param('/m/");import os#.gguf', marks=pytest.mark.slow),
    ],
)
def test_the_loading_code_is_valid_python_for_any_path(open_panel: OpenPanel, path: str) -> None:
    done = replace(completed("owner/done-GGUF:Q4_K_M"), paths=(path,))
    panel = open_panel(FakeManager(recent_completed=(done,)))
    row = panel.row("done-GGUF")
    row.locator("[aria-expanded]").first.click()
    code = row.locator("pre").first.inner_text()

    assignment = ast.parse(code).body[1]
    assert isinstance(assignment, ast.Assign)
    assert isinstance(assignment.value, ast.Call)
    assert ast.literal_eval(assignment.value.keywords[0].value) == path


@pytest.mark.slow
def test_a_repository_with_html_names_runs_no_script_in_jupyterlab(opened: OpenNotebook, hub: FaultyHub) -> None:
    name = f"{IMAGE}-Q4_K_M.gguf"
    hub.add_repository(
        make_repository("demo/html-GGUF", {name: 40_000, f"{SCRIPT.replace('/', '')}-Q8_0.gguf": 50_000})
    )
    page = opened(
        "%gguf plan demo/html-GGUF",
        "%gguf queue demo/html-GGUF:Q4_K_M",
        "%gguf wait",
        "%gguf",
        "%gguf models",
        "%gguf queue demo/html-GGUF:" + IMAGE.replace(" ", "_"),
        "from IPython.display import HTML\nfrom gglib_nb.notebook.render import render_html\n"
        "HTML(render_html(gglib_nb.get_manager().snapshot))",
    )
    for cell in range(1, 8):
        page.run(cell)

    expect(row_of(page, "demo/html-GGUF:Q4_K_M")).to_have_attribute("data-status", "completed")
    assert page.page.evaluate("window.wasRun") is None
    assert page.page.locator(".jp-OutputArea-output img, .gglib-panel img").count() == 0
