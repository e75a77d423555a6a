"""B: a server that limits each connection to 20 MB/s.

python -m benchmarks.b_per_connection
"""

from benchmarks.contenders import (
    ARIA2C,
    CURL,
    HF_TRANSFER,
    HUGGINGFACE_HUB,
    OURS,
    OURS_RUNNING,
    VERIFIED_PEERS,
    contenders,
    missing,
)
from benchmarks.line import Line
from benchmarks.origin import Origin
from benchmarks.report import USAGE_HEAD, Bar, Findings, ratio, usage_rows, wall
from benchmarks.scenario import Options, measure_in_turn, measure_once, run_alone

_MB_PER_SECOND = 20.0


def measure(options: Options) -> Findings:
    """1 GiB, 20 MB/s for each connection."""
    names = (OURS, OURS_RUNNING, ARIA2C, HF_TRANSFER, CURL, HUGGINGFACE_HUB)
    with (
        options.work_folder() as folder,
        Origin(folder, [options.mib(1024, 64)]) as origin,
        Line(origin.nginx.port, fast=_MB_PER_SECOND) as line,
    ):
        origin.redirect_to(line.port)
        usages = measure_in_turn(
            contenders(*names),
            options.rounds,
            lambda contender, _: measure_once(contender, origin, folder),
            slow=(CURL, HUGGINGFACE_HUB),
        )
    title = f"{origin.size_bytes / 2**30:.2f} GiB, {_MB_PER_SECOND:.0f} MB/s for each connection"
    findings = Findings("B", title, USAGE_HEAD, usage_rows(usages))
    findings.bars = [
        Bar(f"wall of {name} / aria2c -x16 -s16", ratio(wall(usages[name]), wall(usages[ARIA2C])), 1.05)
        for name in (OURS_RUNNING, OURS)
    ]
    findings.notes = [
        f"{CURL} and {HUGGINGFACE_HUB} have one connection and one run.",
        *(f"{name} is not installed and was left out." for name in missing(*VERIFIED_PEERS)),
    ]
    return findings


if __name__ == "__main__":
    run_alone(measure)
