"""How many connections the line rewards, and which of them are not worth keeping.

Pure: rates and times in, numbers out. Measured (design section 9): some lines give each connection a fixed
rate, so more of them are faster; others are full with four, and more only cost; and a CDN hands out edges of
very different speed, so the fast ones are kept and the slow ones drawn again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FEWEST_CONNECTIONS: Final = 4
MOST_CONNECTIONS: Final = 16
# Twice as many connections stay only if they bring so much more; a tenth is what two windows of a full line differ by,
# and four slow edges beside three fast ones bring a sixth.
_WORTHWHILE_GROWTH: Final = 1.15

# New connections settle for so long, then are measured for so long.
_SETTLE_S: Final = 0.1
_WINDOW_S: Final = 0.15
# After a try that brought nothing; doubled each time. The first is short, since servers that limit a rate often
# begin with a burst, which hides what more connections would bring.
_FIRST_HOLD_S: Final = 1.0
_LONGEST_HOLD_S: Final = 30.0
_REFUSED_HOLD_S: Final = 30.0
_STALLED_HOLD_S: Final = 5.0


class Adaptation:
    """How many connections one transfer wants; tries more while that pays.

    Attributes:
        wanted: The answer.
    """

    def __init__(self, files: int = 1) -> None:
        """Begin with few, or with one for each file.

        Args:
            files: How many the transfer is about.
        """
        self.wanted = min(max(FEWEST_CONNECTIONS, files), MOST_CONNECTIONS)
        self._proven = self.wanted
        self._proven_rate: float | None = None
        self._window: tuple[float, int] | None = None
        self._hold_s = _FIRST_HOLD_S
        self._hold_until_s = float("-inf")

    def observe(self, now_s: float, received_bytes: int, flowing: int, is_limited: bool) -> None:
        """Take note and decide anew.

        Args:
            now_s: Any clock.
            received_bytes: Of the whole transfer so far.
            flowing: Connections that bring bytes at the moment.
            is_limited: A bandwidth limit holds the transfer back, so that rates say nothing.
        """
        if is_limited:
            self.wanted, self._proven_rate, self._window = FEWEST_CONNECTIONS, None, None
        elif flowing < self.wanted or now_s < self._hold_until_s:
            self._window = None
        elif self._window is None:
            self._window = (now_s + _SETTLE_S, -1)
        else:
            self._measure(now_s, received_bytes, *self._window)

    def refused(self, now_s: float, flowing: int) -> None:
        """The server does not want so many: stay with those that flow for a while."""
        self._settle_for(max(1, flowing), now_s, _REFUSED_HOLD_S)

    def stalled(self, now_s: float) -> None:
        """A connection stalled on a line that has little to give: half as many, for a moment."""
        self._settle_for(max(1, self.wanted // 2), now_s, _STALLED_HOLD_S)

    def _measure(self, now_s: float, received_bytes: int, start_s: float, start_bytes: int) -> None:
        if start_bytes < 0:
            if now_s >= start_s:
                self._window = (now_s, received_bytes)
        elif now_s - start_s >= _WINDOW_S:
            self._judge(now_s, (received_bytes - start_bytes) / (now_s - start_s))

    def _judge(self, now_s: float, bytes_per_second: float) -> None:
        if self.wanted > self._proven and self._proven_rate is not None:
            if bytes_per_second < self._proven_rate * _WORTHWHILE_GROWTH:
                self._settle_for(self._proven, now_s, self._hold_s)
                self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * 2)
                return
            self._hold_s = _FIRST_HOLD_S
        self._proven, self._proven_rate, self._window = self.wanted, bytes_per_second, None
        self.wanted = min(MOST_CONNECTIONS, self.wanted * 2)

    def _settle_for(self, count: int, now_s: float, hold_s: float) -> None:
        self.wanted = self._proven = count
        self._proven_rate = self._window = None
        self._hold_until_s = now_s + hold_s


# A connection is judged after so long; one below so much of the best is dropped.
_JUDGED_AFTER_S: Final = 0.8
_SLOW: Final = 0.4
_BUDGET: Final = 16.0
_BUDGET_PER_SECOND: Final = 0.5
_PROBE_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class ConnectionSpeed:
    """How fast one connection is.

    Attributes:
        flowing_s: For how long it has brought bytes, beside its warm-up.
        bytes_per_second: Lately.
    """

    flowing_s: float
    bytes_per_second: float


class Replacement:
    """Which connection to drop for a new one, within a budget, so that a line of equal ones is left in peace."""

    def __init__(self, now_s: float) -> None:
        self._budget = _BUDGET
        self._at_s = now_s
        self._last_s = now_s

    def slow_one(self, now_s: float, speeds: Sequence[ConnectionSpeed]) -> int | None:
        """Index of a connection that is far slower than the best; None without one, or where the budget is spent."""
        self._budget = min(_BUDGET, self._budget + (now_s - self._at_s) * _BUDGET_PER_SECOND)
        self._at_s = now_s
        judged = [index for index, speed in enumerate(speeds) if speed.flowing_s >= _JUDGED_AFTER_S]
        if not judged or self._budget < 1:
            return None
        worst = min(judged, key=lambda index: speeds[index].bytes_per_second)
        best = max(speeds[index].bytes_per_second for index in judged)
        if speeds[worst].bytes_per_second >= best * _SLOW:
            return None
        self._spend(now_s)
        return worst

    def probe(self, now_s: float, speeds: Sequence[ConnectionSpeed]) -> int | None:
        """Index of a connection to draw anew although none is far behind: all of them may be slow.

        Now and then only, and the slowest.
        """
        judged = [index for index, speed in enumerate(speeds) if speed.flowing_s >= _JUDGED_AFTER_S]
        if not judged or now_s - self._last_s < _PROBE_S or self._budget < 1:
            return None
        self._spend(now_s)
        return min(judged, key=lambda index: speeds[index].bytes_per_second)

    def _spend(self, now_s: float) -> None:
        self._budget -= 1
        self._last_s = now_s
