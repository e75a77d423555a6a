"""A saved notebook shows what happened wherever it is read without a kernel."""

import os

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

SHARDS = {f"Q4_K_M/split-Q4_K_M-{number:05}-of-00003.gguf": 1_000_000 for number in (1, 2, 3)}
WAYS = {
    "the magic": ("%gguf", "%gguf wait"),
    "a value": ("gglib_nb.Panel(gglib_nb.get_manager())", "path = await gglib_nb.download('demo/split-GGUF')"),
}


@pytest.fixture(scope="module", params=[pytest.param("the magic"), pytest.param("a value", marks=pytest.mark.slow)])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The saved notebook that shows the panel during a download, waits for the download and shows the panel again."""
    start = "import gglib_nb\n%load_ext gglib_nb\n%gguf queue demo/split-GGUF"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (start, *WAYS[request.param], "%gguf")]
    )
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    with FaultyHub([make_repository("demo/split-GGUF", SHARDS)]) as hub:
        hub.set_speed(2_000_000)
        client.execute(env=isolated(os.environ, tmp_path_factory.mktemp("kernel"), hub.url))
    read: nbformat.NotebookNode = nbformat.reads(nbformat.writes(notebook), as_version=4)
    return read


@pytest.mark.parametrize("cell", [1, 3], ids=["shown on the way", "shown at the end"])
def test_a_saved_panel_shows_the_outcome_as_text_and_html(saved: nbformat.NotebookNode, cell: int) -> None:
    (output,) = [out for out in saved.cells[cell].outputs if out.output_type != "stream"]

    assert set(output.data) == {"text/plain", "text/html"}
    for text in output.data.values():
        assert "demo/split-GGUF:Q4_K_M" in text
        assert "SHA-256 verified" in text
        assert "1 model complete" in text
        assert "downloading" not in text


@pytest.mark.slow
@pytest.mark.parametrize("cell", [1, 3], ids=["shown on the way", "shown at the end"])
@pytest.mark.parametrize("exporter", [HTMLExporter(exclude_input=True), MarkdownExporter(exclude_input=True)])
def test_nbconvert_shows_the_download_as_text(
    saved: nbformat.NotebookNode, exporter: HTMLExporter | MarkdownExporter, cell: int
) -> None:
    alone = nbformat.v4.new_notebook(cells=[saved.cells[cell]], metadata=saved.metadata)

    page, _ = exporter.from_notebook_node(alone)

    assert "demo/split-GGUF:Q4_K_M" in page
    assert "SHA-256 verified" in page
    assert "model not found" not in page.lower()
