"""K: downloads on the hosts of a cluster: how throughput grows with hosts, and the cost of their reports in the kernel.

    python -m benchmarks.k_cluster

Six models on one, two and three hosts of a Dask cluster on this machine, each host with its own folder and a line of
20 MB/s: one connection, limited by the hub. Hub and cluster are separate processes, so that this
process contains what a kernel contains: the manager and the client.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, run_alone
from gglib_nb import DownloadManager, DownloadManagerConfig, DownloadRequest
from gglib_nb.domain.snapshot import DownloadProgressed, QueueEvent

_HOSTS = (1, 2, 3)
_MODELS = 6
_LINE_BYTES_PER_SECOND = 20_000_000
_IDLE_S = 3.0
# Percent of a core with three active hosts: the panel's limit for a long queue (`panel_cost`).
_MOST_SHARE = 2.0

_HUB = """
import sys
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository, small_gguf
count, size, speed = map(int, sys.argv[1:])
names = [f"demo/model-{number}" for number in range(count)]
hub = FaultyHub([make_repository(name, {"m-Q8_0.gguf": small_gguf("m-Q8_0.gguf", size, name)}) for name in names],
              per_connection=speed)
with hub:
    print(hub.url, flush=True)
    sys.stdin.read()
"""
_CLUSTER = """
import sys
from pathlib import Path
from tests.support.cluster import cluster_of
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    hosts = {f"host-{number}": folder / f"host-{number}" for number in range(int(sys.argv[2]))}
    with cluster_of(hosts, folder / "workers") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def measure(options: Options) -> Findings:
    """Wall time, throughput and the kernel's CPU for each number of hosts."""
    head = ("hosts", "wall", "throughput", "of the lines", "kernel", "reports/s", "CPU/report")
    size = options.mib(60, 8)
    findings = Findings("K", f"{_MODELS} models of {size / 1e6:.0f} MB on hosts with a line of 20 MB/s each", head)
    rates = {}
    for hosts in _HOSTS:
        with options.work_folder() as folder:
            wall_s, share, reports = _measured(folder, hosts, size)
        rates[hosts] = rate = _MODELS * size / wall_s
        shown = f"{share:.1%}", f"{reports / wall_s:.0f}", f"{share * wall_s / reports * 1e6:.0f} µs"
        of_lines = rate / (hosts * _LINE_BYTES_PER_SECOND)
        findings.rows.append((str(hosts), f"{wall_s:.1f} s", f"{rate / 1e6:.1f} MB/s", f"{of_lines:.0%}", *shown))
        if hosts == _HOSTS[-1]:
            findings.bars.append(Bar(f"a core in the kernel, {hosts} hosts", share * 100, _MOST_SHARE, " %"))
    for hosts in _HOSTS[1:]:
        findings.bars.append(Bar(f"throughput, {hosts} hosts : 1", rates[hosts] / rates[1], 0.8 * hosts, is_floor=True))
    findings.notes = [
        "From the first start to the last end, with running engines. The kernel's CPU is that of its whole process (the "
        "manager, Dask's client, every report), minus its idle use.",
    ]
    return findings


def _measured(folder: Path, hosts: int, size: int) -> tuple[float, float, int]:
    """Seconds, share of a core, and reports of progress."""
    with (
        _process(_HUB, _MODELS, size, _LINE_BYTES_PER_SECOND) as url,
        _process(_CLUSTER, folder, hosts) as address,
    ):
        config = DownloadManagerConfig(
            models_directory=folder / "models",
            state_directory=folder / "state",
            hub_cache=folder / "cache",
            endpoint=url,
            engine=address,
            max_connections=hosts,  # one for each
        )
        manager = DownloadManager(config)
        try:
            return _run(manager, hosts)
        finally:
            manager.sync.close()


def _run(manager: DownloadManager, hosts: int) -> tuple[float, float, int]:
    reports = 0

    def count(event: QueueEvent) -> None:
        nonlocal reports
        reports += isinstance(event, DownloadProgressed)

    manager._parts.engine.start()  # noqa: SLF001
    while len(manager._parts.engine._engine._dispatcher._hosts) < hosts:  # noqa: SLF001
        time.sleep(0.05)
    idle = _share_of_core(lambda: time.sleep(_IDLE_S))
    manager.subscribe_events(count)
    ids = [manager.sync.queue_download(DownloadRequest(f"demo/model-{number}")) for number in range(_MODELS)]
    began_s = time.monotonic()
    manager.sync.resume(ids[0])
    share = _share_of_core(manager.sync.join)
    return time.monotonic() - began_s, max(0.0, share - idle), max(1, reports)


def _share_of_core(wait) -> float:
    cpu_s, wall_s = time.process_time(), time.monotonic()
    wait()
    return (time.process_time() - cpu_s) / (time.monotonic() - wall_s)


@contextmanager
def _process(program: str, *arguments: object) -> Iterator[str]:
    """The first line of a program's output; it runs until the end of the block."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


if __name__ == "__main__":
    run_alone(measure)
