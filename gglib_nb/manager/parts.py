"""The parts of one manager, made and closed in one place, and the base of its operations."""

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import PlannedDownload
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.units import size
from gglib_nb.errors import CatalogError, DiskFullError, GglibError, InvalidTokenError, StorageError
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.access_watch import AccessWatch
from gglib_nb.manager.calls import Blocking, DaemonThreadPool, settled
from gglib_nb.manager.commands import Commands
from gglib_nb.manager.engine import Engine
from gglib_nb.manager.importing import Stores
from gglib_nb.manager.keeper import QueueKeeper
from gglib_nb.manager.library import bytes_of, loss_of_folder, make_home, owner_folders
from gglib_nb.manager.queue_thread import QueueThread, local_time
from gglib_nb.manager.resolving import Resolver
from gglib_nb.manager.updating import register_download
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.effects import QueuePosition
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.settings import DownloadManagerConfig, origins_of, session_name
from gglib_nb.system import call_in_forked_children

# More at once only make the Hub refuse for a while.
_HUB_THREADS: Final = 4
# The share of a closing manager's time in which the last state of the queue may be written.
_KEEP_S: Final = 1.0

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Parts:
    """All parts of one manager. No request is sent and no process is started before it is needed.

    Attributes:
        origins: The source of each value of `config`.
        hub: Used only on the threads of `at_hub`.
        stores: Models of other programs.
        access: Retries downloads that wait for access.
        commands: Runs commands when downloads are complete.

    Raises:
        InvalidConfigError: The configured engine cannot be used.
    """

    def __init__(self, config: DownloadManagerConfig) -> None:
        self.config: Final = config
        self.origins: Final = origins_of(config)
        self.calls: Final = DaemonThreadPool("gglib-call")
        self.catalog: Final = Catalog(config.database_path)
        self.hub: Final = HubClient(
            config.endpoint,
            config.hf_token,
            is_offline=config.is_offline,
            mirrors=config.mirrors,
            modelscope=config.ms_endpoint,
        )
        self.engine: Final = Engine(config, lambda: self.hub.user_agent, lambda event: self.queue.notify(event))  # noqa: PLW0108 - it is made below
        machine = QueueMachine(
            max_size=config.max_queue_size,
            max_concurrent=config.max_concurrent,
            bandwidth_limit=config.bandwidth_limit_bytes_per_second,
            hours=config.hours,
            is_open=config.hours is None or config.hours.contains(local_time()),
        )
        beside = {"max_connections": config.max_connections, "network_wait_s": config.network_wait_s}
        self.queue: Final = QueueThread(machine, self._run, beside)
        self.keeper: Final = QueueKeeper(self.catalog.database, config, session_name(os.environ), self.queue)
        self.stores: Final = Stores(config.model_stores, self.catalog.models)
        self.resolver: Final = Resolver(self.hub, config.models_directory, self.stores.models)
        self._hub_threads: Final = DaemonThreadPool("gglib-hub", _HUB_THREADS)
        # One thread, so that models are registered in the order in which they were finished.
        self._writer: Final = DaemonThreadPool("gglib-catalog", 1)
        self._requests: Final = itertools.count(1)
        self.queue.start()
        self.access: Final = AccessWatch(lambda: self.queue.snapshot, self.hub.check_access, self._retry)
        self.queue.subscribe_events(self.keeper.handle)
        self.queue.subscribe_events(self.access.handle)
        self.commands: Final = Commands(self.catalog, lambda id_, then: self.queue.notify(on.ThenReported(id_, then)))
        self.queue.subscribe_events(self.commands.handle)
        _living.add(self)

    def at_hub(
        self, ask: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Calls the Hub on one of its few threads, and waits for the answer."""
        return settled(self.ask_hub(ask, *args, **kwargs))

    def ask_hub(
        self, ask: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> "Future[_Result]":
        """Calls the Hub on one of its few threads."""
        return self._hub_threads.submit(ask, *args, **kwargs)

    def queue_plan(
        self,
        text: str,
        plan: Callable[[Callable[[], list[Model]]], PlannedDownload],
        *,
        starts: bool = True,
        joins: bool = True,
    ) -> QueuePosition:
        """Announces a request, makes its plan, and queues it; after an error, the queue is as before.

        `plan` takes a function that returns the registered models, which are read once.

        Raises:
            QueueError: The queue refuses it.
        """
        number = next(self._requests)
        settled(self.queue.post(on.RequestReceived(number, text)))
        try:
            models = lru_cache(maxsize=1)(self.catalog.models)
            planned = plan(models)
            registered: list[Model] = []
            with suppress(CatalogError):
                registered = models()
                self._refuse_lost_folder(planned, registered)
            self._refuse_over_limit(planned, registered)
            if planned.to is not None:
                make_home(Path(planned.to), planned.id.repo_id)
            self.renew_token()
            place: QueuePosition = settled(self.queue.post(on.PlanResolved(number, planned, starts, joins)))
        except BaseException:
            dropping = self.queue.post(on.RequestDropped(number))
            with suppress(GglibError):
                dropping.result()  # not `settled`: the request is dropped even if the caller cancelled
            raise
        return place

    def registered(self) -> list[Model]:
        """The registered models; none if the database cannot be read, which the keeper reports."""
        with suppress(CatalogError):
            return self.catalog.models()
        return []

    def note_known_folders(self, models: Iterable[Model]) -> None:
        """Makes transfers that start from now on check that the disk of the models folder is mounted."""
        if self.engine.setting is None:  # a cluster's hosts have their own folders
            self.engine.known_folders = owner_folders(self.config.models_directory, models)

    def _refuse_lost_folder(self, plan: PlannedDownload, models: list[Model]) -> None:
        """Refuses a download into a folder whose disk is not mounted.

        Raises:
            StorageError: It is not mounted.
        """
        folder = self.config.models_directory if plan.to is None else Path(plan.to)
        if self.engine.setting is None and (loss := loss_of_folder(folder, models)):
            raise StorageError(loss)
        self.note_known_folders(models)

    def storage_use_bytes(self, models: Iterable[Model], *plans: PlannedDownload) -> int:
        """The disk space of models, of the queued downloads and of more plans."""
        return bytes_of(models, [*settled(self.queue.ask(lambda machine: machine.plans)), *plans])

    def _refuse_over_limit(self, plan: PlannedDownload, models: list[Model]) -> None:
        """Refuses a download with which the models would exceed `storage_limit_bytes`.

        Raises:
            DiskFullError: They would exceed it.
        """
        limit_bytes = self.config.storage_limit_bytes
        if limit_bytes is None or plan.is_update:
            return
        used_bytes, needed_bytes = self.storage_use_bytes(models), self.storage_use_bytes(models, plan)
        if needed_bytes > max(limit_bytes, used_bytes):  # files that are already here need no more
            raise DiskFullError(
                f"With {plan.id} ({size(plan.size_bytes)}) your models would take {size(needed_bytes)}, more than the "
                f"storage limit of {size(limit_bytes)}. See what could be deleted: %gguf prune --unused 30d --dry-run. Or change the "
                "limit: %gguf config storage_limit_bytes SIZE --save, then restart the kernel",
                needed_bytes - used_bytes,
                max(0, limit_bytes - used_bytes),
            )

    def renew_token(self) -> None:
        """Passes the current token to attempts that start from now on, because the user may have logged in."""
        with suppress(InvalidTokenError):  # the hub refuses if a token is needed
            self.engine.configure(token=self.hub.token)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. A forked child's copy is not closed: it refuses, and says where to ask."""
        return self.queue.is_closed and not self.queue.is_forked

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
        self.access.close()
        stopping = threading.Thread(target=self.engine.close, args=(timeout_s,), name="gglib-engine-close", daemon=True)
        try:
            stopping.start()
        except RuntimeError:  # Python 3.12 starts no thread once the interpreter is ending
            self.engine.close(timeout_s)
        self._writer.close()
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

    def _retry(self, id_: DownloadId) -> None:
        self.renew_token()
        settled(self.queue.post(on.RetryRequested(id_)))

    def _run(self, effect: do.Work) -> None:
        if isinstance(effect, do.StoreQueue):
            self.keeper.changed()
        elif isinstance(effect, do.RegisterModel):
            self._writer.submit(lambda: self._register(effect))
        else:
            self.engine.run(effect)

    def _register(self, effect: do.RegisterModel) -> None:
        registered = on.ModelRegistered(effect.attempt)
        if effect.plan.add_to_db:
            registered = register_download(self.catalog, self.config, effect)
            if models := self.registered():  # from the first one on
                self.note_known_folders(models)
        self.commands.start(effect)
        self.queue.notify(registered)


_living: Final["weakref.WeakSet[Parts]"] = weakref.WeakSet()


def _abandon_all() -> None:
    for parts in list(_living):
        parts.abandon()


call_in_forked_children(_abandon_all)


class Operations(Blocking):
    """A group of operations: blocking functions, each defined once with its contract. `manager` has all of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts: Final = parts
        self._calls = parts.calls

    def _post(self, event: on.Event) -> Any:  # noqa: ANN401 - each event has its own reply
        return settled(self._parts.queue.post(event))

    def _ask(self, question: Callable[[QueueMachine], _Result]) -> _Result:
        return settled(self._parts.queue.ask(question))
