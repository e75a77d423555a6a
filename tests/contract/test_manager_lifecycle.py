"""A manager's life: engines that die, failures and retries, forks, closing."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from gglib_nb import (
    DownloadInterruptedError,
    DownloadManager,
    DownloadStatus,
    GglibError,
    IntegrityError,
    ManagerClosedError,
    NotInQueueError,
)
from gglib_nb.domain.download import ShardStatus
from gglib_nb.domain.snapshot import NoticeChanged
from gglib_nb.manager.manager import Parts
from gglib_nb.manager.queue_thread import QueueThread
from gglib_nb.queue.machine import QueueMachine
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub, HangUp, Stall, WrongBytes
from tests.support.hub import make_repository
from tests.support.kernel import wait_until

SMALL = "demo/small-GGUF"
SPLIT = "demo/split-GGUF"


@pytest.mark.slow
async def test_a_killed_engine_is_replaced_and_the_download_resumes(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(bytes_per_second=8_000_000)
    queued = await manager.queue_smart("demo/large-GGUF")
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 30_000_000)
    hub.set_speed(bytes_per_second=1_000_000)
    first_engine = manager.engine_pid
    assert first_engine is not None

    os.kill(first_engine, signal.SIGKILL)
    hub.set_speed(bytes_per_second=8_000_000)
    finished = await manager.wait(queued.id)

    assert finished.is_verified
    assert manager.engine_pid != first_engine
    assert hub.bytes_sent("large-Q8_0.gguf") < 40_000_000 + 2 * 8_000_000


@pytest.mark.slow
async def test_a_cancel_never_confirmed_by_a_stopped_engine_does_not_block_the_next_download(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 40_000_000}))
    hub.set_speed(bytes_per_second=4_000_000)
    first = await manager.queue_smart("demo/large-GGUF")
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 1_000_000)
    assert manager.engine_pid is not None

    os.kill(manager.engine_pid, signal.SIGSTOP)
    second = await manager.queue_smart(SMALL)
    await manager.cancel_download(first.id)

    assert (await manager.wait(second.id)).is_verified


@pytest.mark.slow
async def test_without_a_network_the_whole_queue_waits_and_resumes_automatically(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/large-GGUF", {"large-Q8_0.gguf": 20_000_000}))
    hub.set_speed(bytes_per_second=4_000_000)
    first = await manager.queue_smart("demo/large-GGUF")
    second, third = await manager.queue_smart(SMALL), await manager.queue_smart(SPLIT)
    hub.wait_for(lambda _records: hub.bytes_sent("large-Q8_0.gguf") > 1_000_000)

    hub.set_speed(bytes_per_second=1_000_000)
    events = manager.events()
    hub.faults.add(HangUp(), times=None)
    hub.drop_connections()
    notice = await anext(
        event.notice async for event in events
        if isinstance(event, NoticeChanged) and (event.notice or "").startswith("waiting for the network since ")
    )  # fmt: skip
    await manager.cancel_download(second.id)
    hub.faults.clear()
    hub.set_speed()
    await manager.wait(first.id)
    await manager.wait(third.id)

    assert re.fullmatch(r"waiting for the network since \d\d:\d\d", notice)
    assert manager.snapshot.recent_failures == ()


async def test_wrong_bytes_fail_the_whole_download_with_all_its_shards(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.faults.add(WrongBytes(), path="*00002-of-00003.gguf", origin="cdn", times=None)
    queued = await manager.queue_smart(SPLIT)

    with pytest.raises(IntegrityError) as failure:
        await manager.wait(queued.id)

    [row] = manager.snapshot.recent_failures
    assert failure.value.expected != failure.value.actual
    assert (row.status, str(row.error)) == (DownloadStatus.FAILED, str(failure.value))
    assert manager.snapshot.items == ()
    assert not (tmp_path / "models/demo/split-GGUF/Q4_K_M/split-Q4_K_M-00002-of-00003.gguf").exists()


async def test_a_retry_downloads_only_wrong_data(manager: DownloadManager, hub: FaultyHub) -> None:
    fault = hub.faults.add(WrongBytes(), path="*00002-of-00003.gguf", origin="cdn", times=2)
    stall = Stall(after_bytes=1000)
    hub.faults.add(stall, path="*00002-of-00003.gguf", origin="cdn")
    queued = await manager.queue_smart(SPLIT)
    shards = lambda: [bar.status for bar in manager.snapshot.items[0].shards]  # noqa: E731
    await asyncio.to_thread(wait_until, lambda: shards().count(ShardStatus.FINISHED) == 2, 60, "the right shards")
    stall.release()
    with pytest.raises(IntegrityError):
        await manager.wait(queued.id)
    hub.faults.clear()

    position = await manager.retry(queued.id)
    finished = await manager.wait(queued.id)

    assert fault is not None
    assert position == 0
    assert finished.is_verified
    names = [f"Q4_K_M/split-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert [hub.bytes_sent(name) for name in names] == [100_001, 3 * 100_002, 100_003]
    assert manager.snapshot.recent_failures == ()


async def test_queueing_a_failure_again_removes_it(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.faults.add(WrongBytes(), path="*.gguf", origin="cdn", times=None)
    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    with pytest.raises(GglibError):
        await manager.wait(queued.id)
    hub.faults.clear()

    again = await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.wait(again.id)

    assert manager.snapshot.recent_failures == ()


async def test_one_failure_can_be_cleared_without_the_others(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.faults.add(WrongBytes(), path="*.gguf", origin="cdn", times=None)
    for quantization in ("Q4_K_M", "Q8_0"):
        queued = await manager.queue_smart(SMALL, quantization)
        with pytest.raises(GglibError):
            await manager.wait(queued.id)

    await manager.clear_failed(f"{SMALL}:Q4_K_M")

    assert [str(item.id) for item in manager.snapshot.recent_failures] == [f"{SMALL}:Q8_0"]
    with pytest.raises(NotInQueueError):
        await manager.clear_failed(f"{SMALL}:Q4_K_M")


async def test_a_file_of_another_commit_is_replaced_only_with_force(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    target = tmp_path / "models/demo/moving-GGUF/moving-Q4_K_M.gguf"
    repository = hub.add_repository(make_repository("demo/moving-GGUF", {"moving-Q4_K_M.gguf": 40_000}))
    await manager.download("demo/moving-GGUF")
    files = make_repository("demo/other-GGUF", {"moving-Q4_K_M.gguf": 50_000}).commit("main")
    assert files is not None
    hub.move_branch(repository.repo_id, "main", files.files.values())

    with pytest.raises(GglibError, match="is kept"):
        await manager.download("demo/moving-GGUF")
    kept = target.stat().st_size
    await manager.download("demo/moving-GGUF", force=True)

    assert kept == 40_000
    assert target.stat().st_size == 50_000


async def test_close_interrupts_waiters_and_keeps_downloaded_bytes(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.set_speed(bytes_per_second=0)
    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    waiting = manager.submit(manager.sync.wait, queued.id)
    wait_until(lambda: bool(manager._parts.queue._waiters), 30, "the wait")

    await manager.aclose()

    with pytest.raises(DownloadInterruptedError):
        waiting.result(timeout=60)
    with pytest.raises(ManagerClosedError):
        await manager.queue_smart(SMALL)


async def test_the_event_stream_ends_with_the_manager(make_manager: Callable[..., DownloadManager]) -> None:
    async with make_manager() as manager:
        events = manager.events()
        await anext(events)

    assert [event async for event in events] == []


SCRIPT = textwrap.dedent(
    """
    import os, sys, time
    import gglib_nb

    manager = gglib_nb.get_manager()
    queued = manager.sync.queue_smart("demo/small-GGUF", "Q4_K_M")
    {rest}
    """
)


def run_script(rest: str, hub: FaultyHub, folder: Path) -> subprocess.CompletedProcess[str]:
    code = SCRIPT.format(rest=textwrap.indent(textwrap.dedent(rest), "").strip())
    environment = isolated(os.environ, folder, hub.url)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_script_that_exits_during_a_download_ends_within_seconds(hub: FaultyHub, tmp_path: Path) -> None:
    hub.set_speed(bytes_per_second=0)

    ended = run_script("print('over', flush=True)", hub, tmp_path)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")


@pytest.mark.slow
def test_a_forked_child_is_refused_and_the_parent_continues(hub: FaultyHub, tmp_path: Path) -> None:
    ended = run_script(
        """
child = os.fork()
if child == 0:
    try:
        gglib_nb.get_manager().sync.queue_smart("demo/small-GGUF", "Q8_0")
    except gglib_nb.ManagerClosedError as error:
        print("child:", error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent:", manager.sync.wait(queued.id).paths[0].name)
""",
        hub,
        tmp_path,
    )

    assert "child: Downloads belong to the process that this one was forked from" in ended.stdout
    assert ended.stdout.endswith("parent: small-Q4_K_M.gguf\n")
    assert ended.stderr == ""


def test_no_file_log_or_command_line_contains_the_token(hub: FaultyHub, tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os
        from pathlib import Path
        import gglib_nb
        from gglib_nb import DownloadManager, DownloadManagerConfig

        config = DownloadManagerConfig(models_directory=Path(os.environ["GGLIB_MODELS_DIR"]), hf_token=input(),
            state_directory=Path(os.environ["GGLIB_STATE_DIR"]), endpoint=os.environ["HF_ENDPOINT"])
        manager = DownloadManager(config)
        manager.sync.download("demo/gated-GGUF")
        pid = manager.engine_pid
        print(repr(config), repr(manager.config), Path(f"/proc/{pid}/cmdline").read_text())
        print(Path(f"/proc/{pid}/environ").read_text())
        manager.close()
        """
    )
    environment = isolated(os.environ, tmp_path, hub.url)

    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, input="hf_demo_granted\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_demo_granted" in path.read_bytes()]
    assert ended.returncode == 0, ended.stderr
    assert "hf_demo_granted" not in ended.stdout + ended.stderr
    assert written == []
    assert {record.headers.get("Authorization") for record in hub.requests if record.origin == "cdn"} == {None}


def test_a_manager_that_nobody_holds_ends_its_threads_when_its_downloads_have_ended(
    hub: FaultyHub, tmp_path: Path
) -> None:
    def own() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name.startswith("gglib-")}

    before = own()
    places = {"models_directory": tmp_path / "models", "state_directory": tmp_path / "state"}

    queued = DownloadManager(endpoint=hub.url, **places).sync.queue_smart(SMALL, "Q4_K_M")
    finished = queued.sync.wait()
    has_threads = bool(own() - before)
    del queued

    assert (finished.is_verified, has_threads) == (True, True)
    wait_until(lambda: not own() - before, 60, "the end of the threads")


def test_dropping_a_manager_never_closes_it_on_the_thread_that_drops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing: list[threading.Thread] = []
    has_closed = threading.Event()
    until, close = QueueThread.until, Parts.close

    def answered(queue: QueueThread, holds: Callable[[QueueMachine], bool]) -> "Future[None]":
        done = until(queue, holds)
        if not queue.is_own_thread:
            done.result(60)  # it may be faster than the caller
        return done

    def noted(parts: Parts, timeout_s: float) -> None:
        closing.append(threading.current_thread())
        close(parts, timeout_s)
        has_closed.set()

    manager = DownloadManager(models_directory=tmp_path / "models", state_directory=tmp_path / "state")
    monkeypatch.setattr(QueueThread, "until", answered)
    monkeypatch.setattr(Parts, "close", noted)

    del manager

    assert has_closed.wait(60)
    assert threading.current_thread() not in closing


def test_closing_may_take_any_time(manager: DownloadManager) -> None:
    manager.sync.models()

    manager.close(float("inf"))

    assert manager.is_closed
