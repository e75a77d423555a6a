"""Draws the table of transitions as ARCHITECTURE.md shows it."""

from gglib_nb.queue.transitions import TRANSITIONS


def mermaid() -> str:
    """A Mermaid state diagram, one line for each transition."""
    lines = [f"    {before} --> {after}: {cause}" for (before, cause), after in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> queued", *lines]) + "\n"
