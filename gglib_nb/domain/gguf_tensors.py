"""The places of the tensors in a GGUF file, checked: no two overlap, and none is outside of the file.

A tensor's length is taken from the beginning of the next one, not from its type, so that new types need no table. Its
span includes the padding after it.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.values import Value
from gglib_nb.errors import GgufError


def broken(what: str) -> GgufError:
    """The error of a header that cannot be; `what` is a clause without its full stop."""
    return GgufError(f"The GGUF header is broken: {what}. Download the file again.")


class TensorInfo(NamedTuple):
    """A tensor as the header describes it; `offset` counts from the beginning of all tensors' data."""

    name: str
    type: int
    shape: tuple[int, ...]
    offset: int

    @property
    def parameters(self) -> int:
        """How many values it has."""
        return prod(self.shape)


class Tensor(Value, frozen=True):
    """One tensor's place in a file."""

    name: str
    type: int  # enum ggml_type
    shape: tuple[int, ...]
    offset_bytes: int  # in the file
    span_bytes: int  # up to the next tensor, or to the end of the file

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

    @property
    def data_bytes(self) -> int:
        """All spans together."""
        return sum(tensor.span_bytes for tensor in self.tensors)


def placed(infos: Sequence[TensorInfo], data_start: int, size_bytes: int) -> tuple[Tensor, ...]:
    """The tensors with data of a file of `size_bytes` whose data begin at `data_start`.

    Raises:
        GgufError: Two have the same name or place, or one is beyond the file's end.
    """
    if len({info.name for info in infos}) < len(infos):
        raise broken("two tensors have the same name")
    held = sorted((info for info in infos if info.parameters), key=lambda info: info.offset)
    starts = [data_start + info.offset for info in held]
    if len(set(starts)) < len(starts):
        raise broken("two tensors overlap")
    if starts and starts[-1] >= size_bytes:
        raise broken("a tensor is beyond the file's end")
    ends = [*starts[1:], size_bytes][: len(starts)]
    return tuple(
        Tensor(info.name, info.type, info.shape, start, end - start)
        for info, start, end in zip(held, starts, ends, strict=True)
    )
