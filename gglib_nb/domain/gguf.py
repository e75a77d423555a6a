"""Reads headers of GGUF files, versions 2 and 3, from any source of bytes, in bounded time and memory.

Follows docs/gguf.md of ggml and its reader (ggml/src/gguf.cpp). Values such as a vocabulary are counted and skipped. A
tensor's length is taken from the beginning of the next one, so that new types need no table.
"""

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any, Final

import xxhash
from msgspec import Struct, field

from gglib_nb.domain.gguf_header import CHAT_TEMPLATE, DEFAULT_ALIGNMENT, GgufHeader, Scalar
from gglib_nb.domain.values import Value
from gglib_nb.errors import GgufError

ReadBytes = Callable[[int, int], bytes]
"""Reads (offset, length); fewer bytes mean that the file ends there."""

KnownStrings = dict[int, tuple[int, bytes]]
"""Length and digest of a long array of strings, by its number: all quantizations of a model share a vocabulary."""

_LFS_POINTER: Final = b"vers"
_VERSIONS: Final = (2, 3)
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_COUNTS: Final = struct.Struct("<QQ")
_KIND_AND_U64: Final = struct.Struct("<IQ")  # an array's head, and a tensor's type and offset
# Value types by their number (enum gguf_type).
_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
_CODES: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d"}
_LAYOUTS: Final = {number: struct.Struct(f"<{code}") for number, code in _CODES.items()}
# Keys have at most 2**16 - 1 bytes by the format; tensors four dimensions in ggml (GGML_MAX_DIMS).
_LONGEST_KEY_BYTES: Final = 65_535
_MOST_DIMENSIONS: Final = 4
_DEEPEST_ARRAY: Final = 4
# Kept values: texts for display, chat templates (real ones have up to 20 KB), arrays with a value for each layer.
_LONGEST_TEXT_BYTES: Final = 4_096
_LONGEST_TEMPLATE_BYTES: Final = 256 * 1024
_LONGEST_KEPT_ARRAY: Final = 1_024
# A real header has some kilobytes of values and names. Values beyond this are skipped, names beyond it refused.
_MOST_KEPT_BYTES: Final = 2 * 1024**2
# Of all arrays together: the largest vocabularies have a quarter of a million tokens and twice as many merges.
_MOST_STRINGS: Final = 2_000_000
_MANY_STRINGS: Final = 10_000
_MOST_INNER_ARRAYS: Final = 100_000
# The fewest bytes of a key with its value and of a tensor's description. Real files describe thousands of tensors.
_SHORTEST_PAIR_BYTES: Final = 13
_SHORTEST_TENSOR_BYTES: Final = 24
_MOST_TENSORS: Final = 200_000
_MOST_VALUES: Final = 2**63 - 1  # of all tensors; ggml counts those of one in 64 bits
# The longest real headers (vocabularies of 260,000 tokens with as many merges) have some 16 MB.
_LONGEST_HEADER_BYTES: Final = 64 * 1024**2
FILE_WINDOW_BYTES: Final = 256 * 1024


class Tensor(Value, frozen=True):
    """One tensor's place in a file."""

    name: str
    type: int  # enum ggml_type
    shape: tuple[int, ...]
    offset_bytes: int  # in the file; while a header is read, in the tensors' data
    span_bytes: int = 0  # up to the next tensor, or to the end of the file: with the padding

    @property
    def parameter_count(self) -> int:
        """How many values it has."""
        return prod(self.shape)

    @property
    def end_bytes(self) -> int:
        """One past its span."""
        return self.offset_bytes + self.span_bytes


class TensorTable(Value, frozen=True):
    """The whole header of a file and the places of its tensors."""

    header: GgufHeader
    tensors: tuple[Tensor, ...]  # those with data, in the order of their offsets
    infos_start: int  # where the header begins to describe the tensors
    first_name: str  # of the tensor that it describes first; empty without any


def read_header(
    read: ReadBytes, size_bytes: int, *, limit_bytes: int | None = None, window_bytes: int = FILE_WINDOW_BYTES
) -> GgufHeader:
    """Reads the header of a GGUF file; a `GgufError` if these bytes are no header that can be read.

    `read` is called in growing order of offsets, for at least `window_bytes` at once and `limit_bytes` in all; a longer
    header is returned as far as it was read. `size_bytes` may be that of the first part of a byte split.
    """
    return _Reader(read, size_bytes, window_bytes, limit_bytes).header()


def read_tensors(
    read: ReadBytes,
    size_bytes: int,
    *,
    window_bytes: int = FILE_WINDOW_BYTES,
    known_strings: KnownStrings | None = None,
) -> TensorTable:
    """Like `read_header`, with the places of the tensors; with `known_strings` of other headers, read in any order."""
    reader = _Reader(read, size_bytes, window_bytes, known_strings=known_strings)
    header = reader.header()
    assert header.header_bytes is not None  # noqa: S101  # without a limit it was read to its end
    tensors = placed(reader.infos, header.header_bytes, size_bytes)
    return TensorTable(header, tensors, reader.infos_start, reader.infos[0].name if reader.infos else "")


def tensors_in_tail(
    tail: bytes, tail_start: int, size_bytes: int, like: TensorTable, tensor_count: int
) -> tuple[Tensor, ...] | None:
    """The tensors of a file, from the end of its header and from another file of the same model; None: not found.

    For an estimate, this saves reading the vocabulary, nearly all of a header: the first tensor's name, which a model's
    quantizations share, is looked for in `tail`, the bytes from `tail_start` on. `tensor_count` begins the file.
    """
    first = like.first_name.encode()
    found = tail.find(_U64.pack(len(first)) + first)
    if found < 0 or tensor_count * _SHORTEST_TENSOR_BYTES > len(tail):
        return None
    start = tail_start + found
    reader = _Reader(lambda at, length: tail[at - tail_start :][:length], size_bytes, len(tail), position=start)
    with suppress(GgufError):
        for _ in range(tensor_count):
            reader.tensor()
        return placed(reader.infos, _aligned(reader.position, like.header.alignment), size_bytes)
    return None


def placed(infos: Sequence[Tensor], data_start: int, size_bytes: int) -> tuple[Tensor, ...]:
    """A file's tensors with data, which begin at `data_start`; none overlaps another or ends outside the file."""
    if len({info.name for info in infos}) < len(infos):
        raise _broken("two tensors have the same name")
    held = sorted((info for info in infos if info.parameter_count), key=lambda info: info.offset_bytes)
    starts = [data_start + info.offset_bytes for info in held]
    if len(set(starts)) < len(starts):
        raise _broken("two tensors overlap")
    if starts and starts[-1] >= size_bytes:
        raise _broken("a tensor is beyond the file's end")
    return tuple(
        Tensor(info.name, info.type, info.shape, start, end - start)
        for info, start, end in zip(held, starts, [*starts[1:], size_bytes], strict=False)
    )


def _broken(what: str) -> GgufError:
    return GgufError(f"The GGUF header is broken: {what}. Download the file again.")


class _ReadLimitError(GgufError):
    """The header is longer than may be read; the part read so far is right."""


class _Reader(Struct):
    """Moves once over a header, in the format's order; jumps over skipped values and refuses impossible lengths."""

    read: ReadBytes
    size_bytes: int
    window_bytes: int
    allowance: int | None = None  # how many bytes may still be read; None: any number
    position: int = 0
    known_strings: KnownStrings | None = None
    infos: list[Tensor] = []
    infos_start: int = 0
    metadata: dict[str, Scalar] = {}
    array_lengths: dict[str, int] = {}
    layer_values: dict[str, tuple[int, ...]] = {}
    has_chat_template: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    buffer: bytes = b""
    start: int = 0  # of the buffer

    def header(self) -> GgufHeader:
        version = self._version()
        tensor_count, pair_count = self._unpack(_COUNTS)
        self._check_count(pair_count, _SHORTEST_PAIR_BYTES, "keys")
        self._check_count(tensor_count, _SHORTEST_TENSOR_BYTES, "tensors")
        parameters: int | None = None
        header_bytes: int | None = None
        with suppress(_ReadLimitError):  # the rest remains unknown, as the caller requested
            for _ in range(pair_count):
                self._pair()
            self.infos_start = self.position
            for _ in range(tensor_count):
                self.tensor()
            parameters = sum(info.parameter_count for info in self.infos)
            header_bytes = _aligned(self.position, self.metadata.get("general.alignment", DEFAULT_ALIGNMENT))
        counted = tensor_count, self.metadata, self.array_lengths, self.layer_values
        return GgufHeader(version, *counted, self.has_chat_template, parameters, header_bytes)

    def tensor(self) -> None:
        """Reads the description of one tensor."""
        name = self._name()
        (dimensions,) = self._unpack(_U32)
        if dimensions > _MOST_DIMENSIONS:
            raise _broken(f"a tensor of {dimensions} dimensions")
        shape = tuple(self._unpack(_U64)[0] for _ in range(dimensions))
        kind, offset = self._unpack(_KIND_AND_U64)
        self._count("values", prod(shape), _MOST_VALUES, "its tensors have too many values")
        self._count("names", len(name), _MOST_KEPT_BYTES, "its names are too long")
        self.infos.append(Tensor(name, kind, shape, offset))

    def _version(self) -> int:
        magic = self._take(4)
        if magic == _LFS_POINTER:
            raise GgufError("This is a Git LFS pointer, not the model itself. Download the file from the Hub.")
        if magic != b"GGUF":
            raise GgufError("This is not a GGUF file: it does not begin with GGUF.")
        (version,) = self._unpack(_U32)
        if version in _VERSIONS:
            return int(version)
        if version == 1:
            raise GgufError("This GGUF file has version 1, which current programs do not load. Use a newer conversion.")
        if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *_VERSIONS):
            raise GgufError("This GGUF file is for big-endian machines. Choose the little-endian one.")
        raise GgufError(f"This GGUF file has version {version}; versions 2 and 3 can be read. Update gglib_nb.")

    def _pair(self) -> None:
        key = self._name()
        if key in self.metadata or key in self.array_lengths:
            raise _broken(f"the key {key[:80]!r} occurs twice")
        self._count("names", len(key), _MOST_KEPT_BYTES, "its names are too long")
        (kind,) = self._unpack(_U32)
        self.has_chat_template |= key == CHAT_TEMPLATE
        if kind == _ARRAY:
            self._array(key, _DEEPEST_ARRAY)
        elif kind == _STRING:
            self._text(key, _LONGEST_TEMPLATE_BYTES if key.startswith(CHAT_TEMPLATE) else _LONGEST_TEXT_BYTES)
        else:
            (value,) = self._unpack(_layout(kind))
            self.metadata[key] = bool(value) if kind == _BOOL else value

    def _name(self) -> str:
        (length,) = self._unpack(_U64)
        if length > _LONGEST_KEY_BYTES:
            raise _broken(f"a name of {length} bytes")
        return self._take(length).decode(errors="replace")

    def _text(self, key: str, longest_bytes: int) -> None:
        (length,) = self._unpack(_U64)
        if length <= longest_bytes and self._may_keep(length):
            self.metadata[key] = self._take(length).decode(errors="replace")
        else:
            self._skip(length)

    def _array(self, key: str, depth: int) -> None:
        """Keeps the length of an array, and its values if there may be one for each layer."""
        kind, count = self._unpack(_KIND_AND_U64)
        if key:  # before the values, as the reading may end within them
            self.array_lengths[key] = count
        if kind == _STRING:
            self._count("strings", count, _MOST_STRINGS, f"it declares {count} strings")
            self._skip_strings(count)
        elif kind == _ARRAY:
            self._count("arrays", count, _MOST_INNER_ARRAYS if depth else -1, f"{key[:80]!r} nests arrays too deeply")
            self._check_count(count, _KIND_AND_U64.size, "values")
            for _ in range(count):
                self._array("", depth - 1)
        else:
            layout = _layout(kind)
            is_wanted = key and layout.format[-1] not in "fd" and count <= _LONGEST_KEPT_ARRAY
            if is_wanted and self._may_keep(count * _U64.size):
                values = struct.unpack(f"<{count}{layout.format[-1]}", self._take(count * layout.size))
                self.layer_values[key] = values
            else:
                self._skip(count * layout.size)

    def _check_count(self, count: int, shortest_bytes: int, what: str) -> None:
        if count > _MOST_TENSORS or count * shortest_bytes > self._left_bytes:
            raise _broken(f"it declares {count} {what}")

    def _count(self, what: str, amount: int, most: int, fault: str) -> None:
        self.counts[what] += amount
        if self.counts[what] > most:
            raise _broken(fault)

    def _may_keep(self, length_bytes: int) -> bool:
        self.counts["kept"] += length_bytes
        return self.counts["kept"] <= _MOST_KEPT_BYTES

    @property
    def _left_bytes(self) -> int:
        return min(self.size_bytes, _LONGEST_HEADER_BYTES) - self.position

    def _take(self, length: int) -> bytes:
        self._require(length)
        at = self.position - self.start
        self.position += length
        return self.buffer[at : at + length]

    def _unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._take(layout.size))

    def _skip(self, length: int) -> None:
        self._check(length)
        self.position += length

    def _skip_strings(self, count: int) -> None:
        """Without a call for each: a vocabulary has a quarter of a million."""
        start, left, unpack = self.position, count, _U64.unpack_from
        length, digest = (self.known_strings or {}).get(count, (0, b""))
        if length and self._digest(start, length) == digest:
            self._skip(length)
            return
        while left:
            self._require(_U64.size)
            at, last = self.position - self.start, len(self.buffer) - _U64.size
            while left and at <= last:
                at += _U64.size + unpack(self.buffer, at)[0]
                left -= 1
            self._skip(self.start + at - self.position)
        if self.known_strings is not None and count >= _MANY_STRINGS:
            length = self.position - start
            self.known_strings[count] = length, self._digest(start, length)

    def _digest(self, start: int, length: int) -> bytes:
        return xxhash.xxh3_128_digest(self.read(start, length))

    def _check(self, length: int) -> None:
        if length > self._left_bytes:
            left = max(0, self._left_bytes)
            raise _broken(f"at byte {self.position} it declares {length} more bytes and at most {left} can follow")

    def _require(self, length: int) -> None:
        self._check(length)
        if self.position + length <= self.start + len(self.buffer):
            return
        kept = self.buffer[self.position - self.start :]  # empty if a skip went beyond it
        wanted = min(max(length, self.window_bytes), self.size_bytes - self.position) - len(kept)
        if self.allowance is not None:
            wanted = min(wanted, self.allowance)
            self.allowance -= wanted
        read = self.read(self.position + len(kept), wanted) if wanted else b""
        self.buffer, self.start = kept + read, self.position
        if len(self.buffer) < length:
            if self.allowance == 0:
                raise _ReadLimitError("The GGUF header is too long to be read.")
            raise GgufError(f"The file ends inside its GGUF header, at byte {self.position + len(self.buffer)}.")


def _layout(kind: int) -> struct.Struct:
    if kind not in _LAYOUTS:
        raise _broken(f"{kind} is not a type of value")
    return _LAYOUTS[kind]


def _aligned(position: int, alignment: Scalar) -> int:
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise _broken(f"an alignment of {alignment}")
    return -(-position // alignment) * alignment
