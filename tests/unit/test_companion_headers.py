"""Identifying a file by its GGUF header, and pairing projectors with models by their headers."""

from types import MappingProxyType

import pytest

from gglib_nb.domain.companions import headers_agree, kind_of_header
from gglib_nb.domain.gguf_header import GgufHeader, Scalar


def header(tensor_count: int = 100, /, **keys: Scalar) -> GgufHeader:
    """`__` means a dot."""
    metadata = {key.replace("__", "."): value for key, value in keys.items()}
    return GgufHeader(
        version=3,
        tensor_count=tensor_count,
        metadata=MappingProxyType(metadata),
        array_lengths=MappingProxyType({}),
        layer_values=MappingProxyType({}),
        has_chat_template=False,
        tensor_parameters=None,
        header_bytes=None,
    )


WHOLE = {"general__architecture": "llama", "llama__block_count": 32, "llama__embedding_length": 4096}


@pytest.mark.parametrize(
    ("tensors", "keys", "kind"),
    [
        (291, WHOLE, "model"),
        (3, WHOLE, None),
        (3, WHOLE | {"tokenizer__ggml__model": "gpt2"}, "model"),
        (0, WHOLE, "vocab"),
        (0, WHOLE | {"split__count": 2}, "model"),
        (9, WHOLE | {"llama__nextn_predict_layers": 1}, None),
        (9, WHOLE | {"llama__nextn_predict_layers": 1, "split__count": 2}, None),
        (400, WHOLE | {"llama__nextn_predict_layers": 1}, "model"),
        (300, {"general__architecture": "clip", "general__type": "mmproj"}, "mmproj"),
        (300, {"general__architecture": "clip"}, "mmproj"),
        (64, {"general__architecture": "llama", "general__type": "adapter", "adapter__type": "lora"}, "adapter"),
        (31, {"general__architecture": "controlvector"}, "adapter"),
        (400, {"general__type": "imatrix"}, "imatrix"),
        (12, {"general__architecture": "eagle3", "eagle3__block_count": 1}, "draft"),
        (12, {"general__architecture": "llama"}, None),
        (12, {}, None),
    ],
)
def test_a_header_identifies_a_file_or_is_inconclusive(tensors: int, keys: dict[str, Scalar], kind: str | None) -> None:
    assert kind_of_header(header(tensors, **keys)) == kind


def model(architecture: str, width: int, basename: str = "") -> GgufHeader:
    return header(
        **{
            "general.architecture": architecture,
            f"{architecture}.embedding_length": width,
            "general.basename": basename,
        }
    )


def projector(kind: str, width: int, basename: str = "", *, written_by: str = "mmproj") -> GgufHeader:
    return header(
        **{
            "general.architecture": "clip",
            "general.type": written_by,
            "clip.projector_type": kind,
            "clip.vision.projection_dim": width,
            "general.basename": basename,
        }
    )


def test_the_embedding_width_must_match_the_model() -> None:
    gemma = model("gemma3", 2560, "gemma-3")

    assert headers_agree(projector("gemma3", 2560, "Gemma-3"), gemma) is True
    assert headers_agree(projector("gemma3", 5376, "gemma-3"), gemma) is False
    assert headers_agree(projector("gemma3", 2560, "another"), gemma) is None


def test_a_projector_belongs_to_one_family() -> None:
    assert headers_agree(projector("gemma3", 4096), model("qwen3", 4096)) is False
    assert headers_agree(projector("qwen3vl_merger", 4096), model("llama", 4096)) is False
    assert headers_agree(projector("mlp", 4096, "x"), model("llama", 4096, "x")) is True


def test_a_width_written_by_an_old_converter_is_ignored() -> None:
    assert headers_agree(projector("mlp", 768, written_by=""), model("llama", 4096)) is None
