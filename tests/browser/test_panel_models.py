"""Stored models in the panel: the list of models, and the actions of a finished row."""

from typing import Any

import pytest
from playwright.sync_api import expect

from gglib_nb.manager.bundles import BundleReport
from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import OpenPanel, PanelPage
from tests.support.snapshots import completed, shard

pytestmark = pytest.mark.browser
MODEL = "ggml-org/SmolLM3-3B-GGUF:Q4_K_M"


def shown_models(panel: PanelPage) -> list[str]:
    panel.pump()
    return panel.page.locator(".gglib-models .gglib-name").all_inner_texts()


def test_stored_models_are_listed_with_their_size_and_found_by_a_part_of_their_name(
    open_panel: OpenPanel,
) -> None:
    panel = open_panel(scenes.models())

    panel.press("Models")

    assert len(shown_models(panel)) == 3
    panel.sees("27.6 GB in total · 10.7 GB free in /models")
    expect(panel.page.get_by_role("list", name="Downloads")).to_be_hidden()
    panel.page.get_by_role("searchbox").fill("smol q4")
    assert shown_models(panel) == ["SmolLM3-3B-GGUF"]
    panel.page.get_by_role("searchbox").fill("smol q9")
    panel.sees("No model name contains this.")
    panel.press("Models")
    expect(panel.page.get_by_role("list", name="Downloads")).to_be_visible()


def test_loading_code_is_shown_for_each_program(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.models())
    panel.press("Models")

    panel.press(f"Show the code that loads {MODEL}, for each program")

    expect(panel.page.locator(".gglib-program pre").first).to_contain_text(MODEL)


def test_a_deletion_shows_the_freed_space_asks_and_keeps_the_focus(open_panel: OpenPanel) -> None:
    panel = open_panel(FakeManager(completed(MODEL)))
    panel.manager.registered = scenes.models().registered
    panel.manager.answers["delete"] = scenes.models().answers["delete"]

    panel.press("Delete SmolLM3-3B-GGUF Q4_K_M from the disk")
    panel.sees("1 file, 17.7 GB will be freed. Delete?")
    panel.press("No")
    kept = panel.manager.asked.copy()
    expect(panel.button("Delete SmolLM3-3B-GGUF Q4_K_M from the disk")).to_be_focused()
    panel.press("Delete SmolLM3-3B-GGUF Q4_K_M from the disk")
    panel.press("Yes, delete")

    assert [keywords for _, _, keywords in kept] == [{"dry_run": True}]
    assert panel.manager.asked[-1] == ("delete", (MODEL,), {"dry_run": False})
    panel.sees("1 file; 17.7 GB freed.")


def test_the_loading_code_includes_the_projector(open_panel: OpenPanel) -> None:
    paths: dict[str, Any] = {
        "companions": (shard(2, kind="mmproj"),),
        "companion_paths": ("/home/ada/models/mmproj.gguf",),
    }
    panel = open_panel(FakeManager(completed(MODEL, **paths)))

    panel.press("Details of SmolLM3-3B-GGUF Q4_K_M")

    expect(panel.page.locator(".gglib-code pre").first).to_contain_text(
        'clip_model_path="/home/ada/models/mmproj.gguf"'
    )


def test_an_inspection_is_shown_below_its_row_and_closed_by_the_same_button(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.models())
    panel.press("Models")

    panel.press(f"Show what {MODEL} contains")

    contents = panel.page.get_by_role("group", name=f"Contents: {MODEL}")
    expect(contents).to_contain_text("general.architecture")
    panel.press(f"Show what {MODEL} contains")
    expect(contents).to_have_count(0)


def test_a_model_is_exported_after_a_question(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.models())
    panel.manager.answers["export"] = BundleReport("/home/ada/gguf-bundle", (MODEL,), 17_700_000_000, 0)
    panel.press("Models")

    panel.press(f"Export {MODEL} for another machine")
    panel.sees(f"To another folder: %gguf export {MODEL} FOLDER")
    panel.press("Yes, export")

    panel.sees("to /home/ada/gguf-bundle. On the other machine: %gguf import FOLDER")


def test_unused_models_are_listed_before_deletion(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.models())
    panel.press("Models")

    panel.press("Free space")
    panel.press("No")
    expect(panel.button("Free space")).to_be_focused()
    panel.press("Free space")
    panel.sees(f"Deleting 1 model frees 1.8 GB. Delete {MODEL}?")
    panel.press("Yes, delete")

    panel.sees("Deleted 1 model: 1.8 GB freed")
    assert [keywords["unused_s"] for name, _, keywords in panel.manager.asked if name == "prune"] == [30 * 86_400] * 3


def test_a_model_of_another_program_is_marked_and_read_only(open_panel: OpenPanel) -> None:
    panel = open_panel(scenes.stores())

    panel.press("Models")

    panel.sees("not found: /mnt/lab")
    panel.sees("read-only")
    panel.sees("from ~/.lmstudio/models")
    assert panel.page.get_by_role("button", name="Delete", exact=False).count() == 0
    assert panel.page.get_by_role("button", name="Verify", exact=False).count() == 0
