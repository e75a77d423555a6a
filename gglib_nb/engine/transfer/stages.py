"""The life of one target as a table: from which stage, for which cause, to which stage.

Data only, so that the picture in ARCHITECTURE.md can be drawn from it. The one function here applies the table and
is the one place that refuses.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Where a target is."""

    PENDING = "pending"
    CHECKING = "checking"
    FETCHING = "fetching"
    FINALIZING = "finalizing"
    DONE = "done"


class Cause(StrEnum):
    """Why a target changes its stage."""

    OPENED = "its turn"
    FOUND = "there already, or linked"
    LEASED = "not there, lease acquired"
    LEASE_LOST = "lease lost to another process"
    VERIFIED = "every digest right"
    RENAMED = "renamed"


_S = Stage

TRANSITIONS: Final[Mapping[tuple[Stage, Cause], Stage]] = {
    (_S.PENDING, Cause.OPENED): _S.CHECKING,
    (_S.CHECKING, Cause.FOUND): _S.DONE,
    (_S.CHECKING, Cause.LEASED): _S.FETCHING,
    # Another process writes the file now: wait for it as at the beginning, and find it there or go on.
    (_S.FETCHING, Cause.LEASE_LOST): _S.CHECKING,
    (_S.FETCHING, Cause.VERIFIED): _S.FINALIZING,
    (_S.FINALIZING, Cause.LEASE_LOST): _S.CHECKING,
    (_S.FINALIZING, Cause.RENAMED): _S.DONE,
}


def following(stage: Stage, cause: Cause) -> Stage:
    """The stage after `cause`.

    Raises:
        AssertionError: The table has no such step; the coordinator asked for what it must not, which is a bug of ours.
    """
    if (stage, cause) not in TRANSITIONS:
        raise AssertionError(f"a target that is {stage} cannot go on by: {cause}")
    return TRANSITIONS[stage, cause]


def as_mermaid() -> str:
    """The table as a Mermaid state diagram, one line a step."""
    steps = "\n".join(f"    {before} --> {after}: {cause}" for (before, cause), after in TRANSITIONS.items())
    return f"stateDiagram-v2\n    [*] --> {Stage.PENDING}\n{steps}\n    {Stage.DONE} --> [*]\n"
