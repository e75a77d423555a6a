"""Rate and remaining time of a download. The time of each sample is an argument."""

import math
from typing import Final

_RATE_TAU_S: Final = 15.0
"""Decay of the rate: long enough to be readable, short enough to follow a line that changes."""
_ETA_TAU_S: Final = 5.0
_LEAST_OBSERVED_S: Final = 1.5
"""Before this the rate would be a guess."""
_LEAST_OBSERVED_FOR_ETA_S: Final = 5.0
"""A connection takes seconds to reach its speed; an earlier estimate falls from 21 minutes to 2."""

_LEAST_BYTES_PER_SECOND: Final = 1.0
"""A smaller value is the remainder of an old rate after hours of silence: it counts as 0, or the ETA would overflow."""


class RateEstimator:
    """Decayed bytes over decayed seconds: a burst causes no spike, and a pause decays to 0.

    The first sample is only a baseline: bytes that are already on the disk are no speed. A counter that goes backwards
    (a file was deleted, an engine restarted) is a new baseline.

    Attributes:
        eta_seconds: None: fewer than 5 s were observed, the size is unknown, the rate is 0, or nothing is left.
    """

    __slots__ = ("_bytes", "_is_stalled", "_last_bytes", "_last_s", "_observed_s", "_seconds", "eta_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._bytes = 0.0
        self._observed_s = 0.0
        self._last_s: float | None = None
        self._last_bytes = 0
        self._is_stalled = False
        self.eta_seconds: float | None = None

    @property
    def bytes_per_second(self) -> float | None:
        """None: fewer than 1.5 s were observed; 0: stalled."""
        if self._observed_s < _LEAST_OBSERVED_S:
            return None
        rate = 0.0 if self._is_stalled else self._bytes / self._seconds
        return rate if rate >= _LEAST_BYTES_PER_SECOND else 0.0

    def observe(self, now_s: float, received_bytes: int, remaining_bytes: int | None, *, is_stalled: bool) -> None:
        """Takes one sample, even if no byte arrived: a monotonic time and the counter of bytes from the network.

        `is_stalled`: the connection is open and no byte arrives.
        """
        elapsed_s = 0.0 if self._last_s is None else max(0.0, now_s - self._last_s)
        moved = received_bytes - self._last_bytes
        self._last_s, self._last_bytes, self._is_stalled = now_s, received_bytes, is_stalled
        if elapsed_s > 0 and moved >= 0:
            decay = math.exp(-elapsed_s / _RATE_TAU_S)
            self._seconds = self._seconds * decay + elapsed_s
            self._bytes = self._bytes * decay + moved
            self._observed_s += elapsed_s
        self._smooth_eta(elapsed_s, remaining_bytes)

    def _smooth_eta(self, elapsed_s: float, remaining_bytes: int | None) -> None:
        rate = self.bytes_per_second
        if not rate or not remaining_bytes or self._observed_s < _LEAST_OBSERVED_FOR_ETA_S:
            self.eta_seconds = None
            return
        exact_s = remaining_bytes / rate
        expected_s = exact_s if self.eta_seconds is None else max(0.0, self.eta_seconds - elapsed_s)
        self.eta_seconds = expected_s + (exact_s - expected_s) * (1 - math.exp(-elapsed_s / _ETA_TAU_S))
