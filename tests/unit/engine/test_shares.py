"""Shares of the connections are fair, and workers stay within the limit and are kept for the next transfer."""

import errno
import threading
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine import connections
from gglib_nb.engine.connections import Pool
from gglib_nb.engine.pacing import fair_shares

URL, OTHER = "http://cdn.example/a", "http://other.example/b"


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 20), min_size=1), st.integers(0, 40))
def test_shares_are_max_min_fair(wants, total) -> None:
    shares = fair_shares(wants, total)

    assert sum(shares.values()) == min(total, sum(wants.values()))
    assert all(0 <= shares[one] <= want for one, want in wants.items())
    unserved = [shares[one] for one, want in wants.items() if shares[one] < want]
    assert all(share <= min(unserved) + 1 for share in shares.values() if unserved)


@pytest.fixture
def pool():
    pool = Pool(3, idle_s=60)
    yield pool
    pool.set_max(0)


def test_workers_never_exceed_the_limit(pool) -> None:
    workers = [pool.acquire(URL) for _ in range(4)]

    assert [worker is not None for worker in workers] == [True, True, True, False]

    pool.discard(workers[0])
    workers[0] = pool.acquire(URL)
    assert workers[0] is not None
    for worker in workers[:3]:
        pool.discard(worker)


def test_an_idle_worker_serves_the_next_transfer_preferring_its_own_host(pool) -> None:
    first, second = pool.acquire(URL), pool.acquire(OTHER)
    first.origin, second.origin = ("http", "cdn.example", 80), ("http", "other.example", 80)
    pool.release(first)
    pool.release(second)

    assert pool.acquire(URL) is first
    assert pool.acquire(OTHER) is second
    pool.release(first)
    pool.release(second)


def test_a_lower_limit_closes_idle_workers_at_once_and_busy_ones_on_release(pool) -> None:
    busy, idle = pool.acquire(URL), pool.acquire(URL)
    pool.release(idle)

    pool.set_max(1)
    assert pool.acquire(URL) is None
    pool.release(busy)

    assert pool.acquire(URL) is busy
    pool.release(busy)


def test_a_worker_without_memory_keeps_no_place(pool, monkeypatch) -> None:
    def refuses(size_bytes: int) -> memoryview:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(connections, "new_buffer", refuses)
        for _ in range(3):
            with pytest.raises(OSError, match="memory"):
                pool.acquire(URL)

    pool.discard(pool.acquire(URL))


def test_a_transfer_with_a_connection_does_without_another_one_for_lack_of_threads(pool, monkeypatch) -> None:
    first = pool.acquire(URL)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        assert pool.acquire(URL) is None
        pool.release(first)
        assert pool.acquire(OTHER) is first

    second = pool.acquire(URL)
    assert second is not None
    for worker in (first, second):
        pool.discard(worker)


def test_the_share_of_an_ended_attempt_is_free_again(pool) -> None:
    pool.share(1, 3)

    pool.forget(1)

    assert pool.share(2, 3) == 3
