"""The port, operation by operation and clause by clause, as in gglib's trait."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import (
    DownloadCancelledError,
    DownloadId,
    DownloadManager,
    DownloadRequest,
    DownloadStatus,
    IncompleteShardSetError,
    IntegrityError,
    NotInQueueError,
    QueueFullError,
)
from tests.support.faulty_hub import FaultyHub, WrongBytes
from tests.support.hub import make_repository

SMALL, SPLIT = "demo/small-GGUF", "demo/split-GGUF"
Q4, Q8 = f"{SMALL}:Q4_K_M", f"{SMALL}:Q8_0"


def rows(manager: DownloadManager) -> list[tuple[str, str, int]]:
    return [(str(item.id), item.status.value, item.position) for item in manager.snapshot.items]


async def failed(manager: DownloadManager, hub: FaultyHub, repo_id: str, quantization: str | None = None) -> DownloadId:
    hub.faults.add(WrongBytes(), path="*.gguf", origin="cdn", times=None)
    queued = await manager.queue_smart(repo_id, quantization)
    with pytest.raises(IntegrityError):
        await queued.wait()
    hub.faults.clear()
    return queued.id


async def test_queue_download_resolves_and_adds_without_starting_the_processor(manager: DownloadManager) -> None:
    id_ = await manager.queue_download(DownloadRequest(SMALL, "q4_k_m"))

    assert id_ == DownloadId(SMALL, "Q4_K_M")
    assert rows(manager) == [(Q4, "queued", 1)]
    assert not manager.snapshot.is_processing
    assert manager.engine_pid is None


async def test_queue_download_with_a_running_processor_starts(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.set_speed(bytes_per_second=0)
    await manager.queue_and_process(DownloadRequest(SMALL, "Q4_K_M"))

    id_ = await manager.queue_download(DownloadRequest(SMALL, "Q8_0"))
    hub.set_speed()

    assert (await manager.wait(id_)).is_verified


async def test_queue_and_process_starts_the_processor(manager: DownloadManager, held: FaultyHub) -> None:
    await manager.queue_and_process(DownloadRequest(SMALL, "Q4_K_M"))

    assert rows(manager) == [(Q4, "downloading", 0)]
    assert manager.snapshot.is_processing


async def test_queue_smart_chooses_starts_and_unpacks_as_position_and_shards(
    manager: DownloadManager, held: FaultyHub
) -> None:
    position, shard_count = await manager.queue_smart(SPLIT)
    queued = await manager.queue_smart(SMALL)

    assert (position, shard_count) == (0, 3)
    assert (queued.id, queued) == (DownloadId(SMALL, "Q4_K_M"), (1, 1))


async def test_queue_smart_joins_a_pending_or_active_download_and_returns_its_position(
    manager: DownloadManager, held: FaultyHub
) -> None:
    for quantization in ("Q4_K_M", "Q8_0"):
        await manager.queue_smart(SMALL, quantization)

    active, pending = (
        await manager.queue_smart(SMALL, "q4_k_m"),
        await manager.queue_smart(SMALL, "Q8_0", revision="main"),
    )

    assert [(one.position, one.is_new) for one in (active, pending)] == [(0, False), (1, False)]
    assert len(manager.snapshot.items) == 2


async def test_queue_smart_refuses_an_incomplete_set_before_the_first_byte(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/half-GGUF", {"half-Q4_K_M-00001-of-00002.gguf": 1000}))

    with pytest.raises(IncompleteShardSetError):
        await manager.queue_smart("demo/half-GGUF")

    assert hub.bytes_sent() == 0


async def test_the_snapshot_has_queued_active_completed_failed_and_cancelled_downloads_with_their_shards(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    await manager.download(SMALL, "Q4_K_M", progress=False)
    await failed(manager, hub, SMALL, "Q8_0")
    hub.set_speed(bytes_per_second=0)
    active = await manager.queue_smart(SPLIT)
    cancelled = await manager.queue_smart("demo/vision-GGUF")
    await manager.cancel_download(cancelled.id)

    snapshot = await manager.get_queue_snapshot()

    assert [(item.id, item.status, len(item.shards)) for item in snapshot.items] == [
        (active.id, DownloadStatus.DOWNLOADING, 3)
    ]
    ended = (snapshot.recent_completed, snapshot.recent_failures, snapshot.recent_cancelled)
    assert [[str(item.id) for item in items] for items in ended] == [[Q4], [Q8], [str(cancelled.id)]]
    assert (snapshot.active_count, snapshot.pending_count, snapshot.max_size) == (1, 0, 10)
    assert snapshot.items[0].notice is not None


async def test_cancel_download_removes_a_queued_or_stops_an_active_download_keeping_its_bytes(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(bytes_per_second=2_000_000)
    active = await manager.queue_smart("demo/large-GGUF")
    queued = await manager.queue_smart(SMALL)
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 2_000_000)

    await manager.cancel_download(str(queued.id))
    left = [item.id for item in manager.snapshot.items]
    await manager.cancel_download(active.id)
    await manager.join()

    assert left == [active.id]
    assert manager.snapshot.items == ()
    assert (tmp_path / "models/demo/large-GGUF/large-Q8_0.gguf.part").exists()
    with pytest.raises(NotInQueueError, match="cancelled and no longer in the queue"):
        await manager.cancel_download(active.id)


async def test_cancel_all_empties_the_queue_within_5_seconds_and_answers_waiters(
    manager: DownloadManager, held: FaultyHub
) -> None:
    active = await manager.queue_smart(SMALL)
    await manager.queue_smart(SPLIT)
    waiting = manager.submit(manager.sync.wait, active.id)
    begun_s = time.monotonic()

    await manager.cancel_all()

    assert time.monotonic() - begun_s < 5.5
    assert manager.snapshot.items == ()
    assert (await manager.active_count(), await manager.pending_count()) == (0, 0)
    with pytest.raises(DownloadCancelledError):
        waiting.result(timeout=60)


async def test_counts_refer_to_whole_downloads_and_has_download_to_the_queue(
    manager: DownloadManager, held: FaultyHub
) -> None:
    await manager.queue_smart(SPLIT)
    await manager.queue_smart(SMALL)

    assert (await manager.active_count(), await manager.pending_count()) == (1, 1)
    assert await manager.has_download(f"{SPLIT}:Q4_K_M")
    assert await manager.has_download(Q4)
    assert not await manager.has_download(Q8)


async def test_remove_from_queue_accepts_pending_downloads_and_suggests_cancel_for_active_ones(
    manager: DownloadManager, held: FaultyHub
) -> None:
    active = await manager.queue_smart(SPLIT)
    pending = await manager.queue_smart(SMALL)

    await manager.remove_from_queue(pending.id)

    with pytest.raises(NotInQueueError, match="cancel"):
        await manager.remove_from_queue(active.id)
    assert [item.id for item in manager.snapshot.items] == [active.id]


@pytest.mark.parametrize(("wanted", "assigned"), [(1, 1), (2, 2), (0, 1), (-7, 1), (99, 3)])
async def test_reorder_queue_counts_from_1_clamps_and_moves_a_download_with_all_its_shards(
    manager: DownloadManager, wanted: int, assigned: int
) -> None:
    for repo_id, quantization in ((SMALL, "Q4_K_M"), (SMALL, "Q8_0"), (SPLIT, "Q4_K_M")):
        await manager.queue_download(DownloadRequest(repo_id, quantization))

    given = await manager.reorder_queue(f"{SPLIT}:Q4_K_M", wanted)

    items = manager.snapshot.items
    assert given == assigned == next(item.position for item in items if item.repo_id == SPLIT)
    assert [item.position for item in items] == [1, 2, 3]
    assert [len(item.shards) for item in items if item.repo_id == SPLIT] == [3]


async def test_cancel_group_takes_the_text_of_an_id_of_one_file_or_of_many(
    manager: DownloadManager, held: FaultyHub
) -> None:
    ids = [(await manager.queue_smart(repo_id)).id for repo_id in (SMALL, SPLIT)]

    for item, id_ in zip(manager.snapshot.items, ids, strict=True):
        assert item.group_id == str(id_)
        await manager.cancel_group(item.group_id)

    assert manager.snapshot.items == ()
    with pytest.raises(NotInQueueError):
        await manager.cancel_group("demo/nothing:Q4_K_M")


async def test_retry_queues_a_failure_and_returns_its_position(manager: DownloadManager, hub: FaultyHub) -> None:
    id_ = await failed(manager, hub, SPLIT)
    with pytest.raises(NotInQueueError, match="retry"):
        await manager.cancel_download(id_)

    position = await manager.retry(id_)

    assert position == 0
    assert manager.snapshot.recent_failures == ()
    assert (await manager.wait(id_)).is_verified


async def test_retry_on_a_full_queue_is_refused_and_the_failure_is_kept(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub
) -> None:
    manager = make_manager(max_queue_size=1)
    id_ = await failed(manager, hub, SMALL, "Q8_0")
    hub.set_speed(bytes_per_second=0)
    await manager.queue_smart(SPLIT)
    await manager.queue_smart(SMALL, "Q4_K_M")

    with pytest.raises(QueueFullError):
        await manager.retry(id_)

    assert [item.id for item in manager.snapshot.recent_failures] == [id_]


async def test_clear_failed_empties_the_failures(manager: DownloadManager, hub: FaultyHub) -> None:
    await failed(manager, hub, SMALL, "Q8_0")

    await manager.clear_failed()

    assert manager.snapshot.recent_failures == ()


async def test_the_queue_limit_counts_pending_downloads_takes_effect_at_once_and_never_evicts(
    manager: DownloadManager, held: FaultyHub
) -> None:
    await manager.set_max_queue_size(2)
    await manager.queue_smart(SPLIT)  # active, so it does not count
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")
    with pytest.raises(QueueFullError):
        await manager.queue_smart("demo/vision-GGUF")

    await manager.set_max_queue_size(1)

    assert await manager.get_max_queue_size() == 1
    assert await manager.pending_count() == 2
