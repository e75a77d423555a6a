"""A real ipykernel as a benchmark needs it: one that trusts the origin, with the extension loaded.

Knows no scenario.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.line import MEGABYTE, Line
from benchmarks.origin import Origin
from tests.support.kernel import Kernel, wait_until

_FIRST_BYTES = 2 * MEGABYTE
_TIMEOUT_S = 60.0


@contextmanager
def running_kernel(folder: Path, origin: Origin) -> Iterator[Kernel]:
    """A kernel with its own state below `folder`."""
    folder.mkdir()
    trust = {"SSL_CERT_FILE": str(origin.nginx.authority), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with Kernel(folder, f"http://127.0.0.1:{origin.hub_port}", trust) as kernel:
        run_cell(kernel, "%load_ext gglib_nb")
        yield kernel


def run_cell(kernel: Kernel, code: str) -> None:
    """Run a cell.

    Raises:
        RuntimeError: it ended with an error.
    """
    cell = kernel.run(code)
    if cell.status != "ok":
        raise RuntimeError(f"a cell failed: {cell.text}")


def wait_for_flow(line: Line, passed_before: int) -> None:
    """Wait until a download has started to receive data."""
    wait_until(lambda: line.passed()[1] - passed_before > _FIRST_BYTES, _TIMEOUT_S, "the first bytes came")
