"""What the manager asks of an engine, wherever it runs, and which one a setting means.

The seam between the queue and whatever moves the bytes: a process on this machine (`engine.process.client`), or processes
on the hosts of a Dask cluster (`cluster`). Whoever implements it reports to the `on_event` it was made with.
"""

from collections.abc import Callable
from typing import Protocol

from gglib_nb.engine.process.client import EngineClient
from gglib_nb.engine.protocol import Configure
from gglib_nb.engine.reports import EngineCommand, Report
from gglib_nb.errors import InvalidConfigError
from gglib_nb.settings import DownloadManagerConfig


class TransferEngine(Protocol):
    """Runs the attempts it is told to. Methods may be called from any thread, and none but `close` waits.

    Every attempt that was started ends with one report: finished, failed, stopped, or in an `EngineLost` that names it
    or all. Reports come in order, on a thread of the engine's, and whoever takes them must not wait.
    """

    @property
    def pid(self) -> int | None:
        """Process id of the engine on this machine; None while there is none."""

    def start(self) -> None:
        """Have it ready for the first transfer; costs nothing where it is."""

    def send(self, command: EngineCommand) -> None:
        """Have a command carried out, in the order of calls; starts the engine where that is needed."""

    def close(self, timeout_s: float = 2.0) -> None:
        """End it within the time, leaving what was fetched for a resume; that is no loss, and is not reported as one."""

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's, without a lock and without a word to the engine."""


MakeEngine = Callable[[Configure, Callable[[Report], None]], TransferEngine]
"""Makes an engine from its first `Configure` and the function that takes its reports; starts nothing yet."""


def engine_for(settings: DownloadManagerConfig) -> MakeEngine:
    """The engine that the settings ask for.

    Raises:
        InvalidConfigError: They ask for what cannot be, or for a Dask cluster where Dask is not installed.
    """
    if settings.engine is None:
        return lambda configure, on_event: EngineClient(configure, log_folder=settings.log_directory, on_event=on_event)
    return _dask_engine(settings)


def _dask_engine(settings: DownloadManagerConfig) -> MakeEngine:
    try:
        from gglib_nb.cluster.connecting import connection_to
        from gglib_nb.cluster.dask_engine import DaskEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("distributed", "dask"):
            raise
        raise InvalidConfigError(
            "Downloads on a Dask cluster need Dask here: python -m pip install 'gglib-nb[dask]', then start anew."
        ) from error
    connect, can_come_back = connection_to(settings.engine)
    return lambda configure, on_event: DaskEngine(
        configure,
        on_event,
        connect=connect,
        models_directory=settings.models_directory,
        can_come_back=can_come_back,
    )
