"""An error in the user's Python code shows their line and a sentence; errors of other libraries below it are in the log."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, DownloadManagerConfig, NetworkError
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub, ListedSize
from tests.support.hub import make_repository
from tests.support.kernel import Kernel

CALLS = {
    "RepoNotFoundError": "await gglib_nb.download('nobody/nothing')",
    "InvalidQuantizationError": "await gglib_nb.get_manager().queue_smart('demo/small', 'Q3_X')",
    "GatedRepoError": "gglib_nb.get_manager().sync.queue_smart('demo/gated')",
    "DiskFullError": "await gglib_nb.download('demo/small', 'Q4_K_M')",
    "NetworkError": "await gglib_nb.get_manager().plan('demo/small')",
    "ModelNotFoundError": "gglib_nb.path('x')",
    "CatalogError": "gglib_nb.path('x')",
    "InvalidConfigError": "gglib_nb.get_manager()",
}
SCRIPT = "import asyncio\nimport gglib_nb\n\n\nasync def main():\n    {call}\n\n\nasyncio.run(main())\n"
FRAMES_OF_ASYNCIO = 9
"""Lines of `asyncio.run` itself, with which every such script's traceback begins."""


@pytest.fixture
def hub(make_hub: type[FaultyHub]) -> FaultyHub:
    """A hub with a model, and a gated one."""
    small, gated = {"small-Q4_K_M.gguf": 3000}, {"gated-Q4_K_M.gguf": 3000}
    return make_hub([make_repository("demo/small", small), make_repository("demo/gated", gated, gated="manual")])


@pytest.fixture
def environment(name: str, hub: FaultyHub, tmp_path: Path) -> dict[str, str]:
    """The output of a process in which this call fails in this way."""
    changes = {}
    match name:
        case "DiskFullError":
            hub.faults.add(ListedSize(10**16), path="/api/models/*/tree/*", origin="hub", times=None)
        case "NetworkError":
            changes = {"HF_ENDPOINT": "http://127.0.0.1:9"}
        case "CatalogError":
            (tmp_path / "file").touch()
            changes = {"GGLIB_STATE_DIR": str(tmp_path / "file")}
        case "InvalidConfigError":
            changes = {"GGLIB_MODELS_DIR": "~nobody-of-that-name/models"}
    return isolated(os.environ, tmp_path, hub.url) | changes


@pytest.mark.parametrize(
    "name", ["RepoNotFoundError", *(pytest.param(name, marks=pytest.mark.slow) for name in list(CALLS)[1:])]
)
def test_a_failing_script_prints_its_own_line_and_the_error(
    environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(call=CALLS[name]))

    ended = subprocess.run(
        [sys.executable, "script.py"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    lines = ended.stderr.splitlines()
    assert CALLS[name] in "".join(lines)
    assert lines[-1].startswith(f"gglib_nb.errors.{name}: ")
    assert len(lines) <= FRAMES_OF_ASYNCIO + 9, ended.stderr
    assert ended.stderr.count("Traceback") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_failing_cell_shows_its_own_line_and_the_error(
    environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    with Kernel(tmp_path, environment["HF_ENDPOINT"], environment) as kernel:
        cell = kernel.run(f"%colors nocolor\nimport gglib_nb\n{CALLS[name]}")

    assert cell.error is not None
    lines = "\n".join(cell.error["traceback"]).splitlines()
    assert CALLS[name] in "".join(lines)
    assert lines[-1].startswith(f"{name}: ")
    assert len(lines) <= 20, lines
    assert sum("Traceback" in line for line in lines) == 1


@pytest.mark.slow
async def test_library_errors_stay_in_the_context_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gglib_nb")
    config = DownloadManagerConfig(
        tmp_path / "models", state_directory=tmp_path / "state", endpoint="http://127.0.0.1:9"
    )
    async with DownloadManager(config) as manager:
        with pytest.raises(NetworkError) as caught:
            await manager.plan("demo/small")

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert isinstance(caught.value.__context__, NetworkError)
    assert "ConnectError" in repr(caught.value.__context__.__cause__)
    assert "ConnectError" in caplog.text
