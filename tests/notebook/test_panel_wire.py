"""The panel without a page and without a kernel: its messages, its answers, and its display without widgets."""

import gc
import json
import re
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId, Quantization
from gglib_nb.domain.stored import PastDownload
from gglib_nb.errors import QueueFullError, RequestError
from gglib_nb.notebook.panel import Panel
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.catalog_models import model as catalog_model
from tests.support.comms import record_comms
from tests.support.fake_manager import FakeManager
from tests.support.plan_values import a_plan, a_variant
from tests.support.snapshots import GB, completed, download

MODEL = "owner/model-GGUF:Q4_K_M"
ACT = {"kind": "act", "action": "pause", "id": MODEL}


@pytest.fixture
def panel_of(monkeypatch):
    """Makes panels that record their messages; closes them at the end."""
    record_comms(monkeypatch)
    made = []

    def make(manager, pace_s=0.0):
        made.append(Panel(manager, pace_s=pace_s))
        return made[-1]

    yield make
    for panel in made:
        panel.close()


@pytest.mark.parametrize("wrong", [3, None, "manager", Panel])
def test_a_panel_of_something_else_than_a_manager_is_refused(wrong):
    with pytest.raises(RequestError, match="get_manager"):
        Panel(wrong)


def until(holds):
    """Waits for another thread."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def custom(panel):
    """The messages to the page, with the rows of changes decoded."""
    contents = [data["content"] for data in panel.comm.messages if data["method"] == "custom"]
    return [one | {"rows": json.loads(one["rows"])} if "rows" in one else one for one in contents]


def decoded(value):
    """The value as the page gets it: tuples are lists."""
    return json.loads(json.dumps(value))


def ask(panel, **content):
    panel._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    return custom(panel)[-1]


def test_a_new_page_gets_the_current_queue(panel_of):
    manager = FakeManager(download(MODEL))
    panel = panel_of(manager)

    manager.show(download(MODEL, "downloading", downloaded_bytes=GB))

    assert panel.get_state()["snapshot"]["rows"][MODEL]["part"] == 0.25


def test_a_change_contains_exactly_the_changed_rows_in_full(panel_of):
    still = download("owner/other-GGUF:Q8_0", position=1)
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB), still)
    panel = panel_of(manager)

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB), still)

    (changes,) = custom(panel)
    assert (changes["kind"], changes["seq"]) == ("changes", 1)
    assert changes["rows"] == [decoded(panel.get_state()["snapshot"]["rows"][MODEL])]
    assert "views" not in changes


def test_applied_changes_give_the_state_of_the_kernel(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB), download("owner/other-GGUF:Q8_0"))
    panel = panel_of(manager)
    before = panel.get_state()["snapshot"]

    manager.show(download(MODEL, "finalizing", downloaded_bytes=4 * GB), completed("owner/other-GGUF:Q8_0"))

    (changes,) = custom(panel)
    after = panel.get_state()["snapshot"]
    assert changes["seq"] == after["seq"] == before["seq"] + 1
    assert decoded(before["rows"]) | {row["id"]: row for row in changes["rows"]} == decoded(after["rows"])
    assert (changes["views"], changes["header"]) == (after["views"], after["header"])


def test_nothing_is_sent_without_a_visible_change(panel_of):
    item = download(MODEL, position=1)
    manager = FakeManager(item)
    panel = panel_of(manager)

    manager.show(item)

    assert custom(panel) == []


def kinds_of(value):
    """The types of everything in a message."""
    if isinstance(value, dict):
        return {type(key) for key in value}.union(*(kinds_of(one) for one in value.values()))
    if type(value) in (list, tuple):
        return set().union(*(kinds_of(one) for one in value))
    return {type(value)}


def test_messages_contain_only_plain_values(panel_of):
    label = Quantization("Q4_K_M")
    id_ = DownloadId("owner/model-GGUF", label)
    manager = FakeManager(
        replace(completed(MODEL), id=id_), replace(download("owner/b:Q8_0"), id=DownloadId("owner/b", label))
    )
    manager.answers["history"] = [PastDownload(id_, DownloadStatus.COMPLETED, GB, 1.5, 1.0, 2.0)]
    manager.registered = [catalog_model(str(id_), id=id_, label=label)]
    manager.answers["plan"] = a_plan(a_variant(label))
    panel = panel_of(manager)

    sent = [
        panel.get_state()["snapshot"],
        ask(panel, cid="1", kind="show", what="earlier"),
        ask(panel, cid="2", kind="show", what="models"),
        ask(panel, cid="3", kind="show", what="variants", text="owner/model-GGUF"),
    ]

    assert kinds_of(sent) <= {str, int, float, bool, type(None)}
    assert all("Q4_K_M" in str(one) for one in sent)


def look(panel, *, is_shown, view="one"):
    ask(panel, cid="0", kind="look", view=view, is_shown=is_shown)


def test_while_no_view_is_visible_counters_are_not_sent_but_other_changes_are(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB), bytes_per_second=1e6)
    panel = panel_of(manager)
    look(panel, is_shown=False)
    sent = len(custom(panel))

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB, bytes_per_second=5.0), bytes_per_second=2e6)
    counted = len(custom(panel))
    manager.show(download(MODEL, "finalizing", downloaded_bytes=3 * GB))

    assert counted == sent
    assert custom(panel)[-1]["rows"][0]["part"] == 0.75


def test_counters_are_sent_while_one_of_several_views_is_visible(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB))
    panel = panel_of(manager)
    look(panel, is_shown=False)
    look(panel, is_shown=True, view="two")

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB))

    assert custom(panel)[-1]["rows"][0]["part"] == 0.5


def test_a_view_of_a_page_that_reloaded_is_forgotten_after_twenty_others(panel_of):
    """Such a page does not report that its view is closed: the counters would be sent to nobody for good."""
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB))
    panel = panel_of(manager)
    look(panel, is_shown=True, view="reloaded")
    for number in range(20):
        look(panel, is_shown=False, view=f"view {number}")
    sent = len(custom(panel))

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB))

    assert len(custom(panel)) == sent


def test_counters_are_throttled_and_other_changes_sent_at_once(panel_of):
    manager = FakeManager(download(MODEL, "downloading"))
    panel = panel_of(manager, pace_s=3600.0)
    manager.show(download(MODEL, "downloading", downloaded_bytes=GB))

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB))
    counted = len(custom(panel))
    manager.show(download(MODEL, "finalizing", downloaded_bytes=3 * GB))

    assert counted == 1
    assert custom(panel)[-1]["rows"][0]["status"] == "finalizing"


def test_an_id_that_runs_again_is_one_row(panel_of):
    state = panel_of(FakeManager(download(MODEL, "downloading"), completed(MODEL))).get_state()["snapshot"]

    assert [list(view["rows"]) for view in state["views"]] == [[MODEL]]
    assert state["rows"][MODEL]["status"] == "downloading"


def test_starts_and_ends_are_announced_and_the_end_of_a_long_download_is_marked(panel_of):
    manager = FakeManager(download(MODEL))
    panel = panel_of(manager)

    manager.show(download(MODEL, "downloading"))
    started = custom(panel)[-1]["news"]
    manager.show(completed(MODEL, seconds=90))
    ended = custom(panel)[-1]["news"]

    assert [news.get("is_end", False) for news in (*started, *ended)] == [False, True]


def test_a_repeated_request_is_executed_once_and_answered_again(panel_of):
    manager = FakeManager(download(MODEL, "downloading"))
    panel = panel_of(manager)

    first = ask(panel, cid="1", kind="act", action="pause", id=MODEL)
    second = ask(panel, cid="1", kind="act", action="pause", id=MODEL)

    assert first == second
    assert manager.asked == [("pause", (MODEL,), {})]


def test_a_request_repeated_before_its_answer_is_answered_once(panel_of):
    manager = FakeManager(download(MODEL, "downloading"))
    pausing = manager.answers["pause"] = Future()
    panel = panel_of(manager)
    message = {"content": {"data": {"method": "custom", "content": ACT | {"cid": "1"}}}, "buffers": []}

    panel._handle_msg(message)
    panel._handle_msg(message)
    pausing.set_result(None)

    until(lambda: custom(panel))
    assert custom(panel) == [{"kind": "reply", "cid": "1"}]
    assert len(manager.asked) == 1


def test_sync_answers_with_nothing_if_the_page_is_current_and_else_with_the_full_state(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB))
    panel = panel_of(manager)
    look(panel, is_shown=False)
    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB))

    behind = ask(panel, cid="1", kind="sync", seq=0)
    up_to_date = ask(panel, cid="2", kind="sync", seq=behind["result"]["seq"])

    assert behind["result"] == panel.get_state()["snapshot"]
    assert behind["result"]["rows"][MODEL]["part"] == 0.5
    assert up_to_date == {"kind": "reply", "cid": "2"}


def test_a_request_is_answered_after_the_manager_returns(panel_of):
    manager = FakeManager(download(MODEL, "downloading"))
    pausing = manager.answers["pause"] = Future()
    panel = panel_of(manager)

    panel._handle_msg({"content": {"data": {"method": "custom", "content": ACT | {"cid": "7"}}}, "buffers": []})
    unanswered = custom(panel)
    pausing.set_result(None)

    until(lambda: custom(panel))
    assert unanswered == []
    assert custom(panel) == [{"kind": "reply", "cid": "7"}]
    assert manager.asked == [("pause", (MODEL,), {})]


def test_a_refusal_carries_the_text_of_the_error(panel_of):
    manager = FakeManager()
    manager.answers["queue_smart"] = QueueFullError("The queue is full.", max_size=10)

    reply = ask(panel_of(manager), cid="1", kind="add", repo_id="owner/repo", key="Q8_0")

    assert reply == {"kind": "reply", "cid": "1", "error": "The queue is full."}


def test_an_internal_error_is_answered_without_its_text(panel_of, caplog):
    manager = FakeManager()
    manager.answers["pause"] = RuntimeError("Authorization: Bearer hf_secret")

    reply = ask(panel_of(manager), cid="1", kind="act", action="pause", id=MODEL)

    assert "RuntimeError" in reply["error"]
    assert "hf_secret" not in reply["error"]


def test_an_unknown_kind_is_answered_with_an_error(panel_of):
    panel = panel_of(FakeManager())

    assert "explode" in ask(panel, cid="1", kind="explode")["error"]
    assert "explode" in ask(panel, cid="2", kind="act", action="explode")["error"]
    assert "explode" in ask(panel, cid="3", kind="set", id="explode", value="1")["error"]
    error = ask(panel, cid="4", kind="set", id="max_concurrent", value="0")["error"]
    assert error.startswith("Downloads at once is 0; it must be")
    for empty in ("", " ", "two"):
        error = ask(panel, cid="6", kind="set", id="max_concurrent", value=empty)["error"]
        assert error.startswith("Downloads at once is ")
        assert "''" not in error
        assert "'empty'" not in error
    error = ask(panel, cid="5", kind="set", id="bandwidth_limit_bytes_per_second", value="0")["error"]
    assert "Write a number of MB, or one with its unit" in error


def test_retry_all_reports_the_first_refusal_after_trying_all(panel_of):
    manager = FakeManager(*(download(f"owner/m{number}-GGUF:Q8_0", "failed", can_retry=True) for number in range(3)))
    manager.answers["retry"] = QueueFullError("The queue is full.")

    reply = ask(panel_of(manager), cid="1", kind="act", action="retry_all")

    assert [operation for operation, _, _ in manager.asked] == ["retry", "retry", "retry"]
    assert reply["error"] == "The queue is full."


def test_state_sent_back_by_a_page_is_ignored(panel_of):
    panel = panel_of(FakeManager(download(MODEL)))

    panel._handle_msg({"content": {"data": {"method": "update", "state": {"snapshot": {"views": []}}}}, "buffers": []})

    assert panel.get_state()["snapshot"]["rows"].keys() == {MODEL}


def test_a_closed_panel_ignores_events(panel_of):
    manager = FakeManager()
    panel = panel_of(manager)

    panel.close()
    manager.show(download(MODEL))

    assert panel.state.views == ()


def test_a_panel_display_includes_text_and_html(panel_of):
    data, _ = panel_of(FakeManager(download(MODEL)))._repr_mimebundle_()

    assert "application/vnd.jupyter.widget-view+json" in data
    assert MODEL in data["text/plain"]
    assert MODEL in data["text/html"]


def test_clicks_stay_on_the_subshell_chosen_by_the_page(monkeypatch):
    from ipykernel.comm import comm as ipykernels

    if not hasattr(ipykernel_comm := getattr(ipykernels, "BaseComm", None), "_reply_subshell_for"):
        pytest.skip("this ipykernel already keeps messages on their subshell")
    monkeypatch.setattr("comm.create_comm", ipykernel_comm)
    monkeypatch.setattr(ipykernel_comm, "publish_msg", lambda *_given, **_named: None)
    panel = Panel(FakeManager())
    panel.comm._reply_subshell_id = None

    routed = panel.comm._reply_subshell_for({"content": {"kind": "cancel"}}, "subshell-1")

    panel.close()
    assert routed == "subshell-1"


def test_the_text_and_html_of_a_panel_state_that_they_are_static_and_their_time(panel_of):
    data, _metadata = panel_of(FakeManager(download(MODEL)))._repr_mimebundle_()

    for kind in ("text/plain", "text/html"):
        assert "still picture" in data[kind]
        assert re.search(r"As of 20\d\d-\d\d-\d\d \d\d:\d\d\.", data[kind])


def test_retry_all_queues_the_same_downloads_in_the_same_order_in_panel_and_magic(panel_of):
    failures = [download(f"owner/m{at}-GGUF:Q8_0", "failed", can_retry=at != 1) for at in range(4)]
    clicked, typed = FakeManager(*failures), FakeManager(*failures)
    for manager in (clicked, typed):
        manager.answers["retry"] = QueueFullError("The queue is full.")

    error = ask(panel_of(clicked), cid="1", kind="act", action="retry_all")["error"]
    with pytest.raises(QueueFullError, match=error):
        parse("retry --all").run(Session(lambda: typed))

    order = [str(arguments[0]) for operation, arguments, _ in typed.asked if operation == "retry"]
    assert order == [f"owner/m{at}-GGUF:Q8_0" for at in (3, 2, 0)]
    assert clicked.asked == [one for one in typed.asked if one[0] == "retry"]


def test_retry_all_reports_how_many_failures_cannot_be_retried():
    manager = FakeManager(*(download(f"owner/m{at}-GGUF:Q8_0", "failed", can_retry=at != 1) for at in range(3)))

    answer = parse("retry --all").run(Session(lambda: manager))

    assert "2 failed downloads" in answer.text
    assert "1 cannot succeed" in answer.text


@pytest.mark.parametrize("given", [(), (5,)])
def test_a_panel_that_could_not_be_made_is_closed_without_a_message(monkeypatch, given):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    with pytest.raises((TypeError, RequestError)) as caught:
        Panel(*given)
    del caught
    gc.collect()

    assert ignored == []
