"""Runs all scenarios and writes the results to `benchmarks/RESULTS.md`.

    python -m benchmarks.run                # 20 to 25 minutes; keep the machine quiet
    python -m benchmarks.run --quick        # three or four minutes; shows that everything works, writes nothing
    python -m benchmarks.run --only B2 --only F

A failed scenario is reported, and the others continue.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks import (
    a_unlimited,
    b2_edge_lottery,
    b_per_connection,
    c_round_trip,
    d_busy_kernel,
    e_loop_lateness,
    f_memory,
    g_first_byte,
    h_resume,
    i_last_byte,
    k_cluster,
    q_queue,
    r_reuse,
    s_beside_quantizations,
)
from benchmarks.origin import nginx_program
from benchmarks.report import Findings, table
from benchmarks.scenario import Options, add_options, options_of

_RESULTS = Path(__file__).with_name("RESULTS.md")
_QUIET_LOAD = 0.5


def _panel_cost(options: Options) -> Findings:
    """The panel's own benchmark, which needs a browser: imported when it runs."""
    from benchmarks import panel_cost

    return panel_cost.measure(options.seconds(10, 2))


_SCENARIOS: Mapping[str, Callable[[Options], Findings]] = {
    "A": a_unlimited.measure,
    "B": b_per_connection.measure,
    "B2": b2_edge_lottery.measure,
    "C": c_round_trip.measure,
    "D": d_busy_kernel.measure,
    "E": e_loop_lateness.measure,
    "F": f_memory.measure,
    "G": g_first_byte.measure,
    "H": h_resume.measure,
    "I": i_last_byte.measure,
    "K": k_cluster.measure,
    "P": _panel_cost,
    "Q": q_queue.measure,
    "R": r_reuse.measure,
    "S": s_beside_quantizations.measure,
}
_PACKAGES = ("gglib-nb", "huggingface_hub", "hf_transfer", "ipykernel")
_PROGRAMS: Sequence[Sequence[str]] = (
    ("curl", "--version"),
    ("aria2c", "--version"),
    ("openssl", "version"),
    (nginx_program(), "-v"),
)


def main() -> int:
    """Run the chosen scenarios; the exit status says whether every scenario ran, not whether its limits were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--only", action="append", choices=_SCENARIOS, help="this scenario; may be repeated")
    parser.add_argument(
        "--output", type=Path, help=f"where to write; {_RESULTS.name} beside this, nowhere with --quick"
    )
    arguments = parser.parse_args()
    options = options_of(arguments)
    # Before anything runs, because the benchmarks themselves are a load.
    machine = _machine(options)
    findings = [_findings(name, options) for name in arguments.only or _SCENARIOS]
    output = arguments.output or (None if options.is_quick or arguments.only else _RESULTS)
    if output is not None:
        output.write_text(_document(machine, findings), encoding="utf-8")
    print(_summary(findings))
    return 0 if all(found.bars for found in findings) else 1


def _findings(name: str, options: Options) -> Findings:
    """The results of a scenario; if it failed, results without limits and with the reason."""
    start_s = time.monotonic()
    try:
        found = _SCENARIOS[name](options)
    except Exception as error:  # noqa: BLE001  # the other scenarios still count
        found = Findings(name, "did not run to its end", notes=[f"{type(error).__name__}: {error}"])
    print(f"{found.markdown()}\n\n({time.monotonic() - start_s:.0f} s)\n", flush=True)
    return found


def _document(machine: str, findings: Sequence[Findings]) -> str:
    sections = [
        "# Benchmarks",
        "Written by `make bench`. Every scenario starts its own server on the same machine, and in each round every "
        "downloader runs once. Values are medians; ratios are of medians in the same run. CPU and peak memory are "
        "the sums of all processes of a downloader, without the server.",
        machine,
        "## All bars",
        _summary(findings),
        *(found.markdown() for found in findings),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(findings: Sequence[Findings]) -> str:
    rows = [(found.name, *bar.cells()) for found in findings for bar in found.bars]
    rows += [(found.name, found.title, "", "", "**failed**") for found in findings if not found.bars]
    return table(("", "bar", "measured", "limit", ""), rows)


def _machine(options: Options) -> str:
    load = os.getloadavg()[0]
    lines = [
        f"* {datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release()}, {_processor()}, "
        f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"* Python {platform.python_version()}, " + ", ".join(map(_package, _PACKAGES)),
        "* " + ", ".join(filter(None, map(_program, _PROGRAMS))),
        f"* {options.rounds} rounds; files on {_file_system(options.folder)}",
    ]
    if load > _QUIET_LOAD:
        lines.append(f"* The machine was not quiet: load {load:.1f} before the first run.")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def _processor() -> str:
    models = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return models[0] if models else platform.machine()


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _program(command: Sequence[str]) -> str:
    """The first line of a program's version output; empty if there is none."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError:
        return ""
    first = (ended.stdout or ended.stderr).splitlines()[0]
    return " ".join(first.split()[:3])


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "an unknown file system"
    return f"{folder} ({kind})"


if __name__ == "__main__":
    sys.exit(main())
