"""Completion in a real kernel, as JupyterLab requests it, and in a terminal shell: only useful names are offered."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gglib_nb
from gglib_nb.notebook.verbs import VERBS
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.kernel import Kernel

MODULE = """
from IPython.core.completer import provisionalcompleter
from IPython.terminal.interactiveshell import TerminalInteractiveShell

shell = TerminalInteractiveShell.instance(term_title=False)
shell.run_cell("import gglib_nb", silent=True)
with provisionalcompleter():
    print(*sorted(one.text for one in shell.Completer.completions("gglib_nb.", len("gglib_nb."))))
"""
OF_IDS = [name for name, verb in VERBS.items() if verb.arguments and verb.arguments[0].name == "ID"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with an empty queue, in a folder with files and a folder."""
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "notes.txt").touch()
    (folder / "old models").mkdir()
    (folder / "downloaded" / "more").mkdir(parents=True)
    with (
        FaultyHub([make_repository("demo/small", {"small-Q4_K_M.gguf": 1000})]) as hub,
        Kernel(folder, hub.url) as kernel,
    ):
        kernel.run("import gglib_nb\n%load_ext gglib_nb\n%gguf status")
        yield kernel


def test_completion_on_the_module_offers_exactly_the_exported_names(kernel: Kernel) -> None:
    assert sorted(kernel.completions("gglib_nb.")) == sorted(gglib_nb.__all__)
    assert kernel.completions("gglib_nb.__v") == ["__version__"]


def test_in_a_terminal_completion_on_the_module_offers_the_same(tmp_path: Path) -> None:
    environment = isolated(os.environ, tmp_path, "http://127.0.0.1:9")

    printed = subprocess.run(
        [sys.executable, "-c", MODULE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout

    assert printed.split() == sorted(gglib_nb.__all__)


@pytest.mark.parametrize("verb", OF_IDS)
def test_completion_without_matches_offers_no_local_files(kernel: Kernel, verb: str) -> None:
    options = [text for text in kernel.completions(f"%gguf {verb} ") if not text.startswith("--")]

    assert options == []
    assert kernel.completions(f"%gguf {verb} no") == []


def test_other_lines_still_complete_files(kernel: Kernel) -> None:
    assert "notes.txt" in kernel.completions("open('no")


def test_a_folder_argument_completes_folders(kernel: Kernel) -> None:
    assert kernel.completions("%gguf import ") == ["downloaded/", "ipython/", "state/"]
    assert kernel.completions("%gguf import downloaded/") == ["downloaded/more/"]
    assert kernel.completions("%gguf config models_directory d") == ["downloaded/"]
