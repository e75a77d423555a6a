"""The offsets of tensors in a GGUF file: as in the gguf package; malformed bytes raise an error."""

import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.demo.gguf_writer import Tensor as DemoTensor
from gglib_nb.demo.gguf_writer import gguf_content
from gglib_nb.domain.gguf import KnownStrings, Tensor, TensorTable, placed, read_tensors, tensors_in_tail
from gglib_nb.errors import GgufError
from tests.support.gguf_files import Held, gguf_bytes, noise


def table_of(content: bytes) -> TensorTable:
    return read_tensors(lambda offset, length: content[offset : offset + length], len(content))


@pytest.mark.parametrize("name", ["dummy.gguf", "dummy-00001-of-00002.gguf", "dummy-00002-of-00002.gguf"])
def test_tensor_offsets_match_the_gguf_package(shared_data: Path, name: str) -> None:
    path = shared_data / "gguf" / name

    theirs = {one.name: one for one in gguf.GGUFReader(path).tensors}
    ours = table_of(path.read_bytes()).tensors

    assert {one.name for one in ours} == set(theirs)
    for tensor in ours:
        other = theirs[tensor.name]
        assert (tensor.offset_bytes, tensor.type, tensor.shape) == (
            other.data_offset,
            other.tensor_type,
            tuple(map(int, other.shape)),
        )
        assert 0 <= tensor.span_bytes - other.n_bytes < 32


def test_a_span_ends_at_the_next_tensor_or_the_end_of_the_file() -> None:
    content = gguf_bytes([Held("a", noise(100, 1)), Held("nothing", b""), Held("b", noise(40, 2))]) + b"tail"

    first, last = table_of(content).tensors

    assert (first.name, first.span_bytes) == ("a", 128)
    assert (last.name, last.span_bytes) == ("b", 64 + 4)
    assert last.end_bytes == len(content)


def test_a_vocabulary_that_is_known_from_another_file_is_skipped_and_any_other_is_read() -> None:
    known: KnownStrings = {}
    for words in (["one", "two"], ["one", "two"], ["three", "four"], ["eno", "owt"], ["one", "two"]):
        made = gguf_content({"tokenizer.ggml.tokens": words * 6_000}, [DemoTensor("a.weight", (32,), "I8")], "seed")
        content = b"".join(made.slices())

        found = read_tensors(
            lambda offset, length, of=content: of[offset : offset + length], len(content), known_strings=known
        )

        assert found == table_of(content)
        assert list(known) == [12_000]


@pytest.mark.parametrize(
    ("infos", "says"),
    [
        ([("a", 0), ("a", 32)], "the same name"),
        ([("a", 0), ("b", 0)], "overlap"),
        ([("a", 10_000)], "beyond"),
        ([("a", 2**64 - 1)], "beyond"),
    ],
)
def test_impossible_tensors_are_refused(infos, says) -> None:
    with pytest.raises(GgufError, match=says):
        placed([Tensor(name, 0, (8,), offset) for name, offset in infos], 100, 5_000)


def test_an_empty_tensor_takes_no_space() -> None:
    infos = [Tensor("none", 0, (0, 4), 0), Tensor("some", 0, (4,), 0)]

    assert placed(infos, 100, 200) == (Tensor("some", 0, (4,), 100, 100),)


def test_names_of_megabytes_are_refused() -> None:
    infos = b"".join(
        struct.pack("<Q", 60_000) + b"%05d" % number + b"x" * 59_995 + struct.pack("<IQIQ", 1, 4, 0, number * 32)
        for number in range(50)
    )
    content = b"GGUF" + struct.pack("<IQQ", 3, 50, 0) + infos + b"\0" * 10_000

    with pytest.raises(GgufError, match="too long"):
        table_of(content)


@given(st.binary(max_size=400), st.integers(0, 10), st.integers(0, 3))
def test_any_bytes_give_a_table_or_a_gguf_error(data, tensors, pairs) -> None:
    content = b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + data

    try:
        table = table_of(content)
    except GgufError:
        return
    assert all(0 < one.span_bytes <= len(content) - one.offset_bytes for one in table.tensors)


@given(st.data())
def test_a_header_with_any_byte_changed_gives_a_table_within_the_file_or_a_gguf_error(data) -> None:
    content = bytearray(gguf_bytes([Held(f"blk.{index}.weight", noise(64, index)) for index in range(4)]))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))

    try:
        table = table_of(bytes(content))
    except GgufError:
        return
    assert all(one.offset_bytes + one.span_bytes <= len(content) for one in table.tensors)


def test_the_tail_of_a_header_is_enough_if_another_file_of_the_model_is_local() -> None:
    tensors = [Held(f"blk.{index}.weight", noise(200, index)) for index in range(5)]
    here = table_of(gguf_bytes(tensors, text="short"))
    wanted = gguf_bytes(tensors, text="a longer template")

    tail = wanted[here.infos_start - 40 : here.infos_start + 2_000]
    found = tensors_in_tail(tail, here.infos_start - 40, len(wanted), here, len(tensors))

    assert found == table_of(wanted).tensors


@given(st.binary(max_size=300), st.booleans())
def test_an_invalid_tail_gives_no_tensors_and_never_fails(noise_bytes, is_begun) -> None:
    tensors = [Held(f"blk.{index}.weight", noise(64, index)) for index in range(3)]
    here = table_of(gguf_bytes(tensors))
    begin = struct.pack("<Q", 12) + b"blk.0.weight" if is_begun else b""

    found = tensors_in_tail(begin + noise_bytes, 64, 10_000, here, 3)

    assert found is None or all(one.end_bytes <= 10_000 for one in found)
