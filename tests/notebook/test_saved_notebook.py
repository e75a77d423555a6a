"""A notebook that was run and saved says what happened, wherever it is read without a kernel."""

import os

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from gglib_nb.demo import DemoHub
from tests.support.environment import isolated
from tests.support.hub import make_repository

CELLS = (
    "%load_ext gglib_nb",
    "%gguf queue demo/split-GGUF",
    "%gguf wait",
    "%gguf",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook after its run, as it would be on the disk."""
    shards = {f"Q4_K_M/split-Q4_K_M-{number:05}-of-00003.gguf": 100_000 for number in (1, 2, 3)}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    with DemoHub([make_repository("demo/split-GGUF", shards)]) as hub:
        client.execute(env=isolated(os.environ, tmp_path_factory.mktemp("kernel"), hub.url))
    read: nbformat.NotebookNode = nbformat.reads(nbformat.writes(notebook), as_version=4)
    return read


def test_the_panel_s_output_is_a_page_a_text_and_a_widget_in_one(saved: nbformat.NotebookNode) -> None:
    (output,) = [out for out in saved.cells[-1].outputs if out.output_type != "stream"]

    assert set(output.data) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert "demo/split-GGUF:Q4_K_M" in output.data["text/plain"]
    assert "demo/split-GGUF:Q4_K_M" in output.data["text/html"]


@pytest.mark.slow
@pytest.mark.parametrize("exporter", [HTMLExporter(exclude_input=True), MarkdownExporter(exclude_input=True)])
def test_nbconvert_shows_the_download_in_words(
    saved: nbformat.NotebookNode, exporter: HTMLExporter | MarkdownExporter
) -> None:
    page, _ = exporter.from_notebook_node(saved)

    assert "demo/split-GGUF:Q4_K_M" in page
    assert "SHA-256 verified" in page
    assert "model not found" not in page.lower()
