"""One request on its way into the queue: announced, resolved on a worker, then queued or refused.

Each step runs on the thread that finished the step before; the state is the futures' own.
"""

import time
from concurrent.futures import Future
from typing import Final, Protocol

from gglib_nb.domain.download import PlannedDownload
from gglib_nb.manager.queue_thread import QueueThread
from gglib_nb.manager.thread_pool import fail, succeed
from gglib_nb.queue import events as on
from gglib_nb.queue.effects import QueuePosition


class Resolve(Protocol):
    """Starts to resolve the request; the future gets its plan."""

    def __call__(self) -> "Future[PlannedDownload]":
        """Returns at once."""


class PendingRequest:
    """Brings one request into the queue.

    Attributes:
        answer: Gets the position. Cancelling it takes the request back as long as it is not in the queue.
    """

    def __init__(self, thread: QueueThread, number: int, resolve: Resolve, *, starts: bool, joins: bool) -> None:
        self.answer: Final[Future[QueuePosition]] = Future()
        self._thread: Final = thread
        self._number: Final = number
        self._resolve: Final = resolve
        self._starts: Final = starts
        self._joins: Final = joins

    def begin(self, text: str) -> None:
        """Announces the request, whose words are `text`, and has it resolved."""
        self.answer.add_done_callback(self._forget)
        self._thread.post(on.RequestReceived(self._number, text)).add_done_callback(self._received)

    def _received(self, received: "Future[None]") -> None:
        if (error := received.exception()) is not None:
            fail(self.answer, error)
        else:
            self._resolve().add_done_callback(self._resolved)

    def _resolved(self, resolving: "Future[PlannedDownload]") -> None:
        if (error := resolving.exception()) is not None:
            self._refuse(error)
            return
        event = on.PlanResolved(self._number, resolving.result(), self._starts, self._joins, time.time())
        self._thread.post(event).add_done_callback(self._queued)

    def _queued(self, queueing: "Future[QueuePosition]") -> None:
        if (error := queueing.exception()) is not None:
            self._refuse(error)
        else:
            succeed(self.answer, queueing.result())

    def _refuse(self, error: BaseException) -> None:
        """Whoever gets the error finds the queue as it was."""
        dropping = self._thread.post(on.RequestDropped(self._number))
        dropping.add_done_callback(lambda _done: fail(self.answer, error))

    def _forget(self, answered: "Future[QueuePosition]") -> None:
        if answered.cancelled():
            self._thread.post(on.RequestDropped(self._number))
