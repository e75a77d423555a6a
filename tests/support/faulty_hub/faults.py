"""Where and how often faults strike, and which are due.

A fault turns the right answer into a wrong one; the kinds are in `fault_kinds`. Nothing here knows what a
fault does or how answers are sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Lock
from typing import Literal, Protocol

from gglib_nb.demo.messages import Request, Response

Origin = Literal["hub", "cdn"]


class Fault(Protocol):
    """Anything that can spoil an answer."""

    def apply(self, request: Request, response: Response) -> Response:
        """Return what is answered in the place of `response`."""


@dataclass(kw_only=True)
class PlacedFault:
    """A fault with the requests it is for.

    Attributes:
        path: a glob that must match the path of the URL, the path in the repository, or
            `owner/name/path in the repository`; its `*` matches slashes too.
        origin: `hub`, `cdn`, or `None` for both.
        method: `GET`, `HEAD`, …, or `None` for all.
        times: how many requests it spoils; `None` means all.
        skip: how many matching requests pass unharmed before that.
        hits: how many it has spoilt so far.
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
        """Whether the request is one of those the fault is for, its count left aside."""
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
        """Let `fault` spoil the next answers to matching requests; see `PlacedFault` for the arguments.

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
        """Let a fault strike no more; nothing happens where it was removed before."""
        with self._lock:
            self._placed.pop(placed.number, None)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._placed.clear()

    def get(self, number: int) -> PlacedFault:
        """The fault of a number.

        Raises:
            KeyError: there is none, or it was removed.
        """
        return self._placed[number]

    def apply(self, request: Request, response: Response) -> Response:
        """Return what is answered, after all faults that are due."""
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
