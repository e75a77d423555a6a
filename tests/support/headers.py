"""Headers of common models, as far as memory depends on them."""

from types import MappingProxyType
from typing import Any

from gglib_nb.domain.gguf_header import GgufHeader


def header(
    architecture: str, vocabulary: int | None = None, layers: dict[str, tuple[int, ...]] | None = None, **keys: Any
) -> GgufHeader:
    """A header with the architecture's own keys; `__` means a dot."""
    own = {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    return GgufHeader(
        version=3,
        tensor_count=0,
        metadata=MappingProxyType({"general.architecture": architecture} | own),
        array_lengths={} if vocabulary is None else {"tokenizer.ggml.tokens": vocabulary},
        layer_values={f"{architecture}.{key}": values for key, values in (layers or {}).items()},
        has_chat_template=False,
        tensor_parameters=None,
        header_bytes=None,
    )


def attention(layers: int, heads_kv: int, width: int, **keys: Any) -> dict[str, Any]:
    """Keys of a model with grouped-query attention in every layer."""
    own = {"attention__key_length": width, "attention__value_length": width, "attention__head_count_kv": heads_kv}
    return {"block_count": layers, "embedding_length": 4096, "attention__head_count": 32} | own | keys


LLAMA_3_8B = header("llama", 128_256, **attention(32, 8, 128, context_length=131_072, feed_forward_length=14_336))
QWEN3_30B_A3B = header(
    "qwen3moe",
    151_936,
    **attention(48, 4, 128, context_length=40_960, embedding_length=2048),
    expert_count=128,
    expert_feed_forward_length=768,
)
GPT_OSS_120B = header(
    "gpt-oss",
    201_088,
    **attention(36, 8, 64, context_length=131_072, embedding_length=2880, attention__head_count=64),
    attention__sliding_window=128,
    expert_count=128,
    expert_feed_forward_length=2880,
)
