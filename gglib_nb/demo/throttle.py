"""Speed limits that can be changed while bytes flow.

A throttle hands out positions in one sequence of bytes: each caller reserves and waits until its position is reached.
So any number of connections share one limit fairly and each waits once per slice. Knows nothing of sockets.
"""

import time
from threading import Condition

# How much idle time can be made up for, in seconds at full speed.
_BURST_S = 0.05


class Throttle:
    """A limit in bytes per second, shared by all callers of `take`. Safe from any thread.

    Args:
        bytes_per_second: `None` means unlimited, 0 means that nothing passes until the limit is changed.
    """

    def __init__(self, bytes_per_second: float | None = None) -> None:
        self._changed = Condition()
        self._rate = bytes_per_second
        self._reserved = 0.0
        self._passed = 0.0
        self._passed_at = time.monotonic()
        self._closed = False

    def set(self, bytes_per_second: float | None) -> None:
        """Change the limit; waiting callers continue at the new one."""
        with self._changed:
            self._advance()
            if bytes_per_second is None or self._rate is None:
                self._passed = self._reserved
            self._rate = bytes_per_second
            self._changed.notify_all()

    def close(self) -> None:
        """Let all callers through at once, permanently."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def slice_bytes(self, largest: int) -> int:
        """How many bytes to take at a time for an even flow: a hundredth of a second's worth."""
        rate = self._rate
        return largest if rate is None else max(2048, min(largest, int(rate / 100)))

    def take(self, size_bytes: int) -> None:
        """Wait until `size_bytes` more may pass."""
        if self._rate is None:
            return
        with self._changed:
            self._advance()
            self._passed = min(self._passed, self._reserved + (self._rate or 0) * _BURST_S)
            self._reserved += size_bytes
            position = self._reserved
            while (wait_s := self._wait_s(position)) > 0:
                self._changed.wait(wait_s)

    def _wait_s(self, position: float) -> float:
        if self._closed or self._rate is None:
            return 0
        self._advance()
        return min((position - self._passed) / self._rate, 3600) if self._rate else 3600

    def _advance(self) -> None:
        now = time.monotonic()
        self._passed += (now - self._passed_at) * (self._rate or 0)
        self._passed_at = now
