"""A small untrained Llama: real names, shapes and header, random weights.

Made for every quantization, whole, split, and with a vision projector. Knows nothing of repositories.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gglib_nb.demo.content import Content
from gglib_nb.demo.gguf_writer import I32, U16, Tensor, TensorType, Value, gguf_content

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# llama.cpp's number of the file type, the type of most tensors, and that of the more sensitive ones.
_RECIPES: Mapping[str, tuple[int, TensorType, TensorType]] = {
    "Q2_K": (10, "Q2_K", "Q3_K"),
    "Q3_K_M": (12, "Q3_K", "Q5_K"),
    "Q4_0": (2, "Q4_0", "Q6_K"),
    "Q4_K_S": (14, "Q4_K", "Q5_K"),
    "Q4_K_M": (15, "Q4_K", "Q6_K"),
    "Q5_K_M": (17, "Q5_K", "Q6_K"),
    "Q6_K": (18, "Q6_K", "Q6_K"),
    "Q8_0": (7, "Q8_0", "Q8_0"),
    "F16": (1, "F16", "F16"),
}
_SENSITIVE = ("output.weight", "attn_v.weight", "ffn_down.weight")
_NORMAL_TOKEN, _UNKNOWN_TOKEN, _CONTROL_TOKEN, _BYTE_TOKEN = 1, 2, 3, 6


@dataclass(frozen=True)
class Llama:
    """A model's shape; the defaults make 30 million parameters.

    Attributes:
        name: its name in the header.
        embedding: length of an embedding; like `feed_forward` a multiple of 256, the block of the K types.
        chat_template: the template of a conversation; a different one represents another commit of the same model.
        training: a different text represents more training: every weight differs.
    """

    name: str
    layers: int = 8
    embedding: int = 512
    feed_forward: int = 1536
    heads: int = 8
    kv_heads: int = 4
    vocabulary: int = 4096
    context: int = 8192
    chat_template: str = CHAT_TEMPLATE
    training: str = ""

    @cached_property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(tensor.values for tensor in self._tensors("F16"))

    def whole(self, quantization: str) -> Content:
        """The model in one file; its quantizations share the tensors that have one type in both."""
        return gguf_content(self._metadata(quantization), self._tensors(quantization), self._seed)

    def split(self, quantization: str, shards: int) -> list[Content]:
        """The model in several files, as llama.cpp's `gguf-split` makes them: the first has the whole header."""
        tensors = self._tensors(quantization)
        return [
            gguf_content(
                (self._metadata(quantization) if index == 0 else {}) | split_metadata(index, shards, len(tensors)),
                tensors[len(tensors) * index // shards : len(tensors) * (index + 1) // shards],
                self._seed,
            )
            for index in range(shards)
        ]

    def vision_projector(self) -> Content:
        """The file for image input: an `mmproj` in F16."""
        metadata: dict[str, Value] = {
            "general.architecture": "clip",
            "general.type": "mmproj",
            "general.name": f"{self.name} vision",
            "general.file_type": 1,
            "clip.has_vision_encoder": True,
            "clip.projector_type": "mlp",
            "clip.vision.image_size": 224,
            "clip.vision.embedding_length": 256,
            "clip.vision.projection_dim": self.embedding,
        }
        tensors = [Tensor("v.patch_embd.weight", (14, 14, 3, 256), "F16")]
        tensors += [Tensor(f"v.blk.{layer}.ffn_up.weight", (256, 1024), "F16") for layer in range(8)]
        tensors += [Tensor("mm.0.weight", (256, self.embedding), "F16")]
        return gguf_content(metadata, tensors, f"{self.name} mmproj")

    def hub_facts(self, total_file_size_bytes: int) -> dict[str, object]:
        """The Hub's `gguf` field for it."""
        return {
            "total": self.parameters,
            "architecture": "llama",
            "context_length": self.context,
            "chat_template": self.chat_template,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "totalFileSize": total_file_size_bytes,
        }

    def _metadata(self, quantization: str) -> dict[str, Value]:
        return {
            "general.architecture": "llama",
            "general.type": "model",
            "general.name": self.name,
            "general.file_type": _RECIPES[quantization][0],
            "general.quantization_version": 2,
            "llama.block_count": self.layers,
            "llama.context_length": self.context,
            "llama.embedding_length": self.embedding,
            "llama.feed_forward_length": self.feed_forward,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.kv_heads,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.dimension_count": self.embedding // self.heads,
            "llama.vocab_size": self.vocabulary,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": self._tokens,
            "tokenizer.ggml.scores": [-float(index) for index in range(self.vocabulary)],
            "tokenizer.ggml.token_type": self._token_types,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.chat_template": self.chat_template,
        }

    @property
    def _seed(self) -> str:
        return f"{self.name} {self.training}"

    @cached_property
    def _tokens(self) -> Sequence[str]:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        return tokens + [f"\u2581{index:x}" for index in range(self.vocabulary - len(tokens))]

    @cached_property
    def _token_types(self) -> Sequence[I32]:
        types = [_UNKNOWN_TOKEN, _CONTROL_TOKEN, _CONTROL_TOKEN, *[_BYTE_TOKEN] * 256]
        return [I32(kind) for kind in types + [_NORMAL_TOKEN] * (self.vocabulary - len(types))]

    def _tensors(self, quantization: str) -> list[Tensor]:
        _, common, sensitive = _RECIPES[quantization]
        kv_length = self.embedding // self.heads * self.kv_heads
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.embedding, self.vocabulary)}
        for layer in range(self.layers):
            shapes |= {
                f"blk.{layer}.attn_norm.weight": (self.embedding,),
                f"blk.{layer}.attn_q.weight": (self.embedding, self.embedding),
                f"blk.{layer}.attn_k.weight": (self.embedding, kv_length),
                f"blk.{layer}.attn_v.weight": (self.embedding, kv_length),
                f"blk.{layer}.attn_output.weight": (self.embedding, self.embedding),
                f"blk.{layer}.ffn_norm.weight": (self.embedding,),
                f"blk.{layer}.ffn_gate.weight": (self.embedding, self.feed_forward),
                f"blk.{layer}.ffn_up.weight": (self.embedding, self.feed_forward),
                f"blk.{layer}.ffn_down.weight": (self.feed_forward, self.embedding),
            }
        shapes |= {"output_norm.weight": (self.embedding,), "output.weight": (self.embedding, self.vocabulary)}
        return [
            Tensor(name, shape, "F32" if len(shape) == 1 else sensitive if name.endswith(_SENSITIVE) else common)
            for name, shape in shapes.items()
        ]


def split_metadata(index: int, shards: int, tensors: int) -> dict[str, Value]:
    """The header entries of one shard: its index (from 0), and the numbers of all shards and of all their tensors."""
    return {"split.no": U16(index), "split.count": U16(shards), "split.tensors.count": I32(tensors)}
