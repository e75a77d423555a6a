"""The cost of `kill -9` of the engine, the kernel, or a kernel that forked."""

from pathlib import Path

import psutil
import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Kernel, is_running, processes_gone, wait_until
from tests.support.models import MB, one_model, only_file, sha256_of

LINE_BYTES_PER_SECOND = 20 * MB
# At most the bytes of the last few seconds are downloaded again.
MOST_LOST_BYTES = 3 * LINE_BYTES_PER_SECOND
ENGINE_GONE_WITHIN_S = 30.0  # two, if the machine is not busy

FORK_A_CHILD_THAT_SLEEPS = """
import os, time
child_pid = os.fork()
if child_pid == 0:
    time.sleep(120)
    os._exit(0)
print(child_pid)
"""


def queue_until_bytes_flow(hub: FaultyHub, kernel: Kernel, size_bytes: int) -> int:
    """Queue demo/model, wait until `size_bytes` are sent, and return the engine's process id."""
    queued = kernel.run("%gguf queue demo/model")
    assert queued.status == "ok", queued.text
    hub.wait_for(lambda records: sum(record.bytes_sent for record in records) > size_bytes, timeout_s=60)
    engine_pid = kernel.engine_pid
    assert engine_pid is not None
    return engine_pid


@pytest.mark.slow
def test_after_the_engine_is_killed_only_missing_bytes_are_downloaded(hub: FaultyHub, kernel: Kernel) -> None:
    file = only_file(hub.add_repository(one_model("demo/model", 200 * MB)))
    hub.set_speed(LINE_BYTES_PER_SECOND)
    engine_pid = queue_until_bytes_flow(hub, kernel, 100 * MB)

    psutil.Process(engine_pid).kill()
    waited = kernel.run("%gguf wait")

    assert waited.status == "ok", waited.text
    assert sha256_of(kernel.models / "demo/model" / file.path) == file.content.sha256
    assert kernel.engine_pid not in (None, engine_pid)
    assert hub.bytes_sent(file.path) < file.size_bytes + MOST_LOST_BYTES


@pytest.mark.slow
def test_after_the_kernel_is_killed_the_engine_ends(hub: FaultyHub, kernel: Kernel) -> None:
    hub.add_repository(one_model("demo/model", 500 * MB))
    hub.set_speed(LINE_BYTES_PER_SECOND)
    engine_pid = queue_until_bytes_flow(hub, kernel, 5 * MB)

    with processes_gone(engine_pid):
        kernel.kill()

        wait_until(lambda: not is_running(engine_pid), ENGINE_GONE_WITHIN_S, "the engine's end")


@pytest.mark.slow
def test_after_a_forked_kernel_is_killed_the_engine_ends(hub: FaultyHub, kernel: Kernel) -> None:
    hub.add_repository(one_model("demo/model", 500 * MB))
    hub.set_speed(LINE_BYTES_PER_SECOND)
    engine_pid = queue_until_bytes_flow(hub, kernel, 5 * MB)
    child_pid = int(kernel.run(FORK_A_CHILD_THAT_SLEEPS).stream("stdout"))

    with processes_gone(engine_pid, child_pid):
        kernel.kill()

        wait_until(lambda: not is_running(engine_pid), ENGINE_GONE_WITHIN_S, "the engine's end")
        assert is_running(child_pid)


@pytest.mark.slow
def test_the_next_kernel_resumes_where_a_killed_one_stopped(hub: FaultyHub, kernel: Kernel, tmp_path: Path) -> None:
    file = only_file(hub.add_repository(one_model("demo/model", 200 * MB)))
    hub.set_speed(LINE_BYTES_PER_SECOND)
    engine_pid = queue_until_bytes_flow(hub, kernel, 100 * MB)
    kernel.kill()
    wait_until(lambda: not is_running(engine_pid), ENGINE_GONE_WITHIN_S, "the engine's end")

    with Kernel(tmp_path, hub.url) as successor:
        successor.run("%load_ext gglib_nb")
        queued = successor.run("%gguf queue demo/model")
        waited = successor.run("%gguf wait")

    assert (queued.status, waited.status) == ("ok", "ok"), queued.text + waited.text
    assert sha256_of(tmp_path / "models/demo/model" / file.path) == file.content.sha256
    assert hub.bytes_sent(file.path) < file.size_bytes + MOST_LOST_BYTES
