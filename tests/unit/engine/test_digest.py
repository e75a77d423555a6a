"""Digests do not depend on how bytes are split, or how often they are computed again."""

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.digest import FrontDigest

DATA = bytes(range(256)) * 4


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, len(DATA)), max_size=6), st.lists(st.integers(0, len(DATA)), max_size=3))
def test_the_digests_of_parts_and_whole_do_not_depend_on_how_data_is_split(cuts, ends) -> None:
    edges = [0, *sorted(ends), len(DATA)]
    parts = list(itertools.pairwise(edges))
    digest = FrontDigest(edges[1:])

    for piece in in_pieces(DATA, cuts):
        digest.feed(memoryview(piece))

    assert digest.digests == [sha256(DATA[start:end]) for start, end in parts]
    assert digest.is_complete
    assert digest.whole == sha256(DATA)


def test_an_empty_file_has_its_digest_at_once() -> None:
    assert FrontDigest([0]).digests == [sha256(b"")]


def test_bytes_beyond_the_end_are_not_hashed() -> None:
    digest = FrontDigest([3])

    digest.feed(memoryview(b"abcdef"))

    assert digest.whole == sha256(b"abc")
