"""olah, a common mirror of the Hub, as a real process in front of the embedded hub.

It requires other versions of the tests' dependencies, so it has a separate environment, created at first use, or before
by `python -m tests.support.olah`, because an installation may take longer than a test.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.support.ports import free_port
from tests.support.processes import end

_REQUIREMENT = "olah==0.5.4"
_ENVIRONMENT = Path(sys.prefix) / "olah"
_START_TIMEOUT_S = 60
_RUN = "from olah.server import cli; cli()"


def olah_python() -> Path:
    """The Python with olah; if missing, its environment is created from the package index.

    Skips the test if that is not possible, except in CI.
    """
    python = _ENVIRONMENT / "bin" / "python"
    mark = _ENVIRONMENT / f"has-{_REQUIREMENT}"
    if not mark.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", _REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            reason = f"olah cannot be installed: {done.stderr.strip()[-300:]}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        mark.touch()
    return python


class Olah:
    """A mirror on a free loopback port, started by entering it and stopped by leaving.

    Args:
        folder: For its cache and log; another mirror with the same folder starts with a warm cache.
        hub_url: The hub behind it.
        is_offline: It responds only from its cache.
    """

    def __init__(self, folder: Path, hub_url: str, *, is_offline: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        hub, own = urlsplit(hub_url).netloc, urlsplit(self.url).netloc
        config = folder / "olah.toml"
        config.write_text(
            f'[basic]\nhost = "127.0.0.1"\nport = {self.port}\nrepos-path = "{folder / "repos"}"\nmetadata-cache-ttl = 0\n'
            f'hf-scheme = "http"\nhf-netloc = "{hub}"\nhf-lfs-netloc = "{hub}"\n'
            f'mirror-scheme = "http"\nmirror-netloc = "{own}"\nmirror-lfs-netloc = "{own}"\n'
            f"[accessibility]\noffline = {str(is_offline).lower()}\n"
        )
        self._command = [str(olah_python()), "-c", _RUN, "-c", str(config), "--log-path", str(folder / "logs")]
        self._environment = {**os.environ, "HF_HOME": str(folder / "huggingface")}
        self._output = folder / "output.log"

    def __enter__(self) -> Self:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, env=self._environment)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"olah did not start: {self._output.read_text()[-2000:]}")
            time.sleep(0.05)  # the port is the only sign that the process has started
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


if __name__ == "__main__":
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):  # the tests report it
        olah_python()
