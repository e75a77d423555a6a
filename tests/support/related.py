"""Repositories whose files share tensors, like the quantizations, splits and commits of a real model."""

from pathlib import Path
from typing import Any

from gglib_nb.demo import Content, DemoRepository
from gglib_nb.demo.llama import Llama
from gglib_nb.domain.gguf import TensorTable, read_tensors
from gglib_nb.domain.gguf_reuse import ReuseLimits
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_files, make_repository

RELATED = "demo/related-GGUF"
Q4_K_M, Q4_K_S, Q8_0 = (f"related-{label}.gguf" for label in ("Q4_K_M", "Q4_K_S", "Q8_0"))
SPLIT = [f"split/related-Q4_K_M-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
# The files of `related_files` have some 15 MB.
SMALL = ReuseLimits(least_gain_bytes=1_000_000)


def related_files(**llama: Any) -> dict[str, Content]:
    """Three quantizations of one model, and one of them split in three; `llama` are `Llama`'s fields."""
    model = Llama("Related Llama", **llama)
    files = {f"related-{label}.gguf": model.whole(label) for label in ("Q4_K_M", "Q4_K_S", "Q8_0")}
    return files | dict(zip(SPLIT, model.split("Q4_K_M", 3), strict=True))


def related_repository(**llama: Any) -> DemoRepository:
    """A repository of `related_files`; `move_to` makes another commit of it."""
    return make_repository(RELATED, related_files(**llama))


def move_to(hub: FaultyHub, **llama: Any) -> str:
    """Move the branch `main` to a commit with other files, such as `chat_template="..."` or `training="more"`."""
    return hub.move_branch(RELATED, "main", make_files(related_files(**llama)))


def content_of(hub: FaultyHub, path: str, repo_id: str = RELATED) -> Content:
    """A file of the branch `main`."""
    commit = hub.repositories[repo_id].commit()
    assert commit is not None
    return commit.files[path].content


def place(hub: FaultyHub, folder: Path, path: str, repo_id: str = RELATED) -> Path:
    """Store a file of the branch `main` on disk, as if it had been downloaded."""
    target = folder / repo_id / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for piece in content_of(hub, path, repo_id).slices():
            file.write(piece)
    return target


def table_of(content: Content) -> TensorTable:
    """The offsets of its tensors."""

    def read(offset: int, length: int) -> bytes:
        pieces = bytearray()
        while length > len(pieces) and (piece := content.read(offset + len(pieces), length - len(pieces))):
            pieces += piece
        return bytes(pieces)

    return read_tensors(read, content.size_bytes)
