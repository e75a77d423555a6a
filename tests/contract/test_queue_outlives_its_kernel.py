"""A queue is a thing of the user: killed kernels and engines cost it neither order nor bytes, and many kernels are one."""

import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from gglib_nb.demo import DemoFile, DemoHub, DemoRepository
from gglib_nb.demo.fault_kinds import WrongBytes
from tests.support.environment import isolated
from tests.support.hub import make_repository
from tests.support.kernel import is_running, wait_until
from tests.support.models import MB, one_model, sha256_of
from tests.support.queue_process import BY_HAND, QueueProcess

SPLIT, PLAIN, RESTING, BROKEN, LAST = (f"demo/{name}" for name in ("split", "plain", "resting", "broken", "last"))
SHARDS = 12
LINE_BYTES_PER_SECOND = 8 * MB
# A journal is written every half second, and sockets hold what was sent and not read.
MOST_LOST_BYTES = LINE_BYTES_PER_SECOND
TAKEN_OVER_WITHIN_S = 5.0


@pytest.fixture
def hub(make_hub: Callable[..., DemoHub]) -> DemoHub:
    return make_hub()


def fill(hub: DemoHub, scale: int = 1) -> dict[str, dict[str, DemoFile]]:
    """Five downloads; their files by repository."""
    size = scale * MB
    shard_names = [f"split-Q4_K_M-{number:05}-of-{SHARDS:05}.gguf" for number in range(1, SHARDS + 1)]
    repositories = [make_repository(SPLIT, dict.fromkeys(shard_names, size))]
    repositories += [one_model(repo_id, n * size) for repo_id, n in ((PLAIN, 8), (RESTING, 4), (BROKEN, 2), (LAST, 4))]
    return {repository.repo_id: files_of(hub.add_repository(repository)) for repository in repositories}


def files_of(repository: DemoRepository) -> dict[str, DemoFile]:
    commit = repository.commit()
    assert commit is not None
    return dict(commit.files)


def rows_of(*pairs: str) -> list[str]:
    """`split queued` and so on, as a queue shows it."""
    return [f"demo/{name}:Q4_K_M {status}" for name, status in (pair.split() for pair in pairs)]


def wrong_files(folder: Path, files: dict[str, dict[str, DemoFile]], *repo_ids: str) -> list[str]:
    """Those of the repositories' files that are not there, or not as they are on the hub."""
    wanted = {folder / "models" / repo_id / path: file for repo_id in repo_ids for path, file in files[repo_id].items()}
    return [str(target) for target, file in wanted.items() if not_as_on_the_hub(target, file)]


def not_as_on_the_hub(target: Path, file: DemoFile) -> bool:
    return not target.is_file() or sha256_of(target) != file.content.sha256


def begin(hub: DemoHub, process: QueueProcess) -> None:
    """One has failed, one rests, three are to come, of which one runs."""
    fault = hub.faults.add(WrongBytes(), path="broken-*", origin="cdn", times=None)
    process.queue(BROKEN)
    process.wait_until(lambda one: one.failures == ["demo/broken:Q4_K_M"], "the failure")
    hub.faults.remove(fault)
    hub.set_speed(0)
    process.queue(SPLIT, PLAIN, RESTING, LAST)
    process.value("manager.sync.pause('demo/resting:Q4_K_M')")
    process.value("manager.sync.reorder_queue('demo/last:Q4_K_M', 1)")


def play_kill_round(hub: DemoHub, folder: Path, seed: int, scale: int = 1, line: int = LINE_BYTES_PER_SECOND) -> str:
    """Kills kernel and engine at a random byte, and looks at what the next kernel makes of it; returns the figures."""
    files = fill(hub, scale)
    wanted_bytes = sum(file.size_bytes for repo_id in (SPLIT, PLAIN, LAST) for file in files[repo_id].values())
    with QueueProcess(folder, hub.url) as first:
        begin(hub, first)
        before_bytes = hub.bytes_sent()
        killed_at_bytes = random.Random(seed).randint(1, wanted_bytes - 2 * MB)
        hub.set_speed(line)
        hub.wait_for(lambda _records: hub.bytes_sent() - before_bytes >= killed_at_bytes, timeout_s=120)
        engine_pid = first.engine_pid
        first.kill()
    assert engine_pid is not None
    wait_until(lambda: not is_running(engine_pid), 3, "the engine's end")
    hub.set_speed(0)

    with QueueProcess(folder, hub.url) as second:
        second.settle()
        left = second.rows
        assert [row.split(":")[0] for row in left] == [SPLIT, LAST, PLAIN, RESTING][-len(left) :]
        assert f"{RESTING}:Q4_K_M paused" in left
        assert second.failures == [f"{BROKEN}:Q4_K_M"]
        assert second.notices["adopted"].startswith("Took up ")
        resumed_bytes = hub.bytes_sent()
        hub.set_speed(line)
        took_s = second.wait_until(
            lambda one: hub.bytes_sent() > resumed_bytes or not one.value("manager.snapshot.active_count"),
            "the first new byte",
            TAKEN_OVER_WITHIN_S * 3,
        )
        second.value("manager.sync.join()", timeout_s=180)
        assert second.rows == rows_of("resting paused")
        assert second.failures == [f"{BROKEN}:Q4_K_M"]
        pids = [second.pid, second.engine_pid]
        second.end()
    wait_until(lambda: not any(is_running(pid) for pid in pids if pid), 3, "the end of all processes")
    sent = hub.bytes_sent() - before_bytes
    assert wrong_files(folder, files, SPLIT, PLAIN, LAST) == []
    assert sent <= wanted_bytes * 1.02 + MOST_LOST_BYTES * line // LINE_BYTES_PER_SECOND
    assert took_s < TAKEN_OVER_WITHIN_S
    return f"seed {seed}: killed at {killed_at_bytes / wanted_bytes:.0%}, {sent / wanted_bytes:.3f} times, {took_s:.2f} s"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_queue_whose_kernel_and_engine_are_killed_goes_on_in_the_next_as_it_was(
    hub: DemoHub, tmp_path: Path, seed: int
) -> None:
    play_kill_round(hub, tmp_path, seed)
