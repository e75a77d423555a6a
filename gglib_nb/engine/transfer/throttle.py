"""The bandwidth limit: one token bucket for all transfers of the engine.

`TokenBucket` is the arithmetic and knows neither clock nor threads. `Throttle` lets connection threads
wait for it; they hold no other lock while they do. What a connection has read it has already taken from
the line, so it pays afterwards and waits before it reads on: over ten seconds the sum is off by the
bucket's capacity at most.
"""

import threading
import time
from typing import Final

# A quarter of a second at full rate: 2.5 % of ten seconds, and long enough not to hold up every buffer.
CAPACITY_S: Final = 0.25
# A waiter looks again this often, so that a stopped transfer leaves soon.
_LOOK_S: Final = 0.1


class TokenBucket:
    """How many bytes may have passed by now.

    Every caller reserves what it has read and gets a ticket: the sum of all bytes reserved so far. It may go on
    when as many bytes are allowed. Credit that nobody used is lost beyond the capacity.
    """

    def __init__(self, bytes_per_second: float | None, now_s: float) -> None:
        self._rate = bytes_per_second
        self._reserved = 0.0
        self._allowed = 0.0
        self._at_s = now_s

    @property
    def bytes_per_second(self) -> float | None:
        """The limit; None is unlimited."""
        return self._rate

    def set_limit(self, bytes_per_second: float | None, now_s: float) -> None:
        """Change the limit from now on; debts stay debts, at the new rate."""
        self._refill(now_s)
        if self._rate is None:
            self._allowed = self._reserved
        self._rate = bytes_per_second

    def reserve(self, count: int, now_s: float) -> float:
        """Take `count` bytes; returns the ticket to wait with."""
        self._refill(now_s)
        self._reserved += count
        return self._reserved

    def wait_s(self, ticket: float, now_s: float) -> float:
        """How long the holder of the ticket still has to wait, if the limit stays; 0 when it may go on."""
        if self._rate is None:
            return 0.0
        self._refill(now_s)
        return max(0.0, (ticket - self._allowed) / self._rate)

    def _refill(self, now_s: float) -> None:
        if self._rate is not None:
            earned = self._rate * max(0.0, now_s - self._at_s)
            self._allowed = min(self._allowed + earned, self._reserved + self._rate * CAPACITY_S)
        self._at_s = max(self._at_s, now_s)


class Throttle:
    """The token bucket, shared by all connection threads; every method may be called from any of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bucket = TokenBucket(None, time.monotonic())

    @property
    def bytes_per_second(self) -> float | None:
        """The limit; None is unlimited."""
        return self._bucket.bytes_per_second

    def set_limit(self, bytes_per_second: float | None) -> None:
        """Change the limit; those who wait are told."""
        with self._changed:
            self._bucket.set_limit(bytes_per_second, time.monotonic())
            self._changed.notify_all()

    def pay(self, count: int, stop: threading.Event) -> None:
        """Wait until `count` bytes more may have passed; returns early when `stop` is set."""
        with self._changed:
            ticket = self._bucket.reserve(count, time.monotonic())
            while not stop.is_set() and (wait_s := self._bucket.wait_s(ticket, time.monotonic())) > 0:
                self._changed.wait(min(wait_s, _LOOK_S))
