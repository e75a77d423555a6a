"""A user-created manager on an embedded hub, with its models and state in the test's folder."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gglib_nb import DownloadManager, DownloadManagerConfig
from tests.support.faulty_hub import FaultyHub


@pytest.fixture
def make_manager(hub: FaultyHub, tmp_path: Path) -> Iterator[Callable[..., DownloadManager]]:
    """Make managers with the fields of `DownloadManagerConfig`; all are closed at the end of the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> DownloadManager:
            places = {
                "models_directory": tmp_path / "models",
                "state_directory": tmp_path / "state",
                "hub_cache": tmp_path / "cache",
            }
            return stack.enter_context(
                closing(DownloadManager(DownloadManagerConfig(**(places | {"endpoint": hub.url} | options))))
            )

        yield make


@pytest.fixture
def manager(make_manager: Callable[..., DownloadManager]) -> DownloadManager:
    """A manager with one slot and a queue of ten."""
    return make_manager()
