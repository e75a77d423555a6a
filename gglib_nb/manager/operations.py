"""Every operation of the download port as a call that returns a future at once, from any thread.

Each operation is stated here, once: the async port and its synchronous twins are other forms of the same functions
(`operation_forms`), the magics and the panel's buttons are thin over them. A future that is
cancelled before it has its result takes back what it can: a request that is still resolving is dropped.
Its length is that of the port: a few lines of contract and one of work for each operation.
"""

import itertools
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeVar

from typing_extensions import override

from gglib_nb.catalog.history import History
from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import DownloadRequest, DownloadStatus, PlannedDownload, QueuedDownload, QueueSnapshot
from gglib_nb.domain.history import PastDownload
from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.plan import RepoPlan
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.stored_queue import Adoption
from gglib_nb.engine.protocol import Configure
from gglib_nb.engine.storage.leftovers import Leftover, discard_leftovers, leftovers
from gglib_nb.engine.storage.on_disk import present_bytes
from gglib_nb.errors import CatalogError, InvalidConfigError, RequestError
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.effect_runner import EngineEffectRunner
from gglib_nb.manager.finding import judged, pointing_to_children
from gglib_nb.manager.futures import chain, gathered, then
from gglib_nb.manager.hours_watch import HoursWatch
from gglib_nb.manager.machine_memory import machine_memory
from gglib_nb.manager.model_operations import IdLike, ModelOperations
from gglib_nb.manager.partial_requests import partial_requests
from gglib_nb.manager.pending_request import PendingRequest
from gglib_nb.manager.planning import Planner
from gglib_nb.manager.progress_watch import Progress, watched
from gglib_nb.manager.queue_keeper import QueueKeeper
from gglib_nb.manager.queue_thread import EventListener, Listener, QueueThread
from gglib_nb.manager.thread_pool import DaemonThreadPool
from gglib_nb.manager.transfer_engine import MakeEngine, engine_for
from gglib_nb.manager.update_settling import settle_update
from gglib_nb.queue import events as on
from gglib_nb.queue.effects import QueuePosition
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.settings import DownloadManagerConfig, checked_setting, origins_of, session_name
from gglib_nb.system import call_in_forked_children

_HUB_THREADS: Final = 4
_DRAIN_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 2.0
"""A kernel that ends waits no longer than this; the engine stops by itself when its input closes."""

_Result = TypeVar("_Result")


class _PositionAndShards(NamedTuple):
    position: int
    shard_count: int


class SmartQueueResult(_PositionAndShards):
    """What `queue_smart` returns: `(position, shard_count)`, and what it stands for.

    Attributes:
        id: The queue's id for the download.
        reason: Why this variant; empty where it was asked for by name.
        is_new: False where the same download was pending or active already and has been joined.
    """

    id: DownloadId
    reason: str
    is_new: bool

    @classmethod
    def of(cls, queued: QueuePosition) -> Self:
        """The same from the queue's own answer."""
        result = cls(queued.position, queued.shard_count)
        result.id, result.reason, result.is_new = queued.id, queued.reason, queued.is_new
        return result


@dataclass(frozen=True, slots=True)
class FinishedDownload:
    """What `wait` returns.

    Attributes:
        id: The queue's id for the download.
        paths: The model's files in shard order; the first is what a program opens.
        total_bytes: Of all its files; None where the hub did not say.
        is_verified: Whether every file hashed to what the hub states.
        was_present: Whether everything stood there already.
        reused_bytes: Of `total_bytes`, those that were copied from other files on this machine instead of fetched.
        reused_from: What those files are called (`Q4_K_M`), the one that gave most first.
    """

    id: DownloadId
    paths: tuple[Path, ...]
    total_bytes: int | None
    is_verified: bool
    was_present: bool
    reused_bytes: int = 0
    reused_from: tuple[str, ...] = ()


class Operations(ModelOperations):
    """The download port without a loop: every `submit_...` returns a future at once."""

    def __init__(self, config: DownloadManagerConfig | None = None) -> None:
        """Makes the queue; nothing is asked of the Hub and no process is started before the first download.

        Raises:
            InvalidConfigError: A setting has a value that cannot work.
        """
        self.config: Final = config or DownloadManagerConfig()
        settings = self.config
        self.origins: Final = origins_of(settings)
        catalog = Catalog(settings.database_path)
        hub = HubClient(settings.endpoint, settings.hf_token, is_offline=settings.is_offline)
        configure = _configure(settings, hub.user_agent)
        self._runner: Final = EngineEffectRunner(
            configure,
            catalog,
            engine_for(settings),
            lambda model, keeps_old: settle_update(catalog, model, settings.models_directory, keeps_old=keeps_old),
            max_concurrent=settings.max_concurrent,
        )
        self._engine_setting = settings.engine
        self._hours: Final = HoursWatch(self._tell_hours)
        machine = QueueMachine(
            max_size=settings.max_queue_size,
            max_concurrent=settings.max_concurrent,
            bandwidth_limit=settings.bandwidth_limit_bytes_per_second,
            max_connections=settings.max_connections,
            network_wait_s=settings.network_wait_s,
            hours=settings.hours,
            is_open=self._hours.is_open(settings.hours),
        )
        thread = QueueThread(machine, self._runner)
        super().__init__(settings, catalog, hub, thread, self._runner.file_checks)
        self._keeper: Final = QueueKeeper(catalog.database, settings, session_name(os.environ), thread)
        self._history: Final = History(catalog.database)
        self._runner.connect(thread.post, self._keeper.changed)
        thread.subscribe_events(self._keeper.hear)
        self._hours.watch(self.settings.hours)
        self._workers: Final = DaemonThreadPool("gglib-hub", _HUB_THREADS)
        self._requests: Final = itertools.count(1)
        self._planner: Final = Planner(
            self.hub, self.settings.models_directory, machine_memory, present_bytes, self.catalog.models
        )
        _abandon_in_forks(self)

    # Queueing ----------------------------------------------------------------------------------------------------

    def submit_queue_download(self, request: DownloadRequest) -> "Future[DownloadId]":
        """Resolves the files and adds the download, without starting the processor.

        Raises:
            RequestError: The request names no variant, several, or one that cannot be fetched.
            HubError: The Hub's answer is no, or there is none.
            QueueFullError: As many downloads wait as may.
            AlreadyQueuedError: The same download, or one that writes the same files, is pending or active.
        """
        return then(self._submit(request, starts=False, joins=False), lambda queued: queued.id)

    def submit_queue_and_process(self, request: DownloadRequest) -> "Future[DownloadId]":
        """Does what `queue_download` does, and lets the processor run."""
        return then(self._submit(request, starts=True, joins=False), lambda queued: queued.id)

    def submit_queue_smart(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
        everywhere: bool = False,
    ) -> "Future[SmartQueueResult]":
        """Chooses a variant, queues it and starts; `(position, shard_count)` that also carries `.id`.

        A download that is pending or active already is joined: its present position comes back, 0 while active.

        Raises:
            RequestError: As for `queue_download`; the choices are named.
            HubError: The Hub's answer is no, or there is none.
            QueueFullError: As many downloads wait as may.
            AlreadyQueuedError: Another download writes the same files.
        """
        request = DownloadRequest(repo_id, quantization, revision, force, add_to_db, tuple(companions), everywhere)
        return then(self._submit(request, starts=True, joins=True), SmartQueueResult.of)

    def submit_download(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        force: bool = False,
        add_to_db: bool = True,
        companions: tuple[str, ...] = (),
        everywhere: bool = False,
        progress: Progress = None,
    ) -> "Future[Path]":
        """Queues, waits, and returns the path that a program opens: the first shard's.

        Meanwhile the cell that waits shows how it goes, as does a terminal on standard error, with a bar for each file that
        moves; elsewhere (papermill, a pipe) one line a minute does. `progress=False` shows nothing, as do the Hub's own switches; a callable gets the download
        whenever something changed, on a thread of its own, ten times a second at most.

        Cancelling the awaiter does not cancel the download. Raises what `queue_smart` and `wait` raise.
        """
        queueing = self.submit_queue_smart(
            repo_id,
            quantization,
            revision=revision,
            force=force,
            add_to_db=add_to_db,
            companions=companions,
            everywhere=everywhere,
        )
        naming = then(queueing, lambda queued: queued.id)
        finishing = chain(queueing, lambda queued: self.submit_wait(queued.id))
        arriving = then(finishing, lambda finished: finished.paths[0])
        return watched(progress, naming, arriving, lambda: self.snapshot)

    def _submit(self, request: DownloadRequest, *, starts: bool, joins: bool) -> "Future[QueuePosition]":
        def plan() -> PlannedDownload:
            with pointing_to_children(self.hub, request.repo_id):
                return self._resolve(request)

        return self._request(str(request.id), plan, starts=starts, joins=joins)

    def _resolve(self, request: DownloadRequest) -> PlannedDownload:
        if request.everywhere and self.engine is None:
            raise RequestError("A copy for every host needs a cluster: set the engine to one first, or ask without it.")
        return self._resolver.resolve(request)

    @override
    def _with_hub(self, call: Callable[[], _Result]) -> "Future[_Result]":
        return self._ask_hub(call)

    @override
    def _queue_plan(self, text: str, plan: Callable[[], PlannedDownload]) -> "Future[QueuePosition]":
        return self._request(text, plan, starts=True, joins=True)

    def _request(
        self, text: str, plan: Callable[[], PlannedDownload], *, starts: bool, joins: bool
    ) -> "Future[QueuePosition]":
        if starts:
            self._runner.warm_up()  # the engine is ready when the files are known

        def make() -> PlannedDownload:
            made = plan()
            self._runner.use_token(self.hub.token)
            return made

        def resolve() -> "Future[PlannedDownload]":
            return self._ask_hub(make)

        pending = PendingRequest(self._thread, next(self._requests), resolve, starts=starts, joins=joins)
        pending.begin(text)
        return pending.answer

    def _ask_hub(self, question: Callable[[], _Result]) -> "Future[_Result]":
        return self._workers.submit(question)

    # What is queued ----------------------------------------------------------------------------------------------

    def submit_cancel_download(self, id: IdLike, *, discard: bool = False) -> "Future[None]":  # noqa: A002
        """Cancels one download with all its shards; `discard` deletes what was fetched of it."""
        return self._thread.post(on.CancelRequested(_id(id), discard, time.time()))

    def submit_cancel_group(self, group_id: str) -> "Future[None]":
        """Cancels all shards of one download; the group's id is `str(id)`.

        Raises:
            NotInQueueError: No pending or active download has that group.
        """
        return self.submit_cancel_download(group_id)

    def submit_cancel_all(self) -> "Future[None]":
        """Cancels everything active, queued or being listed; waits up to 5 s for the active ones to stop."""
        return self._thread.cancel_all(time.time(), _DRAIN_S)

    def submit_remove_from_queue(self, id: IdLike) -> "Future[None]":  # noqa: A002
        """Takes a pending download out."""
        return self._thread.post(on.RemovalRequested(_id(id), time.time()))

    def submit_reorder_queue(self, id: IdLike, new_position: int) -> "Future[int]":  # noqa: A002
        """Gives a pending download another position, 1 being next to run."""
        return self._thread.post(on.MoveRequested(_id(id), new_position))

    def submit_pause(self, id: IdLike) -> "Future[None]":  # noqa: A002
        """Holds a download back; an active one becomes pending at position 1."""
        return self._thread.post(on.PauseRequested(_id(id), time.time()))

    def submit_resume(self, id: IdLike) -> "Future[None]":  # noqa: A002
        """Lets a paused download run again; the processor runs."""
        return self._thread.post(on.ResumeRequested(_id(id), time.time()))

    def submit_run_now(self, id: IdLike) -> "Future[None]":  # noqa: A002
        """Runs a waiting download now, paused or not; where no slot is free, the one that started last waits behind it."""
        return self._thread.post(on.RunRequested(_id(id), time.time()))

    def submit_pause_all(self) -> "Future[None]":
        """Holds everything back: what waits first, so that nothing starts meanwhile."""
        items = self.snapshot.items
        wanted = [item for item in reversed(items) if item.status is not DownloadStatus.REGISTERING]
        return then(gathered([self.submit_pause(item.id) for item in wanted]), lambda _: None)

    def submit_resume_all(self) -> "Future[None]":
        """Lets everything that is paused run again, in its order."""
        paused = [item for item in self.snapshot.items if item.status is DownloadStatus.PAUSED]
        return then(gathered([self.submit_resume(item.id) for item in paused]), lambda _: None)

    def submit_clear_ended(self, status: DownloadStatus | str) -> "Future[None]":
        """Takes what ended in this way (`completed`, `failed`, `cancelled`) off the lists; files and partial files stay."""
        return self._thread.post(on.EndedCleared(DownloadStatus(status)))

    def submit_discard(self, id: IdLike) -> "Future[None]":  # noqa: A002
        """Takes a cancelled or failed download off the lists and deletes its partial files."""
        return self._thread.post(on.EndedDiscarded(_id(id)))

    def submit_retry(self, id: IdLike) -> "Future[int]":  # noqa: A002
        """Brings a failure back to the queue; the processor runs."""
        # Somebody may have logged in since it failed.
        refreshing = self._ask_hub(lambda: self._runner.use_token(self.hub.token))
        return chain(refreshing, lambda _: self._thread.post(on.RetryRequested(_id(id), time.time())))

    def submit_clear_failed(self, id: IdLike | None = None) -> "Future[None]":  # noqa: A002
        """Forgets one failed download, or all of them where None."""
        return self._thread.post(on.FailuresCleared(None if id is None else _id(id)))

    def submit_set_max_queue_size(self, max_size: int) -> "Future[None]":
        """Changes how many downloads may wait; what waits already stays, also above the new limit.

        Raises:
            InvalidConfigError: The limit is not a whole number of at least 1.
        """
        return self._thread.post(on.QueueLimitChanged(max_size))

    def submit_set_bandwidth_limit(self, bytes_per_second: int | None) -> "Future[None]":
        """Changes the limit of all transfers together, at once; None is unlimited.

        Raises:
            InvalidConfigError: The limit is not a whole number of at least 1.
        """
        return self._thread.post(on.BandwidthLimitChanged(bytes_per_second))

    def submit_set_max_concurrent(self, max_concurrent: int) -> "Future[None]":
        """Changes how many downloads run at once; with fewer, what runs already ends in its own time.

        Raises:
            InvalidConfigError: It is not a whole number of at least 1.
        """
        return self._thread.post(on.ConcurrencyChanged(max_concurrent, time.time()))

    @property
    def engine(self) -> object:
        """Where transfers run: None on this machine, else as it was set."""
        return self._engine_setting

    def submit_set_engine(self, engine: object) -> "Future[None]":
        """Lets transfers run elsewhere from now on, as `DownloadManagerConfig.engine` says; None on this machine.

        Raises:
            InvalidConfigError: There is no such engine, or downloads run: it changes when nothing does.
        """

        def make() -> tuple[object, MakeEngine]:
            settings = replace(self.settings, engine=engine)
            return settings.engine, engine_for(settings)

        return chain(
            self._ask_hub(make), lambda made: self._thread.ask(lambda machine: self._change_engine(machine, *made))
        )

    def _change_engine(self, machine: QueueMachine, engine: object, make_engine: MakeEngine) -> None:
        # On the queue's thread, so that nothing starts meanwhile.
        if engine == self._engine_setting:
            return
        if machine.is_transferring:
            raise InvalidConfigError(
                "The engine changes when no download runs: wait, or pause what runs, then set it again."
            )
        self._engine_setting = engine
        self._runner.change_engine(make_engine)

    def submit_set_max_connections(self, max_connections: int) -> "Future[None]":
        """Changes how many connections all transfers together may hold, from 1 to 64; running ones follow within a second.

        Raises:
            InvalidConfigError: It is not such a number.
        """
        return self._thread.post(on.ConnectionLimitChanged(checked_setting("max_connections", max_connections)))

    def submit_set_network_wait(self, network_wait_s: int) -> "Future[None]":
        """Changes how many seconds a network that is gone is waited for before downloads fail.

        Raises:
            InvalidConfigError: It is not a whole number of at least 1.
        """
        return self._thread.post(on.NetworkWaitChanged(network_wait_s))

    def submit_set_download_hours(self, hours: DailyHours | str | None) -> "Future[None]":
        """Lets downloads run in these hours of the day only, such as `22:00-7:00`; None at any time.

        Outside of them what runs is stopped, keeps its bytes and waits at the head of the queue.

        Raises:
            InvalidConfigError: They are no hours.
        """
        wanted: DailyHours | None = checked_setting("download_hours", hours)
        self._hours.watch(wanted)
        return self._thread.post(on.DownloadHoursChanged(wanted, self._hours.is_open(wanted), time.time()))

    def _tell_hours(self, hours: DailyHours, is_open: bool) -> None:
        self._thread.post(on.HoursTurned(hours, is_open, time.time()))

    # Looking -----------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> QueueSnapshot:
        """The queue, immutable, not older than the last answer anybody got."""
        return self._thread.snapshot

    @property
    def engine_pid(self) -> int | None:
        """The engine's process id; None while it does not run."""
        return self._runner.engine_pid

    def submit_get_queue_snapshot(self) -> "Future[QueueSnapshot]":
        """Queued, active and recently ended downloads, with shards, rates and notices."""
        return self._thread.ask(lambda machine: machine.snapshot())

    def submit_active_count(self) -> "Future[int]":
        """Downloads that hold a slot; whole downloads, not shards."""
        return then(self.submit_get_queue_snapshot(), lambda snapshot: snapshot.active_count)

    def submit_pending_count(self) -> "Future[int]":
        """Downloads that wait, paused ones included; whole downloads, not shards."""
        return then(self.submit_get_queue_snapshot(), lambda snapshot: snapshot.pending_count)

    def submit_get_max_queue_size(self) -> "Future[int]":
        """The limit of pending downloads."""
        return then(self.submit_get_queue_snapshot(), lambda snapshot: snapshot.max_size)

    def submit_has_download(self, id: IdLike) -> "Future[bool]":  # noqa: A002
        """Whether a pending or active download answers to the id."""
        wanted = _id(id)
        return self._thread.ask(lambda machine: machine.find(wanted) is not None)

    def submit_wait(self, id: IdLike) -> "Future[FinishedDownload]":  # noqa: A002
        """Ends when the download does; raises its own error, `DownloadCancelledError` when it was cancelled."""
        return then(self._thread.wait(_id(id)), _finished)

    def submit_join(self) -> "Future[None]":
        """Waits until nothing is queued or active; paused downloads do not count."""
        return self._thread.join()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` with a snapshot at most ten times a second, and always after the last change.

        It is called on the queue's own thread, so it must not wait. Returns what ends it.
        """
        unsubscribe = self._thread.subscribe(listener)
        # There is somebody to show the other kernels' downloads to, as soon as the thread knows of them.
        self._thread.ask(lambda _machine: None).add_done_callback(lambda _done: self._keeper.wake())
        return unsubscribe

    def subscribe_events(self, listener: EventListener) -> Callable[[], None]:
        """Calls `listener` with every event, on the queue's own thread. Returns what ends it."""
        return self._thread.subscribe_events(listener)

    def submit_plan(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        context: int | None = None,
    ) -> "Future[RepoPlan]":
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

        def plan() -> RepoPlan:
            with pointing_to_children(self.hub, repo_id):
                found = self._planner.plan(repo_id, quantization, revision, context, self.snapshot)
            return replace(found, page_url=f"{self.hub.endpoint}/{found.repo_id}")

        return self._ask_hub(plan)

    def submit_search(
        self,
        words: str = "",
        *,
        max_parameters: int | None = None,
        licence: str | None = None,
        task: str | None = None,
        sort: str = "downloads",
        limit: int = 20,
    ) -> "Future[list[RepoSummary]]":
        """The Hub's repositories with GGUF files that answer to the words, highest or newest first.

        With each, whether it likely fits this machine and whether a model of it is here. Arguments are those of
        `HubClient.search`.

        Raises:
            RequestError: There is no such order.
            HubError: The Hub's answer is no, or there is none.
        """

        def search() -> list[RepoSummary]:
            found = self.hub.search(
                words, max_parameters=max_parameters, licence=licence, task=task, sort=sort, limit=limit
            )
            here: frozenset[str] = frozenset()
            with suppress(CatalogError):
                here = frozenset(model.id.repo_id.casefold() for model in self.catalog.models())
            return judged(found, self._planner.memory, here, self.hub.endpoint)

        return self._ask_hub(search)

    def submit_partials(self) -> "Future[list[Leftover]]":
        """The partial downloads that lie about in the models folder, by path."""
        return self._ask_hub(lambda: leftovers(self.settings.models_directory))

    def submit_discard_partials(self, targets: Iterable[str]) -> "Future[frozenset[str]]":
        """Deletes the partial files of these targets; what is in the queue, or in use by a process, stays.

        Returns:
            The targets of which nothing partial is left.
        """
        unwanted = frozenset(targets)
        asking = self._thread.ask(lambda machine: machine.wanted_targets)
        return chain(asking, lambda wanted: self._ask_hub(lambda: discard_leftovers(unwanted - wanted)))

    # Other kernels -----------------------------------------------------------------------------------------------

    def submit_adopt(self) -> "Future[Adoption]":
        """Takes up what kernels left that are gone: their queue, pauses, failures and limits; what ran goes on.

        From then on this queue is handed on as well: a close keeps it for the next kernel. `get_manager` does this
        once; a manager made by hand is asked. Where the models database cannot be used there is nothing to take up, and
        a notice of the snapshot says so.
        """
        return self._keeper.adopt(self._prepare_adopted)

    def _prepare_adopted(self) -> None:
        self._runner.use_token(self.hub.token)
        self._runner.warm_up()

    def submit_see_others(self) -> "Future[None]":
        """Looks at the downloads of other kernels now; `snapshot.elsewhere` has them afterwards."""
        return self._keeper.look()

    def submit_history(self) -> "Future[list[PastDownload]]":
        """The last 50 downloads that ended, the newest first: here, in other kernels, and in earlier ones.

        Raises:
            CatalogError: The models database cannot be read.
        """
        return chain(self._written_down(), lambda _: self._with_models(self._history.newest))

    def submit_clear_history(self) -> "Future[int]":
        """Forgets what ended; returns how many downloads that were. Models, failures and partial files stay.

        Raises:
            CatalogError: The models database cannot be written.
        """
        return chain(self._written_down(), lambda _: self._with_models(self._history.clear))

    def _written_down(self) -> "Future[None]":
        """Whoever has seen something end finds it in the database after this."""
        return chain(self._thread.ask(lambda _machine: None), lambda _: self._keeper.look())

    def submit_queue_partials(self, targets: Collection[str] | None = None) -> "Future[list[DownloadId]]":
        """Queues the unfinished downloads in the models folder that are not in the queue.

        Args:
            targets: Only these, as `partials` lists them; None: all.

        Returns:
            Their ids. One that cannot be queued any more raises its error; the others are queued all the same.
        """
        asking = self._thread.ask(lambda machine: machine.wanted_targets)
        folder = self.settings.models_directory
        finding = chain(asking, lambda wanted: self._ask_hub(lambda: partial_requests(folder, wanted, targets)))
        return chain(finding, lambda requests: gathered([self._queue_again(request) for request in requests]))

    def _queue_again(self, request: DownloadRequest) -> "Future[DownloadId]":
        return then(self._submit(request, starts=True, joins=True), lambda queued: queued.id)

    # The end -----------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. A forked child's copy is not closed: it refuses, and says where to ask."""
        return self._thread.is_closed and not self._thread.is_forked

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Stops the engine, keeps what it fetched, ends the threads; whoever waits gets an error. Twice is harmless."""
        self._hours.watch(None)
        self._keeper.close()
        self._thread.close(timeout_s)
        self._workers.close()
        self._model_workers.close()
        self._runner.close(timeout_s)
        self.hub.close()
        self.catalog.close()

    def abandon(self) -> None:
        """In a forked child: refuses everything, and lets go of what is the parent's."""
        self._keeper.abandon()
        self._thread.abandon()
        self._runner.abandon()
        self._workers.abandon()
        self._model_workers.abandon()


def _configure(settings: DownloadManagerConfig, user_agent: str) -> Configure:
    return Configure(
        endpoint=settings.endpoint,
        token=settings.hf_token,
        bandwidth_limit_bytes_per_second=settings.bandwidth_limit_bytes_per_second,
        max_connections=settings.max_connections,
        link_folders=(str(settings.hub_cache), str(settings.models_directory)),
        user_agent=user_agent,
        network_wait_s=settings.network_wait_s,
    )


def _finished(download: QueuedDownload) -> FinishedDownload:
    paths = tuple(Path(path) for path in download.paths)
    is_verified = bool(download.is_verified)
    return FinishedDownload(
        *(download.id, paths, download.total_bytes, is_verified, download.was_present),
        *(download.reused_bytes, download.reused_from),
    )


def _id(id: IdLike) -> DownloadId:  # noqa: A002 - the port's word
    return DownloadId.parse(id) if isinstance(id, str) else id


def _abandon_in_forks(operations: Operations) -> None:
    reference = weakref.ref(operations)

    def abandon() -> None:
        if (living := reference()) is not None:
            living.abandon()

    call_in_forked_children(abandon)
