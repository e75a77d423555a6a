"""I: the time from the last byte to a verified file of 2 GB, and the cost of syncing the disk.

    python -m benchmarks.i_last_byte

The bytes are counted on the line, so reading the rest from the system's buffers counts as ours.
"""

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contenders import OURS_RUNNING, contenders
from benchmarks.line import Line
from benchmarks.origin import Origin
from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, measure_once, run_alone

_LOOK_S = 0.005
_MOST_S = 0.3


@dataclass
class _LastByte:
    """Polls the line.

    Attributes:
        at_s: when the newest observed byte passed.
    """

    line: Line
    at_s: float = 0.0
    _passed_bytes: int = 0

    def look_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(_LOOK_S):
            at_s, passed_bytes = self.line.passed()
            if passed_bytes > self._passed_bytes:
                self.at_s, self._passed_bytes = at_s, passed_bytes


def measure(options: Options) -> Findings:
    """TLS, unlimited."""
    with (
        options.work_folder() as folder,
        tempfile.TemporaryDirectory(prefix="gglib-bench-") as disk,
        Origin(folder, [options.mib(1920, 64)]) as origin,
        Line(origin.nginx.port) as line,
    ):
        origin.redirect_to(line.port)
        places = {"a memory disk": folder, tempfile.gettempdir(): Path(disk)}
        tails_s = {
            name: [_tail_s(origin, line, place) for _ in range(options.rounds)] for name, place in places.items()
        }
    title = f"from the last byte to a verified file, {origin.size_bytes / 1e9:.1f} GB"
    findings = Findings("I", title, ("the file is on", "median s", "from to, s", "rounds"))
    for name, tails in tails_s.items():
        range_s = f"{min(tails):.2f} to {max(tails):.2f}"
        findings.rows.append((name, f"{median(tails):.2f}", range_s, str(len(tails))))
    in_memory_s, on_disk_s = (median(tails) for tails in tails_s.values())
    findings.bars = [
        Bar("without the disk's sync", in_memory_s, _MOST_S, " s"),
        Bar("cost of a disk and its sync", on_disk_s - in_memory_s, None, " s"),
    ]
    return findings


def _tail_s(origin: Origin, line: Line, folder: Path) -> float:
    is_over, last = threading.Event(), _LastByte(line)
    thread = threading.Thread(target=last.look_until, args=(is_over,), daemon=True)
    thread.start()
    try:
        usage = measure_once(contenders(OURS_RUNNING)[0], origin, folder)
    finally:
        is_over.set()
        thread.join()
    assert usage.ended_s is not None  # reported by the driver
    return usage.ended_s - last.at_s


if __name__ == "__main__":
    run_alone(measure)
