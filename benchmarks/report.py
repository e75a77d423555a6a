"""The results of a scenario: rows of medians, limits met or not, and both as Markdown.

Knows numbers and text; not how they were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.processes import Usage

MIB = 1024**2


@dataclass(frozen=True)
class Bar:
    """A promise and its measured value.

    Attributes:
        what: the measured quantity, in words.
        measured: the value; a ratio unless `unit` is given.
        limit: the maximum, or if `is_floor` the minimum, that keeps the promise; `None` if there is none.
        unit: the unit after the values.
        is_floor: whether `limit` is a minimum.
    """

    what: str
    measured: float
    limit: float | None
    unit: str = ""
    is_floor: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the promise is kept; `None` without a limit."""
        if self.limit is None:
            return None
        return self.measured >= self.limit if self.is_floor else self.measured <= self.limit

    def cells(self) -> list[str]:
        """The quantity, the value, the limit and the verdict, as cells of a table."""
        sign = "≥" if self.is_floor else "≤"
        limit = "" if self.limit is None else f"{sign} {number(self.limit)}{self.unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[self.is_met]
        return [self.what, f"{number(self.measured)}{self.unit}", limit, verdict]


@dataclass
class Findings:
    """The results of one scenario.

    Attributes:
        name: its letter.
        title: what was done, in one line.
        head: the table's column titles.
        rows: its cells.
        bars: the promises of the scenario.
        notes: information needed to read the values.
    """

    name: str
    title: str
    head: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """A section with its tables."""
        parts = [f"## {self.name}. {self.title}"]
        if self.rows:
            parts.append(table(self.head, self.rows))
        if self.bars:
            parts.append(table(("bar", "measured", "limit", ""), [bar.cells() for bar in self.bars]))
        if self.notes:
            parts.append("\n".join(f"* {note}" for note in self.notes))
        return "\n\n".join(parts)


USAGE_HEAD = ("downloader", "wall s", "CPU s", "peak MiB", "wall from to, s", "rounds")


def usage_rows(usages: dict[str, list[Usage]]) -> list[Sequence[str]]:
    """A row of medians for each downloader."""
    return [
        (
            name,
            f"{wall(runs):.2f}",
            f"{cpu(runs):.2f}",
            f"{median(run.peak_bytes for run in runs) / MIB:.0f}",
            f"{min(run.wall_s for run in runs):.2f} to {max(run.wall_s for run in runs):.2f}",
            str(len(runs)),
        )
        for name, runs in usages.items()
        if runs
    ]


def wall(runs: Sequence[Usage]) -> float:
    """The median of the wall seconds."""
    return median(run.wall_s for run in runs)


def cpu(runs: Sequence[Usage]) -> float:
    """The median of the CPU seconds."""
    return median(run.cpu_s for run in runs)


def ratio(one: float, other: float) -> float:
    """One figure by another; infinite where the other is 0."""
    return one / other if other else float("inf")


def number(value: float) -> str:
    """A value with its significant digits."""
    if value == float("inf"):
        return "∞"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
