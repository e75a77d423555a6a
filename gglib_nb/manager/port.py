"""`DownloadManager`: the download port as coroutines, on whatever loop they are awaited.

Every coroutine may be cancelled: cancelling the awaiter of a request that is still resolving drops the request,
cancelling the awaiter of a download does not touch the download.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from typing_extensions import override

from gglib_nb.domain.events import QueueEvent
from gglib_nb.manager.event_stream import EventStream
from gglib_nb.manager.operation_forms import as_coroutine
from gglib_nb.manager.operations import CLOSE_TIMEOUT_S, Operations
from gglib_nb.manager.sync import SyncOperations
from gglib_nb.settings import DownloadManagerConfig


class DownloadManager(Operations):
    """One queue of downloads with its engine and its catalog.

    Use it as `async with DownloadManager(config) as manager`, or close it with `aclose`. In a notebook
    `gglib_nb.get_manager()` gives the kernel's own, which ends with the kernel. Without a loop, use `manager.sync`.
    """

    def __init__(self, config: DownloadManagerConfig | None = None) -> None:
        super().__init__(config)
        self.sync: Final = SyncOperations(self)
        self._streams: Final[weakref.WeakSet[EventStream]] = weakref.WeakSet()

    queue_download = as_coroutine(Operations.submit_queue_download)
    queue_and_process = as_coroutine(Operations.submit_queue_and_process)
    queue_smart = as_coroutine(Operations.submit_queue_smart)
    download = as_coroutine(Operations.submit_download)
    cancel_download = as_coroutine(Operations.submit_cancel_download)
    cancel_group = as_coroutine(Operations.submit_cancel_group)
    cancel_all = as_coroutine(Operations.submit_cancel_all)
    remove_from_queue = as_coroutine(Operations.submit_remove_from_queue)
    reorder_queue = as_coroutine(Operations.submit_reorder_queue)
    pause = as_coroutine(Operations.submit_pause)
    resume = as_coroutine(Operations.submit_resume)
    run_now = as_coroutine(Operations.submit_run_now)
    pause_all = as_coroutine(Operations.submit_pause_all)
    resume_all = as_coroutine(Operations.submit_resume_all)
    clear_ended = as_coroutine(Operations.submit_clear_ended)
    discard = as_coroutine(Operations.submit_discard)
    retry = as_coroutine(Operations.submit_retry)
    clear_failed = as_coroutine(Operations.submit_clear_failed)
    set_max_queue_size = as_coroutine(Operations.submit_set_max_queue_size)
    set_bandwidth_limit = as_coroutine(Operations.submit_set_bandwidth_limit)
    set_engine = as_coroutine(Operations.submit_set_engine)
    set_max_concurrent = as_coroutine(Operations.submit_set_max_concurrent)
    set_max_connections = as_coroutine(Operations.submit_set_max_connections)
    set_network_wait = as_coroutine(Operations.submit_set_network_wait)
    set_download_hours = as_coroutine(Operations.submit_set_download_hours)
    get_queue_snapshot = as_coroutine(Operations.submit_get_queue_snapshot)
    active_count = as_coroutine(Operations.submit_active_count)
    pending_count = as_coroutine(Operations.submit_pending_count)
    get_max_queue_size = as_coroutine(Operations.submit_get_max_queue_size)
    has_download = as_coroutine(Operations.submit_has_download)
    wait = as_coroutine(Operations.submit_wait)
    join = as_coroutine(Operations.submit_join)
    plan = as_coroutine(Operations.submit_plan)
    search = as_coroutine(Operations.submit_search)
    partials = as_coroutine(Operations.submit_partials)
    discard_partials = as_coroutine(Operations.submit_discard_partials)
    queue_partials = as_coroutine(Operations.submit_queue_partials)
    adopt = as_coroutine(Operations.submit_adopt)
    see_others = as_coroutine(Operations.submit_see_others)
    history = as_coroutine(Operations.submit_history)
    clear_history = as_coroutine(Operations.submit_clear_history)
    models = as_coroutine(Operations.submit_models)
    disk_use = as_coroutine(Operations.submit_disk_use)
    path = as_coroutine(Operations.submit_path)
    loading_lines = as_coroutine(Operations.submit_loading_lines)
    forget = as_coroutine(Operations.submit_forget)
    delete = as_coroutine(Operations.submit_delete)
    verify = as_coroutine(Operations.submit_verify)
    verify_all = as_coroutine(Operations.submit_verify_all)
    repair = as_coroutine(Operations.submit_repair)
    import_folder = as_coroutine(Operations.submit_import_folder)
    updates = as_coroutine(Operations.submit_updates)
    update = as_coroutine(Operations.submit_update)

    async def events(self) -> AsyncIterator[QueueEvent]:
        """Every event from now on, after a first one with the whole queue; ends when the manager closes."""
        stream = EventStream()
        self._streams.add(stream)
        unsubscribe = self.subscribe_events(stream.put)
        try:
            async for event in stream:
                yield event
        finally:
            unsubscribe()

    @override
    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        super().close(timeout_s)
        for stream in list(self._streams):
            stream.end()

    async def aclose(self) -> None:
        """Stops everything within about 2 s, keeps what was fetched; waiters get `DownloadInterruptedError`."""
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
