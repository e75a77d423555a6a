"""`DownloadManager`: one queue of downloads, as coroutines, and without a loop under `sync`.

Cancelling the awaiter of a request that is still being resolved drops the request; cancelling the awaiter of a download
does not affect the download.
"""

import atexit
import itertools
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

from typing_extensions import override

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain import snapshot as announced
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueueEvent, QueueSnapshot
from gglib_nb.errors import CatalogError, GglibError, InvalidConfigError, InvalidTokenError, ManagerClosedError
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.advice import AdviceOperations
from gglib_nb.manager.calls import Coroutines, DaemonThreadPool, check_argument, checked, settled
from gglib_nb.manager.engine import Engine
from gglib_nb.manager.followups import Commands, retry_granted, waiting_for_access
from gglib_nb.manager.importing import Stores
from gglib_nb.manager.keeper import QueueKeeper
from gglib_nb.manager.library import owner_folders
from gglib_nb.manager.operations import IdLike, QueueOperations
from gglib_nb.manager.queue_thread import EventListener, EventStream, Listener, QueueThread, is_open_now
from gglib_nb.manager.updating import register_download
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Limits
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.settings import DownloadManagerConfig, checked_setting, origins_of
from gglib_nb.system import call_in_forked_children

INSIDE: Final = frozenset({"catalog", "hub", "origins"})  # attributes that only this package uses
CLOSE_TIMEOUT_S: Final = 2.0
"""The longest wait of a kernel that exits; the engine stops by itself when its input closes."""
# More at once only make the Hub refuse for a while.
_HUB_THREADS: Final = 4
# The share of a closing manager's time in which the last state of the queue may be written.
_KEEP_S: Final = 1.0
_MOST_WRITERS: Final = 8
# How often the Hub is asked about repositories without access.
_ASK_EVERY_S: Final = 60.0

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Parts:
    """All parts of one manager. No request is sent and no process is started before it is needed.

    Raises:
        InvalidConfigError: The configured engine cannot be used.
    """

    def __init__(self, config: DownloadManagerConfig) -> None:
        self.config: Final = config
        self.calls: Final = DaemonThreadPool("gglib-call")
        self.comparing: Final = threading.Lock()  # a request with a storage limit, until it is queued
        self.catalog: Final = Catalog(config.database_path)
        self.hub: Final = HubClient(
            config.endpoint,
            config.hf_token,
            is_offline=config.is_offline,
            mirrors=config.mirrors,
            modelscope=config.ms_endpoint,
        )
        self.engine: Final = Engine(config, lambda: self.hub.user_agent, lambda event: self.queue.notify(event))  # noqa: PLW0108 - it is made below
        hours = checked_setting("download_hours", config.download_hours)
        limits = Limits(
            config.max_queue_size,
            config.max_concurrent,
            config.bandwidth_limit_bytes_per_second,
            hours,
            is_open_now(hours),
        )
        beside = {"max_connections": config.max_connections, "network_wait_s": config.network_wait_s}
        self.queue: Final = QueueThread(QueueMachine(limits), self._run, beside)
        self.keeper: Final = QueueKeeper(self)
        self.stores: Final = Stores(config.model_stores, self.catalog.models)
        self.requests: Final = itertools.count(1)  # their numbers
        self._watches_access = False
        self.commands: Final = Commands(self.catalog, lambda id_, then: self.queue.notify(on.ThenReported(id_, then)))
        self._hub_threads: Final = DaemonThreadPool("gglib-hub", _HUB_THREADS)
        # One thread for each folder of `to`, whose disk may hang; it registers models in the order of their ends. If
        # there are more folders, some share one.
        self._writers: Final = [DaemonThreadPool("gglib-catalog", 1) for _ in range(_MOST_WRITERS)]
        self._writer_of: Final = defaultdict[str | None, DaemonThreadPool](
            partial(next, itertools.cycle(self._writers))
        )
        self.queue.subscribe_events(self._follow_up)
        _living.add(self)

    def at_hub(
        self, ask: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Calls the Hub on one of its few threads, and waits for the answer."""
        return settled(self._hub_threads.submit(ask, *args, **kwargs))

    def registered(self) -> list[Model]:
        """The registered models; none if the database cannot be read, which the keeper reports.

        Transfers that start from now on check that the disk with their files is mounted.
        """
        with suppress(CatalogError):
            models = self.catalog.models()
            if self.engine.setting is None:  # a cluster's hosts have their own folders
                self.engine.known_folders = owner_folders(self.config.models_directory, models)
            return models
        return []

    def prepare(self) -> list[Model]:
        """Makes new transfers use the current token, as after a login; returns the registered models."""
        with suppress(InvalidTokenError):  # the hub refuses if a token is needed
            self.engine.configure(token=self.hub.token)
        return self.registered()

    def close(self, timeout_s: float) -> None:
        """Stops everything within the time, keeps downloaded data, and answers every call. May be called again.

        In a forked child it does nothing, because everything belongs to the parent.
        """
        if self.queue.is_forked:
            return
        if self.queue.is_own_thread:  # the last state of the queue cannot be stored while its thread waits
            threading.Thread(target=self.close, args=(timeout_s,), name="gglib-close", daemon=True).start()
            return
        deadline_s = time.monotonic() + timeout_s
        self.hub.close()
        stopping = threading.Thread(target=self.engine.close, args=(timeout_s,), name="gglib-engine-close", daemon=True)
        try:
            stopping.start()
        except RuntimeError:  # Python 3.12 starts no thread once the interpreter is ending
            self.engine.close(timeout_s)
        for writer in self._writers:
            writer.close()
        self.keeper.close(min(_KEEP_S, deadline_s - time.monotonic()))
        self.queue.close(max(0.0, deadline_s - time.monotonic()))
        self._hub_threads.close()
        self.calls.close()
        self.calls.answer_all()
        self.catalog.close()
        if stopping.is_alive():
            stopping.join(max(0.0, deadline_s - time.monotonic()))

    def abandon(self) -> None:
        """In a forked child: refuses every operation, so that no call waits for a thread of the parent's."""
        self.calls.abandon()
        self.queue.abandon()
        self.engine.abandon()

    def _run(self, effect: do.Work) -> None:
        if isinstance(effect, do.StoreQueue):
            self.keeper.changed()
        elif isinstance(effect, do.RegisterModel):
            registering = self._writer_of[effect.plan.to].submit(self._register, effect)
            registering.add_done_callback(partial(self._report, effect.attempt))
        else:
            self.engine.run(effect)

    def _register(self, effect: do.RegisterModel) -> on.ModelRegistered:
        try:
            return register_download(self.catalog, self.config, effect)
        finally:
            self.registered()  # from the first one on, its folder is known
            self.commands.start(effect)  # also of a model that could not be registered: its files are complete

    def _report(self, attempt: int, registering: "Future[on.ModelRegistered]") -> None:
        error = registering.exception()  # also if no thread could be started
        if error is None:
            self.queue.notify(registering.result())
        elif not isinstance(error, ManagerClosedError):  # else the next kernel registers it
            if not isinstance(error, GglibError):
                error = CatalogError(f"It could not be registered ({error}). Download it again to retry.")
            self.queue.notify(on.ModelRegistered(attempt, error=error))

    def _follow_up(self, event: QueueEvent) -> None:
        if isinstance(event, announced.StatusChanged) and event.status is DownloadStatus.FAILED:
            self._watch_access()  # also for a download of a previous kernel
        if isinstance(event, announced.DownloadCompleted):
            self.commands.complete(event.download)
        if isinstance(event, announced.DownloadEnded | announced.ThenChanged):
            self.keeper.record(event.download)

    def retry_granted(self) -> list[DownloadId]:
        """Retries the downloads whose repositories the Hub gives access to now; returns them."""
        return retry_granted(self.queue.snapshot, self.hub.check_access, QueueOperations(self).retry)

    def _watch_access(self) -> None:
        """Once a download waits for access, asks the Hub about such downloads every minute."""

        def ask(due: "Future[None]") -> None:
            if due.exception() is None:  # else it is closed
                self.calls.submit(self.retry_granted).add_done_callback(wait)  # also if it could not be asked

        def wait(_: object = None) -> None:
            self.queue.until(lambda _: False, _ASK_EVERY_S).add_done_callback(ask)

        if not self._watches_access and waiting_for_access(self.queue.snapshot):
            self._watches_access = True
            wait()


def _close_when_drained(parts: Parts) -> None:
    """Ends what a manager that nobody holds has started, once its downloads have ended."""

    def close(drained: "Future[None]") -> None:
        if drained.exception() is None:  # else it is closed
            parts.close(CLOSE_TIMEOUT_S)

    # Called on its thread: the collector may run in a thread that must not wait for the end.
    parts.queue.ask(lambda _: parts.queue.until(lambda machine: machine.is_drained).add_done_callback(close))


_living: Final["weakref.WeakSet[Parts]"] = weakref.WeakSet()


def _abandon_all() -> None:
    for parts in list(_living):
        parts.abandon()


call_in_forked_children(_abandon_all)


class SyncOperations(AdviceOperations):
    """Every operation as a call that waits: for magics, scripts and other threads.

    The work is done on threads of the manager, so an interrupt ends the wait. A request that is still being resolved is
    dropped then; downloads continue.

    `id` is an id, a part of an id that only one has, or `#n`: the position in the queue, the number among the failures,
    among the cancelled downloads, or in `models()`. If no download or several match, or it is not where the operation
    needs it, `NotInQueueError` is raised; if no model matches, `ModelNotFoundError`, and if several do,
    `AmbiguousQuantizationError`, whose `choices` has their ids. A limit that is not valid raises `InvalidConfigError`,
    a models database that cannot be used `CatalogError`.
    """

    @checked
    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Stops everything within about that time, keeps downloaded data; waiting calls get `DownloadInterruptedError`.

        Later operations raise `ManagerClosedError`. May be called again.
        """
        self._parts.close(min(timeout_s, threading.TIMEOUT_MAX))

    @override
    def __dir__(self) -> list[str]:
        return sorted(name for name in {*dir(type(self)), *vars(self)} if name[0] != "_" and name not in INSIDE)


class DownloadManager(SyncOperations, Coroutines):
    """One queue of downloads with its engine and its catalog.

    Use it as `async with DownloadManager(config) as manager`, or close it with `aclose`. In a notebook
    `gglib_nb.get_manager()` gives the kernel's own, which ends with the kernel. Without a loop, use `manager.sync`.

    Args:
        config: Its settings; None: the saved ones, else those of the environment, else the defaults.
        settings: Fields of `DownloadManagerConfig`, which override those of `config`.

    Attributes:
        config: Its settings.
        sync: The same operations as calls that wait.

    Raises:
        InvalidConfigError: A setting has an invalid value.
        TypeError: There is no such setting.
    """

    sync: SyncOperations

    @checked
    def __init__(self, config: DownloadManagerConfig | None = None, **settings: Any) -> None:  # noqa: ANN401 - its fields
        names = [field.name for field in fields(DownloadManagerConfig)]
        if unknown := sorted(settings.keys() - names):
            raise TypeError(f"DownloadManager has no setting {', '.join(unknown)}; it has {', '.join(names)}.")
        self.config: Final = DownloadManagerConfig(**settings) if config is None else replace(config, **settings)
        super().__init__(Parts(self.config))
        self.catalog: Final = self._parts.catalog
        self.hub: Final = self._parts.hub
        self.origins: Final = origins_of(self.config)  # the source of each value
        self.sync = SyncOperations(self._parts)
        # Handles and running operations hold `sync`, too: once it is gone, only downloads go on.
        weakref.finalize(self.sync, _close_when_drained, self._parts).atexit = False

    # Looking, without a wait -------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> QueueSnapshot:
        """The queue, immutable and not older than the last reply."""
        return self._parts.queue.snapshot

    @property
    def engine(self) -> object:
        """Where transfers run: None on this machine, else as configured."""
        return self._parts.engine.setting

    @property
    def engine_pid(self) -> int | None:
        """The engine's process id; None while it does not run."""
        return self._parts.engine.pid

    def submit(
        self, function: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> "Future[_Result]":
        """Runs an operation of `sync`, or a function that calls several, on a thread of the manager; returns at once.

            future = manager.submit(manager.sync.queue_smart, "owner/repo", "Q4_K_M")

        Cancelling the future ends the waits of the function. After `close` the future holds `ManagerClosedError`.
        """
        check_argument("function", function, Callable)  # not a coroutine of this class in place of one of `sync`
        return self._calls.submit(function, *args, **kwargs)

    @checked
    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` with a snapshot at most ten times a second, and always after the last change.

        It is called on the queue's own thread, so it must not block. Returns a function that ends the subscription.

        Raises:
            ManagerClosedError: The manager is closed.
        """
        unsubscribe = self._parts.queue.subscribe(listener)
        self._parts.keeper.wake()  # from now on the downloads of other kernels are shown
        return unsubscribe

    @checked
    def subscribe_events(self, listener: EventListener) -> Callable[[], None]:
        """Calls `listener` with every event; otherwise as `subscribe`."""
        return self._parts.queue.subscribe_events(listener)

    def events(self) -> AsyncIterator[QueueEvent]:
        """Every event from now on, after a first one with the whole queue; ends when the manager closes.

        Raises:
            ManagerClosedError: The manager is closed.
        """
        return EventStream(self._parts.queue)

    # The end -----------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. A forked child's copy is not closed: it refuses, and says where to ask."""
        return self._parts.queue.is_closed and not self._parts.queue.is_forked

    async def aclose(self) -> None:
        """Does what `close` does, without blocking the loop."""
        from asyncio import to_thread  # 30 ms, which would slow the import

        await to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @override
    def __repr__(self) -> str:
        state = "closed" if self.is_closed else self.snapshot.summary
        return f"<DownloadManager: {state}; models in {self.config.models_directory}>"

    def _repr_html_(self) -> str:
        return self.snapshot._repr_html_()


# The one manager of this kernel ---------------------------------------------------------------------------------------

_current_lock: Final = threading.Lock()
_current: DownloadManager | None = None


def get_manager() -> DownloadManager:
    """The manager of `gglib_nb.get_manager`, which adopts the queues of stopped kernels; closed when Python exits."""
    global _current  # noqa: PLW0603 - one per kernel is the point
    with _current_lock:
        if _current is None or _current.is_closed:
            _current = DownloadManager(DownloadManagerConfig.of_kernel())
            _current.submit(_current.sync.adopt)
            atexit.register(_current.close)
        return _current


def model_path(text: IdLike) -> Path:
    """The file of a registered model, by a manager of its own: this kernel's would resume an earlier kernel's queue.

    Raises what `path` raises, and `InvalidConfigError`: a setting has an invalid value.
    """
    check_argument("text", text, IdLike)
    manager = existing_manager()
    config = DownloadManagerConfig.of_kernel() if manager is None else manager.config
    with DownloadManager(config, engine=None) as own:
        return own.sync.path(text)


def existing_manager() -> DownloadManager | None:
    """The manager of this kernel; None: there is none yet."""
    return _current


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end and returns its result.

    In a script it creates an event loop. In a running loop, such as that of a notebook's cell, it re-enters the loop
    with the help of `nest_asyncio2`; prefer `await` where you can. The magics and `manager.sync` patch nothing.

    An interrupt in a cell cancels the coroutine.
    """
    import asyncio  # 30 ms, which would slow the import

    check_argument("coroutine", coroutine, Coroutine)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    if not isinstance(loop, asyncio.BaseEventLoop):  # such as that of uvloop
        coroutine.close()
        raise InvalidConfigError(f"{type(loop).__name__} cannot be re-entered. Use `await` instead of `gglib_nb.run`.")
    # nest_asyncio 1.6 is archived and silently drops cells that are queued behind it under ipykernel 7.
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    result: _Result = loop.run_until_complete(coroutine)
    return result
