"""GGUF files byte by byte, so that tests control the offset and content of each tensor; and related pairs of them."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

F32, I8 = 0, 24


@dataclass(frozen=True)
class Held:
    """A tensor with its bytes; its shape counts them as values of one byte, or as F32."""

    name: str
    data: bytes
    type: int = I8

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.data),) if self.type == I8 else (len(self.data) // 4,)


def gguf_bytes(tensors: Sequence[Held], *, text: str = "", alignment: int = 32, architecture: str = "llama") -> bytes:
    """A file of these tensors in this order; `text` is in its header, for a chat template of any length."""
    pairs = [_pair("general.architecture", architecture), _pair("tokenizer.chat_template", text)]
    pairs.append(_string("general.alignment") + struct.pack("<II", 4, alignment))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs)
    data = b""
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        head += _string(tensor.name) + shape + struct.pack("<IQ", tensor.type, len(data))
        data += _padded(tensor.data, alignment)
    return _padded(head, alignment) + data


def _pair(key: str, value: str) -> bytes:
    return _string(key) + struct.pack("<I", 8) + _string(value)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _padded(data: bytes, alignment: int) -> bytes:
    return data.ljust(-(-len(data) // alignment) * alignment, b"\0")


def noise(size_bytes: int, seed: int) -> bytes:
    """Bytes without repetition."""
    return random.Random(seed).randbytes(size_bytes)


@st.composite
def related_files(draw: st.DrawFn, longest_bytes: int = 3_000) -> tuple[bytes, list[bytes]]:
    """A wanted file and one to three donors: its tensors moved, renamed, resized, of another type, equal, or changed inside."""
    sizes = draw(st.lists(st.integers(0, longest_bytes // 4).map(lambda one: one * 4), min_size=1, max_size=12))
    wanted = [Held(f"blk.{index}.weight", noise(size, index)) for index, size in enumerate(sizes)]
    donors = []
    for number in range(draw(st.integers(1, 3))):
        tensors = [_changed(draw, tensor, number) for tensor in wanted]
        donors.append(_file(draw, draw(st.permutations([one for one in tensors if one is not None]))))
    return _file(draw, wanted), donors


def _changed(draw: st.DrawFn, tensor: Held, number: int) -> Held | None:
    match draw(st.sampled_from(["equal", "equal", "equal", "renamed", "resized", "retyped", "byte", "other", "gone"])):
        case "renamed":
            return replace(tensor, name=f"{tensor.name}.{number}")
        case "resized":
            return replace(tensor, data=tensor.data + b"more")
        case "retyped":
            return replace(tensor, type=F32)
        case "byte" if tensor.data:
            at = draw(st.integers(0, len(tensor.data) - 1))
            return replace(tensor, data=tensor.data[:at] + bytes([tensor.data[at] ^ 1]) + tensor.data[at + 1 :])
        case "other":
            return replace(tensor, data=noise(len(tensor.data), number + 1_000))
        case "gone":
            return None
        case _:
            return tensor


def _file(draw: st.DrawFn, tensors: Sequence[Held]) -> bytes:
    text, alignment = "x" * draw(st.integers(0, 200)), draw(st.sampled_from([8, 32, 64]))
    content = gguf_bytes(tensors, text=text, alignment=alignment)
    return content + b"tail" * draw(st.integers(0, 3))
