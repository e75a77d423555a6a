"""The documentation is complete: its pages list everything that the code offers, and every link is valid."""

import re
import tomllib
from pathlib import Path

import pytest

import gglib_nb
from gglib_nb.settings import SETTINGS
from tools.pages import PAGES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VARIABLES = {one.partition("/")[0] for setting in SETTINGS.values() for one in setting.variables}


def package_names(requirements: list[str]) -> list[str]:
    return [re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements]


@pytest.mark.parametrize("page", ["verbs.md", "settings.md", "python.md"])
def test_a_generated_page_is_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run: make docs"


@pytest.mark.parametrize("name", sorted(set(gglib_nb.__all__) - {"load_ipython_extension", "unload_ipython_extension"}))
def test_the_reference_lists_every_public_name(name: str) -> None:
    assert re.search(rf"(?:#+ |- `){name}\b", (DOCS / "python.md").read_text()), "run: make docs"


@pytest.mark.parametrize("name", sorted({*VARIABLES, "GGLIB_CONFIG_DIR", "GGLIB_HOST"}))
def test_the_settings_page_lists_every_environment_variable(name: str) -> None:
    assert f"`{name}`" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize(
    "name", package_names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"][1:]])
)
def test_every_dependency_has_a_reason(name: str) -> None:
    assert f"`{name}`" in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        *sorted(f"docs/{one.name}" for one in DOCS.glob("*.md")),
    ],
)
def test_every_link_to_a_file_is_valid(page: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text())

    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize(("page", "lines"), [("README.md", 110), ("ARCHITECTURE.md", 150), ("CONTRIBUTING.md", 120)])
def test_a_page_does_not_exceed_its_line_limit(page: str, lines: int) -> None:
    assert len((ROOT / page).read_text().splitlines()) <= lines


def test_troubleshooting_quotes_what_users_see() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gglib_nb").rglob("*.py"))
    lines = (DOCS / "troubleshooting.md").read_text().splitlines()
    first = [line.split("|")[1] for line in lines if line.startswith("| ")]
    quoted = [part.strip() for cell in first for text in re.findall(r"`([^`]+)`", cell) for part in text.split("...")]

    assert [part for part in quoted if part not in sources] == []
