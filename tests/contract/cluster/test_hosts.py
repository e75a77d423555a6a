"""The queue on the hosts of a cluster: workers with separate folders, with a shared one, and killed during downloads.

It is long because each test builds a cluster, breaks it, and checks all hosts.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytest.importorskip("distributed", reason="the extra `dask` is not installed")

from distributed import Client, LocalCluster

from gglib_nb import ClusterError, DownloadCancelledError, DownloadStatus
from gglib_nb.cluster import connecting
from gglib_nb.engine.pieces import WRITTEN, Pieces
from tests.support.cluster import (
    all_engines,
    cluster_of,
    engines_of,
    is_engine,
    kill,
    wait_ended,
    wait_for_hosts,
    wait_until,
    worker_pid,
)
from tests.support.hub import make_repository, small_gguf
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

HOSTS = ("gpu-1", "gpu-2", "gpu-3")
TOKEN = "hf_secret_of_the_cluster_test"
MB = 1_000_000
WAIT_S = 90


@pytest.fixture(scope="module")
def separate(tmp_path_factory):
    """Three hosts, each with its own folder."""
    folder = tmp_path_factory.mktemp("separate")
    with cluster_of({name: folder / name for name in HOSTS}, folder / "state") as cluster:
        cluster.folders = {name: folder / name for name in HOSTS}
        yield cluster


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two hosts that share the kernel's models folder, the first with two workers."""
    with cluster_of({"left": None, "right": None}, tmp_path_factory.mktemp("shared"), workers_each=1) as cluster:
        yield cluster


@pytest.fixture
def hub(make_hub, request):
    """Six models of 12 MB with names that no other test uses."""
    name = request.node.name.replace("[", "-").replace("]", "")[:60]
    # (Identical content would be linked, not downloaded.)
    contents = {letter: small_gguf("model-Q8_0.gguf", 12 * MB, name + letter) for letter in "abcdef"}
    hub = make_hub(
        [make_repository(f"demo/{name}-{letter}", {"model-Q8_0.gguf": one}) for letter, one in contents.items()],
        tokens={"": ["*"], TOKEN: ["*"]},
    )
    hub.ids = list(hub.repositories)
    return hub


def right_digest(hub, repo_id: str) -> str:
    return hub.repositories[repo_id].commit("main").files["model-Q8_0.gguf"].content.sha256


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def running(manager) -> dict[str, str]:
    """The downloads running on each host."""
    items = manager.snapshot.items
    return {
        item.hosts[0].host: item.repo_id for item in items if item.status is DownloadStatus.DOWNLOADING and item.hosts
    }


def row(manager, repo_id: str):
    return next(item for item in manager.snapshot.items if item.repo_id == repo_id)


def wait_for_bytes(manager, repo_id: str, count: int) -> None:
    wait_until(lambda: row(manager, repo_id).downloaded_bytes >= count)


# Hosts with separate folders --------------------------------------------------------------------------------------


def test_a_queue_of_six_survives_kills_of_worker_and_engine_cancel_pause_and_reorder(separate, hub, make_manager):
    manager = make_manager(engine=separate)
    wait_for_hosts(manager, 3)
    hub.set_speed(3 * MB)
    ids = [manager.sync.queue_smart(repo_id).id for repo_id in hub.ids]
    wait_until(lambda: len(running(manager)) == 3)
    first, second, _ = (running(manager)[host] for host in HOSTS)
    wait_for_bytes(manager, first, MB)
    wait_for_bytes(manager, second, MB)

    assert manager.sync.reorder_queue(ids[5], 1) == 1
    manager.sync.pause(ids[4])
    manager.sync.cancel_download(ids[3])
    kill(worker_pid(separate, "gpu-1"))
    (engine,) = engines_of(worker_pid(separate, "gpu-2"))
    engine.kill()
    wait_until(lambda: row(manager, first).downloaded_bytes > 0 and row(manager, second).downloaded_bytes > 0)
    hub.set_speed()
    manager.sync.resume(ids[4])
    wait_until(lambda: not manager.snapshot.items, WAIT_S)

    done = {item.repo_id: item for item in manager.snapshot.recent_completed}
    assert set(done) == set(hub.ids) - {hub.ids[3]}
    for repo_id, item in done.items():
        (path,) = map(Path, item.paths)
        assert digest(path) == right_digest(hub, repo_id)
        assert path.is_relative_to(separate.folders[item.hosts[0].host])
    with pytest.raises(DownloadCancelledError):
        manager.sync.wait(ids[3])


def test_every_host_gets_its_own_copy_and_the_catalog_lists_the_hosts(separate, hub, make_manager):
    manager = make_manager(engine=separate)
    wait_for_hosts(manager, 3)
    repo_id = hub.ids[0]

    path = manager.sync.download(repo_id, everywhere=True)

    (model,) = manager.catalog.models()
    assert manager.sync.models()[0].hosts == "gpu-1, gpu-2, gpu-3"
    assert [one.host for one in model.hosts] == list(HOSTS)
    assert {one.models_directory for one in model.hosts} == {str(folder) for folder in separate.folders.values()}
    copies = [Path(one.models_directory, repo_id, "model-Q8_0.gguf") for one in model.hosts]
    assert path in copies
    assert {digest(copy) for copy in copies} == {right_digest(hub, repo_id)}


def test_the_bandwidth_limit_applies_to_all_hosts_together(separate, hub, make_manager):
    limit = 6 * MB
    manager = make_manager(engine=separate, bandwidth_limit_bytes_per_second=limit)
    wait_for_hosts(manager, 3)
    for repo_id in hub.ids[:3]:
        manager.sync.queue_smart(repo_id)

    manager.sync.join()

    done = manager.snapshot.recent_completed
    took_s = max(item.ended_at_s for item in done) - min(item.started_at_s for item in done)
    assert sorted(item.hosts[0].host for item in done) == list(HOSTS)
    # The first second's bytes may arrive at once. With a limit for each host it would take two seconds.
    assert sum(item.total_bytes for item in done) / took_s < limit * 1.35


def test_no_key_event_log_or_process_contains_the_token(separate, hub, make_manager):
    hub.add_repository(make_repository("demo/closed", {"m-Q8_0.gguf": 200_000}, gated="manual"))
    manager = make_manager(engine=separate, hf_token=TOKEN)
    wait_for_hosts(manager, 3)
    hub.set_speed(MB / 2)
    manager.sync.queue_smart(hub.ids[0])
    wait_for_bytes(manager, hub.ids[0], MB // 2)

    with Client(separate, set_as_default=False) as client:
        seen = [
            client.get_scheduler_logs(),
            client.get_worker_logs(),
            client.get_worker_logs(nanny=True),
            client.get_events(),
            [client.story(link._name) for link in manager._parts.engine._engine._links.values()],
            client.run_on_scheduler(lambda dask_scheduler: str(dask_scheduler.tasks)),
            client.run(lambda dask_worker: [str(dask_worker.data), str(dask_worker.state.tasks)]),
        ]
    processes = all_engines(separate, *HOSTS)
    manager.sync.cancel_all()

    assert len(processes) >= 1
    assert TOKEN not in repr(seen)
    assert not any(TOKEN in word for process in processes for word in (*process.cmdline(), *process.environ().values()))
    assert TOKEN not in repr(vars(manager._parts.engine._engine))
    assert any("authorization" in one.headers for one in hub.requests)


# Hosts that share a folder ----------------------------------------------------------------------------------------


def test_on_a_shared_folder_another_host_resumes_a_killed_hosts_file_without_repeated_bytes(shared, hub, make_manager):
    manager = make_manager(engine=shared)
    wait_for_hosts(manager, 2)
    hub.set_speed(8 * MB)
    for repo_id in hub.ids:
        manager.sync.queue_smart(repo_id)
    wait_until(lambda: len(running(manager)) == 2)
    killed = running(manager)["left"]
    wait_for_bytes(manager, killed, 5 * MB)
    hub.set_speed(MB)

    kill(worker_pid(shared, "left"))
    wait_until(lambda: killed not in running(manager).values() or running(manager).get("right") == killed)
    (engine,) = wait_until(lambda: engines_of(worker_pid(shared, "right")))
    engine.kill()
    hub.set_speed(40 * MB)
    manager.sync.join()

    assert {item.repo_id for item in manager.snapshot.recent_completed} == set(hub.ids)
    for item in manager.snapshot.recent_completed:
        (path,) = map(Path, item.paths)
        assert path.is_relative_to(manager.config.models_directory)
        assert digest(path) == right_digest(hub, item.repo_id)
    for repo_id in hub.ids:
        sent = sum(one.bytes_sent for one in hub.requests if one.origin == "cdn" and one.repo_id == repo_id)
        size = hub.repositories[repo_id].commit("main").files["model-Q8_0.gguf"].size_bytes
        # Half a second between two journal records, data in transit, and a margin for a busy machine.
        assert sent <= size + 8 * MB


def test_a_host_with_two_workers_has_one_engine(hub, make_manager, tmp_path):
    with cluster_of({"twin": None}, tmp_path / "cluster", workers_each=2) as cluster:
        manager = make_manager(engine=cluster, max_concurrent=2)
        wait_for_hosts(manager, 1)
        hub.set_speed(MB / 2)
        for repo_id in hub.ids[:3]:
            manager.sync.queue_smart(repo_id)
        wait_until(lambda: sum(item.downloaded_bytes > 0 for item in manager.snapshot.items) == 2)

        engines = [one for number in (0, 1) for one in engines_of(worker_pid(cluster, "twin", number))]

        assert len(engines) == 1
        assert manager.snapshot.active_count == 2
        manager.sync.cancel_all()


# Ends -------------------------------------------------------------------------------------------------------------


def test_closing_a_manager_leaves_no_engine_on_any_host(shared, hub, make_manager):
    manager = make_manager(engine=shared)
    wait_for_hosts(manager, 2)
    hub.set_speed(MB / 2)
    for repo_id in hub.ids[:2]:
        manager.sync.queue_smart(repo_id)
    engines = wait_until(lambda: len(found := all_engines(shared, "left", "right")) == 2 and found)

    manager.close()

    wait_ended(engines)


KERNEL = """
import sys, time
from pathlib import Path
from gglib_nb import DownloadManager, DownloadManagerConfig
folder = Path(sys.argv[3])
manager = DownloadManager(DownloadManagerConfig(
    models_directory=folder / "models", state_directory=folder / "state", hub_cache=folder / "cache",
    endpoint=sys.argv[2], engine=sys.argv[1],
))
manager.sync.queue_smart(sys.argv[4])
while not any(item.downloaded_bytes for item in manager.snapshot.items):
    time.sleep(0.05)
print("running", flush=True)
time.sleep(120)
"""


def test_a_killed_kernel_leaves_no_engine_on_any_host(shared, hub, tmp_path):
    hub.set_speed(MB / 2)
    address = shared.scheduler_address.replace("tcp://", "dask://")
    arguments = [sys.executable, "-c", KERNEL, address, hub.url, str(tmp_path), hub.ids[0]]
    kernel = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    try:
        assert kernel.stdout.readline() == "running\n"
        engines = all_engines(shared, "left", "right")
        assert len(engines) == 1
    finally:
        kernel.kill()
        kernel.wait()
        kernel.stdout.close()

    wait_ended(engines)


def test_closing_the_client_fails_active_downloads_and_leaves_no_engine(shared, hub, make_manager):
    client = Client(shared, set_as_default=False)
    manager = make_manager(engine=client)
    wait_for_hosts(manager, 2)
    hub.set_speed(MB / 2)
    id_ = manager.sync.queue_smart(hub.ids[0]).id
    wait_for_bytes(manager, hub.ids[0], MB // 2)
    engines = all_engines(shared, "left", "right")

    client.close()

    with pytest.raises(ClusterError, match="closed"):
        manager.sync.wait(id_)
    wait_ended(engines)


def test_closing_a_cluster_leaves_no_engine(hub, make_manager, tmp_path):
    with cluster_of({"gone": None}, tmp_path / "cluster") as cluster:
        manager = make_manager(engine=cluster)
        hub.set_speed(MB / 2)
        manager.sync.queue_smart(hub.ids[0])
        wait_for_bytes(manager, hub.ids[0], MB // 2)
        engines = all_engines(cluster, "gone")

    wait_ended(engines)
    assert len(engines) == 1


def dask(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end_tree(process: subprocess.Popen) -> None:
    for child in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
        if not (isinstance(child, psutil.Process) and is_engine(child)):  # an engine ends without being stopped
            child.kill()
    process.wait()


def test_a_scheduler_restart_loses_no_download(hub, make_manager, tmp_path):
    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"
    worker = ("worker", address, "--nthreads", "1", "--no-dashboard")
    names = {"GGLIB_HOST": "gpu", "GGLIB_STATE_DIR": str(tmp_path / "worker")}
    scheduler, workers = dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"), []
    try:
        with Client(address, timeout=WAIT_S, set_as_default=False):
            workers.append(dask(*worker, **names))
        manager = make_manager(engine=f"dask://127.0.0.1:{port}")
        hub.set_speed(3 * MB)
        repo_id = hub.ids[0]
        id_ = manager.sync.queue_smart(repo_id).id
        wait_for_bytes(manager, repo_id, 3 * MB)
        hub.set_speed(MB / 2)

        scheduler.kill()
        scheduler.wait()
        wait_until(lambda: "cluster" in (row(manager, repo_id).notice or ""))
        scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        workers.append(dask(*worker, **names))
        hub.set_speed()
        (path,) = manager.sync.wait(id_).paths

        assert digest(path) == right_digest(hub, repo_id)
        assert (
            Pieces(None, ((start, end + 1, WRITTEN) for start, end in hub.ranges("model-Q8_0.gguf"))).present_bytes
            == path.stat().st_size
        )
    finally:
        for process in (*workers, scheduler):
            end_tree(process)


# Refusals ---------------------------------------------------------------------------------------------------------


def test_without_a_dask_client_the_way_back_to_this_machine_is_named():
    connect, _ = connecting.connection_to("auto")

    with pytest.raises(ClusterError, match=r"%gguf config engine local\.$"):
        connect()


def test_an_unreachable_scheduler_is_reported_in_one_line(hub, make_manager, monkeypatch):
    monkeypatch.setattr(connecting, "_CONNECT_S", 1.0)
    manager = make_manager(engine="dask://127.0.0.1:9")
    id_ = manager.sync.queue_smart(hub.ids[0]).id

    with pytest.raises(ClusterError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        manager.sync.wait(id_)


def test_a_download_starts_a_worker_of_an_adaptive_cluster_without_any_and_keeps_it_to_the_end(
    hub, make_manager, tmp_path
):
    hub.set_speed(6 * MB)
    env = {"GGLIB_HOST": "pod", "GGLIB_STATE_DIR": str(tmp_path / "state")}
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0", env=env) as cluster:
        adaptive = cluster.adapt(minimum=0, maximum=2, interval="0.1s", wait_count=2)
        manager = make_manager(engine=cluster)

        path = manager.sync.download(hub.ids[0])

        assert digest(path) == right_digest(hub, hub.ids[0])
        wait_until(lambda: not cluster.scheduler_info["workers"])
        assert [change["status"] for _, change in adaptive.log].count("up") == 1


def test_workers_of_another_version_are_refused_in_one_line(hub, make_manager, tmp_path):
    def pretend() -> None:
        from gglib_nb.cluster import worker_side

        worker_side.package_version = lambda: "0.0.1"

    with cluster_of({"old": None}, tmp_path / "cluster") as cluster:
        with Client(cluster, set_as_default=False) as client:
            client.run(pretend)
        manager = make_manager(engine=cluster)
        id_ = manager.sync.queue_smart(hub.ids[0]).id

        with pytest.raises(
            ClusterError, match=r"has gglib_nb 0\.0\.1 and this kernel .*: install the same version"
        ) as caught:
            manager.sync.wait(id_)

    assert "\n" not in str(caught.value)
