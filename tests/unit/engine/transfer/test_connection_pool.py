"""What the pool knows of one connection, played second by second without sockets."""

from types import SimpleNamespace
from typing import Any

import pytest

from gglib_nb.engine.transfer.connection_pool import PooledConnection

MB = 1_000_000


def played(answer_s: float, seconds: float, bytes_per_second: float) -> tuple[PooledConnection, float]:
    """A connection opened at 0, whose bytes come evenly from its answer on; looked at ten times a second."""
    request = SimpleNamespace(start=0, position=0)
    worker: Any = SimpleNamespace(request=request)
    connection = PooledConnection(worker, 0.0, 0.0)
    now_s = 0.0
    for tick in range(round(seconds * 10)):
        now_s = tick / 10
        request.position = round(max(0.0, now_s - answer_s) * bytes_per_second)
        connection.sample(now_s)
    return connection, now_s


@pytest.mark.parametrize(("answer_s", "known_after_s"), [(0.1, 1.4), (0.4, 2.9)])
def test_the_rate_of_a_range_is_known_once_a_whole_second_lies_after_the_warm_up(answer_s, known_after_s) -> None:
    early, early_s = played(answer_s, known_after_s, 20 * MB)
    late, late_s = played(answer_s, known_after_s + 0.2, 20 * MB)

    assert early.request_rate(early_s) is None
    assert late.request_rate(late_s) == pytest.approx(20 * MB, rel=0.01)


def test_a_range_that_has_brought_nothing_has_no_rate() -> None:
    connection, now_s = played(answer_s=60, seconds=5, bytes_per_second=20 * MB)

    assert connection.request_rate(now_s) is None
