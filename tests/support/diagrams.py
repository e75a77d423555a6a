"""Draws a state machine's table as ARCHITECTURE.md shows it."""

from typing import Any

from gglib_nb.domain.values import TransitionTable


def mermaid(table: TransitionTable[Any, Any]) -> str:
    """A Mermaid state diagram, one line for each transition."""
    lines = [f"    {before} --> {after}: {cause}" for (before, cause), after in table.steps.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {table.first}", *lines]) + "\n"
