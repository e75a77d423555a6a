"""The README cannot forget: every verb, option, setting, variable and dependency of the code stands in it."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from gglib_nb.settings import SETTINGS, DownloadManagerConfig
from tools.pages import PAGES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text().replace(r"\|", "|")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VARIABLES = {one.partition("/")[0] for setting in SETTINGS.values() for one in setting.variables}


def package_names(requirements: list[str]) -> list[str]:
    return [re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements]


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_what_the_code_says(page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == PAGES[page](), "run: python tools/pages.py"


@pytest.mark.parametrize("name", [field.name for field in fields(DownloadManagerConfig)])
def test_the_readme_names_each_setting(name: str) -> None:
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("name", sorted({*VARIABLES, "GGLIB_CONFIG_DIR", "GGLIB_HOST"}))
def test_the_readme_names_each_environment_variable(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", package_names(PROJECT["dependencies"]))
def test_the_readme_gives_a_reason_for_each_dependency(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", package_names(PROJECT["optional-dependencies"]["dev"])[1:])
def test_the_readme_names_each_tool_of_development(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text())

    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(("page", "lines"), [("ARCHITECTURE.md", 150), ("CONTRIBUTING.md", 100)])
def test_a_page_stays_short_enough_to_be_read(page: str, lines: int) -> None:
    assert len((ROOT / page).read_text().splitlines()) <= lines
