"""What a plain script shows while it downloads: bars on a terminal, nothing in a pipe, or the user's own progress bar."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, QueuedDownload
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

ROOT = Path(__file__).resolve().parents[2]
SPLIT = {f"large-Q4_K_M-0000{number}-of-00003.gguf": 8_000_000 for number in (1, 2, 3)}
SCRIPT = """
import asyncio
import gglib_nb


async def main() -> None:
    print("path:", await gglib_nb.download("demo/large-GGUF", "Q4_K_M"{more}))


asyncio.run(main())
"""
SYNC_SCRIPT = """
from gglib_nb import DownloadManager

manager = DownloadManager()
print("path:", manager.sync.download("demo/large-GGUF", "Q4_K_M"))
manager.sync.close()
"""


@pytest.fixture
def slow_hub(hub: FaultyHub) -> FaultyHub:
    """A hub with a model of three shards that takes some seconds."""
    hub.add_repository(make_repository("demo/large-GGUF", SPLIT))
    hub.set_speed(bytes_per_second=6_000_000)
    return hub


def on_a_terminal(code: str, folder: Path, endpoint: str, columns: int = 100) -> str:
    """The output of a script on a terminal, until it ends; 0 columns: a terminal of unknown width."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (30 if columns else 0, columns))
    environment = isolated(os.environ, folder, endpoint) | {"TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=child, stderr=child, stdin=child, env=environment, cwd=folder
    ) as script:
        os.close(child)
        written = b""
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s and (data := _read(parent, deadline_s)):
            written += data
        os.close(parent)
        assert script.wait(60) == 0, written.decode()
    return written.decode()


def _read(terminal: int, deadline_s: float) -> bytes:
    select.select([terminal], [], [], max(0.0, deadline_s - time.monotonic()))
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed: the script has ended
        return b""


def lines_left(written: str) -> list[str]:
    """The rows on the terminal at the end; a carriage return restarts the same row."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[A|\x1b\[K|\r|\n|[^\x1b\r\n]+", written):
        if piece == "\x1b[A":
            row = max(0, row - 1)
        elif piece == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\r":
            column = 0
        elif piece != "\x1b[K":
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in rows if line.strip()]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "columns"), [(SCRIPT.format(more=""), 100), (SYNC_SCRIPT, 0)], ids=["await", "sync"])
def test_on_a_terminal_a_script_shows_a_line_per_download_and_a_bar_per_active_file(
    slow_hub: FaultyHub, tmp_path: Path, code: str, columns: int
) -> None:
    written = on_a_terminal(code, tmp_path, slow_hub.url, columns)

    assert re.search(r"large-GGUF:Q4_K_M .*\d+ %, [\d.]+ MB of 24.0 MB, [\d.]+ MB/s", written), written
    assert re.search(r"  [123]/3 .*\d+ %, [\d.]+ MB of 8.0 MB", written), written
    *_, last, path = lines_left(written)
    assert re.fullmatch(r"large-GGUF:Q4_K_M .*100 %, 24.0 MB, in \d+ s", last), lines_left(written)
    assert path.startswith("path: ")
    assert "1/3" not in "".join(lines_left(written))


@pytest.mark.parametrize("more", ["", ", progress=False"])
def test_in_a_pipe_a_short_download_writes_no_progress(slow_hub: FaultyHub, tmp_path: Path, more: str) -> None:
    slow_hub.set_speed()

    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(more=more)],
        env=isolated(os.environ, tmp_path, slow_hub.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ended.stderr == ""
    assert len(ended.stdout.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["progress=False", "HF_HUB_DISABLE_PROGRESS_BARS", "disable_progress_bars"])
def test_progress_bars_are_disabled_by_the_argument_and_by_the_hubs_switches(
    hub: FaultyHub, tmp_path: Path, switch: str
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", SPLIT))
    more = ", progress=False" if switch == "progress=False" else ""
    code = SCRIPT.format(more=more)
    if switch.isupper():
        code = f"import os\nos.environ[{switch!r}] = '1'\n{code}"
    elif not more:
        code = f"from huggingface_hub.utils import disable_progress_bars\ndisable_progress_bars()\n{code}"

    assert [line.split(":")[0] for line in lines_left(on_a_terminal(code, tmp_path, hub.url))] == ["path"]


async def test_a_callback_receives_progress_and_the_end(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", SPLIT))
    hub.set_speed(bytes_per_second=20_000_000)
    seen: list[QueuedDownload] = []

    await manager.download("demo/large-GGUF", progress=seen.append)

    bytes_seen = [download.downloaded_bytes for download in seen]
    assert bytes_seen == sorted(bytes_seen)
    assert len(set(bytes_seen)) > 2
    assert (seen[-1].status, bytes_seen[-1]) == ("completed", 24_000_000)


async def test_a_failing_callback_does_not_fail_the_download(
    manager: DownloadManager, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_download: QueuedDownload) -> None:
        raise ValueError("no bar today")

    path = await manager.download("demo/small-GGUF", "Q4_K_M", progress=fail)

    assert path.exists()
    assert "could not be shown" in caplog.text


@pytest.mark.parametrize("library", ["tqdm", "rich"])
@pytest.mark.slow
def test_the_documented_progress_bar_examples_run(hub: FaultyHub, tmp_path: Path, library: str) -> None:
    page = (ROOT / "docs" / "progress.md").read_text()
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if f"import {library}" in block or f"from {library}" in block
    ]
    hub.add_repository(make_repository("demo/large-GGUF", SPLIT))

    ended = subprocess.run(
        [sys.executable, "-c", code.replace("owner/name-GGUF", "demo/large-GGUF")],
        env=isolated(os.environ, tmp_path, hub.url) | {"COLUMNS": "100"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert "100%" in ended.stdout + ended.stderr
    assert str(tmp_path) in ended.stdout
