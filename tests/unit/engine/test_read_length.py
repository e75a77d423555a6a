"""How many bytes a connection reads at once: its whole buffer on a fast line, few on a slow one."""

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.pacing import BUFFER_BYTES, ReadLength

KIB = 1024
TLS_RECORD_BYTES = 16 * KIB


def after(*reads: tuple[int, float]) -> ReadLength:
    length = ReadLength()
    for count_bytes, took_s in reads:
        length.observe(count_bytes, took_s)
    return length


def read_through_tls(length: ReadLength, reads: int) -> None:
    """A fast TLS connection, which returns one record at a time to a reader that does not wait for more."""
    for _ in range(reads):
        wanted = length.length_bytes
        length.observe(wanted if length.is_filled else min(wanted, TLS_RECORD_BYTES), 0.0001)


def test_a_connection_starts_with_short_reads() -> None:
    assert ReadLength().length_bytes == 4 * KIB
    assert not ReadLength().is_filled


def test_a_fast_tls_connection_reaches_full_buffer_reads() -> None:
    length = ReadLength()

    read_through_tls(length, 20)

    assert length.length_bytes == BUFFER_BYTES
    assert length.is_filled


def test_a_connection_of_3_kb_per_second_never_waits_for_a_full_slice() -> None:
    length = after(*[(1_500, 0.5)] * 100)

    assert length.length_bytes == 4 * KIB
    assert not length.is_filled


def test_a_connection_that_fills_a_slice_in_time_keeps_its_read_length() -> None:
    assert after(*[(4 * KIB, 0.08)] * 10).length_bytes == 4 * KIB


def test_the_read_length_is_halved_on_a_connection_that_becomes_slow() -> None:
    length = ReadLength()
    read_through_tls(length, 20)

    length.observe(BUFFER_BYTES, 0.3)

    assert length.length_bytes == BUFFER_BYTES // 2


def test_a_bandwidth_limit_keeps_reads_short() -> None:
    length = ReadLength()
    read_through_tls(length, 20)

    length.limit(200_000)

    assert length.length_bytes == 10_000


@given(st.lists(st.tuples(st.integers(1, BUFFER_BYTES), st.floats(0, 10))))
def test_a_slice_is_never_empty_and_never_larger_than_the_buffer(reads) -> None:
    assert 4 * KIB <= after(*reads).length_bytes <= BUFFER_BYTES
