"""Downloads continue, and the next one starts, while cells keep the kernel busy."""

import time
from itertools import pairwise

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Kernel
from tests.support.models import MB, one_model, only_file, sha256_of

PURE_PYTHON_FOR_5_S = """
import time
end_s, total = time.monotonic() + 5, 0
while time.monotonic() < end_s:
    total += sum(i * i for i in range(1000))
"""


def longest_silence_s(hub: FaultyHub) -> float:
    """The longest time without a byte between the first and the last, in seconds, to a tenth."""
    return max(later - earlier for (earlier, _), (later, _) in pairwise(hub.flow()))


@pytest.mark.slow
def test_downloads_continue_and_the_next_one_starts_while_cells_block_the_kernel(
    hub: FaultyHub, kernel: Kernel
) -> None:
    first = hub.add_repository(one_model("demo/first", 60 * MB))
    second = hub.add_repository(one_model("demo/second", 200 * MB))
    hub.set_speed(20 * MB)

    queued = kernel.run("%gguf queue demo/first\n%gguf queue demo/second")
    blocked_at_s = time.monotonic()
    sleeping = kernel.submit("import time; time.sleep(15)")
    computing = kernel.submit(PURE_PYTHON_FOR_5_S)
    kernel.wait(sleeping)
    kernel.wait(computing)
    free_at_s = time.monotonic()
    waited = kernel.run("%gguf wait")

    assert (queued.status, waited.status) == ("ok", "ok"), queued.text + waited.text
    assert free_at_s - blocked_at_s >= 20
    started_s = hub.flow(only_file(second).path)[0][0]
    assert blocked_at_s < started_s < free_at_s
    assert longest_silence_s(hub) < 4  # a thread of the kernel would be silent while a cell computes for 5 s
    for repository in (first, second):
        file = only_file(repository)
        assert sha256_of(kernel.models / repository.repo_id / file.path) == file.content.sha256


@pytest.mark.slow
def test_data_flows_evenly_while_a_cell_computes(hub: FaultyHub, kernel: Kernel) -> None:
    hub.add_repository(one_model("demo/model", 140 * MB))
    hub.set_speed(20 * MB)

    kernel.run("%gguf queue demo/model")
    hub.wait_for(lambda records: sum(record.bytes_sent for record in records) > 5 * MB)
    start_s = time.monotonic()
    kernel.run(PURE_PYTHON_FOR_5_S)
    end_s = time.monotonic()

    sent_meanwhile = sum(size for at_s, size in hub.flow() if start_s <= at_s < end_s)
    assert sent_meanwhile > 0.6 * 20 * MB * 5  # a thread of the kernel slows to a few MB/s


@pytest.mark.slow
def test_the_interrupt_button_stops_the_cell_and_not_the_download(hub: FaultyHub, kernel: Kernel) -> None:
    repository = hub.add_repository(one_model("demo/model", 100 * MB))
    hub.set_speed(20 * MB)
    kernel.run("%gguf queue demo/model")
    hub.wait_for(lambda records: sum(record.bytes_sent for record in records) > 10 * MB)
    engine_pid = kernel.engine_pid
    assert engine_pid is not None

    sleeping = kernel.submit("import time; print('asleep', flush=True); time.sleep(60)")
    kernel.wait_for_output(sleeping)
    kernel.interrupt()
    kernel.wait(sleeping, 30)
    waited = kernel.run("%gguf wait")

    assert sleeping.error is not None
    assert sleeping.error["ename"] == "KeyboardInterrupt"
    assert waited.status == "ok", waited.text
    assert kernel.engine_pid == engine_pid
    file = only_file(repository)
    assert sha256_of(kernel.models / "demo/model" / file.path) == file.content.sha256
