"""One valid GGUF file, and the same cut into raw pieces as publishers do."""

from collections.abc import Sequence

from tests.support.hub import small_gguf


def gguf_bytes(name: str = "m-Q8_0.gguf", size_bytes: int = 200_000) -> bytes:
    """A valid GGUF file in memory; the bytes depend on the name."""
    return b"".join(small_gguf(name, size_bytes).slices())


def cut(whole: bytes, paths: Sequence[str]) -> dict[str, bytes]:
    """The pieces of a file by path, in this order, of different lengths."""
    edges = [len(whole) * (number**2) // len(paths) ** 2 for number in range(len(paths) + 1)]
    return {path: whole[edges[index] : edges[index + 1]] for index, path in enumerate(paths)}
