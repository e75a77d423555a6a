"""ARCHITECTURE.md matches the code: its diagram shows the table of the queue."""

import re
from pathlib import Path

from tests.support.diagrams import mermaid

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_state_diagram_matches_the_transition_table() -> None:
    assert mermaid() in re.findall(r"```mermaid\n(stateDiagram-v2\n.*?)```", PAGE, re.DOTALL)


def test_every_file_that_architecture_names_exists() -> None:
    pages = PAGE + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:gglib_nb|tests|tools|notebooks|benchmarks)/[\w./]+)`", pages))

    assert sorted(name for name in named if not (ROOT / name).exists()) == []
