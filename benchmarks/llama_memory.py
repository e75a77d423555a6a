"""Compares the memory estimate with a real llama.cpp, which loads tiny models of noise and prints the cache and state it allocates.

python -m benchmarks.llama_memory

Needs `cyllama`, which ships llama.cpp in its wheel (`pip install gglib-nb[reuse]`).
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gglib_nb.demo.gguf_writer import Tensor, Value, gguf_content
from gglib_nb.domain.gguf import read_header
from gglib_nb.domain.memory import CacheType, MemoryEstimate, estimate_memory

_WIDTH, _HEADS, _KV_HEADS, _HEAD, _FEED, _EXPERTS, _VOCABULARY = 256, 4, 2, 64, 128, 2, 64
_INNER, _STATE, _GROUPS, _KERNEL, _RANK = 512, 32, 2, 4, 8
# `llama_kv_cache: size =  256.00 MiB (...)`, `llama_memory_recurrent: size = 1.50 MiB (...)`
_PRINTED: Final = re.compile(r"llama_(kv_cache|memory_recurrent)\w*: size =\s*([\d.]+) MiB")
_CHILD: Final = """
import sys
from cyllama.llama import llama_cpp as llama
path, context, sequences, cache_type = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
model = llama.LlamaModel(path_model=path, params=llama.LlamaModelParams(), verbose=True)
params = llama.LlamaContextParams()
params.n_ctx, params.n_seq_max, params.n_batch, params.n_ubatch = context, sequences, 512, 512
params.type_k = params.type_v = cache_type
params.flash_attn_type = 1
params.kv_unified = True
params.swa_full = False
llama.LlamaContext(model=model, params=params, verbose=True)
"""
_GGML_TYPES: Final[Mapping[CacheType, int]] = {"f16": 1, "q8_0": 8, "q4_0": 2}


@dataclass(frozen=True)
class TinyModel:
    """One architecture.

    Attributes:
        kind: The kind that it represents.
        architecture: As in the header.
        keys: Its own keys.
        tensors: Of its layers.
        layers: How many.
    """

    kind: str
    architecture: str
    keys: Mapping[str, Value]
    tensors: Mapping[str, tuple[int, ...]]
    layers: int

    def content(self) -> bytes:
        """The file."""
        own: dict[str, Value] = {"block_count": self.layers, "context_length": 131_072, "embedding_length": _WIDTH}
        own |= {"feed_forward_length": _FEED, "vocab_size": _VOCABULARY, "attention.layer_norm_rms_epsilon": 1e-6}
        own |= self.keys
        metadata: dict[str, Value] = {"general.architecture": self.architecture, "tokenizer.ggml.model": "no_vocab"}
        metadata |= {f"{self.architecture}.{key}": value for key, value in own.items()}
        shapes = {"token_embd.weight": (_WIDTH, _VOCABULARY), "output_norm.weight": (_WIDTH,)}
        tensors = [Tensor(name, shape, "F32") for name, shape in (shapes | dict(self.tensors)).items()]
        return b"".join(bytes(piece) for piece in gguf_content(metadata, tensors, self.architecture).slices())


@dataclass(frozen=True)
class Comparison:
    """Estimated and allocated MiB: cache, then state."""

    model: TinyModel
    context_tokens: int
    sequences: int
    cache_type: CacheType
    estimated: tuple[float, float]
    allocated: tuple[float, float]

    @property
    def difference(self) -> float:
        """The larger of the two differences, relative to the allocation."""
        pairs = [(one, other) for one, other in zip(self.estimated, self.allocated, strict=True) if one or other]
        # Two decimals are printed.
        return max((max(0.0, abs(one - other) - 0.011) / other if other else 1.0 for one, other in pairs), default=0.0)


def _attention(number: int, *, query: int = 1, norms: bool = False) -> dict[str, tuple[int, ...]]:
    at = f"blk.{number}"
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}.attn_q.weight": (_WIDTH, _HEADS * _HEAD * query),
        f"{at}.attn_k.weight": (_WIDTH, _KV_HEADS * _HEAD),
        f"{at}.attn_v.weight": (_WIDTH, _KV_HEADS * _HEAD),
        f"{at}.attn_output.weight": (_HEADS * _HEAD, _WIDTH),
    }
    return shapes | ({f"{at}.attn_{one}_norm.weight": (_HEAD,) for one in "qk"} if norms else {})


def _norms(number: int, *names: str) -> dict[str, tuple[int, ...]]:
    return {f"blk.{number}.{name}.weight": (_WIDTH,) for name in names}


def _feed(number: int, suffix: str = "") -> dict[str, tuple[int, ...]]:
    at = f"blk.{number}.ffn"
    return {
        f"{at}_gate{suffix}.weight": (_WIDTH, _FEED),
        f"{at}_up{suffix}.weight": (_WIDTH, _FEED),
        f"{at}_down{suffix}.weight": (_FEED, _WIDTH),
    }


def _experts(number: int) -> dict[str, tuple[int, ...]]:
    at = f"blk.{number}.ffn"
    return {
        f"{at}_gate_inp.weight": (_WIDTH, _EXPERTS),
        f"{at}_gate_exps.weight": (_WIDTH, _FEED, _EXPERTS),
        f"{at}_up_exps.weight": (_WIDTH, _FEED, _EXPERTS),
        f"{at}_down_exps.weight": (_FEED, _WIDTH, _EXPERTS),
    }


def _mamba(number: int, in_width: int) -> dict[str, tuple[int, ...]]:
    at, conv = f"blk.{number}.ssm", _INNER + 2 * _GROUPS * _STATE
    return {
        f"{at}_in.weight": (_WIDTH, in_width),
        f"{at}_conv1d.weight": (_KERNEL, conv),
        f"{at}_conv1d.bias": (conv,),
        f"{at}_dt.bias": (_RANK,),
        f"{at}_a": (1, _RANK),
        f"{at}_d": (1, _RANK),
        f"{at}_norm.weight": (_INNER // _GROUPS, _GROUPS),
        f"{at}_out.weight": (_INNER, _WIDTH),
    }


def _delta_net(number: int) -> dict[str, tuple[int, ...]]:
    at, keys, values = f"blk.{number}", _STATE * _GROUPS, _STATE * _RANK
    return {
        f"{at}.attn_qkv.weight": (_WIDTH, 2 * keys + values),
        f"{at}.attn_gate.weight": (_WIDTH, values),
        f"{at}.ssm_conv1d.weight": (_KERNEL, 2 * keys + values),
        f"{at}.ssm_dt.bias": (_RANK,),
        f"{at}.ssm_a": (_RANK,),
        f"{at}.ssm_ba.weight": (_WIDTH, 2 * _RANK),
        f"{at}.ssm_norm.weight": (_STATE,),
        f"{at}.ssm_out.weight": (values, _WIDTH),
    }


def _latent(number: int, rank: int, rope: int, key: int, value: int) -> dict[str, tuple[int, ...]]:
    at = f"blk.{number}.attn"
    return {
        f"{at}_kv_a_norm.weight": (rank,),
        f"{at}_q_a_norm.weight": (rank,),
        f"{at}_q_a.weight": (_WIDTH, rank),
        f"{at}_q_b.weight": (rank, _HEADS * key),
        f"{at}_kv_a_mqa.weight": (_WIDTH, rank + rope),
        f"{at}_k_b.weight": (key - rope, rank, _HEADS),
        f"{at}_v_b.weight": (rank, value, _HEADS),
        f"{at}_output.weight": (_HEADS * value, _WIDTH),
    }


_OF_ATTENTION: Final[dict[str, Value]] = {
    "attention.head_count": _HEADS,
    "attention.head_count_kv": _KV_HEADS,
    "attention.key_length": _HEAD,
    "attention.value_length": _HEAD,
    "rope.dimension_count": _HEAD,
}
_OF_EXPERTS: Final[dict[str, Value]] = {
    "expert_count": _EXPERTS,
    "expert_used_count": 1,
    "expert_feed_forward_length": _FEED,
}
_OF_SSM: Final[dict[str, Value]] = {
    "ssm.conv_kernel": _KERNEL,
    "ssm.inner_size": _INNER,
    "ssm.state_size": _STATE,
    "ssm.time_step_rank": _RANK,
    "ssm.group_count": _GROUPS,
}


def _every(count: int, *parts: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    assert len(parts) == count
    return {name: shape for part in parts for name, shape in part.items()}


def tiny_models() -> Iterator[TinyModel]:
    """Every kind of cache that llama.cpp has."""
    yield from _with_attention()
    yield from _with_recurrent_layers()


def _with_attention() -> Iterator[TinyModel]:
    def dense(number: int) -> dict[str, tuple[int, ...]]:
        return _norms(number, "attn_norm", "ffn_norm") | _attention(number) | _feed(number)

    yield TinyModel("dense", "llama", _OF_ATTENTION, _every(4, *map(dense, range(4))), 4)

    def gemma(number: int) -> dict[str, tuple[int, ...]]:
        more = _norms(number, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        return more | _attention(number, norms=True) | _feed(number)

    yield TinyModel(
        "sliding window",
        "gemma3",
        _OF_ATTENTION | {"attention.sliding_window": 1024},
        _every(7, *map(gemma, range(7))),
        7,
    )

    def moe(number: int) -> dict[str, tuple[int, ...]]:
        return _norms(number, "attn_norm", "ffn_norm") | _attention(number, norms=True) | _experts(number)

    yield TinyModel("mixture of experts", "qwen3moe", _OF_ATTENTION | _OF_EXPERTS, _every(4, *map(moe, range(4))), 4)

    def scout(number: int) -> dict[str, tuple[int, ...]]:
        norms = _norms(number, "attn_norm", "ffn_norm")
        return norms | _attention(number) | _experts(number) | _feed(number, "_shexp")

    yield TinyModel(
        "chunked window",
        "llama4",
        _OF_ATTENTION | _OF_EXPERTS | {"interleave_moe_layer_step": 1},
        _every(5, *map(scout, range(5))),
        5,
    )

    def deepseek(number: int) -> dict[str, tuple[int, ...]]:
        return _norms(number, "attn_norm", "ffn_norm") | _latent(number, 64, 32, 64, 32) | _feed(number)

    latent: dict[str, Value] = {
        "attention.head_count": _HEADS,
        "attention.head_count_kv": 1,
        "attention.key_length": 96,
        "attention.value_length": 64,
        "attention.key_length_mla": 64,
        "attention.value_length_mla": 32,
        "attention.kv_lora_rank": 64,
        "attention.q_lora_rank": 64,
        "rope.dimension_count": 32,
        "leading_dense_block_count": 4,
        "expert_shared_count": 1,
        "expert_weights_scale": 1.0,
    }
    yield TinyModel("latent attention", "deepseek2", latent | _OF_EXPERTS, _every(4, *map(deepseek, range(4))), 4)


def _with_recurrent_layers() -> Iterator[TinyModel]:
    def next_layer(number: int) -> dict[str, tuple[int, ...]]:
        parts = _norms(number, "attn_norm", "post_attention_norm") | _experts(number) | _feed(number, "_shexp")
        parts |= {f"blk.{number}.ffn_gate_inp_shexp.weight": (_WIDTH,)}
        return parts | (_attention(number, query=2, norms=True) if number % 4 == 3 else _delta_net(number))

    delta = _OF_SSM | {"ssm.inner_size": _STATE * _RANK}
    yield TinyModel(
        "hybrid, linear attention",
        "qwen3next",
        _OF_ATTENTION | _OF_EXPERTS | delta | {"expert_shared_feed_forward_length": _FEED},
        _every(8, *map(next_layer, range(8))),
        8,
    )

    in_width = 2 * _INNER + 2 * _GROUPS * _STATE + _RANK
    mamba = [_norms(number, "attn_norm") | _mamba(number, in_width) for number in range(4)]
    yield TinyModel(
        "recurrent", "mamba2", _OF_SSM | {"feed_forward_length": 0, "attention.head_count": _RANK}, _every(4, *mamba), 4
    )

    def granite(number: int) -> dict[str, tuple[int, ...]]:
        mixer = _attention(number) if number == 2 else _mamba(number, in_width)
        return _norms(number, "attn_norm", "ffn_norm") | mixer | _feed(number)

    yield TinyModel(
        "hybrid, Mamba 2",
        "granitehybrid",
        _OF_ATTENTION | _OF_SSM | {"attention.head_count_kv": [0, 0, _KV_HEADS, 0]},
        _every(4, *map(granite, range(4))),
        4,
    )


def compare(model: TinyModel, context_tokens: int, sequences: int = 1, cache_type: CacheType = "f16") -> Comparison:
    """Lets llama.cpp load the model and reads what it prints.

    Raises:
        RuntimeError: It did not load; the text is its last output.
    """
    content = model.content()
    header = read_header(lambda offset, length: content[offset : offset + length], len(content))
    estimate = estimate_memory(header, 0, context_tokens, cache_type=cache_type, sequences=sequences)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        path.write_bytes(content)
        command = [sys.executable, "-c", _CHILD, str(path), str(context_tokens), str(sequences)]
        done = subprocess.run(
            [*command, str(_GGML_TYPES[cache_type])], capture_output=True, text=True, timeout=120, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"{model.architecture}: {(done.stdout + done.stderr)[-1500:]}")
    printed = _PRINTED.findall(done.stdout + done.stderr)
    allocated = tuple(
        sum(float(mib) for kind, mib in printed if kind == wanted) for wanted in ("kv_cache", "memory_recurrent")
    )
    return Comparison(model, context_tokens, sequences, cache_type, _mib(estimate), (allocated[0], allocated[1]))


def _mib(estimate: MemoryEstimate) -> tuple[float, float]:
    return (estimate.kv_cache_bytes or 0) / 1024**2, estimate.state_bytes / 1024**2


def main() -> None:
    """Prints one row for each model and context."""
    print(
        f"{'kind':26} {'architecture':14} {'context':>8} {'seq':>3} {'cache':>5}  {'estimated':>18}  {'allocated':>18}"
    )
    for model in tiny_models():
        cases: list[tuple[int, int, CacheType]] = [(5000, 1, "f16"), (8192, 1, "f16"), (131_072, 1, "f16")]
        for context, sequences, cache_type in (*cases, (8192, 4, "f16"), (8192, 1, "q8_0")):
            one = compare(model, context, sequences, cache_type)
            pairs = [f"{cache:9.2f} + {state:.2f}" for cache, state in (one.estimated, one.allocated)]
            print(
                f"{model.kind:26} {model.architecture:14} {context:8} {sequences:3} {cache_type:>5}  "
                f"{pairs[0]:>18}  {pairs[1]:>18}  {one.difference:6.2%}"
            )


if __name__ == "__main__":
    main()
