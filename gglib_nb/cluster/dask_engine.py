"""The engine of a Dask cluster, as the manager uses it: one engine process on each host.

Each second, a thread lists the workers, asks new ones for their host, and keeps a link to one worker of each host.
`dispatcher` decides what to do about a command or report; this module does it, in order, under a lock held briefly.
"""

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from distributed import Client, Future

from gglib_nb.cluster.dispatcher import NO_HOST, Action, ClusterHost, Dispatcher, SendCommand
from gglib_nb.cluster.host_link import HostLink, HostLost
from gglib_nb.cluster.worker_side import existing_folder_id, introduce, keep_worker, package_version
from gglib_nb.domain.reports import EngineSilent
from gglib_nb.engine.protocol import Configure, EngineCommand, ProcessReport, Report, StartEverywhere, StartTransfer
from gglib_nb.errors import ClusterError

_LOOK_S: Final = 1.0
_SILENT_AFTER_S: Final = 5.0
# Of a large cluster, so many workers are asked at once, and so many hosts without a download have an open link.
_MOST_AT_ONCE: Final = 32
_ASK_S: Final = 60.0  # a worker that has not answered for so long keeps no other one from being asked
_USABLE: Final = ("running", "paused")  # states of a worker

Connect = Callable[[], tuple[Client, bool]]  # a client, and whether we have to close it; raises `ClusterError`


class DaskEngine:
    """Engines on the hosts of a cluster; a `TransferEngine` of the manager. Starts nothing before it is needed.

    The limits of `configure` are for all hosts together; commands have targets in the kernel's `models_directory`. A
    lost cluster is waited for if it `can_come_back`; a closed client does not.
    """

    pid: int | None = None  # no engine runs on this machine for this kernel

    def __init__(
        self,
        configure: Configure,
        on_event: Callable[[Report], None],
        *,
        connect: Connect,
        models_directory: Path,
        can_come_back: bool,
    ) -> None:
        self._dispatcher: Final = Dispatcher(configure)
        self._on_event: Final = on_event
        self._connect: Final = connect
        self._models_directory: Final = models_directory
        self._can_come_back: Final = can_come_back
        self._lock: Final = threading.RLock()
        self._links: dict[str, HostLink] = {}
        self._client: Client | None = None
        self._owns_client = False
        self._kept_worker: Future[None] | None = None  # a task that runs while it is wanted
        # Why a worker cannot be used; empty: it can; a time: asked then, it has yet to answer. Others will be asked.
        self._workers: dict[str, str | float] = {}
        self._wake: Final = threading.Event()
        self._is_closed = False
        self._thread: Final = threading.Thread(target=self._watch, name="gglib-cluster", daemon=True)

    def start(self) -> None:
        """Connect to the cluster, so that its engines are known when the first transfer starts."""
        with self._lock:
            if self._thread.ident is None and not self._is_closed:
                self._thread.start()
        self._wake.set()

    def send(self, command: EngineCommand) -> None:
        """Send a command to the hosts that it concerns. Does nothing after `close`."""
        if self._is_closed:
            return
        with self._lock:
            self._do(self._dispatcher.take(command))
        if isinstance(command, StartTransfer | StartEverywhere):
            self.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the engines of all hosts; those that cannot be reached in time end by themselves."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            self._is_closed = True
            links, self._links = list(self._links.values()), {}
        self._kept_worker = None
        self._wake.set()
        for link in links:
            link.begin_close()
        for link in links:
            link.wait_closed(max(0.0, deadline_s - time.monotonic()))
        self._disconnect(max(0.1, deadline_s - time.monotonic()))

    def abandon(self) -> None:
        """In a forked child: keep the threads, the client and its connections for the parent."""
        self._is_closed = True

    def _disconnect(self, timeout_s: float) -> None:
        """Close the client, if it is ours; that takes long, or fails, if the cluster has stopped."""
        if self._client is not None and self._owns_client:
            closing = threading.Thread(target=_close, args=(self._client,), daemon=True)
            closing.start()
            closing.join(timeout_s)

    def _do(self, actions: list[Action]) -> None:
        """Carries out actions, with the lock held, so that they keep the order of their causes."""
        for action in actions:
            if isinstance(action, SendCommand) and (link := self._links.get(action.host)) is not None:
                link.send(action.command)
            elif not (isinstance(action, SendCommand) or self._is_closed):
                self._on_event(action)

    def _handle(self, link: HostLink, event: ProcessReport | HostLost) -> None:
        """Handles a link's event; ignores events of a replaced link."""
        with self._lock:
            if self._links.get(host := link.host.name) is not link:
                return
            if isinstance(event, HostLost):
                del self._links[host]
                self._workers = {worker: said for worker, said in self._workers.items() if said != ""}  # ask it again
                self._do(self._dispatcher.host_left(host, event.reason))
                self._wake.set()
            else:
                self._do(self._dispatcher.take_report(host, event, time.monotonic()))

    def _watch(self) -> None:
        while not self._is_closed:
            self._wake.clear()
            try:
                self._look()
            except ClusterError as error:
                self._unreachable(error)
            except Exception as error:  # noqa: BLE001 - any error of Dask: the cluster is unavailable now
                self._unreachable(ClusterError(f"The Dask cluster does not answer ({type(error).__name__}: {error})."))
            # If no cluster was ever reached, the next command tries again.
            self._wake.wait(None if self._client is None else _LOOK_S)

    def _look(self) -> None:
        client = self._connected()
        workers = client.scheduler_info(n_workers=-1)["workers"]
        usable = {address for address, about in workers.items() if about.get("status", "running") in _USABLE}
        for link in list(self._links.values()):
            silent_s = time.monotonic() - link.heard_s
            if link.worker not in usable:
                link.lose(f"its worker {link.worker} has stopped")
            elif silent_s >= _SILENT_AFTER_S:
                self._handle(link, EngineSilent(silent_s))
        with self._lock:
            self._workers = {address: said for address, said in self._workers.items() if address in usable}
            asked = sum(isinstance(one, float) and time.monotonic() - one < _ASK_S for one in self._workers.values())
            for worker in sorted(usable - self._workers.keys())[: max(0, _MOST_AT_ONCE - asked)]:
                # On a thread of its own: a user's task may keep the worker from answering for long.
                threading.Thread(target=self._ask, args=(client, worker), name="gglib-cluster-ask", daemon=True).start()
                self._workers[worker] = time.monotonic()
            self._do(self._dispatcher.say_absence(NO_HOST))
            refusals = [said for said in self._workers.values() if isinstance(said, str) and said]
            if usable and not self._links and len(refusals) == len(usable):
                self._do(self._dispatcher.fail_waiting(ClusterError(refusals[0])))
        if self._is_closed or not self._dispatcher.attempts:
            self._kept_worker = None  # which ends the task
        elif not usable and (self._kept_worker is None or self._kept_worker.done()):
            # An adaptive cluster starts no worker without a task, and retires one that has none.
            self._kept_worker = client.submit(keep_worker, key=f"gglib_nb-keep-worker-{secrets.token_hex(8)}")

    def _connected(self) -> Client:
        client = self._client
        if client is not None and client.status == "running":
            return client
        for link in list(self._links.values()):
            link.lose("the kernel lost the cluster")
        self._workers.clear()
        if client is not None and client.status != "closed":
            raise ClusterError("The Dask client lost its connection to the scheduler and is reconnecting.")
        if client is not None and not self._can_come_back:
            raise ClusterError("The Dask client was closed. Set the engine again, then retry.")
        client, owns_client = self._connect()
        with self._lock:
            self._client, self._owns_client = client, owns_client
            if not self._is_closed:
                return client
        self._disconnect(0.0)  # `close` came meanwhile
        raise ClusterError("The engine was closed.")

    def _unreachable(self, error: ClusterError) -> None:
        if self._is_closed:
            return
        for link in list(self._links.values()):
            link.lose(str(error))
        client = self._client
        is_waited_for = client is not None and (self._can_come_back or client.status == "connecting")
        with self._lock:
            waits = self._dispatcher.say_absence("waiting for the cluster: its scheduler does not answer")
            self._do(waits if is_waited_for else self._dispatcher.fail_waiting(error))

    def _ask(self, client: Client, worker: str) -> None:
        """Asks a worker for its host, and links the host to it if it has no link."""
        arguments = str(self._models_directory), os.environ.get("GGLIB_MODELS_DIR", "")
        said: Any = None
        with contextlib.suppress(Exception):  # of Dask: the worker or the client has ended
            said = client.run(introduce, *arguments, workers=[worker], on_error="return").get(worker)
        here = existing_folder_id(self._models_directory)
        with self._lock:
            if said is None:
                self._workers.pop(worker, None)  # it is asked again
                return
            self._workers[worker] = refusal = _refusal_of(worker, said)
            if refusal:
                logging.getLogger("gglib_nb").warning("%s", refusal)
                self._wake.set()
                return
            host = ClusterHost(**said["host"])
            if host.name not in self._links and not self._is_closed:
                is_open = len(self._links) < _MOST_AT_ONCE
                self._links[host.name] = HostLink(client, worker, host, self._models_directory, self._handle, is_open)
                self._do(self._dispatcher.host_joined(host, here))


def _close(client: Client) -> None:
    with contextlib.suppress(Exception):
        client.close()


def _refusal_of(worker: str, said: object) -> str:
    """Why a worker cannot be used, in one sentence; empty if it can."""
    mine, theirs = package_version(), "another version of gglib_nb"
    if isinstance(said, ModuleNotFoundError) and (said.name or "").partition(".")[0] == "gglib_nb":
        return f"The worker {worker} has no gglib_nb: install gglib-nb[dask] {mine} there, then retry."
    if isinstance(said, dict):
        if said.get("version") == mine:
            return ""
        theirs = f"gglib_nb {said.get('version')}"
    elif not isinstance(said, AttributeError | ImportError):
        return f"The worker {worker} cannot be used ({type(said).__name__}: {said})."
    return f"The worker {worker} has {theirs} and this kernel {mine}: install the same version on both, then retry."
