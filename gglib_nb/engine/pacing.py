"""How many connections a line rewards, which one to replace, how long a request is, what to split, how fast to read.

Pure: rates and times in, numbers out; no sockets, files, threads or clock. Measured (design section 9): some lines give
each connection a fixed rate, so more of them are faster; others are full with four, and more only cost; a CDN hands out
edges of very different speed, so the fast ones are kept and the slow ones replaced.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from gglib_nb.domain.values import Value
from gglib_nb.engine.pieces import MIB, PIECE_BYTES

FEWEST_CONNECTIONS: Final = 4
MOST_CONNECTIONS: Final = 16

# --- How many connections ---------------------------------------------------------------------------------------------

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
    """How many connections one transfer wants; begins with few, or one for each file, and tries more while that pays."""

    def __init__(self, files: int = 1) -> None:
        self.wanted = min(max(FEWEST_CONNECTIONS, files), MOST_CONNECTIONS)
        self._proven = self.wanted
        self._proven_rate: float | None = None
        self._window: tuple[float, int] | None = None
        self._hold_s = _FIRST_HOLD_S
        self._hold_until_s = float("-inf")

    def observe(self, now_s: float, received_bytes: int, flowing: int, is_limited: bool) -> None:
        """Decide anew, by the bytes of the whole transfer and the number of connections that receive some at the moment.

        While a bandwidth limit or the digest is the bottleneck (`is_limited`), rates say nothing.
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
        """The server does not want so many: keep those that flow for a while."""
        self._settle_for(max(1, flowing), now_s, _REFUSED_HOLD_S)

    def stalled(self, now_s: float) -> None:
        """A connection stalled on a line that has little to give: half as many, for a moment."""
        self._settle_for(max(1, self.wanted // 2), now_s, _STALLED_HOLD_S)

    def _measure(self, now_s: float, received_bytes: int, start_s: float, start_bytes: int) -> None:
        if start_bytes < 0:
            if now_s >= start_s:
                self._window = (now_s, received_bytes)
        elif now_s - start_s >= _WINDOW_S:
            self._decide(now_s, (received_bytes - start_bytes) / (now_s - start_s))

    def _decide(self, now_s: float, bytes_per_second: float) -> None:
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


def fair_shares(wants: Mapping[int, int], total: int) -> dict[int, int]:
    """Divide `total` among those that want some: none gets more than it wants; the rest that does not divide goes to the first."""
    shares: dict[int, int] = {}
    left = total
    for taken, (one, want) in enumerate(sorted(wants.items(), key=lambda item: (item[1], item[0]))):
        waiting = len(wants) - taken
        shares[one] = min(want, -(-left // waiting))
        left -= shares[one]
    return shares


# --- Which connection to replace --------------------------------------------------------------------------------------

# A connection is measured for so long; one below so much of the best is replaced.
_MEASURED_AFTER_S: Final = 0.8
_SLOW: Final = 0.4
_BUDGET: Final = 16.0
_BUDGET_PER_SECOND: Final = 0.5
_PROBE_S: Final = 4.0


class Speed(Value, frozen=True):
    """How fast one connection is lately, and for how long it has received bytes, without its warm-up."""

    flowing_s: float
    bytes_per_second: float


class Replacement:
    """Which connection to replace by a new one, within a budget, so that a line of equal ones is left alone."""

    def __init__(self, now_s: float) -> None:
        self._budget = _BUDGET
        self._at_s = now_s
        self._last_s = now_s

    def slow_one(self, now_s: float, speeds: Sequence[Speed]) -> int | None:
        """Index of a connection that is far slower than the best; None without one, or where the budget is spent."""
        self._budget = min(_BUDGET, self._budget + (now_s - self._at_s) * _BUDGET_PER_SECOND)
        self._at_s = now_s
        measured = _measured(speeds)
        if not measured or self._budget < 1:
            return None
        worst = min(measured, key=lambda index: speeds[index].bytes_per_second)
        best = max(speeds[index].bytes_per_second for index in measured)
        if speeds[worst].bytes_per_second >= best * _SLOW:
            return None
        self._spend(now_s)
        return worst

    def probe(self, now_s: float, speeds: Sequence[Speed]) -> int | None:
        """Index of the slowest, now and then, although none is far behind: all of them may be slow."""
        measured = _measured(speeds)
        if not measured or now_s - self._last_s < _PROBE_S or self._budget < 1:
            return None
        self._spend(now_s)
        return min(measured, key=lambda index: speeds[index].bytes_per_second)

    def _spend(self, now_s: float) -> None:
        self._budget -= 1
        self._last_s = now_s


def _measured(speeds: Sequence[Speed]) -> list[int]:
    return [index for index, speed in enumerate(speeds) if speed.flowing_s >= _MEASURED_AFTER_S]


# --- How long a request is, and when one is split ---------------------------------------------------------------------

# Requests of 16 to 64 MiB cost the fewest bytes of overhead and lose little with a dropped connection.
_SHORT_REQUEST_BYTES: Final = 2 * PIECE_BYTES
LONGEST_REQUEST_BYTES: Final = 8 * PIECE_BYTES
# A connection stays with one request for about so long: a lost one then costs little, a round trip each little too.
_REQUEST_S: Final = 2.0
# A connection is idle until its answer begins: a request is not so short that this is more than a tenth of its time.
_ANSWERS_PER_REQUEST: Final = 10
# So far ahead of the digest bytes are fetched, for each connection: enough that a slow one at the front does not hold up the
# others, and little enough that the digest is there soon after the last byte, and finds what it reads again in memory.
_WINDOW_PIECES: Final = 2
_SMALLEST_WINDOW_BYTES: Final = 96 * MIB
# A tail shorter than this is not worth another connection's round trips. Nor is one that saves less time: the connection that
# loses its tail is closed with the bytes on their way, up to several round trips' worth.
SMALLEST_SPLIT_BYTES: Final = MIB
_SMALLEST_SAVING_S: Final = 0.6


def request_bytes(rate: float | None, free_bytes: int, connections: int, answer_s: float | None = None) -> int:
    """How long the next request of a connection should be, in whole pieces.

    Args:
        rate: Bytes per second of a connection lately; None unknown.
        free_bytes: What no connection fetches yet.
        connections: How many there are.
        answer_s: How long a request waits for the head of its answer; None unknown.
    """
    rate = rate or 0.0
    usual = max(_SHORT_REQUEST_BYTES, min(LONGEST_REQUEST_BYTES, int(rate * _REQUEST_S)))
    shortest = max(PIECE_BYTES, int(rate * (answer_s or 0.0) * _ANSWERS_PER_REQUEST))
    fair = max(shortest, free_bytes // (2 * max(1, connections)))
    return max(PIECE_BYTES, min(usual, fair) // PIECE_BYTES * PIECE_BYTES)


def window_bytes(connections: int) -> int:
    """How far ahead of the digest's front so many connections may fetch."""
    return max(_SMALLEST_WINDOW_BYTES, connections * _WINDOW_PIECES * PIECE_BYTES)


class Running(Value, frozen=True):
    """A request under way: next byte, one past its last, and rate; 0 where nothing comes any more, None unknown yet."""

    position: int
    end: int
    bytes_per_second: float | None

    @property
    def remaining_bytes(self) -> int:
        """What is still to come."""
        return self.end - self.position

    @property
    def remaining_s(self) -> float:
        """How long that will take; infinite where nothing comes any more, 0 where that cannot be said yet."""
        if self.bytes_per_second is None:
            return 0.0
        return self.remaining_bytes / self.bytes_per_second if self.bytes_per_second > 0 else float("inf")


def choose_split(
    running: Sequence[Running], rate: float | None, answer_s: float | None = None
) -> tuple[int, int] | None:
    """Of which request an idle connection should take the tail, and from where: both should end together.

    Args:
        running: The requests under way.
        rate: What the idle connection can be expected to give; None where unknown: as much as the other.
        answer_s: How long it waits for the head of its answer, while the other continues alone; None where unknown.

    Returns:
        Index of the request and offset of the cut; None where no tail is worth it.
    """
    wait_s = answer_s or 0.0
    worth = [
        index
        for index, one in enumerate(running)
        if one.remaining_bytes >= 2 * SMALLEST_SPLIT_BYTES
        and (one.remaining_s - wait_s) * _tail_share(one, rate) > _SMALLEST_SAVING_S
    ]
    if not worth:
        return None
    index = max(worth, key=lambda one: (running[one].remaining_s, running[one].remaining_bytes))
    chosen = running[index]
    left_bytes = chosen.remaining_bytes - wait_s * (chosen.bytes_per_second or 0.0)
    given = int(left_bytes * _tail_share(chosen, rate))
    given = max(SMALLEST_SPLIT_BYTES, min(chosen.remaining_bytes - SMALLEST_SPLIT_BYTES, given))
    return index, chosen.end - given


def _tail_share(one: Running, rate: float | None) -> float:
    """How much of what is left another connection should take; it is also the part of the time that this saves."""
    its = one.bytes_per_second or 0.0
    own = its if rate is None else rate
    return own / (own + its) if own + its > 0 else 0.5


# --- How much to read at once -----------------------------------------------------------------------------------------

BUFFER_BYTES: Final = MIB
READ_S: Final = 0.1
_SMALLEST_READ_BYTES: Final = 4 * 1024
# Below this a read takes what has come and does not wait until it is full: at 3 KB/s that would look like a stall.
_FILLED_BYTES: Final = 128 * 1024


class ReadLength:
    """The length of one connection's next read: about a tenth of a second.

    A stop is then seen soon, a kill loses little, and a fast line still fills the whole buffer.
    """

    def __init__(self) -> None:
        self._length_bytes = _SMALLEST_READ_BYTES
        self._gained_bytes = 0
        self._took_s = 0.0

    @property
    def length_bytes(self) -> int:
        """To read at once, at most."""
        return self._length_bytes

    @property
    def is_filled(self) -> bool:
        """Whether the next read waits until it is full, which costs a fast line least."""
        return self._length_bytes >= _FILLED_BYTES

    def observe(self, count_bytes: int, took_s: float) -> None:
        """A read has brought so much in so long.

        What several reads bring counts together: TLS hands out 16 KiB at a time, however much has come.
        """
        self._gained_bytes += count_bytes
        self._took_s += took_s
        if took_s > 2 * READ_S:
            self._set(self._length_bytes // 2)
        elif self._gained_bytes >= self._length_bytes:
            self._set(self._length_bytes * (2 if self._took_s < READ_S / 2 else 1))

    def limit(self, bytes_per_second: float) -> None:
        """Under a bandwidth limit, let no read run far ahead of it."""
        self._length_bytes = max(_SMALLEST_READ_BYTES, min(self._length_bytes, int(bytes_per_second * READ_S / 2)))

    def _set(self, length_bytes: int) -> None:
        self._length_bytes = min(BUFFER_BYTES, max(_SMALLEST_READ_BYTES, length_bytes))
        self._gained_bytes, self._took_s = 0, 0.0


# --- The bandwidth limit ----------------------------------------------------------------------------------------------

# A quarter of a second at full rate: 2.5 % of ten seconds, and long enough not to hold up every buffer.
CAPACITY_S: Final = 0.25


class TokenBucket:
    """How many bytes may have passed by now.

    What a connection has read it has already taken from the line, so it reserves that afterwards and waits before it reads
    on. Every caller gets a ticket: the sum of all bytes reserved so far. It may continue when as many bytes are allowed.
    Credit that is not used is lost beyond the capacity.
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
        """How long the holder of the ticket still has to wait, if the limit stays; 0 when it may continue."""
        if self._rate is None:
            return 0.0
        self._refill(now_s)
        return max(0.0, (ticket - self._allowed) / self._rate)

    def _refill(self, now_s: float) -> None:
        if self._rate is not None:
            earned = self._rate * max(0.0, now_s - self._at_s)
            self._allowed = min(self._allowed + earned, self._reserved + self._rate * CAPACITY_S)
        self._at_s = max(self._at_s, now_s)
