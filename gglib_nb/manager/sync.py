"""The port without a loop, for magics and scripts: the operation of the same name, waited for.

It waits on the calling thread and needs no loop, so it works in a cell while the kernel's loop stands still. An
interrupt ends the waiting, takes back a request that is still resolving, and leaves downloads alone.
"""

from typing import Final

from gglib_nb.manager.operation_forms import as_blocking
from gglib_nb.manager.operations import Operations


class SyncOperations:
    """Synchronous twins of `DownloadManager`'s coroutines, with the same arguments, results and errors."""

    def __init__(self, operations: Operations) -> None:
        self.operations: Final = operations

    queue_download = as_blocking(Operations.submit_queue_download)
    queue_and_process = as_blocking(Operations.submit_queue_and_process)
    queue_smart = as_blocking(Operations.submit_queue_smart)
    download = as_blocking(Operations.submit_download)
    cancel_download = as_blocking(Operations.submit_cancel_download)
    cancel_group = as_blocking(Operations.submit_cancel_group)
    cancel_all = as_blocking(Operations.submit_cancel_all)
    remove_from_queue = as_blocking(Operations.submit_remove_from_queue)
    reorder_queue = as_blocking(Operations.submit_reorder_queue)
    pause = as_blocking(Operations.submit_pause)
    resume = as_blocking(Operations.submit_resume)
    run_now = as_blocking(Operations.submit_run_now)
    pause_all = as_blocking(Operations.submit_pause_all)
    resume_all = as_blocking(Operations.submit_resume_all)
    clear_ended = as_blocking(Operations.submit_clear_ended)
    discard = as_blocking(Operations.submit_discard)
    retry = as_blocking(Operations.submit_retry)
    clear_failed = as_blocking(Operations.submit_clear_failed)
    set_max_queue_size = as_blocking(Operations.submit_set_max_queue_size)
    set_bandwidth_limit = as_blocking(Operations.submit_set_bandwidth_limit)
    set_engine = as_blocking(Operations.submit_set_engine)
    set_max_concurrent = as_blocking(Operations.submit_set_max_concurrent)
    set_max_connections = as_blocking(Operations.submit_set_max_connections)
    set_network_wait = as_blocking(Operations.submit_set_network_wait)
    set_download_hours = as_blocking(Operations.submit_set_download_hours)
    get_queue_snapshot = as_blocking(Operations.submit_get_queue_snapshot)
    active_count = as_blocking(Operations.submit_active_count)
    pending_count = as_blocking(Operations.submit_pending_count)
    get_max_queue_size = as_blocking(Operations.submit_get_max_queue_size)
    has_download = as_blocking(Operations.submit_has_download)
    wait = as_blocking(Operations.submit_wait)
    join = as_blocking(Operations.submit_join)
    plan = as_blocking(Operations.submit_plan)
    search = as_blocking(Operations.submit_search)
    partials = as_blocking(Operations.submit_partials)
    discard_partials = as_blocking(Operations.submit_discard_partials)
    queue_partials = as_blocking(Operations.submit_queue_partials)
    adopt = as_blocking(Operations.submit_adopt)
    see_others = as_blocking(Operations.submit_see_others)
    history = as_blocking(Operations.submit_history)
    clear_history = as_blocking(Operations.submit_clear_history)
    models = as_blocking(Operations.submit_models)
    disk_use = as_blocking(Operations.submit_disk_use)
    path = as_blocking(Operations.submit_path)
    loading_lines = as_blocking(Operations.submit_loading_lines)
    forget = as_blocking(Operations.submit_forget)
    delete = as_blocking(Operations.submit_delete)
    verify = as_blocking(Operations.submit_verify)
    verify_all = as_blocking(Operations.submit_verify_all)
    repair = as_blocking(Operations.submit_repair)
    import_folder = as_blocking(Operations.submit_import_folder)
    updates = as_blocking(Operations.submit_updates)
    update = as_blocking(Operations.submit_update)

    def close(self) -> None:
        """Stops everything within about 2 s, keeps what was fetched; waiters get `DownloadInterruptedError`."""
        self.operations.close()
