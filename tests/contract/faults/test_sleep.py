"""A machine that sleeps: the wall clock jumps, connections and signed URLs have expired."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gglib_nb.domain.reports import TransferFinished
from tests.support.engine import LocalEngine
from tests.support.transfers import NAME, REPO, SIZE, begin_slowly, digest_of, model_repository, right_digest

NOT_RECORDED = 1_000_000
CLOCK_THAT_GOES_ON = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@pytest.fixture
def hub(make_hub):
    return make_hub([model_repository()])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()


def test_after_an_hours_sleep_only_missing_bytes_are_downloaded(hub, engine, monkeypatch) -> None:
    attempt = begin_slowly(engine)
    read = time.clock_gettime

    monkeypatch.setattr(time, "clock_gettime", lambda clock: read(clock) + 3600 * (clock == CLOCK_THAT_GOES_ON))
    hub.expire_signed_urls()
    hub.drop_connections()
    hub.set_speed()

    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub, NAME)
    assert engine.log.progress_of(attempt)[-1].received_bytes <= SIZE + NOT_RECORDED
