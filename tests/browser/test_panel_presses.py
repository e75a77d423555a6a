"""A click acts on the row the user saw: a second click reaches no other row, a cancel can be undone, the focus is kept."""

import pytest
from playwright.sync_api import Locator, expect

from tests.support.fake_manager import FakeManager
from tests.support.panelpage import PanelPage
from tests.support.snapshots import GB, completed, download

pytestmark = pytest.mark.browser

FIRST, SECOND, THIRD = (f"owner/{name}-GGUF:Q8_0" for name in ("first", "second", "third"))


class Queue(FakeManager):
    """A manager that executes the requests that move rows."""

    def __init__(self, *ids: str) -> None:
        super().__init__(*(download(one) for one in ids))
        self.waiting = list(ids)
        self.cancelled: list[str] = []
        self.answers["remove_from_queue"] = self._remove
        self.answers["reorder_queue"] = self._reorder

    def _remove(self, name: str) -> None:
        self.waiting.remove(name)
        self.cancelled.insert(0, name)
        self._tell()

    def _reorder(self, name: str, position: int) -> None:
        self.waiting.remove(name)
        self.waiting.insert(position - 1, name)
        self._tell()

    def _tell(self) -> None:
        waiting = [download(one) for one in self.waiting]
        self.show(*waiting, *(download(one, "cancelled") for one in self.cancelled))


def press_twice(panel: PanelPage, name: str, after_ms: int) -> None:
    """Two clicks at one place; the page shows the result of the first before the second."""
    box = panel.button(name).bounding_box()
    assert box is not None
    place = (box["x"] + 14, box["y"] + 14)
    panel.page.mouse.click(*place)
    panel.pump()
    panel.page.clock.fast_forward(after_ms)
    # A browser counts two presses within half a second as a double click.
    count = 2 if after_ms < 500 else 1
    panel.page.mouse.down(click_count=count)
    panel.page.mouse.up(click_count=count)
    panel.pump()


def names(panel: PanelPage) -> Locator:
    """The names of the rows, from top to bottom."""
    return panel.page.locator(".gglib-row .gglib-name")


def test_a_double_click_on_remove_removes_one_row(open_panel):
    panel = open_panel(Queue(FIRST, SECOND, THIRD), has_clock=True)

    press_twice(panel, "Remove first-GGUF Q8_0", 80)

    assert panel.asked() == [("remove_from_queue", FIRST)]


@pytest.mark.slow
def test_a_delayed_second_press_reaches_the_same_row(open_panel):
    panel = open_panel(Queue(FIRST, SECOND, THIRD), has_clock=True)

    press_twice(panel, "Remove first-GGUF Q8_0", 600)

    assert {name for _, name in panel.asked()} == {FIRST}


@pytest.mark.parametrize("after_ms", [80, pytest.param(600, marks=pytest.mark.slow)])
def test_pressing_up_twice_moves_the_same_row_twice(open_panel, after_ms):
    queue = Queue(FIRST, SECOND, THIRD)
    panel = open_panel(queue, has_clock=True)

    press_twice(panel, "Move third-GGUF Q8_0 up", after_ms)

    assert queue.waiting == [THIRD, FIRST, SECOND]


def test_a_double_click_on_pause_does_not_resume(open_panel):
    manager = FakeManager(download(FIRST, "downloading"))
    manager.answers["pause"] = lambda _name: manager.show(download(FIRST, "paused"))
    panel = open_panel(manager, has_clock=True)

    press_twice(panel, "Pause first-GGUF Q8_0", 80)

    assert panel.asked() == [("pause", FIRST)]


def test_a_cancelled_row_keeps_its_place_under_the_pointer(open_panel):
    panel = open_panel(Queue(FIRST, SECOND, THIRD), has_clock=True)

    panel.press("Remove second-GGUF Q8_0")
    at_first = panel.rows()
    panel.page.mouse.move(2, 2)
    panel.pump()

    assert at_first == ["first-GGUF", "second-GGUF", "third-GGUF"]
    expect(names(panel)).to_have_text(["first-GGUF", "third-GGUF", "second-GGUF"])
    expect(panel.button("Undo second-GGUF Q8_0")).to_be_visible()


def test_undo_puts_the_request_back_in_its_place(open_panel):
    panel = open_panel(Queue(FIRST, SECOND, THIRD))

    panel.press("Remove second-GGUF Q8_0")
    panel.press("Undo second-GGUF Q8_0")

    assert panel.asked() == [("remove_from_queue", SECOND), ("put_back", SECOND)]


def test_a_click_next_to_a_button_does_not_block_the_next_click(open_panel):
    panel = open_panel(FakeManager(download(FIRST, "downloading"), download(SECOND)))
    box = panel.button("Pause first-GGUF Q8_0").bounding_box()
    assert box is not None

    panel.page.mouse.click(box["x"] - 4, box["y"] + 14)
    panel.page.mouse.click(box["x"] + 3, box["y"] + 14)
    panel.pump()

    assert panel.asked() == [("pause", FIRST)]


def test_remove_and_undo_by_keyboard_never_lose_the_focus(open_panel):
    panel = open_panel(Queue(FIRST, SECOND))
    panel.button("Remove first-GGUF Q8_0").focus()

    panel.page.keyboard.press("Enter")
    panel.pump()

    expect(panel.button("Undo first-GGUF Q8_0")).to_be_focused()


def test_a_button_pressed_by_keyboard_passes_the_focus_to_its_counterpart(open_panel):
    panel = open_panel(FakeManager(download(FIRST, "downloading"), download(SECOND)))
    panel.button("Pause second-GGUF Q8_0").focus()

    panel.show_queue(download(FIRST, "downloading"), download(SECOND, "paused"))
    expect(panel.button("Resume second-GGUF Q8_0")).to_be_focused()
    panel.show_queue(download(FIRST, "downloading"), download(SECOND, "downloading"))
    expect(panel.button("Pause second-GGUF Q8_0")).to_be_focused()
    panel.show_queue(download(FIRST, "downloading"), completed(SECOND))

    expect(panel.button("Details of second-GGUF Q8_0")).to_be_focused()


def test_a_removed_row_passes_the_focus_to_the_row_in_its_place(open_panel):
    panel = open_panel(FakeManager(download(FIRST, "failed"), download(SECOND, "failed")))
    panel.button("Dismiss first-GGUF Q8_0").focus()

    panel.show_queue(download(SECOND, "failed"))

    expect(panel.button("Details of second-GGUF Q8_0")).to_be_focused()


def test_a_resting_pointer_holds_the_order_only_for_seconds(open_panel):
    panel = open_panel(
        FakeManager(download(FIRST, "downloading", downloaded_bytes=GB), download(SECOND)), has_clock=True
    )
    panel.row("second-GGUF").hover()

    panel.show_queue(download(FIRST, "completed"), download(SECOND, "downloading"))
    held = panel.rows()
    panel.page.clock.fast_forward(5000)

    assert held == ["first-GGUF", "second-GGUF"]
    expect(names(panel)).to_have_text(["second-GGUF", "first-GGUF"])
