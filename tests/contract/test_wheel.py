"""The wheel contains the page's files and the typing marker, and no tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths inside a wheel built from this checkout, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    "path",
    [
        "gglib_nb/py.typed",
        "gglib_nb/notebook/static/panel.js",
        "gglib_nb/notebook/static/panel.css",
        "gglib_nb/engine/main.py",
        "gglib_nb/demo/__main__.py",
    ],
)
def test_the_wheel_contains_the_file(wheel_names: set[str], path: str) -> None:
    assert path in wheel_names


def test_the_wheel_contains_every_file_of_the_package(wheel_names: set[str]) -> None:
    files = (path for path in (ROOT / "gglib_nb").rglob("*") if path.is_file() and path.parent.name != "__pycache__")

    assert {path.relative_to(ROOT).as_posix() for path in files} - wheel_names == set()


def test_the_wheel_contains_the_licence(wheel_names: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel_names)


def test_the_wheel_contains_nothing_but_the_package(wheel_names: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name} == {"gglib_nb"}
