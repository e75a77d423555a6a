"""Where the tensors of a GGUF file are, as a value that can be trusted: no two at one place, none outside of the file.

How long a tensor is is taken from where the next one begins, not from its type: types of tomorrow need no table then.
So its span holds the padding behind it. The bytes are read in `gglib_nb.domain.gguf`.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.values import Value
from gglib_nb.errors import GgufError


class TensorInfo(NamedTuple):
    """A tensor as the header describes it; `offset` counts from the beginning of the tensors' data."""

    name: str
    type: int
    shape: tuple[int, ...]
    offset: int

    @property
    def parameters(self) -> int:
        """How many values it has."""
        return prod(self.shape)


class Tensor(Value, frozen=True):
    """One tensor's place in a file.

    Attributes:
        name: As in the header.
        type: Number of its type (enum ggml_type).
        shape: Its dimensions, the fastest running first.
        offset_bytes: Of its first byte in the file.
        span_bytes: Up to the next tensor, or to the end of the file: its data and the padding behind them.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    offset_bytes: int
    span_bytes: int

    @property
    def parameter_count(self) -> int:
        """How many values it has."""
        return prod(self.shape)

    @property
    def end_bytes(self) -> int:
        """One past its span."""
        return self.offset_bytes + self.span_bytes


class TensorTable(Value, frozen=True):
    """The header of a file and where its tensors are.

    Attributes:
        header: The header, read to its end.
        tensors: Those with data, in the order of their offsets.
        infos_start: Offset at which the header begins to describe the tensors.
        first_name: Name of the tensor that it describes first; empty without any.
    """

    header: GgufHeader
    tensors: tuple[Tensor, ...]
    infos_start: int
    first_name: str

    @property
    def data_bytes(self) -> int:
        """All spans together."""
        return sum(tensor.span_bytes for tensor in self.tensors)


def placed(infos: Sequence[TensorInfo], data_start: int, size_bytes: int) -> tuple[Tensor, ...]:
    """The tensors of a file of that size whose data begin there, those without data left out.

    Raises:
        GgufError: Two have one name or one place, or one is beyond the file's end.
    """
    if len({info.name for info in infos}) < len(infos):
        raise GgufError("The GGUF header is broken: two tensors have the same name. Download the file again.")
    held = sorted((info for info in infos if info.parameters), key=lambda info: info.offset)
    starts = [data_start + info.offset for info in held]
    if len(set(starts)) < len(starts):
        raise GgufError("The GGUF header is broken: two tensors overlap. Download the file again.")
    if starts and starts[-1] >= size_bytes:
        raise GgufError("The GGUF header is broken: a tensor is beyond the file's end. Download the file again.")
    ends = [*starts[1:], size_bytes][: len(starts)]
    return tuple(
        Tensor(info.name, info.type, info.shape, start, end - start)
        for info, start, end in zip(held, starts, ends, strict=True)
    )
