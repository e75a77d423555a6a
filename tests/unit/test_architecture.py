"""ARCHITECTURE.md cannot drift from the code: its picture of the queue is the transition table, drawn."""

import re
from pathlib import Path

from gglib_nb.queue.transitions import as_mermaid

PAGE = (Path(__file__).resolve().parents[2] / "ARCHITECTURE.md").read_text()


def test_the_drawn_states_are_those_of_the_transition_table() -> None:
    block = re.search(r"```mermaid\n(stateDiagram-v2\n.*?)```", PAGE, re.DOTALL)

    assert block is not None
    assert block[1] == as_mermaid()


def test_every_file_it_names_is_there() -> None:
    root = Path(__file__).resolve().parents[2]
    named = set(re.findall(r"`((?:gglib_nb|tests|tools|notebooks|benchmarks)/[\w./]+)`", PAGE))

    assert sorted(name for name in named if not (root / name).exists()) == []
