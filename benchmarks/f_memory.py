"""F: the engine's memory, for a small file and a large one.

python -m benchmarks.f_memory
"""

from statistics import median

from benchmarks.contenders import OURS, contenders
from benchmarks.origin import Origin
from benchmarks.report import MIB, Bar, Findings
from benchmarks.scenario import Options, measure_once, run_alone

_BASE_MIB = 60


def measure(options: Options) -> Findings:
    """0.5 GiB and 4 GiB, TLS, unlimited."""
    findings = Findings("F", "memory of the engine process", ("file", "peak MiB", "connections at once", "rounds"))
    for size_bytes in (options.mib(512, 32), options.mib(4096, 128)):
        with options.work_folder() as folder, Origin(folder, [size_bytes]) as origin:
            (ours,) = contenders(OURS)
            runs = [measure_once(ours, origin, folder) for _ in range(options.rounds)]
        engines = [run.engine for run in runs if run.engine is not None]
        peak_mib = median(engine.peak_bytes for engine in engines) / MIB
        sockets = max(engine.sockets for engine in engines)
        size = f"{size_bytes / 2**30:.2f} GiB"
        findings.rows.append((size, f"{peak_mib:.1f}", str(sockets), str(len(engines))))
        findings.bars.append(Bar(f"engine, {size}", peak_mib, _BASE_MIB + sockets, " MiB"))
    findings.notes = ["Connections are sampled ten times a second and include the one to the hub."]
    return findings


if __name__ == "__main__":
    run_alone(measure)
