"""The header of a GGUF file as a value: what it says of the model, and what of it is kept.

The keys are those of docs/gguf.md of ggml and of llama.cpp's converter (gguf-py/gguf/constants.py). How the bytes
are read is in `gglib_nb.domain.gguf`.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from gglib_nb.domain.chat_template import introspection
from gglib_nb.domain.values import Value

Scalar = str | int | float | bool

_DEFAULT_ALIGNMENT: Final = 32
# LLAMA_FTYPE in llama.h; 1024 marks a guess.
_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip
_FILE_TYPE_GUESSED: Final = 1024
_MOST_NAMES: Final = 8
_SIZE_LABEL: Final = re.compile(r"(\d+(?:\.\d+)?)([KMBT])", re.IGNORECASE)
_SIZE_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


class GgufHeader(Value, frozen=True):
    """What a GGUF header says. Every property is None where the header has no such key, or one of another type.

    Attributes:
        version: Of the format.
        tensor_count: Tensors in this file; of a split model, in this shard.
        metadata: Every scalar; texts up to 4 KiB, chat templates up to 256 KiB.
        array_lengths: How many elements each array has.
        layer_values: Arrays of whole numbers or flags with at most 1,024 elements: those that hold a value per layer.
        has_chat_template: Whether it brings one.
        tensor_parameters: Parameters of the tensors in this file; None where they were not read.
        header_bytes: Where the tensors' data begin; None where the header was not read to its end.
    """

    version: int
    tensor_count: int
    metadata: Mapping[str, Scalar]
    array_lengths: Mapping[str, int]
    layer_values: Mapping[str, tuple[int, ...]]
    has_chat_template: bool
    tensor_parameters: int | None
    header_bytes: int | None

    @property
    def is_whole(self) -> bool:
        """Whether it was read to its end, and not only as far as was allowed."""
        return self.header_bytes is not None

    @property
    def architecture(self) -> str | None:
        """`llama`, `qwen3moe`, ..."""
        return self.text("general.architecture")

    @property
    def name(self) -> str | None:
        """The model's name as its converter wrote it."""
        return self.text("general.name")

    @property
    def parameter_count(self) -> int | None:
        """Parameters of the whole model: as counted from the tensors, as stated, or as `general.size_label` rounds it."""
        if (stated := self.number("general.parameter_count")) is not None:
            return stated
        if self.tensor_parameters and (self.split_count or 1) <= 1:
            return self.tensor_parameters
        label = _SIZE_LABEL.match(self.text("general.size_label") or "")
        return round(float(label[1]) * _SIZE_UNITS[label[2].upper()]) if label else None

    @property
    def context_length(self) -> int | None:
        """Tokens it was trained for."""
        return self.of_model("context_length")

    @property
    def block_count(self) -> int | None:
        """Layers."""
        return self.of_model("block_count")

    @property
    def embedding_length(self) -> int | None:
        """Width of a layer's input."""
        return self.of_model("embedding_length")

    @property
    def head_count(self) -> int | tuple[int, ...] | None:
        """Attention heads, of all layers alike or of each."""
        return self.per_layer("attention.head_count")

    @property
    def head_count_kv(self) -> int | tuple[int, ...] | None:
        """Heads that have keys and values of their own (grouped-query attention), of all layers alike or of each."""
        return self.per_layer("attention.head_count_kv")

    @property
    def key_length(self) -> int | None:
        """Width of a head's key; what the header leaves out is `embedding_length / head_count`."""
        return self.of_model("attention.key_length")

    @property
    def value_length(self) -> int | None:
        """Width of a head's value; as above."""
        return self.of_model("attention.value_length")

    @property
    def sliding_window(self) -> int | None:
        """Tokens that layers with a sliding window look back."""
        return self.of_model("attention.sliding_window")

    @property
    def expert_count(self) -> int | None:
        """Experts of a mixture."""
        return self.of_model("expert_count")

    @property
    def file_type(self) -> int | None:
        """Number of the quantization that most tensors have (LLAMA_FTYPE)."""
        return self.number("general.file_type")

    @property
    def file_type_label(self) -> str | None:
        """The same as a label."""
        return None if self.file_type is None else _FILE_TYPES.get(self.file_type & ~_FILE_TYPE_GUESSED)

    @property
    def tokenizer_model(self) -> str | None:
        """`gpt2`, `llama`, ..."""
        return self.text("tokenizer.ggml.model")

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens."""
        return self.array_lengths.get("tokenizer.ggml.tokens", self.of_model("vocab_size"))

    @property
    def split_no(self) -> int | None:
        """0-based number of this shard."""
        return self.number("split.no")

    @property
    def split_count(self) -> int | None:
        """Shards of the whole set."""
        return self.number("split.count")

    @property
    def split_tensors_count(self) -> int | None:
        """Tensors of all shards together."""
        return self.number("split.tensors.count")

    @property
    def alignment(self) -> int:
        """To what the tensors' data are aligned, in bytes."""
        return self.number("general.alignment") or _DEFAULT_ALIGNMENT

    def of_model(self, key: str) -> int | None:
        """A number from the architecture's own keys, such as `attention.kv_lora_rank`."""
        return self.number(f"{self.architecture}.{key}")

    def per_layer(self, key: str) -> int | tuple[int, ...] | None:
        """The same where it may differ from layer to layer."""
        values = self.layer_values.get(f"{self.architecture}.{key}")
        return self.of_model(key) if values is None else values

    def at_layer(self, key: str, number: int) -> int | None:
        """The same of one layer, counted from 0."""
        values = self.per_layer(key)
        if not isinstance(values, tuple):
            return values
        return values[number] if number < len(values) else None

    def number(self, key: str) -> int | None:
        """A whole number that is not negative."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def text(self, key: str) -> str | None:
        """A text of at most 4 KiB."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


def header_facts(header: GgufHeader) -> dict[str, Scalar | None]:
    """What the catalog keeps of a header, as JSON scalars; where layers differ, their largest value."""
    facts: dict[str, Scalar | None] = {
        name: getattr(header, name)
        for name in (
            "version", "architecture", "name", "parameter_count", "context_length", "block_count", "embedding_length",
            "key_length", "value_length", "sliding_window", "expert_count", "file_type", "file_type_label",
            "tokenizer_model", "vocabulary_size", "has_chat_template", "tensor_count", "split_no", "split_count",
            "split_tensors_count", "tensor_parameters", "alignment", "header_bytes",
        )
    }  # fmt: skip
    for name in ("head_count", "head_count_kv"):
        value = getattr(header, name)
        facts[name] = max(value, default=None) if isinstance(value, tuple) else value
    facts["licence"] = header.metadata.get("general.license")
    templates = [text for key, text in header.metadata.items() if key.startswith("tokenizer.chat_template")]
    if isinstance(text := header.metadata.get("tokenizer.chat_template"), str):
        facts["chat_template_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    names = dict.fromkeys(name for text in templates for name in introspection(str(text)))
    if names:
        facts["template_introspection"] = ", ".join(list(names)[:_MOST_NAMES])
    return facts
