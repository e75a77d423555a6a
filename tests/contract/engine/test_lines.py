"""How the engine uses a line: how many connections, which ones, and what it reports when no data arrives."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gglib_nb.domain.reports import TransferFinished
from gglib_nb.engine import disk
from gglib_nb.engine.pacing import SMALLEST_SPLIT_BYTES
from tests.support.engine import HASTY, PATIENT, LocalEngine, configured
from tests.support.faulty_hub import Stall, edge_lottery
from tests.support.hub import make_repository

REPO = "demo/model"
NAME = "model.gguf"
SMALL = "small.gguf"
TINY = "tiny.gguf"
SIZE = 120_000_000


@pytest.fixture
def hub(make_hub):
    return make_hub([make_repository(REPO, {NAME: SIZE, SMALL: 20_000_000, TINY: 8_000_000})])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path)
    yield local
    local.close()


def bytes_by_connection(hub) -> Counter[int]:
    counts: Counter[int] = Counter()
    for record in hub.requests:
        if record.origin == "cdn":
            counts[record.connection_id] += record.bytes_sent
    return counts


@pytest.mark.slow
def test_with_a_rate_limit_per_connection_many_connections_are_used(hub, engine) -> None:
    hub.set_speed(per_connection=4_000_000)

    engine.fetch(REPO, NAME)

    running = [one for one in hub.requests if one.origin == "cdn"]
    assert len({one.connection_id for one in running}) >= 12


def test_connections_are_reused_for_further_ranges(hub, engine) -> None:
    engine.fetch(REPO, NAME)

    requests = [one for one in hub.requests if one.origin == "cdn"]
    assert len(requests) > len({one.connection_id for one in requests})


@pytest.mark.slow
def test_the_connection_limit_is_obeyed(hub, tmp_path) -> None:
    hub.set_speed(per_connection=10_000_000)
    engine = LocalEngine(hub, tmp_path, max_connections=3)

    engine.fetch(REPO, NAME)

    requests = [one for one in hub.requests if one.origin == "cdn"]
    for one in requests:
        # A closing connection may still look open to the server.
        assert sum(other.started_s <= one.started_s < (other.ended_s or 0) for other in requests) <= 3 + 1
    engine.close()


@pytest.mark.slow
def test_the_tail_of_one_connection_is_split_among_idle_ones(hub, engine) -> None:
    hub.set_speed(per_connection=500_000)

    engine.fetch(REPO, TINY)

    assert hub.ranges(TINY)[0] == (0, 7_999_999)
    assert len(bytes_by_connection(hub)) >= 3


@pytest.mark.slow
def test_connections_to_slow_edges_are_replaced_and_fast_ones_kept(hub, engine) -> None:
    # On the slow edges no answer ends in time, however busy the machine is.
    hub.set_edge_lottery(edge_lottery([(0.5, 50_000), (0.5, 12_000_000)], seed=3))

    engine.fetch(REPO, NAME)

    records = [one for one in hub.requests if one.origin == "cdn"]
    kept = {one.connection_id for one in records if one.is_whole}
    # Another connection fetches the rest of an abandoned request. A split, which happens at the end, takes only a tail.
    starts = [one.range[0] for one in records]
    replaced = {
        one.connection_id
        for one in records
        if any(one.range[0] < at <= one.range[0] + min(one.bytes_sent, SMALLEST_SPLIT_BYTES - 1) for at in starts)
    }
    assert len(replaced - kept) >= 4
    assert sum(one.bytes_sent for one in records if one.connection_id in kept) > 0.8 * SIZE


@pytest.mark.slow
def test_silence_is_reported_in_seconds_before_any_action(hub, tmp_path) -> None:
    stall = Stall(after_bytes=1_000_000)
    hub.faults.add(stall, path=SMALL, origin="cdn", times=None)
    engine = LocalEngine(hub, tmp_path)
    attempt = engine.begin(REPO, SMALL)

    stalled = engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "stalled" and one.notice_s > 2.5)
    stall.release()

    assert stalled.notice_s < PATIENT.stall_s
    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    engine.close()


@pytest.mark.slow
def test_a_bandwidth_limit_is_exact_to_five_percent_over_ten_seconds(hub, engine) -> None:
    limit = 3_000_000
    engine.send(configured(hub, bandwidth_limit_bytes_per_second=limit))
    attempts = [engine.begin(REPO, NAME), engine.begin(REPO, SMALL)]

    engine.log.wait_for(lambda _: all(len(engine.log.progress_of(one)) > 125 for one in attempts), timeout_s=40)
    reports = [engine.log.progress_of(attempt) for attempt in attempts]
    began, ended = [[one[index] for one in reports] for index in (20, 120)]
    rates = [
        (last.received_bytes - first.received_bytes) / (last.sampled_s - first.sampled_s)
        for first, last in zip(began, ended, strict=True)
    ]

    assert sum(rates) == pytest.approx(limit, rel=0.05)
    assert min(rates) > limit / 4
    for attempt in attempts:
        engine.stop(attempt)


class Proxy:
    """A forward proxy for plain HTTP that counts bytes and records requests."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # A downloader may disconnect at any moment.
        with contextlib.suppress(OSError), client, client.makefile("rb") as lines:
            head = [lines.readline()]
            while head[-1] not in (b"\r\n", b""):
                head.append(lines.readline())
            self.heads.append(head[0])
            method, url, version = head[0].split(b" ")
            host, _, path = url.removeprefix(b"http://").partition(b"/")
            name, _, port = host.partition(b":")
            with socket.create_connection((name.decode(), int(port))) as server:
                kept = [line for line in head[1:-1] if not line.lower().startswith(b"connection")]
                server.sendall(
                    b" ".join((method, b"/" + path, version)) + b"".join(kept) + b"Connection: close\r\n\r\n"
                )
                while data := server.recv(1 << 16):
                    client.sendall(data)


@pytest.mark.slow
def test_a_slow_disk_is_not_a_silent_host(hub, tmp_path, monkeypatch) -> None:
    """A full write cache holds up each write for seconds."""
    write_all, slow_writes = disk.write_all, iter(range(8))

    def slowly(fd: int, data: bytes | memoryview, offset: int) -> None:
        if len(data) > 10_000 and next(slow_writes, None) is not None:  # no journal
            time.sleep(3)
        write_all(fd, data, offset)

    monkeypatch.setattr(disk, "write_all", slowly)
    engine = LocalEngine(hub, tmp_path, replace(HASTY, answer_s=10, stall_s=2))

    engine.fetch(REPO, SMALL)

    assert len({one.connection_id for one in hub.requests if one.origin == "cdn"}) <= 16
    assert "retrying" not in engine.log.notices_of(1)
    engine.close()


def test_a_disk_whose_status_takes_long_delays_no_heartbeat_and_no_report(hub, tmp_path, monkeypatch) -> None:
    """NFS writes all bytes of a file to its server before it states the file's status."""
    is_at, engine = disk.is_at, LocalEngine(hub, tmp_path)
    asked, answers = threading.Event(), threading.Event()

    def hangs(*looked: Any) -> bool:
        asked.set()
        answers.wait(60)
        return is_at(*looked)

    monkeypatch.setattr(disk, "is_at", hangs)
    hub.set_speed(1_000_000)
    attempt = engine.begin(REPO, SMALL)
    assert asked.wait(30)
    reported = len(engine.log.progress_of(attempt))
    engine.log.wait_for(lambda _: len(engine.log.progress_of(attempt)) > reported + 20, timeout_s=30)

    answers.set()
    hub.set_speed()
    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    engine.close()


def test_a_proxy_from_the_environment_is_used_for_hub_and_storage(hub, tmp_path, monkeypatch) -> None:
    proxy = Proxy()
    monkeypatch.setenv("http_proxy", proxy.url)
    engine = LocalEngine(hub, tmp_path)

    engine.fetch(REPO, SMALL)

    assert any(hub.url.encode() in head for head in proxy.heads)
    assert any(hub.cdn_url.encode() in head for head in proxy.heads)
    engine.close()
    proxy.close()


def test_hosts_excluded_from_the_proxy_are_reached_directly(hub, tmp_path, monkeypatch) -> None:
    proxy = Proxy()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    engine = LocalEngine(hub, tmp_path)

    engine.fetch(REPO, SMALL)

    assert proxy.heads == []
    engine.close()
    proxy.close()


@pytest.mark.slow
def test_a_slow_connection_is_not_treated_as_stalled(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, replace(HASTY, stall_s=2, answer_s=3))
    hub.set_speed(per_connection=3_000)

    attempt = engine.begin(REPO, TINY)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 60_000)
    engine.close()

    assert {one.notice_kind for one in engine.log.progress_of(attempt)} <= {None, "connecting"}
