"""Root without the privilege to bypass permissions: an ordinary user's rights, even in a container that runs as root."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


def as_ordinary_user(work: Callable[[], _Result]) -> _Result:
    """Run the work in a thread whose child processes, and those of the threads it starts, obey file permissions.

    On Linux each thread has its own capabilities, so this process keeps its own. Elsewhere, and without root, just run
    it.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not Path("/proc/self").is_dir():
        return work()
    results: list[_Result] = []

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "a capability cannot be dropped")
        results.append(work())

    thread = threading.Thread(target=run, name="ordinary-user")
    thread.start()
    thread.join()
    if not results:
        raise RuntimeError("the work in the other thread failed")
    return results[0]
