"""A hub, and a real kernel in front of it with the extension loaded."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Kernel


@pytest.fixture
def hub(make_hub: Callable[..., FaultyHub]) -> FaultyHub:
    """An empty hub on loopback."""
    return make_hub()


@pytest.fixture
def kernel(hub: FaultyHub, tmp_path: Path) -> Iterator[Kernel]:
    """A fresh kernel with models, state and profile in the test's folder."""
    with Kernel(tmp_path, hub.url) as kernel:
        loaded = kernel.run("%load_ext gglib_nb")
        assert (loaded.status, loaded.text) == ("ok", "")
        yield kernel
