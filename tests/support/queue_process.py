"""A kernel without a front end: a process whose manager is `gglib_nb.get_manager()`, controlled line by line.

It starts in a second, can be killed with `kill -9` like any kernel, and shares models and state with the others of its
folder.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.support.environment import isolated
from tests.support.kernel import is_engine, is_running, wait_until

_PROGRAM = """
import json, sys
import gglib_nb
from gglib_nb import DownloadManager, DownloadManagerConfig

manager = %(manager)s
for line in sys.stdin:
    try:
        answer = {"value": eval(json.loads(line))}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""
ADOPTING = "gglib_nb.get_manager()"
BY_HAND = "DownloadManager(DownloadManagerConfig(models_directory=__import__('os').environ['GGLIB_MODELS_DIR']))"
_ROWS = "[f'{item.id} {item.status}' for item in manager.snapshot.items]"
_FAILURES = "[str(item.id) for item in manager.snapshot.recent_failures]"


class QueueProcess:
    """One process with one manager.

    Args:
        folder: Holds its whole state.
        endpoint: Its hub.
        manager: The expression that makes its manager.
        name: The name of its notebook.
        more_environment: Variables on top of the isolated ones.
    """

    def __init__(
        self, folder: Path, endpoint: str, manager: str = ADOPTING, *, name: str = "", **more_environment: str
    ) -> None:
        environment = isolated(os.environ, folder, endpoint) | {"JPY_SESSION_NAME": name} | more_environment
        self.folder = folder
        self._log = (folder / "process.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM % {"manager": manager}],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            start_new_session=True,
        )  # fmt: skip
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def engine_pid(self) -> int | None:
        """Its engine; None without one."""
        return next((child.pid for child in psutil.Process(self.pid).children() if is_engine(child)), None)

    def submit(self, expression: str) -> None:
        """Request the value of an expression in which `manager` is the manager; `answer` returns it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(expression) + "\n")
        self._process.stdin.flush()

    def answer(self, timeout_s: float = 60.0) -> Any:
        """The result of the oldest unanswered expression."""
        line = self._answers.get(timeout=timeout_s)
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def value(self, expression: str, timeout_s: float = 60.0) -> Any:
        """The value of an expression."""
        self.submit(expression)
        return self.answer(timeout_s)

    def queue(self, *ids: str) -> None:
        """Queue downloads and start, in this order."""
        for text in ids:
            repo_id, _, quantization = text.partition(":")
            self.value(f"manager.sync.queue_smart({repo_id!r}, {quantization or None!r}) and None")

    @property
    def rows(self) -> list[str]:
        """`id status` of live downloads."""
        rows: list[str] = self.value(_ROWS)
        return rows

    @property
    def failures(self) -> list[str]:
        failures: list[str] = self.value(_FAILURES)
        return failures

    @property
    def others(self) -> list[str]:
        """`owner name status` of other kernels' downloads."""
        others: list[str] = self.value(
            "[f'{one.owner} {one.display_name} {one.status}' for one in manager.snapshot.elsewhere]"
        )
        return others

    @property
    def notices(self) -> dict[str, str]:
        """Lines about the queue as a whole, by kind."""
        notices: dict[str, str] = self.value("{one.kind: one.text for one in manager.snapshot.notices}")
        return notices

    def settle(self) -> Self:
        """Wait until it has checked the queues of earlier kernels."""
        self.value("manager.sync.adopt() and None")
        return self

    def wait_until(self, is_true: Callable[[Self], bool], what: str, timeout_s: float = 30.0) -> float:
        """Wait for a visible state and return the seconds it took."""
        return wait_until(lambda: is_true(self), timeout_s, what)

    def kill(self) -> None:
        """`kill -9` of the process and of its engine, in this order and at once."""
        engine_pid = self.engine_pid
        psutil.Process(self.pid).kill()
        if engine_pid is not None and is_running(engine_pid):
            psutil.Process(engine_pid).kill()
        self._process.wait()

    def end(self) -> None:
        """End it as a restart from the menu does: with Python's exit handlers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._log.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
