"""The life of one target as a table: from which stage, for which cause, to which."""

from enum import StrEnum
from typing import Final

from gglib_nb.domain.transitions import TransitionTable


class Stage(StrEnum):
    """Where a target is."""

    PENDING = "pending"
    CHECKING = "checking"
    COMPARING = "comparing"
    FETCHING = "fetching"
    FINALIZING = "finalizing"
    DONE = "done"

    @property
    def is_fetching(self) -> bool:
        """Whether its partial file takes bytes from connections; while comparing only those that are compared."""
        return self in (Stage.COMPARING, Stage.FETCHING)


class Cause(StrEnum):
    """Why a target changes its stage."""

    OPENED = "its turn"
    FOUND = "there already, or linked"
    LEASED = "not there, lease acquired"
    HAS_DONORS = "not there, lease acquired, files with like tensors here"
    COMPARED = "known what can be copied"
    LEASE_LOST = "lease lost to another process"
    VERIFIED = "every digest right"
    RENAMED = "renamed"


_S = Stage

TRANSITIONS: Final[TransitionTable[Stage, Cause]] = TransitionTable(
    "target",
    first=_S.PENDING,
    steps={
        (_S.PENDING, Cause.OPENED): _S.CHECKING,
        (_S.CHECKING, Cause.FOUND): _S.DONE,
        (_S.CHECKING, Cause.LEASED): _S.FETCHING,
        (_S.CHECKING, Cause.HAS_DONORS): _S.COMPARING,
        (_S.COMPARING, Cause.COMPARED): _S.FETCHING,
        # Another process writes the file now: wait for it as at the beginning, and find it there or go on.
        (_S.COMPARING, Cause.LEASE_LOST): _S.CHECKING,
        (_S.FETCHING, Cause.LEASE_LOST): _S.CHECKING,
        (_S.FETCHING, Cause.VERIFIED): _S.FINALIZING,
        (_S.FINALIZING, Cause.LEASE_LOST): _S.CHECKING,
        (_S.FINALIZING, Cause.RENAMED): _S.DONE,
    },
)
