"""How much memory a model takes when llama.cpp loads it, from its GGUF header.

* weights: the bytes of the model's files;
* cache: for each layer with attention, cells times the width of its keys and values. Cells are the context rounded up
  to 256; in a layer with a sliding window at most `window * sequences + batch`, rounded likewise;
* state: for each recurrent layer and each sequence, the last inputs of its convolution and its state, in F32;
* overhead: the largest buffers of one batch of 512 tokens: logits, two activations and the attention mask.

If the header states nothing, llama.cpp decides by the architecture. The tables below repeat its decisions, each with
the file and the function of llama.cpp that makes it; `benchmarks/llama_memory.py` compares the results with a real one.
"""

from typing import Final, Literal, NamedTuple

from gglib_nb.domain.gguf_header import ENCODERS, GgufHeader
from gglib_nb.domain.units import plural
from gglib_nb.domain.values import Value, known_sum

CacheType = Literal["f16", "q8_0", "q4_0"]
"""How keys and values are stored (`-ctk`, `-ctv` of llama.cpp)."""

_VALUE_BYTES: Final[dict[CacheType, float]] = {"f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}
_FLOAT_BYTES: Final = 4  # of states and activations
_BATCH_TOKENS: Final = 512
CELLS_ROUNDED_TO: Final = 256
_LIKELY_VOCABULARY: Final = 128_000
_MOST_LAYERS: Final = 512  # LLAMA_MAX_LAYERS in src/llama-hparams.h


class _Window(NamedTuple):
    """Which layers of an architecture have a sliding window: all but every n-th."""

    period: int  # the n; 0: all layers have one
    dense_first: bool = False  # whether the first of n sees the whole context, and not the last
    tokens: int = 0  # the window if the header has none
    is_fixed: bool = False  # whether `tokens` outranks the header


# `load_arch_hparams` in src/models/<architecture>.cpp and `load_swa_pattern` in src/llama-model.cpp. Architectures that
# are not listed ignore the header's window (llama, phi3, mistral3, qwen2). 1: the header has a flag for each layer.
_WINDOWS: Final = {
    "afmoe": _Window(4), "cohere2": _Window(4), "cohere2moe": _Window(4, dense_first=True), "deepseek4": _Window(0),
    "exaone-moe": _Window(4, tokens=128), "exaone4": _Window(4, tokens=4096), "gemma2": _Window(2, tokens=4096),
    "gemma3": _Window(6), "gemma3n": _Window(5), "gemma4": _Window(1), "gpt-oss": _Window(2),
    "granite_swa": _Window(1), "laguna": _Window(4, dense_first=True), "lfm2": _Window(0),
    "llama4": _Window(4, tokens=8192, is_fixed=True), "maple": _Window(1), "mellum": _Window(4), "mimo2": _Window(1),
    "muse-glimmer": _Window(4), "olmo2": _Window(4), "plamo3": _Window(8),
    "smallthinker": _Window(4, dense_first=True, tokens=4096, is_fixed=True), "spark2_5": _Window(1),
    "step35": _Window(1),
}  # fmt: skip
_EXAONE4_LAYERS_WITH_WINDOW: Final = 64  # src/models/exaone4.cpp: the 32B model alone has windows
_GEMMA3N_LAYERS_WITH_CACHE: Final = 20  # src/models/gemma3n.cpp
# `llm_arch_is_recurrent` and `llm_arch_is_hybrid` in src/llama-arch.cpp; the layers as in `create_memory` of
# src/llama-model.cpp. Of the hybrid ones these are recurrent in all but every n-th layer, the others if they have no
# heads with keys and values.
_RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_FULL_ATTENTION_INTERVALS: Final = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
_HYBRID: Final = frozenset({
    "jamba", "falcon-h1", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "kimi-linear",
    "bailingmoe3", "glm5-next", *_FULL_ATTENTION_INTERVALS,
})  # fmt: skip
_NEMOTRON: Final = frozenset({"nemotron_h", "nemotron_h_moe"})
_RWKV_TOKEN_SHIFTS: Final = 2  # src/llama-hparams.h
# Keys of an indexer beside the cache, and how many for each token: src/llama-kv-cache-dsa.cpp,
# src/llama-kv-cache-msa.cpp, src/llama-memory-hybrid-idx.cpp (`indexer_kpool_row`).
_INDEXED: Final = {"deepseek32": 1, "glm-dsa": 1, "minimax-m3": 1, "qwen4exp": 2, "glm5-next": 3}
# `create_memory`: these see their whole input at once and keep nothing.
_CACHELESS: Final = (ENCODERS - {"t5encoder", "clip"}) | {"dream", "llada", "llada-moe", "rnd1"}
# The other architectures that keep keys and values of every layer and nothing else.
_PLAIN: Final = frozenset({
    "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom", "chameleon", "chatglm",
    "codeshell", "cogvlm", "command-r", "dbrx", "deci", "deepseek", "deepseek2", "deepseek2-ocr", "dots1", "ernie4_5",
    "ernie4_5-moe", "exaone", "falcon", "gemma", "glm4", "glm4moe", "gpt2", "gptneox", "granite", "granitemoe", "grok",
    "grovemoe", "hunyuan-dense", "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2", "jais", "jais2", "llama",
    "llama-embed", "maincoder", "minicpm", "minicpm3", "minimax-m2", "mistral3", "mistral4", "mpt", "nemotron", "olmo",
    "olmoe", "openelm", "orion", "paddleocr", "pangu-embedded", "phi2", "phi3", "phimoe", "plamo", "plm", "qwen",
    "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "refact", "seed_oss", "smollm3",
    "stablelm", "starcoder", "starcoder2", "xverse",
})  # fmt: skip
_KNOWN: Final = _PLAIN | _WINDOWS.keys() | _RECURRENT | _HYBRID | _INDEXED.keys() | _CACHELESS


class MemoryEstimate(Value, frozen=True):
    """The memory that a loaded model needs: in total, and for each part.

    Attributes:
        kv_cache_bytes: Keys and values of the context; None: the header does not say enough.
        overhead_bytes: Compute buffers.
        is_rough: The architecture is unknown, or the header is incomplete; `notes` has the reasons and other remarks.
        state_bytes: States of recurrent layers, which do not grow with the context.
        sequences: Conversations at once: 1 as in llama-cli, llama-cpp-python and `llama-server -np 1`.
    """

    weights_bytes: int
    kv_cache_bytes: int | None
    overhead_bytes: int
    is_rough: bool
    notes: tuple[str, ...] = ()
    state_bytes: int = 0
    sequences: int = 1
    cache_type: CacheType = "f16"

    @property
    def total_bytes(self) -> int:
        """All together; without the cache if that is unknown."""
        return self.weights_bytes + (self.kv_cache_bytes or 0) + self.state_bytes + self.overhead_bytes


class LayerCache(NamedTuple):
    """The cache and state of one layer."""

    values: int  # numbers for each token: keys, values, and keys of an indexer
    has_window: bool = False  # whether it looks back only as far as the sliding window
    state_values: int | None = 0  # numbers for each sequence of any length; None: unknown
    compressed_values: int = 0  # numbers for each block of `ratio` tokens, which no window limits
    ratio: int = 1


class CacheLayout(NamedTuple):
    """The caches of all layers; layers that keep nothing are listed too."""

    layers: tuple[LayerCache, ...]
    window_tokens: int  # the sliding window; 0 without one

    def layer_bytes(self, context_tokens: int, sequences: int = 1, cache_type: CacheType = "f16") -> list[int]:
        """Cache of each layer in bytes, without its state."""
        cells = _rounded(context_tokens)
        in_window = _rounded(min(cells, self.window_tokens * sequences + _BATCH_TOKENS))
        values = (
            layer.values * (in_window if layer.has_window else cells)
            + layer.compressed_values * _rounded(-(-cells // layer.ratio))
            for layer in self.layers
        )
        return [int(one * _VALUE_BYTES[cache_type]) for one in values]

    def state_bytes(self, sequences: int = 1) -> list[int]:
        """State of each layer in bytes; 0 if unknown."""
        return [(layer.state_values or 0) * sequences * _FLOAT_BYTES for layer in self.layers]


def estimate_memory(
    header: GgufHeader,
    weights_bytes: int,
    context_tokens: int,
    *,
    cache_type: CacheType = "f16",
    sequences: int = 1,
) -> MemoryEstimate:
    """The memory of a loaded model, as described above; of its header the part before the vocabulary is enough.

    `sequences` are the conversations that share the context; llama-server has 4 unless `-np` says otherwise.
    """
    layout = cache_layout(header)
    known = layout or CacheLayout((), 0)
    is_known = header.architecture in _KNOWN
    is_unclear = bool(header.sliding_window) and header.per_layer("attention.sliding_window_pattern") is None
    doubts = {
        "The header does not give the size of the context's cache.": layout is None,
        "Layers with a state of fixed size are not counted.": any(one.state_values is None for one in known.layers),
        f"The architecture {header.architecture or 'unknown'} may keep more state.": not is_known,
        "The header does not say which layers have a sliding window; none is assumed.": is_unclear and not is_known,
    }
    is_too_long = 0 < (header.context_length or 0) < context_tokens
    remarks = doubts | {f"The model was trained for {plural(header.context_length or 0, 'token')}.": is_too_long}
    cache = None if layout is None else sum(layout.layer_bytes(context_tokens, sequences, cache_type))
    notes = tuple(remark for remark, applies in remarks.items() if applies)
    overhead, state = overhead_bytes(header, context_tokens), sum(known.state_bytes(sequences))
    return MemoryEstimate(weights_bytes, cache, overhead, any(doubts.values()), notes, state, sequences, cache_type)


def overhead_bytes(header: GgufHeader, context_tokens: int) -> int:
    """The compute buffers of one batch."""
    vocabulary = header.vocabulary_size or _LIKELY_VOCABULARY
    width = vocabulary + 2 * (header.embedding_length or 0) + _rounded(context_tokens)
    return _BATCH_TOKENS * _FLOAT_BYTES * width


def cache_layout(header: GgufHeader) -> CacheLayout | None:
    """The caches of the layers; None: the header does not state enough."""
    model = _Architecture(header)
    is_causal = header.metadata.get(f"{model.name}.attention.causal") is not False
    is_cacheless = not is_causal or model.name in _CACHELESS
    if (header.block_count or 0) > _MOST_LAYERS or not (header.block_count or is_cacheless):
        return None
    if is_cacheless:
        return CacheLayout((), 0)
    known = tuple(layer for layer in map(model.layer, range(model.count)) if layer is not None)
    return CacheLayout(known, model.window_tokens) if len(known) == model.count else None


class _Architecture:
    """What each layer of a model keeps, as llama.cpp decides by its architecture and the header."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.name = header.architecture or ""
        # Blocks that predict further tokens have a cache only if used as a draft (`filter` in `create_memory`).
        self.count = max(0, (header.block_count or 0) - self._number("nextn_predict_layers"))
        self.window_tokens = self._window_tokens()
        # The last layers of gemma3n and gemma4 reuse the cache of earlier ones.
        shared = self._number("attention.shared_kv_layers")
        self._with_cache = _GEMMA3N_LAYERS_WITH_CACHE if self.name == "gemma3n" else self.count - shared

    def _number(self, key: str) -> int:
        return self.header.of_model(key) or 0

    def layer(self, number: int) -> LayerCache | None:
        """The cache of a layer, counted from 0; None: the header does not state enough."""
        key = f"{self.name}.attention.head_count_kv"
        is_stated = key in self.header.metadata or key in self.header.array_lengths
        heads_kv = self.header.at_layer(f"attention.head_count{'_kv' if is_stated else ''}", number)
        is_recurrent = self._is_recurrent(number, heads_kv)
        state = self._state_values() if is_recurrent else 0
        is_feed_forward = self.name in _NEMOTRON and heads_kv == 0
        has_no_cache = self.name != "falcon-h1" if is_recurrent else is_feed_forward
        if has_no_cache or number >= self._with_cache:
            return LayerCache(0, state_values=state)
        has_window = self._has_window(number)
        width = self._width(number, has_window=has_window) if heads_kv else 0
        if heads_kv is None or width is None:
            return None
        if self.name == "deepseek4":
            return self._compressed(number, width)
        return LayerCache(heads_kv * width + self._indexer_values(number), has_window, state)

    def _compressed(self, number: int, width: int) -> LayerCache | None:
        """src/llama-kv-cache-dsv4.cpp: keys of a window, and of all blocks of tokens; blocks of 4 overlap."""
        if (ratio := self.header.at_layer("attention.compress_ratios", number)) is None:
            return None
        overlap = 2 if ratio == 4 else 1
        values = (width + (self._number("attention.indexer.key_length") if ratio == 4 else 0)) if ratio else 0
        return LayerCache(width, self._has_window(number), 2 * overlap**2 * ratio * values, values, max(1, ratio))

    def _width(self, number: int, *, has_window: bool) -> int | None:
        """Of a key and a value together; layers with a window may have their own (gemma4)."""
        heads = self.header.at_layer("attention.head_count", number)
        usual = self.header.embedding_length // heads if self.header.embedding_length and heads else None

        def stated(name: str) -> int | None:
            kinds = ("_swa", "") if has_window else ("",)
            lengths = (self.header.of_model(f"attention.{name}_length{kind}") for kind in kinds)
            return next((one for one in lengths if one is not None), usual)

        # Latent attention keeps one vector, whose front serves as the value (`is_mla` in src/llama-hparams.cpp).
        is_latent = self._number("attention.key_length_mla") > 0 or self.name == "deepseek4"
        return known_sum((stated("key"), 0 if is_latent else stated("value")))

    def _indexer_values(self, number: int) -> int:
        is_dense = self.name == "minimax-m3" and number < self._number("leading_dense_block_count")
        is_shared = self.header.at_layer("attention.indexer.types", number) == 0
        keys = 0 if is_dense or is_shared else _INDEXED.get(self.name, 0)
        return keys * self._number("attention.indexer.key_length")

    def _is_recurrent(self, number: int, heads_kv: int | None) -> bool:
        if self.name in _RECURRENT or self.name == "falcon-h1":
            return True
        if (flag := self.header.at_layer("attention.recurrent_layers", number)) is not None:
            return bool(flag)
        if interval := self._number("full_attention_interval") or _FULL_ATTENTION_INTERVALS.get(self.name):
            return bool((number + 1) % interval)
        has_feed_forward = self.name in _NEMOTRON and self.header.at_layer("feed_forward_length", number) != 0
        return self.name in _HYBRID and heads_kv == 0 and not has_feed_forward

    def _state_values(self) -> int | None:
        """Numbers that a recurrent layer keeps: `n_embd_r` and `n_embd_s` of src/llama-hparams.cpp; None: unknown."""
        width = self.header.embedding_length or 0
        heads = self.header.at_layer("attention.head_count", 0) or 0
        kernel, groups = self._number("ssm.conv_kernel"), self._number("ssm.group_count")
        if head := self._number("wkv.head_size"):
            shifts = self.header.of_model("token_shift_count")
            return width * ((_RWKV_TOKEN_SHIFTS if shifts is None else shifts) + head)
        if cached := self._number("shortconv.l_cache"):
            return width * (cached - 1)
        if head := self._number("kda.head_dim"):
            return 3 * (kernel - 1 if kernel else 3) * heads * head + head * head * heads
        if self.name == "minimax-01":
            return self._number("attention.key_length") ** 2 * heads
        inner, state = self.header.of_model("ssm.inner_size"), self.header.of_model("ssm.state_size")
        if inner is None or state is None:
            return None
        return max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner

    def _window_tokens(self) -> int:
        stated, known = self.header.sliding_window, _WINDOWS.get(self.name)
        if self.name == "exaone4" and self.header.block_count != _EXAONE4_LAYERS_WITH_WINDOW:
            return 0
        if known is None:
            return 0 if self.name in _KNOWN else stated or 0
        if known.is_fixed or stated is None:
            return known.tokens if stated != 0 and (stated or self.name != "smallthinker") else 0
        return stated

    def _has_window(self, number: int) -> bool:
        """By a flag for each layer; else all but every n-th have one."""
        if not self.window_tokens:
            return False
        pattern = self.header.per_layer("attention.sliding_window_pattern")
        if isinstance(pattern, tuple) and pattern:
            return bool(pattern[number % len(pattern)])
        known = _WINDOWS.get(self.name, _Window(1))
        period = pattern if isinstance(pattern, int) else known.period
        return period == 0 or number % period != (0 if known.dense_first else period - 1)


def _rounded(tokens: int) -> int:
    """`GGML_PAD` to 256 cells (src/llama-context.cpp, src/llama-kv-cache-iswa.cpp)."""
    return -(-tokens // CELLS_ROUNDED_TO) * CELLS_ROUNDED_TO
