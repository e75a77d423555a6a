"""The code that runs inside a Dask worker: the engine process of its host, owned by one kernel's link.

`introduce` runs on each worker once, out of band, and adds a handler to it. The link then uses only that handler, on the
worker's event loop, so that it never waits for the user's tasks, which may occupy every thread for hours. (A Dask actor would: its
creation is a task. It would also keep an adaptive cluster from retiring the worker.) Nothing here blocks that loop.

The kernel's client keeps a piece of data on this worker; the scheduler removes it when the client has ended. So
the engine ends with its client, with its worker (its parent), and on command.

Commands may contain the token, so they are decoded only here, and are never part of an error's text.
"""

import asyncio
import contextlib
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace as replaced
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any, Final, TypedDict

from distributed import Worker
from distributed.core import Status
from msgspec import structs

from gglib_nb.cluster.folder import folder_id
from gglib_nb.domain.names import target_path
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.client import EngineClient
from gglib_nb.errors import RequestError, to_wire
from gglib_nb.settings import DownloadManagerConfig, host_name, of_environment
from gglib_nb.system import free_bytes

OPERATION: Final = "gglib_nb"
"""The handler's name on a worker."""

_LOOK_S: Final = 0.5
_RUNNING: Final = (Status.init, Status.running, Status.paused, Status.closing_gracefully)


class Answer(TypedDict):
    """The answer to a link: unacknowledged numbered reports, as lines; and the free space of the models folder, None if unknown."""

    reports: list[tuple[int, str]]
    free_bytes: int | None


def package_version() -> str:
    """The version of this package on this host."""
    return version("gglib-nb")


async def introduce(models_directory: str, inherited: str, dask_worker: Worker | None = None) -> dict[str, Any]:
    """Prepares this worker for links; returns its version of this package and the fields of its `ClusterHost`.

    Dask passes `dask_worker`; for the others see `_models_directory`.
    """
    assert dask_worker is not None  # noqa: S101 - Dask gives it
    if OPERATION not in dask_worker.handlers:
        dask_worker.handlers[OPERATION] = _handler(dask_worker)
    folder = _models_directory(models_directory, inherited)

    def describe() -> dict[str, Any]:
        DownloadManagerConfig()  # settings that cannot be used are an error here, which the kernel shows
        name = host_name(os.environ) or gethostname()
        place = {"models_directory": str(folder), "folder_id": folder_id(folder) or f"of {name}"}
        return {"version": package_version(), "host": {"name": name, **place, "free_bytes": free_bytes(folder)}}

    return await asyncio.to_thread(describe)  # a network disk that hangs must not block the worker


def _models_directory(of_kernel: str, inherited: str) -> Path:
    """The folder in the worker's own `GGLIB_MODELS_DIR`, else the kernel's; a value inherited from the kernel is not its own."""
    asked = of_environment("models_directory", os.environ)
    is_own = asked is not None and os.environ.get("GGLIB_MODELS_DIR") != inherited
    return Path(asked[0] if asked is not None and is_own else of_kernel)


def _handler(worker: Worker) -> Callable[..., Answer | None]:
    engines: dict[str, HostEngine] = {}

    def gglib_nb(
        link: str, number: int, heard: int, data: bytes, opening: dict[str, str] | None = None
    ) -> Answer | None:
        """One exchange with a link, which `opening` opens; None if this worker does not know the link (any more)."""
        for name in [name for name, engine in engines.items() if engine.is_closed]:
            del engines[name]
        if opening and link not in engines:
            engines[link] = HostEngine(worker, link, **opening)
        engine = engines.get(link)
        return None if engine is None else engine.exchange(number, heard, data)

    return gglib_nb


class HostEngine:
    """The engine of this host for one link."""

    def __init__(self, worker: Worker, link: str, alive_key: str, of_kernel: str, inherited: str) -> None:
        """Start nothing yet; the client keeps the data `alive_key` on this worker while it exists."""
        self._worker: Final = worker
        self._topic: Final = topic_of(link)
        self._alive_key: Final = alive_key
        self._of_kernel: Final = Path(of_kernel)
        self._settings: Final = DownloadManagerConfig()
        self._folder: Final = _models_directory(of_kernel, inherited)
        self._lock: Final = threading.Lock()
        self._client: EngineClient | None = None
        self._taken = -1
        self._last_report = 0
        self._kept: Final[deque[tuple[int, str]]] = deque()
        self._free_bytes: int | None = None
        self._end: Final = threading.Event()
        for work in (self._watch, self._measure):
            threading.Thread(target=work, name=f"gglib-cluster{work.__name__}", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        """Whether its engine was ended permanently."""
        return self._end.is_set()

    def exchange(self, number: int, heard: int, data: bytes) -> Answer | None:
        """Runs a batch of commands, once; returns unacknowledged reports. None: the engine has ended."""
        if self.is_closed:
            return None
        if number > self._taken:
            self._taken = number
            for line in zlib.decompress(data).splitlines() if data else ():
                self._take(line)
        with self._lock:
            while self._kept and self._kept[0][0] <= heard:
                self._kept.popleft()
            return Answer(reports=list(self._kept), free_bytes=self._free_bytes)

    def _take(self, line: bytes) -> None:
        if line == CLOSE:
            self._end.set()
            return
        command = wire.decode_command(line)
        try:
            command = self._placed_here(command)
        except RequestError as error:
            if isinstance(command, wire.StartTransfer):
                self._report(wire.TransferFailed(command.attempt, to_wire(error), can_retry=False))
            if isinstance(command, wire.CheckFiles):
                self._report(wire.CheckEnded(command.check, ()))
            return
        if self._client is not None:
            self._client.send(command)
        elif isinstance(command, wire.Configure):
            self._client = EngineClient(command, log_folder=self._settings.log_directory, on_event=self._report)

    def _placed_here(self, command: wire.Command) -> wire.Command:
        """The command with the paths of this host; a `RequestError` if a target is not in the models folder."""
        match command:
            case wire.Configure():
                return structs.replace(command, link_folders=(str(self._settings.hub_cache), str(self._folder)))
            case wire.StartTransfer(files=files):
                placed = tuple(replaced(file, target=self._target(file.target)) for file in files)
                # A kernel that ran its own engine before names folders of its own disk, which this host need not have.
                donors = tuple(self._donors(command.donors))
                return structs.replace(command, files=placed, donors=donors, known_folders=())
            case wire.DiscardPartials(targets=targets):
                return wire.DiscardPartials(tuple(map(self._target, targets)))
            case wire.CheckFiles(files=checked):
                found = tuple(structs.replace(file, path=self._existing(file.path)) for file in checked)
                return structs.replace(command, files=found)
            case wire.StopTransfer() | wire.StopCheck():
                return command

    def _existing(self, path: str) -> str:
        """A path in this host's models folder unchanged, one in the kernel's folder converted to this host's."""
        is_own = Path(path).is_relative_to(self._folder) and ".." not in Path(path).parts
        return path if is_own else self._target(path)

    def _donors(self, of_kernel: tuple[str, ...]) -> Iterator[str]:
        for donor in of_kernel:
            with contextlib.suppress(RequestError):  # other files of the kernel's machine do not exist on this host
                yield self._target(donor)

    def _target(self, of_kernel: str) -> str:
        try:
            owner, name, *rest = Path(of_kernel).relative_to(self._of_kernel).parts
        except ValueError as error:
            raise RequestError(f"{of_kernel} is not a file of a repository in {self._of_kernel}.") from error
        return str(target_path(self._folder, f"{owner}/{name}", "/".join(rest)))

    def _report(self, report: wire.ProcessReport) -> None:
        line = wire.encode(report).decode()
        with self._lock:
            self._last_report += 1
            self._kept.append((self._last_report, line))
            # A closing worker accepts no more calls; the link asks again, or loses this host.
            with contextlib.suppress(Exception):
                self._worker.log_event(self._topic, {"number": self._last_report, "line": line})

    def _watch(self) -> None:
        """Ends the engine on command, and when its client or its worker has ended."""
        while not self._end.wait(_LOOK_S):
            if self._alive_key not in self._worker.data or self._worker.status not in _RUNNING:
                self._end.set()
        if self._client is not None:
            self._client.close()

    def _measure(self) -> None:
        """Reads the free space, on a thread of its own: a network disk that hangs must not keep the engine alive."""
        while not self._end.wait(_LOOK_S):
            self._free_bytes = free_bytes(self._folder)


CLOSE: Final = b'"close"'
"""The line that ends a link's engine."""


def topic_of(link: str) -> str:
    """The topic for the reports to a link."""
    return f"gglib-nb-{link}"


def packed(lines: list[bytes]) -> bytes:
    """Commands for the network: compressed, and not readable in a log of messages."""
    return zlib.compress(b"".join(lines)) if lines else b""
