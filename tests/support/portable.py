"""A machine without the calls that only POSIX has: their names are removed, so the portable implementations are used.

`python -c` with `BOOTSTRAP` first, or `remove_posix(monkeypatch)` in the process of a test. What the standard library needs
to work on Linux stays; what would do harm on Windows (a signal 0, waiting for a pipe with `select`) raises.
"""

import os
import select
import time

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


def remove_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the names until the end of the test."""
    for module, names in NAMES.items():
        for name in names:
            monkeypatch.delattr(module, name, raising=False)
