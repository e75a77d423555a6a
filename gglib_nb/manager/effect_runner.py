"""Runs the effects of the queue machine: tells the engine, writes to the catalog, and brings back what came of it.

The only place that knows both the engine's protocol and the queue's events, which mirror each other.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, assert_never

from msgspec import structs
from typing_extensions import override

from gglib_nb.domain.download import HostProgress, PlannedDownload, StoredFile
from gglib_nb.domain.model import Model
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.reports import (
    EngineLost,
    EnginesChanged,
    EngineSilent,
    HostedFinish,
    HostedProgress,
    Report,
    SetConcurrency,
    StartEverywhere,
    TransferWaits,
)
from gglib_nb.errors import CatalogDamagedError, CatalogError, GglibError, from_wire
from gglib_nb.manager.file_checks import FileChecks
from gglib_nb.manager.queue_thread import EffectRunner
from gglib_nb.manager.thread_pool import DaemonThreadPool
from gglib_nb.manager.transfer_engine import MakeEngine, TransferEngine
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on

Post = Callable[[on.Event], object]


Settle = Callable[[Model, bool], tuple[StoredFile, ...]]
"""Takes the new version and whether the old one is kept; gives the files under the names they have then."""


class ModelRegistry(Protocol):
    """What is asked of the catalog."""

    def register(self, model: Model) -> None:
        """Writes a model; one of the same id is replaced."""


class EngineEffectRunner(EffectRunner):
    """The one of a manager. No call waits: the engine's client and the writer have threads of their own.

    Attributes:
        file_checks: Hashing of files, which is the engine's work too and none of the queue's.
    """

    def __init__(
        self,
        configure: wire.Configure,
        catalog: ModelRegistry,
        make_engine: MakeEngine,
        settle: Settle | None = None,
        max_concurrent: int = 1,
    ) -> None:
        """Starts nothing yet.

        Args:
            configure: Of the engine.
            catalog: Where finished models are written.
            make_engine: Makes the engine.
            settle: Puts a new version of a model in the place of the old one, and registers it; None: nobody updates.
            max_concurrent: Transfers that each of several engines may run at once.
        """
        self._settle = settle
        self._max_concurrent = max_concurrent
        self._configure = configure
        self._token = configure.token
        self._catalog: Final = catalog
        self._writer: Final = DaemonThreadPool("gglib-catalog", 1)
        self._post: Post = lambda _event: None
        self._store: Callable[[], None] = lambda: None
        self._engine_number = 0
        self._engine = self._made(make_engine)
        self.file_checks: Final = FileChecks(self._send)

    def connect(self, post: Post, store: Callable[[], None]) -> None:
        """Says where reports go, and who writes the queue down; before the first effect."""
        self._post, self._store = post, store

    def use_token(self, token: str | None) -> None:
        """The token for the attempts that start from now on; finding it may take a request, so others do that."""
        self._token = token

    @property
    def engine_pid(self) -> int | None:
        """The engine's process id; None while it does not run."""
        return self._engine.pid

    def change_engine(self, make_engine: MakeEngine) -> None:
        """Puts another engine in the place of this one, of which nothing runs and nothing more is heard.

        Called on the queue's thread. The old one ends in a thread of its own, since that takes its time.
        """
        self.file_checks.engine_lost()
        threading.Thread(target=self._engine.close, name="gglib-engine-change", daemon=True).start()
        self._engine = self._made(make_engine)
        self._post(on.EnginesChanged(1, time.time()))

    def _made(self, make_engine: MakeEngine) -> TransferEngine:
        self._engine_number += 1
        number = self._engine_number
        engine = make_engine(
            self._configure, lambda report: self._report(report) if number == self._engine_number else None
        )
        engine.send(SetConcurrency(self._max_concurrent))
        return engine

    def _send(self, command: wire.Command) -> None:
        self._engine.send(command)

    def warm_up(self) -> None:
        """Has the engine started if it does not run; costs nothing if it does."""
        self._engine.start()

    @override
    def start(self, effect: do.StartTransfer) -> None:
        plan = effect.plan
        self._configure_again(token=self._token)
        transfer = wire.StartTransfer(
            attempt=effect.attempt,
            repo_id=plan.id.repo_id,
            commit_sha=plan.commit_sha,
            files=plan.files,
            force=plan.force,
            replaces=plan.replaces,
            donors=plan.donors,
        )
        self._engine.send(StartEverywhere(transfer) if plan.everywhere else transfer)

    @override
    def stop(self, effect: do.StopTransfer) -> None:
        self._engine.send(wire.StopTransfer(effect.attempt))

    @override
    def discard(self, effect: do.DiscardPartials) -> None:
        if effect.targets:
            self._engine.send(wire.DiscardPartials(effect.targets))

    @override
    def limit_bandwidth(self, effect: do.LimitBandwidth) -> None:
        self._configure_again(bandwidth_limit_bytes_per_second=effect.bytes_per_second)

    @override
    def limit_connections(self, effect: do.LimitConnections) -> None:
        self._configure_again(max_connections=effect.max_connections)

    @override
    def limit_concurrency(self, effect: do.LimitConcurrency) -> None:
        self._max_concurrent = effect.max_concurrent
        self._engine.send(SetConcurrency(effect.max_concurrent))

    @override
    def wait_for_network(self, effect: do.WaitForNetwork) -> None:
        self._configure_again(network_wait_s=effect.network_wait_s)

    @override
    def register(self, effect: do.RegisterModel) -> None:
        self._writer.submit(lambda: self._post(self._registered(effect)))

    @override
    def store_queue(self) -> None:
        self._store()

    def close(self, timeout_s: float) -> None:
        """Stops the engine, leaving what it fetched for a resume."""
        self._writer.close()
        self.file_checks.close()
        self._engine.close(timeout_s)

    def abandon(self) -> None:
        """In a forked child: lets go of the pipe, which is the parent's."""
        self._engine.abandon()

    def _configure_again(self, **changes: object) -> None:
        configure = structs.replace(self._configure, **changes)
        if configure != self._configure:
            self._configure = configure
            self._engine.send(configure)

    def _registered(self, effect: do.RegisterModel) -> on.Event:
        plan = effect.plan
        model = Model(plan.id, plan.commit_sha, plan.label, effect.files, effect.at_s, hosts=effect.hosts)
        try:
            files = self._settled(model, plan)
        except GglibError as error:
            return on.RegistrationFailed(effect.attempt, error, time.time())
        except Exception as error:  # noqa: BLE001 - a download must not stay `registering` for ever
            failure = CatalogError(f"It could not be registered ({error}); queueing it again tries again.")
            failure.__cause__ = error
            return on.RegistrationFailed(effect.attempt, failure, time.time())
        return on.ModelRegistered(effect.attempt, time.time(), files)

    def _settled(self, model: Model, plan: PlannedDownload) -> tuple[StoredFile, ...] | None:
        """Registers it, or has an update take its place; what stands there then, None where that is what was fetched."""
        if plan.is_update and self._settle is not None:
            return self._settle(model, plan.keeps_old)
        try:
            self._catalog.register(model)
        except CatalogDamagedError:
            self._catalog.register(model)  # in the new file that takes the damaged one's place
        return None

    def _report(self, event: Report) -> None:
        if isinstance(event, wire.CheckProgress):
            self.file_checks.progressed(event)
            return
        if isinstance(event, wire.CheckEnded):
            self.file_checks.ended(event)
            return
        if isinstance(event, EngineLost) and event.attempts is None:  # of several engines, each check's end is told
            self.file_checks.engine_lost()
        if (report := _as_queue_event(event, time.time())) is not None:
            self._post(report)


def _as_queue_event(event: Report, at_s: float) -> on.Event | None:  # noqa: C901 - one case a report, nothing else
    match event:
        case wire.Progress():
            return _progressed(event, ())
        case HostedProgress():
            return _progressed(event.progress, event.hosts)
        case wire.TransferFinished():
            return on.TransferFinished(event.attempt, event.files, at_s)
        case HostedFinish():
            return on.TransferFinished(event.finished.attempt, event.finished.files, at_s, event.hosts)
        case wire.TransferFailed():
            return on.TransferFailed(event.attempt, from_wire(event.error), event.can_retry, at_s)
        case wire.TransferStopped():
            return on.TransferStopped(event.attempt, at_s)
        case TransferWaits():
            return on.TransferWaits(event.attempt, event.reason)
        case EngineLost():
            return on.EngineLost(at_s, event.attempts)
        case EngineSilent():
            return on.EngineFellSilent(event.silent_s, event.attempts)
        case EnginesChanged():
            return on.EnginesChanged(event.count, at_s)
        case wire.Ready() | wire.CheckProgress() | wire.CheckEnded():
            return None
        case _:
            assert_never(event)


def _progressed(event: wire.Progress, hosts: tuple[HostProgress, ...]) -> on.TransferProgressed:
    return on.TransferProgressed(
        event.attempt,
        event.sampled_s,
        tuple(
            on.FileProgressed(file.downloaded_bytes, file.status, file.arrived_steps, file.verified_steps)
            for file in event.files
        ),
        event.received_bytes,
        event.notice_kind,
        event.notice_s,
        event.notice_text,
        event.is_finalizing,
        event.reused_bytes,
        event.reused_from,
        hosts,
    )
