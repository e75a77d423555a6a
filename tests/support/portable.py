"""A machine without the POSIX-only calls: their names are removed, so the portable implementations are used.

`remove_posix(monkeypatch)` does it for a test; `portable_environment` for a program and its child processes, where a
signal 0 is also refused, because on Windows it would end the process. Calls that the standard library needs on Linux
remain.
"""

import os
import select
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

NAMES = {
    os: (
        *("pread", "preadv", "pwrite", "pwritev", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "fdatasync", "geteuid"),
        *("posix_fadvise", "posix_fallocate", "copy_file_range", "sendfile", "nice", "fork", "register_at_fork"),
        *("getpgid", "setsid", "killpg", "fchmod", "fchown", "chown", "mkfifo", "getuid", "getgid"),
    ),
    select: ("poll", "epoll"),
    time: ("clock_gettime", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC"),
}
# Python imports it automatically at startup, from a folder in PYTHONPATH.
_SITE = """
import asyncio, concurrent.futures, http.server, logging, multiprocessing, os, select, subprocess, tempfile, time
import platformdirs.unix, psutil  # what other libraries use on Linux is theirs
for module, names in {names}:
    for name in names:
        if hasattr(globals()[module], name):
            delattr(globals()[module], name)

def refusing_zero(kill):
    def call(pid, number):
        if number == 0:
            raise OSError("a signal 0 ends a process on Windows")
        kill(pid, number)
    return call

os.kill = refusing_zero(os.kill)
"""


def remove_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the names until the end of the test."""
    for module, names in NAMES.items():
        for name in names:
            monkeypatch.delattr(module, name, raising=False)


def portable_environment(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of a program that runs without these names; `folder` is created for it."""
    folder.mkdir()
    names = [(module.__name__, names) for module, names in NAMES.items()]
    (folder / "sitecustomize.py").write_text(_SITE.replace("{names}", repr(names)))
    root = Path(__file__).resolve().parents[2]
    return {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{root}"}
