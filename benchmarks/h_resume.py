"""H: the cost of a killed engine: bytes on the wire beyond those of the file.

    python -m benchmarks.h_resume

The engine is killed at half the file; the manager of the same process starts another, which resumes.
"""

import shutil
import subprocess
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.contenders import OURS, contenders
from benchmarks.line import MEGABYTE, Line
from benchmarks.origin import Origin
from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, job_of, run_alone

_MB_PER_SECOND = 250.0
_ALLOWED_S = 2.0
_TIMEOUT_S = 300.0


def measure(options: Options) -> Findings:
    """4 GiB over 250 MB/s, `kill -9` of the engine at 50 %."""
    with (
        options.work_folder() as folder,
        Origin(folder, [options.mib(4096, 256)]) as origin,
        Line(origin.nginx.port, shared=_MB_PER_SECOND) as line,
    ):
        origin.redirect_to(line.port)
        runs = [_extra_bytes(origin, line, folder) for _ in range(options.rounds)]
    head = ("round", "killed after MB", "sent in all MB", "file MB", "downloaded again MB", "seconds of line")
    title = f"resume of {origin.size_bytes / 2**30:.2f} GiB after `kill -9` of the engine at 50 %"
    findings = Findings("H", title, head)
    for number, (before, sent) in enumerate(runs, start=1):
        again = sent - origin.size_bytes
        figures = [f"{value / MEGABYTE:.1f}" for value in (before, sent, origin.size_bytes, again)]
        findings.rows.append((str(number), *figures, f"{again / MEGABYTE / _MB_PER_SECOND:.2f}"))
    again_s = [(sent - origin.size_bytes) / MEGABYTE / _MB_PER_SECOND for _, sent in runs]
    findings.bars = [
        Bar("downloaded again, median", median(again_s), _ALLOWED_S, " s of line"),
        Bar("downloaded again, worst", max(again_s), None, " s of line"),
    ]
    findings.notes = [
        f"The line gives {_MB_PER_SECOND:.0f} MB/s; bytes are those in nginx's log, including data in its buffers "
        "and the proxy's when the engine died."
    ]
    return findings


def _extra_bytes(origin: Origin, line: Line, folder: Path) -> tuple[int, int]:
    """Bytes received before the kill, and all bytes that nginx sent."""
    target = folder / "download"
    target.mkdir()
    job = job_of(origin, target)
    (command,) = contenders(OURS)[0].commands(job)
    passed_before, sent_before = line.passed()[1], origin.nginx.bytes_sent()
    process = subprocess.Popen(command, env=job.environment())
    try:
        _wait_for_half(process, origin, line, passed_before)
        passed = line.passed()[1] - passed_before
        _engine_of(process).kill()
        if process.wait(_TIMEOUT_S):
            raise RuntimeError("the download did not resume after its engine was killed")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(target)
    # nginx writes to its log when the last connection has ended.
    return passed, _settled(origin, sent_before + origin.size_bytes) - sent_before


def _wait_for_half(process: "subprocess.Popen[bytes]", origin: Origin, line: Line, passed_before: int) -> None:
    while line.passed()[1] - passed_before < origin.size_bytes / 2:
        if process.poll() is not None:
            raise RuntimeError("the download ended before half of it had arrived")
        time.sleep(0.02)


def _engine_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    (engine,) = psutil.Process(process.pid).children()
    return engine


def _settled(origin: Origin, least: int) -> int:
    """The bytes in nginx's log, when they no longer grow."""
    deadline_s = time.monotonic() + 10
    sent = -1
    while (now := origin.nginx.bytes_sent()) != sent or now < least:
        sent = now
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.5)
    return sent


if __name__ == "__main__":
    run_alone(measure)
