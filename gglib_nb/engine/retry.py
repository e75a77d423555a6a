"""What can go wrong in one exchange, what of it can pass by itself, and how long to wait for it.

The one table of what is worth another try. What ends a transfer at once is not here but in `gglib_nb.errors`. Pure: the caller brings time and chance. Rules for waiting
come from the Hub's `RateLimit` header (draft-ietf-httpapi-ratelimit-headers) and from `Retry-After`,
of which only whole seconds are read, as huggingface_hub does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# What a CDN says when a signed URL has expired or its signature is not liked: resolve again.
EXPIRED_STATUSES: Final = frozenset({400, 401, 403, 404, 410})

_RATE_LIMIT: Final = re.compile(r'^\s*"[^"]*"\s*;\s*r=(\d+)\s*;\s*t=(\d+)\s*$')


STALLED: Final = "stalled"
"""Text of a `LineError`: the connection stands and nothing comes."""


class ExchangeError(Exception):
    """One exchange did not bring what it should; whoever runs the transfer decides what follows."""


class LineError(ExchangeError):
    """The connection could not be made, broke, or ended early."""


class BusyError(ExchangeError):
    """The server asks to come back later.

    Attributes:
        status: HTTP status.
        wait_s: Seconds it asks to wait; None where it does not say.
    """

    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.wait_s = wait_s


class ExpiredUrlError(ExchangeError):
    """The CDN refuses the signed URL; the hub gives another."""


class MovedError(ExchangeError):
    """The file is served from elsewhere.

    Attributes:
        location: As in the answer; may be relative.
    """

    def __init__(self, location: str) -> None:
        super().__init__("redirected")
        self.location = location


class RangeIgnoredError(ExchangeError):
    """The server sends the whole file whatever is asked for."""


class WrongAnswerError(ExchangeError):
    """The answer is not the range that was asked for."""


class LeaseLostError(ExchangeError):
    """Another process may own the partial file; nothing is written before that is known."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine waits for what.

    Attributes:
        connect_s: For a connection to be made.
        answer_s: For the first byte of an answer.
        stall_s: Without another byte on a connection before it is made anew.
        first_delay_s: Before the second try.
        longest_delay_s: Between two tries, unless the server asks for more.
        longest_asked_s: A server that asks to wait longer ends the transfer.
        tries: Failures in a row without a new byte before the transfer fails.
        resolves: Refused signed URLs in a row without a new byte before the transfer fails.
        lease_s: Without a sign of life before another process's lease is taken over.
    """

    connect_s: float = 10.0
    answer_s: float = 15.0
    stall_s: float = 5.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    longest_asked_s: float = 900.0
    tries: int = 12
    resolves: int = 4
    lease_s: float = 15.0


def asked_wait_s(status: int, headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait.

    Args:
        status: HTTP status of its answer.
        headers: Its headers, names in lower case.

    Returns:
        Seconds; None where it does not say. `RateLimit` stands on every answer of the Hub and counts only
        on a 429 and when nothing is left; `Retry-After` is the second choice there and the only one on a 5xx.
    """
    if status == 429 and (limit := _RATE_LIMIT.match(headers.get("ratelimit", ""))) and limit[1] == "0":
        return int(limit[2]) + 1.0
    if status == 429 or status >= 500:
        text = headers.get("retry-after", "").strip()
        return float(text) if text.isascii() and text.isdigit() else None
    return None


def backoff_s(failures: int, patience: Patience, chance: float) -> float:
    """How long to wait after so many failures in a row.

    Args:
        failures: 1 after the first.
        patience: First and longest delay.
        chance: Between 0 and 1; spreads the waits of many clients over the upper half of the delay.
    """
    delay_s = min(patience.longest_delay_s, patience.first_delay_s * 2.0 ** min(failures - 1, 16))
    return delay_s * (0.5 + chance / 2)
