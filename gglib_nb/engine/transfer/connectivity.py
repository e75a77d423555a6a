"""Whether the hub can be reached at all. Without a network nothing fails: everything waits, and one probe asks gently.

Shared by all attempts of an engine. A failure of the line has the hub asked for anything; any answer means that the
network is there and the failure was the download's own. Methods may be called from any thread and never wait.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# The first probe follows the failure at once; while nothing is reached they become rarer, up to this.
_FIRST_INTERVAL_S: Final = 1.0
_LONGEST_INTERVAL_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Outage:
    """The network is gone.

    Attributes:
        since_s: Monotonic clock at the first failure.
        since_text: The same as a time of day, such as `10:42`.
    """

    since_s: float
    since_text: str


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="gglib-probe", daemon=True).start()


class Connectivity:
    """What is known of the way to the hub.

    Attributes:
        outage: Set while the hub cannot be reached; None otherwise.
    """

    def __init__(
        self, can_reach_hub: Callable[[], bool], in_background: Callable[[Callable[[], None]], None] = _in_thread
    ) -> None:
        """The hub is taken to be reachable.

        Args:
            can_reach_hub: Asks the hub for anything, and waits for its answer.
            in_background: Runs a function elsewhere.
        """
        self.outage: Outage | None = None
        self._can_reach_hub = can_reach_hub
        self._in_background = in_background
        self._lock = threading.Lock()
        self._is_probing = False
        self._next_probe_s = float("-inf")
        self._interval_s = _FIRST_INTERVAL_S

    def failed(self, now_s: float) -> None:
        """An exchange failed for a reason of the line: have the hub asked, if that is due."""
        with self._lock:
            if self._is_probing or now_s < self._next_probe_s:
                return
            self._is_probing = True
            self._next_probe_s = now_s + self._interval_s
        self._in_background(lambda: self._probe(now_s))

    def probe_when_due(self, now_s: float) -> None:
        """While the network is gone: have the hub asked again from time to time."""
        if self.outage is not None:
            self.failed(now_s)

    def _probe(self, failed_s: float) -> None:
        is_there = self._can_reach_hub()
        with self._lock:
            self._is_probing = False
            if is_there:
                self.outage, self._interval_s = None, _FIRST_INTERVAL_S
            elif self.outage is None:
                self.outage = Outage(failed_s, time.strftime("%H:%M"))
            else:
                self._interval_s = min(_LONGEST_INTERVAL_S, self._interval_s * 2)
