"""The retry policy: what a failed exchange means, when to request again or give up, and whether there is a network.

One table, `Troubles.failed`: an error, and whether other connections receive bytes, give the next step, which the
transfer carries out. Patience is measured in seconds without a new byte, never in attempts; time in which a server
asked to wait, or without a network, does not count.
"""

import random
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from gglib_nb.domain.http_rules import backoff_s
from gglib_nb.domain.hub_answers import Asked, Refusal, hub_refusal
from gglib_nb.domain.values import Value
from gglib_nb.engine.http import (
    BusyError,
    ExchangeError,
    LineError,
    RangeIgnoredError,
    RefusedError,
    SilentError,
    WrongRangeError,
)
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import (
    GglibError,
    HubUnavailableError,
    IntegrityError,
    NetworkError,
    RateLimitedError,
    StalledError,
)

# While others receive bytes, a broken connection is replaced after this long.
_SOON_S: Final = 0.2
# While others receive bytes, a file that is refused for this long may have an address that has expired.
_REFUSED_FOR_LONG_S: Final = 60.0
# One step without a new byte counts for at most this long: a process suspended for an hour has not tried for an hour.
_LONGEST_STEP_S: Final = 60.0
_MOST_WRONG_RANGES: Final = 5

TEMPORARY: Final = (NetworkError, StalledError, HubUnavailableError, RateLimitedError, IntegrityError)
"""The errors after which another attempt can help although nothing is changed."""


class Step(Enum):
    """What to do about a failed exchange, once `Troubles.retry_at_s` has come."""

    AGAIN = "ask the same address again"
    FEWER = "the server allows fewer connections than it was given; those that receive bytes continue"
    RESOLVE = "get a new address from the hub"
    WHOLE = "ask for the whole file on one connection, from its first byte"


class Troubles:
    """What failed for one remote file since its last new byte. One thread uses it: the file's owner."""

    def __init__(self, asked: Asked, timeouts: Timeouts) -> None:
        self._asked = asked
        self._timeouts = timeouts
        self.network_is_back()

    def received(self) -> None:
        """Reset the failures: a new byte arrived."""
        self.last: ExchangeError | None = None  # the cause of the present wait; None if there is none
        self.failures = 0  # how many in a row caused a wait
        self._wrong_ranges = 0
        self._failed_s: float | None = None
        self._refused_since_s: float | None = None
        self._patience_s = self._timeouts.give_up_s
        self._asked_s = 0.0

    def network_is_back(self) -> None:
        """Retry at once: the network caused the earlier failures."""
        self.received()
        self.retry_at_s = 0.0  # no request is sent before, by the owner's clock

    def failed(
        self,
        error: ExchangeError,
        now_s: float,
        *,
        others_receive: bool = False,
        is_offline: bool = False,
        has_bytes: bool = False,
    ) -> Step:
        """The next step after a failed exchange; raises a `GglibError` if no byte has arrived for too long.

        `has_bytes`: some of the file is on the disk, which would be lost if the whole was requested.
        """
        match error:
            case BusyError() | RefusedError() | LineError() if others_receive:
                return self._beside_others(error, now_s)
            case WrongRangeError() if others_receive and has_bytes:
                return self._beside_others(error, now_s)
            case LineError() if is_offline:
                self._soon(now_s)
                return Step.AGAIN
            case BusyError() | LineError():
                self._wait(error, now_s, error.wait_s if isinstance(error, BusyError) else None)
                return Step.AGAIN
            case WrongRangeError() if not self._is_waiting(now_s):
                # Perhaps another server, or a login page of the network, has answered this time.
                most = _MOST_WRONG_RANGES if has_bytes else int(not isinstance(error, RangeIgnoredError))
                if self._wrong_ranges >= most:
                    # If the whole is refused too, patience has to end; a server without ranges only sends it again.
                    self._wrong_ranges = most if isinstance(error, RangeIgnoredError) else 0
                    return Step.WHOLE
                self._wrong_ranges += 1
            case RefusedError() if self._refused_since_s is None:  # at once: signed addresses expire
                self._refused_since_s = now_s
                return Step.RESOLVE
        self._wait(error, now_s)
        return Step.RESOLVE

    def _beside_others(self, error: ExchangeError, now_s: float) -> Step:
        """While other connections to this server receive bytes, a failure says nothing about the file."""
        self._soon(now_s)
        if not isinstance(error, RefusedError):
            return Step.FEWER if error.may_be_limit else Step.AGAIN
        if self._refused_since_s is None:
            self._refused_since_s = now_s
        if error.may_be_limit and now_s - self._refused_since_s < _REFUSED_FOR_LONG_S:
            return Step.FEWER
        self._refused_since_s = None
        return Step.RESOLVE

    def _soon(self, now_s: float) -> None:
        self.retry_at_s = max(self.retry_at_s, now_s + _SOON_S)

    def _wait(self, error: ExchangeError, now_s: float, asked_s: float | None = None) -> None:
        if self._is_waiting(now_s):
            return  # several connections had the same failure; it counts once
        if self._failed_s is not None:
            self._patience_s -= min(now_s - self._failed_s, max(_LONGEST_STEP_S, self._timeouts.answer_s))
        self._failed_s = now_s
        self._asked_s += asked_s or 0.0
        if self._patience_s <= 0 or self._asked_s > self._timeouts.longest_asked_s:
            raise self._final(error)
        self.failures += 1
        first_s, longest_s = self._timeouts.first_delay_s, self._timeouts.longest_delay_s
        own_s = backoff_s(self.failures, first_s, longest_s, random.random())  # noqa: S311  # spreads load; not security-relevant
        # The server's wait is a minimum: with `Retry-After: 0` it would be asked again at once for minutes.
        self.retry_at_s = now_s + max(own_s, asked_s or 0.0)
        self._patience_s += min(asked_s or 0.0, _LONGEST_STEP_S)
        self.last = error

    def _is_waiting(self, now_s: float) -> bool:
        return now_s < self.retry_at_s and self.last is not None

    def _final(self, error: ExchangeError) -> GglibError:
        if isinstance(error, BusyError):
            return hub_refusal(Refusal(error.status, had_token=True, wait_s=error.wait_s), self._asked)
        name = self._asked.path
        if isinstance(error, SilentError):
            return StalledError(
                f"{error}, several times. If a proxy or mirror downloads or scans {name} before it sends anything, set "
                "HF_HUB_DOWNLOAD_TIMEOUT to a higher number of seconds and restart the kernel. Otherwise retry later."
            )
        if isinstance(error, LineError):
            return NetworkError(f"The connection for {name} keeps failing ({error}); check the network, then retry.")
        return HubUnavailableError(
            f"The storage of {self._asked.endpoint} did not send {name} ({error}); try again later."
        )


# The first probe follows the failure at once; while they fail they become rarer, up to this interval.
_FIRST_INTERVAL_S: Final = 1.0
_LONGEST_INTERVAL_S: Final = 20.0


class Outage(Value, frozen=True):
    """The network has been down since this moment, by the monotonic clock and as a time of day, such as `10:42`."""

    since_s: float
    since_text: str


class Connectivity:
    """Whether the hub can be reached at all; shared by all transfers, from any thread, and never blocks.

    Without a network every transfer waits, and one probe sends the hub a request. Any answer ends the wait.
    """

    def __init__(self, can_reach_hub: Callable[[], bool]) -> None:
        self.outage: Outage | None = None
        self._can_reach_hub = can_reach_hub
        self._probing = threading.Lock()  # held by the probe
        self._next_probe_s = float("-inf")
        self._interval_s = _FIRST_INTERVAL_S

    def probe(self, now_s: float) -> None:
        """Send the hub a request if one is due: a connection has failed, or the network is down."""
        if now_s < self._next_probe_s or not self._probing.acquire(blocking=False):
            return
        self._next_probe_s = now_s + self._interval_s
        try:
            threading.Thread(target=self._probe, args=[now_s], name="gglib-probe", daemon=True).start()
        except RuntimeError:  # no thread can be started now; the next failure tries again
            self._probing.release()

    def _probe(self, failed_s: float) -> None:
        is_there = True  # a probe that itself fails says nothing about the network, and must not be the last one
        try:
            is_there = self._can_reach_hub()
        finally:
            if is_there:
                self.outage, self._interval_s = None, _FIRST_INTERVAL_S
            elif self.outage is None:
                self.outage = Outage(failed_s, time.strftime("%H:%M"))
            else:
                self._interval_s = min(_LONGEST_INTERVAL_S, self._interval_s * 2)
            self._probing.release()
