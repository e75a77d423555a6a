"""Ctrl-C in a terminal's IPython ends the wait for a download in one line; the download continues."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from gglib_nb.notebook import shortcuts
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

MB = 1_000_000
IPYTHON = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "call", ["await gglib_nb.download('demo/m')", "gglib_nb.download_sync('demo/m')", "%gguf wait"]
)
def test_an_interrupt_ends_the_wait_in_one_line_and_the_download_continues(
    make_hub: Callable[..., FaultyHub], tmp_path: Path, call: str
) -> None:
    hub = make_hub([make_repository("demo/m", {"m-Q4_K_M.gguf": 60 * MB})])
    hub.set_speed(MB // 2)
    environment = isolated(os.environ, tmp_path, hub.url) | {"TERM": "dumb"}
    shell = pexpect.spawn(
        sys.executable, IPYTHON, env=environment, cwd=str(tmp_path), encoding="utf-8", timeout=60, dimensions=(40, 150)
    )

    def run(line: str, number: int) -> str:
        shell.sendline(line)
        shell.expect(rf"In \[{number + 1}\]: ")
        return str(shell.before)

    shell.expect(r"In \[1\]: ")
    run("import asyncio, gglib_nb; get_ipython().run_line_magic('load_ext', 'gglib_nb')", 1)
    run("%gguf queue demo/m", 2)
    shell.sendline(call)
    shell.expect("[kM]B/s")
    shell.sendintr()
    shell.expect(r"In \[4\]: ")
    lines = re.split(r"[\r\n]+|(?=KeyboardInterrupt: )", str(shell.before))
    assert next(line for line in lines if "KeyboardInterrupt" in line).startswith("KeyboardInterrupt: Stopped waiting.")
    assert not any(word in str(shell.before) for word in ("Traceback", "--->", "asyncio"))

    assert "tasks: 1" in run("print('tasks:', len((await asyncio.sleep(0)) or asyncio.all_tasks()))", 4)
    assert "1 active" in run("%gguf status", 5)
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    assert "Traceback" not in shell.before


def test_an_interrupt_belongs_to_the_code_that_runs_and_not_to_a_download_in_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Waits:
        async def download(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(shortcuts, "get_manager", Waits)
    loop = asyncio.new_event_loop()
    task = loop.create_task(shortcuts.download())
    loop.run_until_complete(asyncio.sleep(0))

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

    assert not task.cancelling()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
