"""The retry policy: after a failed exchange wait, ask the hub again, or give up with an error a person can use.

The one place that decides what is worth another try. Works on the bookkeeping of a part and nothing else; time and
chance are arguments. What has to be done to files and connections is left to `transfer.range_results`.
"""

import random
import time
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin

from gglib_nb.domain.hub_answers import Refusal, hub_refusal
from gglib_nb.engine.http.errors import (
    STALLED,
    BusyError,
    ExchangeError,
    ExpiredUrlError,
    LineError,
    MovedError,
)
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.target import Part
from gglib_nb.errors import (
    GglibError,
    HubUnavailableError,
    IntegrityError,
    NetworkError,
    RateLimitedError,
    StalledError,
)

# A lost connection of several is made anew after so long, without counting as a failure.
_SOON_S: Final = 0.2

_RETRYABLE: Final = (NetworkError, StalledError, HubUnavailableError, RateLimitedError, IntegrityError)


def can_retry(error: GglibError) -> bool:
    """Whether trying again can help without anybody changing anything."""
    return isinstance(error, _RETRYABLE)


def backoff_s(failures: int, timeouts: Timeouts, chance: float) -> float:
    """How long to wait after so many failures in a row.

    Args:
        failures: 1 after the first.
        timeouts: First and longest delay.
        chance: Between 0 and 1; spreads the waits of many clients over the upper half of the delay.
    """
    delay_s = min(timeouts.longest_delay_s, timeouts.first_delay_s * 2.0 ** min(failures - 1, 16))
    return delay_s * (0.5 + chance / 2)


def after_failure(part: Part, error: ExchangeError, now_s: float, timeouts: Timeouts, *, is_excused: bool) -> None:
    """Decide when and how the part is tried again.

    Args:
        part: Its bookkeeping is brought up to date.
        error: What the exchange ended with.
        now_s: The coordinator's clock.
        timeouts: How often and how long.
        is_excused: A failure of the line says nothing about this part: other connections bring bytes, or nothing can be
            reached at all.

    Raises:
        GglibError: It was tried often enough.
    """
    match error:
        case MovedError():
            _follow(part, error, timeouts)
        case ExpiredUrlError():
            _resolve_again(part, error, now_s, timeouts)
        case BusyError():
            _wait(part, error, now_s, timeouts, error.wait_s)
        case LineError() if is_excused:
            part.retry_at_s = max(part.retry_at_s, now_s + _SOON_S)
        case LineError():
            _wait(part, error, now_s, timeouts, None)
        case _:
            part.remote = None
            _wait(part, error, now_s, timeouts, None)


def _wait(part: Part, error: ExchangeError, now_s: float, timeouts: Timeouts, asked_s: float | None) -> None:
    if now_s < part.retry_at_s:
        return  # several connections met the same trouble; it counts once
    if part.failures + 1 >= timeouts.tries or (asked_s or 0) > timeouts.longest_asked_s:
        raise _final(part, error)
    _back_off(part, error, now_s, timeouts, asked_s)


def _back_off(part: Part, error: ExchangeError, now_s: float, timeouts: Timeouts, asked_s: float | None) -> None:
    own_s = backoff_s(part.failures + 1, timeouts, random.random())  # noqa: S311  # spreads load, guards nothing
    # What the server asks for is a floor: with `Retry-After: 0` it would be asked again at once until the tries are used up.
    part.wait_until(now_s + max(own_s, asked_s or 0.0), str(error))


def _follow(part: Part, error: MovedError, timeouts: Timeouts) -> None:
    part.refusals += 1
    if part.refusals > timeouts.resolves or part.remote is None:
        raise HubUnavailableError(f"{part.planned.path_in_repo} is redirected in circles; try again later.")
    url = urljoin(part.remote.url, error.location)
    if not url.startswith(("https://", "http://")):
        raise HubUnavailableError(f"The CDN redirects {part.planned.path_in_repo} to no web address; try again later.")
    part.remote = replace(part.remote, url=url)


def _resolve_again(part: Part, error: ExpiredUrlError, now_s: float, timeouts: Timeouts) -> None:
    part.refusals += 1
    if part.refusals > timeouts.resolves:
        raise HubUnavailableError(
            f"The CDN refuses {part.planned.path_in_repo} again and again ({error}); try again later."
        )
    part.remote = None
    if part.refusals > 1:
        _back_off(part, error, now_s, timeouts, None)


def _final(part: Part, error: ExchangeError) -> GglibError:
    name = part.planned.path_in_repo
    if isinstance(error, BusyError):
        refusal = Refusal(error.status, had_token=True, wait_s=error.wait_s)
        return hub_refusal(refusal, part.address.asked, time.time())
    if not isinstance(error, LineError):
        return HubUnavailableError(f"What the Hub sends for {name} cannot be used ({error}); try again later.")
    if str(error) == STALLED:
        return StalledError(f"Nothing comes for {name} although the connection stands; retry when the line is better.")
    return NetworkError(f"The connection for {name} fails again and again ({error}); look at the network, then retry.")
