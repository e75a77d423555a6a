"""Q: the cost of one step of a long queue.

    python -m benchmarks.q_queue

The pure machine alone, without threads: another download added to a long queue, a snapshot of all, a move from the
end to the front. Each download has ten shards.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, run_alone
from gglib_nb.domain.download import PlannedDownload, PlannedFile
from gglib_nb.domain.names import DownloadId
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Limits
from gglib_nb.queue.machine import QueueMachine

_LENGTHS = (1_000, 10_000)
_SHARDS = 10
_MOST_US = 100.0


def measure(options: Options) -> Findings:
    """Microseconds of one step, medians."""
    findings = Findings(
        "Q",
        f"one step of a queue whose downloads have {_SHARDS} shards",
        ("queue", "enqueue", "snapshot", "reorder", "stored state"),
    )
    steps = 5 if options.is_quick else 40 * options.rounds
    for length in _LENGTHS:
        enqueue_us, *others_us = _measured_us(length, steps)
        findings.rows.append((f"{length:,}", f"{enqueue_us:.0f} µs", *(f"{step_us:.0f} µs" for step_us in others_us)))
        findings.bars.append(Bar(f"one more download in a queue of {length:,}", enqueue_us, _MOST_US, " µs"))
    findings.notes = [
        "Enqueue is the request and its resolved plan, with all checks; reorder is a move from the end to the front; the "
        "snapshot after it has all new positions. The stored state is given to the thread that saves it, at most once "
        "for each write.",
    ]
    return findings


def _measured_us(length: int, steps: int) -> tuple[float, float, float, float]:
    machine = QueueMachine(Limits(max_size=length + steps))
    plans = [_plan(number) for number in range(length + steps)]
    for number, plan in enumerate(plans[:length]):
        _enqueue(machine, number, plan)
    enqueue = _median_us([partial(_enqueue, machine, length + n, plan) for n, plan in enumerate(plans[length:])])
    ids = [plan.id for plan in reversed(plans)]
    reorder, snapshot, stored = [], [], []
    machine.stored()
    for id_ in ids[:steps]:
        reorder.append(_median_us([partial(machine.handle, on.MoveRequested(id_, 1), 1.0)]))
        snapshot.append(_median_us([machine.snapshot]))
        stored.append(_median_us([machine.stored]))
    return enqueue, median(snapshot), median(reorder), median(stored)


def _enqueue(machine: QueueMachine, number: int, plan: PlannedDownload) -> None:
    machine.handle(on.RequestReceived(number, str(plan.id)), 1.0)
    machine.handle(on.PlanResolved(number, plan, starts=False, joins=False), 1.0)


def _plan(number: int) -> PlannedDownload:
    repo_id = f"owner/model-{number}-GGUF"
    files = tuple(
        PlannedFile(name, 4_000_000_000, "a" * 64, f"/models/{repo_id}/{name}")
        for name in (f"model-Q4_K_M-{shard:05}-of-{_SHARDS:05}.gguf" for shard in range(1, _SHARDS + 1))
    )
    return PlannedDownload(DownloadId(repo_id, "Q4_K_M"), "c" * 40, label="Q4_K_M", files=files)


def _median_us(steps: Sequence[Callable[[], object]]) -> float:
    times_s = []
    for step in steps:
        start_s = time.perf_counter()
        step()
        times_s.append(time.perf_counter() - start_s)
    return median(times_s) * 1e6


if __name__ == "__main__":
    run_alone(measure)
