"""A file that is something else than its name suggests: its header is known after the download, and the row says it."""

import pytest

from gglib_nb import DownloadManager
from gglib_nb.demo.gguf_writer import Tensor, gguf_content
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

REPO = "demo/other-GGUF"
TENSORS = [Tensor("v.blk.0.weight", (32, 8), "F32")]
PROJECTOR = gguf_content({"general.architecture": "clip", "general.type": "mmproj"}, TENSORS, "one")
ADAPTER = gguf_content({"general.architecture": "llama", "general.type": "adapter"}, TENSORS, "two")


def row_of(manager: DownloadManager, hub: FaultyHub, name: str, content: object) -> str:
    hub.add_repository(make_repository(REPO, {name: content}))
    manager.sync.download(REPO, name)
    return parse("status").run(Session(lambda: manager)).text


@pytest.mark.parametrize(
    ("content", "words"),
    [(PROJECTOR, "a companion file (mmproj), not a model"), (ADAPTER, "a companion file (adapter), not a model")],
    ids=["projector", "adapter"],
)
def test_a_file_that_is_no_model_by_its_header_is_named(
    manager: DownloadManager, hub: FaultyHub, content: object, words: str
) -> None:
    text = row_of(manager, hub, "other-Q4_K_M.gguf", content)

    assert words in " ".join(text.split())


def test_a_projector_named_as_one_has_no_note(manager: DownloadManager, hub: FaultyHub) -> None:
    assert "not a model" not in row_of(manager, hub, "mmproj-other-F16.gguf", PROJECTOR)


def test_the_line_for_llama_server_has_the_projector_downloaded_with_the_model(manager: DownloadManager) -> None:
    path = manager.sync.download("demo/vision-GGUF", companions=("mmproj",))

    line = parse("path vision --for llama-server").run(Session(lambda: manager)).text

    assert f"llama-server -m {path} --mmproj {path.with_name('mmproj-vision-F16.gguf')}" in line
