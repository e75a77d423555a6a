"""ARCHITECTURE.md and CONTRIBUTING.md match the code: the diagram, the modules, and where each name is defined."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.diagrams import mermaid

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PAGES = PAGE + (ROOT / "CONTRIBUTING.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PLACES = re.findall(r"`(\w+(?:\.\w+)?)` in (?:one of )?`([\w./]+)`", PAGES)


def table_after(heading: str) -> list[str]:
    """The first cells of the rows of the first table after a heading."""
    lines = PAGE.partition(f"## {heading}\n")[2].splitlines()
    return [line.split("|")[1] for line in lines if line.startswith("| `")]


def layers(name: str) -> list[set[str]]:
    rows = next(one["layers"] for one in CONTRACTS if one["name"] == name)
    return [set(re.findall(r"\w+", row)) for row in rows]


def test_the_state_diagram_matches_the_transition_table() -> None:
    assert mermaid() in re.findall(r"```mermaid\n(stateDiagram-v2\n.*?)```", PAGE, re.DOTALL)


def test_every_file_that_architecture_names_exists() -> None:
    named = set(re.findall(r"`((?:gglib_nb|tests|tools|notebooks|benchmarks)/[\w./]+)`", PAGES))

    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize(("name", "place"), PLACES)
def test_a_name_is_defined_in_the_file_that_the_page_says(name: str, place: str) -> None:
    source = (ROOT / (place if "/" in place else f"gglib_nb/engine/{place}.py")).read_text()

    for one in name.split("."):
        assert re.search(rf"(?:class|def) {one}\b|^{one}: Final", source, re.MULTILINE), f"{one} is not in {place}"


def test_the_questions_of_the_engine_name_what_answers_them() -> None:
    assert len(PLACES) >= 6


def test_the_table_of_the_engine_lists_its_modules_from_top_to_bottom() -> None:
    order = [re.findall(r"`(\w+)`", row) for row in table_after("The engine")]
    names = [name for row in order for name in row]
    rank = {name: at for at, row in enumerate(layers("layers of the engine")) for name in row}

    assert sorted(names) == sorted(set(rank) - {"__main__"})
    assert all(max(rank[one] for one in row) <= min(rank[one] for one in below) for row, below in pairwise(order)), (
        "a module is below one that imports it"
    )
