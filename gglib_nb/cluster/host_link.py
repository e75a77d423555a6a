"""One host of a cluster, as the kernel sees it: a thread that sends, a topic on which its reports arrive.

Commands and receipts go through the scheduler to the handler that `worker_side` added to the worker; reports come back
as events of a topic. An event can be lost if the client is disconnected for a moment, so the worker numbers its
reports, and keeps them until their receipt: a lost event costs a moment, not a download.
"""

import contextlib
import itertools
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from distributed import Client

from gglib_nb.cluster.dispatcher import ClusterHost
from gglib_nb.cluster.worker_side import CLOSE, OPERATION, packed
from gglib_nb.domain.values import Value
from gglib_nb.engine.protocol import Command, Configure, ProcessReport, decode_report, encode

_EXCHANGE_S: Final = 2.0  # between exchanges with a host that gets no commands; they also fetch lost events
_PATIENCE_S: Final = 60.0  # a user's task can block a worker's loop for long; its engine continues meanwhile
_ANSWER_S: Final = 35.0
_AGAIN_S: Final = 0.5


class HostLost(Value, frozen=True):
    """The host is lost, for this reason; the last event of its link."""

    reason: str


class HostLink:
    """The link to one host. Methods may be called from any thread; only `wait_closed` waits."""

    def __init__(
        self,
        client: Client,
        worker: str,
        host: ClusterHost,
        models_directory: Path,
        on_event: Callable[["HostLink", ProcessReport | HostLost], None],
        is_open: bool = True,
    ) -> None:
        """Open the link in the background, or at the first command; then it keeps the free space of the host current.

        `on_event` is called with each report of the host, in order, then with `HostLost` if the link was not closed.
        """
        self.worker: Final = worker
        self.host: Final = host
        self.heard_s = time.monotonic()  # when the host last sent anything
        self._client: Final = client
        self._name: Final = f"{OPERATION}-{secrets.token_hex(8)}"
        self._models_directory: Final = models_directory
        self._on_event: Final = on_event
        self._lines: Final[queue.SimpleQueue[bytes]] = queue.SimpleQueue()  # an empty one only wakes the thread
        self._receiving: Final = threading.RLock()
        self._heard = 0
        self._is_over = False
        self._thread: Final = threading.Thread(target=self._work, name="gglib-cluster-link", daemon=True)
        if is_open:
            self._thread.start()

    def send(self, command: Command) -> None:
        """Send a command to the host's engine."""
        self._lines.put(encode(command))
        if self._thread.ident is None and not isinstance(command, Configure):
            self.heard_s = time.monotonic()
            self._thread.start()

    def lose(self, reason: str) -> None:
        """Mark the host as lost: nothing more is sent or received."""
        with self._receiving:
            if self._is_over:
                return
            self._is_over = True
        self._lines.put(b"")
        self._on_event(self, HostLost(reason))

    def begin_close(self) -> None:
        """End the engine of the host; nothing more is received."""
        self._lines.put(CLOSE + b"\n")
        with self._receiving:
            self._is_over = True
        self._lines.put(b"")

    def wait_closed(self, timeout_s: float) -> None:
        """Wait until the host has received the command to end."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        held: dict[str, Any] = {}
        try:
            self._client.subscribe_topic(self._name, lambda event: self._take(event[1]["number"], event[1]["line"]))
            # The worker holds this data while the client exists; that is how it detects the client's end. It is empty,
            # because an adaptive cluster does not retire its last worker while that holds bytes.
            held = self._client.scatter({self._name: b""}, workers=[self.worker])
            self._exchange_all()
        except Exception as error:  # noqa: BLE001 - after any error of Dask this host cannot be used
            self.lose(f"{type(error).__name__}: {error}")
        finally:
            held.clear()  # the scheduler then removes it from the worker
            with contextlib.suppress(Exception):  # a closed client has no topics
                self._client.unsubscribe_topic(self._name)

    def _exchange_all(self) -> None:
        opening = {"of_kernel": str(self._models_directory), "inherited": os.environ.get("GGLIB_MODELS_DIR", "")}
        for number in itertools.count():
            lines: list[bytes] = []
            with contextlib.suppress(queue.Empty):
                lines.append(self._lines.get(timeout=0 if self._is_over or not number else _EXCHANGE_S))
                while True:
                    lines.append(self._lines.get_nowait())
            data = packed(b"".join(lines))
            if self._is_over and not data:
                return
            message = {"op": OPERATION, "link": self._name, "number": number, "data": data, "opening": opening}
            if (answer := self._deliver(message)) is None:
                self.lose("its worker dropped it")
                return
            self.heard_s = time.monotonic()
            if answer["free_bytes"] is not None:  # else it has yet to be measured there
                self.host.free_bytes = answer["free_bytes"]
            for report_number, line in answer["reports"]:
                self._take(report_number, line)

    def _deliver(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """One exchange; it is numbered, so it can be repeated safely."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            is_late = self._is_over or time.monotonic() > deadline_s
            current: dict[str, Any] = {"msg": {**message, "heard": self._heard}, "workers": [self.worker]}
            try:
                scheduler: Any = self._client.scheduler  # None while it is not connected: an error
                reply = self._client.sync(scheduler.broadcast, **current, on_error="ignore", callback_timeout=_ANSWER_S)
                if self.worker in reply or is_late:  # else it did not answer
                    said = reply.get(self.worker)
                    return said if isinstance(said, dict) and "reports" in said else None
            except Exception:  # a blocked loop, or a client that is reconnecting
                if is_late:
                    raise
            time.sleep(_AGAIN_S)

    def _take(self, number: int, line: str) -> None:
        """Passes on the next report; events and answers deliver it once or twice, in any order."""
        with self._receiving:
            if number == self._heard + 1 and not self._is_over:
                self._heard = number
                self.heard_s = time.monotonic()
                self._on_event(self, decode_report(line.encode()))
        if number > self._heard:
            self._lines.put(b"")  # a report was lost: ask for it now
