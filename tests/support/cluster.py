"""A Dask cluster on this machine whose workers represent hosts, each with its own name, models folder and state."""

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from distributed import Client, LocalCluster

from gglib_nb import DownloadManager

ENGINE = "gglib_nb.engine.main"
WAIT_S = 60


@contextmanager
def cluster_of(hosts: Mapping[str, Path | None], state: Path, *, workers_each: int = 1) -> Iterator[LocalCluster]:
    """Start a cluster with the hosts, by name, and their models folders (None: the kernel's); stop it completely afterwards."""
    cluster = LocalCluster(
        n_workers=0, processes=True, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
    )
    plain = cluster.new_spec
    for name, folder in hosts.items():
        for number in range(workers_each):
            spec = copy.deepcopy(plain)
            own = {} if folder is None else {"GGLIB_MODELS_DIR": str(folder)}
            spec["options"]["env"] = {"GGLIB_HOST": name, "GGLIB_STATE_DIR": str(state / name), **own}
            cluster.worker_spec[f"{name}-{number}"] = spec
    try:
        cluster.sync(cluster._correct_state)
        with Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(len(hosts) * workers_each, timeout=WAIT_S)
        yield cluster
    finally:
        cluster.close(timeout=60)


def worker_pid(cluster: LocalCluster, host: str, number: int = 0) -> int:
    """The process of a host's worker."""
    pid: int = cluster.workers[f"{host}-{number}"].pid
    return pid


def engines_of(pid: int) -> list[psutil.Process]:
    """Engine processes that are children of a worker."""
    try:
        return [child for child in psutil.Process(pid).children() if is_engine(child)]
    except psutil.NoSuchProcess:
        return []


def is_engine(process: psutil.Process) -> bool:
    """Whether the process is a running engine."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(ENGINE in word for word in process.cmdline())
    except psutil.Error:
        return False


def all_engines(cluster: LocalCluster, *hosts: str) -> list[psutil.Process]:
    """The engines of these hosts' first workers."""
    return [engine for host in hosts for engine in engines_of(worker_pid(cluster, host))]


def wait_until(condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
    """The first true value of the condition; for changes without an event, such as the end of a process."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "the condition did not become true"
        time.sleep(0.05)
    return found


def wait_ended(processes: list[psutil.Process], timeout_s: float = WAIT_S) -> None:
    """Wait until none of them runs."""
    wait_until(lambda: not any(is_engine(process) for process in processes), timeout_s)


def wait_for_hosts(manager: DownloadManager, count: int) -> None:
    """Wait until the manager has that many engines."""
    manager._parts.engine.start()
    engine: Any = manager._parts.engine._engine
    wait_until(lambda: len(engine._links) == count)


def kill(pid: int) -> None:
    os.kill(pid, 9)
