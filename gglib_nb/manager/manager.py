"""`DownloadManager`: one queue of downloads, as coroutines, and without a loop under `sync`.

Cancelling the awaiter of a request that is still being resolved drops the request; cancelling the awaiter of a download does
not affect the download.
"""

import atexit
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from typing_extensions import override

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.snapshot import (
    DownloadProgressed,
    NoticeChanged,
    QueueEvent,
    QueueSnapshot,
    ShardProgressed,
    SnapshotChanged,
)
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.advice import AdviceOperations
from gglib_nb.manager.calls import Coroutines, DaemonThreadPool, checked
from gglib_nb.manager.importing import Stores
from gglib_nb.manager.model_operations import ModelOperations, path_of
from gglib_nb.manager.operations import IdLike
from gglib_nb.manager.parts import Parts
from gglib_nb.manager.queue_thread import EventListener, Listener
from gglib_nb.settings import DownloadManagerConfig, Origin

if TYPE_CHECKING:
    from asyncio import Future as AsyncFuture

_INSIDE: Final = frozenset({"catalog", "hub", "origins"})
CLOSE_TIMEOUT_S: Final = 2.0
"""The longest wait of a kernel that exits; the engine stops by itself when its input closes."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class _Operations(ModelOperations, AdviceOperations):
    """Every operation."""

    @checked
    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Stops everything within about that time, keeps downloaded data; waiting calls get `DownloadInterruptedError`.

        Later operations raise `ManagerClosedError`. May be called again.
        """
        self._parts.close(timeout_s)

    @override
    def __dir__(self) -> list[str]:
        # The public names only; `_INSIDE` are for this package.
        return sorted(name for name in {*dir(type(self)), *vars(self)} if name[0] != "_" and name not in _INSIDE)


class SyncOperations(_Operations):
    """Every operation as a call that waits: for magics, scripts and other threads.

    The work is done on threads of the manager, so an interrupt ends the wait. A request that is still being resolved is dropped
    then; downloads continue.

    `id` is an id, a part of an id that only one has, or `#n`: the position in the queue, the number among the failures or in
    `models()`. If no download or several match, or it is not where the operation needs it, `NotInQueueError` is raised; if no
    model matches, `ModelNotFoundError`, and if several do, `AmbiguousQuantizationError`, whose `choices` has their ids. A limit
    that is not valid raises `InvalidConfigError`, a models database that cannot be used `CatalogError`.
    """


class DownloadManager(_Operations, Coroutines):
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
        self.sync = SyncOperations(self._parts)

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


class EventStream:
    """Every event from its creation on, after a first one with the whole queue; ends when the manager closes.

    An unread event is replaced by a later one that makes it outdated. Dropping the stream ends the subscription.

    Args:
        subscribe: Takes a function for each event and one for the end; returns a function that ends the subscription.
    """

    def __init__(
        self, subscribe: Callable[[Callable[[QueueEvent], None], Callable[[], None]], Callable[[], None]]
    ) -> None:
        self._unread: Final[OrderedDict[object, QueueEvent]] = OrderedDict()
        self._lock: Final = threading.RLock()
        self._has_begun = False
        self._has_ended = False
        self._readers: set[AsyncFuture[None]] = set()
        itself = weakref.WeakMethod(self._put)

        def put(event: QueueEvent | None = None) -> None:
            if (put_in := itself()) is not None:
                put_in(event)

        self._unsubscribe: Final = weakref.finalize(self, subscribe(put, put))
        self._unsubscribe.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QueueEvent:
        from asyncio import get_running_loop  # 30 ms, which would slow the import

        while True:
            with self._lock:
                if self._unread:
                    return self._unread.popitem(last=False)[1]
                if self._has_ended:
                    raise StopAsyncIteration
                reader: AsyncFuture[None] = get_running_loop().create_future()
                self._readers.add(reader)
            try:
                await reader
            finally:
                self._readers.discard(reader)

    async def aclose(self) -> None:
        """Ends the stream; a waiting reader gets the unread events first."""
        self._unsubscribe()
        self._put(None)

    def _put(self, event: QueueEvent | None) -> None:
        """Adds an event, or the end, on any thread, and wakes the readers."""
        with self._lock:
            if event is None:
                self._has_ended = True
            else:
                key = (self._has_begun and _replaced_by_later(event)) or object()  # the first event stays the first
                self._has_begun = True
                self._unread.pop(key, None)
                self._unread[key] = event
            readers, self._readers = self._readers, set()
        for reader in readers:
            with suppress(RuntimeError):  # the loop was closed, and so was the reader
                reader.get_loop().call_soon_threadsafe(_wake, reader)


def _wake(reader: "AsyncFuture[None]") -> None:
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

    Raises what `path` raises, and `InvalidConfigError`: a setting has an invalid value.
    """
    manager = existing_manager()
    config = DownloadManagerConfig.of_kernel() if manager is None else manager.config
    catalog = Catalog(config.database_path)
    stores = Stores(config.model_stores, catalog.models)
    # On a thread, because the state folder may be on a disk that hangs; not one of the manager's, which a forked child lacks.
    threads = DaemonThreadPool("gglib-path")
    try:
        return threads.run(path_of, catalog, reference, stores.models)
    finally:
        threads.close()


def existing_manager() -> DownloadManager | None:
    """The manager of this kernel; None: there is none yet."""
    return _current


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end and returns its result.

    In a script it creates an event loop. In a running loop, such as that of a notebook's cell, it re-enters the loop with the help
    of `nest_asyncio2`; prefer `await` wherever the cell allows it. The magics and `manager.sync` patch nothing.

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
