"""A state machine as a table: state, cause, next state. ARCHITECTURE.md's diagrams are drawn from it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from gglib_nb.domain.values import Value

_State = TypeVar("_State", bound=StrEnum)
_Cause = TypeVar("_Cause", bound=StrEnum)


class TransitionTable(Value, Generic[_State, _Cause], frozen=True):
    """All transitions.

    Attributes:
        noun: What has these states, in one word.
        first: The initial state.
        steps: The state after each cause.
    """

    noun: str
    first: _State
    steps: Mapping[tuple[_State, _Cause], _State]

    def following(self, state: _State, cause: _Cause) -> _State:
        """The state after `cause`; an AssertionError if the table has no such transition, which is a bug of the caller."""
        if (state, cause) not in self.steps:
            raise AssertionError(f"a {self.noun} that is {state} has no step for: {cause}")
        return self.steps[state, cause]
