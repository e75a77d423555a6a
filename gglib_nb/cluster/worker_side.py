"""The code that runs inside a Dask worker: the engine process of its host, owned by one kernel's link.

`introduce` runs on each worker once, out of band, and adds a handler to it. The link then uses only that handler, on
the worker's event loop, so that it never waits for the user's tasks, which may occupy every thread for hours. (A Dask
actor would, and would keep an adaptive cluster from retiring the worker.) Nothing here blocks that loop.

A link has one name: of the topic for its reports, and of a piece of data that its client keeps on this worker. The
scheduler removes that data when the client has ended. So the engine ends with its client, its worker, or on command.

Commands may contain the token, so they are decoded only here, and are never part of an error's text.
"""

import asyncio
import contextlib
import os
import secrets
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace as replaced
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from distributed import Worker, get_worker, secede
from distributed.core import Status
from msgspec import structs

from gglib_nb.domain.names import target_path
from gglib_nb.domain.reports import DiscardPartials, Progress, StopTransfer, TransferFailed
from gglib_nb.engine import protocol as wire
from gglib_nb.engine.client import EngineClient
from gglib_nb.engine.disk import read_small
from gglib_nb.errors import RequestError
from gglib_nb.settings import DownloadManagerConfig, of_environment
from gglib_nb.system import free_bytes

OPERATION: Final = "gglib_nb"  # the handler's name on a worker
CLOSE: Final = b'"close"'  # the line that ends a link's engine
_LOOK_S: Final = 0.5
_PROGRESS_S: Final = 0.3  # between two reports of progress: each costs the kernel two milliseconds, mostly in Dask
_FOLDER_NAME: Final = ".gglib-nb-folder"
_RUNNING: Final = (Status.init, Status.running, Status.paused, Status.closing_gracefully)


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
        name = os.environ.get("GGLIB_HOST", "").strip() or gethostname()
        place = {"models_directory": str(folder), "folder_id": folder_id(folder) or f"of {name}"}
        return {"version": package_version(), "host": {"name": name, **place, "free_bytes": free_bytes(folder)}}

    return await asyncio.to_thread(describe)  # a network disk that hangs must not block the worker


def keep_worker() -> None:
    """A task that keeps a worker in an adaptive cluster, without one of its threads, until its client releases it."""
    worker = get_worker()
    key = worker.get_current_task()
    secede()
    while worker.status in _RUNNING and (task := worker.state.tasks.get(key)) and task.state != "cancelled":
        time.sleep(_LOOK_S)


def _models_directory(of_kernel: str, inherited: str) -> Path:
    """The folder in the worker's own `GGLIB_MODELS_DIR`, else the kernel's; a value inherited from it is ignored."""
    asked = of_environment("models_directory", os.environ)
    is_own = asked is not None and os.environ.get("GGLIB_MODELS_DIR") != inherited
    return Path(asked[0] if asked is not None and is_own else of_kernel)


def folder_id(folder: Path) -> str | None:
    """The name of a folder, which is written now if it has none; None if it cannot be written or read.

    Hosts that read the same name see the same folder. Paths cannot show that (two machines may mount one share at
    different places, or have different disks at one path), and device numbers differ between machines.
    """
    path = folder / _FOLDER_NAME
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            # Written completely before it gets its final name, so that no host reads half of it.
            mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            mine.write_text(secrets.token_hex(16), encoding="ascii")
            try:
                os.link(mine, path)
            except FileExistsError:  # another host was faster
                pass
            except OSError:  # a filesystem without links
                if not path.exists():
                    mine.replace(path)
            mine.unlink(missing_ok=True)
    return existing_folder_id(folder)


def existing_folder_id(folder: Path) -> str | None:
    """The name of a folder; None if it has none, or cannot be read. Writes nothing."""
    return (read_small(folder / _FOLDER_NAME) or b"").decode("ascii", "replace").strip() or None


def _handler(worker: Worker) -> Callable[..., dict[str, Any] | None]:
    engines: dict[str, HostEngine] = {}

    def gglib_nb(link: str, number: int, heard: int, data: bytes, opening: dict[str, str]) -> dict[str, Any] | None:
        """One exchange with a link, which the first one opens; None if this worker does not know the link."""
        for name in [name for name, engine in engines.items() if engine.closed.is_set()]:
            del engines[name]
        if number == 0 and link not in engines:
            engines[link] = HostEngine(worker, link, **opening)
        return engines[link].exchange(number, heard, data) if link in engines else None

    return gglib_nb


class HostEngine:
    """The engine of this host for one link."""

    def __init__(self, worker: Worker, link: str, of_kernel: str, inherited: str) -> None:
        """Start nothing yet; for the models folder of the kernel, and its environment, see `_models_directory`."""
        self._worker: Final = worker
        self._link: Final = link
        self._of_kernel: Final = Path(of_kernel)
        self._settings: Final = DownloadManagerConfig()
        self._folder: Final = _models_directory(of_kernel, inherited)
        self._lock: Final = threading.Lock()
        self._client: EngineClient | None = None
        self._taken = -1
        self._last_report = 0
        self._next_progress_s: dict[int, float] = {}
        self._kept: Final[deque[tuple[int, str]]] = deque()
        self._free_bytes: int | None = None
        self.closed: Final = threading.Event()  # its engine has ended permanently, or is ending
        for work in (self._watch, self._measure):
            threading.Thread(target=work, name=f"gglib-cluster{work.__name__}", daemon=True).start()

    def exchange(self, number: int, heard: int, data: bytes) -> dict[str, Any] | None:
        """Runs a batch of commands, once; None: the engine has ended.

        Returns `reports`, the numbered lines that the link has not acknowledged (`heard`), and `free_bytes`.
        """
        if self.closed.is_set():
            return None
        if number > self._taken:
            self._taken = number
            for line in zlib.decompress(data).splitlines() if data else ():
                self._take(line)
        with self._lock:
            while self._kept and self._kept[0][0] <= heard:
                self._kept.popleft()
            return {"reports": list(self._kept), "free_bytes": self._free_bytes}

    def _take(self, line: bytes) -> None:
        if line == CLOSE:
            self.closed.set()
            return
        command = wire.decode_command(line)
        try:
            command = self._placed_here(command)
        except RequestError as error:
            if isinstance(command, wire.StartTransfer):
                self._report(TransferFailed(command.attempt, error, can_retry=False))
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
            case DiscardPartials(targets=targets):
                return DiscardPartials(tuple(map(self._target, targets)))
            case wire.CheckFiles(files=checked):
                found = tuple(structs.replace(file, path=self._existing(file.path)) for file in checked)
                return structs.replace(command, files=found)
            case StopTransfer() | wire.StopCheck():
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
        if isinstance(report, Progress) and not report.is_finalizing:  # the last one of an attempt is
            now_s = time.monotonic()
            if now_s < self._next_progress_s.get(report.attempt, 0.0):
                return
            self._next_progress_s[report.attempt] = now_s + _PROGRESS_S
        line = wire.encode(report).decode()
        with self._lock:
            self._last_report += 1
            self._kept.append((self._last_report, line))
            # A closing worker accepts no more calls; the link asks again, or loses this host.
            with contextlib.suppress(Exception):
                self._worker.log_event(self._link, {"number": self._last_report, "line": line})

    def _watch(self) -> None:
        """Ends the engine on command, and when its client or its worker has ended."""
        while not self.closed.wait(_LOOK_S):
            if self._link not in self._worker.data or self._worker.status not in _RUNNING:
                self.closed.set()
        if self._client is not None:
            self._client.close()

    def _measure(self) -> None:
        """Reads the free space, on a thread of its own: a network disk that hangs must not keep the engine alive."""
        while not self.closed.wait(_LOOK_S):
            self._free_bytes = free_bytes(self._folder)


def packed(lines: bytes) -> bytes:
    """Commands for the network: compressed, and not readable in a log of messages."""
    return zlib.compress(lines) if lines else b""
