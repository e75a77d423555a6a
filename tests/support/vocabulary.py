"""GGUF files with the header of a large model: a quarter of a million tokens, and dummy weights."""

import struct
from functools import cache
from typing import Literal

from gglib_nb.demo import Content, bytes_content, noise_content
from gglib_nb.demo.content import joined_content

TOKENS = 250_000
# As llama.cpp has it for Qwen 2.5 7B.
SHAPE: dict[str, int] = {
    "qwen2.block_count": 28,
    "qwen2.context_length": 32_768,
    "qwen2.embedding_length": 3584,
    "qwen2.attention.head_count": 28,
    "qwen2.attention.head_count_kv": 4,
}
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9


def large_gguf(name: str, size_bytes: int, shape: Literal["first", "around", "last"] = "first") -> Content:
    """A file of that size with that header.

    Args:
        name: The weights depend on it.
        size_bytes: Of the whole; 7 MB at least.
        shape: Whether the model's shape is before the vocabulary, as converters write it, on both sides or after it.
    """
    own = [_text("general.architecture") + _typed(_STRING, _text("qwen2"))]
    own += [_text(key) + _typed(_UINT32, struct.pack("<I", value)) for key, value in SHAPE.items()]
    before = {"first": own, "around": own[-2::-1], "last": []}[shape]
    pairs = [*before, *_vocabulary(), *(pair for pair in own if pair not in before)]
    header = bytes_content(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))
    return joined_content([header, noise_content(size_bytes - header.size_bytes, name)])


@cache
def _vocabulary() -> tuple[bytes, ...]:
    """Tokens, scores and types: 6 MB."""
    tokens = b"".join(_text(f"token {number:x}") for number in range(TOKENS))
    return (
        _array("tokenizer.ggml.tokens", _STRING, tokens),
        _array("tokenizer.ggml.scores", _FLOAT32, bytes(4 * TOKENS)),
        _array("tokenizer.ggml.token_type", _INT32, bytes(4 * TOKENS)),
    )


def _array(key: str, kind: int, values: bytes) -> bytes:
    return _text(key) + _typed(_ARRAY, struct.pack("<IQ", kind, TOKENS) + values)


def _typed(kind: int, value: bytes) -> bytes:
    return struct.pack("<I", kind) + value


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
