"""How many connections each transfer may hold, so that all together stay within the engine's bound.

Shares are max-min fair: nobody gets more than it wants, what one leaves goes to the others. A permit is
taken before a connection is opened and given back after it is closed, so the bound holds at every moment;
a transfer above its share closes connections when it next looks.
"""

import threading
from collections.abc import Mapping


def fair_shares(wants: Mapping[int, int], total: int) -> dict[int, int]:
    """Divide `total` among those who want; the rest that does not divide goes to the first ones."""
    shares: dict[int, int] = {}
    left = total
    for taken, (one, want) in enumerate(sorted(wants.items(), key=lambda item: (item[1], item[0]))):
        waiting = len(wants) - taken
        shares[one] = min(want, -(-left // waiting))
        left -= shares[one]
    return shares


class ConnectionBudget:
    """Permits for connections; every method may be called from any thread."""

    def __init__(self, max_connections: int) -> None:
        self._lock = threading.Lock()
        self._max = max_connections
        self._wants: dict[int, int] = {}
        self._held: dict[int, int] = {}

    def set_max(self, max_connections: int) -> None:
        """Change the bound; transfers above their new share close connections when they next look."""
        with self._lock:
            self._max = max_connections

    def share(self, attempt: int, want: int) -> int:
        """State how many connections the attempt wants now; returns how many it may hold."""
        with self._lock:
            self._wants[attempt] = want
            return fair_shares(self._wants, self._max)[attempt]

    def acquire(self, attempt: int) -> bool:
        """Take a permit; False where all are out."""
        with self._lock:
            if sum(self._held.values()) >= self._max:
                return False
            self._held[attempt] = self._held.get(attempt, 0) + 1
            return True

    def release(self, attempt: int) -> None:
        """Give a permit back."""
        with self._lock:
            self._held[attempt] -= 1

    def remove(self, attempt: int) -> None:
        """The attempt ended: it wants and holds nothing any more."""
        with self._lock:
            self._wants.pop(attempt, None)
            self._held.pop(attempt, None)
