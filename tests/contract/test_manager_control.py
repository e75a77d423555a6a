"""Operations of the port on queued downloads, against the embedded hub, and the events they emit."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gglib_nb import (
    ClusterError,
    DownloadCancelledError,
    DownloadCompleted,
    DownloadManager,
    DownloadRequest,
    DownloadStarted,
    DownloadStatus,
    InvalidConfigError,
    NotInQueueError,
    RequestError,
    RunSummarized,
    SnapshotChanged,
)
from tests.support.faulty_hub import FaultyHub, RequestRecord
from tests.support.hub import make_repository
from tests.support.kernel import wait_until

SMALL = "demo/small-GGUF"
SPLIT = "demo/split-GGUF"
VISION = "demo/vision-GGUF"


def answers_that_run(records: Sequence[RequestRecord]) -> int:
    return sum(record.carries_file and record.ended_s is None for record in records)


# Cancelling and removing


async def test_cancelling_an_active_download_stops_all_its_shards(manager: DownloadManager, held: FaultyHub) -> None:
    queued = await manager.queue_smart(SPLIT)

    await manager.cancel_download(queued.id)

    assert [item.status for item in manager.snapshot.recent_cancelled] == [DownloadStatus.CANCELLED]
    assert await manager.active_count() == 0
    assert await manager.pending_count() == 0


async def test_cancel_group_takes_the_id_itself_too(manager: DownloadManager, held: FaultyHub) -> None:
    queued = await manager.queue_smart(SPLIT)

    await manager.cancel_group(queued.id)

    assert manager.snapshot.items == ()


@pytest.mark.parametrize(
    "operation", ["cancel_download", "cancel_group", "remove_from_queue", "pause", "resume", "retry", "clear_failed"]
)
async def test_an_unknown_id_is_refused(manager: DownloadManager, operation: str) -> None:
    with pytest.raises(NotInQueueError, match="demo/nothing:Q4_K_M"):
        await getattr(manager, operation)("demo/nothing:Q4_K_M")


async def test_a_cancelled_download_keeps_its_bytes_unless_discarded(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(bytes_per_second=2_000_000)
    queued = await manager.queue_smart("demo/large-GGUF")
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 2_000_000)
    ended = manager.submit(manager.sync.wait, queued.id)
    folder = tmp_path / "models" / "demo" / "large-GGUF"

    await manager.cancel_download(queued.id)
    ended.exception(timeout=60)
    kept = {file.name for file in folder.iterdir()}
    await manager.queue_download(DownloadRequest("demo/large-GGUF"))
    await manager.cancel_download(queued.id, discard=True)

    assert "large-Q8_0.gguf.part" in kept
    await asyncio.to_thread(wait_until, lambda: not list(folder.iterdir()), 60, "the end of the partial file")


@pytest.mark.slow
async def test_unused_partial_files_are_listed_and_deleted(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(bytes_per_second=4_000_000)
    await manager.queue_smart("demo/large-GGUF")
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 6_000_000)
    in_use = await manager.discard_partials([one.target for one in await manager.partials()])
    await manager.cancel_all()

    [left] = await manager.partials()
    deleted = await manager.discard_partials([left.target])

    assert in_use == frozenset()
    assert left.target == str(tmp_path / "models/demo/large-GGUF/large-Q8_0.gguf")
    assert left.size_bytes == 40_000_000
    assert 0 < left.downloaded_bytes < 40_000_000
    assert deleted == {left.target}
    assert manager.snapshot.recent_cancelled[0].downloaded_bytes == 0
    assert await manager.partials() == []


# Order and limits
async def test_an_active_download_has_no_position_to_change(manager: DownloadManager, held: FaultyHub) -> None:
    active = await manager.queue_smart(SMALL, "Q4_K_M")

    with pytest.raises(NotInQueueError, match="position"):
        await manager.reorder_queue(active.id, 1)


async def test_a_limit_below_one_is_refused(manager: DownloadManager) -> None:
    with pytest.raises(InvalidConfigError):
        await manager.set_max_queue_size(0)

    assert await manager.get_max_queue_size() == 10


async def test_max_concurrent_is_obeyed(make_manager: Callable[..., DownloadManager], held: FaultyHub) -> None:
    manager = make_manager(max_concurrent=2)

    for repo_id in (SMALL, SPLIT, VISION):
        await manager.queue_smart(repo_id)

    assert await manager.active_count() == 2
    assert await manager.pending_count() == 1


async def test_raising_max_concurrent_starts_downloads_and_lowering_it_stops_none(
    manager: DownloadManager, held: FaultyHub
) -> None:
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")

    await manager.set_max_concurrent(2)
    more = await manager.active_count()
    await manager.set_max_concurrent(1)

    assert (more, await manager.active_count()) == (2, 2)
    with pytest.raises(InvalidConfigError):
        await manager.set_max_concurrent(0)


async def test_a_cluster_that_does_not_run_is_no_engine(manager: DownloadManager) -> None:
    with pytest.raises(ClusterError, match="No Dask cluster named 'foo' runs in this process"):
        await manager.set_engine("foo")

    assert manager.engine is None


async def test_the_engine_changes_only_when_no_download_runs(manager: DownloadManager, held: FaultyHub) -> None:
    small = (await manager.queue_smart(SMALL)).id

    with pytest.raises(InvalidConfigError, match="cannot change while downloads run"):
        await manager.set_engine("dask://127.0.0.1:9")
    assert manager.engine is None
    held.set_speed()
    await manager.wait(small)
    await manager.set_engine("dask://127.0.0.1:9")
    assert manager.engine == "dask://127.0.0.1:9"

    await manager.set_engine("local")
    done = await manager.queue_smart(SPLIT)

    assert manager.engine is None
    assert (await manager.wait(done.id)).is_verified


async def test_a_copy_for_every_host_is_refused_without_a_cluster(manager: DownloadManager) -> None:
    with pytest.raises(RequestError, match="needs a cluster"):
        await manager.queue_smart(SMALL, everywhere=True)


async def test_a_lower_connection_limit_applies_to_active_downloads(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(per_connection=1_000_000)
    manager = make_manager(max_connections=4)
    await manager.queue_smart("demo/large-GGUF")
    hub.wait_for(lambda records: answers_that_run(records) >= 2)

    await manager.set_max_connections(1)

    hub.wait_for(lambda records: answers_that_run(records) == 1)
    with pytest.raises(InvalidConfigError):
        await manager.set_max_connections(65)


@pytest.mark.slow
async def test_outside_its_hours_a_download_waits_and_later_resumes(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(bytes_per_second=4_000_000)
    queued = await manager.queue_smart("demo/large-GGUF")
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 6_000_000)
    later = datetime.now().astimezone() + timedelta(hours=2)

    await manager.set_download_hours(f"{later:%H:%M}-{later + timedelta(hours=1):%H:%M}")
    row = next(item for item in manager.snapshot.items if item.id == queued.id)
    hub.wait_for(lambda records: answers_that_run(records) == 0)
    await manager.set_download_hours(None)
    hub.set_speed()
    finished = await manager.wait(queued.id)

    assert (row.status, row.position, row.notice) == (DownloadStatus.QUEUED, 1, f"waiting until {later:%H:%M}")
    assert finished.is_verified
    assert hub.bytes_sent("large-Q8_0.gguf") < 40_000_000 + 6_000_000


async def test_has_download_is_true_only_for_pending_and_active_downloads(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    await manager.queue_download(DownloadRequest(SMALL, "Q4_K_M"))
    pending = await manager.has_download("demo/small-GGUF:q4_k_m")
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.join()

    assert pending
    assert not await manager.has_download("demo/small-GGUF:Q4_K_M")


# Pausing and retrying


async def test_a_paused_active_download_becomes_pending_at_position_one(
    manager: DownloadManager, held: FaultyHub
) -> None:
    paused = await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")

    await manager.pause(paused.id)

    row = next(item for item in manager.snapshot.items if item.id == paused.id)
    assert (row.status, row.position) == (DownloadStatus.PAUSED, 1)


async def test_join_does_not_wait_for_a_paused_download(manager: DownloadManager, hub: FaultyHub) -> None:
    await manager.queue_download(DownloadRequest(SMALL, "Q4_K_M"))
    await manager.pause("demo/small-GGUF:Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")

    await manager.join()

    assert [item.status for item in manager.snapshot.items] == [DownloadStatus.PAUSED]


async def test_a_resumed_download_completes(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.set_speed(bytes_per_second=0)
    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.pause(queued.id)
    hub.set_speed()

    await manager.resume(queued.id)

    assert (await manager.wait(queued.id)).paths[0].stat().st_size == 300_000


@pytest.mark.parametrize("discard", [False, True])
async def test_waiting_for_a_cancelled_download_raises_without_a_word_about_its_data(
    manager: DownloadManager, held: FaultyHub, discard: bool
) -> None:
    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    waiting = manager.submit(manager.sync.wait, queued.id)

    await manager.cancel_download(queued.id, discard=discard)

    with pytest.raises(DownloadCancelledError, match=f"^{queued.id} was cancelled\\.$"):
        waiting.result(timeout=60)


async def test_cancelling_the_awaiter_does_not_cancel_the_download(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.set_speed(bytes_per_second=0)
    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    awaiter = manager.submit(manager.sync.wait, queued.id)

    awaiter.cancel()
    hub.set_speed()

    assert (await manager.wait(queued.id)).is_verified


# Listening


async def test_events_cover_the_life_of_a_download(manager: DownloadManager) -> None:
    seen: list[object] = []
    events = manager.events()
    queued = manager.submit(manager.sync.queue_smart, SMALL, "Q4_K_M")

    async for event in events:
        seen.append(event)
        if isinstance(event, RunSummarized):
            break

    kinds = [type(event) for event in seen]
    completed = next(event for event in seen if isinstance(event, DownloadCompleted))
    assert kinds[0] is SnapshotChanged
    assert kinds.index(DownloadStarted) < kinds.index(DownloadCompleted) < kinds.index(RunSummarized)
    assert completed.download.id == queued.result().id


async def test_a_run_without_success_is_summarized(manager: DownloadManager, held: FaultyHub) -> None:
    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.cancel_download(queued.id)

    await manager.join()

    summary = manager.snapshot.last_run
    assert summary is not None
    assert (summary.attempts_completed, summary.attempts_cancelled) == (0, 1)
