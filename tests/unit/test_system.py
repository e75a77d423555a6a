"""The operating system's calls give the same results with and without POSIX."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gglib_nb import system
from tests.support.portable import remove_posix


@pytest.fixture(params=["posix", "portable"], autouse=True)
def calls(request, monkeypatch):
    if request.param == "portable":
        remove_posix(monkeypatch)
    return request.param


@pytest.fixture
def opened(tmp_path):
    fd = system.open_file(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_the_portable_run_has_no_positioned_io(calls):
    assert hasattr(os, "pread") == (calls == "posix")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=40)), max_size=8))
def test_positioned_writes_and_reads_match_a_bytearray(opened, writes):
    os.ftruncate(opened, 0)
    expected = bytearray()
    for offset, data in writes:
        if data:
            expected.extend(bytes(max(0, offset + len(data) - len(expected))))
            expected[offset : offset + len(data)] = data
        assert system.write_at(opened, memoryview(data), offset) == len(data)

    buffer = memoryview(bytearray(300))
    assert system.read_at(opened, 300, 0) == expected
    assert system.read_into(opened, buffer, 3) == len(expected[3:])
    assert buffer[: len(expected[3:])] == expected[3:]


def test_threads_that_share_a_descriptor_do_not_disturb_each_other(opened):
    block = 4096

    def work(number: int) -> bool:
        mine = bytes([number]) * block
        for _ in range(100):
            system.write_at(opened, mine, number * block)
            if system.read_at(opened, block, number * block) != mine:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC])
def test_a_link_is_refused_and_its_target_untouched(tmp_path, flags):
    (tmp_path / "precious").write_bytes(b"data")
    (tmp_path / "link").symlink_to(tmp_path / "precious")

    with pytest.raises(OSError, match="link") as refused:
        system.open_file(tmp_path / "link", flags, follow_links=False)

    assert refused.value.errno == errno.ELOOP
    assert (tmp_path / "precious").read_bytes() == b"data"


def test_a_regular_file_is_created_and_truncated(tmp_path):
    for content in (b"first and longer", b"second"):
        fd = system.open_file(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, follow_links=False)
        system.write_at(fd, content, 0)
        os.close(fd)

    assert (tmp_path / "file").read_bytes() == b"second"


def test_exclusive_creation_refuses_an_existing_file(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(FileExistsError):
        system.open_file(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def test_a_descriptor_is_not_inherited(opened):
    assert not os.get_inheritable(opened)


def test_allocating_gives_a_file_its_size_and_keeps_its_bytes(opened, tmp_path):
    system.write_at(opened, b"kept", 0)

    system.allocate(opened, 100_000)
    system.sync_data(opened)
    system.sync_folder(tmp_path)
    system.drop_cached(opened, 0, 0)

    assert os.fstat(opened).st_size == 100_000
    assert system.read_at(opened, 4, 0) == b"kept"


def test_free_space_is_read_from_the_nearest_existing_folder(tmp_path):
    assert system.existing_folder(tmp_path / "not" / "there") == tmp_path
    assert system.free_bytes(tmp_path / "not" / "there") > 0


def test_a_running_process_has_one_start_time_and_an_ended_one_none():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert system.is_running(child.pid)
        assert system.process_start(child.pid) == system.process_start(child.pid) != ""
        child.kill()
        child.wait()
        assert not system.is_running(child.pid)


def test_a_zombie_process_does_not_count_as_running():
    child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"], stdout=-1, stdin=-1)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.stdout.read()  # ends with the process

    deadline = threading.Event()
    for _ in range(100):
        if not system.is_running(child.pid):
            break
        deadline.wait(0.02)
    gone = not system.is_running(child.pid)
    child.communicate()

    assert gone


def test_processes_are_looked_up_without_proc(monkeypatch, calls):
    def nothing(pid: int) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(system, "_linux_stat", nothing)

    assert system.is_running(os.getpid())
    assert system.process_start(os.getpid()) == system.process_start(os.getpid()) != ""
    assert not system.is_running(2**22 + 1)
    assert system.process_start(2**22 + 1) == ""


def test_a_process_that_proc_hides_is_running(monkeypatch, calls):
    """With the option `hidepid` of /proc, the processes of other users are not in it."""

    def nothing(pid: int) -> list[str]:
        raise FileNotFoundError

    def no_process(pid: int) -> psutil.Process:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(system, "_linux_stat", nothing)
    monkeypatch.setattr(psutil, "Process", no_process)

    assert system.is_running(os.getppid()) == (calls == "posix")
    assert not system.is_running(2**22 + 1)


def test_the_parent_of_this_process_is_running():
    assert not system.is_orphaned(os.getppid())


def test_a_pipe_is_read_within_a_time_limit_until_its_end():
    receiving, sending = os.pipe()
    pipe = system.PipeReader(receiving)

    assert pipe.read(0.01) is None
    os.write(sending, b"news")
    assert pipe.read(5) == b"news"
    os.close(sending)
    assert pipe.read(5) == b""
    assert pipe.read(5) == b""
    os.close(receiving)


def test_a_detached_child_is_out_of_reach_of_an_interrupt(tmp_path):
    command = [sys.executable, "-c", "import os; print(os.getpgid(0), os.getppid())"]

    child = system.start_detached(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=2, env=os.environ)
    output, _ = child.communicate()
    group, parent = map(int, output.split())

    assert group == child.pid
    assert parent == os.getpid()
    assert system.exit_reason(child.returncode) == "it ended with status 0"


def test_a_sandbox_that_forbids_another_priority_is_no_error(monkeypatch, calls):
    def refuse(niceness: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if calls == "posix":
        monkeypatch.setattr(os, "nice", refuse)
    else:
        monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(nice=refuse))

    system.lower_priority(5)


def test_the_clock_is_monotonic():
    assert system.clock_s() <= system.clock_s()


def test_only_the_system_module_uses_calls_that_windows_lacks():
    lacking = (
        "os.pread",
        "os.pwrite",
        "O_NOFOLLOW",
        "O_CLOEXEC",
        "geteuid",
        "select.poll",
        "register_at_fork",
        "os.kill(",
    )
    package = Path(system.__file__).parent
    users = [
        f"{path.relative_to(package)}: {name}"
        for path in package.rglob("*.py")
        for name in lacking
        if path.name != "system.py" and name in path.read_text(encoding="utf-8")
    ]

    assert users == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_a_process_has_the_path_of_its_log(tmp_path):
    log = tmp_path / "engine.log"
    asking = [sys.executable, "-c", "from gglib_nb.system import log_path; print(log_path())"]

    with log.open("wb") as opened:
        said = subprocess.run(asking, stdout=subprocess.PIPE, stderr=opened, check=True)
    piped = subprocess.run(asking, capture_output=True, check=True)

    assert (said.stdout.decode().strip(), piped.stdout.decode().strip()) == (str(log), "")


def test_threads_replace_one_file_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"

    def save(number: int) -> None:
        for _ in range(50):
            system.replace_file(path, bytes([number]) * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))

    assert len(path.read_bytes()) == 1000
    assert len(set(path.read_bytes())) == 1
    assert list(tmp_path.iterdir()) == [path]
