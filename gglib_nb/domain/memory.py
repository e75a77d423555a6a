"""How much memory a model takes when it is loaded, from its GGUF header.

An estimate of what llama.cpp allocates with its defaults (cache in F16, flash attention, batches of 512 tokens):

    total    = weights + cache + overhead
    weights  = bytes of the model's files; they are mapped whole
    cache    = 2 bytes * sum over layers (cells * heads_kv * (key_length + value_length))
    cells    = the context; in a layer with a sliding window at most window + batch, rounded up to 256
    overhead = batch * 4 bytes * (vocabulary + 2 * embedding_length + context)

Sources in llama.cpp: src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp for the cache and the cells of a window; the
overhead is the logits, two activations and the attention mask of one batch, the largest of the compute graph's
buffers. What llama.cpp prints for known models, cache and compute buffers, in MiB: Llama 3 8B with 2,048 tokens 256
and 258.5 + 12.01, Qwen 2.5 7B with 4,096 tokens 224 and 304 on the GPU; the formula gives the same to 0.01.
"""

from typing import Final

from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.values import Value

_CACHE_VALUE_BYTES: Final = 2
_ACTIVATION_BYTES: Final = 4
_BATCH_TOKENS: Final = 512
_CELLS_ROUNDED_TO: Final = 256
_LIKELY_VOCABULARY: Final = 128_000
_MOST_LAYERS: Final = 10_000
# Every how many layers one sees the whole context, where llama.cpp knows it by the architecture (set_swa_pattern in
# src/models) and the header need not say it.
_WINDOW_PERIODS: Final = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "smallthinker": 4, "olmo2": 4,
    "plamo3": 8,
}  # fmt: skip
# Architectures whose header has a window that llama.cpp does not use (src/models/phi3.cpp).
_WINDOW_UNUSED: Final = frozenset({"phi3", "phimoe"})
# Architectures that keep keys and values of every layer and nothing else.
_PLAIN: Final = frozenset({
    "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bert", "bloom", "chatglm", "codeshell",
    "cohere2", "command-r", "dbrx", "deepseek", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "exaone4", "falcon",
    "gemma", "gemma2", "gemma3", "glm4", "glm4moe", "gpt-oss", "gpt2", "gptneox", "granite", "granitemoe", "grok",
    "hunyuan-dense", "hunyuan-moe", "internlm2", "llama", "minicpm", "minimax-m2", "mistral3", "mpt", "nemotron",
    "nomic-bert", "olmo", "olmo2", "olmoe", "orion", "phi2", "phi3", "phimoe", "qwen", "qwen2", "qwen2moe",
    "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "refact", "seed_oss", "smallthinker", "smollm3",
    "stablelm", "starcoder", "starcoder2", "xverse",
})  # fmt: skip


class MemoryEstimate(Value, frozen=True):
    """What a loaded model takes.

    Attributes:
        weights_bytes: The model's files.
        kv_cache_bytes: Keys and values of the context; None where the header does not tell enough.
        overhead_bytes: Compute buffers.
        is_rough: The architecture keeps other state than the formula knows, or the header leaves something out.
        notes: Why, and what else to know; a sentence each.
    """

    weights_bytes: int
    kv_cache_bytes: int | None
    overhead_bytes: int
    is_rough: bool
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """All together; without the cache where that is unknown."""
        return self.weights_bytes + (self.kv_cache_bytes or 0) + self.overhead_bytes


class _Layer(Value, frozen=True):
    """What one layer keeps of a token.

    Attributes:
        values: Numbers, keys and values together.
        has_window: Whether it looks back only as far as the sliding window.
    """

    values: int
    has_window: bool


def estimate_memory(header: GgufHeader, weights_bytes: int, context_tokens: int) -> MemoryEstimate:
    """Estimates what a model takes when loaded; the module's text has the formula.

    Args:
        header: Of its (first) file; the part before the vocabulary is enough.
        weights_bytes: All its files together.
        context_tokens: For how many tokens of context.
    """
    layers = _layers(header)
    cache = None if layers is None else _cache_bytes(layers, header, context_tokens)
    notes = _notes(header, layers, context_tokens)
    is_rough = len(notes) > _is_beyond_training(header, context_tokens)
    return MemoryEstimate(weights_bytes, cache, _overhead_bytes(header, context_tokens), is_rough, notes)


def _cache_bytes(layers: list[_Layer], header: GgufHeader, context_tokens: int) -> int:
    window = (header.sliding_window or 0) + _BATCH_TOKENS
    in_window = min(context_tokens, -(-window // _CELLS_ROUNDED_TO) * _CELLS_ROUNDED_TO)
    numbers = sum(layer.values * (in_window if layer.has_window else context_tokens) for layer in layers)
    return numbers * _CACHE_VALUE_BYTES


def _overhead_bytes(header: GgufHeader, context_tokens: int) -> int:
    vocabulary = header.vocabulary_size or _LIKELY_VOCABULARY
    width = vocabulary + 2 * (header.embedding_length or 0) + context_tokens
    return _BATCH_TOKENS * _ACTIVATION_BYTES * width


def _layers(header: GgufHeader) -> list[_Layer] | None:
    """The layers that keep something; None where the header does not tell."""
    if header.metadata.get(f"{header.architecture}.attention.causal") is False:
        return []  # an encoder sees its whole input at once
    count = header.block_count
    if count is None or count > _MOST_LAYERS:
        return None
    # The last layers of gemma3n and gemma4 reuse the cache of earlier ones.
    count = max(0, count - (header.of_model("attention.shared_kv_layers") or 0))
    window = _windows(header, count)
    layers = [_layer(header, number, has_window=window[number]) for number in range(count)]
    return None if None in layers else [layer for layer in layers if layer is not None]


def _layer(header: GgufHeader, number: int, *, has_window: bool) -> _Layer | None:
    interval = header.of_model("full_attention_interval")
    if interval and (number + 1) % interval:
        return _Layer(0, has_window=False)  # linear attention: a state of fixed size
    heads = _at(header.head_count, number)
    heads_kv = _at(header.head_count_kv, number)
    heads_kv = heads if heads_kv is None else heads_kv
    if not heads_kv:
        return None if heads_kv is None else _Layer(0, has_window=False)
    key, value = _widths(header, heads, has_window=has_window)
    return None if key is None or value is None else _Layer(heads_kv * (key + value), has_window)


def _widths(header: GgufHeader, heads: int | None, *, has_window: bool) -> tuple[int | None, int | None]:
    """Widths of a key and a value; layers with a window may have their own (gemma4)."""
    by_default = header.embedding_length // heads if header.embedding_length and heads else None
    suffix = "_swa" if has_window and header.of_model("attention.key_length_swa") else ""
    key = header.of_model(f"attention.key_length{suffix}")
    value = header.of_model(f"attention.value_length{suffix}")
    if header.of_model("attention.key_length_mla") is not None:
        value = 0  # latent attention keeps one vector, whose front serves as the value
    return (by_default if key is None else key), (by_default if value is None else value)


def _at(values: int | tuple[int, ...] | None, number: int) -> int | None:
    if not isinstance(values, tuple):
        return values
    return values[number] if number < len(values) else None


def _windows(header: GgufHeader, count: int) -> list[bool]:
    """Which layers have a sliding window: a flag for each, or all but every n-th."""
    if not header.sliding_window or header.architecture in _WINDOW_UNUSED:
        return [False] * count
    pattern = header.per_layer("attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and pattern:
        return [bool(pattern[number % len(pattern)]) for number in range(count)]
    period = pattern if isinstance(pattern, int) else _WINDOW_PERIODS.get(header.architecture or "", 1)
    return [period == 0 or number % period < period - 1 for number in range(count)]


def _notes(header: GgufHeader, layers: list[_Layer] | None, context_tokens: int) -> tuple[str, ...]:
    architecture = header.architecture or "unknown"
    tests = (
        (layers is None, "The header does not tell how large the cache of the context is."),
        (_is_beyond_training(header, context_tokens), f"The model was trained for {header.context_length} tokens."),
        (
            header.of_model("attention.kv_lora_rank") is not None,
            "Latent attention: programs store its cache differently.",
        ),
        (_has_state(header), "Layers with a state of fixed size are not counted."),
        (_window_is_unclear(header), "The header does not tell which layers have a sliding window; none is assumed."),
        (
            architecture not in _PLAIN and not _has_state(header),
            f"The architecture {architecture} may keep more state.",
        ),
    )
    return tuple(note for applies, note in tests if applies)


def _is_beyond_training(header: GgufHeader, context_tokens: int) -> bool:
    return header.context_length is not None and context_tokens > header.context_length


def _has_state(header: GgufHeader) -> bool:
    keys = ("ssm.state_size", "wkv.head_size", "full_attention_interval", "shortconv.l_cache")
    return any(header.of_model(key) is not None for key in keys)


def _window_is_unclear(header: GgufHeader) -> bool:
    is_told = header.per_layer("attention.sliding_window_pattern") is not None
    architecture = header.architecture or ""
    is_known = architecture in _WINDOW_PERIODS or architecture in _WINDOW_UNUSED
    return bool(header.sliding_window) and not (is_told or is_known)
