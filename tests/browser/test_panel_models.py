"""What is on the disk, in the panel: the list of models, and what a done row still offers."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import OpenPanel, PanelPage
from tests.support.snapshots import completed, shard

pytestmark = pytest.mark.browser
MODEL = "ggml-org/SmolLM3-3B-GGUF:Q4_K_M"


def shown_models(panel: PanelPage) -> list[str]:
    panel.pump()
    return panel.page.locator(".gglib-models .gglib-name").all_inner_texts()


def test_models_that_are_here_are_listed_with_what_they_take_and_found_by_a_part_of_their_name(
    open_panel: OpenPanel,
) -> None:
    panel = open_panel(scenes.models())

    panel.press("Models")

    assert len(shown_models(panel)) == 3
    panel.sees("3 models · 27.6 GB · 10.7 GB free in /models")
    expect(panel.page.get_by_role("list", name="Downloads")).to_be_hidden()
    panel.page.get_by_role("searchbox").fill("smol q4")
    assert shown_models(panel) == ["SmolLM3-3B-GGUF"]
    panel.press("Models")
    expect(panel.page.get_by_role("list", name="Downloads")).to_be_visible()


def test_the_lines_that_load_a_model_are_shown_for_each_program(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.models())
    panel.press("Models")

    panel.press(f"Show the code that loads {MODEL}, for each program")

    expect(panel.page.locator(".gglib-program pre").first).to_contain_text(MODEL)


def test_a_deletion_says_what_it_frees_and_asks_and_leaves_the_focus_where_it_was(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(completed(MODEL)))
    panel.manager.answers["delete"] = scenes.models().answers["delete"]

    panel.press("Delete SmolLM3-3B-GGUF Q4_K_M from the disk")
    panel.sees("Delete 1 file? This frees 17.7 GB.")
    panel.press("Keep")
    kept = panel.manager.asked.copy()
    expect(panel.button("Delete SmolLM3-3B-GGUF Q4_K_M from the disk")).to_be_focused()
    panel.press("Delete SmolLM3-3B-GGUF Q4_K_M from the disk")
    panel.press("Yes, delete")

    assert [keywords for _, _, keywords in kept] == [{"dry_run": True}]
    assert panel.manager.asked[-1] == ("delete", (MODEL,), {"dry_run": False})
    panel.sees("Deleted. 17.7 GB freed.")


def test_the_lines_that_load_a_model_with_a_projector_name_it(open_panel: OpenPanel) -> None:
    paths: dict[str, Any] = {
        "companions": (shard(2, kind="mmproj"),),
        "companion_paths": ("/home/ada/models/mmproj.gguf",),
    }
    panel = open_panel(FakeManager(completed(MODEL, **paths)))

    panel.press("Details of SmolLM3-3B-GGUF Q4_K_M")

    expect(panel.page.locator(".gglib-code pre").first).to_contain_text(
        'clip_model_path="/home/ada/models/mmproj.gguf"'
    )
