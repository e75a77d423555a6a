"""The contents of a GGUF file for display, and how two files differ."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

from gglib_nb.domain.gguf import TensorTable
from gglib_nb.domain.gguf_header import Keys, Scalar, introspection, is_template
from gglib_nb.domain.text import printable
from gglib_nb.domain.units import figure, plural
from gglib_nb.domain.values import Value

_LONGEST_SHOWN_TEXT: Final = 300
# Real templates have hundreds of lines; comparing takes quadratic time.
_MOST_DIFF_LINES: Final = 4_000
# enum ggml_type in ggml/include/ggml.h; numbers that are missing were removed there.
_TENSOR_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip


class TensorGroup(Value, frozen=True):
    """The tensors of one type in ggml, such as `Q4_K`, or `type 99` for an unknown number; bytes include padding."""

    type: str
    tensor_count: int
    parameter_count: int
    size_bytes: int

    @property
    def bits_per_weight(self) -> float | None:
        """Mean bits of one value; None without values."""
        return self.size_bytes * 8 / self.parameter_count if self.parameter_count else None


class Inspection(Keys, Value, frozen=True):
    """The contents of the header of a model; of a split model, scalars and arrays of its first shard, tensors of all.

    Every text in it comes from the file as it is: escape it before showing it.

    Attributes:
        name: The model's id, or repository and file.
        path: Its first file on this machine; None: it is only on the Hub.
        metadata: Every scalar, texts up to 4 KiB.
        chat_templates: By name; the default template's name is empty.
        has_chat_template: Whether there is a default template, even one that is too long to keep.
        tensors: By type, the type with the most bytes first.
    """

    name: str
    path: str | None
    size_bytes: int
    metadata: Mapping[str, Scalar]
    array_lengths: Mapping[str, int]
    chat_templates: Mapping[str, str]
    has_chat_template: bool
    tensors: tuple[TensorGroup, ...]

    @property
    def title(self) -> str | None:
        """The model's name as its converter wrote it."""
        return self.text("general.name")

    @property
    def licence(self) -> str | None:
        """Identifier or name of the licence."""
        return self.text("general.license") or self.text("general.license.name")

    @property
    def base_models(self) -> tuple[str, ...]:
        """Repositories or names of the models it was made from."""
        count = self.number("general.base_model.count")
        keys = [f"general.base_model.{number}" for number in range(1 if count is None else min(count, 16))]
        return tuple(filter(None, (self.text(f"{key}.repo_url") or self.text(f"{key}.name") for key in keys)))

    @property
    def lines(self) -> dict[str, str]:
        """Every key, with its value or the length of its array as one printable line."""
        arrays = {key: plural(count, "value") for key, count in self.array_lengths.items()}
        return {**{key: shown(value) for key, value in self.metadata.items()}, **arrays}

    @property
    def parameter_count(self) -> int:
        """Values of all its tensors."""
        return sum(group.parameter_count for group in self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """Mean bits of one value; None without tensors."""
        return TensorGroup("", 0, self.parameter_count, sum(one.size_bytes for one in self.tensors)).bits_per_weight

    @property
    def introspection(self) -> tuple[str, ...]:
        """Constructs of its chat templates that reach beyond the template's data; empty for usual templates."""
        return introspection(*self.chat_templates.values())


class KeyDifference(Value, frozen=True):
    """A key whose values in two files differ, each as one printable line; None: the file does not have it."""

    key: str
    first: str | None
    second: str | None


class Comparison(Value, frozen=True):
    """How the headers of two models differ.

    Attributes:
        keys: In alphabetical order, without templates; `(tensors)` is the number of each type.
        template_diff: The chat templates as a unified diff; empty if they are the same.
    """

    first: Inspection
    second: Inspection
    keys: tuple[KeyDifference, ...]
    template_diff: str

    @property
    def is_same_template(self) -> bool:
        """Whether both have the same chat templates."""
        return self.first.chat_templates == self.second.chat_templates


def inspection_of(name: str, size_bytes: int, tables: Sequence[TensorTable], path: str | None = None) -> Inspection:
    """The inspection of a model; `tables` are the headers of its files in shard order."""
    header = tables[0].header
    return Inspection(
        name=name,
        path=path,
        size_bytes=size_bytes,
        metadata={key: value for key, value in header.metadata.items() if not is_template(key)},
        array_lengths=header.array_lengths,
        chat_templates=header.chat_templates,
        has_chat_template=header.has_chat_template,
        tensors=_grouped(tables),
    )


def compare(first: Inspection, second: Inspection) -> Comparison:
    """How two models differ."""
    one, other = _compared(first), _compared(second)
    keys = (KeyDifference(key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys()))
    is_one = first.name == second.name and second.path is None
    names = ("here", "on the Hub") if is_one else (first.name, second.name)
    templates = template_diff(first.chat_templates, second.chat_templates, names)
    return Comparison(first, second, tuple(key for key in keys if key.first != key.second), templates)


def template_diff(first: Mapping[str, str], second: Mapping[str, str], names: tuple[str, str]) -> str:
    """Two sets of chat templates as a unified diff; empty if they are the same."""
    parts: list[str] = []
    for key in sorted(first.keys() | second.keys()):
        before, after = (_lines(one.get(key, "")) for one in (first, second))
        old, new = (f"{name} ({key})" if key else name for name in names)
        parts += difflib.unified_diff(before, after, old, new, lineterm="", n=2)
    return "\n".join(map(printable, parts))


def shown(value: Scalar) -> str:
    """A value of the metadata as one printable line of bounded length."""
    text = str(value).lower() if isinstance(value, bool) else figure(value) if isinstance(value, float) else str(value)
    text = printable(text)
    return text if len(text) <= _LONGEST_SHOWN_TEXT else f"{text[: _LONGEST_SHOWN_TEXT - 1]}…"


def _lines(template: str) -> list[str]:
    lines = template.splitlines()
    more = [f"({plural(len(lines) - _MOST_DIFF_LINES, 'more line')})"] if len(lines) > _MOST_DIFF_LINES else []
    return lines[:_MOST_DIFF_LINES] + more


def _compared(one: Inspection) -> dict[str, str]:
    types = ", ".join(f"{group.tensor_count} {group.type}" for group in one.tensors)
    return {**({"(tensors)": types} if types else {}), **one.lines}


def _grouped(tables: Sequence[TensorTable]) -> tuple[TensorGroup, ...]:
    groups: dict[str, TensorGroup] = {}
    for tensor in (tensor for table in tables for tensor in table.tensors):
        name = _TENSOR_TYPES.get(tensor.type, f"type {tensor.type}")
        sums = groups.get(name) or TensorGroup(name, 0, 0, 0)
        parameters, size_bytes = sums.parameter_count + tensor.parameter_count, sums.size_bytes + tensor.span_bytes
        groups[name] = TensorGroup(name, sums.tensor_count + 1, parameters, size_bytes)
    return tuple(sorted(groups.values(), key=lambda group: (-group.size_bytes, group.type)))
