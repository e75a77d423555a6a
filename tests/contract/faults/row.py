"""What a row of the fault matrix is: a behaviour, how it is made, what a person sees, what holds afterwards. Values only."""

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


class Made(Protocol):
    """How a fault is made."""

    @property
    def words(self) -> str:
        """For the page."""

    def place(self, world: World, subject: Subject) -> Lift:
        """Make it; returns what ends it."""


@dataclass(frozen=True)
class Answer:
    """A fault of the embedded hub, in the answers about the row's files.

    Attributes:
        fault: Of `tests.support.faulty_hub.fault_kinds`.
        origin: Who answers so.
        times: How often; None: until it is lifted.
        skip: How many answers are right before.
        path: Which answers, as `Faults.add` has it; `{repo}` is the repository.
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
    """A fault as one would write it."""
    said = [(one.name, getattr(fault, one.name), one) for one in fields(fault) if one.repr]
    given = [f"{name}={value!r}" for name, value, one in said if value not in (one.default, _made(one))]
    return f"{type(fault).__name__}({', '.join(given)})"


def _made(one: Field[Any]) -> object:
    return one.default_factory() if one.default_factory is not MISSING else one.default


@dataclass(frozen=True)
class OnLine:
    """What a TCP line does: the one to the hub, the one to its storage, or both."""

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
    """Something else that happens: to the disk, to a process, to the clock.

    Attributes:
        words: What, for the page.
        do: Does it; returns what undoes it, None where it is done once and for all.
    """

    words: str
    do: Callable[[World, Subject], Lift | None]

    def place(self, world: World, subject: Subject) -> Lift:
        return self.do(world, subject) or (lambda: None)


@dataclass(frozen=True)
class Heals:
    """It passes, and the download completes without anybody's doing.

    Attributes:
        line: What is said meanwhile; None where it is over before it could be said. A fault that lasts is lifted then.
        kept_bytes: So many had come when it happened: every later question is about bytes behind them.
        begins_anew: What had come was wrong, or somebody took it away.
    """

    line: str | None = None
    kept_bytes: int = 0
    begins_anew: bool = False


@dataclass(frozen=True)
class Fails:
    """The download fails, the next one runs, and it can be had once the fault is lifted.

    Attributes:
        error: Class of the error.
        line: Its text.
        can_retry: Whether `retry` is offered: it may help without anybody's doing.
        asks: How often the file is asked for at most before that; None: as often as the limits of patience say.
        again: How a person gets it afterwards.
    """

    error: type[GglibError]
    line: str
    can_retry: bool = False
    asks: int | None = None
    again: Literal["retry", "queue"] = "retry"


@dataclass(frozen=True)
class Refused:
    """Nothing is queued: the command itself says why; afterwards it works."""

    error: type[GglibError]
    line: str


@dataclass(frozen=True)
class Proved:
    """Another test makes this fault, for which the matrix has no room: a kernel, a browser, minutes.

    Attributes:
        by: Its file and name.
        line: What a person sees.
        state: What it finds afterwards.
    """

    by: str
    line: str
    state: str


@dataclass(frozen=True)
class Row:
    """One behaviour.

    Attributes:
        behaviour: In a sentence.
        made: How, in this order; empty for a row that is proved elsewhere.
        ends: What comes of it.
        files: Names and sizes of the download's files.
        after_bytes: It is made when so many bytes have come; None: before the first.
        state: What holds besides, in words; looked at by `look`.
        look: Looks at it, at the very end.
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
