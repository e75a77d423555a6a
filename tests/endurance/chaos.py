"""Random faults of a hub and its storage in an endurance run, drawn from a seed.

Responses about doomed files are always wrong, in the one way chosen for their repository; other faults are temporary.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from gglib_nb.demo.messages import Request, Response
from tests.support.faulty_hub import (
    Cut,
    ExpiredUrl,
    Fault,
    HangUp,
    Latency,
    LongBody,
    RangeNotSatisfiable,
    RateLimited,
    ShortBody,
    Stall,
    Status,
    WrongBytes,
    WrongContentRange,
)

Draw = Callable[[random.Random], Fault]

# A fault every few hundred kilobytes: most responses of the storage end early.
_STORAGE: tuple[tuple[float, Draw], ...] = (
    (0.46, lambda chance: Cut(chance.randint(60_000, 700_000))),
    (0.14, lambda chance: Cut(chance.randint(60_000, 700_000), is_reset=True)),
    (0.03, lambda chance: Stall(chance.randint(0, 300_000), for_s=chance.uniform(1, 8))),
    (0.02, lambda _: HangUp()),
    (0.03, lambda chance: Status(chance.choice((408, 425, 500, 502, 503, 504)))),
    (0.01, lambda chance: RateLimited(1, stated_by=chance.choice(("retry-after", "http-date", "nothing")))),
    (0.03, lambda _: ExpiredUrl()),
    (0.01, lambda _: RangeNotSatisfiable(has_content_range=False)),
    (0.01, lambda chance: WrongContentRange(start_shift=chance.randint(1, 99))),
    (0.01, lambda chance: WrongContentRange(total_shift=chance.randint(1, 99))),
    (0.01, lambda chance: ShortBody(chance.randint(1, 5_000))),
    (0.01, lambda chance: LongBody(chance.randint(1, 5_000))),
    (0.02, lambda chance: Latency(chance.randint(50, 900))),
)
_HUB: tuple[tuple[float, Draw], ...] = (
    (0.05, lambda chance: Status(chance.choice((408, 425, 500, 502, 503, 504)))),
    (0.02, lambda _: HangUp()),
    (0.02, lambda _: RateLimited(1)),
    (0.05, lambda chance: Latency(chance.randint(50, 900))),
)
_WRONG_BYTE = 0.004


@dataclass
class Chaos:
    """A fault of the embedded hub that differs for each response. Safe from any thread.

    Attributes:
        seed: Determines the faults, as far as the order of requests repeats.
        doomed: Files that are always wrong: `owner/name/path` and the fault.
        struck: How often each kind was used.
    """

    seed: int
    doomed: Mapping[str, Fault]
    struck: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _spoilt: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def apply(self, request: Request, response: Response) -> Response:
        """Change the response, or leave it unchanged."""
        fault = self._drawn(request, response)
        return response if fault is None else fault.apply(request, response)

    def _drawn(self, request: Request, response: Response) -> Fault | None:
        subject = response.subject
        name = request.path if subject is None else f"{subject.repo_id}/{subject.file.path}"
        with self._lock:
            self._asked[f"{request.origin} {name}"] += 1
            # The nth response about a file has the same fault in every run with this seed.
            chance = random.Random(
                _number(f"{self.seed} {request.origin} {name} {self._asked[f'{request.origin} {name}']}")
            )
            fault = self._choose(request, name, chance)
            if fault is not None:
                self.struck[type(fault).__name__] += 1
        return fault

    def _choose(self, request: Request, name: str, chance: random.Random) -> Fault | None:
        if (doom := self.doomed.get(name)) is not None and isinstance(doom, WrongBytes) == (request.origin == "cdn"):
            return doom
        if request.origin == "cdn" and name not in self._spoilt and chance.random() < _WRONG_BYTE:
            self._spoilt.add(name)  # twice would be permanent
            return WrongBytes(chance.randint(0, 100_000))
        drawn = chance.random()
        for share, draw in _STORAGE if request.origin == "cdn" else _HUB:
            drawn -= share
            if drawn < 0:
                return draw(chance)
        return None


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
