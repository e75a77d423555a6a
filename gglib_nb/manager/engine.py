"""The queue's interface to the engine: effects become commands, reports become events.

An engine is a process on this machine (`engine.client`), or processes on the hosts of a Dask cluster (`cluster`). Only
this module knows both the engine's protocol and the queue's events.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import structs

from gglib_nb.domain import reports
from gglib_nb.domain.library import CheckedFile
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.client import EngineClient
from gglib_nb.errors import EngineLostError, GglibError, InvalidConfigError, ManagerClosedError
from gglib_nb.manager.calls import CLOSED, fail, succeed
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.settings import DownloadManagerConfig

_LOST: Final = "The download process stopped during the check. Run verify again."
_NO_HOST: Final = "No running worker of the cluster can read the files. Start one, then run verify again."


class TransferEngine(Protocol):
    """Runs the attempts it is given. Methods may be called from any thread, and only `close` blocks.

    Every attempt that was started ends with one report: finished, failed, stopped, or an `EngineLost` that names it
    or all. Reports come in order, on a thread of the engine's.
    """

    @property
    def pid(self) -> int | None:
        """Process id of the engine on this machine; None if there is none."""

    def start(self) -> None:
        """Start the engine if it does not run, so that it is ready for the first transfer."""

    def send(self, command: wire.EngineCommand) -> None:
        """Queue a command for the engine, in the order of calls; starts the engine if needed."""

    def close(self, timeout_s: float = 2.0) -> None:
        """End it within the time, so that transfers can be resumed; this is not reported as a loss."""

    def abandon(self) -> None:
        """In a forked child: release the parent's resources, without a lock or a message to the engine."""


MakeEngine = Callable[[wire.Configure, Callable[[wire.Report], None]], TransferEngine]
"""Makes an engine from its first `Configure` and the function that takes its reports; starts nothing yet."""


def engine_for(config: DownloadManagerConfig, *, must_exist: bool = False) -> MakeEngine:
    """The engine that a configuration names.

    Raises:
        InvalidConfigError: There is no such engine, or Dask is needed and not installed.
        ClusterError: It is the name of no running cluster, and `must_exist`.
    """
    if config.engine is None:
        return lambda configure, on_event: EngineClient(configure, log_folder=config.log_directory, on_event=on_event)
    try:
        from gglib_nb.cluster.connecting import connection_to
        from gglib_nb.cluster.dask_engine import DaskEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("distributed", "dask"):
            raise
        raise InvalidConfigError(
            "Downloads on a Dask cluster need Dask here: python -m pip install 'gglib-nb[dask]', then restart the "
            "kernel."
        ) from error
    connect, can_come_back = connection_to(config.engine, must_exist=must_exist)
    folder = config.models_directory
    return partial(DaskEngine, connect=connect, models_directory=folder, can_come_back=can_come_back)


@dataclass(slots=True, eq=False)
class FileCheck:
    """One run of the engine's hashing. Cancelling its answer ends it; an engine that ends raises `EngineLostError`."""

    file_count: int
    answer: "Future[tuple[CheckedFile, ...]]" = field(default_factory=Future)  # the results for each file
    reading: tuple[int, int] | None = None  # which file, and the bytes read of all files; None before the first report


class Engine:
    """The engine of one manager. Methods may be called from any thread, and only `close` blocks.

    Args:
        config: Of the manager.
        user_agent: Returns the `User-Agent` for the hub; called late, because it loads huggingface_hub.
        tell: Receives the reports for the queue.

    Raises:
        InvalidConfigError: There is no such engine, or Dask is needed and not installed.
    """

    def __init__(
        self, config: DownloadManagerConfig, user_agent: Callable[[], str], tell: Callable[[on.Event], None]
    ) -> None:
        self.setting = config.engine  # where it runs; None: on this machine
        # Of registered models in the models folder: if none exists when a transfer starts, its disk is not mounted.
        self.known_folders: tuple[str, ...] = ()
        self._user_agent: Final = user_agent
        self._tell: Final = tell
        self._configure = wire.Configure(
            endpoint=config.endpoint,
            token=config.hf_token,
            bandwidth_limit_bytes_per_second=config.bandwidth_limit_bytes_per_second,
            max_connections=config.max_connections,
            link_folders=tuple(map(str, (config.hub_cache, config.models_directory, *config.model_stores))),
            user_agent="",
            network_wait_s=config.network_wait_s,
            mirrors=config.mirrors,
            modelscope=config.ms_endpoint,
        )
        self._max_concurrent = config.max_concurrent
        self._lock = threading.RLock()
        self._checks: dict[int, FileCheck] = {}
        self._check_numbers: Final = itertools.count(1)
        self._is_closed = False
        self._engine = self._made(engine_for(config))

    @property
    def pid(self) -> int | None:
        """Process id of the engine on this machine; None if there is none."""
        return self._engine.pid

    def start(self) -> None:
        """Starts the engine if it does not run, so that it is ready when the files of a request are known."""
        if not self._is_closed:
            self._engine.start()

    def configure(self, **changes: Any) -> None:  # noqa: ANN401 - fields of `Configure`
        """Changes fields of the engine's `Configure`, also of a running one."""
        with self._lock:
            changed = structs.replace(self._configure, **changes)
            if changed != self._configure:
                self._configure = changed
                self._engine.send(changed)

    def change(self, setting: object, make: MakeEngine) -> None:
        """Replaces this engine, which runs no attempt, by another; reports of the old one are ignored.

        The old one ends on a thread of its own, because that takes time.
        """
        with self._lock:
            if self._is_closed:
                return
            old, self._engine, self.setting = self._engine, self._made(make), setting
            self._fail_checks(EngineLostError(_LOST))  # only now: no more are sent to the old one
        threading.Thread(target=old.close, name="gglib-engine-change", daemon=True).start()
        self._tell(reports.EnginesChanged(1))

    def run(self, effect: do.EngineWork) -> None:
        """Carries out an effect of the queue."""
        match effect:
            case do.StartAttempt(attempt, plan):
                transfer = wire.StartTransfer(
                    attempt=attempt,
                    repo_id=plan.id.repo_id,
                    commit_sha=plan.commit_sha,
                    files=plan.files,
                    force=plan.force,
                    replaces=plan.replaces,
                    donors=plan.donors,
                    known_folders=self.known_folders if plan.to is None else (str(Path(plan.to, plan.id.repo_id)),),
                )
                self._send(wire.StartEverywhere(transfer) if plan.everywhere else transfer)
            case reports.StopTransfer() | reports.DiscardPartials():
                self._send(effect)
            case do.LimitBandwidth(bytes_per_second):
                self.configure(bandwidth_limit_bytes_per_second=bytes_per_second)
            case reports.LimitConcurrency(max_concurrent):
                self._max_concurrent = max_concurrent
                self._engine.send(effect)

    def check(self, files: Sequence[wire.FileToCheck]) -> FileCheck:
        """Hashes files in the engine's process, because a cell that computes slows every thread of the kernel."""
        check, number = FileCheck(len(files)), next(self._check_numbers)
        with self._lock:
            if self._is_closed:
                fail(check.answer, ManagerClosedError(CLOSED))
                return check
            self._checks[number] = check
        check.answer.add_done_callback(lambda done: self._forget_check(number, done))
        self._send(wire.CheckFiles(number, tuple(files)))
        return check

    def close(self, timeout_s: float) -> None:
        """Stops the engine, so that transfers can be resumed; checks get an error."""
        with self._lock:
            self._is_closed = True
        self._fail_checks(ManagerClosedError("This download manager was closed before the files were verified."))
        self._engine.close(timeout_s)

    def abandon(self) -> None:
        """In a forked child: releases the pipe, which is the parent's."""
        self._lock = threading.RLock()
        self._is_closed = True
        self._engine.abandon()

    def _send(self, command: wire.EngineCommand) -> None:
        if self._is_closed:
            return
        if not self._configure.user_agent:
            self.configure(user_agent=self._user_agent())
        self._engine.send(command)

    def _made(self, make: MakeEngine) -> TransferEngine:
        def take(report: wire.Report) -> None:
            if self._engine is engine:
                self._report(report)

        engine = make(self._configure, take)
        engine.send(reports.LimitConcurrency(self._max_concurrent))
        return engine

    def _report(self, report: wire.Report) -> None:
        match report:
            case wire.Ready():
                pass
            case wire.CheckProgress():
                if (check := self._checks.get(report.check)) is not None:
                    check.reading = (report.file_index, report.done_bytes)
            case wire.CheckEnded():
                if (check := self._checks.get(report.check)) is None:
                    pass
                elif len(report.files) < check.file_count:
                    is_lost = self.setting is None or check.reading is not None
                    fail(check.answer, EngineLostError(_LOST if is_lost else _NO_HOST))
                else:
                    succeed(check.answer, report.files)
            case _:
                if isinstance(report, reports.EngineLost) and report.attempts is None:
                    self._fail_checks(EngineLostError(_LOST))  # (with several engines, each check ends by itself)
                self._tell(report)

    # No lock: a report may come while another thread has it, and sends to the engine that waits to report.

    def _forget_check(self, number: int, answer: "Future[Any]") -> None:
        self._checks.pop(number, None)
        if answer.cancelled():
            self._send(wire.StopCheck(number))

    def _fail_checks(self, error: GglibError) -> None:
        for check in list(self._checks.values()):
            fail(check.answer, error)
