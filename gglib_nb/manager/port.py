"""`DownloadManager`: the download port as coroutines, on whatever loop they are awaited.

Every coroutine may be cancelled: cancelling the awaiter of a request that is still resolving drops the request,
cancelling the awaiter of a download does not touch the download.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from typing_extensions import override

from gglib_nb.domain.download import DownloadRequest, QueueSnapshot
from gglib_nb.domain.events import QueueEvent
from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.plan import RepoPlan
from gglib_nb.domain.references import DownloadId
from gglib_nb.engine.storage.leftovers import Leftover
from gglib_nb.manager.config import DownloadManagerConfig
from gglib_nb.manager.event_stream import EventStream
from gglib_nb.manager.operations import CLOSE_TIMEOUT_S, FinishedDownload, IdLike, Operations, SmartQueueResult
from gglib_nb.manager.sync import SyncOperations

_Result = TypeVar("_Result")


class DownloadManager(Operations):
    """One queue of downloads with its engine and its catalog.

    Use it as `async with DownloadManager(config) as manager`, or close it with `aclose`. In a notebook
    `gglib_nb.get_manager()` gives the kernel's own, which ends with the kernel. Without a loop, use `manager.sync`.
    """

    def __init__(self, config: DownloadManagerConfig | None = None) -> None:
        super().__init__(config)
        self.sync: Final = SyncOperations(self)
        self._streams: Final[weakref.WeakSet[EventStream]] = weakref.WeakSet()

    async def queue_download(self, request: DownloadRequest) -> DownloadId:
        """Resolves the files and adds the download, without starting the processor.

        Raises:
            RequestError: The request names no variant, several, or one that cannot be fetched.
            HubError: The Hub's answer is no, or there is none.
            QueueFullError: As many downloads wait as may.
            AlreadyQueuedError: The same download, or one that writes the same files, is pending or active.
        """
        return await _result(self.submit_queue_download(request))

    async def queue_and_process(self, request: DownloadRequest) -> DownloadId:
        """Does what `queue_download` does, and lets the processor run."""
        return await _result(self.submit_queue_and_process(request))

    async def queue_smart(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
    ) -> SmartQueueResult:
        """Chooses a variant, queues it and starts; `(position, shard_count)` that also carries `.id`.

        A download that is pending or active already is joined: its present position comes back, 0 while active.

        Raises:
            RequestError: As for `queue_download`; the choices are named.
            HubError: The Hub's answer is no, or there is none.
            QueueFullError: As many downloads wait as may.
            AlreadyQueuedError: Another download writes the same files.
        """
        return await _result(
            self.submit_queue_smart(
                repo_id, quantization, revision=revision, force=force, add_to_db=add_to_db, companions=companions
            )
        )

    async def get_queue_snapshot(self) -> QueueSnapshot:
        """Queued, active and recently ended downloads, with shards, rates and notices."""
        return await _result(self.submit_get_queue_snapshot())

    async def cancel_download(self, id: IdLike, *, discard: bool = False) -> None:  # noqa: A002 - the port's word
        """Cancels a download with all its shards; its bytes stay for a resume unless `discard`.

        Raises:
            NotInQueueError: No pending or active download answers to the id.
        """
        await _result(self.submit_cancel_download(id, discard=discard))

    async def cancel_group(self, group_id: str) -> None:
        """Cancels all shards of one download; the group's id is `str(id)`.

        Raises:
            NotInQueueError: No pending or active download has that group.
        """
        await _result(self.submit_cancel_group(group_id))

    async def cancel_all(self) -> None:
        """Cancels everything active, queued or being listed; waits up to 5 s for the active ones to stop."""
        await _result(self.submit_cancel_all())

    async def has_download(self, id: IdLike) -> bool:  # noqa: A002
        """Whether a pending or active download answers to the id."""
        return await _result(self.submit_has_download(id))

    async def active_count(self) -> int:
        """Downloads that hold a slot; whole downloads, not shards."""
        return (await self.get_queue_snapshot()).active_count

    async def pending_count(self) -> int:
        """Downloads that wait, paused ones included; whole downloads, not shards."""
        return (await self.get_queue_snapshot()).pending_count

    async def remove_from_queue(self, id: IdLike) -> None:  # noqa: A002
        """Takes a pending download out.

        Raises:
            NotInQueueError: There is none, or it is active; the text names `cancel`.
        """
        await _result(self.submit_remove_from_queue(id))

    async def reorder_queue(self, id: IdLike, new_position: int) -> int:  # noqa: A002
        """Moves a pending download with all its shards; 1 is next to run, out of range clamps.

        Returns:
            The position given.

        Raises:
            NotInQueueError: No pending download answers to the id.
        """
        return await _result(self.submit_reorder_queue(id, new_position))

    async def retry(self, id: IdLike) -> int:  # noqa: A002
        """Brings a failed download back to the queue; only bad or missing bytes move again.

        Returns:
            Its position; 0 where it started at once.

        Raises:
            NotInQueueError: No failed download answers to the id.
            QueueFullError: As many downloads wait as may; the failure stays.
        """
        return await _result(self.submit_retry(id))

    async def clear_failed(self, id: IdLike | None = None) -> None:  # noqa: A002
        """Empties the failures; or takes one out of them, and its partial files stay.

        Raises:
            NotInQueueError: No failed download answers to the id.
        """
        await _result(self.submit_clear_failed(id))

    async def set_max_queue_size(self, max_size: int) -> None:
        """Changes the limit of pending downloads; never evicts.

        Raises:
            InvalidConfigError: The limit is not a whole number of at least 1.
        """
        await _result(self.submit_set_max_queue_size(max_size))

    async def get_max_queue_size(self) -> int:
        """The limit of pending downloads."""
        return (await self.get_queue_snapshot()).max_size

    async def pause(self, id: IdLike) -> None:  # noqa: A002
        """Holds a download back; an active one keeps its bytes and becomes pending at position 1.

        Raises:
            NotInQueueError: No pending or active download answers to the id.
        """
        await _result(self.submit_pause(id))

    async def resume(self, id: IdLike) -> None:  # noqa: A002
        """Lets a paused download run again.

        Raises:
            NotInQueueError: No pending or active download answers to the id.
        """
        await _result(self.submit_resume(id))

    async def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        """Changes the limit of all transfers together, at once; None is unlimited.

        Raises:
            InvalidConfigError: The limit is not a whole number of at least 1.
        """
        await _result(self.submit_set_bandwidth_limit(bytes_per_second))

    async def wait(self, id: IdLike) -> FinishedDownload:  # noqa: A002
        """Waits until the download has ended. Cancelling the awaiter does not touch the download.

        Raises:
            GglibError: The download's own error.
            DownloadCancelledError: Somebody cancelled it.
            NotInQueueError: No download answers to the id.
        """
        return await _result(self.submit_wait(id))

    async def join(self) -> None:
        """Waits until nothing is queued or active; paused downloads do not count."""
        await _result(self.submit_join())

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

    async def download(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
    ) -> Path:
        """Queues, waits, and returns the path that a program opens: the first shard's.

        Cancelling the awaiter does not cancel the download. Raises what `queue_smart` and `wait` raise.
        """
        queued = await self.queue_smart(
            repo_id, quantization, revision=revision, force=force, add_to_db=add_to_db, companions=companions
        )
        return (await self.wait(queued.id)).paths[0]

    @override
    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        super().close(timeout_s)
        for stream in list(self._streams):
            stream.end()

    async def plan(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        context: int | None = None,
    ) -> RepoPlan:
        """What a repository offers and what each choice would cost; queues nothing.

        Args:
            repo_id: `owner/name`.
            quantization: Only this variant; None shows them all.
            revision: Branch, tag or commit; None is the default branch.
            context: Tokens for which memory is estimated; None is 8192.

        Raises:
            RequestError: The quantization names no variant, or several.
            HubError: The Hub's answer is no, or there is none.
        """
        return await _result(self.submit_plan(repo_id, quantization, revision=revision, context=context))

    async def partials(self) -> list[Leftover]:
        """The partial downloads that lie about in the models folder, by path."""
        return await _result(self.submit_partials())

    async def discard_partials(self, targets: Iterable[str]) -> frozenset[str]:
        """Deletes the partial files of these targets; what is in the queue, or in use by a process, stays.

        Returns:
            The targets of which nothing partial is left.
        """
        return await _result(self.submit_discard_partials(targets))

    async def search(
        self, words: str = "", *, max_parameters: int | None = None, sort: str = "downloads", limit: int = 20
    ) -> list[RepoSummary]:
        """The Hub's repositories with GGUF files that answer to the words, highest or newest first.

        Raises:
            RequestError: There is no such order.
            HubError: The Hub's answer is no, or there is none.
        """
        return await _result(self.submit_search(words, max_parameters=max_parameters, sort=sort, limit=limit))

    async def aclose(self) -> None:
        """Stops everything within about 2 s, keeps what was fetched; waiters get `DownloadInterruptedError`."""
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def _result(future: "Future[_Result]") -> _Result:
    return await asyncio.wrap_future(future)
