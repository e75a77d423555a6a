"""Without a page, the panel's output becomes text and HTML, and the live view again when a page answers."""

import threading
from types import SimpleNamespace
from typing import ClassVar

import pytest

from gglib_nb.notebook.outputs import PanelOutputs
from tests.support.snapshots import GB, download, snapshot

VIEW = "application/vnd.jupyter.widget-view+json"
BUNDLE = {VIEW: {"model_id": "1"}, "text/plain": "1 active", "text/html": "<p>1 active</p>"}
BUSY = snapshot(download(status="downloading", downloaded_bytes=GB))


class Loop:
    """A kernel's loop whose time the test advances; `late_s` is how long a cell delays a call."""

    def __init__(self):
        self.now_s, self.due = 0.0, []

    def time(self):
        return self.now_s

    def call_later(self, delay_s, call, *arguments):
        self.due.append((self.now_s + delay_s, call, arguments))

    def run(self, seconds, late_s=0.0):
        for _ in range(seconds):
            due, self.due = self.due, []
            for at_s, call, arguments in due:
                self.now_s = at_s + late_s
                call(*arguments)


class Output:
    """An output of a cell: its displays, newest last."""

    made: ClassVar[list["Output"]] = []

    def __init__(self):
        self.shown = []
        self.made.append(self)

    def show(self, data, _metadata=None):
        self.shown.append(data)


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    events = SimpleNamespace(register=lambda *_: None, unregister=lambda *_: None)
    monkeypatch.setattr(Output, "made", [])
    monkeypatch.setattr("gglib_nb.notebook.outputs.CellOutput", Output)
    monkeypatch.setattr("gglib_nb.notebook.outputs.get_ipython", lambda: SimpleNamespace(events=events))
    monkeypatch.setattr("gglib_nb.notebook.outputs.host.kernel", object)
    monkeypatch.setattr("gglib_nb.notebook.outputs.host.is_recording", lambda: False)
    monkeypatch.setattr("gglib_nb.notebook.outputs.asyncio.get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def outputs(loop):
    outputs = PanelOutputs(
        lambda caption: ({kind: data if kind == VIEW else f"{data}\n{caption}" for kind, data in BUNDLE.items()}, {}),
        lambda: BUSY,
    )
    outputs.show()
    yield outputs
    outputs.close()


def last_shown():
    for thread in threading.enumerate():
        if thread.name == "gglib-outputs":
            thread.join(30)
    return Output.made[0].shown[-1]


def test_without_a_reply_from_a_page_the_output_becomes_text_and_html_with_the_time(outputs, loop):
    loop.run(10)

    shown = last_shown()
    assert set(shown) == {"text/plain", "text/html"}
    assert all("As of 20" in text and "anywidget" in text for text in shown.values())


def test_without_a_page_the_output_lists_the_equivalent_magics(outputs, loop):
    loop.run(10)

    assert all("%gguf wait" in text and "%gguf help" in text for text in last_shown().values())


def test_a_busy_kernel_does_not_conclude_that_no_page_answered(outputs, loop):
    loop.run(30, late_s=2.0)

    assert VIEW in last_shown()


def test_a_page_that_replies_in_time_keeps_the_live_view(outputs, loop):
    loop.run(5)
    outputs.page_answered()
    loop.run(30)

    assert VIEW in last_shown()
    assert loop.due == []


def test_a_page_that_replies_late_gets_the_live_view_back(outputs, loop):
    loop.run(10)
    assert VIEW not in last_shown()

    outputs.page_answered()

    assert VIEW in last_shown()


def test_a_closed_panel_ignores_messages(outputs, loop):
    outputs.close()
    loop.run(30)

    assert VIEW in last_shown()
    assert loop.due == []


def test_the_newest_of_two_updates_at_once_is_shown_last(loop):
    queue, is_drawing = [BUSY], threading.Event()

    def bundle(_caption):
        count = len(queue[-1].recent_failures)
        if count == 1:
            is_drawing.set()
            threading.Event().wait(0.3)  # the other update may overtake this one
        return {"text/plain": f"{count} failed"}, {}

    outputs = PanelOutputs(bundle, lambda: queue[-1])
    outputs.show()
    for ids in (["a/a:Q8_0"], ["a/a:Q8_0", "b/b:Q8_0"]):
        queue.append(snapshot(*(download(id_, "failed") for id_ in ids)))
        outputs.follow(queue[-1])
        assert is_drawing.wait(30)

    assert last_shown() == {"text/plain": "2 failed"}
    outputs.close()
