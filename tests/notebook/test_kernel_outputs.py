"""The outputs of cells during downloads, and after they have ended."""

import time
from pathlib import Path

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.kernel import Cell, Kernel

MB = 1_000_000
SHARDS = {f"Q4_K_M/split-Q4_K_M-{number:05}-of-00003.gguf": MB for number in (1, 2, 3)}
DOWNLOAD = "import gglib_nb\npath = await gglib_nb.download('demo/split')"


@pytest.fixture
def hub(hub: FaultyHub) -> FaultyHub:
    """A hub with a split model that takes a second and a half."""
    hub.add_repository(make_repository("demo/split", SHARDS))
    hub.add_repository(make_repository("demo/other", {"other-Q4_K_M.gguf": MB}))
    hub.set_speed(2 * MB)
    return hub


def displays(cell: Cell) -> list[dict[str, str]]:
    """The contents of its displays, in order."""
    return [output["data"] for output in cell.outputs if "display_data" in output["type"]]


def display_ids(cell: Cell) -> set[str]:
    """Its displays that can be updated."""
    return {output["transient"]["display_id"] for output in cell.outputs if "display_data" in output["type"]}


# The panel


def test_the_panel_of_a_finished_cell_is_updated_once_when_the_run_ends(hub: FaultyHub, kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/split")
    cell = kernel.run("%gguf", has_person=True)

    update = kernel.wait_for_update(cell)
    kernel.run("%gguf wait")
    kernel.run("%gguf queue demo/split", has_person=True)

    assert "SHA-256 verified" not in cell.outputs[0]["data"]["text/plain"]
    for kind in ("text/plain", "text/html"):
        assert "SHA-256 verified" in update["data"][kind]
    assert update["data"].keys() == cell.outputs[0]["data"].keys()
    assert update["transient"] == cell.outputs[0]["transient"]
    assert [output["type"] for output in cell.outputs] == ["display_data", "update_display_data"]


@pytest.mark.slow
def test_a_panel_shown_while_idle_is_not_displayed_again(hub: FaultyHub, kernel: Kernel) -> None:
    hub.set_speed()
    kernel.run("%gguf queue demo/other\n%gguf wait")

    cell = kernel.run("%gguf", has_person=True)
    kernel.run("%gguf status", has_person=True)

    assert [output["type"] for output in cell.outputs] == ["display_data"]


@pytest.mark.slow
@pytest.mark.parametrize(("server", "is_live"), [("jupyter_server/2", False), ("voila/0.5", True)])
def test_the_live_view_is_kept_on_a_page_and_replaced_if_the_notebook_is_only_saved(
    hub: FaultyHub, tmp_path: Path, server: str, is_live: bool
) -> None:
    hub.set_speed()
    with Kernel(tmp_path, hub.url, {"SERVER_SOFTWARE": server}) as kernel:
        cell = kernel.run("%load_ext gglib_nb\n%gguf queue demo/other\n%gguf\n%gguf wait")

    *_, last = displays(cell)
    assert "SHA-256 verified" in last["text/plain"]
    assert ("application/vnd.jupyter.widget-view+json" in last) is is_live


def test_a_notebook_that_is_saved_during_a_download_has_no_live_view(hub: FaultyHub, kernel: Kernel) -> None:
    cell = kernel.run("%load_ext gglib_nb\n%gguf queue demo/other\n%gguf")

    (data,) = displays(cell)
    assert data.keys() == {"text/plain", "text/html"}
    assert "1 active" in data["text/plain"]


# Awaited downloads


@pytest.mark.slow
def test_a_cell_that_awaits_a_download_shows_its_files_and_keeps_the_outcome(hub: FaultyHub, kernel: Kernel) -> None:
    hub.set_speed(MB / 2)
    start_s = time.monotonic()
    cell = kernel.run(DOWNLOAD, has_person=True)
    took_s = time.monotonic() - start_s

    assert cell.stream("stderr") == ""
    assert len(display_ids(cell)) == 2  # of the live display, and of the end
    *live, last = displays(cell)
    assert {"1/3", "2/3", "3/3"} <= {word for data in live for word in data["text/plain"].split()}
    assert any(">2/3<" in data["text/html"] for data in live)
    assert all("As of 2" in text for data in live for text in data.values() if text)  # it stays if the kernel ends
    assert "As of" not in last["text/plain"]
    assert "3.0 MB" in last["text/plain"]
    assert "SHA-256 verified" in last["text/html"]
    assert 3 < len(live) <= 5 * took_s + 2


@pytest.mark.slow
def test_downloads_awaited_together_each_have_their_own_output(hub: FaultyHub, kernel: Kernel) -> None:
    both = "import asyncio, gglib_nb\n_ = await asyncio.gather(*map(gglib_nb.download, ('demo/split', 'demo/other')))"

    cell = kernel.run(both, has_person=True)

    assert len(display_ids(cell)) == 4
    ends = [data["text/plain"] for data in displays(cell) if "SHA-256 verified" in data["text/plain"]]
    assert sorted(end.split()[0] for end in ends) == ["demo/other:Q4_K_M", "demo/split:Q4_K_M"]


@pytest.mark.slow
@pytest.mark.parametrize(("more", "has_person"), [("", False), (", progress=False", True)])
def test_without_a_user_or_with_progress_disabled_nothing_is_shown(
    hub: FaultyHub, kernel: Kernel, more: str, has_person: bool
) -> None:
    hub.set_speed()

    cell = kernel.run(DOWNLOAD.replace("')", f"'{more})"), has_person=has_person)

    assert (cell.status, cell.outputs) == ("ok", [])


@pytest.mark.slow
def test_a_manager_made_by_hand_shows_its_downloads(hub: FaultyHub, kernel: Kernel) -> None:
    cell = kernel.run(
        "import gglib_nb\nasync with gglib_nb.DownloadManager() as mine:\n    await mine.download('demo/other')",
        has_person=True,
    )

    assert "SHA-256 verified" in displays(cell)[-1]["text/plain"]
