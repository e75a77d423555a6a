"""Actions on the panel become manager calls, and their results are shown next to the control.

It is long because each button and field has its test.
"""

from concurrent.futures import Future

import pytest
from playwright.sync_api import expect

from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import NotInQueueError, QueueFullError, RepoNotFoundError
from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import PanelPage
from tests.support.plan_values import a_plan, a_variant
from tests.support.snapshots import GB, completed, download, shards

pytestmark = pytest.mark.browser

MODEL = "owner/model-GGUF:Q4_K_M"
FIRST, SECOND, THIRD = (f"owner/{name}-GGUF:Q8_0" for name in ("first", "second", "third"))


def swallow_line_breaks(panel: PanelPage) -> None:
    """JupyterLab's handling of keys inside a cell."""
    panel.page.evaluate(
        "document.addEventListener('beforeinput', (event) =>"
        " event.inputType === 'insertLineBreak' && event.preventDefault(), true)"
    )


def test_a_button_sends_its_action(open_panel):
    running, waiting, resting, failed = (
        f"owner/{name}-GGUF:Q8_0" for name in ("running", "waiting", "resting", "failed")
    )
    panel = open_panel(
        FakeManager(
            download(running, "downloading"),
            download(waiting),
            download(resting, "paused"),
            download(failed, "failed", can_retry=True),
        )
    )

    for label in ("Pause running", "Cancel running", "Pause waiting", "Remove waiting"):
        panel.press(f"{label}-GGUF Q8_0")
    panel.press("Run waiting-GGUF Q8_0 now")
    for label in ("Resume resting", "Retry failed", "Dismiss failed"):
        panel.press(f"{label}-GGUF Q8_0")

    assert panel.asked() == [
        ("pause", running),
        ("cancel_download", running),
        ("pause", waiting),
        ("remove_from_queue", waiting),
        ("run_now", waiting),
        ("resume", resting),
        ("retry", failed),
        ("clear_failed", failed),
    ]


def test_a_button_is_pending_until_the_kernel_answers(open_panel):
    manager = FakeManager(download(MODEL, "downloading"))
    pausing = manager.answers["pause"] = Future()
    panel = open_panel(manager)
    button = panel.button("Pause model-GGUF Q4_K_M")

    panel.press("Pause model-GGUF Q4_K_M")
    expect(button).to_have_attribute("aria-busy", "true")
    pausing.set_result(None)

    panel.until(lambda: button.get_attribute("aria-busy") != "true", "the button is no longer pending")


def test_a_second_press_of_a_pending_button_sends_nothing(open_panel):
    manager = FakeManager(download(MODEL, "downloading"))
    manager.answers["pause"] = scenes.never()
    panel = open_panel(manager)

    panel.press("Pause model-GGUF Q4_K_M")
    panel.press("Pause model-GGUF Q4_K_M")

    assert panel.asked() == [("pause", MODEL)]


def test_a_refusal_is_shown_in_the_row_of_its_action(open_panel):
    manager = FakeManager(download(MODEL, "downloading"), download(FIRST))
    manager.answers["cancel_download"] = NotInQueueError("It has just finished; there is nothing to cancel.")
    panel = open_panel(manager)

    panel.press("Cancel model-GGUF Q4_K_M")

    expect(panel.row("model-GGUF")).to_contain_text("It has just finished")
    expect(panel.row("first-GGUF")).not_to_contain_text("It has just finished")


@pytest.mark.slow
def test_a_click_that_waits_for_a_cell_shows_a_message(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading")))
    panel.is_answering = False

    panel.press("Pause model-GGUF Q4_K_M")
    panel.sees("Waiting for the kernel")
    panel.answer()

    expect(panel.row("model-GGUF")).not_to_contain_text("Waiting for the kernel")
    assert panel.asked() == [("pause", MODEL)]


def test_cancel_all_asks_for_confirmation_once(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading"), download(FIRST)))

    panel.press("Cancel all")
    panel.sees("Cancel 2 downloads?")
    asked_before = panel.asked()
    panel.press("Yes, cancel all")

    assert (asked_before, panel.asked()) == ([], [("cancel_all",)])


def test_the_graph_keeps_its_size_during_the_cancel_all_confirmation(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading")), width=620)
    graph = panel.page.locator(".gglib-graph")
    before = graph.bounding_box()

    panel.press("Cancel all")

    panel.sees("Cancel 1 download?")
    assert before is not None
    assert before["width"] >= 60
    assert graph.bounding_box() == before


def test_cancel_all_can_be_declined(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading")))

    panel.press("Cancel all")
    panel.press("No")

    assert panel.asked() == []
    expect(panel.button("Cancel all")).to_be_focused()


@pytest.mark.parametrize(
    ("where", "position"),
    [
        ("up", 1),
        pytest.param("down", 3, marks=pytest.mark.slow),
        pytest.param("to the top", 1, marks=pytest.mark.slow),
    ],
)
def test_the_move_buttons_of_a_waiting_row_work(open_panel, where, position):
    panel = open_panel(FakeManager(download(FIRST), download(SECOND), download(THIRD)))
    panel.row("second-GGUF").hover()

    panel.press(f"Move second-GGUF Q8_0 {where}")

    assert panel.asked() == [("reorder_queue", SECOND, position)]


def test_alt_and_an_arrow_key_move_the_focused_row(open_panel):
    panel = open_panel(FakeManager(download(FIRST), download(SECOND), download(THIRD)))

    panel.button("Pause second-GGUF Q8_0").focus()
    panel.page.keyboard.press("Alt+ArrowDown")
    panel.pump()

    assert panel.asked() == [("reorder_queue", SECOND, 3)]


def test_a_moved_row_keeps_the_focus(open_panel):
    panel = open_panel(FakeManager(download(FIRST), download(SECOND)))

    panel.button("Pause second-GGUF Q8_0").focus()
    panel.show_queue(download(SECOND), download(FIRST))

    assert panel.rows() == ["second-GGUF", "first-GGUF"]
    expect(panel.button("Pause second-GGUF Q8_0")).to_be_focused()


def test_a_row_is_dragged_to_its_new_place(open_panel):
    panel = open_panel(FakeManager(download(FIRST), download(SECOND), download(THIRD)))
    grip = panel.row("third-GGUF").locator(".gglib-grip").bounding_box()
    goal = panel.row("first-GGUF").bounding_box()
    mouse = panel.page.mouse

    mouse.move(grip["x"] + 10, grip["y"] + 10)
    mouse.down()
    mouse.move(goal["x"] + 20, goal["y"] + 5, steps=8)
    mouse.up()
    panel.pump()

    assert panel.asked() == [("reorder_queue", THIRD, 1)]


@pytest.mark.slow
def test_an_aborted_drag_moves_nothing(open_panel):
    panel = open_panel(FakeManager(download(FIRST), download(SECOND)))
    grip = panel.row("second-GGUF").locator(".gglib-grip").bounding_box()

    panel.page.mouse.move(grip["x"] + 10, grip["y"] + 10)
    panel.page.mouse.down()
    panel.page.mouse.move(grip["x"] + 10, grip["y"] - 90, steps=5)
    panel.page.keyboard.press("Escape")
    panel.page.mouse.up()
    panel.pump()

    assert panel.asked() == []


def test_rows_do_not_move_under_the_pointer(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading"), download(FIRST)))
    panel.row("first-GGUF").hover()

    panel.show_queue(download(FIRST, "downloading"), download(MODEL, "failed"))
    while_inside = panel.rows()
    panel.page.mouse.move(2, 2)
    panel.pump()

    assert while_inside == ["model-GGUF", "first-GGUF"]
    assert panel.rows() == ["first-GGUF", "model-GGUF"]


def headings(panel: PanelPage) -> list[str]:
    found: list[str] = panel.page.locator(".gglib-list [role=heading]").all_inner_texts()
    return found


def test_a_heading_counts_the_rows_below_it_even_while_the_order_is_held(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading"), download(FIRST), completed(SECOND)))
    panel.row("first-GGUF").hover()

    panel.show_queue(completed(MODEL), download(FIRST, "downloading"), completed(SECOND))
    while_inside = (panel.rows(), headings(panel))
    panel.page.mouse.move(2, 2)
    panel.pump()

    assert while_inside == (["model-GGUF", "first-GGUF", "second-GGUF"], ["Up next", "Done · 1"])
    assert (panel.rows(), headings(panel)) == (["first-GGUF", "model-GGUF", "second-GGUF"], ["Done · 2"])


_FILES = shards("model-Q4_K_M", [GB] * 4, [GB, GB, GB // 2, 0])
_ENDED = {
    "completed": completed(MODEL, shards=_FILES),
    "failed": download(MODEL, "failed", error=RepoNotFoundError("There is no owner/model-GGUF any more. " * 5)),
    "paused": download(MODEL, "paused", shards=_FILES, downloaded_bytes=2 * GB),
    "cancelled": download(MODEL, "cancelled", shards=_FILES),
}


@pytest.mark.parametrize(
    "ended",
    [_ENDED["completed"], *(pytest.param(one, marks=pytest.mark.slow) for one in list(_ENDED.values())[1:])],
    ids=_ENDED,
)
def test_starts_and_ends_above_the_pointer_move_nothing_under_it(open_panel, ended):
    running = download(MODEL, "downloading", downloaded_bytes=2 * GB, shards=_FILES)
    panel = open_panel(FakeManager(running, download(FIRST), download(SECOND)))
    target = panel.button("Remove second-GGUF Q8_0")
    target.hover()
    before = target.bounding_box()

    panel.show_queue(ended, download(FIRST, "downloading", downloaded_bytes=GB), download(SECOND))
    held = target.bounding_box()
    panel.page.mouse.move(2, 2)
    panel.pump()

    assert held == before
    assert target.bounding_box() != before


def test_all_failures_can_be_retried_or_cleared_together(open_panel):
    panel = open_panel(scenes.errors())

    panel.press("Retry all failed downloads")
    panel.press("Clear failed downloads")

    assert [operation for operation, *_ in panel.asked()] == ["retry", "retry", "retry", "clear_failed"]


def test_limits_can_be_set_and_removed(open_panel):
    panel = open_panel(FakeManager(bandwidth_limit_bytes_per_second=5_000_000))
    panel.press("Limits")

    panel.page.get_by_label("Downloads that may wait").fill("25")
    panel.page.get_by_label("Speed limit in MB/s").fill("2.5")
    panel.page.get_by_label("Speed limit in MB/s").fill("")
    panel.page.keyboard.press("Tab")
    panel.pump()

    assert panel.asked() == [("set_max_queue_size", 25), ("set_bandwidth_limit", None)]


def test_concurrency_connections_and_hours_are_set_in_limits(open_panel):
    panel = open_panel(FakeManager())
    panel.press("Limits")

    panel.page.get_by_label("Downloads at once").fill("2")
    panel.page.get_by_label("Connections in total").fill("8")
    panel.page.get_by_label("Download only between").fill("22-7")
    panel.page.get_by_label("Downloads at once").focus()
    panel.pump()

    assert panel.asked() == [
        ("set_max_concurrent", 2),
        ("set_max_connections", 8),
        ("set_download_hours", DailyHours.parse("22-7")),
    ]


@pytest.mark.slow
def test_emptied_hours_are_removed(open_panel):
    panel = open_panel(FakeManager(download_hours=DailyHours.parse("22-7")))
    panel.press("Limits")

    panel.page.get_by_label("Download only between").fill("")
    panel.page.get_by_label("Downloads at once").focus()
    panel.pump()

    assert panel.asked() == [("set_download_hours", None)]


@pytest.mark.slow
def test_outside_the_hours_the_panel_shows_when_downloads_continue(open_panel):
    night = DailyHours.parse("22-7")
    row = download("owner/model:Q4_K_M", notice="waiting until 22:00", notice_kind="hours")
    panel = open_panel(FakeManager(row, download_hours=night, is_outside_hours=True))

    panel.sees("waiting until 22:00")
    panel.press("Limits")
    expect(panel.page.get_by_label("Download only between")).to_have_value("22:00-07:00")
    expect(panel.page.locator(".gglib-pace")).to_contain_text("waiting until 22:00")


def test_a_repository_can_be_found_opened_and_queued_with_its_projector(open_panel):
    panel = open_panel(scenes.choosing())

    panel.page.get_by_role("combobox").fill("llama")
    panel.hear("found")
    panel.page.keyboard.press("ArrowDown")
    panel.page.keyboard.press("Enter")
    panel.pump()
    panel.page.get_by_label("Also download the vision projector").check()
    panel.press("Download Q4_K_M")

    assert panel.manager.asked == [
        ("search", ("llama",), {"max_parameters": None, "licence": None, "task": None, "limit": 8}),
        ("plan", ("bartowski/Llama-3.2-3B-Instruct-GGUF", None), {"revision": None}),
        ("queue_smart", ("ggml-org/gemma-3-12b-it-GGUF", "Q4_K_M"), {"revision": None, "companions": ("mmproj",)}),
    ]


def test_a_variant_queued_from_one_repository_can_be_queued_from_another(open_panel):
    manager = scenes.choosing()
    manager.answers["plan"] = lambda repo_id, *_, **__: a_plan(a_variant("Q4_K_M"), repo_id=repo_id)
    panel = open_panel(manager)

    for repo_id in ("owner/one-GGUF", "owner/two-GGUF"):
        panel.page.get_by_role("combobox").fill(repo_id)
        panel.page.keyboard.press("Enter")
        panel.pump()
        panel.press("Download Q4_K_M")

    queued = [arguments for operation, arguments, _ in panel.manager.asked if operation == "queue_smart"]
    assert queued == [("owner/one-GGUF", "Q4_K_M"), ("owner/two-GGUF", "Q4_K_M")]


def test_enter_shows_the_variants_even_if_the_host_swallows_line_breaks(open_panel):
    panel = open_panel(scenes.choosing())
    swallow_line_breaks(panel)
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")

    panel.page.keyboard.press("Enter")
    panel.pump()

    panel.sees("Q5_K_M")
    assert [operation for operation, *_ in panel.asked()].count("plan") == 1


def test_enter_after_words_searches_for_them(open_panel):
    panel = open_panel(scenes.choosing())
    field = panel.page.get_by_role("combobox")
    field.fill("llama")

    panel.press("Show variants")
    expect(panel.page.locator(".gglib-found")).to_have_count(3)
    expect(field).to_be_focused()
    panel.manager.answers["search"] = []
    field.fill("llamma")
    field.press("Enter")
    panel.pump()

    panel.sees("No repository with GGUF files matches 'llamma'. Try fewer or other words.")
    expect(panel.page.locator(".gglib-found")).to_have_count(0)


def test_deleting_downloaded_data_asks_first(open_panel):
    gone = download("owner/gone-GGUF:Q8_0", "cancelled", downloaded_bytes=10**9)
    panel = open_panel(FakeManager(recent_cancelled=(gone,)))

    panel.press("Delete the partial files of gone-GGUF Q8_0")
    panel.sees("1.0 GB of gone-GGUF Q8_0 will be deleted. Delete?")
    assert panel.asked() == []
    panel.press("Yes, delete")

    assert panel.asked() == [("cancel_download", str(gone.id))]


@pytest.mark.slow
def test_enter_sets_a_limit_once_even_if_the_host_swallows_line_breaks(open_panel):
    panel = open_panel(FakeManager())
    swallow_line_breaks(panel)
    panel.press("Limits")
    panel.page.get_by_label("Speed limit in MB/s").fill("2.5")

    panel.page.keyboard.press("Enter")
    panel.pump()
    asked_on_enter = panel.asked()
    panel.page.keyboard.press("Tab")
    panel.pump()

    assert asked_on_enter == panel.asked() == [("set_bandwidth_limit", 2_500_000)]


def test_a_refused_limit_is_not_reported_when_the_limits_are_opened_again(open_panel):
    panel = open_panel(FakeManager())
    panel.press("Limits")
    panel.page.get_by_label("Downloads at once").fill("many")
    panel.page.keyboard.press("Tab")
    panel.pump()
    panel.sees("Downloads at once is 'many'")

    panel.press("Limits")
    panel.press("Limits")

    expect(panel.page.get_by_label("Downloads at once")).to_have_value("1")
    expect(panel.page.get_by_text("Downloads at once is 'many'")).to_have_count(0)


def test_an_error_of_one_repository_is_not_shown_for_another(open_panel):
    manager = scenes.choosing()
    panel = open_panel(manager)
    field = panel.page.get_by_role("combobox")
    field.fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")
    panel.sees("Q5_K_M")

    field.fill("owner/nowhere")
    expect(panel.page.locator(".gglib-offer")).to_be_hidden()
    manager.answers["plan"] = RepoNotFoundError("There is no owner/nowhere.")
    panel.press("Show variants")
    panel.sees("There is no owner/nowhere.")
    field.fill("owner/nowhere2")

    expect(panel.page.get_by_text("There is no owner/nowhere.")).to_be_hidden()


def test_a_variant_that_cannot_be_queued_shows_the_reason_at_its_button(open_panel):
    manager = scenes.choosing()
    manager.answers["queue_smart"] = QueueFullError("The queue is full (10 wait). Remove one, or raise the limit.")
    panel = open_panel(manager)
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")

    panel.press("Download Q8_0")

    expect(panel.row("Q8_0")).to_contain_text("The queue is full")


def test_an_incomplete_variant_cannot_be_queued(open_panel):
    panel = open_panel(scenes.choosing())
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")

    expect(panel.button("Download F32")).to_be_disabled()


def test_the_path_and_the_code_of_a_finished_model_can_be_copied(open_panel):
    panel = open_panel(scenes.done(), permissions=["clipboard-read", "clipboard-write"])
    title = "Qwen3-30B-A3B-Instruct-2507-GGUF UD-Q4_K_XL"

    panel.press(f"Copy the code that loads {title}")

    assert panel.page.evaluate("navigator.clipboard.readText()").startswith("from llama_cpp import Llama\nllm = Llama(")


@pytest.mark.slow
def test_a_paused_row_shows_its_downloaded_bytes(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "paused", downloaded_bytes=GB)))

    expect(panel.row("model-GGUF")).to_contain_text("1.0 GB of 4.0 GB")


def test_what_the_user_entered_is_shown_again_after_a_look_at_the_models(open_panel):
    panel = open_panel(scenes.choosing())
    panel.press("Filter")
    panel.page.get_by_label("Licence").fill("mit")
    panel.page.keyboard.press("Tab")
    panel.page.get_by_role("combobox", name="Repository").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")
    panel.page.get_by_label("Also download").check()

    panel.press("Models")
    panel.page.get_by_role("searchbox").fill("smol")
    panel.press("Models")
    expect(panel.page.get_by_label("Also download")).to_be_checked()
    expect(panel.page.get_by_label("Licence")).to_have_value("mit")
    expect(panel.page.get_by_role("combobox", name="Repository")).to_have_value("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Models")

    expect(panel.page.get_by_role("searchbox")).to_have_value("smol")
