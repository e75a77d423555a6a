"""`DownloadManager`: one queue of downloads, as coroutines, and without a loop under `sync`.

Each operation is a blocking function, from which `coroutine` makes the coroutine. Cancelling the awaiter of a request that is
still being resolved drops the request; cancelling the awaiter of a download does not affect the download.
"""

import atexit
import inspect
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from typing_extensions import override

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.domain.events import DownloadProgressed, NoticeChanged, QueueEvent, ShardProgressed, SnapshotChanged
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.advice import AdviceOperations
from gglib_nb.manager.calls import Calls, coroutine
from gglib_nb.manager.model_operations import path_of
from gglib_nb.manager.operations import IdLike
from gglib_nb.manager.parts import Parts
from gglib_nb.manager.queue_thread import EventListener, Listener
from gglib_nb.manager.storage_operations import StorageOperations
from gglib_nb.manager.stores import Stores
from gglib_nb.settings import DownloadManagerConfig, Origin

if TYPE_CHECKING:
    from asyncio import Future as AsyncFuture

_INSIDE: Final = frozenset({"catalog", "hub", "origins"})
CLOSE_TIMEOUT_S: Final = 2.0
"""The longest wait of a kernel that exits; the engine stops by itself when its input closes."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class SyncOperations(StorageOperations, AdviceOperations):
    """Every operation as a call that waits: for magics, scripts and other threads.

    The work is done on threads of the manager, so an interrupt ends the wait. A request that is still being resolved is dropped
    then; downloads continue.

    `id` is an id, a part of an id that only one has, or `#n`: the position in the queue, the number among the failures or in
    `models()`. If no download or several match, or it is not where the operation needs it, `NotInQueueError` is raised; if no
    model matches, `ModelNotFoundError`, and if several do, `AmbiguousQuantizationError`, whose `choices` has their ids. A limit
    that is not valid raises `InvalidConfigError`, a models database that cannot be used `CatalogError`.
    """

    def close(self) -> None:
        """Stops everything within about 2 s, keeps downloaded data; waiting calls get `DownloadInterruptedError`."""
        self._parts.close(CLOSE_TIMEOUT_S)

    @override
    def __dir__(self) -> list[str]:
        return sorted(name for name, one in inspect.getmembers_static(type(self), inspect.isfunction) if name[0] != "_")


class DownloadManager:
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

    def __init__(self, config: DownloadManagerConfig | None = None, **settings: Any) -> None:  # noqa: ANN401 - its fields
        names = [field.name for field in fields(DownloadManagerConfig)]
        if unknown := sorted(settings.keys() - names):
            raise TypeError(f"DownloadManager has no setting {', '.join(unknown)}; it has {', '.join(names)}.")
        self.config: Final = DownloadManagerConfig(**settings) if config is None else replace(config, **settings)
        self._parts: Final = Parts(self.config)
        self._calls: Final = self._parts.calls
        self.sync: Final = SyncOperations(self._parts)

    queue_download = coroutine(SyncOperations.queue_download)
    queue_and_process = coroutine(SyncOperations.queue_and_process)
    queue_smart = coroutine(SyncOperations.queue_smart)
    download = coroutine(SyncOperations.download)
    cancel_download = coroutine(SyncOperations.cancel_download)
    cancel_group = coroutine(SyncOperations.cancel_group)
    cancel_all = coroutine(SyncOperations.cancel_all)
    remove_from_queue = coroutine(SyncOperations.remove_from_queue)
    reorder_queue = coroutine(SyncOperations.reorder_queue)
    pause = coroutine(SyncOperations.pause)
    resume = coroutine(SyncOperations.resume)
    run_now = coroutine(SyncOperations.run_now)
    pause_all = coroutine(SyncOperations.pause_all)
    resume_all = coroutine(SyncOperations.resume_all)
    clear_ended = coroutine(SyncOperations.clear_ended)
    put_back = coroutine(SyncOperations.put_back)
    retry = coroutine(SyncOperations.retry)
    clear_failed = coroutine(SyncOperations.clear_failed)
    set_max_queue_size = coroutine(SyncOperations.set_max_queue_size)
    set_bandwidth_limit = coroutine(SyncOperations.set_bandwidth_limit)
    set_engine = coroutine(SyncOperations.set_engine)
    set_max_concurrent = coroutine(SyncOperations.set_max_concurrent)
    set_max_connections = coroutine(SyncOperations.set_max_connections)
    set_network_wait = coroutine(SyncOperations.set_network_wait)
    set_download_hours = coroutine(SyncOperations.set_download_hours)
    get_queue_snapshot = coroutine(SyncOperations.get_queue_snapshot)
    active_count = coroutine(SyncOperations.active_count)
    pending_count = coroutine(SyncOperations.pending_count)
    get_max_queue_size = coroutine(SyncOperations.get_max_queue_size)
    has_download = coroutine(SyncOperations.has_download)
    wait = coroutine(SyncOperations.wait)
    join = coroutine(SyncOperations.join)
    plan = coroutine(SyncOperations.plan)
    search = coroutine(SyncOperations.search)
    partials = coroutine(SyncOperations.partials)
    discard_partials = coroutine(SyncOperations.discard_partials)
    queue_partials = coroutine(SyncOperations.queue_partials)
    adopt = coroutine(SyncOperations.adopt)
    see_others = coroutine(SyncOperations.see_others)
    history = coroutine(SyncOperations.history)
    clear_history = coroutine(SyncOperations.clear_history)
    models = coroutine(SyncOperations.models)
    disk_use = coroutine(SyncOperations.disk_use)
    path = coroutine(SyncOperations.path)
    find_model = coroutine(SyncOperations.find_model)
    loading_lines = coroutine(SyncOperations.loading_lines)
    write_preset = coroutine(SyncOperations.write_preset)
    forget = coroutine(SyncOperations.forget)
    delete = coroutine(SyncOperations.delete)
    verify = coroutine(SyncOperations.verify)
    verify_all = coroutine(SyncOperations.verify_all)
    repair = coroutine(SyncOperations.repair)
    import_folder = coroutine(SyncOperations.import_folder)
    check_updates = coroutine(SyncOperations.check_updates)
    update = coroutine(SyncOperations.update)
    inspect = coroutine(SyncOperations.inspect)
    compare = coroutine(SyncOperations.compare)
    export = coroutine(SyncOperations.export)
    prune = coroutine(SyncOperations.prune)
    log_in = coroutine(SyncOperations.log_in)

    # Looking, without a wait -------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> QueueSnapshot:
        """The queue, immutable and not older than the last reply."""
        return self._parts.queue.snapshot

    @property
    def engine(self) -> object:
        """Where transfers run: None on this machine, else as configured."""
        return self._parts.engine_setting

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
        return self._parts.calls.submit(function, *args, **kwargs)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` with a snapshot at most ten times a second, and always after the last change.

        It is called on the queue's own thread, so it must not block. Returns a function that ends the subscription.

        Raises:
            ManagerClosedError: The manager is closed.
        """
        unsubscribe = self._parts.queue.subscribe(listener)
        self._parts.keeper.wake()  # from now on the downloads of other kernels are shown
        return unsubscribe

    def subscribe_events(self, listener: EventListener) -> Callable[[], None]:
        """Calls `listener` with every event, on the queue's own thread. Returns a function that ends the subscription.

        Raises:
            ManagerClosedError: The manager is closed.
        """
        return self._parts.queue.subscribe_events(listener)

    def events(self) -> AsyncIterator[QueueEvent]:
        """Every event from now on, after a first one with the whole queue; ends when the manager closes.

        Raises:
            ManagerClosedError: The manager is closed.
        """
        return EventStream(self._parts.queue.subscribe_events)

    # For this package --------------------------------------------------------------------------------------------

    @property
    def origins(self) -> "dict[str, Origin]":
        """Where each setting comes from."""
        return dict(self._parts.origins)

    @property
    def catalog(self) -> Catalog:
        """The models database."""
        return self._parts.catalog

    @property
    def hub(self) -> HubClient:
        """The client of the Hub."""
        return self._parts.hub

    # The end -----------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. A forked child's copy is not closed: it refuses, and says where to ask."""
        return self._parts.is_closed

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Does what `sync.close` does; later operations raise `ManagerClosedError`. May be called again."""
        self._parts.close(timeout_s)

    async def aclose(self) -> None:
        """Does what `close` does, without blocking the loop."""
        from asyncio import to_thread  # 30 ms, which would slow the import

        await to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @override
    def __repr__(self) -> str:
        state = "closed" if self.is_closed else self.snapshot.summary
        return f"<DownloadManager: {state}; models in {self.config.models_directory}>"

    def _repr_html_(self) -> str:
        return self.snapshot._repr_html_()

    @override
    def __dir__(self) -> list[str]:
        # The public names only; `catalog`, `hub` and `origins` are for this package.
        return sorted(
            name for name in [*vars(type(self)), "config", "sync"] if not (name.startswith("_") or name in _INSIDE)
        )


# Events as an async iterator -------------------------------------------------------------------------------------------


class EventStream:
    """Every event from its creation on, after a first one with the whole queue; ends when the manager closes.

    Args:
        subscribe: Takes a function for each event and one for the end; returns a function that ends the subscription.
    """

    def __init__(
        self, subscribe: Callable[[Callable[[QueueEvent], None], Callable[[], None]], Callable[[], None]]
    ) -> None:
        self._buffer: Final = _Buffer()
        # The subscription holds the buffer only, so that a stream that is dropped without `aclose` ends it.
        self._unsubscribe: Final = weakref.finalize(self, subscribe(self._buffer.put, self._buffer.end))
        self._unsubscribe.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QueueEvent:
        return await self._buffer.take()

    async def aclose(self) -> None:
        """Ends the stream; unread events are dropped."""
        self._unsubscribe()
        self._buffer.end()


class _Buffer:
    """The unread events of one reader. `put` and `end` may be called from any thread."""

    def __init__(self) -> None:
        self._has_ended = False
        self._has_begun = False
        self._events: Final[OrderedDict[object, QueueEvent]] = OrderedDict()
        self._lock: Final = threading.Lock()
        self._reader: AsyncFuture[None] | None = None

    def put(self, event: QueueEvent) -> None:
        """Adds an event, replacing an outdated one, and wakes the reader."""
        key = (self._has_begun and _replaced_by_later(event)) or object()  # the first event stays the first
        with self._lock:
            self._has_begun = True
            self._events.pop(key, None)
            self._events[key] = event
        self._wake()

    def end(self) -> None:
        """Ends the stream; the reader gets the remaining events and then the end."""
        self._has_ended = True
        self._wake()

    async def take(self) -> QueueEvent:
        """The oldest event, as soon as there is one; `StopAsyncIteration` at the end."""
        from asyncio import get_running_loop  # 30 ms, which would slow the import

        while True:
            with self._lock:
                if self._events:
                    return self._events.popitem(last=False)[1]
                if self._has_ended:
                    raise StopAsyncIteration
                reader = self._reader = get_running_loop().create_future()
            await reader

    def _wake(self) -> None:
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(RuntimeError):  # the loop was closed, and so was the reader
                reader.get_loop().call_soon_threadsafe(_resolve, reader)


def _resolve(reader: "AsyncFuture[None]") -> None:
    if not reader.done():
        reader.set_result(None)


def _replaced_by_later(event: QueueEvent) -> object | None:
    """The key of events that a later one replaces; None if every event counts."""
    match event:
        case SnapshotChanged():
            return SnapshotChanged
        case DownloadProgressed():
            return (DownloadProgressed, event.download.id)
        case ShardProgressed():
            return (ShardProgressed, event.id, event.shard.number)
        case NoticeChanged():
            return (NoticeChanged, event.id)
        case _:
            return None


# The one manager of this kernel ----------------------------------------------------------------------------------------

_current_lock: Final = threading.Lock()
_current: DownloadManager | None = None


def get_manager() -> DownloadManager:
    """The manager that the magics, the panel and `gglib_nb.download` share, made on first use.

    It adopts the queues of kernels that have stopped, for the same models folder and hub. It is closed when the interpreter
    exits; the next kernel continues.

    Raises:
        InvalidConfigError: A setting has an invalid value.
    """
    global _current  # noqa: PLW0603 - one per kernel is the point
    with _current_lock:
        if _current is None or _current.is_closed:
            _current = DownloadManager(DownloadManagerConfig.of_kernel())
            _current.submit(_current.sync.adopt)
            atexit.register(_current.close)
        return _current


def model_path(reference: IdLike) -> Path:
    """The file of a registered model, without making a manager: that would resume an earlier kernel's queue.

    Raises:
        InvalidConfigError: A setting has an invalid value.
        ModelNotFoundError: No model matches, or its file no longer exists.
        AmbiguousQuantizationError: Several match.
        CatalogError: The models database cannot be read.
    """
    manager = existing_manager()
    config = DownloadManagerConfig.of_kernel() if manager is None else manager.config
    catalog = Catalog(config.database_path)
    stores = Stores(config.model_stores, catalog.models)
    # On a thread, because the state folder may be on a disk that hangs; not one of the manager's, which a forked child lacks.
    return Calls().run(path_of, catalog, reference, stores.models)


def existing_manager() -> DownloadManager | None:
    """The manager of this kernel; None: there is none yet."""
    return _current


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end and returns its result.

    In a script it makes a loop. In a running loop, as in a notebook's cell, it re-enters that loop, which `nest_asyncio2`
    patches for that; `await` in the cell is better wherever it can be written. The magics and `manager.sync` patch nothing.

    An interrupt in a cell cancels the coroutine.
    """
    import asyncio  # 30 ms, which would slow the import

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # nest_asyncio 1.6 is archived and silently drops cells that are queued behind it under ipykernel 7.
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    result: _Result = loop.run_until_complete(coroutine)
    return result
