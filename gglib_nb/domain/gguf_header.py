"""The header of a GGUF file as a value, and what the catalog keeps of it; `gglib_nb.domain.gguf` reads the bytes.

The keys are those of docs/gguf.md of ggml and of llama.cpp's converter (gguf-py/gguf/constants.py).
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from typing_extensions import override

from gglib_nb.domain.values import Value

Scalar = str | int | float | bool

CHAT_TEMPLATE: Final = "tokenizer.chat_template"
DEFAULT_ALIGNMENT: Final = 32
# LLAMA_FTYPE in llama.h; 1024 marks a guess.
_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip
_FILE_TYPE_GUESSED: Final = 1024
# Architectures that embed text or images or decode sound: they have no chat (src/llama-arch.cpp).
ENCODERS: Final = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "gemma-embedding", "t5encoder", "clip", "wavtokenizer-dec",
})  # fmt: skip
_MOST_NAMES: Final = 8
_SIZE_LABEL: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([KMBT])", re.IGNORECASE | re.ASCII)
_SIZE_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# One Jinja block: a statement or an expression. Comments and the text between blocks are not run.
_BLOCK: Final = re.compile(r"\{#.*?(?:#\}|\Z)|\{[{%](.*?)(?:[}%]\}|\Z)", re.DOTALL)
# A literal that is not closed reaches to the end, so that a hostile template takes linear time.
_STRING: Final = re.compile(r"'(?:\\.|[^'\\])*+(?:'|\\?\Z)|\"(?:\\.|[^\"\\])*+(?:\"|\\?\Z)", re.DOTALL)
_DUNDER: Final = re.compile(r"__[A-Za-z]\w*")
_STATEMENT: Final = re.compile(r"\s*+[-+]?\s*+(import|include|from|extends)\b")
_CALL: Final = re.compile(r"\|\s*attr\b|\b(?:getattr|eval|exec|lipsum|cycler|joiner)\b\s*[(.\[]")
_REACHES: Final = re.compile(r"\b(?:os|sys|subprocess|builtins|popen|func_globals|mro)\s*[.(\[]")


class _Text:
    """An attribute of a header: the text of this key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __get__(self, header: "Keys", _kind: type) -> str | None:
        return header.text(self._key)


class _Number(_Text):
    """The number of this key; of the architecture's own key if it begins with a dot."""

    @override
    def __get__(self, header: "Keys", _kind: type) -> int | None:  # type: ignore[override]
        return header.of_model(self._key[1:]) if self._key[0] == "." else header.number(self._key)


class Keys:
    """The values of a header's keys; each None without such a key, or with one of another type."""

    __slots__ = ()
    metadata: Mapping[str, Scalar]
    array_lengths: Mapping[str, int]

    architecture = _Text("general.architecture")  # `llama`, `qwen3moe`, ...
    tokenizer_model = _Text("tokenizer.ggml.model")  # `gpt2`, `llama`, ...
    context_length = _Number(".context_length")  # tokens it was trained for

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens; None: unknown."""
        return self.array_lengths.get("tokenizer.ggml.tokens", self.of_model("vocab_size"))

    def of_model(self, key: str) -> int | None:
        """A number from the architecture's own keys, such as `attention.kv_lora_rank`."""
        return self.number(f"{self.architecture}.{key}")

    def number(self, key: str) -> int | None:
        """A whole number that is not negative."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def text(self, key: str) -> str | None:
        """A text of at most 4 KiB that is not empty."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None


class GgufHeader(Keys, Value, frozen=True):
    """The contents of a GGUF header. Every property is None without such a key, or with one of another type."""

    version: int  # of the format
    tensor_count: int  # in this file; of a split model, in this shard
    metadata: Mapping[str, Scalar]  # every scalar; texts up to 4 KiB, chat templates up to 256 KiB
    array_lengths: Mapping[str, int]  # of every array
    layer_values: Mapping[str, tuple[int, ...]]  # arrays of at most 1,024 whole numbers or flags, one for each layer
    has_chat_template: bool
    tensor_parameters: int | None  # of the tensors in this file; None: they were not read
    header_bytes: int | None  # where the data of the tensors begin; None: the header was not read to its end

    name = _Text("general.name")  # as its converter wrote it
    file_type = _Number("general.file_type")  # the quantization of most tensors (LLAMA_FTYPE)
    split_no = _Number("split.no")  # of this shard, from 0
    split_count = _Number("split.count")  # shards of the whole set
    split_tensors_count = _Number("split.tensors.count")  # of all shards together
    block_count = _Number(".block_count")  # layers
    embedding_length = _Number(".embedding_length")  # width of a layer's input
    expert_count = _Number(".expert_count")  # of a mixture
    key_length = _Number(".attention.key_length")  # of a head; by default `embedding_length / head_count`
    value_length = _Number(".attention.value_length")  # likewise
    sliding_window = _Number(".attention.sliding_window")  # tokens

    @property
    def parameter_count(self) -> int | None:
        """Parameters of the whole model: as stated, counted from the tensors, or rounded in `general.size_label`."""
        if (stated := self.number("general.parameter_count")) is not None:
            return stated
        if self.tensor_parameters and (self.split_count or 1) <= 1:
            return self.tensor_parameters
        label = _SIZE_LABEL.match(self.text("general.size_label") or "")
        return round(float(label[1]) * _SIZE_UNITS[label[2].upper()]) if label else None

    @property
    def file_type_label(self) -> str | None:
        """`file_type` as a label."""
        return None if self.file_type is None else _FILE_TYPES.get(self.file_type & ~_FILE_TYPE_GUESSED)

    @property
    def chat_templates(self) -> dict[str, str]:
        """By name; the default template's name is empty."""
        return {
            key.removeprefix(CHAT_TEMPLATE).removeprefix("."): value
            for key, value in self.metadata.items()
            if is_template(key) and isinstance(value, str)
        }

    @property
    def alignment(self) -> int:
        """Of the tensors' data, in bytes."""
        return self.number("general.alignment") or DEFAULT_ALIGNMENT

    def per_layer(self, key: str) -> int | tuple[int, ...] | None:
        """The same for a key that may have a value for each layer."""
        return self.layer_values.get(f"{self.architecture}.{key}", self.of_model(key))

    def at_layer(self, key: str, number: int) -> int | None:
        """The same for one layer, counted from 0."""
        values = self.per_layer(key)
        if not isinstance(values, tuple):
            return values
        return values[number] if number < len(values) and values[number] >= 0 else None


def header_facts(header: GgufHeader) -> dict[str, Scalar | None]:
    """What the catalog keeps of a header, as JSON scalars; if layers differ, their largest value."""
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
        value = header.per_layer(f"attention.{name}")
        facts[name] = max(value, default=None) if isinstance(value, tuple) else value
    facts["licence"] = header.metadata.get("general.license")
    templates = header.chat_templates
    if "" in templates:
        facts["chat_template_sha256"] = hashlib.sha256(templates[""].encode()).hexdigest()
    if names := introspection(*templates.values()):
        facts["template_introspection"] = ", ".join(names[:_MOST_NAMES])
    return facts


def is_template(key: str) -> bool:
    """Whether a key is that of a chat template."""
    return key == CHAT_TEMPLATE or key.startswith(f"{CHAT_TEMPLATE}.")


def introspection(*templates: str) -> tuple[str, ...]:
    """The constructs of templates that reach beyond their data, each once, in order; empty for a usual template.

    Programs that load a model run its template as Jinja code; outside a sandbox, one that reaches Python's
    introspection can run anything (CVE-2024-34359 of llama-cpp-python). Nothing is run here. Only blocks count, without
    comments and string literals, except for names with double underscores, which a subscript reaches through a literal.
    """
    found: list[str] = []
    for block in (block for template in templates for block in _BLOCK.finditer(template)):
        code = block[1] or ""
        found += _DUNDER.findall(code)
        bare = _STRING.sub("''", code)
        if block[0].startswith("{%") and (statement := _STATEMENT.match(bare)):
            found.append(statement[1])
        found += (call.strip(" |(.[\t\n") for pattern in (_CALL, _REACHES) for call in pattern.findall(bare))
    return tuple(dict.fromkeys(found))
