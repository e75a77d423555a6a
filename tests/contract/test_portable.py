"""A download, a kill and a resume in processes without the POSIX-only calls."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.kernel import is_engine, wait_until
from tests.support.portable import portable_environment

SIZE = 24_000_000
PROGRAM = textwrap.dedent(
    """
    import asyncio, os
    from gglib_nb import DownloadManager, DownloadManagerConfig

    assert not hasattr(os, "pread") and not hasattr(os, "geteuid")

    async def main():
        async with DownloadManager(DownloadManagerConfig(models_directory="models")) as manager:
            print(await manager.download("demo/large-GGUF", "Q4_K_M", progress=False))

    asyncio.run(main())
    """
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="imitates Windows on Linux")]


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    files = {"large-Q4_K_M.gguf": SIZE}
    with FaultyHub([make_repository("demo/large-GGUF", files)], bytes_per_second=4_000_000) as hub:
        yield hub


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_download_is_resumed_and_completed_without_posix(hub: FaultyHub, tmp_path: Path) -> None:
    environment = portable_environment(isolated(os.environ, tmp_path, hub.url), tmp_path / "site")
    killed = start(tmp_path, environment)
    sent = lambda: sum(record.bytes_sent for record in hub.requests if record.carries_file)  # noqa: E731
    hub.wait_for(lambda _: sent() > SIZE // 2)
    hub.set_speed(500_000)
    [engine] = [child for child in psutil.Process(killed.pid).children() if is_engine(child)]

    killed.kill()
    killed.communicate()
    wait_until(lambda: not is_engine(engine), 60, "the engine's end after its parent's")
    hub.set_speed()
    resumed = start(tmp_path, environment)
    printed, errors = resumed.communicate(timeout=60)

    assert resumed.returncode == 0, errors
    assert Path(printed.strip()).name == "large-Q4_K_M.gguf"
    assert (tmp_path / printed.strip()).stat().st_size == SIZE
    assert sent() < SIZE * 1.4
    assert list((tmp_path / "models").rglob("*.part*")) == []
