"""The engine's contract with the manager: for the process on this machine, and for those of a Dask cluster.

Both get the same commands; `tests/contract/cluster` tests which host does what.
"""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.reports import (
    DiscardPartials,
    EngineLost,
    LimitConcurrency,
    Progress,
    StopTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine.client import EngineClient
from gglib_nb.engine.protocol import Command, Report, StartTransfer
from gglib_nb.errors import RevisionNotFoundError
from tests.support.engine import EventLog, configured, planned
from tests.support.hub import make_repository

REPO, NAME, SIZE = "demo/model", "model.gguf", 20_000_000


class Kind(Protocol):
    """An engine under test, and how to find its process."""

    folder: Path

    def make(self, log: EventLog) -> Any: ...

    def pids(self) -> list[int]: ...


class LocalKind:
    def __init__(self, hub, folder: Path) -> None:
        self.hub, self.folder = hub, folder / "models"
        self._state = folder / "state"

    def make(self, log):
        self.client = EngineClient(configured(self.hub), log_folder=self._state, on_event=log.add)
        return self.client

    def pids(self):
        return [] if self.client.pid is None else [self.client.pid]


class DaskKind:
    def __init__(self, hub, folder: Path, cluster) -> None:
        self.hub, self.folder, self._cluster = hub, folder / "models", cluster

    def make(self, log):
        from gglib_nb.cluster.connecting import connection_to
        from gglib_nb.cluster.dask_engine import DaskEngine

        connect, can_come_back = connection_to(self._cluster)
        engine = DaskEngine(
            configured(self.hub),
            log.add,
            connect=connect,
            models_directory=self.folder,
            can_come_back=can_come_back,
        )
        engine.send(LimitConcurrency(2))
        return engine

    def pids(self):
        from tests.support.cluster import all_engines

        return [process.pid for process in all_engines(self._cluster, "gpu")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from tests.support.cluster import cluster_of

    with cluster_of({"gpu": None}, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def hub(make_hub):
    return make_hub([make_repository(REPO, {NAME: SIZE, "small.gguf": 100_000})])


@pytest.fixture(params=["local", pytest.param("dask", marks=pytest.mark.slow)])
def kind(request, hub, tmp_path) -> Kind:
    if request.param == "local":
        return LocalKind(hub, tmp_path)
    return DaskKind(hub, tmp_path, request.getfixturevalue("cluster"))


class Seat:
    """The owner of an engine: numbers attempts, receives reports."""

    def __init__(self, kind: Kind, hub) -> None:
        self.kind, self.hub = kind, hub
        self.log = EventLog()
        self.engine = kind.make(self.log)
        self._attempts = 0
        self._reports_before: dict[int, int] = {}

    def begin(self, path: str, files: tuple[PlannedFile, ...] = (), commit_sha: str = "") -> int:
        self._attempts += 1
        commit = self.hub.repositories[REPO].commit("main")
        files = files or planned(self.hub, REPO, path, folder=self.kind.folder)
        self._reports_before[self._attempts] = len(self.log.events)
        self.send(StartTransfer(self._attempts, REPO, commit_sha or commit.sha, files, False))
        return self._attempts

    def send(self, command: Command) -> None:
        self.engine.send(command)

    def end_of(self, attempt: int) -> Any:
        before = self._reports_before[attempt]
        return self.log.wait_for(
            lambda all_: next(filter(None, (_end(one, attempt) for one in all_[before:])), None), 60
        )

    def wait_for_bytes(self, attempt: int, count: int) -> None:
        self.log.wait_for(lambda reports: any(_bytes(one, attempt) >= count for one in reports), 60)

    def begin_slowly(self, count: int = 2_000_000) -> int:
        self.hub.set_speed(8_000_000)
        attempt = self.begin(NAME)
        self.wait_for_bytes(attempt, count)
        self.hub.set_speed(1_000_000)
        return attempt


def _end(report: Report, attempt: int) -> Any:
    if isinstance(report, TransferFinished | TransferFailed | TransferStopped) and report.attempt == attempt:
        return report
    if isinstance(report, EngineLost) and (report.attempts is None or attempt in report.attempts):
        return report
    return None


def _bytes(report: Report, attempt: int) -> int:
    is_its = isinstance(report, Progress) and report.attempt == attempt
    return sum(file.downloaded_bytes for file in report.files) if is_its else -1


@pytest.fixture
def seat(kind, hub) -> Iterator[Seat]:
    seat = Seat(kind, hub)
    yield seat
    seat.engine.close()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_over(pid: int, timeout_s: float = 60) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_requested_files_are_downloaded_and_verified(seat) -> None:
    end = seat.end_of(seat.begin(NAME))

    assert isinstance(end, TransferFinished)
    assert end.files[0].is_verified
    assert sha256(Path(end.files[0].target)) == end.files[0].sha256


@pytest.mark.slow
def test_a_file_has_the_requested_path(seat) -> None:
    (asked,) = planned(seat.hub, REPO, "small.gguf", folder=seat.kind.folder)

    end = seat.end_of(seat.begin("small.gguf"))

    assert end.files[0].target == asked.target
    assert Path(asked.target).stat().st_size == asked.size_bytes


@pytest.mark.slow
def test_progress_is_reported_several_times_a_second(seat) -> None:
    attempt = seat.begin_slowly(0)

    seat.log.wait_for(lambda reports: sum(_bytes(one, attempt) >= 0 for one in reports) >= 10, 60)

    seat.hub.set_speed()
    assert isinstance(seat.end_of(attempt), TransferFinished)


def test_a_stop_is_confirmed_and_downloaded_data_is_kept(seat, hub) -> None:
    attempt = seat.begin_slowly()

    seat.send(StopTransfer(attempt))

    assert isinstance(seat.end_of(attempt), TransferStopped)
    hub.set_speed()
    again = seat.begin(NAME)
    assert isinstance(seat.end_of(again), TransferFinished)
    asked = [one.range[0] for one in hub.requests if one.origin == "cdn" and one.range]
    assert asked.count(0) == 1


@pytest.mark.slow
def test_two_attempts_run_concurrently(seat, hub) -> None:
    first = seat.begin_slowly()

    second = seat.end_of(seat.begin("small.gguf"))

    assert isinstance(second, TransferFinished)
    hub.set_speed()
    assert isinstance(seat.end_of(first), TransferFinished)


@pytest.mark.slow
def test_a_failure_is_reported_with_its_error(seat) -> None:
    end = seat.end_of(seat.begin(NAME, commit_sha="0" * 40))

    assert isinstance(end, TransferFailed)
    assert isinstance(end.error, RevisionNotFoundError)


@pytest.mark.slow
def test_partial_files_are_deleted_on_command(seat, hub) -> None:
    attempt = seat.begin_slowly()
    seat.send(StopTransfer(attempt))
    seat.end_of(attempt)
    hub.set_speed()

    seat.send(DiscardPartials(tuple(file.target for file in planned(hub, REPO, NAME, folder=seat.kind.folder))))
    seat.end_of(seat.begin(NAME))

    asked = [one.range[0] for one in hub.requests if one.origin == "cdn" and one.range]
    assert asked.count(0) == 2


def test_a_killed_engine_is_reported_with_its_attempts_and_restarted_by_the_next_command(seat, hub) -> None:
    attempt = seat.begin_slowly()
    (pid,) = seat.kind.pids()

    os.kill(pid, signal.SIGKILL)
    lost = seat.end_of(attempt)
    hub.set_speed()
    end = seat.end_of(seat.begin(NAME))

    assert isinstance(lost, EngineLost)
    assert "SIGKILL" in lost.reason
    assert isinstance(end, TransferFinished)
    assert end.files[0].is_verified


@pytest.mark.slow
def test_sending_never_blocks(seat) -> None:
    seat.begin_slowly()
    (pid,) = seat.kind.pids()
    psutil.Process(pid).suspend()

    began_s = time.monotonic()
    for _ in range(2_000):
        seat.send(StopTransfer(999))
    took_s = time.monotonic() - began_s

    psutil.Process(pid).kill()
    assert took_s < 20  # after 30 s it would be killed


@pytest.mark.slow
def test_closing_ends_the_engine_loses_no_event_and_is_idempotent(seat) -> None:
    attempt = seat.begin_slowly()
    (pid,) = seat.kind.pids()

    seat.engine.close()
    seat.engine.close()
    seat.send(StopTransfer(attempt))

    assert is_over(pid)
    assert not any(isinstance(one, EngineLost | TransferFinished | TransferFailed) for one in seat.log.events)


@pytest.mark.slow
def test_abandoning_a_forked_childs_copy_does_not_affect_the_engine(seat, hub) -> None:
    attempt = seat.begin_slowly()

    child = os.fork()
    if child == 0:
        seat.engine.abandon()
        seat.engine.send(StopTransfer(attempt))
        os._exit(0)
    os.waitpid(child, 0)
    hub.set_speed()

    assert isinstance(seat.end_of(attempt), TransferFinished)
