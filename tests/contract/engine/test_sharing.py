"""Concurrent attempts: one line and one connection limit in a process, one file in two processes."""

import os
import signal

import psutil
import pytest

from gglib_nb.domain.reports import DiscardPartials, TransferFinished, TransferStopped
from tests.support.engine import EngineProcess, LocalEngine, configured
from tests.support.transfers import (
    NAME,
    REPO,
    SIZE,
    begin_slowly,
    digest_of,
    right_digest,
)

# Several at once.


def test_two_attempts_run_concurrently_within_the_connection_limit(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path / "models", max_connections=6)
    first = begin_slowly(engine, downloaded_bytes=1_000_000)
    second = engine.begin(REPO, "other.gguf")
    engine.log.wait_for_progress(second, lambda one: one.files[0].downloaded_bytes >= 1_000_000)

    def open_requests() -> int:
        return sum(one.ended_s is None for one in hub.requests if one.origin == "cdn")

    assert open_requests() <= 6
    hub.set_speed()
    assert isinstance(engine.log.end_of(first), TransferFinished)
    assert isinstance(engine.log.end_of(second), TransferFinished)
    engine.close()


def test_an_attempt_that_waits_for_another_process_needs_no_connection(hub, tmp_path) -> None:
    owner = EngineProcess(hub, tmp_path / "models", tmp_path)
    begin_slowly(owner)
    hub.set_speed(2_000_000)
    engine = LocalEngine(hub, tmp_path / "models", max_connections=1)
    waiting = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(waiting, lambda one: one.notice_kind == "waiting")

    end = engine.log.end_of(engine.begin(REPO, "small.gguf"))

    assert isinstance(end, TransferFinished)
    engine.stop(waiting)
    engine.close()
    owner.close()


def test_stopping_one_attempt_does_not_affect_the_other(hub, engine) -> None:
    first = begin_slowly(engine, downloaded_bytes=1_000_000)
    second = engine.begin(REPO, "other.gguf")
    engine.log.wait_for_progress(second, lambda one: one.files[0].downloaded_bytes >= 500_000)

    engine.stop(first)
    hub.set_speed()

    assert isinstance(engine.log.end_of(second), TransferFinished)


@pytest.mark.slow
def test_a_bandwidth_limit_applies_to_all_attempts_together_and_can_be_changed(hub, engine) -> None:
    limit = 4_000_000
    engine.send(configured(hub, bandwidth_limit_bytes_per_second=limit))
    attempts = [engine.begin(REPO, NAME), engine.begin(REPO, "other.gguf")]

    def received(after: int) -> tuple[float, int]:
        """The time and the bytes of both when each has reported the given number of times."""
        reports = [engine.log.progress_of(attempt)[after] for attempt in attempts]
        return max(one.sampled_s for one in reports), sum(one.received_bytes for one in reports)

    engine.log.wait_for(lambda _: all(len(engine.log.progress_of(one)) > 40 for one in attempts))
    (began_s, began), (ended_s, ended) = received(10), received(40)
    assert (ended - began) / (ended_s - began_s) == pytest.approx(limit, rel=0.12)

    engine.send(configured(hub))
    for attempt in attempts:
        assert isinstance(engine.log.end_of(attempt), TransferFinished)


# Other processes.


@pytest.mark.slow
def test_a_second_process_waits_shows_the_firsts_progress_and_uses_its_file(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    begin_slowly(first)

    attempt = engine.begin(REPO, NAME)
    waiting = engine.log.wait_for_progress(
        attempt, lambda one: one.notice_kind == "waiting" and one.files[0].downloaded_bytes > 0
    )
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert waiting.received_bytes == 0
    assert isinstance(end, TransferFinished)
    assert end.files[0].was_present
    first.close()


@pytest.mark.slow
def test_a_second_process_takes_over_when_the_first_dies(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    begin_slowly(first, downloaded_bytes=20_000_000)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")

    os.kill(first.client.pid, signal.SIGKILL)
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert engine.log.progress_of(attempt)[-1].received_bytes < SIZE - 10_000_000
    first.close()


@pytest.mark.slow
def test_a_suspended_engine_writes_nothing_into_a_file_it_lost(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    lost = begin_slowly(first)
    process = psutil.Process(first.client.pid)
    process.suspend()
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 0)

    process.resume()
    first.log.wait_for_progress(lost, lambda one: one.notice_kind == "waiting")
    hub.set_speed()

    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    assert isinstance(first.log.end_of(lost), TransferFinished)
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)
    first.close()


@pytest.mark.slow
def test_a_stop_while_another_process_has_the_file_does_not_affect_it(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    theirs = begin_slowly(first)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")

    hub.set_speed(0)
    end, _ = engine.stop(attempt)
    hub.set_speed()

    assert isinstance(end, TransferStopped)
    assert isinstance(first.log.end_of(theirs), TransferFinished)
    first.close()


def test_partial_files_written_by_another_process_are_not_deleted(hub, engine, tmp_path) -> None:
    first = EngineProcess(hub, engine.folder, tmp_path / "state")
    attempt = begin_slowly(first)

    engine.send(DiscardPartials((str(engine.target(REPO, NAME)),)))
    hub.set_speed()

    assert isinstance(first.log.end_of(attempt), TransferFinished)
    first.close()
