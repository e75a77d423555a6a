"""The coordinator's inbox: calls that others put in and the coordinator makes, and work that is done elsewhere.

This is how everything of a transfer comes back to one thread. Knows nothing of transfers.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

Outcome = TypeVar("Outcome")


class Mailbox:
    """`post` and `in_background` may be called from any thread, `take` by the coordinator alone."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def post(self, call: Callable[[], None]) -> None:
        """Have the coordinator make this call."""
        self._calls.put(call)

    def wake(self) -> None:
        """Have the coordinator take a turn."""
        self._calls.put(_nothing)

    def in_background(self, name: str, work: Callable[[], Outcome], then: Callable[[Outcome], None]) -> None:
        """Do the work in a thread of its own, and have the coordinator make the call `then` with what comes out.

        An error of the work is raised where the coordinator takes its calls.
        """

        def run() -> None:
            try:
                outcome = work()
            except Exception as error:  # noqa: BLE001  # it must reach the coordinator, or that waits for ever
                self.post(partial(_raise, error))
            else:
                self.post(lambda: then(outcome))

        threading.Thread(target=run, name=f"gglib-{name}", daemon=True).start()

    def take(self, timeout_s: float, is_over: Callable[[], bool]) -> None:
        """Wait for a call, then make all there are, until `is_over`.

        Raises:
            Exception: What a call raises, and what went wrong in the background.
        """
        with contextlib.suppress(queue.Empty):
            self._calls.get(timeout=max(0.0, timeout_s))()
            while not is_over():
                self._calls.get_nowait()()


def _nothing() -> None:
    pass


def _raise(error: Exception) -> None:
    raise error
