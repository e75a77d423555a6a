"""The public names in user code. Checked by mypy, never run."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

import gglib_nb
from gglib_nb import (
    Deletion,
    DiskUse,
    DownloadId,
    DownloadManager,
    DownloadManagerConfig,
    DownloadRequest,
    DownloadStatus,
    GatedRepoError,
    GglibError,
    ImportReport,
    IntegrityError,
    InvalidQuantizationError,
    ModelSummary,
    ModelUpdate,
    QueuedDownload,
    QueuedUpdate,
    QueueSnapshot,
    RateLimitedError,
    Repair,
    Verification,
)


async def get_one_file() -> Path:
    path = await gglib_nb.download("owner/name", "Q4_K_M")
    return assert_type(path, Path)


async def watch_it_arrive() -> None:
    def show(download: QueuedDownload) -> None:
        assert_type(download.downloaded_bytes, int)

    assert_type(await gglib_nb.download("owner/name", progress=show), Path)
    assert_type(gglib_nb.get_manager().sync.download("owner/name", progress=False), Path)


async def limit_what_runs() -> None:
    manager = gglib_nb.get_manager()
    await manager.set_max_concurrent(2)
    await manager.set_max_connections(8)
    await manager.set_network_wait(60)
    await manager.set_download_hours("22:00-7:00")
    manager.sync.set_download_hours(None)


async def queue_in_a_notebook() -> None:
    manager = assert_type(gglib_nb.get_manager(), DownloadManager)

    queued = await manager.queue_smart("owner/name", revision="main", companions=("mmproj",))
    position, shard_count = queued
    assert_type(position, int)
    assert_type(shard_count, int)
    assert_type(queued.id, DownloadId)

    finished = await manager.wait(queued.id)
    for path in finished.paths:
        assert_type(path, Path)


async def own_manager() -> None:
    config = DownloadManagerConfig(models_directory=Path("models"), max_concurrent=2, hf_token=None)
    async with DownloadManager(config) as manager:
        request = DownloadRequest("owner/name", "Q4_K_M", force=True)
        assert_type(await manager.queue_download(request), DownloadId)
        assert_type(await manager.queue_and_process(request), DownloadId)
        assert_type(await manager.get_queue_snapshot(), QueueSnapshot)
        assert_type(await manager.has_download("owner/name:Q4_K_M"), bool)
        assert_type(await manager.active_count(), int)
        assert_type(await manager.pending_count(), int)
        assert_type(await manager.reorder_queue("owner/name:Q4_K_M", 1), int)
        assert_type(await manager.retry(request.id), int)
        assert_type(await manager.get_max_queue_size(), int)
        await manager.set_max_queue_size(12)
        await manager.set_bandwidth_limit(None)
        await manager.pause(request.id)
        await manager.resume(request.id)
        await manager.remove_from_queue(request.id)
        await manager.cancel_group(request.id.group_id)
        await manager.cancel_download(request.id, discard=True)
        await manager.cancel_all()
        await manager.clear_failed()
        await manager.clear_failed("owner/name:Q4_K_M")
        await manager.join()


async def models_that_are_here(manager: DownloadManager) -> None:
    assert_type(await manager.models(), list[ModelSummary])
    assert_type(manager.sync.models(), list[ModelSummary])
    assert_type(await manager.path("owner/name"), Path)
    assert_type(gglib_nb.path("owner/name:Q4_K_M"), Path)
    assert_type(await manager.loading_lines("owner/name", "ollama"), str)
    assert_type(await manager.disk_use(), DiskUse)
    deletion = await manager.delete("owner/name", dry_run=True)
    assert_type(deletion, Deletion)
    assert_type(deletion.freed_bytes, int)
    await manager.forget("owner/name")
    verification = await manager.verify("owner/name", on_progress=lambda progress: print(progress.done_bytes))
    assert_type(verification, Verification)
    assert_type(await manager.verify_all(), list[Verification])
    assert_type(await manager.repair("owner/name"), Repair)
    assert_type(await manager.check_updates(), list[ModelUpdate])
    assert_type(await manager.import_folder(Path("models")), ImportReport)
    assert_type(await manager.update("owner/name", keep=True), QueuedUpdate)


def without_a_loop() -> None:
    manager = gglib_nb.get_manager()
    assert_type(manager.sync.download("owner/name"), Path)
    assert_type(manager.sync.get_queue_snapshot(), QueueSnapshot)
    assert_type(gglib_nb.run(get_one_file()), Path)


async def read_the_queue(manager: DownloadManager) -> list[str]:
    assert_type(manager.events(), AsyncIterator[gglib_nb.QueueEvent])
    lines: list[str] = []
    for item in manager.snapshot.items:
        assert_type(item.status, DownloadStatus)
        assert_type(item.bytes_per_second, float | None)
        assert_type(item.progress, float | None)
        lines += [f"{item.id}: {shard.downloaded_bytes} of {shard.size_bytes}" for shard in item.shards]
    return lines


async def decide_by_error(manager: DownloadManager) -> str:
    try:
        await manager.download("owner/name")
    except GatedRepoError as error:
        return assert_type(error.accept_url, str)
    except InvalidQuantizationError as error:
        return assert_type(error.choices, tuple[str, ...])[0]
    except RateLimitedError as error:
        return f"again in {assert_type(error.retry_after_s, float | None)} s"
    except IntegrityError as error:
        return f"{error.expected} != {error.actual}"
    except GglibError as error:
        return str(error)
    return "done"


def group_names(names: list[str]) -> list[str | None]:
    variants = gglib_nb.variants_of([*names, ("model-Q4_K_M.gguf", 4_000)])
    assert [companion.kind for companion in variants.companions] == ["mmproj"]
    return [variant.quantization for variant in variants.variants if variant.is_complete]


async def a_handle_of_what_was_queued(manager: DownloadManager) -> None:
    queued = await manager.queue_smart("owner/name")
    assert_type(queued.path, Path)
    assert_type((await queued.wait()).paths, tuple[Path, ...])
    await queued.cancel(discard=True)
    assert_type(queued.sync.wait(), gglib_nb.FinishedDownload)
    assert_type(await manager.put_back(queued.id), tuple[int, ...])


def a_plain_script() -> None:
    path = gglib_nb.download_sync("owner/name", "Q4_K_M", add_to_db=False, progress=False)
    assert_type(path, Path)
    with DownloadManager(models_directory="models", max_concurrent=2) as manager:
        future = manager.submit(manager.sync.queue_smart, "owner/name", force=True)
        assert_type(future.result(), gglib_nb.SmartQueueResult)
