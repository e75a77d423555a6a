"""How many bytes a connection reads at once: its whole buffer on a fast line, few on a slow one."""

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.pacing import BUFFER_BYTES, SMALLEST_READ_BYTES, next_read_bytes

KIB = 1024


def after(*times_s: float, limit: float | None = None) -> int:
    """The length after reads that took so long to fill."""
    length_bytes = SMALLEST_READ_BYTES
    for took_s in times_s:
        length_bytes = next_read_bytes(length_bytes, took_s, limit)
    return length_bytes


def test_a_fast_connection_soon_reads_its_whole_buffer() -> None:
    assert after(*[0.0001] * 10) == BUFFER_BYTES


def test_a_connection_of_3_kb_per_second_never_waits_long_for_a_read() -> None:
    length_bytes = SMALLEST_READ_BYTES
    for _ in range(100):
        length_bytes = next_read_bytes(length_bytes, length_bytes / 3_000, None)
        assert length_bytes / 3_000 < 1


def test_a_connection_that_fills_a_read_in_time_keeps_its_length() -> None:
    assert after(*[0.0001] * 4, *[0.08] * 10) == 16 * KIB


def test_the_length_is_halved_on_a_connection_that_becomes_slow() -> None:
    assert after(*[0.0001] * 20, 0.3) == BUFFER_BYTES // 2


def test_a_bandwidth_limit_keeps_reads_short() -> None:
    assert after(*[0.0001] * 20, limit=200_000) == 10_000


@given(st.lists(st.floats(0, 10)), st.none() | st.floats(1, 1e9))
def test_a_read_is_never_empty_and_never_larger_than_the_buffer(times_s, limit) -> None:
    assert SMALLEST_READ_BYTES <= after(*times_s, limit=limit) <= BUFFER_BYTES
