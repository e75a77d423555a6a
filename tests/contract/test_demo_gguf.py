"""The GGUF files of the embedded hub, read by the `gguf` package and compared with real ones."""

from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader

from gglib_nb.demo import Content, generated_repositories
from gglib_nb.demo.gguf_writer import I32, U16, Tensor, Value, gguf_content
from gglib_nb.demo.llama import Llama
from tests.support.hub import small_gguf


def read(content: Content, folder: Path, name: str = "model.gguf") -> GGUFReader:
    path = folder / name
    path.write_bytes(b"".join(content.slices()))
    return GGUFReader(path)


def facts(reader: GGUFReader) -> dict[str, object]:
    return {name: field.contents() for name, field in reader.fields.items()}


def types(reader: GGUFReader) -> dict[str, list[int]]:
    return {name: [int(kind) for kind in field.types] for name, field in reader.fields.items()}


def test_every_type_of_value_is_read_back(tmp_path: Path) -> None:
    metadata: dict[str, Value] = {
        "text": "ü",
        "flag": True,
        "small": U16(7),
        "signed": I32(-7),
        "count": 7,
        "real": 0.5,
        "list": ["a", "b"],
    }

    read_back = facts(read(gguf_content(metadata, [], "seed"), tmp_path))

    assert {name: read_back[name] for name in metadata} == metadata


def test_a_value_of_a_wrong_type_is_refused() -> None:
    with pytest.raises(TypeError, match="no type for None"):
        gguf_content({"key": None}, [], "seed")  # type: ignore[dict-item]


def test_tensors_have_their_types_shapes_and_offsets(tmp_path: Path) -> None:
    tensors = [Tensor("a", (3,), "F32"), Tensor("b", (256, 2), "Q4_K"), Tensor("c", (32, 3), "Q8_0")]

    found = read(gguf_content({"general.architecture": "llama"}, tensors, "seed"), tmp_path).tensors

    assert [(tensor.name, tensor.shape.tolist(), tensor.n_bytes) for tensor in found] == [
        ("a", [3], 12),
        ("b", [256, 2], 288),
        ("c", [32, 3], 102),
    ]
    assert [tensor.tensor_type for tensor in found] == [
        GGMLQuantizationType.F32,
        GGMLQuantizationType.Q4_K,
        GGMLQuantizationType.Q8_0,
    ]
    assert [int(tensor.data_offset) % 32 for tensor in found] == [0, 0, 0]


def test_split_entries_have_the_types_of_a_real_split(tmp_path: Path, shared_data: Path) -> None:
    shards = Llama("Split", layers=1).split("Q4_K_M", 2)
    keys = ("split.no", "split.count", "split.tensors.count")

    ours = types(read(shards[1], tmp_path))
    real = types(GGUFReader(shared_data / "gguf" / "dummy-00002-of-00002.gguf"))

    assert {key: ours[key] for key in keys} == {key: real[key] for key in keys}


def test_the_shards_of_a_split_add_up_to_the_whole(tmp_path: Path) -> None:
    model = Llama("Split", layers=2)
    whole = read(model.whole("Q8_0"), tmp_path, "whole.gguf")
    shards = [read(content, tmp_path, f"{index}.gguf") for index, content in enumerate(model.split("Q8_0", 3))]

    names = [tensor.name for shard in shards for tensor in shard.tensors]

    assert names == [tensor.name for tensor in whole.tensors]
    assert [facts(shard)["split.no"] for shard in shards] == [0, 1, 2]
    assert [facts(shard)["split.tensors.count"] for shard in shards] == [len(names)] * 3
    assert "general.architecture" not in facts(shards[1])


def test_a_generated_model_has_a_complete_header(tmp_path: Path) -> None:
    model = Llama("Tiny", layers=2)

    reader = read(model.whole("Q4_K_M"), tmp_path)

    header = facts(reader)
    assert (header["general.architecture"], header["general.name"], header["general.file_type"]) == (
        "llama",
        "Tiny",
        15,
    )
    assert (header["llama.block_count"], header["llama.context_length"]) == (2, 8192)
    assert (header["llama.attention.head_count"], header["llama.attention.head_count_kv"]) == (8, 4)
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == 4096
    assert "add_generation_prompt" in str(header["tokenizer.chat_template"])
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == model.parameters


def test_the_offered_shards_and_projector_are_readable(tmp_path: Path) -> None:
    files = {
        path: file
        for repository in generated_repositories()
        for path, file in getattr(repository.commit(), "files", {}).items()
    }
    second, third = (files[f"Q4_K_M/sharded-llama-Q4_K_M-{n:05}-of-00003.gguf"].content for n in (2, 3))

    tensors = [len(read(content, tmp_path).tensors) for content in (second, third)]
    projector = facts(read(files["mmproj-vision-llama-F16.gguf"].content, tmp_path))

    assert tensors == [49, 49]
    assert (projector["general.architecture"], projector["general.type"]) == ("clip", "mmproj")


def test_generated_files_are_the_same_each_time() -> None:
    first, second = (Llama("Tiny", layers=1).whole("Q2_K") for _ in range(2))

    assert first.sha256 == second.sha256
    assert first.sha256 != Llama("Tiny", layers=1).whole("Q3_K_M").sha256


@pytest.mark.parametrize("size_bytes", [512, 513, 1000, 300_000])
def test_a_small_gguf_has_exactly_the_requested_size(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "m-00002-of-00003.gguf"

    reader = read(small_gguf(path.name, size_bytes), tmp_path, path.name)

    assert path.stat().st_size == size_bytes
    assert (facts(reader)["split.no"], facts(reader)["split.count"]) == (1, 3)
