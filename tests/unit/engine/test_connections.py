"""A transfer's knowledge of its connections, simulated second by second without sockets."""

import queue
from types import SimpleNamespace
from typing import Any

import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.http_rules import origin_of
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine import resolve
from gglib_nb.engine.connections import Connections, Pace, Pool, Throttle
from gglib_nb.engine.file import Part, Request
from gglib_nb.engine.http import MovedError
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.timeouts import Timeouts

MB = 1_000_000


def played(answer_s: float, seconds: float, bytes_per_second: float) -> tuple[Pace, float]:
    """A connection opened at 0, whose bytes arrive evenly after its response; sampled ten times a second."""
    pace, now_s = Pace(), 0.0
    pace.begin(0, 0.0)
    for tick in range(round(seconds * 10)):
        now_s = tick / 10
        pace.sample(round(max(0.0, now_s - answer_s) * bytes_per_second), now_s)
    return pace, now_s


@pytest.mark.parametrize(("answer_s", "known_after_s"), [(0.1, 1.4), (0.4, 2.9)])
def test_the_rate_of_a_range_is_known_one_second_after_the_warm_up(answer_s, known_after_s) -> None:
    early, early_s = played(answer_s, known_after_s, 20 * MB)
    late, late_s = played(answer_s, known_after_s + 0.2, 20 * MB)

    assert early.rate(early_s) is None
    assert late.rate(late_s) == pytest.approx(20 * MB, rel=0.01)


def test_a_connection_without_data_has_no_rate() -> None:
    pace, now_s = played(answer_s=60, seconds=5, bytes_per_second=20 * MB)

    assert pace.rate(now_s) is None


def test_a_rate_is_that_of_all_requests_of_a_connection() -> None:
    pace, now_s = played(answer_s=0.1, seconds=2, bytes_per_second=20 * MB)

    pace.begin(500 * MB, now_s)
    pace.sample(502 * MB, now_s + 0.1)

    assert pace.rate(now_s + 0.1) == pytest.approx(20 * MB, rel=0.01)


class FakePool:
    """Provides any number of workers, and a share set by the test."""

    def __init__(self) -> None:
        self.throttle = Throttle()
        self.allowed = 16
        self.released = self.discarded = 0

    def share(self, attempt, want):
        return min(want, self.allowed)

    def acquire(self, url):
        return SimpleNamespace(
            origin=None, pace=Pace(), assign=lambda *_: None, answer_s=None, is_waiting=False, close=lambda: None
        )

    def release(self, worker) -> None:
        self.released += 1

    def discard(self, worker) -> None:
        self.discarded += 1

    def forget(self, attempt) -> None:
        pass


class FakeFile:
    """Has requests as long as it is asked for some."""

    pieces = SimpleNamespace(missing_bytes=100 * MB)
    requests = ()
    will_have_requests = True

    def next_request(self, now_s, length_bytes, connections):
        part = SimpleNamespace(is_whole=False, remote=None)
        return Request(self, None, part, Remote("http://cdn.example/x", None, None), 0, MB)

    def end_request(self, request) -> None:
        pass


def test_connections_without_a_request_are_kept_and_those_above_the_share_are_closed() -> None:
    pool = FakePool()
    connections = Connections(1, 12, pool, queue.SimpleQueue(), 0.0)
    connections.adjust_share(has_work=True)
    connections.assign_all([FakeFile()], None, 0.0)
    requests = list(connections._busy)
    assert len(requests) == 12

    for request in requests[:7]:
        connections.ended(request, 0.1)
    assert (pool.released, pool.discarded) == (7, 0)

    pool.allowed = 3
    connections.adjust_share(has_work=True)
    for tick in range(10):
        connections.replace_slow(tick / 10)
    assert (pool.released, pool.discarded) == (7, 2)


def test_a_connection_follows_redirects_of_the_storage_on_its_own_thread(monkeypatch) -> None:
    """It may have to look up a name, which would hold up the transfer's thread."""
    looked_up: list[str] = []
    monkeypatch.setattr(resolve, "_is_inside", lambda host: bool(looked_up.append(host)))
    part = Part(PlannedFile("x", 10, None, "/x"), Asked("http://hub.example", "o/r", "c" * 40, "x"), Timeouts())
    request: Any = Request(None, None, part, Remote("http://cdn.example/x", 10, None), 0, 10)

    class Redirecting:
        def request(self, url, *wanted):
            if url == "http://cdn.example/x":
                raise MovedError("http://other.example/x")
            return wanted

    pool = Pool(1, idle_s=60)
    worker: Any = pool.acquire(request.remote.url)

    assert worker._ask(Redirecting(), request) == (0, 10, 10)
    assert (request.remote.url, worker.origin) == ("http://other.example/x", ("http", "other.example", 80))
    assert looked_up == ["other.example"]
    pool.discard(worker)


def test_a_storage_that_redirects_endlessly_is_given_up() -> None:
    part = Part(PlannedFile("x", 10, "a" * 64, "/x"), Asked("http://hub.example", "o/r", "c" * 40, "x"), Timeouts())
    request: Any = Request(None, None, part, Remote("http://cdn.example/x", 10, None), 0, 10)

    class Circular:
        def request(self, url, *wanted):
            raise MovedError("/x")

    pool = Pool(1, idle_s=60)
    worker: Any = pool.acquire(request.remote.url)

    with pytest.raises(MovedError):
        worker._ask(Circular(), request)
    pool.discard(worker)


def test_a_line_that_becomes_silent_for_days_is_still_measured() -> None:
    connections = Connections(1, 1, FakePool(), queue.SimpleQueue(), 0.0)
    connections.assign_all([FakeFile()], None, 0.0)
    for request in connections._busy:
        request.position = 1

    for day in range(1, 1200):
        silent = connections.stalled(day * 86400.0, Timeouts(answer_s=15))

    assert {limit_s for _, limit_s in silent} == {15}


def test_a_slow_write_that_ends_just_before_the_search_for_silent_lines_is_no_silence() -> None:
    connections = Connections(1, 1, FakePool(), queue.SimpleQueue(), 0.0)
    connections.assign_all([FakeFile()], None, 0.0)
    connections.measure(100.0)
    for request in connections._busy:
        request.position = 1

    assert connections.stalled(100.0, Timeouts()) == []


def test_the_last_bytes_of_requests_whose_end_was_not_handled_before_the_transfer_ended_count() -> None:
    connections = Connections(1, 1, FakePool(), queue.SimpleQueue(), 0.0)
    connections.assign_all([FakeFile()], None, 0.0)
    requests = list(connections._busy)
    for request in requests:
        request.position = request.start + 7

    connections.close_all(0.1)

    assert connections.received_bytes == 7 * len(requests) > 0


class WarmPool(FakePool):
    """Keeps its workers, as the engine's pool does."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: list[Any] = []

    def acquire(self, url):
        worker = self.idle.pop() if self.idle else super().acquire(url)
        worker.origin = origin_of(url)
        return worker

    def release(self, worker) -> None:
        self.idle.append(worker)


class LongFile(FakeFile):
    """Has so many long requests."""

    def __init__(self, requests: int) -> None:
        self.left = requests

    def next_request(self, now_s, length_bytes, connections):
        if not self.left:
            return None
        self.left -= 1
        request = super().next_request(now_s, length_bytes, connections)
        request.end = 1000 * MB
        return request


@pytest.mark.parametrize("again_at", [22, 35])
def test_a_warm_connection_is_not_slow_because_it_was_idle(again_at) -> None:
    pool, file = WarmPool(), LongFile(2)
    connections = Connections(1, 1, pool, queue.SimpleQueue(), 0.0)
    connections.assign_all([file], None, 0.0)
    first, second = connections._busy

    for tick in range(1, 40):
        now_s = tick / 10
        for request in connections._busy:
            request.position += 2 * MB
        connections.measure(now_s)
        connections.replace_slow(now_s)
        if tick == 15:
            connections.ended(second, now_s)
        if tick == again_at:
            file.left = 1
            connections.assign_all([file], None, now_s)

    assert pool.discarded == 0
    assert first in connections._busy
    assert len(connections._busy) == 2


def test_of_equally_fast_connections_one_is_replaced_only_after_its_request() -> None:
    """Closed in the middle of a long request, it would lose its bytes in flight again and again."""
    pool, file = WarmPool(), LongFile(3)
    connections = Connections(1, 1, pool, queue.SimpleQueue(), 0.0)
    connections.assign_all([file], None, 0.0)
    requests = list(connections._busy)

    for tick in range(1, 60):
        for request in requests:
            request.position += 2 * MB
        connections.measure(tick / 10)
        connections.replace_slow(tick / 10)

    assert list(connections._busy) == requests
    assert pool.discarded == 0
    for request in requests:
        connections.ended(request, 6.0)
    assert pool.discarded == 1
