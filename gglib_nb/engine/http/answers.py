"""What an answer to a range request means: the bytes that were asked for, or one of `engine.http.errors`.

Pure: status and headers in, verdict out. Rules for waiting come from the Hub's `RateLimit` header
(draft-ietf-httpapi-ratelimit-headers) and from `Retry-After`, in seconds or as a date, which is read against the answer's own
`Date`: this machine's clock may be wrong. What follows from an error is decided in `engine.transfer.retry`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from gglib_nb.engine.http.errors import (
    BusyError,
    ExpiredUrlError,
    MovedError,
    RangeIgnoredError,
    WrongAnswerError,
)
from gglib_nb.errors import RemoteChangedError

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
# What a CDN says when a signed URL has expired or its signature is not liked: resolve again.
EXPIRED_STATUSES: Final = frozenset({400, 401, 403, 404, 410})

_RATE_LIMIT: Final = re.compile(r'^\s*"[^"]*"\s*;\s*r=(\d+)\s*;\s*t=(\d+)\s*$')
_CONTENT_RANGE: Final = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")


@dataclass(frozen=True, slots=True)
class AskedRange:
    """What a request asks for, in bytes of the remote file.

    Attributes:
        start: First byte.
        end: One past the last byte; None: up to the end.
        size_bytes: Of the remote file; None unknown.
        is_whole: The whole is asked for, without a range.
    """

    start: int
    end: int | None
    size_bytes: int | None
    is_whole: bool

    @property
    def header(self) -> Mapping[str, str]:
        """The `Range` header; empty where the whole is asked for."""
        if self.is_whole:
            return {}
        return {"Range": f"bytes={self.start}-{'' if self.end is None else self.end - 1}"}


def check_answer(status: int, headers: Mapping[str, str], asked: AskedRange) -> None:
    """Whether the body that follows is what was asked for.

    Args:
        status: HTTP status.
        headers: Names in lower case.
        asked: What was asked for.

    Raises:
        ExchangeError: It is not; the class says what to do.
        RemoteChangedError: It is another file.
    """
    if status == 206 and not asked.is_whole:
        _check_range(headers, asked)
    elif status == 200:
        _check_whole(headers, asked)
    elif status in REDIRECT_STATUSES:
        raise MovedError(headers.get("location", ""))
    elif status in TRANSIENT_STATUSES:
        raise BusyError(status, asked_wait_s(status, headers))
    elif status in EXPIRED_STATUSES:
        raise ExpiredUrlError(f"HTTP {status}")
    elif status == 416:
        _check_refused_range(headers, asked)
    else:
        raise WrongAnswerError(f"HTTP {status}")


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
        return float(text) if text.isascii() and text.isdigit() else _seconds_between(headers.get("date", ""), text)
    return None


def _seconds_between(now: str, then: str) -> float | None:
    """Between two dates of HTTP, at least 0; None where one is none."""
    try:
        return max(0.0, (parsedate_to_datetime(then) - parsedate_to_datetime(now)).total_seconds())
    except (ValueError, TypeError):  # TypeError: one has a zone and the other has none
        return None


def _check_range(headers: Mapping[str, str], asked: AskedRange) -> None:
    match = _CONTENT_RANGE.match(headers.get("content-range", ""))
    if match is None:
        raise WrongAnswerError("a 206 without a range")
    if int(match[1]) != asked.start:
        raise WrongAnswerError("another range than asked for")
    if match[3] != "*" and asked.size_bytes is not None and int(match[3]) != asked.size_bytes:
        raise WrongAnswerError("a file of another size")
    if _is_encoded(headers):
        raise WrongAnswerError("an encoded range")


def _check_whole(headers: Mapping[str, str], asked: AskedRange) -> None:
    is_all_of_it = asked.start == 0 and asked.size_bytes is not None and asked.end == asked.size_bytes
    is_encoded = _is_encoded(headers)
    length = headers.get("content-length", "")
    # Before all else: a login page of the network is no reason to give up what came by ranges.
    if length.isdigit() and not is_encoded and asked.size_bytes not in (None, int(length)):
        raise WrongAnswerError("a file of another size")
    if not asked.is_whole and (is_encoded or not is_all_of_it):
        raise RangeIgnoredError("the range was ignored")


def _check_refused_range(headers: Mapping[str, str], asked: AskedRange) -> None:
    total = headers.get("content-range", "").rpartition("/")[2]
    if total.isdigit() and asked.size_bytes is not None and int(total) != asked.size_bytes:
        raise RemoteChangedError("The CDN now serves a file of another size; queue the download again.")
    raise WrongAnswerError("HTTP 416")


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "identity") != "identity"
