"""A: one file over TLS as fast as it goes, verified.

python -m benchmarks.a_unlimited
"""

import tempfile
from pathlib import Path

from benchmarks.contenders import CURL, OURS, OURS_RUNNING, VERIFIED_PEERS, contenders, missing
from benchmarks.origin import Origin
from benchmarks.report import USAGE_HEAD, Bar, Findings, cpu, ratio, usage_rows, wall
from benchmarks.scenario import Options, measure_in_turn, measure_once, run_alone


def measure(options: Options) -> Findings:
    """1 GiB, TLS, unlimited."""
    with options.work_folder() as folder, Origin(folder, [options.mib(1024, 64)]) as origin:
        names = (OURS, OURS_RUNNING, *VERIFIED_PEERS)
        usages = measure_in_turn(
            contenders(*names), options.rounds, lambda contender, _: measure_once(contender, origin, folder)
        )
        with tempfile.TemporaryDirectory(prefix="gglib-bench-") as disk:
            on_disk = measure_in_turn(
                contenders(OURS_RUNNING), options.rounds, lambda one, _: measure_once(one, origin, Path(disk))
            )
    peers = [usages[name] for name in VERIFIED_PEERS if name in usages]
    best = min(wall(runs) for runs in peers)
    findings = Findings("A", f"{origin.size_bytes / 2**30:.2f} GiB, TLS, unlimited, verified", USAGE_HEAD)
    findings.rows = usage_rows({**usages, f"{OURS_RUNNING}, in {tempfile.gettempdir()}": on_disk[OURS_RUNNING]})
    for name, most_cpu, most_wall in ((OURS_RUNNING, 1.12, 1.05), (OURS, None, None)):
        runs = usages[name]
        findings.bars.append(Bar(f"CPU of {name} / (curl + openssl)", ratio(cpu(runs), cpu(usages[CURL])), most_cpu))
        findings.bars.append(Bar(f"wall of {name} / best verified peer", ratio(wall(runs), best), most_wall))
    findings.notes = [
        f"`{OURS_RUNNING}` is the cost of a download in a kernel after its first one, for both processes (the peak "
        f"memory includes the start). `{OURS}` is a new Python process that starts and ends its engine: it includes "
        "starting two processes and importing the Hub's client, once in a kernel's life, so it has no limit.",
        "gglib_nb syncs the file to the disk before it reports the end, the others do not; the last row shows that on a disk.",
        *(f"{name} is not installed and was left out." for name in missing(*names)),
    ]
    return findings


if __name__ == "__main__":
    run_alone(measure)
