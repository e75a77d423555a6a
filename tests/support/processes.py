"""Processes that tests start. Knows nothing about the programs."""

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], timeout_s: float = 10) -> None:
    """Terminate a process, and kill it if it does not end; it has ended when this returns."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout_s)
