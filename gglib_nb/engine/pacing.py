"""How many connections to use, which one to replace, how long a request is, what to split, how much to read.

Pure: rates and times in, numbers out. Measured (design section 9): some lines give each connection a fixed rate, so
more of them are faster; others are full with four, and more only cost; a CDN assigns edges of very different speed.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from gglib_nb.domain.values import Value
from gglib_nb.engine.pieces import MIB, PIECE_BYTES

_Key = TypeVar("_Key")  # of a connection, as the caller names it

FEWEST_CONNECTIONS: Final = 4
MOST_CONNECTIONS: Final = 16

# --- How many connections ---------------------------------------------------------------------------------------------

# The gain that justifies twice as many connections: two measurements of a full line differ by a tenth, and four slow
# edges beside three fast ones gain a sixth.
_WORTHWHILE_GROWTH: Final = 1.15
# New connections settle for this long, then are measured for this long.
_SETTLE_S: Final = 0.1
_WINDOW_S: Final = 0.15
# The wait after an attempt without gain; doubled each time. The first is short, because servers that limit a rate often
# begin with a burst, which hides the gain of more connections.
_FIRST_HOLD_S: Final = 1.0
_LONGEST_HOLD_S: Final = 30.0
REFUSED_HOLD_S: Final = 30.0


class Adaptation:
    """How many connections one transfer wants; begins with few, or one for each file, and adds more while that pays."""

    def __init__(self, files: int = 1) -> None:
        self.wanted = min(max(FEWEST_CONNECTIONS, files), MOST_CONNECTIONS)
        self._proven = self.wanted
        self._proven_rate: float | None = None
        self._samples: list[tuple[float, int]] = []  # since all connections receive bytes
        self._hold_s = _FIRST_HOLD_S
        self._hold_until_s = float("-inf")

    def observe(self, now_s: float, received_bytes: int, flowing: int, is_limited: bool) -> None:
        """Update the number, by the bytes of the whole transfer and the number of connections that receive some now.

        While a bandwidth limit is the bottleneck (`is_limited`), rates mean nothing, and few connections are enough.
        """
        if is_limited:
            allowed = self.wanted if now_s < self._hold_until_s else FEWEST_CONNECTIONS
            self.wanted, self._proven_rate = min(FEWEST_CONNECTIONS, allowed), None
            self._samples.clear()
        elif flowing < self.wanted or now_s < self._hold_until_s:
            self._samples.clear()
        else:
            self._samples.append((now_s, received_bytes))
            steady = [one for one in self._samples if one[0] >= self._samples[0][0] + _SETTLE_S]
            if steady and now_s - steady[0][0] >= _WINDOW_S:
                start_s, start_bytes = steady[0]
                self._decide(now_s, (received_bytes - start_bytes) / (now_s - start_s))

    def hold(self, count: int, now_s: float, hold_s: float) -> None:
        """Use this many for a while, because the server refuses more."""
        self.wanted = self._proven = max(1, count)
        self._proven_rate = None
        self._samples.clear()
        self._hold_until_s = now_s + hold_s

    def _decide(self, now_s: float, bytes_per_second: float) -> None:
        if self.wanted > self._proven and self._proven_rate is not None:
            if bytes_per_second < self._proven_rate * _WORTHWHILE_GROWTH:
                self.hold(self._proven, now_s, self._hold_s)
                self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * 2)
                return
            self._hold_s = _FIRST_HOLD_S
        self._proven, self._proven_rate = self.wanted, bytes_per_second
        self._samples.clear()
        self.wanted = min(MOST_CONNECTIONS, self.wanted * 2)


def fair_shares(wants: Mapping[int, int], total: int) -> dict[int, int]:
    """Divide `total` among those that want some: none gets more than it wants; the remainder goes to the first ones."""
    shares: dict[int, int] = {}
    left = total
    for taken, (one, want) in enumerate(sorted(wants.items(), key=lambda item: (item[1], item[0]))):
        shares[one] = min(want, -(-left // (len(wants) - taken)))
        left -= shares[one]
    return shares


# --- Which connection to replace --------------------------------------------------------------------------------------

# A connection's rate counts after it has received bytes for this long; one below this share of the best is replaced.
MEASURED_AFTER_S: Final = 0.8
_SLOW: Final = 0.4
_BUDGET: Final = 16.0
_BUDGET_PER_SECOND: Final = 0.5
_PROBE_S: Final = 4.0


class Replacement:
    """Which connection to replace by a new one, within a budget, so that equally fast ones are left alone."""

    def __init__(self, now_s: float) -> None:
        self._budget = _BUDGET
        self._at_s = self._last_s = now_s

    def choose(self, now_s: float, rates: Mapping[_Key, float | None]) -> tuple[_Key, bool] | None:
        """The slowest connection, and whether it is far slower than the best; None: none is replaced now.

        From time to time one is replaced although it is not far slower: all may be slow. None if the budget is spent.
        """
        self._budget = min(_BUDGET, self._budget + (now_s - self._at_s) * _BUDGET_PER_SECOND)
        self._at_s = now_s
        known = {key: rate for key, rate in rates.items() if rate is not None}
        if len(rates) < 2 or not known or self._budget < 1:
            return None
        slowest = min(known, key=known.__getitem__)
        is_slow = known[slowest] < max(known.values()) * _SLOW
        if not is_slow and now_s - self._last_s < _PROBE_S:
            return None
        self._budget -= 1
        self._last_s = now_s
        return slowest, is_slow


# --- How long a request is, and when one is split ---------------------------------------------------------------------

# Requests of 16 to 64 MiB cost the fewest bytes of overhead and lose little with a dropped connection. Several
# connections to one file make short ones, so that what they fetch out of order is near the digest's front.
_SHORT_REQUEST_BYTES: Final = 2 * PIECE_BYTES
LONGEST_REQUEST_BYTES: Final = 8 * PIECE_BYTES
# A connection is idle until its answer begins: a request is long enough that this is at most a tenth of its time.
_ANSWERS_PER_REQUEST: Final = 10
# How far ahead of the digest bytes are fetched, in requests of each connection: enough that a slow connection at the
# front does not block the others, and little enough that the digest ends soon after the last byte and finds its bytes
# in memory.
_WINDOW_REQUESTS: Final = 2
_SMALLEST_WINDOW_BYTES: Final = 96 * MIB
# A shorter tail is not worth another connection's round trips, nor is one that saves less time: the connection that
# loses its tail is closed with the bytes in flight.
SMALLEST_SPLIT_BYTES: Final = MIB
_SMALLEST_SAVING_S: Final = 0.6


def request_bytes(rate: float | None, free_bytes: int, connections: int, answer_s: float | None = None) -> int:
    """How long the next request of a connection should be, in whole pieces.

    By the usual bytes per second of a connection and the time until its answer begins (None: unknown), the bytes that
    no connection fetches yet, and the number of connections.
    """
    shortest = max(PIECE_BYTES, int((rate or 0.0) * (answer_s or 0.0) * _ANSWERS_PER_REQUEST))
    usual = LONGEST_REQUEST_BYTES if connections == 1 else max(_SHORT_REQUEST_BYTES, shortest)
    fair = max(shortest, free_bytes // (2 * max(1, connections)))
    return max(PIECE_BYTES, min(usual, fair, LONGEST_REQUEST_BYTES) // PIECE_BYTES * PIECE_BYTES)


def window_bytes(connections: int, length_bytes: int) -> int:
    """How far ahead of the digest's front this many connections may fetch, with requests of this length."""
    return max(_SMALLEST_WINDOW_BYTES, connections * _WINDOW_REQUESTS * length_bytes)


class Running(Value, frozen=True):
    """A request in progress: next byte, one past its last, and rate; 0 if it receives nothing, None if unknown."""

    position: int
    end: int
    bytes_per_second: float | None


def choose_split(
    running: Mapping[_Key, Running], rate: float | None, answer_s: float | None = None
) -> tuple[_Key, int] | None:
    """The request whose tail an idle connection should take, and the offset of the cut, such that both end together.

    The idle connection has this rate (None: the same as the other) and waits so long for its answer, while the other
    continues alone. None if no tail saves enough time.
    """
    best, best_s, wait_s = None, _SMALLEST_SAVING_S, answer_s or 0.0
    for key, one in running.items():
        left_bytes, own = one.end - one.position, one.bytes_per_second
        if own is None or left_bytes < 2 * SMALLEST_SPLIT_BYTES:
            continue
        others = own if rate is None else rate
        share = others / (others + own) if others + own > 0 else 0.5  # of the bytes, and of the time
        saving_s = (left_bytes / own - wait_s if own > 0 else float("inf")) * share
        if saving_s > best_s:
            given = int((left_bytes - wait_s * own) * share)
            at = one.end - max(SMALLEST_SPLIT_BYTES, min(left_bytes - SMALLEST_SPLIT_BYTES, given))
            best, best_s = (key, at), saving_s
    return best


# --- How much to read at once -----------------------------------------------------------------------------------------

BUFFER_BYTES: Final = MIB
READ_S: Final = 0.1
SMALLEST_READ_BYTES: Final = 1024


def next_read_bytes(length_bytes: int, took_s: float, limit: float | None) -> int:
    """The length of a connection's next read, about 0.1 s: a stop is noticed soon, and a kill loses little.

    By the length of the last one, and how long it took to fill. A bandwidth limit makes reads shorter.
    """
    if took_s > 2 * READ_S:
        length_bytes //= 2
    elif took_s < READ_S / 2:
        length_bytes *= 2
    most_bytes = BUFFER_BYTES if limit is None else min(BUFFER_BYTES, int(limit * READ_S / 2))
    return max(SMALLEST_READ_BYTES, min(length_bytes, most_bytes))
