"""G: from `%gguf queue` in a fresh kernel to the first byte on the disk.

    python -m benchmarks.g_first_byte

Only the extension is loaded: no manager, no engine. Space may be allocated before a byte arrives, so the benchmark
waits for the magic number at the start of the partial file.
"""

import shutil
import time
from pathlib import Path
from statistics import median

from benchmarks.kernels import running_kernel
from benchmarks.origin import Origin
from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, run_alone

_LOOK_S = 0.002
_TIMEOUT_S = 60.0


def measure(options: Options) -> Findings:
    """Loopback, engine not yet running."""
    with options.work_folder() as folder, Origin(folder, [options.mib(512, 64)]) as origin:
        times_s = [_first_byte_s(origin, folder / "kernel") for _ in range(options.rounds)]
    findings = Findings("G", "from `%gguf queue` to the first byte on disk", ("round", "s"))
    findings.rows = [(str(number), f"{time_s:.3f}") for number, time_s in enumerate(times_s, start=1)]
    findings.bars = [Bar("median", median(times_s), 1.0, " s")]
    return findings


def _first_byte_s(origin: Origin, folder: Path) -> float:
    with running_kernel(folder, origin) as kernel:
        target = kernel.models / origin.repo_id / origin.paths[0]
        partial = target.with_name(f"{target.name}.part")
        start_s = time.monotonic()
        cell = kernel.submit(f"%gguf queue {origin.repo_id}:{origin.quantization}")
        while not (_has_begun(partial) or _has_begun(target)):
            if time.monotonic() - start_s > _TIMEOUT_S:
                raise TimeoutError(f"no byte arrived; the cell printed {kernel.wait(cell).text!r}")
            time.sleep(_LOOK_S)
        taken_s = time.monotonic() - start_s
        kernel.wait(cell)
    shutil.rmtree(folder)
    return taken_s


def _has_begun(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    run_alone(measure)
