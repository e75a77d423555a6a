"""The engine as a process: how it starts, what can disturb it, how it ends, and what it leaves."""

import hashlib
import json
import os
import queue
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import gglib_nb
from gglib_nb.domain.reports import (
    DiscardPartials,
    EngineLost,
    EngineSilent,
    Progress,
    StopTransfer,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine.disk import lease_path
from gglib_nb.engine.local import discard_leftovers, leftovers
from gglib_nb.engine.pieces import WRITTEN, Pieces
from gglib_nb.engine.protocol import Ready
from tests.support.engine import EngineProcess
from tests.support.hub import make_repository

REPO = "demo/model"
NAME = "model.gguf"
SIZE = 40_000_000


@pytest.fixture
def hub(make_hub):
    return make_hub([make_repository(REPO, {NAME: SIZE, "small.gguf": 100_000})])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")
    yield engine
    engine.close()


def begin_slowly(engine: EngineProcess, hub, downloaded_bytes: int = 4_000_000) -> int:
    """Start the large file and wait until that many bytes have arrived; the rest would take half a minute."""
    hub.set_speed(10_000_000)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.files[0].downloaded_bytes >= downloaded_bytes)
    hub.set_speed(1_000_000)
    return attempt


def asked_bytes(hub, before: int) -> int:
    """The number of distinct bytes requested from the CDN after the given request (a split tail is requested twice)."""
    return Pieces(None, ((start, end + 1, WRITTEN) for start, end in hub.ranges(NAME)[before:])).present_bytes


def ended(pid: int, timeout_s: float = 30) -> bool:
    """Whether the process has ended, or is a zombie, within the time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        select.select([], [], [], 0.02)
    return False


def test_the_process_starts_with_the_first_transfer_and_not_before(engine) -> None:
    assert engine.client.pid is None

    engine.fetch(REPO, "small.gguf")

    assert engine.client.pid == next(one.pid for one in engine.log.events if isinstance(one, Ready))


@pytest.mark.parametrize("named", ["{folder}:.", ".", ":/nowhere", "{folder}/"])
def test_files_named_like_standard_library_modules_do_not_break_the_engine(hub, tmp_path, monkeypatch, named) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("queue", "json", "socket", "selectors", "types", "httpx2"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", named.format(folder=folder).replace(":", os.pathsep))
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")

    end = engine.fetch(REPO, "small.gguf")

    assert isinstance(end, TransferFinished)
    engine.close()


def test_what_an_interpreter_prints_at_its_start_does_not_disturb_the_engine(hub, tmp_path, monkeypatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('Welcome to this company')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as in many containers
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")

    end = engine.fetch(REPO, "small.gguf")

    assert isinstance(end, TransferFinished)
    engine.close()


OTHER_KERNEL = """
import json, queue, sys  # the standard library's, as in any kernel
sys.path.insert(0, {checkout!r})
from pathlib import Path
from gglib_nb.engine.client import EngineClient
from gglib_nb.engine.protocol import Configure
events = queue.SimpleQueue()
client = EngineClient(Configure({url!r}, None, None, 4, (), "test"), log_folder=Path({log!r}), on_event=events.put)
client.start()
print(type(events.get(timeout=60)).__name__)
client.close()
"""


def copy_of_the_package(folder: Path, says: str) -> Path:
    """A folder for the path with a copy of the package whose engine prints a message when loaded."""
    shutil.copytree(Path(gglib_nb.__file__).parent, folder / "gglib_nb", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "gglib_nb" / "engine" / "__init__.py").open("a") as file:
        file.write(f"import sys\nprint({says!r}, file=sys.stderr)\n")
    return folder


def test_the_engine_runs_the_kernels_copy_of_the_package_even_if_another_is_installed(hub, tmp_path) -> None:
    installed = copy_of_the_package(tmp_path / "installed", "the installed copy")
    checkout = copy_of_the_package(tmp_path / "checkout", "the checkout")
    (checkout / "json.py").write_text("raise SystemExit('the wrong module')\n")
    log = tmp_path / "state" / "engine.log"
    script = OTHER_KERNEL.format(checkout=str(checkout), url=hub.url, log=str(log.parent))

    kernel = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert log.read_text() == "the checkout\n"
    assert kernel.stdout == "Ready\n"


def test_the_token_is_in_neither_arguments_nor_environment_nor_log(hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_the_test")
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state", token="hf_secret_of_the_test")
    engine.failure(REPO, "small.gguf")

    process = psutil.Process(engine.client.pid)

    assert not any("hf_secret_of_the_test" in text for text in process.cmdline())
    assert "hf_secret_of_the_test" not in process.environ().values()
    assert "hf_secret_of_the_test" not in (tmp_path / "state" / "engine.log").read_text()
    engine.close()


def test_the_engine_has_its_own_session_and_ignores_interrupts(engine) -> None:
    engine.fetch(REPO, "small.gguf")

    assert os.getsid(engine.client.pid) == engine.client.pid


@pytest.mark.skipif(not hasattr(os, "nice"), reason="this system has no niceness")
def test_the_engine_has_a_lower_priority_than_user_cells(engine) -> None:
    engine.fetch(REPO, "small.gguf")

    assert psutil.Process(engine.client.pid).nice() == min(19, psutil.Process().nice() + 5)


def test_closing_its_input_ends_the_engine_and_leaves_resumable_files(hub, engine) -> None:
    begin_slowly(engine, hub)
    pid = engine.client.pid

    engine.close()

    assert ended(pid)
    assert not any(isinstance(one, EngineLost) for one in engine.log.events)
    hub.set_speed()
    before = len(hub.ranges(NAME))
    again = EngineProcess(hub, engine.folder, engine.folder.parent / "state")
    again.fetch(REPO, NAME)
    assert asked_bytes(hub, before) <= SIZE - 4_000_000
    again.close()


def test_a_listener_that_closes_its_client_leaves_the_engine_time_to_end_by_itself(hub, engine) -> None:
    exit_codes: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def close(event: object) -> None:
        if isinstance(event, Progress) and event.received_bytes and exit_codes.empty():
            process = engine.client._life.process
            engine.client.close()
            exit_codes.put(process.wait(30))

    engine.client._on_event = close
    hub.set_speed(10_000_000)
    engine.begin(REPO, NAME)

    assert exit_codes.get(timeout=60) == 0
    assert not lease_path(engine.target(REPO, NAME)).exists()


@pytest.mark.slow
def test_a_killed_engine_is_reported_and_restarted_by_the_next_command(hub, engine) -> None:
    begin_slowly(engine, hub)
    before = engine.client.pid
    os.kill(before, signal.SIGKILL)
    lost = engine.log.wait_for(lambda events: next((one for one in events if isinstance(one, EngineLost)), None))
    hub.set_speed()

    engine.fetch(REPO, NAME)

    assert lost.reason.startswith("it was ended by SIGKILL, as the system does when memory runs out")
    assert engine.client.pid != before


@pytest.mark.parametrize("script", ["import sys; sys.exit('No space for the interpreter.')", None])
def test_the_error_says_why_an_interpreter_cannot_start(hub, tmp_path, monkeypatch, script) -> None:
    """Its last words in the log, or those of the shell that cannot start it, are part of the report."""
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!{sys.executable}\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")

    engine.begin(REPO, NAME)
    lost = engine.log.wait_for(lambda events: next((one for one in events if isinstance(one, EngineLost)), None))

    engine.close()
    assert "it ended with status " in lost.reason
    assert ("No space for the interpreter." if script else str(python)) in lost.reason


@pytest.mark.slow
def test_after_a_kill_only_missing_bytes_are_requested(hub, engine) -> None:
    begin_slowly(engine, hub, 20_000_000)
    os.kill(engine.client.pid, signal.SIGKILL)
    engine.log.wait_for(lambda events: any(isinstance(one, EngineLost) for one in events))
    before = len(hub.ranges(NAME))
    hub.set_speed()

    engine.fetch(REPO, NAME)

    # Not yet recorded: half a second between records at 10 MB/s, with a margin for a busy machine.
    assert asked_bytes(hub, before) <= SIZE - 20_000_000 + 15_000_000


def test_a_file_named_only_part_is_not_an_unfinished_download(tmp_path) -> None:
    folder = tmp_path / "owner" / "model"
    folder.mkdir(parents=True)
    (folder / ".part").touch()

    assert leftovers(tmp_path) == []


def test_files_left_by_a_killed_engine_can_be_deleted_after_a_cancel(hub, engine) -> None:
    """Found by an endurance run (seed 99): no process used that file again, so its lease was left over."""
    begin_slowly(engine, hub)
    os.kill(engine.client.pid, signal.SIGKILL)
    engine.log.wait_for(lambda events: any(isinstance(one, EngineLost) for one in events))
    target = engine.target(REPO, NAME)
    assert lease_path(target).exists()
    (left,) = leftovers(engine.folder)

    deleted = discard_leftovers([str(target)])

    assert not left.is_in_use
    assert deleted == {str(target)}
    assert list(target.parent.iterdir()) == []


@pytest.mark.slow
def test_commands_sent_to_a_dead_engine_have_no_effect(hub, engine) -> None:
    begin_slowly(engine, hub)
    process = psutil.Process(engine.client.pid)
    process.suspend()
    engine.begin(REPO, "small.gguf")
    process.kill()
    engine.log.wait_for(lambda events: any(isinstance(one, EngineLost) for one in events))

    end = engine.fetch(REPO, "small.gguf")

    assert end.attempt == 3
    assert not any(getattr(one, "attempt", None) == 2 for one in engine.log.events)


@pytest.mark.slow
def test_a_stopped_engine_does_not_hold_up_the_sender(hub, engine) -> None:
    begin_slowly(engine, hub)
    process = psutil.Process(engine.client.pid)
    process.suspend()
    began_s = time.monotonic()

    for _ in range(5_000):
        engine.send(StopTransfer(999))
    took_s = time.monotonic() - began_s
    engine.client.close(timeout_s=0.5)

    assert took_s < 20  # after 30 s it would be killed
    assert ended(process.pid)


@pytest.mark.slow
def test_a_hanging_engine_is_reported_and_replaced_when_a_stop_waits_for_it(hub, engine) -> None:
    attempt = begin_slowly(engine, hub)
    process = psutil.Process(engine.client.pid)

    process.suspend()
    silent = engine.log.wait_for(lambda events: next((one for one in events if isinstance(one, EngineSilent)), None))
    engine.send(StopTransfer(attempt))
    lost = engine.log.wait_for(lambda events: next((one for one in events if isinstance(one, EngineLost)), None))

    assert silent.silent_s >= 3
    assert "SIGKILL" in lost.reason
    assert ended(process.pid)


def test_a_cancelled_transfer_stops_while_nothing_arrives_and_keeps_its_partial_file(hub, engine) -> None:
    attempt = begin_slowly(engine, hub)
    hub.set_speed(0)

    end, _ = engine.stop(attempt)

    assert end == TransferStopped(attempt)
    assert sorted(path.name for path in engine.target(REPO, NAME).parent.iterdir()) == [
        f"{NAME}.part",
        f"{NAME}.part.journal",
    ]


def test_partial_files_are_deleted_on_command(hub, engine) -> None:
    engine.stop(begin_slowly(engine, hub))

    engine.send(DiscardPartials((str(engine.target(REPO, NAME)),)))
    engine.fetch(REPO, "small.gguf")
    engine.close()  # the disk may take longer than the download

    assert [path.name for path in engine.target(REPO, NAME).parent.iterdir()] == ["small.gguf"]


PARENT = """
import os, sys, time
from pathlib import Path
from gglib_nb.engine.client import EngineClient
from gglib_nb.engine.protocol import Configure
client = EngineClient(
    Configure({url!r}, None, None, 4, (), "test"), log_folder=Path({log!r}), on_event=lambda event: None
)
client.start()
while client.pid is None:
    time.sleep(0.01)
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print(client.pid, flush=True)
time.sleep(60)
"""


def test_the_engine_ends_with_its_parent_even_if_a_fork_holds_the_pipe(hub, tmp_path) -> None:
    script = PARENT.format(url=hub.url, log=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    children = psutil.Process(parent.pid).children(recursive=True)

    parent.kill()
    parent.wait()

    try:
        assert ended(pid)
    finally:
        parent.stdout.close()
        for child in children:
            if child.is_running():
                child.kill()


@pytest.mark.slow
def test_abandoning_a_forked_clients_copy_does_not_affect_the_parents_engine(hub, engine) -> None:
    attempt = begin_slowly(engine, hub)
    child = os.fork()
    if child == 0:
        engine.client.abandon()
        os._exit(0)
    os.waitpid(child, 0)
    hub.set_speed()

    assert isinstance(engine.log.end_of(attempt), TransferFinished)


def test_the_log_size_is_limited(hub, tmp_path) -> None:
    log = tmp_path / "state" / "engine.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * 1_000_000)
    engine = EngineProcess(hub, tmp_path / "models", log.parent)

    engine.fetch(REPO, "small.gguf")

    assert log.stat().st_size < 1_000
    assert (log.parent / "engine.log.1").stat().st_size == 1_000_000
    engine.close()


def test_an_invalid_command_line_is_only_logged(hub, tmp_path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gglib_nb.engine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )

    out, errors = process.communicate(b"nonsense\n", timeout=60)

    assert json.loads(out)["type"] == "Ready"
    assert b"not a message" in errors
    assert process.returncode == 0


@pytest.mark.slow
def test_an_engine_killed_repeatedly_at_any_moment_ends_with_the_right_file(hub, engine) -> None:
    hub.set_speed(20_000_000)
    moments = random.Random(7)
    for _ in range(6):
        attempt = engine.begin(REPO, NAME)
        engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 0)
        select.select([], [], [], moments.uniform(0, 0.7))
        os.kill(engine.client.pid, signal.SIGKILL)
        engine.log.wait_for(lambda events: isinstance(events[-1], EngineLost))

    end = engine.fetch(REPO, NAME)

    assert hashlib.sha256(Path(end.files[0].target).read_bytes()).hexdigest() == end.files[0].sha256
    assert end.files[0].is_verified
