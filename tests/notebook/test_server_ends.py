"""What a server does to a downloading kernel: it is not culled as idle, and no process is left after the server ends.

A real jupyter_server that culls after seconds. Tests use the kernels' own sockets, so that no client is connected
from the server's view, which is the condition for culling.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.jserver import JupyterServer, ServedKernel
from tests.support.kernel import is_running, processes_gone, wait_until
from tests.support.models import MB, one_model

pytestmark = pytest.mark.slow

# Longer than a kernel takes to start on a busy machine, because it is idle while it starts.
IDLE_S = 8
CULLS = (
    f"--MappingKernelManager.cull_idle_timeout={IDLE_S}",
    "--MappingKernelManager.cull_interval=1",
    "--MappingKernelManager.cull_connected=True",
)
GONE_WITHIN_S = 30.0


@contextmanager
def downloading_kernel(server: JupyterServer, hub: FaultyHub, size_bytes: int, setting: str) -> Iterator[ServedKernel]:
    """A kernel in which a download has begun and no cell runs."""
    hub.add_repository(one_model("demo/model", size_bytes))
    kernel = server.start_kernel()
    try:
        kernel.run(f"%load_ext gglib_nb\n%gguf config activity_interval_s {setting}\n%gguf queue demo/model")
        with processes_gone(kernel.pid):
            yield kernel
    finally:
        kernel.close()


def test_a_downloading_kernel_is_not_culled_as_idle_and_an_idle_one_is(hub: FaultyHub, tmp_path: Path) -> None:
    hub.set_speed(bytes_per_second=2 * MB)
    with JupyterServer(tmp_path, hub.url, CULLS) as server, downloading_kernel(server, hub, 60 * MB, "1") as kernel:
        hub.wait_for(lambda records: sum(one.bytes_sent for one in records) > 1.5 * IDLE_S * 2 * MB, timeout_s=60)
        lived = server.kernel_ids
        hub.set_speed()

        wait_until(lambda: server.kernel_ids == [], 60, "the end of an idle kernel")

        assert lived == [kernel.id]
        [path] = (tmp_path / "models" / "demo" / "model").glob("*.gguf")
        assert path.stat().st_size == 60 * MB


def test_with_activity_disabled_the_server_culls_the_kernel_and_bytes_are_kept(hub: FaultyHub, tmp_path: Path) -> None:
    hub.set_speed(bytes_per_second=2 * MB)
    with JupyterServer(tmp_path, hub.url, CULLS) as server, downloading_kernel(server, hub, 100 * MB, "off"):
        wait_until(lambda: server.kernel_ids == [], 40, "the end of a kernel that seems idle")

        [partial] = (tmp_path / "models" / "demo" / "model").glob("*.part")
        assert partial.exists()


def test_kernel_and_engine_end_with_the_server(hub: FaultyHub, tmp_path: Path) -> None:
    hub.set_speed(bytes_per_second=MB)
    with JupyterServer(tmp_path, hub.url) as server, downloading_kernel(server, hub, 100 * MB, "60") as kernel:
        hub.wait_for(lambda records: any(one.bytes_sent for one in records))
        engine_pid = kernel.engine_pid
        assert engine_pid is not None
        with processes_gone(engine_pid):
            server.end()

            # The server takes five seconds even without kernels.
            wait_until(lambda: server.has_ended, 60, "the server's end")
            wait_until(lambda: not (is_running(kernel.pid) or is_running(engine_pid)), GONE_WITHIN_S, "what it started")
