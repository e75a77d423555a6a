"""A queue outlives its kernel: killed kernels and engines lose neither order nor bytes, and many kernels cooperate."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from gglib_nb.demo import DemoFile, DemoRepository
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub, WrongBytes
from tests.support.hub import make_repository
from tests.support.kernel import is_running, wait_until
from tests.support.models import MB, one_model, sha256_of
from tests.support.queue_process import BY_HAND, QueueProcess

SPLIT, PLAIN, RESTING, BROKEN, LAST = (f"demo/{name}" for name in ("split", "plain", "resting", "broken", "last"))
SHARDS = 12
LINE_BYTES_PER_SECOND = 8 * MB
# A journal is written every half second, and sockets hold unread data.
MOST_LOST_BYTES = LINE_BYTES_PER_SECOND
TAKEN_OVER_WITHIN_S = 12.0  # a lease that was not given up is taken over after 15 s


@pytest.fixture
def hub(make_hub: Callable[..., FaultyHub]) -> FaultyHub:
    return make_hub()


def fill(hub: FaultyHub, scale: int = 1) -> dict[str, dict[str, DemoFile]]:
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
    """`split queued` and so on, as shown by a queue."""
    return [f"demo/{name}:Q4_K_M {status}" for name, status in (pair.split() for pair in pairs)]


def wrong_files(folder: Path, files: dict[str, dict[str, DemoFile]], *repo_ids: str) -> list[str]:
    """The repositories' files that are missing, or differ from the hub's."""
    wanted = {folder / "models" / repo_id / path: file for repo_id in repo_ids for path, file in files[repo_id].items()}
    return [str(target) for target, file in wanted.items() if not_as_on_the_hub(target, file)]


def not_as_on_the_hub(target: Path, file: DemoFile) -> bool:
    return not target.is_file() or sha256_of(target) != file.content.sha256


def begin(hub: FaultyHub, process: QueueProcess) -> None:
    """One has failed, one is paused, three are pending, of which one is active."""
    fault = hub.faults.add(WrongBytes(), path="broken-*", origin="cdn", times=None)
    process.queue(BROKEN)
    process.wait_until(lambda one: one.failures == ["demo/broken:Q4_K_M"], "the failure")
    hub.faults.remove(fault)
    hub.set_speed(0)
    process.queue(SPLIT, PLAIN, RESTING, LAST)
    process.value("manager.sync.pause('demo/resting:Q4_K_M')")
    process.value("manager.sync.reorder_queue('demo/last:Q4_K_M', 1)")


def play_kill_round(hub: FaultyHub, folder: Path, seed: int, scale: int = 1, line: int = LINE_BYTES_PER_SECOND) -> str:
    """Kills kernel and engine at a random byte and checks what the next kernel resumes; returns the figures."""
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
    wait_until(lambda: not is_running(engine_pid), 30, "the engine's end")
    hub.set_speed(0)

    with QueueProcess(folder, hub.url) as second:
        second.settle()
        left = second.rows
        assert [row.split(":")[0] for row in left] == [SPLIT, LAST, PLAIN, RESTING][-len(left) :]
        assert f"{RESTING}:Q4_K_M paused" in left
        assert second.failures == [f"{BROKEN}:Q4_K_M"]
        assert second.notices["adopted"].startswith("Took over ")
        resumed_bytes = hub.bytes_sent()
        hub.set_speed(line)
        took_s = second.wait_until(
            lambda one: hub.bytes_sent() > resumed_bytes or not one.value("manager.snapshot.active_count"),
            "the first new byte",
            60,
        )
        second.value("manager.sync.join()", timeout_s=180)
        assert second.rows == rows_of("resting paused")
        assert second.failures == [f"{BROKEN}:Q4_K_M"]
        pids = [second.pid, second.engine_pid]
        second.end()
    wait_until(lambda: not any(is_running(pid) for pid in pids if pid), 30, "the end of all processes")
    sent = hub.bytes_sent() - before_bytes
    assert wrong_files(folder, files, SPLIT, PLAIN, LAST) == []
    assert sent <= wanted_bytes * 1.02 + MOST_LOST_BYTES * line // LINE_BYTES_PER_SECOND
    assert took_s < TAKEN_OVER_WITHIN_S
    return (
        f"seed {seed}: killed at {killed_at_bytes / wanted_bytes:.0%}, {sent / wanted_bytes:.3f} times, {took_s:.2f} s"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_queue_resumes_unchanged_after_its_kernel_and_engine_are_killed(
    hub: FaultyHub, tmp_path: Path, seed: int
) -> None:
    play_kill_round(hub, tmp_path, seed)


# Many kernels


@pytest.mark.slow
def test_a_second_kernel_joins_the_firsts_download_and_both_get_the_path(hub: FaultyHub, tmp_path: Path) -> None:
    files = fill(hub)
    hub.set_speed(4 * MB)
    with (
        QueueProcess(tmp_path, hub.url, name="first.ipynb") as first,
        QueueProcess(tmp_path, hub.url, name="second.ipynb") as second,
    ):
        first.queue(PLAIN, LAST)
        hub.wait_for(lambda _records: hub.bytes_sent() > MB)
        hub.set_speed(MB / 8)
        second.value("setattr(manager, 'stop_looking', manager.subscribe(lambda snapshot: None))")
        second.wait_until(
            lambda one: one.others == ["first.ipynb plain downloading", "first.ipynb last queued"], "the first's"
        )
        assert first.others == []

        for process in (first, second):
            process.submit(f"str(manager.sync.download({PLAIN!r}))")
        hub.set_speed(4 * MB)
        paths = {process.answer() for process in (first, second)}
        first.value("manager.sync.join()")
        second.wait_until(lambda one: one.others == [], "the first's end")

    assert paths == {str(tmp_path / "models" / PLAIN / "plain-Q4_K_M.gguf")}
    assert wrong_files(tmp_path, files, PLAIN, LAST) == []
    assert hub.bytes_sent() < 12 * MB * 1.02


@pytest.mark.slow
def test_a_waiting_row_names_the_other_kernel_and_cancel_drops_only_its_own_request(
    hub: FaultyHub, tmp_path: Path
) -> None:
    fill(hub)
    hub.set_speed(2 * MB)
    with (
        QueueProcess(tmp_path, hub.url, name="first.ipynb") as first,
        QueueProcess(tmp_path, hub.url, name="second.ipynb") as second,
    ):
        first.queue(PLAIN)
        hub.wait_for(lambda _records: hub.bytes_sent() > MB)
        hub.set_speed(MB / 2)
        second.queue(PLAIN)
        notice = "manager.snapshot.items[0].notice"
        second.wait_until(lambda one: one.value(notice) == "first.ipynb is downloading it", "the notice")
        second.wait_until(lambda one: one.value("manager.snapshot.items[0].downloaded_bytes") > 2 * MB, "progress")
        assert second.value(notice) == "first.ipynb is downloading it"

        second.value(f"manager.sync.cancel_download('{PLAIN}:Q4_K_M')")
        second.wait_until(lambda one: one.rows == [], "the cancel")
        last_notice = second.value("manager.snapshot.recent_cancelled[0].notice")
        hub.set_speed()
        first.value("manager.sync.join()")

    assert last_notice == "first.ipynb continues it"
    assert (tmp_path / "models" / PLAIN / "plain-Q4_K_M.gguf").is_file()


def who_fetches(kernels: list[QueueProcess]) -> QueueProcess:
    """The kernel that downloads; between two models there is briefly none."""
    found: list[QueueProcess] = []

    def is_found() -> bool:
        found.extend(one for one in kernels if one.value("manager.snapshot.bytes_per_second"))
        return bool(found)

    wait_until(is_found, 30, "one that fetches")
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("owner_dies", [False, True])
def test_eight_kernels_that_request_two_models_share_the_transfers(
    hub: FaultyHub, tmp_path: Path, owner_dies: bool
) -> None:
    files = fill(hub)
    total_bytes = (SHARDS + 8) * MB
    hub.set_speed(LINE_BYTES_PER_SECOND / 4)  # so that it still fetches when it is looked for, also on a busy machine
    with ExitStack() as stack:
        kernels = [stack.enter_context(QueueProcess(tmp_path, hub.url)) for _ in range(8)]
        for kernel in kernels:
            kernel.submit(f"[str(manager.sync.queue_smart(repo).id) for repo in ({SPLIT!r}, {PLAIN!r})]")
        for kernel in kernels:
            kernel.answer()
        if owner_dies:
            hub.wait_for(lambda _records: hub.bytes_sent() > total_bytes / 2, timeout_s=60)
            owner = who_fetches(kernels)
            kernels.remove(owner)
            hub.set_speed(LINE_BYTES_PER_SECOND)
            sent = hub.bytes_sent()
            owner.kill()
            wait_until(lambda: hub.bytes_sent() > sent + MB, 60, "another one's bytes")
        for kernel in kernels:
            kernel.submit("manager.sync.join()")
        for kernel in kernels:
            kernel.answer(120)
        errors = "[str(item.error) for item in manager.snapshot.recent_failures]"
        assert [error for kernel in kernels for error in kernel.value(errors)] == []

    assert wrong_files(tmp_path, files, SPLIT, PLAIN) == []
    assert hub.bytes_sent() <= total_bytes * 1.02 + (MOST_LOST_BYTES if owner_dies else 0)


# Adoption of queues


@pytest.mark.slow
def test_downloads_of_a_dead_kernel_are_shown_as_left_over_and_adopted_on_request(
    hub: FaultyHub, tmp_path: Path
) -> None:
    fill(hub)
    hub.set_speed(0)
    with QueueProcess(tmp_path, hub.url, name="first.ipynb") as first, QueueProcess(tmp_path, hub.url) as second:
        first.queue(PLAIN)
        second.settle()
        second.value("setattr(manager, 'stop_looking', manager.subscribe(lambda snapshot: None))")
        second.wait_until(lambda one: one.others == ["first.ipynb plain downloading"], "the first's")

        first.kill()
        second.wait_until(
            lambda one: one.value("[one.is_left for one in manager.snapshot.elsewhere]") == [True], "its end"
        )
        assert second.rows == []
        second.settle()

        assert second.rows == rows_of("plain downloading")
        second.wait_until(lambda one: one.others == [], "nobody else")


@pytest.mark.slow
def test_a_killed_scripts_queue_is_adopted_by_a_kernel_but_not_by_a_script(hub: FaultyHub, tmp_path: Path) -> None:
    fill(hub)
    hub.set_speed(0)
    with QueueProcess(tmp_path, hub.url, BY_HAND) as script:
        script.queue(PLAIN, LAST)
        kept_of(script)
        script.kill()

    with QueueProcess(tmp_path, hub.url, BY_HAND) as another:
        assert another.rows == []
    with QueueProcess(tmp_path, hub.url) as kernel:
        kernel.settle()

        assert kernel.rows == rows_of("plain downloading", "last queued")
        assert kernel.notices["adopted"] == "Took over 2 downloads from a previous kernel: 1 running, 1 waiting."


@pytest.mark.slow
def test_a_kernel_that_shuts_down_hands_over_its_queue_and_a_closed_script_does_not(
    hub: FaultyHub, tmp_path: Path
) -> None:
    fill(hub)
    hub.set_speed(0)
    with QueueProcess(tmp_path, hub.url, BY_HAND) as script:
        script.queue(PLAIN)
        script.value("manager.close()")
    with QueueProcess(tmp_path, hub.url) as kernel:
        kernel.settle()
        assert kernel.rows == []
        kernel.queue(LAST)
        kernel.value("manager.sync.set_bandwidth_limit(5_000_000)")
        kernel.value("manager.sync.pause('demo/last:Q4_K_M')")
        kernel.end()

    with QueueProcess(tmp_path, hub.url) as successor:
        successor.settle()

        assert successor.rows == rows_of("last paused")
        assert successor.value("manager.snapshot.bandwidth_limit_bytes_per_second") == 5_000_000


@pytest.mark.slow
def test_a_gated_download_without_a_token_in_the_next_kernel_fails_with_login_advice(
    make_hub: Callable[..., FaultyHub], small_repositories: list[DemoRepository], tmp_path: Path
) -> None:
    hub = make_hub(small_repositories)
    hub.set_speed(0)
    with QueueProcess(tmp_path, hub.url, HF_TOKEN="hf_demo_granted") as first:
        first.queue("demo/gated-GGUF")
        kept_of(first)
        first.kill()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_demo_granted" in path.read_bytes()]
    assert not [path for path in (tmp_path / "state").rglob("*.sqlite3*") if b"Signature" in path.read_bytes()]
    hub.set_speed()

    with QueueProcess(tmp_path, hub.url) as second:
        second.settle()
        second.wait_until(lambda one: one.failures != [], "the failure")

        assert "hf auth login" in second.value("str(manager.snapshot.recent_failures[0].error)")
    with QueueProcess(tmp_path, hub.url, HF_TOKEN="hf_demo_granted") as third:
        third.settle()
        third.value("[manager.sync.retry(item.id) for item in manager.snapshot.recent_failures]")
        third.value("manager.sync.join()")

        assert third.value("len(manager.snapshot.recent_completed)") == 1


@pytest.mark.slow
def test_partial_files_in_no_queue_are_offered_and_queued_again(hub: FaultyHub, tmp_path: Path) -> None:
    files = fill(hub)
    hub.set_speed(LINE_BYTES_PER_SECOND)
    with QueueProcess(tmp_path, hub.url) as first:
        first.queue(SPLIT)
        hub.wait_for(lambda _records: hub.bytes_sent() > 7 * MB)
        hub.set_speed(0)
        first.kill()
    hub.set_speed(LINE_BYTES_PER_SECOND)
    for path in (tmp_path / "state").iterdir():
        if path.is_file():
            path.unlink()

    with QueueProcess(tmp_path, hub.url) as second:
        second.settle()
        second.wait_until(lambda one: "partials" in one.notices, "the offer")
        queued = second.value("[str(id) for id in manager.sync.queue_partials()]")
        second.value("manager.sync.join()")

    assert queued == [f"{SPLIT}:Q4_K_M"]
    assert wrong_files(tmp_path, files, SPLIT) == []
    assert hub.bytes_sent() < SHARDS * MB * 1.02 + MOST_LOST_BYTES


def kept_of(process: QueueProcess) -> None:
    """Wait until the live downloads are in the database."""
    count = "__import__('sqlite3').connect(manager.config.database_path).execute('SELECT count(*) FROM download').fetchone()[0]"
    process.wait_until(lambda one: one.value(count) == len(one.rows), "the queue in the database")


@pytest.mark.slow
def test_loading_the_extension_starts_no_engine_and_opens_no_file(tmp_path: Path, hub: FaultyHub) -> None:
    code = (
        "import threading, os\n"
        "from IPython.testing.globalipapp import start_ipython\n"
        "shell = start_ipython()\n"
        "before = threading.active_count()\n"
        "shell.run_line_magic('load_ext', 'gglib_nb')\n"
        "import sys\n"
        "print(threading.active_count() - before, 'sqlite3' in sys.modules and 'gglib_nb.catalog.store' in sys.modules,\n"
        "      os.path.exists(os.environ['GGLIB_STATE_DIR']), os.path.exists(os.environ['GGLIB_MODELS_DIR']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=isolated(os.environ, tmp_path, hub.url), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.stdout.splitlines()[-1:] == ["0 False False False"], ended.stderr
    assert hub.requests == ()


@pytest.mark.slow
def test_a_kernel_with_nothing_to_adopt_creates_no_file_and_sends_no_request(hub: FaultyHub, tmp_path: Path) -> None:
    with QueueProcess(tmp_path, hub.url) as kernel:
        kernel.settle()
        assert kernel.engine_pid is None

    assert not (tmp_path / "state").exists()
    assert hub.requests == ()
