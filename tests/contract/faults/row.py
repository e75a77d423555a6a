"""A row of the fault matrix: a behaviour, how it is made, what the user sees, what holds afterwards. Values only."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, Protocol

from gglib_nb.errors import GglibError
from tests.contract.faults.world import NAME, SIZE, Subject, World
from tests.support.faulty_hub import Fault
from tests.support.line import Mode

Lift = Callable[[], object]
ONE_FILE: Mapping[str, int] = MappingProxyType({NAME: SIZE})
SHARDS: Mapping[str, int] = MappingProxyType(
    {f"model-{number:05}-of-00003.gguf": 900_000 + number for number in (1, 2, 3)}
)
MANY_SHARDS: Mapping[str, int] = MappingProxyType(
    {f"model-{number:05}-of-00012.gguf": 90_000 + number for number in range(1, 13)}
)


class Made(Protocol):
    """How a fault is made."""

    @property
    def words(self) -> str:
        """For the page."""

    def place(self, world: World, subject: Subject) -> Lift:
        """Make it; returns a function that ends it."""


@dataclass(frozen=True)
class Answer:
    """A fault of the embedded hub, in responses about the row's files.

    Attributes:
        fault: Of `tests.support.faulty_hub.fault_kinds`.
        origin: The origin that responds so.
        times: How often; None: until it is lifted.
        skip: The number of right responses before it.
        path: Which responses, as in `Faults.add`; `{repo}` is the repository.
    """

    fault: Fault
    origin: Literal["hub", "cdn"] = "cdn"
    times: int | None = 1
    skip: int = 0
    path: str = "{repo}/*"

    @property
    def words(self) -> str:
        what = _without_defaults(self.fault)
        often = {1: "once", 2: "twice", None: "always"}.get(self.times, f"{self.times} times")
        where = "listing" if self.path.startswith("/api") else self.origin
        return f"{where}: `{what}`, {often}" + (f", after {self.skip}" if self.skip else "")

    def place(self, world: World, subject: Subject) -> Lift:
        path = self.path.format(repo=subject.repo_id)
        placed = world.hub.faults.add(self.fault, origin=self.origin, times=self.times, skip=self.skip, path=path)
        return lambda: world.hub.faults.remove(placed)


def _without_defaults(fault: Any) -> str:
    """A fault as in source code."""
    said = [(one.name, getattr(fault, one.name), one) for one in fields(fault) if one.repr]
    given = [f"{name}={value!r}" for name, value, one in said if value not in (one.default, _made(one))]
    return f"{type(fault).__name__}({', '.join(given)})"


def _made(one: Field[Any]) -> object:
    return one.default_factory() if one.default_factory is not MISSING else one.default


@dataclass(frozen=True)
class OnLine:
    """A fault of a TCP line: the one to the hub, the one to its storage, or both."""

    mode: Mode
    origin: Literal["hub", "cdn", "both"] = "cdn"

    @property
    def words(self) -> str:
        which = "both lines" if self.origin == "both" else f"{self.origin} line"
        return f"{which}: {self.mode.value}"

    def place(self, world: World, subject: Subject) -> Lift:
        lines = {"hub": [world.hub_line], "cdn": [world.cdn_line], "both": [world.hub_line, world.cdn_line]}[
            self.origin
        ]
        for line in lines:
            line.set(self.mode)
        return lambda: [line.set(Mode.OPEN) for line in lines]


@dataclass(frozen=True)
class Doing:
    """Any other fault: of the disk, a process or the clock.

    Attributes:
        words: A description for the page.
        do: Does it; returns a function that undoes it, None if it is permanent.
    """

    words: str
    do: Callable[[World, Subject], Lift | None]

    def place(self, world: World, subject: Subject) -> Lift:
        return self.do(world, subject) or (lambda: None)


@dataclass(frozen=True)
class Heals:
    """It is temporary, and the download completes without user action.

    Attributes:
        line: The notice shown during the fault; None if it is too short for one. A lasting fault is lifted then.
        kept_bytes: Bytes received before the fault: every later request is for bytes after them.
        begins_anew: Received bytes were wrong or were removed.
    """

    line: str | None = None
    kept_bytes: int = 0
    begins_anew: bool = False


@dataclass(frozen=True)
class Fails:
    """The download fails, the next one runs, and after the fault is lifted it can be downloaded.

    Attributes:
        error: Class of the error.
        line: Its text.
        can_retry: Whether `retry` is offered because it may help without user action.
        asks: The maximum number of requests for the file before that; None: as the retry limits say.
        again: How the user downloads it afterwards.
    """

    error: type[GglibError]
    line: str
    can_retry: bool = False
    asks: int | None = None
    again: Literal["retry", "queue"] = "retry"


@dataclass(frozen=True)
class Refused:
    """Nothing is queued: the command reports the reason; afterwards it works."""

    error: type[GglibError]
    line: str


@dataclass(frozen=True)
class Proved:
    """Another test makes this fault, because it needs a kernel, a browser or minutes.

    Attributes:
        by: Its file and name.
        line: What the user sees.
        state: The state afterwards.
    """

    by: str
    line: str
    state: str


@dataclass(frozen=True)
class Row:
    """One behaviour.

    Attributes:
        behaviour: In a sentence.
        made: How, in this order; empty for a row that another test proves.
        ends: The outcome.
        files: Names and sizes of the download's files.
        after_bytes: The fault is made after this many bytes; None: before the first.
        state: What else holds, in words; checked by `look`.
        look: Checks the state at the very end.
        is_slow: It takes seconds.
    """

    behaviour: str
    made: tuple[Made, ...]
    ends: Heals | Fails | Refused | Proved
    files: Mapping[str, int] = field(default_factory=lambda: ONE_FILE)
    after_bytes: int | None = None
    state: str = ""
    look: Callable[[World, Subject], None] | None = None
    is_slow: bool = False

    @property
    def slug(self) -> str:
        """A name for the test."""
        return re.sub(r"[^a-z0-9]+", "-", self.behaviour.lower()).strip("-")


def line_pattern(line: str, **known: Any) -> str:
    """A row's line as a regular expression: `{n}` is any number, `{clock}` a time of day, other names are given."""
    loose = {"n": r"\d+(\.\d+)?", "clock": r"\d\d:\d\d", "size": r"\d+\.\d [kMGTP]B", "reason": r"[^()]+"}
    pieces = re.split(r"(\{\w+\})", line)
    return "".join(
        (loose.get(piece[1:-1]) or re.escape(str(known[piece[1:-1]]))) if piece.startswith("{") else re.escape(piece)
        for piece in pieces
    )
