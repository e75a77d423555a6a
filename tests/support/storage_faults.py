"""Correct but unusual storage: connection limits, shorter ranges, missing headers."""
# all kinds have one signature, and most ignore the request

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from threading import Lock

from gglib_nb.demo.messages import Request, Response, text_response
from tests.support.faulty_hub import FaultyHub
from tests.support.faulty_hub.delivery import sent_with


@dataclass
class ConnectionLimit:
    """A CDN that serves a limited number of concurrent requests; any other gets this status, or is disconnected.

    Attributes:
        hub: The hub whose requests are counted.
        most: The number of concurrent requests.
        status: 403, 429 or 503; None disconnects.
        origin: Of the requests that are counted.
        refusals: How many were refused.
    """

    hub: FaultyHub
    most: int
    status: int | None
    origin: str = "cdn"
    refusals: int = 0
    _lock: Lock = field(default_factory=Lock)

    def apply(self, request: Request, response: Response) -> Response:
        with self._lock:
            others = [
                one
                for one in self.hub.requests
                if one.origin == self.origin and one.ended_s is None and one.status in (200, 206)
            ]
            if len(others) < self.most:
                return response
            self.refusals += 1
        if self.status is None:
            return sent_with(response, is_hung_up=True)
        return text_response(self.status, "too many connections", "text/plain")


@dataclass(frozen=True)
class ShortRange:
    """A 206 with a shorter range than requested, declared as such."""

    most_bytes: int

    def apply(self, request: Request, response: Response) -> Response:
        if response.subject is None or response.status != 206:
            return response
        length = min(response.length, self.most_bytes)
        shorter = replace(response, length=length)
        last = response.offset + length - 1
        return shorter.having(Content_Range=f"bytes {response.offset}-{last}/{response.subject.file.size_bytes}")


@dataclass(frozen=True)
class NoContentRange:
    """A 206 without its range, as Artifactory sends it."""

    def apply(self, request: Request, response: Response) -> Response:
        return response.having(Content_Range=None) if response.status == 206 else response


@dataclass(frozen=True)
class Etag:
    """Another `ETag`, and no digest from the Hub: a mirror that passes on the CDN's headers."""

    text: str

    def apply(self, request: Request, response: Response) -> Response:
        return response.having(ETag=self.text, X_Linked_ETag=None, X_Xet_Hash=None)


@dataclass
class DeadNodes:
    """A storage that redirects each request to one of its nodes, of which every second one is down."""

    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def apply(self, request: Request, response: Response) -> Response:
        if "node=" in request.target:
            return response
        alive = f"http://{request.headers['host']}{request.target}{'&' if '?' in request.target else '?'}node=1"
        location = "http://127.0.0.1:1/" if next(self._numbers) % 2 else alive
        return text_response(307, "Redirecting", "text/plain").having(Location=location)
