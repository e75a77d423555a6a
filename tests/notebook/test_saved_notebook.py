"""A notebook that was run and saved says what happened, wherever it is read without a kernel."""

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from gglib_nb.demo import DemoHub, DemoRepository
from tests.support.environment import isolated

CELLS = (
    "%load_ext gglib_nb",
    "%gguf queue demo/split-GGUF",
    "%gguf wait",
    "%gguf",
)


@pytest.fixture
def saved(
    make_hub: Callable[..., DemoHub], small_repositories: list[DemoRepository], tmp_path: Path
) -> nbformat.NotebookNode:
    """The notebook after its run, as it would be on the disk."""
    hub = make_hub(small_repositories)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    client.execute(env=isolated(os.environ, tmp_path, hub.url))
    read: nbformat.NotebookNode = nbformat.reads(nbformat.writes(notebook), as_version=4)
    return read


def test_the_panel_s_output_is_a_page_a_text_and_a_widget_in_one(saved: nbformat.NotebookNode) -> None:
    (output,) = [out for out in saved.cells[-1].outputs if out.output_type != "stream"]

    assert set(output.data) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert "demo/split-GGUF:Q4_K_M" in output.data["text/plain"]
    assert "demo/split-GGUF:Q4_K_M" in output.data["text/html"]


@pytest.mark.parametrize("exporter", [HTMLExporter(exclude_input=True), MarkdownExporter(exclude_input=True)])
def test_nbconvert_shows_the_download_in_words(
    saved: nbformat.NotebookNode, exporter: HTMLExporter | MarkdownExporter
) -> None:
    page, _ = exporter.from_notebook_node(saved)

    assert "demo/split-GGUF:Q4_K_M" in page
    assert "SHA-256 verified" in page
    assert "model not found" not in page.lower()
