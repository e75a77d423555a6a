"""Fixtures of all tests: a clean environment, the asynchronous backend, and the folder of real input."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.environment import scrubbed

pytest_plugins = ["tests.support.hub_fixtures", "tests.support.manager_fixtures"]

# huggingface_hub reads its variables once, at import: they must be set before any test module is imported.
_hub_home = tempfile.TemporaryDirectory(prefix="gglib-nb-tests-")
_clean = scrubbed(os.environ)
os.environ.clear()
os.environ.update(_clean, HF_HOME=_hub_home.name, GGLIB_CONFIG_DIR=_hub_home.name)

# A shell ignores SIGINT in background processes, and children inherit that; the interrupt button needs it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, without deadlines. `--hypothesis-profile=deep` tries more examples.
_plain = settings(deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", _plain, derandomize=True, max_examples=60, stateful_step_count=40)
settings.register_profile("deep", _plain, max_examples=3000, stateful_step_count=60)
settings.load_profile("suite")


def pytest_unconfigure() -> None:
    _hub_home.cleanup()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real listings and real GGUF files, stored next to the checkout and never copied into it."""
    folders = [parent / "shared" / "data" for parent in Path(__file__).resolve().parents[2:]]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        pytest.skip(f"the shared test data is not in any of {', '.join(map(str, folders))}")
    return folder


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem than the test's."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second filesystem here")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)
