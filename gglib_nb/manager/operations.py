"""The operations on the queue: downloads, their order, their limits, and their results.

Those on registered models are in `model_operations`, those before anything is queued in `advice`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from msgspec import convert, structs
from typing_extensions import override

from gglib_nb.domain.download import DownloadRequest, DownloadStatus, PlannedDownload
from gglib_nb.domain.library import SEE_DELETABLE
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import find_download
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot
from gglib_nb.domain.stored import Adoption, PastDownload, StoredLimits
from gglib_nb.domain.units import DailyHours, plural, size
from gglib_nb.domain.values import Value
from gglib_nb.errors import (
    AlreadyQueuedError,
    DiskFullError,
    GglibError,
    InvalidConfigError,
    NotInQueueError,
    RequestError,
    StorageError,
)
from gglib_nb.manager.calls import Blocking, Coroutines, operation, settled
from gglib_nb.manager.engine import engine_for
from gglib_nb.manager.library import bytes_of, loss_of_folder, made_home
from gglib_nb.manager.progress import Progress, shown
from gglib_nb.manager.queue_thread import is_open_now
from gglib_nb.manager.resolving import given_path, plan_download, refuse_other_version
from gglib_nb.queue import events as on
from gglib_nb.queue.effects import QueuePosition
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.settings import checked_setting

if TYPE_CHECKING:
    from gglib_nb.manager.manager import Parts

_Result = TypeVar("_Result")

_DRAIN_S: Final = 5.0
_ENDED: Final = (DownloadStatus.COMPLETED, DownloadStatus.FAILED, DownloadStatus.CANCELLED)

IdLike = DownloadId | str


class SyncHandle(Blocking):
    """A queued download without a loop."""

    def __init__(self, id_: DownloadId, operations: "QueueOperations") -> None:
        self.id = id_
        self._operations = operations
        self._calls = operations._calls  # noqa: SLF001 - of the same manager

    @operation
    def wait(self) -> "FinishedDownload":
        """Waits for the download, as `DownloadManager.wait` does."""
        return self._operations.wait(self.id)

    @operation
    def cancel(self, *, discard: bool = False) -> None:
        """Cancels the download, as `DownloadManager.cancel_download` does."""
        self._operations.cancel_download(self.id, discard=discard)


class _PositionAndShards(NamedTuple):
    position: int
    shard_count: int


class SmartQueueResult(SyncHandle, _PositionAndShards, Coroutines):
    """What `queue_smart` returns: `(position, shard_count)`, and a handle of the download.

        queued = await manager.queue_smart("owner/repo")
        finished = await queued.wait()

    Attributes:
        position: 1-based among pending downloads; 0 if it started at once.
        shard_count: Files of the model itself.
        id: The queue's id for the download.
        path: The path of the model's first file once the download is complete; programs open it.
        reason: Why this variant; empty if it was requested by name.
        is_new: False if the same download was already pending or active and has been joined.
        sync: `wait` and `cancel` as calls that wait.
    """

    path: Path
    reason: str
    is_new: bool
    sync: SyncHandle

    @classmethod
    def of(cls, queued: QueuePosition, operations: "QueueOperations") -> Self:
        """The same from the queue's reply."""
        result = cls._make((queued.position, queued.shard_count))
        SyncHandle.__init__(result, queued.id, operations)
        result.path, result.reason, result.is_new = Path(queued.path), queued.reason, queued.is_new
        result.sync = SyncHandle(queued.id, operations)
        return result

    @override
    def __repr__(self) -> str:
        place = f"position {self.position}" if self.position else "active"
        return f"<{type(self).__name__} {self.id}: {place}, {plural(self.shard_count, 'shard')}>"


class FinishedDownload(Value, frozen=True):
    """What `wait` returns.

    Attributes:
        id: The queue's id for the download.
        paths: The model's files in shard order; programs open the first.
        total_bytes: Of all its files; None if the hub stated no size.
        is_verified: Whether every file has the SHA-256 that the hub states.
        was_present: Whether all files were already on the disk.
        reused_bytes: Those of `total_bytes` that were copied from other files on this machine.
        reused_from: Labels of those files (`Q4_K_M`), the one with the most bytes first.
    """

    id: DownloadId
    paths: tuple[Path, ...]
    total_bytes: int | None
    is_verified: bool
    was_present: bool
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()

    @classmethod
    def of(cls, download: QueuedDownload) -> Self:
        """The same from the queue's row."""
        return convert(download, cls, from_attributes=True, dec_hook=lambda kind, value: kind(value))  # a path


class QueueOperations(Blocking):
    """Operations on the queue; as all operations, they are blocking functions, each defined once with its contract."""

    def __init__(self, parts: "Parts") -> None:
        self._parts: Final = parts
        self._calls = parts.calls

    def _post(self, event: on.Event) -> Any:  # noqa: ANN401 - each event has its own reply
        return settled(self._parts.queue.post(event))

    def _ask(self, question: Callable[[QueueMachine], _Result]) -> _Result:
        return settled(self._parts.queue.ask(question))

    # Queueing ----------------------------------------------------------------------------------------------------

    @operation
    def queue_download(self, request: DownloadRequest) -> DownloadId:
        """Resolves the files and adds the download, without starting the processor.

        Raises:
            RequestError: The request names no variant, several, or one that cannot be downloaded.
            HubError: The Hub refuses, or does not answer.
            QueueFullError: No more downloads may wait.
            AlreadyQueuedError: The same download, or one that writes the same files, is pending or active.
        """
        return self._queue(request, starts=False, joins=False).id

    @operation
    def queue_and_process(self, request: DownloadRequest) -> DownloadId:
        """Does the same as `queue_download`, and starts the processor."""
        return self._queue(request, joins=False).id

    @operation
    def queue_smart(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
        everywhere: bool = False,
        to: "str | PathLike[str] | None" = None,
        then: "str | Callable[[FinishedDownload], object] | None" = None,
    ) -> SmartQueueResult:
        """Chooses a variant, queues it and starts; returns `(position, shard_count)`, which also has `.id`.

        A download that is already pending or active is joined: its position is returned, 0 while active. The options
        are those of `DownloadRequest`, and it raises what `queue_download` raises.
        """
        request = DownloadRequest(
            repo_id, quantization, revision, force, add_to_db, tuple(companions), everywhere, to, then
        )
        return SmartQueueResult.of(self._queue(request, joins=True), self)

    @operation
    def download(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
        everywhere: bool = False,
        to: "str | PathLike[str] | None" = None,
        then: "str | Callable[[FinishedDownload], object] | None" = None,
        progress: Progress = None,
    ) -> Path:
        """Queues, waits, and returns the path that a program opens: the first shard's.

        Meanwhile the cell, or a terminal on standard error, shows a bar for each file that is being downloaded;
        elsewhere (papermill, a pipe) there is one line a minute. `progress=False`, or the Hub's own switches, show
        nothing; a callable is called with the download, at most ten times a second, on a thread of its own.

        Cancelling the wait does not cancel the download once its files are listed. It raises what `queue_smart` and
        `wait` raise.
        """
        request = DownloadRequest(
            repo_id, quantization, revision, force, add_to_db, tuple(companions), everywhere, to, then
        )
        queued = self._queue(request, joins=True)
        finishing = self._parts.queue.wait(queued.id)
        with shown(progress, queued.id, lambda: self._parts.queue.snapshot) as look:
            return FinishedDownload.of(settled(finishing, look)).paths[0]

    def _queue(self, request: DownloadRequest, *, starts: bool = True, joins: bool) -> QueuePosition:
        parts, then = self._parts, request.then
        if request.everywhere and parts.engine.setting is None:
            raise RequestError(
                "A copy for every host needs a cluster: %gguf config engine ADDRESS sets it. Or leave out --everywhere."
            )
        to = None if request.to is None else str(given_path(request.to))
        if to is not None and parts.engine.setting is not None and to != str(parts.config.models_directory):
            raise RequestError("On a cluster, each host has its own models folder. Leave out --to.")
        if isinstance(then, str) and not then.strip():
            raise RequestError("The command to run after the download is empty. Write it, or leave out --then.")
        request = structs.replace(request, revision=request.revision or None, to=to)

        def plan() -> PlannedDownload:
            models = parts.registered()
            if starts:
                parts.engine.start()  # it is ready when the files are known
            planned = parts.at_hub(plan_download, parts, request, models)
            refuse_other_version(models, planned)
            live = None if to is None else self._ask(lambda machine: machine.find(planned.id))
            if live is not None and live.to not in (None, planned.to):
                raise AlreadyQueuedError(
                    f"{live.id} is in the queue, to be stored in {live.to}. Cancel it first, then queue it again.",
                    str(live.id),
                )
            return planned

        return self._queue_plan(str(request.id), plan, starts=starts, joins=joins, then=then)

    def _queue_plan(
        self,
        text: str,
        plan: Callable[[], PlannedDownload],
        *,
        starts: bool = True,
        joins: bool = True,
        then: object = None,
    ) -> QueuePosition:
        """Announces a request, makes its plan, and queues it; after an error, the queue is as before.

        `then` is called once the download is complete, if it is callable. Raises `QueueError` if the queue refuses it.
        """
        parts = self._parts
        number = next(parts.requests)
        try:
            self._post(on.RequestReceived(number, text))
            planned = plan()
            event = on.PlanResolved(number, planned, starts, joins)
            home = nullcontext() if planned.to is None else made_home(Path(planned.to), planned.id.repo_id)
            with self._room_for(planned), home:
                place: QueuePosition = settled(parts.queue.post(event, partial(parts.commands.keep, then)))
        except BaseException:
            dropping = parts.queue.post(on.RequestDropped(number))
            with suppress(GglibError):
                dropping.result()  # not `settled`: the request is dropped even if the caller cancelled
            raise
        return place

    @contextmanager
    def _room_for(self, *plans: PlannedDownload) -> Iterator[None]:
        """Refuses downloads to a disk that is not mounted (`StorageError`), or beyond the storage limit.

        If there is a limit (`DiskFullError`), other requests wait until the block ends.
        """
        models = self._parts.prepare()
        for plan in plans if self._parts.engine.setting is None else ():
            folder = self._parts.config.models_directory if plan.to is None else Path(plan.to)
            if loss := loss_of_folder(folder, models):
                is_known = plan.to is not None and any(model.id == plan.id for model in models)
                other = f" To download it to another folder, first: %gguf forget {plan.id.typed}" if is_known else ""
                raise StorageError(loss + other)
        limit_bytes = self._parts.config.storage_limit_bytes
        if limit_bytes is None:
            yield
            return
        with self._parts.comparing:
            self._refuse_beyond(limit_bytes, plans)
            yield

    def _refuse_beyond(self, limit_bytes: int, plans: Sequence[PlannedDownload]) -> None:
        queued = self._ask(lambda machine: machine.plans)
        models = self._parts.registered()  # after the queue: what has just left it is registered
        for plan in plans:
            used_bytes, needed_bytes = bytes_of(models, queued), bytes_of(models, [*queued, plan])
            # Files that are already here need no more.
            if needed_bytes > max(limit_bytes, used_bytes) and not plan.is_update:
                raise DiskFullError(
                    f"With {plan.id} ({size(plan.size_bytes)}) your models would take {size(needed_bytes)}, more "
                    f"than the storage limit of {size(limit_bytes)}. {SEE_DELETABLE}. Or change the limit: %gguf "
                    "config storage_limit_bytes SIZE --save, then restart the kernel",
                    needed_bytes - used_bytes,
                    max(0, limit_bytes - used_bytes),
                )
            queued.append(plan)

    # What is queued ----------------------------------------------------------------------------------------------

    @operation
    def cancel_download(self, id: IdLike, *, discard: bool = False) -> None:  # noqa: A002
        """Cancels a pending or active download with all its shards; what was downloaded is kept for a resume.

        With `discard`, it is deleted, also for a cancelled or failed download, which is then removed from its list. A
        download that is being registered is complete, so cancelling it changes nothing.
        """
        self._post(on.CancelRequested(self._id(id, is_discarded=discard), discard))

    @operation
    def put_back(self, *ids: IdLike) -> tuple[int, ...]:
        """Undoes `cancel_download`, `remove_from_queue` and `cancel_all`: puts downloads back in their places.

        Returns their positions, 0 for one that runs. If one cannot be put back, none is.

        Raises:
            QueueFullError: No more downloads may wait.
            AlreadyQueuedError: The same download, or one that writes the same files, is in the queue.
            StorageError: Its disk is not mounted, or, as a `DiskFullError`, it exceeds the storage limit.
        """
        wanted = tuple(self._id(one, "recent_cancelled") for one in ids)
        with self._room_for(*self._ask(lambda machine: machine.plans_of_ended(wanted, DownloadStatus.CANCELLED))):
            return tuple(self._post(on.PutBackRequested(wanted)))

    @operation
    def cancel_group(self, group_id: IdLike) -> None:
        """Cancels all shards of one download; the group's id is `str(id)`."""
        self._post(on.CancelRequested(self._id(group_id), False))

    @operation
    def cancel_all(self) -> None:
        """Cancels everything active, queued or being listed; waits up to 5 s for the active ones to stop."""
        attempts = self._post(on.AllCancelRequested())
        settled(self._parts.queue.until(lambda machine: not attempts & machine.stopping, _DRAIN_S))

    @operation
    def remove_from_queue(self, id: IdLike) -> None:  # noqa: A002
        """Removes a pending download from the queue."""
        self._post(on.RemovalRequested(self._id(id)))

    @operation
    def reorder_queue(self, id: IdLike, new_position: int) -> int:  # noqa: A002
        """Moves a pending download to another position; 1 is next to run."""
        return int(self._post(on.MoveRequested(self._id(id), new_position)))

    @operation
    def pause(self, id: IdLike) -> None:  # noqa: A002
        """Pauses a download; an active one becomes pending at position 1."""
        self._post(on.PauseRequested(self._id(id)))

    @operation
    def resume(self, id: IdLike) -> None:  # noqa: A002
        """Resumes a paused download and starts the processor."""
        self._post(on.ResumeRequested(self._id(id)))

    @operation
    def run_now(self, id: IdLike) -> None:  # noqa: A002
        """Runs a waiting download now, paused or not; if no slot is free, the one that started last waits behind it."""
        self._post(on.RunRequested(self._id(id)))

    @operation
    def pause_all(self) -> None:
        """Pauses everything that is active, queued or being listed."""
        self._post(on.PauseRequested(None))

    @operation
    def resume_all(self) -> None:
        """Resumes everything that is paused, in its order."""
        self._post(on.ResumeRequested(None))

    @operation
    def clear_ended(self, status: DownloadStatus | str) -> None:
        """Removes the downloads that ended with this status from the lists; files and partial files stay.

        A status other than `completed`, `failed` and `cancelled` raises `RequestError`.
        """
        if status not in _ENDED:
            raise RequestError(f"{str(status)!r} is not an outcome. Use one of {', '.join(_ENDED)}.")
        self._post(on.EndedCleared(DownloadStatus(status)))

    @operation
    def retry(self, id: IdLike) -> int:  # noqa: A002
        """Queues a failed download again and starts the processor."""
        wanted = self._id(id, "recent_failures")
        with self._room_for(*self._ask(lambda machine: machine.plans_of_ended((wanted,), DownloadStatus.FAILED))):
            return int(self._post(on.RetryRequested(wanted)))

    @operation
    def clear_failed(self, id: IdLike | None = None) -> None:  # noqa: A002
        """Removes one failed download from the list; None: all of them."""
        failed = on.EndedCleared(DownloadStatus.FAILED)
        self._post(failed if id is None else on.FailureCleared(self._id(id, "recent_failures", is_discarded=True)))

    # Limits ------------------------------------------------------------------------------------------------------

    @operation
    def set_max_queue_size(self, max_size: int) -> None:
        """Changes how many downloads may wait; waiting ones stay, even above the new limit."""
        self._post(on.LimitsChanged(StoredLimits(max_size=max_size)))

    @operation
    def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        """Changes the bandwidth limit of all transfers together at once; None: unlimited."""
        self._post(
            on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=bytes_per_second))
        )

    @operation
    def set_max_concurrent(self, max_concurrent: int) -> None:
        """Changes how many downloads run at once; with fewer, running ones continue to their end."""
        self._post(on.ConcurrencyChanged(max_concurrent))

    @operation
    def set_engine(self, engine: object) -> None:
        """Changes where transfers run, as `DownloadManagerConfig.engine` says; None: on this machine.

        Raises `InvalidConfigError` if it has no such form, or downloads are running, and `ClusterError` if no cluster
        of this name runs. The next download connects to it.
        """
        config = replace(self._parts.config, engine=engine)
        make = engine_for(config, must_exist=True)

        def change(machine: QueueMachine) -> None:
            # On the queue's thread, so that nothing starts meanwhile.
            if config.engine == self._parts.engine.setting:
                return
            if machine.is_transferring:
                raise InvalidConfigError(
                    "The engine cannot change while downloads run. Wait for them or pause them, then set it again."
                )
            self._parts.engine.change(config.engine, make)

        self._ask(change)

    @operation
    def set_max_connections(self, max_connections: int) -> None:
        """Changes how many connections all transfers together may hold, 1 to 64; those in use follow in a second."""
        limit = checked_setting("max_connections", max_connections)
        self._parts.engine.configure(max_connections=limit)
        settled(self._parts.queue.note(max_connections=limit))

    @operation
    def set_network_wait(self, network_wait_s: int) -> None:
        """Changes how many seconds downloads wait for a lost network before they fail."""
        wait_s = checked_setting("network_wait_s", network_wait_s)
        self._parts.engine.configure(network_wait_s=wait_s)
        settled(self._parts.queue.note(network_wait_s=wait_s))

    @operation
    def set_download_hours(self, hours: DailyHours | str | None) -> None:
        """Limits downloads to these hours of the day, such as `22:00-7:00`; None: any time.

        Outside of them, running downloads are stopped, keep their bytes and wait at the head of the queue.
        """
        wanted: DailyHours | None = checked_setting("download_hours", hours)
        self._post(on.LimitsChanged(StoredLimits(has_hours=True, hours=wanted), is_open_now(wanted)))

    # Looking -----------------------------------------------------------------------------------------------------

    @operation
    def get_queue_snapshot(self) -> QueueSnapshot:
        """Queued, active and recently ended downloads, with shards, rates and notices."""
        return settled(self._parts.queue.look())

    @operation
    def active_count(self) -> int:
        """Downloads that hold a slot; whole downloads, not shards."""
        return self.get_queue_snapshot().active_count

    @operation
    def pending_count(self) -> int:
        """Downloads that wait, paused ones included; whole downloads, not shards."""
        return self.get_queue_snapshot().pending_count

    @operation
    def get_max_queue_size(self) -> int:
        """The limit of pending downloads."""
        return self.get_queue_snapshot().max_size

    @operation
    def has_download(self, id: IdLike) -> bool:  # noqa: A002
        """Whether a pending or active download has the id, or is the only one that matches it."""
        try:
            wanted = self._id(id)
        except NotInQueueError:
            return False
        return self._ask(lambda machine: machine.find(wanted) is not None)

    @operation
    def wait(self, id: IdLike) -> FinishedDownload:  # noqa: A002
        """Returns when the download is complete; raises its own error, `DownloadCancelledError` if it was cancelled."""
        return FinishedDownload.of(settled(self._parts.queue.wait(self._id(id))))

    @operation
    def join(self) -> None:
        """Waits until nothing is queued or active; paused downloads do not count."""
        settled(self._parts.queue.until(lambda machine: machine.is_drained))

    # What earlier and other kernels left -------------------------------------------------------------------------

    @operation
    def adopt(self) -> Adoption:
        """Adopts the queues of ended kernels, with their pauses, failures and limits; running downloads are resumed.

        From then on, this queue is kept for the next kernel, too. `get_manager` calls this once. If the models database
        cannot be used, nothing is adopted, and a notice of the snapshot says so.
        """
        return settled(self._parts.keeper.adopt())

    @operation
    def see_others(self) -> None:
        """Reads the downloads of other kernels into `snapshot.elsewhere`."""
        settled(self._parts.keeper.look())

    @operation
    def history(self) -> list[PastDownload]:
        """The last 50 downloads that ended, the newest first: here, in other kernels, and in earlier ones."""
        self.see_others()
        return self._parts.catalog.history()

    @operation
    def clear_history(self) -> int:
        """Clears `history()`; returns how many downloads it had. Models, failures and partial files stay."""
        self.see_others()
        return self._parts.catalog.clear_history()

    def _id(self, reference: IdLike, group: str = "items", *, is_discarded: bool = False) -> DownloadId:
        """The download that a caller means by an id, a part that only one has, or `#n`; else a `NotInQueueError`."""
        if isinstance(reference, DownloadId):
            return reference
        id_ = DownloadId.parse(reference)
        is_known = self._ask(lambda machine: bool(machine.find(id_) or machine.find_ended(id_)))
        if is_known:
            return id_
        return find_download(reference, self._parts.queue.snapshot, group, is_discarded=is_discarded)
