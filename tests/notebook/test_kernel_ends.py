"""Clean ends of a kernel during a download: no process is left, nothing delays the end, and downloaded data is kept."""

import json
import time

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Kernel, is_running, processes_gone, wait_until
from tests.support.models import MB, one_model

GONE_WITHIN_S = 30.0
THREADS = """
import json, threading
print(json.dumps([thread.name for thread in threading.enumerate() if thread.name.startswith("gglib")]))
print(json.dumps([thread.name for thread in threading.enumerate() if thread.name.startswith("gglib") and not thread.daemon]))
"""


def download_in_the_background(hub: FaultyHub, kernel: Kernel) -> int:
    """Begin a download that takes minutes; returns the engine's process id."""
    hub.add_repository(one_model("demo/model", 500 * MB))
    hub.set_speed(bytes_per_second=2 * MB)
    queued = kernel.run("%gguf queue demo/model")
    assert queued.status == "ok", queued.text
    hub.wait_for(lambda records: sum(record.bytes_sent for record in records) > MB, timeout_s=60)
    engine_pid = kernel.engine_pid
    assert engine_pid is not None
    return engine_pid


@pytest.mark.slow
def test_after_a_shutdown_kernel_and_engine_have_ended_and_downloaded_bytes_are_kept(
    hub: FaultyHub, kernel: Kernel
) -> None:
    engine_pid, kernel_pid = download_in_the_background(hub, kernel), kernel.pid

    with processes_gone(engine_pid, kernel_pid):
        kernel.shut_down()

        wait_until(lambda: not (is_running(kernel_pid) or is_running(engine_pid)), GONE_WITHIN_S, "their end")
    assert [file.name for file in (kernel.models / "demo/model").glob("*.part")]


@pytest.mark.slow
def test_our_threads_do_not_delay_interpreter_exit(hub: FaultyHub, kernel: Kernel) -> None:
    hour = time.localtime().tm_hour
    kernel.run(f"%gguf bandwidth --hours {hour}:00-{(hour + 23) % 24}:00")
    download_in_the_background(hub, kernel)
    kernel.run("%gguf")

    names, holding = map(json.loads, kernel.run(THREADS).stream("stdout").splitlines())

    assert {"gglib-queue-1", "gglib-engine-reader", "gglib-engine-writer", "gglib-activity"} <= set(names)
    assert holding == []


@pytest.mark.slow
def test_unloading_during_a_download_does_not_affect_it_or_the_shutdown(hub: FaultyHub, kernel: Kernel) -> None:
    engine_pid, kernel_pid = download_in_the_background(hub, kernel), kernel.pid
    kernel.run("%unload_ext gglib_nb")
    before = hub.bytes_sent("model-Q4_K_M.gguf")

    hub.wait_for(lambda records: sum(record.bytes_sent for record in records) > before + MB, timeout_s=60)
    with processes_gone(engine_pid, kernel_pid):
        kernel.shut_down()

        wait_until(lambda: not (is_running(kernel_pid) or is_running(engine_pid)), GONE_WITHIN_S, "their end")
