"""Fixtures with a separate embedded hub for each test, started in a millisecond."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gglib_nb.demo import DemoRepository
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository


@pytest.fixture
def small_repositories() -> list[DemoRepository]:
    """One repository of each kind, a megabyte in all: plain, split, with companions, gated."""
    return [
        make_repository(
            "demo/small-GGUF", {"small-Q4_K_M.gguf": 300_000, "small-Q8_0.gguf": 500_000, "README.md": b"# small\n"}
        ),
        make_repository(
            "demo/split-GGUF",
            {f"Q4_K_M/split-Q4_K_M-{number:05}-of-00003.gguf": 100_000 + number for number in (1, 2, 3)},
        ),
        make_repository(
            "demo/vision-GGUF",
            {"vision-Q4_K_M.gguf": 60_000, "mmproj-vision-F16.gguf": 20_000, "vision.imatrix": 5_000},
        ),
        make_repository("demo/gated-GGUF", {"gated-Q4_K_M.gguf": 50_000}, gated="manual"),
    ]


@pytest.fixture
def make_hub() -> Iterator[Callable[..., FaultyHub]]:
    """Start hubs with the arguments of `FaultyHub`; all are stopped at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(FaultyHub(*arguments, **options))


@pytest.fixture
def hub(make_hub: Callable[..., FaultyHub], small_repositories: list[DemoRepository]) -> FaultyHub:
    """A running hub with the small repositories."""
    return make_hub(small_repositories)


@pytest.fixture
def held(hub: FaultyHub) -> Iterator[FaultyHub]:
    """The hub with a line that sends nothing until its speed is set."""
    hub.set_speed(bytes_per_second=0)
    yield hub
    hub.set_speed()
