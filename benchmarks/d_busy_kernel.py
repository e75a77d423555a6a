"""D: the user's cells and the download do not slow each other down.

    python -m benchmarks.d_busy_kernel

In one kernel: each loop undisturbed, then a download during a sleeping cell, then during each loop. In a second kernel:
huggingface_hub's download in a thread during each loop. The bytes are counted on the line, from outside.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.kernels import run_cell, running_kernel, wait_for_flow
from benchmarks.line import MEGABYTE, Line
from benchmarks.origin import Origin
from benchmarks.report import Bar, Findings, ratio
from benchmarks.scenario import Options, run_alone
from tests.support.kernel import Kernel

_MB_PER_SECOND = 100.0
_LEAD_S = 1.0  # the cell starts, and data in transit fills the system's buffers
_TAIL_S = 0.5

# One iteration each; iterations per second are the loop's speed.
_LOOPS: Mapping[str, str] = {
    "pure Python loop": "for number in range(100_000): total += number",
    "sum(range(10**7))": "total += sum(range(10**7))",
}
_LOOP_CELL = """
import time
def loop_for(seconds):
    total = turns = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        {turn}
        turns += 1
    return turns / (time.perf_counter() - start)
"""
_HUGGINGFACE_CELL = """
import threading, huggingface_hub
threading.Thread(
    target=huggingface_hub.hf_hub_download, args=({repo_id!r}, {path!r}), kwargs={{"local_dir": "hf"}}, daemon=True
).start()
"""


@dataclass
class _Seen:
    """Results of all rounds by loop: iterations per second, MB/s on the line."""

    undisturbed: dict[str, list[float]]
    beside_ours: dict[str, list[float]]
    our_rate: dict[str, list[float]]
    peer_rate: dict[str, list[float]]
    idle_rate: list[float]


def measure(options: Options) -> Findings:
    """Two loops in a cell, line 100 MB/s."""
    seen = _Seen(defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list), [])
    for_s = options.seconds(3.0, 1.5)
    with (
        options.work_folder() as folder,
        Origin(folder, [options.mib(3072, 1536)]) as origin,
        Line(origin.nginx.port, shared=_MB_PER_SECOND) as line,
    ):
        origin.redirect_to(line.port)
        for _ in range(options.rounds):
            _measure_ours(seen, origin, line, folder / "kernel", for_s)
            _measure_peer(seen, origin, line, folder / "kernel", for_s)
    return _findings(seen)


def _measure_ours(seen: _Seen, origin: Origin, line: Line, folder: Path, for_s: float) -> None:
    with running_kernel(folder, origin) as kernel:
        for name in _LOOPS:
            seen.undisturbed[name].append(_looped(kernel, line, name, for_s)[0])
        before = line.passed()[1]
        run_cell(kernel, f"%gguf queue {origin.repo_id}:{origin.quantization}")
        wait_for_flow(line, before)
        seen.idle_rate.append(
            _rate_beside(kernel, line, f"import time; time.sleep({_LEAD_S + for_s + _TAIL_S})", for_s)[0]
        )
        for name in _LOOPS:
            turns, rate = _looped(kernel, line, name, for_s)
            seen.beside_ours[name].append(turns)
            seen.our_rate[name].append(rate)
    shutil.rmtree(folder)


def _measure_peer(seen: _Seen, origin: Origin, line: Line, folder: Path, for_s: float) -> None:
    with running_kernel(folder, origin) as kernel:
        before = line.passed()[1]
        run_cell(kernel, _HUGGINGFACE_CELL.format(repo_id=origin.repo_id, path=origin.paths[0]))
        wait_for_flow(line, before)
        for name in _LOOPS:
            seen.peer_rate[name].append(_looped(kernel, line, name, for_s)[1])
    shutil.rmtree(folder)


def _looped(kernel: Kernel, line: Line, name: str, for_s: float) -> tuple[float, float]:
    """Iterations per second of a loop, and MB/s on the line at the same time."""
    run_cell(kernel, _LOOP_CELL.format(turn=_LOOPS[name]))
    rate, said = _rate_beside(kernel, line, f"print(loop_for({_LEAD_S + for_s + _TAIL_S}))", for_s)
    return float(said), rate


def _rate_beside(kernel: Kernel, line: Line, code: str, for_s: float) -> tuple[float, str]:
    """MB/s on the line while a cell runs, without its start and end, and the cell's output."""
    cell = kernel.submit(code)
    time.sleep(_LEAD_S)
    start_s, start_bytes = line.passed()
    time.sleep(for_s)
    end_s, end_bytes = line.passed()
    kernel.wait(cell)
    if cell.status != "ok":
        raise RuntimeError(f"a cell failed: {cell.text}")
    return (end_bytes - start_bytes) / (end_s - start_s) / MEGABYTE, cell.stream("stdout")


def _findings(seen: _Seen) -> Findings:
    head = ("a cell runs", "loop keeps", "gglib_nb MB/s", "huggingface_hub in a thread MB/s", "rounds")
    findings = Findings("D", f"download while a cell runs, line {_MB_PER_SECOND:.0f} MB/s", head)
    idle = median(seen.idle_rate)
    findings.rows.append(("sleep", "", f"{idle:.1f}", "", str(len(seen.idle_rate))))
    for name in _LOOPS:
        kept = ratio(median(seen.beside_ours[name]), median(seen.undisturbed[name]))
        ours, peer = median(seen.our_rate[name]), median(seen.peer_rate[name])
        findings.rows.append((f"`{name}`", f"{kept:.0%}", f"{ours:.1f}", f"{peer:.2f}", str(len(seen.our_rate[name]))))
        findings.bars += [
            Bar(f"{name}: download / during a sleeping cell", ratio(ours, idle), 0.85, is_floor=True),
            Bar(f"{name}: download / huggingface_hub in a thread", ratio(ours, peer), 8, is_floor=True),
            Bar(f"{name}: loop / undisturbed", kept, 0.85, is_floor=True),
        ]
    return findings


if __name__ == "__main__":
    run_alone(measure)
