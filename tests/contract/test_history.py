"""The history outlives its kernel: every kernel of the user reads it, and no fault of it stops a download."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gglib_nb import DownloadManager, DownloadStatus
from gglib_nb.demo import DemoRepository
from gglib_nb.errors import CatalogError, TransferError
from tests.support.faulty_hub import FaultyHub, WrongBytes
from tests.support.models import MB, one_model
from tests.support.queue_process import BY_HAND, QueueProcess

GOOD, BROKEN, WAITING = (f"demo/{name}:Q4_K_M" for name in ("good", "broken", "waiting"))
SMALL = "demo/small-GGUF"
_PAST = "[[str(one.id), str(one.outcome), one.total_bytes, one.took_s, one.error] for one in manager.sync.history()]"


@pytest.fixture
def hub(make_hub: Callable[..., FaultyHub], small_repositories: list[DemoRepository]) -> FaultyHub:
    hub = make_hub(small_repositories)
    for name, size_bytes in (("good", 2 * MB), ("broken", MB), ("waiting", MB)):
        hub.add_repository(one_model(f"demo/{name}", size_bytes))
    hub.faults.add(WrongBytes(), path="broken-*", origin="cdn", times=None)
    return hub


def past_of(process: QueueProcess) -> list[list[Any]]:
    """Id, outcome, size, seconds and error of ended downloads, newest first."""
    past: list[list[Any]] = process.value(_PAST)
    return past


def begin(process: QueueProcess) -> None:
    """One completes, one fails, one is removed before it ran."""
    process.queue(GOOD, BROKEN)
    process.value("manager.sync.join()")
    process.value(
        "manager.sync.queue_download(__import__('gglib_nb').DownloadRequest('demo/waiting', 'Q4_K_M')) and None"
    )
    process.value(f"manager.sync.remove_from_queue({WAITING!r})")


@pytest.mark.slow
@pytest.mark.parametrize("manager", [None, BY_HAND], ids=["the kernel's own", "made by hand"])
def test_the_next_kernel_has_the_history_of_a_killed_one(hub: FaultyHub, tmp_path: Path, manager: str | None) -> None:
    with QueueProcess(tmp_path, hub.url, *([manager] if manager else [])) as first:
        begin(first)
        seen = past_of(first)
        first.kill()

    with QueueProcess(tmp_path, hub.url) as second:
        assert past_of(second) == seen

    (broken, failed, _, _, error), (good, completed, size_bytes, took_s, nothing) = seen
    assert (broken, failed, good, completed, size_bytes, nothing) == (BROKEN, "failed", GOOD, "completed", 2 * MB, "")
    assert 0 < took_s < 300  # seconds
    assert error.endswith(".")
    assert "SHA-256" in error


@pytest.mark.slow
def test_a_kernel_closed_at_once_stores_the_latest_end(hub: FaultyHub, tmp_path: Path) -> None:
    with QueueProcess(tmp_path, hub.url) as first:
        first.value("manager.sync.download('demo/good', 'Q4_K_M') and None")
        first.end()

    with QueueProcess(tmp_path, hub.url) as second:
        assert [row[0] for row in past_of(second)] == [GOOD]


@pytest.mark.slow
def test_two_kernels_share_one_history_and_clearing_applies_to_both(hub: FaultyHub, tmp_path: Path) -> None:
    with QueueProcess(tmp_path, hub.url) as first, QueueProcess(tmp_path, hub.url) as second:
        first.queue(GOOD)
        first.value("manager.sync.join()")
        second.queue(BROKEN)
        second.value("manager.sync.join()")
        first.wait_until(lambda one: [row[0] for row in past_of(one)] == [BROKEN, GOOD], "both")

        assert first.value("manager.sync.clear_history()") == 2
        assert past_of(second) == []


async def test_an_ended_download_is_in_the_history_at_once(
    make_manager: Callable[..., DownloadManager],
) -> None:
    manager = make_manager()

    await manager.download(SMALL, "Q4_K_M")

    [past] = await manager.history()
    [done] = manager.snapshot.recent_completed
    assert (past.id, past.outcome) == (done.id, DownloadStatus.COMPLETED)
    assert (past.started_at_s, past.ended_at_s, past.total_bytes) == (
        done.started_at_s,
        done.ended_at_s,
        done.total_bytes,
    )


async def test_a_retried_end_stays_in_the_history_with_the_next_one(
    hub: FaultyHub, make_manager: Callable[..., DownloadManager]
) -> None:
    manager = make_manager()
    with pytest.raises(TransferError):
        await manager.download("demo/broken", "Q4_K_M")
    hub.faults.clear()

    await manager.retry(BROKEN)
    await manager.wait(BROKEN)

    assert [one.outcome.value for one in await manager.history()] == ["completed", "failed"]


async def test_ends_during_a_database_outage_are_stored_afterwards(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    in_its_place = tmp_path / "state" / "gglib_nb.sqlite3"
    in_its_place.mkdir(parents=True)
    manager = make_manager()
    path = await manager.download(SMALL, "Q4_K_M")

    with pytest.raises(CatalogError, match="cannot be opened or written"):
        await manager.history()
    in_its_place.rmdir()

    assert path.is_file()
    assert [one.outcome.value for one in await manager.history()] == ["completed"]
