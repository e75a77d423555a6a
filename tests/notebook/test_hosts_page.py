"""The lines in docs/hosts.md and docs/colab.ipynb can be parsed; JupyterLite is refused in one line."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import TransformerManager

import gglib_nb
from gglib_nb.notebook.verbs import parse

DOCS = Path(__file__).resolve().parents[2] / "docs"
CELLS = [
    "".join(cell["source"])
    for cell in json.loads((DOCS / "colab.ipynb").read_text())["cells"]
    if cell["cell_type"] == "code"
]
PAGE = (DOCS / "hosts.md").read_text()
LINES = re.findall(r"^%gguf ?(.*)$", "\n".join([*CELLS, PAGE]), re.MULTILINE) + re.findall(r"`%gguf ([^`…]+)`", PAGE)


@pytest.mark.parametrize("line", sorted(set(LINES)))
def test_every_line_on_the_pages_can_be_parsed(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_of_the_colab_notebook_is_valid_python(cell: str) -> None:
    compile(TransformerManager().transform_cell(cell), "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_in_a_browser_kernel_the_extension_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "emscripten")

    with pytest.raises(UsageError) as refused:
        gglib_nb.load_ipython_extension(None)

    assert type(refused.value) is UsageError
    assert "\n" not in str(refused.value)
