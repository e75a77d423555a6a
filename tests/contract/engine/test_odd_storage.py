"""Correct but unusual storage and mirrors: connection limits, shorter ranges, missing headers, foreign ETags, long silences."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb.domain.reports import TransferFinished
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import StalledError
from tests.support.engine import HASTY, LocalEngine
from tests.support.faulty_hub import (
    CaptivePortal,
    Cut,
    Direct,
    Fault,
    FaultyHub,
    IgnoreRange,
    Latency,
    NoContentLength,
    Stall,
    Status,
)
from tests.support.hub import make_repository
from tests.support.storage_faults import ConnectionLimit, DeadNodes, Etag, NoContentRange, ShortRange

REPO = "demo/odd-GGUF"
NAME = "odd.gguf"
SIZE = 24_000_000
OTHER = "fedcba9876543210" * 4


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    with FaultyHub([make_repository(REPO, {NAME: SIZE})]) as hub:
        yield hub


@pytest.fixture
def engine(hub: FaultyHub, tmp_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(hub, tmp_path)
    yield engine
    engine.close()


def resolves(hub: FaultyHub) -> int:
    return sum(one.origin == "hub" and "/resolve/" in one.path for one in hub.requests)


@pytest.mark.parametrize("status", [403, 429, 503, None], ids=["403", "429", "503", "hang-up"])
@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.slow
def test_a_servers_connection_limit_is_respected(
    hub: FaultyHub, engine: LocalEngine, most: int, status: int | None
) -> None:
    hub.set_speed(per_connection=4_000_000)
    limit = ConnectionLimit(hub, most, status)
    hub.faults.add(limit, origin="cdn", times=None)

    end = engine.fetch(REPO, NAME)

    served = [one for one in hub.requests if one.origin == "cdn" and one.status == 206 and one.bytes_sent]
    took_s = max(one.ended_s for one in served) - min(one.started_s for one in served)
    assert end.files[0].is_verified
    assert resolves(hub) <= 2
    assert limit.refusals <= 20
    # How many were served at a time, on average: as many as are allowed. The file is fetched in three ranges.
    assert sum(one.ended_s - one.started_s for one in served) > 0.8 * min(most, 3) * took_s


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 429, None], ids=["403", "429", "hang-up"])
def test_a_mirror_that_sends_the_files_itself_may_limit_its_connections(
    make_hub, tmp_path: Path, status: int | None
) -> None:
    names = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    hub = make_hub([make_repository(REPO, dict.fromkeys(names, 12_000_000))])
    hub.set_speed(per_connection=4_000_000)
    hub.faults.add(Direct(), origin="hub", path="*/resolve/*", times=None)
    hub.faults.add(ConnectionLimit(hub, 2, status, "hub"), origin="hub", path="*/resolve/*", times=None)
    engine = LocalEngine(hub, tmp_path)

    assert all(file.is_verified for file in engine.fetch(REPO, *names).files)
    engine.close()


def test_a_mirror_that_still_counts_a_broken_connection_does_not_end_the_download(
    hub: FaultyHub, tmp_path: Path
) -> None:
    engine = LocalEngine(hub, tmp_path, max_connections=1)
    hub.faults.add(Direct(), origin="hub", path=NAME, times=None)
    hub.faults.add(Cut(after_bytes=1_000_000), origin="hub", path=NAME, skip=1)
    hub.faults.add(Status(403), origin="hub", path=NAME, skip=2, times=2)  # the rest of the file, and its address

    assert engine.fetch(REPO, NAME).files[0].is_verified
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_of_a_few_seconds_is_waited_out(hub: FaultyHub, tmp_path: Path, status: int) -> None:
    placed = hub.faults.add(Status(status), origin="cdn", times=None)
    engine = LocalEngine(hub, tmp_path, replace(Timeouts(), longest_delay_s=1.0))
    attempt = engine.begin(REPO, NAME)

    hub.wait_for(lambda requests: sum(one.origin == "cdn" for one in requests) > 6, timeout_s=60)
    hub.faults.remove(placed)

    assert engine.log.end_of(attempt).files[0].is_verified
    engine.close()


def test_short_ranges_cost_no_connections(hub: FaultyHub, engine: LocalEngine) -> None:
    hub.faults.add(ShortRange(1_000_000), origin="cdn", times=None)

    assert engine.fetch(REPO, NAME).files[0].is_verified

    connections = {one.connection_id for one in hub.requests if one.origin == "cdn"}
    assert len(connections) <= 16
    assert hub.bytes_sent(NAME) < SIZE * 1.5


@pytest.mark.slow
def test_a_redirect_to_a_node_that_is_down_is_not_followed_by_later_requests(
    hub: FaultyHub, engine: LocalEngine
) -> None:
    hub.set_speed(per_connection=8_000_000)
    hub.faults.add(DeadNodes(), origin="cdn", times=None)

    assert engine.fetch(REPO, NAME).files[0].is_verified


def test_a_206_without_a_range_leads_to_a_request_for_the_whole_file(hub: FaultyHub, engine: LocalEngine) -> None:
    hub.faults.add(NoContentRange(), origin="cdn", times=None)

    assert engine.fetch(REPO, NAME).files[0].is_verified
    assert None in hub.ranges(NAME)  # one that was on its way may arrive after it


def test_an_etag_of_a_mirror_never_contradicts_the_listed_digest(hub: FaultyHub, engine: LocalEngine) -> None:
    hub.faults.add(Direct(), origin="hub", path="*/resolve/*", times=None)
    hub.faults.add(Etag(f'"{OTHER}"'), origin="hub", path="*/resolve/*", times=None)

    assert engine.fetch(REPO, NAME).files[0].is_verified


def test_a_slow_proxy_has_the_time_set_for_the_hubs_client(hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.add(Latency(1_200), origin="cdn", times=None)
    timeouts = Timeouts.from_environment(
        {"HF_HUB_DOWNLOAD_TIMEOUT": "120", "GGLIB_ENGINE_TIMEOUTS": '{"stall_s": 0.4}'}
    )
    engine = LocalEngine(hub, tmp_path, timeouts)

    assert engine.fetch(REPO, NAME).files[0].is_verified
    assert timeouts.answer_s == 120
    engine.close()


@pytest.mark.parametrize("text", ["", "0", "-5", "soon", "1e3", "nan", "²"])
def test_an_invalid_timeout_is_ignored(text: str) -> None:
    assert Timeouts.from_environment({"HF_HUB_DOWNLOAD_TIMEOUT": text}) == Timeouts()


@pytest.mark.slow
def test_a_silent_host_is_reported_with_the_seconds(hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.add(Latency(60_000), origin="cdn", times=None)
    engine = LocalEngine(hub, tmp_path, replace(HASTY, answer_s=1, give_up_s=0.5))

    error = engine.failure(REPO, NAME)

    host = hub.cdn_url.partition("//")[2]
    assert isinstance(error, StalledError)
    assert f"{host} has not answered for 1 s" in str(error)
    engine.close()


@pytest.mark.parametrize("status", [507, 508, 511])
@pytest.mark.parametrize("origin", ["hub", "cdn"])
def test_any_failure_of_a_server_is_waited_out(hub: FaultyHub, engine: LocalEngine, status, origin) -> None:
    hub.faults.add(Status(status), origin=origin, times=2)

    assert engine.fetch(REPO, NAME).files[0].is_verified


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "faults", [(IgnoreRange(),), (CaptivePortal(), NoContentLength("chunked")), (NoContentRange(),)]
)
def test_wrong_responses_cost_no_bytes_on_the_disk(hub: FaultyHub, tmp_path: Path, faults, times: int) -> None:
    """One server of many ignores the range, or the network asks for a login, with a page of undeclared length."""
    assert bytes_fetched_again(hub, tmp_path, faults, times) < SIZE * 0.6


@pytest.mark.slow
def test_a_login_page_that_remains_for_a_while_costs_no_bytes_on_the_disk(hub: FaultyHub, tmp_path: Path) -> None:
    faults = (CaptivePortal(), NoContentLength("chunked"))

    assert bytes_fetched_again(hub, tmp_path, faults, times=40) < SIZE * 0.6


def test_a_cache_that_sends_the_whole_once_costs_no_bytes_on_the_disk(hub: FaultyHub, tmp_path: Path) -> None:
    """A mirror that does not have the file yet answers the request for its address with the whole file, and later with ranges."""
    hub.faults.add(Direct(), origin="hub", path=NAME, times=None)

    assert bytes_fetched_again(hub, tmp_path, (IgnoreRange(),), times=1, origin="hub") < SIZE * 0.6


def test_a_cache_that_sends_ranges_once_it_has_the_file_continues_a_broken_whole(
    hub: FaultyHub, engine: LocalEngine
) -> None:
    hub.faults.add(Direct(), origin="hub", path=NAME, times=None)
    hub.faults.add(IgnoreRange(), origin="hub", path=NAME, times=2)  # the address, and the first bytes
    hub.faults.add(Cut(after_bytes=SIZE // 2), origin="hub", path=NAME, skip=1)

    assert engine.fetch(REPO, NAME).files[0].is_verified
    assert engine.log.progress_of(1)[-1].received_bytes < SIZE * 1.1


def bytes_fetched_again(
    hub: FaultyHub, tmp_path: Path, faults: tuple[Fault, ...], times: int, origin: str = "cdn"
) -> int:
    """The bytes that a resume at half of the file receives after these responses of the storage."""
    engine = LocalEngine(hub, tmp_path)
    hub.set_speed(8_000_000)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > SIZE // 2)
    hub.set_speed(0)
    engine.stop(attempt)
    for fault in faults:
        hub.faults.add(fault, origin=origin, times=times)
    hub.set_speed()

    again = engine.begin(REPO, NAME)

    assert isinstance(engine.log.end_of(again), TransferFinished)
    engine.close()
    return engine.log.progress_of(again)[-1].received_bytes


@pytest.mark.slow
def test_a_proxy_that_sends_the_beginning_and_then_scans_has_the_time_set_for_the_hubs_client(
    hub: FaultyHub, tmp_path: Path
) -> None:
    hub.faults.add(Stall(after_bytes=20_000, for_s=2.0), origin="cdn", times=None)
    engine = LocalEngine(hub, tmp_path, replace(HASTY, answer_s=5, stall_s=0.3))

    engine.fetch(REPO, NAME)

    assert hub.bytes_sent(NAME) < SIZE * 1.5
    engine.close()
