"""Where and how often faults apply, and which are due.

A fault turns the right response into a wrong one; the kinds are in `fault_kinds`. This module does not know what a
fault does or how responses are sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Lock
from typing import Literal, Protocol

from gglib_nb.demo.messages import Request, Response

Origin = Literal["hub", "cdn"]


class Fault(Protocol):
    """Anything that can change a response."""

    def apply(self, request: Request, response: Response) -> Response:
        """Return the response that replaces `response`."""


@dataclass(kw_only=True)
class PlacedFault:
    """A fault and the requests to which it applies.

    Attributes:
        path: a glob that must match the path of the URL, the path in the repository, or
            `owner/name/path in the repository`; its `*` matches slashes too.
        origin: `hub`, `cdn`, or `None` for both.
        method: `GET`, `HEAD`, …, or `None` for all.
        times: how many requests it applies to; `None` means all.
        skip: how many matching requests are unaffected before that.
        hits: how many it has been applied to.
    """

    number: int
    fault: Fault
    path: str
    origin: Origin | None
    method: str | None
    times: int | None
    skip: int
    hits: int = 0

    def is_for(self, request: Request, response: Response) -> bool:
        """Whether the fault applies to the request, ignoring its count."""
        return (
            self.origin in {None, request.origin}
            and self.method in {None, request.method}
            and any(fnmatchcase(name, self.path) for name in _names(request, response))
        )


@dataclass
class Faults:
    """The faults of one hub. Safe from any thread."""

    _placed: dict[int, PlacedFault] = field(default_factory=dict)
    _added: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(
        self,
        fault: Fault,
        *,
        path: str = "*",
        origin: Origin | None = None,
        method: str | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> PlacedFault:
        """Apply `fault` to the next responses to matching requests; see `PlacedFault` for the arguments.

        Several faults that match the same request are applied in the order in which they were added.
        """
        with self._lock:
            self._added += 1
            placed = PlacedFault(
                number=self._added, fault=fault, path=path, origin=origin, method=method, times=times, skip=skip
            )
            self._placed[placed.number] = placed
        return placed

    def remove(self, placed: PlacedFault) -> None:
        """Remove a fault; does nothing if it was removed before."""
        with self._lock:
            self._placed.pop(placed.number, None)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._placed.clear()

    def get(self, number: int) -> PlacedFault:
        """The fault with a number.

        Raises:
            KeyError: there is none, or it was removed.
        """
        return self._placed[number]

    def apply(self, request: Request, response: Response) -> Response:
        """Return the response after all due faults."""
        for placed in self._due(request, response):
            response = placed.fault.apply(request, response)
        return response

    def _due(self, request: Request, response: Response) -> Iterable[PlacedFault]:
        with self._lock:
            return [placed for placed in self._placed.values() if _strikes(placed, request, response)]


def _strikes(placed: PlacedFault, request: Request, response: Response) -> bool:
    if placed.hits == placed.times or not placed.is_for(request, response):
        return False
    if placed.skip:
        placed.skip -= 1
        return False
    placed.hits += 1
    return True


def _names(request: Request, response: Response) -> list[str]:
    names = [request.path, "/" + "/".join(request.segments)]
    if response.subject is not None:
        path = response.subject.file.path
        names += [path, f"{response.subject.repo_id}/{path}"]
    return names
