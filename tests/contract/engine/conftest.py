"""A hub with every form of model, and an engine in this process that downloads from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import LocalEngine
from tests.support.transfers import model_repository


@pytest.fixture
def hub(make_hub):
    return make_hub([model_repository()])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()
