"""Processes that tests start. Knows nothing of what runs in them."""

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], timeout_s: float = 10) -> None:
    """Ask a process to end, and kill it where it does not; it is gone when this returns."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout_s)
