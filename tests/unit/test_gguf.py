"""The GGUF header reader: real files, files written by the gguf package, and malformed bytes."""

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gglib_nb.domain.gguf import read_header
from gglib_nb.domain.gguf_header import GgufHeader, header_facts
from gglib_nb.errors import GgufError

U8, U32, F32, BOOL, STRING, ARRAY = 0, 4, 6, 7, 8, 9


class Source:
    """Bytes that count how many of them were read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return self.content[offset : offset + length]

    def header(self, **limits: int) -> GgufHeader:
        return read_header(self.read, len(self.content), **limits)


def header_of(content: bytes) -> GgufHeader:
    return Source(content).header()


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values


def tensor(name: str, *sizes: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, 0, 0)


def file_of(*parts: bytes, version: int = 3, tensors: int = 0, pairs: int | None = None) -> bytes:
    """A file of these parts; its declared counts can be wrong."""
    counted = len(parts) - tensors if pairs is None else pairs
    return b"GGUF" + struct.pack("<IQQ", version, tensors, counted) + b"".join(parts)


def written(tmp_path: Path, fill: Callable[[gguf.GGUFWriter], None], architecture: str = "llama") -> bytes:
    """A file from the gguf package's own writer."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def agrees_with_the_gguf_package(path: Path) -> None:
    """Compares everything that the header keeps with what gguf.GGUFReader finds in the file."""
    header = header_of(path.read_bytes())
    reader = gguf.GGUFReader(path)
    theirs = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}

    scalars = {name: field.contents() for name, field in theirs.items() if field.types[0] != gguf.GGUFValueType.ARRAY}
    for name, value in header.metadata.items():
        assert value == pytest.approx(scalars[name]), name
    assert all(len(str(scalars[name])) > 4000 for name in set(scalars) - set(header.metadata))
    lengths = {name: len(field.data) for name, field in theirs.items() if field.types[0] == gguf.GGUFValueType.ARRAY}
    assert dict(header.array_lengths) == lengths
    for name, values in header.layer_values.items():
        assert list(values) == theirs[name].contents(), name
    assert header.tensor_count == len(reader.tensors)
    assert header.tensor_parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.header_bytes == reader.data_offset


@pytest.mark.parametrize("name", ["dummy.gguf", "dummy-00001-of-00002.gguf", "dummy-00002-of-00002.gguf"])
def test_real_files_are_read_like_the_gguf_package_does(shared_data: Path, name: str) -> None:
    agrees_with_the_gguf_package(shared_data / "gguf" / name)


@pytest.mark.slow  # the package needs seconds for a vocabulary
def test_a_vocabulary_is_read_like_the_gguf_package_does(shared_data: Path) -> None:
    agrees_with_the_gguf_package(shared_data / "gguf" / "ggml-vocab-bert-bge.gguf")


def test_the_header_of_every_real_file_matches_its_index(shared_data: Path) -> None:
    index = json.loads((shared_data / "gguf" / "INDEX.json").read_text())

    headers = {entry["file"]: header_of((shared_data / "gguf" / entry["file"]).read_bytes()) for entry in index}
    for entry in index:
        header = headers[entry["file"]]
        assert (header.version, header.tensor_count) == (entry["version"], entry["tensors"])
        assert (header.architecture, header.name) == (entry["arch"], entry["name"])
        assert (header.vocabulary_size or 0) == entry["vocab"]
        assert (header.split_no, header.split_count) == (
            entry["split"].get("split.no"),
            entry["split"].get("split.count"),
        )


def fill_completely(writer: gguf.GGUFWriter) -> None:
    writer.add_name("Tiny")
    writer.add_size_label("1.5B")
    writer.add_context_length(8192)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(8)
    writer.add_head_count_kv([4, 2])
    writer.add_key_length(16)
    writer.add_value_length(8)
    writer.add_sliding_window(512)
    writer.add_expert_count(16)
    writer.add_file_type(15)
    writer.add_rope_freq_base(10_000.0)
    writer.add_causal_attention(True)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "bc", ""])
    writer.add_token_scores([0.5, 1.0, 2.0])
    writer.add_chat_template("{{ messages }}")
    writer.add_int64("own.negative", -7)
    writer.add_custom_alignment(64)
    writer.add_tensor("token_embd.weight", np.zeros((3, 64), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros((64,), dtype=np.float16))


def test_a_generated_file_is_read_like_the_gguf_package_does(tmp_path: Path) -> None:
    written(tmp_path, fill_completely)

    agrees_with_the_gguf_package(tmp_path / "model.gguf")


def test_facts_are_the_values_stored_in_the_catalog(tmp_path: Path) -> None:
    content = written(tmp_path, fill_completely)

    facts = header_facts(header_of(content))
    assert facts.pop("header_bytes") == 1088
    assert facts.pop("chat_template_sha256") == hashlib.sha256(b"{{ messages }}").hexdigest()
    assert facts == {
        "version": 3,
        "architecture": "llama",
        "name": "Tiny",
        "parameter_count": 256,
        "context_length": 8192,
        "block_count": 2,
        "embedding_length": 64,
        "head_count": 8,
        "head_count_kv": 4,
        "key_length": 16,
        "value_length": 8,
        "sliding_window": 512,
        "expert_count": 16,
        "file_type": 15,
        "file_type_label": "Q4_K_M",
        "tokenizer_model": "gpt2",
        "vocabulary_size": 3,
        "has_chat_template": True,
        "tensor_count": 2,
        "split_no": None,
        "split_count": None,
        "split_tensors_count": None,
        "tensor_parameters": 256,
        "alignment": 64,
        "licence": None,
    }


def test_a_value_per_layer_is_kept_as_a_list(tmp_path: Path) -> None:
    header = header_of(written(tmp_path, fill_completely))

    assert header.per_layer("attention.head_count_kv") == (4, 2)


def test_a_header_can_be_sent_to_another_process() -> None:
    header = header_of(file_of(pair("general.name", STRING, text("a"))))

    assert pickle.loads(pickle.dumps(header)) == header


def test_version_2_is_read_like_version_3() -> None:
    parts = (pair("general.architecture", STRING, text("llama")), tensor("w", 4, 8))

    assert header_of(file_of(*parts, version=2, tensors=1)).parameter_count == 32


def test_a_shard_does_not_claim_the_parameters_of_the_whole_model() -> None:
    shard = file_of(pair("split.count", U32, struct.pack("<I", 3)), tensor("w", 4, 8), tensors=1)
    labelled = file_of(
        pair("split.count", U32, struct.pack("<I", 3)),
        pair("general.size_label", STRING, text("30B-A3B")),
        tensor("w", 4, 8),
        tensors=1,
    )

    assert header_of(shard).parameter_count is None
    assert header_of(labelled).parameter_count == 30_000_000_000


def test_a_size_label_that_is_no_size_is_ignored() -> None:
    labelled = header_of(file_of(pair("general.size_label", STRING, text("9" * 400 + "B"))))

    assert header_facts(labelled)["parameter_count"] is None


def test_a_declared_parameter_count_outranks_the_tensors() -> None:
    stated = pair("general.parameter_count", 10, struct.pack("<Q", 671_000_000_000))

    assert header_of(file_of(stated, tensor("w", 4, 8), tensors=1)).parameter_count == 671_000_000_000


def test_a_value_of_an_unexpected_type_is_unknown() -> None:
    header = header_of(
        file_of(
            pair("general.architecture", U32, struct.pack("<I", 7)),
            pair("general.file_type", BOOL, b"\x01"),
            pair("split.no", 5, struct.pack("<i", -1)),
        )
    )

    assert (header.architecture, header.file_type, header.split_no, header.context_length) == (None,) * 4


def test_nested_arrays_are_counted() -> None:
    inner = array(U8, 2, b"ab")

    assert header_of(file_of(pair("x", ARRAY, array(ARRAY, 2, inner + inner)))).array_lengths == {"x": 2}


@pytest.mark.parametrize(
    ("key", "length", "is_kept"),
    [
        ("general.description", 4_096, True),
        ("general.description", 4_097, False),
        ("tokenizer.chat_template", 262_144, True),
        ("tokenizer.chat_template.tool_use", 262_144, True),
        ("tokenizer.chat_template", 262_145, False),
    ],
)
def test_a_long_text_is_kept_only_if_it_is_a_chat_template(key: str, length: int, is_kept: bool) -> None:
    header = header_of(file_of(pair(key, STRING, text("x" * length))))

    assert (key in header.metadata) is is_kept
    assert header.has_chat_template is (key == "tokenizer.chat_template")


def test_skipped_values_are_not_downloaded() -> None:
    scores = pair("tokenizer.ggml.scores", ARRAY, array(F32, 250_000, bytes(1_000_000)))
    source = Source(file_of(scores, pair("general.name", STRING, text("behind"))))

    assert source.header(window_bytes=4096).name == "behind"
    assert source.read_bytes < 10_000


def test_a_byte_limit_returns_the_values_before_it() -> None:
    tokens = b"".join(text(f"token {number}") for number in range(50_000))
    source = Source(
        file_of(
            pair("general.architecture", STRING, text("llama")),
            pair("llama.block_count", U32, struct.pack("<I", 32)),
            pair("tokenizer.ggml.tokens", ARRAY, array(STRING, 50_000, tokens)),
            tensor("w", 4),
            tensors=1,
        )
    )

    header = source.header(limit_bytes=100_000)
    assert (header.block_count, header.vocabulary_size) == (32, 50_000)
    assert (header.header_bytes, header.parameter_count) == (None, None)
    assert source.read_bytes <= 100_000


@pytest.mark.parametrize("window_bytes", [1, 7, 64, 10_000_000])
def test_the_window_size_does_not_change_the_header(shared_data: Path, window_bytes: int) -> None:
    content = (shared_data / "gguf" / "dummy.gguf").read_bytes()

    assert Source(content).header(window_bytes=window_bytes) == header_of(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(40), "not a GGUF file"),
        (b"GGU", "declares 4 more bytes"),
        (b"GGUF" + struct.pack("<III", 1, 0, 0) + bytes(12), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 4"),
        (file_of(pairs=2**63), "9223372036854775808 keys"),
        (file_of(tensors=2**40, pairs=0), "1099511627776 tensors"),
        (file_of(pair("k", STRING, struct.pack("<Q", 2**62)) + bytes(9)), "declares"),
        (file_of(struct.pack("<Q", 2**20) + bytes(2**20 + 5)), "a name of 1048576 bytes"),
        (file_of(pair("k", 13, b"") + bytes(9)), "13 is not a type"),
        (file_of(pair("k", ARRAY, array(13, 1)) + bytes(9)), "13 is not a type"),
        (file_of(pair("k", ARRAY, array(STRING, 2**60))), "1152921504606846976 strings"),
        (file_of(pair("k", ARRAY, array(F32, 2**61))), "declares"),
        (file_of(pair("k", ARRAY, array(ARRAY, 1) * 9 + bytes(99))), "too deeply"),
        (file_of(pair("k", ARRAY, array(ARRAY, 150_000, array(U8, 0) * 150_000))), "too deeply"),
        (file_of(pair("k", U8, b"1"), pair("k", U8, b"2")), "'k' occurs twice"),
        (file_of(tensor("w", 1, 1, 1, 1, 1), tensors=1), "5 dimensions"),
        (file_of(tensor("w", 2**32, 2**31), tensors=1), "too many values"),
        (file_of(tensor("a", 2**62), tensor("b", 2**62), tensors=2), "too many values"),
        (file_of(pair("general.alignment", U32, struct.pack("<I", 3))), "alignment of 3"),
        (file_of(pair("general.alignment", U32, struct.pack("<I", 0))), "alignment of 0"),
        (file_of(*(pair(f"{n:02}" * 32_000, U8, b"1") for n in range(40))), "too long"),
    ],
)
def test_malformed_bytes_raise_an_error_that_names_the_fault(content: bytes, says: str) -> None:
    with pytest.raises(GgufError, match=says):
        header_of(content)


def test_a_source_that_ends_early_is_an_error() -> None:
    content = file_of(pair("general.name", STRING, text("x" * 100)))

    with pytest.raises(GgufError, match="ends inside its GGUF header"):
        read_header(Source(content[:60]).read, len(content))


def test_many_small_values_do_not_fill_the_memory() -> None:
    pairs = [pair(f"k{number}", ARRAY, array(U32, 1024, bytes(4096))) for number in range(600)]

    header = header_of(file_of(*pairs))
    assert len(header.array_lengths) == 600
    assert len(header.layer_values) < 300


SCALARS = st.one_of(st.booleans(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=20), st.floats(width=32))
KEYS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz._", min_size=1, max_size=20).map("own.".__add__)


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@settings(max_examples=40)
@given(values=st.dictionaries(KEYS, SCALARS | st.lists(st.integers(0, 99), min_size=1, max_size=5), max_size=8))
def test_any_file_written_by_the_gguf_package_is_read_correctly(folder: Path, values: dict[str, Any]) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        for key, value in values.items():
            add(writer, key, value)

    header = header_of(written(folder, fill))

    for key, value in values.items():
        kept = list(header.layer_values[key]) if isinstance(value, list) else header.metadata[key]
        assert kept == pytest.approx(value, nan_ok=True) if isinstance(value, float) else kept == value


@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_are_read_or_raise_a_gguf_error(data: st.DataObject) -> None:
    seed = file_of(
        pair("general.architecture", STRING, text("llama")),
        pair("t", ARRAY, array(STRING, 2, text("ab") + text("c"))),
        pair("n", ARRAY, array(ARRAY, 1, array(U8, 1, b"x"))),
        tensor("w", 4, 8),
        tensors=1,
    )
    broken = bytearray(seed)
    for position in data.draw(st.lists(st.integers(0, len(seed) - 1), min_size=1, max_size=8)):
        broken[position] = data.draw(st.sampled_from([0, 1, 8, 9, 127, 128, 255]))
    content = bytes(broken[: data.draw(st.integers(0, len(seed)))])

    try:
        header_facts(header_of(content))
    except GgufError as error:
        assert str(error).endswith(".")  # noqa: PT017 - to be read or refused, both are right
