"""Files that the Hub's security scan calls unsafe: not chosen if there is another, and named where they are requested."""

from dataclasses import replace

import pytest

from gglib_nb import DownloadManager
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.notebook.rows import download_row
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import CaptivePortal, Fault, FaultyHub, Status
from tests.support.hub import make_repository

REPO = "demo/small-GGUF"
USUAL, OTHER = "small-Q4_K_M.gguf", "small-Q8_0.gguf"
WARNING = "The Hub's security scan calls demo/small-GGUF:Q4_K_M unsafe. Do not load it."


def mark(hub: FaultyHub, *paths: str) -> None:
    hub.add_repository(replace(hub.repositories[REPO], unsafe=frozenset(paths)))


def run(manager: DownloadManager, line: str) -> str:
    return parse(line).run(Session(lambda: manager)).text


def test_another_variant_is_chosen_and_the_answer_says_why(manager: DownloadManager, hub: FaultyHub) -> None:
    mark(hub, USUAL)

    assert manager.sync.plan(REPO).recommended.key == "Q8_0"
    text = run(manager, f"queue {REPO} --no-start")

    assert [item.id.quantization for item in manager.snapshot.items] == ["Q8_0"]
    assert "Q8_0 was chosen because the Hub's security scan calls Q4_K_M unsafe." in text
    assert "Do not load it" not in text
    assert manager.sync.download(REPO).name == OTHER


@pytest.mark.parametrize("reference", [REPO, f"{REPO}:Q4_K_M"], ids=["chosen", "named"])
def test_the_answer_and_the_row_warn_if_there_is_no_other_or_it_is_named(
    manager: DownloadManager, hub: FaultyHub, reference: str
) -> None:
    mark(hub, USUAL, OTHER)

    assert WARNING in run(manager, f"queue {reference} --no-start")

    [item] = manager.snapshot.items
    assert ("unsafe: do not load it", "bad") in [(one.text, one.mood) for one in download_row(item, 1, 0).lines]
    assert manager.sync.download(REPO, "Q4_K_M").exists()
    assert "unsafe: do not load it" in run(manager, "status")


def test_a_failed_second_scan_keeps_what_the_first_one_found(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = [{USUAL: "unsafe"}, {}]
    monkeypatch.setattr(HubClient, "scan_states", lambda *_: scans.pop(0))

    assert "Q8_0 was chosen because" in run(manager, f"queue {REPO} --no-start")
    assert scans == []


@pytest.mark.parametrize("fault", [Status(404), Status(503), CaptivePortal()])
def test_a_folder_that_cannot_be_read_does_not_hide_the_findings_of_others(hub: FaultyHub, fault: Fault) -> None:
    first, second = "a/small-Q8_0.gguf", "b/small-Q4_K_M.gguf"
    hub.add_repository(make_repository(REPO, {first: 300_000, second: 310_000}, unsafe=frozenset({first, second})))
    hub.faults.add(fault, path="*/a", times=None)
    client = HubClient(hub.url)

    assert client.scan_states(REPO, client.list_files(REPO).commit_sha, [first, second]) == {second: "unsafe"}


def test_a_hub_that_is_down_is_not_asked_for_the_scan_of_every_folder(hub: FaultyHub) -> None:
    hub.faults.add(Status(503), times=None)

    assert (
        HubClient(hub.url, retry_policy=RetryPolicy(tries=1)).scan_states(
            REPO, "c" * 40, [f"{n}/m.gguf" for n in range(9)]
        )
        == {}
    )
    assert len(hub.requests) == 3


@pytest.mark.parametrize(
    ("state", "chosen", "said"),
    [
        ("suspicious", "Q8_0", "the Hub's security scan calls Q4_K_M suspicious."),
        ("caution", "Q4_K_M", f"security scan of {REPO}:Q4_K_M is 'caution'. See its page before you load it."),
        ("new-state", "Q4_K_M", "is 'new-state'."),
        ("error", "Q4_K_M", ""),
        ("queued", "Q4_K_M", ""),
    ],
)
def test_only_a_result_that_calls_a_file_bad_is_avoided(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch, state: str, chosen: str, said: str
) -> None:
    monkeypatch.setattr(HubClient, "scan_states", lambda *_: {USUAL: state})

    text, plan = run(manager, f"queue {REPO} --no-start"), run(manager, f"plan {REPO}")

    [item] = manager.snapshot.items
    assert (item.id.quantization, said in text) == (chosen, True)
    if chosen == "Q4_K_M":
        assert "Do not load" not in text
        assert ("scan" in text) == ("scan" in plan) == bool(said)
        lines = [(one.text, one.mood) for one in download_row(item, 1, 0).lines if "scan" in one.text]
        assert lines == ([(f"security scan: {state}", "warn")] if said else [])


def test_an_update_to_an_unsafe_version_says_so(manager: DownloadManager, hub: FaultyHub) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    hub.add_repository(make_repository(REPO, {USUAL: 310_000, OTHER: 500_000}, unsafe=frozenset({USUAL})))

    assert WARNING in run(manager, "update small")


def test_a_hub_without_a_scan_is_no_obstacle(manager: DownloadManager, hub: FaultyHub) -> None:
    text = run(manager, f"queue {REPO} --no-start")

    assert "scan" not in text
