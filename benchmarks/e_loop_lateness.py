"""E: how late the kernel's event loop is while a download runs at 100 MB/s.

python -m benchmarks.e_loop_lateness
"""

import shutil
from pathlib import Path
from statistics import median

from benchmarks.kernels import run_cell, running_kernel, wait_for_flow
from benchmarks.line import Line
from benchmarks.origin import Origin
from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, run_alone

_MB_PER_SECOND = 100.0

# A task of the loop that is due every 5 ms.
_PROBE_CELL = """
import asyncio, time
async def p99_lateness_ms(seconds):
    lateness, end = [], time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        await asyncio.sleep(0.005)
        lateness.append((time.perf_counter() - now - 0.005) * 1000)
    return sorted(lateness)[len(lateness) * 99 // 100]
"""


def measure(options: Options) -> Findings:
    """p99 with and without a download, line 100 MB/s."""
    for_s = options.seconds(4.0, 1.5)
    with (
        options.work_folder() as folder,
        Origin(folder, [options.mib(2048, 512)]) as origin,
        Line(origin.nginx.port, shared=_MB_PER_SECOND) as line,
    ):
        origin.redirect_to(line.port)
        pairs = [_lateness_ms(origin, line, folder / "kernel", for_s) for _ in range(options.rounds)]
    idle, busy = (median(column) for column in zip(*pairs, strict=True))
    head = ("the kernel's loop", "p99 lateness ms", "of each round", "rounds")
    findings = Findings("E", f"lateness of the kernel's loop, download at {_MB_PER_SECOND:.0f} MB/s", head)
    for name, figure, column in (("without", idle, 0), ("with a download", busy, 1)):
        each = ", ".join(f"{pair[column]:.2f}" for pair in pairs)
        findings.rows.append((name, f"{figure:.2f}", each, str(len(pairs))))
    findings.bars = [Bar("p99 with a download minus p99 without", busy - idle, 5, " ms")]
    return findings


def _lateness_ms(origin: Origin, line: Line, folder: Path, for_s: float) -> tuple[float, float]:
    """p99 without a download, and with one."""
    with running_kernel(folder, origin) as kernel:
        run_cell(kernel, _PROBE_CELL)
        idle = float(kernel.value(f"await p99_lateness_ms({for_s})"))
        before = line.passed()[1]
        run_cell(kernel, f"%gguf queue {origin.repo_id}:{origin.quantization}")
        wait_for_flow(line, before)
        busy = float(kernel.value(f"await p99_lateness_ms({for_s})"))
    shutil.rmtree(folder)
    return idle, busy


if __name__ == "__main__":
    run_alone(measure)
