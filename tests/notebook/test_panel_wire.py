"""The panel without a page and without a kernel: what it sends, what it answers, what it shows to those without widgets."""

import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest

from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.history import PastDownload
from gglib_nb.domain.quantization import Quantization
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import QueueFullError
from gglib_nb.notebook.messages import ItemState
from gglib_nb.notebook.panel import Panel
from tests.support.catalog_models import model as catalog_model
from tests.support.comms import record_comms
from tests.support.fake_manager import FakeManager
from tests.support.plan_values import a_plan, a_variant
from tests.support.snapshots import GB, completed, download, shard

MODEL = "owner/model-GGUF:Q4_K_M"


@pytest.fixture
def panel_of(monkeypatch):
    """Makes panels whose messages are kept; closes them at the end."""
    record_comms(monkeypatch)
    made = []

    def make(manager, pace_s=0.0):
        made.append(Panel(manager, pace_s=pace_s))
        return made[-1]

    yield make
    for panel in made:
        panel.close()


def custom(panel):
    return [data["content"] for data in panel.comm.messages if data["method"] == "custom"]


def ask(panel, **content):
    panel._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    return custom(panel)[-1]


def test_the_state_of_a_page_that_opens_is_the_queue_of_now(panel_of):
    manager = FakeManager(download(MODEL))
    panel = panel_of(manager)

    manager.show(download(MODEL, "downloading", downloaded_bytes=GB))

    assert panel.get_state()["snapshot"]["items"][MODEL]["downloaded_bytes"] == GB


def test_a_delta_holds_what_changed_and_nothing_else(panel_of):
    still = download("owner/other-GGUF:Q8_0", position=1)
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB), still)
    panel = panel_of(manager)

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB), still)

    assert custom(panel) == [
        {
            "kind": "delta",
            "rev": 2,
            "seq": 1,
            "queue": {},
            "items": {MODEL: {"fields": {"downloaded_bytes": 2 * GB}, "bars": [(0, 2 * GB)]}},
        }
    ]


def kinds_of(value):
    """The types of everything in a message."""
    if isinstance(value, dict):
        return {type(key) for key in value}.union(*(kinds_of(one) for one in value.values()))
    if type(value) in (list, tuple):
        return set().union(*(kinds_of(one) for one in value))
    return {type(value)}


def test_a_label_is_sent_as_a_plain_string_since_not_every_host_writes_messages_with_json(panel_of):
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
        panel.state,
        ask(panel, cid="1", kind="history"),
        ask(panel, cid="2", kind="models"),
        ask(panel, cid="3", kind="variants", repo_id="owner/model-GGUF"),
    ]

    assert kinds_of(sent) <= {str, int, float, bool, type(None)}
    assert "Q4_K_M" in str(sent)


def test_every_field_of_a_row_is_sent(panel_of):
    panel = panel_of(FakeManager(download(MODEL)))

    assert set(panel.state["items"][MODEL]) == set(ItemState.__annotations__)


def test_a_row_whose_files_are_others_than_before_is_sent_whole(panel_of):
    manager = FakeManager(download(MODEL))
    panel = panel_of(manager)

    manager.show(download(MODEL, commit_sha="1" * 40))

    patch = custom(panel)[0]["items"][MODEL]
    assert set(patch["fields"]) == set(ItemState.__annotations__)


def test_deltas_bring_a_state_to_where_the_kernel_is(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB), download("owner/other-GGUF:Q8_0"))
    panel = panel_of(manager)

    manager.show(download(MODEL, "finalizing", downloaded_bytes=4 * GB), completed("owner/other-GGUF:Q8_0"))

    (delta,) = custom(panel)
    assert (delta["seq"], delta["rev"]) == (panel.state["seq"], panel.state["rev"])
    assert delta["items"][MODEL]["bars"] == [(0, 4 * GB, "finished")]


def test_nothing_is_sent_where_nothing_shows(panel_of):
    item = download(MODEL, position=1)
    manager = FakeManager(item)
    panel = panel_of(manager)

    manager.show(item)

    assert custom(panel) == []


def look(panel, *rows, mapped=(), view="one"):
    ask(panel, cid="0", kind="sight", view=view, is_shown=bool(rows), rows=list(rows), mapped=list(mapped))


def mapped_download(**fields):
    bar = replace(shard(size_bytes=4 * GB, downloaded_bytes=2 * GB, status=ShardStatus.DOWNLOADING), **fields)
    return download(MODEL, "downloading", downloaded_bytes=2 * GB, shards=(bar,))


def test_what_only_counts_on_is_not_sent_while_nobody_sees_it(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB), bytes_per_second=1e6)
    panel = panel_of(manager)
    look(panel)
    sent = len(custom(panel))

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB, bytes_per_second=5.0), bytes_per_second=2e6)

    assert len(custom(panel)) == sent
    look(panel, MODEL)
    (delta, _reply) = custom(panel)[sent:]
    assert delta["items"][MODEL]["fields"] == {"downloaded_bytes": 2 * GB, "bytes_per_second": 5.0}
    assert delta["queue"] == {"bytes_per_second": 2e6}


def test_of_rows_out_of_sight_all_but_their_counters_is_sent(panel_of):
    other = "owner/other-GGUF:Q8_0"
    manager = FakeManager(download(MODEL, "downloading"), download(other, "downloading"))
    panel = panel_of(manager)
    look(panel, MODEL)

    manager.show(
        download(MODEL, "downloading", downloaded_bytes=GB), download(other, "downloading", downloaded_bytes=GB)
    )
    counting = custom(panel)[-1]
    manager.show(
        download(MODEL, "downloading", downloaded_bytes=GB), download(other, "finalizing", downloaded_bytes=2 * GB)
    )

    assert list(counting["items"]) == [MODEL]
    assert custom(panel)[-1]["items"][other]["fields"]["downloaded_bytes"] == 2 * GB


def test_what_only_counts_on_waits_for_its_turn_and_all_else_is_sent_at_once(panel_of):
    manager = FakeManager(download(MODEL, "downloading"))
    panel = panel_of(manager, pace_s=3600.0)
    manager.show(download(MODEL, "downloading", downloaded_bytes=GB))

    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB))
    counted = len(custom(panel))
    manager.show(download(MODEL, "finalizing", downloaded_bytes=3 * GB))

    assert counted == 1
    assert custom(panel)[-1]["items"][MODEL]["fields"] == {"status": "finalizing", "downloaded_bytes": 3 * GB}
    assert ask(panel, cid="1", kind="sync")["result"]["items"][MODEL]["downloaded_bytes"] == 3 * GB


def test_two_views_are_told_what_either_shows(panel_of):
    other = "owner/other-GGUF:Q8_0"
    manager = FakeManager(download(MODEL, "downloading"), download(other, "downloading"))
    panel = panel_of(manager)
    look(panel, MODEL)
    look(panel, other, view="two")

    manager.show(
        download(MODEL, "downloading", downloaded_bytes=GB), download(other, "downloading", downloaded_bytes=GB)
    )

    assert set(custom(panel)[-1]["items"]) == {MODEL, other}


def test_where_bytes_stand_is_sent_of_rows_that_show_it_and_once_they_do(panel_of):
    panel = panel_of(manager := FakeManager(mapped_download()))
    look(panel, MODEL)
    manager.show(mapped_download(arrived_steps=(0, 10, 20, 30), verified_steps=9))
    unmapped = len(custom(panel))
    look(panel, MODEL, mapped=[MODEL])
    opened = custom(panel)[unmapped]
    manager.show(mapped_download(arrived_steps=(0, 12, 20, 30), verified_steps=9))

    assert opened["items"][MODEL]["bars"] == [(0, 2 * GB, "downloading", 9, [0, 10, 20, 30])]
    assert custom(panel)[-1]["items"][MODEL]["bars"] == [(0, 2 * GB, "downloading", 9, [0, 12, 20, 30])]


def test_a_page_that_asks_for_all_gets_what_was_kept_back(panel_of):
    manager = FakeManager(download(MODEL, "downloading", downloaded_bytes=GB))
    panel = panel_of(manager)
    look(panel)
    manager.show(download(MODEL, "downloading", downloaded_bytes=2 * GB))

    reply = ask(panel, cid="1", kind="sync")

    assert reply["result"]["items"][MODEL]["downloaded_bytes"] == 2 * GB
    assert reply["result"]["seq"] == custom(panel)[-2]["seq"]


def test_an_id_that_ended_before_and_runs_again_is_one_row(panel_of):
    panel = panel_of(FakeManager(download(MODEL, "downloading"), completed(MODEL)))

    assert panel.state["order"] == [MODEL]
    assert panel.state["items"][MODEL]["status"] == "downloading"


def test_a_request_is_answered_when_the_manager_has_answered(panel_of):
    manager = FakeManager(download(MODEL, "downloading"))
    cancelling = manager.answers["cancel_download"] = Future()
    panel = panel_of(manager)
    ask_nothing_yet = len(custom(panel))

    panel._handle_msg(
        {
            "content": {"data": {"method": "custom", "content": {"cid": "7", "kind": "cancel", "id": MODEL}}},
            "buffers": [],
        }
    )
    unanswered = custom(panel)[ask_nothing_yet:]
    answered = threading.Event()
    manager.submitted[-1].add_done_callback(lambda _done: answered.set())  # behind the panel's own
    cancelling.set_result(None)
    answered.wait(10)

    assert unanswered == []
    assert custom(panel)[-1] == {"kind": "reply", "cid": "7", "ok": True, "result": None}
    assert manager.asked == [("cancel_download", (MODEL,), {})]


def test_a_refusal_carries_the_words_of_the_error(panel_of):
    manager = FakeManager()
    manager.answers["queue_smart"] = QueueFullError("The queue is full.", max_size=10)

    reply = ask(panel_of(manager), cid="1", kind="queue", repo_id="owner/repo")

    assert reply == {"kind": "reply", "cid": "1", "ok": False, "error": "The queue is full."}


def test_a_fault_of_ours_is_answered_without_its_text(panel_of, caplog):
    manager = FakeManager()
    manager.answers["pause"] = RuntimeError("Authorization: Bearer hf_secret")

    reply = ask(panel_of(manager), cid="1", kind="pause", id=MODEL)

    assert reply["ok"] is False
    assert "RuntimeError" in reply["error"]
    assert "hf_secret" not in reply["error"]


def test_an_unknown_kind_gets_an_error_and_not_silence(panel_of):
    reply = ask(panel_of(FakeManager()), cid="1", kind="explode")

    assert (reply["ok"], "explode" in reply["error"]) == (False, True)


def test_sync_answers_with_the_whole_state(panel_of):
    panel = panel_of(FakeManager(download(MODEL)))

    reply = ask(panel, cid="1", kind="sync")

    assert reply["result"] == panel.get_state()["snapshot"]


def test_retry_all_says_the_first_refusal_after_all_were_asked(panel_of):
    manager = FakeManager(*(download(f"owner/m{number}-GGUF:Q8_0", "failed") for number in range(3)))
    manager.answers["retry"] = QueueFullError("The queue is full.")

    reply = ask(panel_of(manager), cid="1", kind="retry_all")

    assert [operation for operation, _, _ in manager.asked] == ["retry", "retry", "retry"]
    assert reply["error"] == "The queue is full."


def test_what_a_page_sends_back_as_state_changes_nothing(panel_of):
    panel = panel_of(FakeManager(download(MODEL)))

    panel._handle_msg({"content": {"data": {"method": "update", "state": {"snapshot": {"order": []}}}}, "buffers": []})

    assert panel.get_state()["snapshot"]["order"] == [MODEL]


def test_a_closed_panel_hears_no_more(panel_of):
    manager = FakeManager()
    panel = panel_of(manager)

    panel.close()
    manager.show(download(MODEL))

    assert panel.state["order"] == []


def test_readers_without_widgets_get_text_and_html_beside_the_view(panel_of):
    data, _ = panel_of(FakeManager(download(MODEL)))._repr_mimebundle_()

    assert "application/vnd.jupyter.widget-view+json" in data
    assert MODEL in data["text/plain"]
    assert MODEL in data["text/html"]


def test_clicks_stay_on_the_subshell_that_the_page_chose(monkeypatch):
    from ipykernel.comm import comm as ipykernels

    if not hasattr(ipykernel_comm := getattr(ipykernels, "BaseComm", None), "_reply_subshell_for"):
        pytest.skip("this ipykernel leaves messages on their subshell by itself")
    monkeypatch.setattr("comm.create_comm", ipykernel_comm)
    monkeypatch.setattr(ipykernel_comm, "publish_msg", lambda *_given, **_named: None)
    panel = Panel(FakeManager())
    panel.comm._reply_subshell_id = None

    routed = panel.comm._reply_subshell_for({"content": {"kind": "cancel"}}, "subshell-1")

    panel.close()
    assert routed == "subshell-1"
