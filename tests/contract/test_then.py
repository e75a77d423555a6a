"""`--then`: commands that run when a download is complete, with the embedded hub, real shells and killed kernels."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import AlreadyQueuedError, DownloadManager, DownloadRequest, FinishedDownload, RequestError
from gglib_nb.manager.followups import Commands
from gglib_nb.manager.keeper import QueueKeeper
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from gglib_nb.queue.effects import QueuePosition
from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import wait_until
from tests.support.models import MB, one_model
from tests.support.queue_process import QueueProcess

REPO, SMALL = "demo/small-GGUF", "demo/small-GGUF:Q4_K_M"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the lines are for a POSIX shell")


def state(manager: DownloadManager) -> tuple[str, str]:
    """State and error of the command of the newest completed download."""
    [item, *_] = manager.snapshot.recent_completed or [None]
    return ("", "") if item is None or item.then is None else (item.then.state, item.then.error)


def ran(manager: DownloadManager) -> tuple[str, str]:
    wait_until(lambda: state(manager)[0] in ("done", "failed"), 20, "the end of the command")
    return state(manager)


def say(manager: DownloadManager, line: str) -> str:
    return parse(line).run(Session(lambda: manager)).text


def test_a_shell_command_runs_with_the_path_after_registration(manager: DownloadManager, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = f'echo "$GGUF_PATH" "$GGUF_ID" >> {out}'

    path = manager.sync.download(REPO, "Q4_K_M", then=line)

    assert ran(manager) == ("done", "")
    assert out.read_text() == f"{path} {SMALL}\n"


@pytest.mark.parametrize("options", [{"add_to_db": False}, {"force": True}])
def test_a_command_works_with_every_other_option(
    manager: DownloadManager, tmp_path: Path, options: dict[str, bool]
) -> None:
    manager.sync.download(REPO, "Q4_K_M", then=f"echo x >> {tmp_path / 'out'}", **options)

    assert ran(manager) == ("done", "")
    assert (tmp_path / "out").read_text() == "x\n"


def test_the_verb_accepts_a_quoted_command_and_the_row_shows_it(manager: DownloadManager, tmp_path: Path) -> None:
    say(manager, f"queue {SMALL} --no-start --then 'echo y >> {tmp_path / 'out'}'")

    assert "then: echo y" in say(manager, "status")
    manager.sync.resume(SMALL) if manager.snapshot.items[0].status == "paused" else manager.sync.run_now(SMALL)
    assert ran(manager) == ("done", "")
    assert "ran: echo y" in say(manager, "status")


def test_undo_restores_a_removed_download_with_its_command(manager: DownloadManager) -> None:
    say(manager, f"queue {SMALL} --no-start --then 'echo y'")
    say(manager, f"remove {SMALL}")
    assert "then: echo y" not in say(manager, "status").partition("Cancelled")[0]

    said = say(manager, f"undo {SMALL}")

    assert said.endswith("It is next.")
    assert "then: echo y" in say(manager, "status").partition("Cancelled")[0]
    assert say(manager, "undo --all") == "There is nothing to undo."


def test_a_failed_command_is_shown_on_the_row_and_in_the_history(manager: DownloadManager) -> None:
    manager.sync.download(REPO, "Q4_K_M", then="echo first >&2; printf 'no \\033[31mserver' >&2; exit 3")

    code, error = ran(manager)

    assert (code, error.partition(":")[0]) == ("failed", "exit code 3")
    status = say(manager, "status")
    assert "The command failed: exit code 3: no" in status
    assert "\x1b" not in status
    assert "exit code 3" in manager.sync.history()[0].error
    assert manager.sync.history()[0].outcome == "completed"
    assert manager.sync.path(SMALL).exists()


def test_a_command_never_gets_the_token(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = "hf_demo_granted"
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", token)
    manager = make_manager(hf_token=token)

    manager.sync.download(REPO, "Q4_K_M", then=f"env > {tmp_path / 'env'}; ps -ww -o args= -p $$ >> {tmp_path / 'env'}")

    assert ran(manager) == ("done", "")
    assert "GGUF_PATH=" in (tmp_path / "env").read_text()
    assert token not in (tmp_path / "env").read_text()


def test_a_path_is_never_part_of_the_command(manager: DownloadManager, tmp_path: Path) -> None:
    folder = tmp_path / "a;touch hacked;$(touch hacked)"
    folder.mkdir()

    manager.sync.download(REPO, "Q4_K_M", to=folder, then=f'cp "$GGUF_PATH" {tmp_path / "copy"}')

    assert ran(manager) == ("done", "")
    assert (tmp_path / "copy").stat().st_size == 300_000
    assert not list(tmp_path.rglob("hacked"))


def test_a_command_that_does_not_end_blocks_neither_the_queue_nor_shutdown(
    manager: DownloadManager, tmp_path: Path
) -> None:
    manager.sync.download(REPO, "Q4_K_M", then=f"while [ ! -e {tmp_path / 'stop'} ]; do sleep 0.1; done")

    manager.sync.download(REPO, "Q8_0")

    rows = {str(item.id): item.then for item in manager.snapshot.recent_completed}
    assert rows[SMALL] is not None
    assert rows[SMALL].state == "running"
    (tmp_path / "stop").touch()


@pytest.mark.parametrize("line", ["x\0y", "exit 1 #" + "a" * 300_000])
def test_a_command_invalid_for_the_shell_fails_only_itself(manager: DownloadManager, line: str) -> None:
    path = manager.sync.download(REPO, "Q4_K_M", then=line)

    assert ran(manager)[0] == "failed"
    assert path.exists()
    assert len(say(manager, "status")) < 2_000


@pytest.mark.parametrize("then", ["", "  ", 7])
def test_an_invalid_command_is_refused(manager: DownloadManager, then: object) -> None:
    with pytest.raises(RequestError):
        manager.sync.queue_smart(REPO, "Q4_K_M", then=then)  # type: ignore[arg-type]


def test_a_queued_download_is_not_joined_with_another_command(manager: DownloadManager) -> None:
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M"))

    with pytest.raises(AlreadyQueuedError, match="without this command"):
        manager.sync.queue_smart(REPO, "Q4_K_M", then="echo")


# A callable


def test_a_callable_gets_the_result_of_wait_on_its_own_thread(manager: DownloadManager) -> None:
    calls: list[tuple[FinishedDownload, str]] = []

    path = manager.sync.download(REPO, "Q4_K_M", then=lambda one: calls.append((one, threading.current_thread().name)))

    assert ran(manager) == ("done", "")
    [(finished, thread)] = calls
    assert (finished.paths, thread) == ((path,), "gglib-then")


def test_a_callable_is_called_once_for_a_retried_download(manager: DownloadManager, tmp_path: Path) -> None:
    calls: list[object] = []
    disk = tmp_path / "disk"
    disk.mkdir()
    id_ = manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", to=disk, then=calls.append))
    disk.rename(tmp_path / "away")
    manager.sync.run_now(id_)
    wait_until(lambda: bool(manager.snapshot.recent_failures), 60, "the failure")
    (tmp_path / "away").rename(disk)

    manager.sync.retry(id_)
    manager.sync.wait(id_)

    wait_until(lambda: bool(calls), 60, "the call")
    assert len(calls) == 1


def test_each_callable_of_a_joined_download_is_called_once(manager: DownloadManager) -> None:
    calls: list[str] = []

    def first(_finished: object) -> None:
        calls.append("first")

    def second(_finished: object) -> None:
        calls.append("second")

    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", then=first))
    for then in (second, first):
        manager.sync.queue_smart(REPO, "Q4_K_M", then=then)

    assert ran(manager) == ("done", "")
    assert calls == ["first", "second"]


def test_each_callable_of_requests_made_at_the_same_time_is_called(
    manager: DownloadManager, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.set_speed(bytes_per_second=1000)
    keep, calls = Commands.keep, list[int]()

    def keep_slowly(commands: Commands, then: object, place: QueuePosition) -> QueuePosition:
        time.sleep(0.3)  # the other request may be joined meanwhile
        return keep(commands, then, place)

    monkeypatch.setattr(Commands, "keep", keep_slowly)
    thens = [lambda _finished, number=number: calls.append(number) for number in range(2)]
    for queued in [manager.submit(manager.sync.queue_smart, REPO, "Q4_K_M", then=then) for then in thens]:
        queued.result(60)
    hub.set_speed()

    assert ran(manager) == ("done", "")
    assert sorted(calls) == [0, 1]


def test_a_callable_is_called_although_the_end_of_its_download_cannot_be_recorded(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_keeper: QueueKeeper, _download: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(QueueKeeper, "record", refuse)
    calls: list[object] = []
    manager.sync.download(REPO, "Q4_K_M", then=calls.append)

    assert ran(manager) == ("done", "")
    assert len(calls) == 1


@pytest.mark.parametrize("then", ["true", lambda _finished: None])
def test_a_command_whose_thread_cannot_start_fails_and_ends_the_wait(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch, then: object
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "gglib-then":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    manager.submit(manager.sync.download, REPO, "Q4_K_M", then=then).result(60)  # type: ignore[arg-type]

    assert ran(manager) == ("failed", "it was not started: can't start new thread")


def test_a_command_without_a_folder_for_temporary_files_fails_and_says_so(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    manager.sync.download(REPO, "Q4_K_M", then="true")

    code, error = ran(manager)
    assert (code, error.partition(":")[0]) == ("failed", "it could not be started")


def test_a_script_ends_after_its_callable(hub: FaultyHub, tmp_path: Path) -> None:
    code = """if True:
        import time, gglib_nb

        def then(finished):
            time.sleep(0.5)
            print(finished.id)

        gglib_nb.download_sync("demo/small-GGUF", "Q4_K_M", progress=False, then=then)
    """
    environment = isolated(os.environ, tmp_path, hub.url)

    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)

    assert (run.stdout, run.stderr) == (f"{SMALL}\n", "")


def test_an_error_in_a_callable_is_shown_and_the_download_completes(manager: DownloadManager) -> None:
    def start_server(_finished: object) -> None:
        raise ValueError("port in use")

    manager.sync.download(REPO, "Q4_K_M", then=start_server)

    assert ran(manager) == ("failed", "ValueError: port in use")
    assert "failed: start_server" in say(manager, "status")


def test_an_error_without_a_text_ends_a_callable_and_not_the_following_one(manager: DownloadManager) -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def fail(_finished: object) -> None:
        raise BrokenError

    calls: list[object] = []
    manager.sync.queue_download(DownloadRequest(REPO, "Q4_K_M", then=fail))
    manager.sync.queue_smart(REPO, "Q4_K_M", then=calls.append)

    assert ran(manager) == ("failed", "BrokenError")
    assert len(calls) == 1


def test_a_callable_that_returns_a_coroutine_fails(manager: DownloadManager) -> None:
    async def later(_finished: object) -> None:
        pass

    manager.sync.download(REPO, "Q4_K_M", then=lambda finished: later(finished))  # noqa: PLW0108 - it is no async function

    assert ran(manager) == ("failed", "TypeError: it is async, so it was not run")


def test_a_callable_is_called_for_a_stored_model(manager: DownloadManager) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    calls: list[object] = []

    manager.sync.download(REPO, "Q4_K_M", then=calls.append)

    wait_until(lambda: len(calls) == 1, 60, "the call")


# Restarts


def kill_with_a_command(hub: FaultyHub, folder: Path, out: Path) -> None:
    """Kill a kernel in the middle of a download with a command that writes to `out`."""
    hub.set_speed(2 * MB)
    with QueueProcess(folder, hub.url) as first:
        first.value(f"manager.sync.queue_smart('demo/long', then='echo ran >> {out}') and None")
        hub.wait_for(lambda _records: hub.bytes_sent() > MB)
        hub.set_speed(0)
        first.kill()
    hub.set_speed(None)


@pytest.mark.slow
def test_a_command_runs_once_even_after_a_restart(make_hub: Callable[..., FaultyHub], tmp_path: Path) -> None:
    hub, out = make_hub([one_model("demo/long", 8 * MB)]), tmp_path / "out"
    kill_with_a_command(hub, tmp_path, out)

    for _ in range(2):
        with QueueProcess(tmp_path, hub.url) as later:
            later.value("manager.sync.download('demo/long') and None")
            later.value("manager.sync.join()")
            wait_until(out.exists, 60, "the line")

    assert out.read_text() == "ran\n"


@pytest.mark.slow
def test_a_line_from_a_database_that_others_can_write_is_not_run(
    make_hub: Callable[..., FaultyHub], tmp_path: Path
) -> None:
    hub, out = make_hub([one_model("demo/long", 8 * MB)]), tmp_path / "out"
    kill_with_a_command(hub, tmp_path, out)
    (database,) = tmp_path.rglob("gglib_nb.sqlite3")
    database.chmod(0o666)

    with QueueProcess(tmp_path, hub.url) as second:
        second.value("manager.sync.download('demo/long') and None")
        assert "will not run" in second.notices["commands_dropped"]

    assert not out.exists()


@pytest.mark.slow
def test_a_kernel_killed_by_its_own_command_does_not_run_it_again(
    make_hub: Callable[..., FaultyHub], tmp_path: Path
) -> None:
    """The command runs, but the queue that records this was never stored."""
    hub = make_hub([one_model("demo/short", MB)])
    out = tmp_path / "out"
    with QueueProcess(tmp_path, hub.url) as first:
        first.submit(f"manager.sync.download('demo/short', then='echo ran >> {out}; kill -9 {first.pid}')")
        wait_until(out.exists, 20, "the line")

    with QueueProcess(tmp_path, hub.url) as second:
        second.value("manager.sync.join()")
        second.value("manager.sync.download('demo/short') and None")

    assert out.read_text() == "ran\n"


def test_a_download_in_a_queue_that_does_not_run_says_how_to_start_it(manager: DownloadManager) -> None:
    said = say(manager, f"queue {SMALL} --no-start")
    _, _, pasted = said.rpartition("%gguf ")

    assert said.endswith("It is next. Start the queue: %gguf resume --all")
    assert say(manager, pasted) == "Started the queue."
