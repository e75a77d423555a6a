"""Generated repositories for tests, and a plain HTTP client for the hub that serves them.

Files ending in `.gguf` are valid GGUF of exactly the requested size, shards with their split numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gglib_nb.demo import Content, DemoFile, DemoRepository, bytes_content, file_content, noise_content
from gglib_nb.demo.content import joined_content
from gglib_nb.demo.gguf_writer import Tensor, Value, gguf_content
from gglib_nb.demo.llama import split_metadata
from tests.support.faulty_hub import FaultyHub

_SHARD_NAME = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def make_repository(repo_id: str, files: Mapping[str, bytes | int | Path | Content], **options: Any) -> DemoRepository:
    """Make a repository of bytes, sizes, files on the disk or contents; `options` are `DemoRepository`'s."""
    return DemoRepository(repo_id=repo_id, files=make_files(files), **options)


def make_files(files: Mapping[str, bytes | int | Path | Content]) -> list[DemoFile]:
    """Make the files of one commit."""
    return [DemoFile(path, _content(path, source)) for path, source in files.items()]


@lru_cache  # contents keep their digests, which cost more than most tests
def small_gguf(path: str, size_bytes: int, seed: str | None = None) -> Content:
    """Make a GGUF file of exactly `size_bytes`; a shard name adds `split.*` entries.

    Args:
        path: its name; the bytes depend on it.
        size_bytes: at least 512.
        seed: the name, if `None`.
    """
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "general.name": "small",
        "llama.block_count": 2,
        "llama.context_length": 2048,
        "llama.embedding_length": 64,
    }
    if match := _SHARD_NAME.search(path):
        number, shards = int(match[1]), int(match[2])
        metadata = (metadata if number == 1 else {}) | split_metadata(number - 1, shards, shards)
    name = f"blk.{int(match[1]) - 1 if match else 0}.weight"
    header_bytes = gguf_content(metadata, [Tensor(name, (0,), "I8")], "").size_bytes
    # The weights are padded to 32 bytes; a tail after them, which readers ignore, makes the size exact.
    padded = gguf_content(metadata, [Tensor(name, ((size_bytes - header_bytes) // 32 * 32,), "I8")], seed or path)
    tail = bytes_content(b"\0" * (size_bytes - padded.size_bytes))
    return joined_content([padded, tail])


@dataclass(frozen=True)
class Answer:
    """A response as a plain HTTP client sees it."""

    status: int
    headers: HTTPMessage
    body: bytes


def ask(url: str, method: str = "GET", headers: Mapping[str, str] | None = None, timeout_s: float = 10) -> Answer:
    """Send one request on a new connection, without following redirects, and read the whole response.

    Raises:
        http.client.IncompleteRead: the body ended before its length.
    """
    parts = urlsplit(url)
    connection = HTTPConnection("127.0.0.1", parts.port, timeout=timeout_s)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def signed_url(hub: FaultyHub, repo_id: str, path_in_repo: str) -> str:
    """Resolve a file of the branch `main` and return the URL of its bytes at the CDN."""
    return ask(f"{hub.url}/{repo_id}/resolve/main/{path_in_repo}", "HEAD").headers["Location"]


def _content(path: str, source: bytes | int | Path | Content) -> Content:
    match source:
        case bytes():
            return bytes_content(source)
        case Path():
            return file_content(source)
        case int():
            return small_gguf(path, source) if path.endswith(".gguf") and source >= 512 else noise_content(source, path)
        case Content():
            return source
