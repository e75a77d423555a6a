"""Ctrl-C in a terminal's IPython ends the wait for a download in one line; the download continues."""

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from gglib_nb import DownloadManager
from gglib_nb.manager.calls import Coroutines, DaemonThreadPool, operation
from gglib_nb.notebook import shortcuts
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.kernel import wait_until

MB = 1_000_000
IPYTHON = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "call",
    [
        "await gglib_nb.download('demo/m')",
        "gglib_nb.download_sync('demo/m')",
        "%gguf wait",
        "await gglib_nb.get_manager().download('demo/m')",
    ],
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
    class Waits(Coroutines):
        sync, _calls = None, DaemonThreadPool("waits")

        @operation
        def download(self) -> None:
            is_over.wait(60)

    is_over = threading.Event()
    monkeypatch.setattr(shortcuts, "get_manager", Waits)
    loop = asyncio.new_event_loop()
    task = loop.create_task(shortcuts.download())
    loop.run_until_complete(asyncio.sleep(0))

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

    assert not task.cancelling()
    is_over.set()
    assert loop.run_until_complete(task) is None
    loop.close()


def test_an_interrupt_ends_a_cell_that_waits_for_events(tmp_path: Path) -> None:
    async def run_cell_async() -> None:  # the name of IPython's
        async for _ in manager.events():
            pass

    def interrupt() -> None:
        wait_until(lambda: signal.getsignal(signal.SIGINT) is not signal.default_int_handler, 60, "the wait")
        os.kill(os.getpid(), signal.SIGINT)

    loop, interrupting = asyncio.new_event_loop(), threading.Thread(target=interrupt)
    with DownloadManager(models_directory=tmp_path, state_directory=tmp_path) as manager:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt) as raised:
            loop.run_until_complete(run_cell_async())
        interrupting.join()
        assert "Stopped waiting" in vars(raised.value)["_render_traceback_"]()[0]
        assert asyncio.all_tasks(loop) == set()
    loop.close()
