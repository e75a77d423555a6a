"""The port without a loop, for magics and scripts: the operation of the same name, waited for.

It waits on the calling thread and needs no loop, so it works in a cell while the kernel's loop stands still. An
interrupt ends the waiting, takes back a request that is still resolving, and leaves downloads alone.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gglib_nb.domain.download import DownloadRequest, QueueSnapshot
from gglib_nb.domain.references import DownloadId

if TYPE_CHECKING:
    from gglib_nb.domain.listing import RepoSummary
    from gglib_nb.domain.plan import RepoPlan
    from gglib_nb.engine.storage.leftovers import Leftover
    from gglib_nb.manager.operations import FinishedDownload, IdLike, Operations, SmartQueueResult

_Result = TypeVar("_Result")


def result_of(future: "Future[_Result]") -> _Result:
    """Waits for a future; an interrupt cancels it on the way out."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class SyncOperations:
    """Synchronous twins of `DownloadManager`'s coroutines, with the same arguments, results and errors."""

    def __init__(self, operations: "Operations") -> None:
        self._operations: Final = operations

    def queue_download(self, request: DownloadRequest) -> DownloadId:
        """See `DownloadManager.queue_download`."""
        return result_of(self._operations.submit_queue_download(request))

    def queue_and_process(self, request: DownloadRequest) -> DownloadId:
        """See `DownloadManager.queue_and_process`."""
        return result_of(self._operations.submit_queue_and_process(request))

    def queue_smart(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
    ) -> "SmartQueueResult":
        """See `DownloadManager.queue_smart`."""
        return result_of(
            self._operations.submit_queue_smart(
                repo_id, quantization, revision=revision, force=force, add_to_db=add_to_db, companions=companions
            )
        )

    def get_queue_snapshot(self) -> QueueSnapshot:
        """See `DownloadManager.get_queue_snapshot`."""
        return result_of(self._operations.submit_get_queue_snapshot())

    def cancel_download(self, id: "IdLike", *, discard: bool = False) -> None:  # noqa: A002 - the port's word
        """See `DownloadManager.cancel_download`."""
        result_of(self._operations.submit_cancel_download(id, discard=discard))

    def cancel_group(self, group_id: str) -> None:
        """See `DownloadManager.cancel_group`."""
        result_of(self._operations.submit_cancel_group(group_id))

    def cancel_all(self) -> None:
        """See `DownloadManager.cancel_all`."""
        result_of(self._operations.submit_cancel_all())

    def has_download(self, id: "IdLike") -> bool:  # noqa: A002
        """See `DownloadManager.has_download`."""
        return result_of(self._operations.submit_has_download(id))

    def active_count(self) -> int:
        """See `DownloadManager.active_count`."""
        return self.get_queue_snapshot().active_count

    def pending_count(self) -> int:
        """See `DownloadManager.pending_count`."""
        return self.get_queue_snapshot().pending_count

    def remove_from_queue(self, id: "IdLike") -> None:  # noqa: A002
        """See `DownloadManager.remove_from_queue`."""
        result_of(self._operations.submit_remove_from_queue(id))

    def reorder_queue(self, id: "IdLike", new_position: int) -> int:  # noqa: A002
        """See `DownloadManager.reorder_queue`."""
        return result_of(self._operations.submit_reorder_queue(id, new_position))

    def retry(self, id: "IdLike") -> int:  # noqa: A002
        """See `DownloadManager.retry`."""
        return result_of(self._operations.submit_retry(id))

    def clear_failed(self, id: "IdLike | None" = None) -> None:  # noqa: A002
        """See `DownloadManager.clear_failed`."""
        result_of(self._operations.submit_clear_failed(id))

    def set_max_queue_size(self, max_size: int) -> None:
        """See `DownloadManager.set_max_queue_size`."""
        result_of(self._operations.submit_set_max_queue_size(max_size))

    def get_max_queue_size(self) -> int:
        """See `DownloadManager.get_max_queue_size`."""
        return self.get_queue_snapshot().max_size

    def pause(self, id: "IdLike") -> None:  # noqa: A002
        """See `DownloadManager.pause`."""
        result_of(self._operations.submit_pause(id))

    def resume(self, id: "IdLike") -> None:  # noqa: A002
        """See `DownloadManager.resume`."""
        result_of(self._operations.submit_resume(id))

    def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        """See `DownloadManager.set_bandwidth_limit`."""
        result_of(self._operations.submit_set_bandwidth_limit(bytes_per_second))

    def wait(self, id: "IdLike") -> "FinishedDownload":  # noqa: A002
        """See `DownloadManager.wait`."""
        return result_of(self._operations.submit_wait(id))

    def join(self) -> None:
        """See `DownloadManager.join`."""
        result_of(self._operations.submit_join())

    def download(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
    ) -> Path:
        """See `DownloadManager.download`."""
        queued = self.queue_smart(
            repo_id, quantization, revision=revision, force=force, add_to_db=add_to_db, companions=companions
        )
        return self.wait(queued.id).paths[0]

    def plan(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        context: int | None = None,
    ) -> "RepoPlan":
        """See `DownloadManager.plan`."""
        return result_of(self._operations.submit_plan(repo_id, quantization, revision=revision, context=context))

    def partials(self) -> "list[Leftover]":
        """See `DownloadManager.partials`."""
        return result_of(self._operations.submit_partials())

    def discard_partials(self, targets: Iterable[str]) -> frozenset[str]:
        """See `DownloadManager.discard_partials`."""
        return result_of(self._operations.submit_discard_partials(targets))

    def search(
        self, words: str = "", *, max_parameters: int | None = None, sort: str = "downloads", limit: int = 20
    ) -> "list[RepoSummary]":
        """See `DownloadManager.search`."""
        future = self._operations.submit_search(words, max_parameters=max_parameters, sort=sort, limit=limit)
        return result_of(future)

    def close(self) -> None:
        """See `DownloadManager.aclose`."""
        self._operations.close()
