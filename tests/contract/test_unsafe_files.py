"""Files that the Hub's security scan calls unsafe: not chosen if there is another, and named where they are requested."""

from dataclasses import replace

import pytest

from gglib_nb import DownloadManager
from gglib_nb.notebook.rows import download_row
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub
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
    assert "Q8_0, because the Hub's security scan calls Q4_K_M unsafe." in text
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


def test_an_update_to_an_unsafe_version_says_so(manager: DownloadManager, hub: FaultyHub) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    hub.add_repository(make_repository(REPO, {USUAL: 310_000, OTHER: 500_000}, unsafe=frozenset({USUAL})))

    assert WARNING in run(manager, "update small")


def test_a_hub_without_a_scan_is_no_obstacle(manager: DownloadManager, hub: FaultyHub) -> None:
    text = run(manager, f"queue {REPO} --no-start")

    assert "scan" not in text
