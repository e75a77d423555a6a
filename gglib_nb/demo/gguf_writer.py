"""Writes GGUF files, version 3: a real header, followed by generated weights.

The format is that of `docs/gguf.md` in ggml; the `gguf` package can read the files. Nothing is
written to a disk: a file is a `Content` whose weights are generated when they are read. Knows no models.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gglib_nb.demo.content import Content, bytes_content, joined_content, noise_content

ALIGNMENT_BYTES = 32


class U16(int):
    """An integer that is written as uint16."""


class I32(int):
    """An integer that is written as int32."""


Scalar = bool | U16 | I32 | int | float | str
Value = Scalar | Sequence[Scalar]

TensorType = Literal["F32", "F16", "Q4_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "I8"]

# ggml's number of the type, values per block, bytes per block.
_TENSOR_TYPES: Mapping[TensorType, tuple[int, int, int]] = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "I8": (24, 1, 1),
}
# Number and format of the value types, by the Python type; the most specific come first.
_VALUE_TYPES: Sequence[tuple[type, int, str]] = (
    (bool, 7, "<?"),
    (U16, 2, "<H"),
    (I32, 5, "<i"),
    (int, 4, "<I"),
    (float, 6, "<f"),
)
_STRING_TYPE, _ARRAY_TYPE = 8, 9


@dataclass(frozen=True)
class Tensor:
    """A tensor with its dimensions, the fastest running first; its values are noise."""

    name: str
    dimensions: tuple[int, ...]
    type: TensorType

    @property
    def values(self) -> int:
        """How many values it has."""
        return math.prod(self.dimensions)

    @property
    def size_bytes(self) -> int:
        """Bytes its blocks take, without padding."""
        _, block_values, block_bytes = _TENSOR_TYPES[self.type]
        return self.values // block_values * block_bytes


def gguf_content(metadata: Mapping[str, Value], tensors: Sequence[Tensor], seed: str) -> Content:
    """Make a GGUF file.

    Args:
        metadata: keys and values of the header; `int` is written as uint32, `float` as float32.
        tensors: its tensors, in order.
        seed: files with another seed have other weights. With the same seed a tensor of one name and type is the same
            in all of them, as in quantizations made from one source.
    """
    infos, weights, offset = [], [], 0
    for tensor in tensors:
        infos.append(_tensor_info(tensor, offset))
        weights.append(noise_content(_aligned(tensor.size_bytes), f"{seed} {tensor.name} {tensor.type}"))
        offset += weights[-1].size_bytes
    parts = [b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [_string(key) + _typed(value) for key, value in metadata.items()]
    header = b"".join(parts + infos)
    header = header.ljust(_aligned(len(header)), b"\0")
    return joined_content([bytes_content(header), *weights])


def _tensor_info(tensor: Tensor, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(tensor.dimensions)}Q", len(tensor.dimensions), *tensor.dimensions)
    return _string(tensor.name) + dimensions + struct.pack("<IQ", _TENSOR_TYPES[tensor.type][0], offset)


def _typed(value: Value) -> bytes:
    """A value preceded by the number of its type; an array takes its type from its first element."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        number, data = _scalar(value)
        return struct.pack("<I", number) + data
    encoded = [_scalar(element) for element in value]
    return struct.pack("<IIQ", _ARRAY_TYPE, encoded[0][0], len(encoded)) + b"".join(data for _, data in encoded)


def _scalar(value: Scalar) -> tuple[int, bytes]:
    if isinstance(value, str):
        return _STRING_TYPE, _string(value)
    for kind, number, layout in _VALUE_TYPES:
        if isinstance(value, kind):
            return number, struct.pack(layout, value)
    raise TypeError(f"GGUF has no type for {value!r}; use bool, int, float, str or a list of one of them.")


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
