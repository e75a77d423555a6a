"""One host of a cluster, as the kernel holds it: a thread that sends, a topic on which its reports come.

Commands and receipts go through the scheduler to the handler that `worker_side` added to the worker; reports come back as events
of a topic, at once. An event can be lost (the client was cut off for a moment): whatever ends an attempt is numbered, kept by
the worker until its receipt, and asked for again, so a lost event costs a moment and no download.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from distributed import Client

from gglib_nb.cluster.worker_side import CLOSE, OPERATION, Answer, as_answer, packed, topic_of
from gglib_nb.engine.protocol import Command, encode
from gglib_nb.engine.reports import ProcessReport, decode_report

# How often a host is spoken to that has nothing to be told: what was lost is asked for then.
_EXCHANGE_S: Final = 2.0
# A user's task can hold a worker's loop for long; the engine goes on meanwhile.
_PATIENCE_S: Final = 60.0
_ANSWER_S: Final = 35.0
_AGAIN_S: Final = 0.5


class HostLink:
    """The link to one host. Methods may be called from any thread; none but `wait_closed` waits."""

    def __init__(
        self,
        client: Client,
        worker: str,
        name: str,
        models_directory: Path,
        on_report: Callable[["HostLink", ProcessReport], None],
        on_lost: Callable[["HostLink", str], None],
        on_space: Callable[["HostLink", int | None], None],
    ) -> None:
        """Begin.

        Args:
            client: To the cluster.
            worker: Address of the worker that owns the host's engine.
            name: Unique to this link.
            models_directory: The kernel's, below which the targets of commands lie.
            on_report: Called with each report, in order.
            on_lost: Called once when the host is lost, with the reason; not after `close`.
            on_space: Called with what is free on the host's disk, now and then.
        """
        self.worker: Final = worker
        self.heard_s = time.monotonic()
        self._client: Final = client
        self._name: Final = name
        self._models_directory: Final = models_directory
        self._on_report: Final = on_report
        self._on_lost: Final = on_lost
        self._on_space: Final = on_space
        self._lines: Final[queue.SimpleQueue[bytes | None]] = queue.SimpleQueue()
        self._receiving: Final = threading.RLock()
        self._heard = 0
        self._is_over = False
        self._thread: Final = threading.Thread(target=self._work, name="gglib-cluster-link", daemon=True)
        self._thread.start()

    def send(self, command: Command) -> None:
        """Have a command sent to the engine of the host."""
        self._lines.put(encode(command))

    def lose(self, reason: str) -> None:
        """The host is gone: nothing more is sent or heard."""
        with self._receiving:
            if self._is_over:
                return
            self._is_over = True
        self._lines.put(None)
        self._on_lost(self, reason)

    def begin_close(self) -> None:
        """Have the engine of the host ended; nothing more is heard."""
        with self._receiving:
            self._is_over = True
        self._lines.put(CLOSE + b"\n")
        self._lines.put(None)

    def wait_closed(self, timeout_s: float) -> None:
        """Wait until that was said to the host."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        held: dict[str, Any] = {}
        try:
            self._client.subscribe_topic(topic_of(self._name), self._receive)
            key = f"{OPERATION}-{self._name}"
            # While this client lives, the worker holds it: that is how it knows. Nobody reads it.
            held = self._client.scatter({key: True}, workers=[self.worker])
            self._exchange_all(
                {
                    "models_directory": str(self._models_directory),
                    "inherited": os.environ.get("GGLIB_MODELS_DIR", ""),
                    "alive_key": key,
                }
            )
        except Exception as error:  # noqa: BLE001 - whatever Dask raises, this host is of no use now
            self.lose(f"{type(error).__name__}: {error}")
        finally:
            held.clear()  # lets it go: the scheduler takes it from the worker
            with contextlib.suppress(Exception):  # a client that is closed has no topics
                self._client.unsubscribe_topic(topic_of(self._name))

    def _exchange_all(self, opening: dict[str, str]) -> None:
        number, goes_on = 0, True
        while goes_on:
            lines, goes_on = self._next_lines(is_first=number == 0)
            if not goes_on and not lines:
                return
            answer = self._deliver(number, packed(lines), opening if number == 0 else {})
            if answer is None:
                self.lose("its worker let it go")
                return
            number += 1
            self.heard_s = time.monotonic()
            self._on_space(self, answer["free_bytes"])
            for report_number, line in answer["reports"]:
                self._take(report_number, line)

    def _next_lines(self, *, is_first: bool) -> tuple[list[bytes], bool]:
        """What there is to send, after a while nothing; False once it is the last."""
        lines: list[bytes] = []
        with contextlib.suppress(queue.Empty):
            line = self._lines.get(timeout=0 if is_first else _EXCHANGE_S)
            while line is not None:
                lines += [line] if line else []
                line = self._lines.get_nowait()
            return lines, False
        return lines, True

    def _deliver(self, number: int, data: bytes, opening: dict[str, str]) -> Answer | None:
        """One exchange; as it carries a number, it can be repeated without harm."""
        message = {"op": OPERATION, "link": self._name, "number": number, "data": data, **opening}
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                reply = self._client.sync(
                    self._broadcast,
                    {**message, "heard": self._heard},
                    callback_timeout=_ANSWER_S,
                )
            except Exception:  # a loop that is held up, a client that is connecting anew
                if self._is_over or time.monotonic() > deadline_s:
                    raise
                time.sleep(_AGAIN_S)
                continue
            if self.worker in reply or self._is_over or time.monotonic() > deadline_s:
                return as_answer(reply.get(self.worker))
            time.sleep(_AGAIN_S)

    async def _broadcast(self, message: dict[str, Any]) -> dict[str, Any]:
        """Has the scheduler ask the worker; by its address, or nothing where it did not answer."""
        scheduler = self._client.scheduler
        if scheduler is None:
            raise ConnectionError("the client has no scheduler now")
        reply: dict[str, Any] = await scheduler.broadcast(msg=message, workers=[self.worker], on_error="ignore")
        return reply

    def _receive(self, event: tuple[float, dict[str, Any]]) -> None:
        """An event of the topic, on the client's own loop."""
        _, message = event
        number = message["number"]
        if message["is_kept"]:
            self._take(number, message["line"])
            return
        with self._receiving:
            if number == self._heard and not self._is_over:
                self._report(message["line"])
        if number > self._heard:
            self._lines.put(b"")  # something in between was lost

    def _take(self, number: int, line: str) -> None:
        with self._receiving:
            if number == self._heard + 1 and not self._is_over:
                self._heard = number
                self._report(line)
        if number > self._heard:
            self._lines.put(b"")

    def _report(self, line: str) -> None:
        self.heard_s = time.monotonic()
        self._on_report(self, decode_report(line.encode()))
