"""The block index of a file: however the bytes are split, exactly the wrong blocks are found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.library import BLOCK_BYTES, BlockDigests, wrong_ranges

SIZE = 2 * BLOCK_BYTES + 1000
DATA = bytes(range(250)) * (SIZE // 250 + 1)


@pytest.fixture(scope="module", autouse=True)
def right() -> bytes:
    return digests(DATA[:SIZE])


def digests(data: bytes, piece_bytes: int = 1 << 20) -> bytes:
    blocks = BlockDigests()
    for start in range(0, len(data), piece_bytes):
        blocks.feed(memoryview(data)[start : start + piece_bytes])
    return blocks.digest()


@pytest.mark.parametrize("piece_bytes", [999_983, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, SIZE])
def test_digests_do_not_depend_on_how_data_is_split(right: bytes, piece_bytes: int) -> None:
    assert digests(DATA[:SIZE], piece_bytes) == right


def test_a_whole_number_of_blocks_has_no_empty_last_block() -> None:
    assert len(digests(DATA[: 2 * BLOCK_BYTES])) == 16
    assert len(digests(DATA[: 2 * BLOCK_BYTES + 1])) == 24
    assert digests(b"") == b""


@given(at=st.integers(0, SIZE - 1))
def test_one_wrong_byte_identifies_its_block(right: bytes, at: int) -> None:
    start = at // BLOCK_BYTES * BLOCK_BYTES
    block = bytearray(DATA[start : min(start + BLOCK_BYTES, SIZE)])
    block[at - start] ^= 1
    number = start // BLOCK_BYTES
    spoilt = right[: number * 8] + digests(bytes(block)) + right[number * 8 + 8 :]

    assert wrong_ranges(right, spoilt, SIZE) == ((start, min(start + BLOCK_BYTES, SIZE)),)


def test_adjacent_wrong_blocks_are_one_range(right: bytes) -> None:
    assert wrong_ranges(right, b"\0" * len(right), SIZE) == ((0, SIZE),)


def test_a_truncated_part_is_wrong(right: bytes) -> None:
    assert wrong_ranges(right, digests(DATA[: BLOCK_BYTES + 5]), SIZE) == ((BLOCK_BYTES, SIZE),)


def test_appended_bytes_belong_to_no_range(right: bytes) -> None:
    assert wrong_ranges(right, right + b"\0" * 8, SIZE) == ()
