"""Downloaded data and the engine survive full disks, unusual mounts, other versions, debuggers and broken callers."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb import system
from gglib_nb.demo.refusals import refusal
from gglib_nb.domain.reports import (
    DiscardPartials,
    EngineLost,
    Progress,
    TransferFailed,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine import disk, partial, transfer
from gglib_nb.engine import file as file_module
from gglib_nb.engine.disk import DiskSpace
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.protocol import CheckEnded, CheckFiles, FileToCheck
from gglib_nb.errors import StorageError
from tests.support.engine import EngineProcess, LocalEngine
from tests.support.faulty_hub import Stall
from tests.support.hub import make_repository
from tests.support.transfers import NAME, REPO, SIZE, begin_slowly, digest_of, model_repository, right_digest

SMALL = "small.gguf"


@pytest.fixture
def hub(make_hub):
    return make_hub([model_repository()])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()


@pytest.fixture
def process(hub, tmp_path: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")
    yield engine
    engine.close()


def beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def test_a_file_can_be_downloaded_again_while_the_disk_of_its_stopped_transfer_hangs(engine, monkeypatch) -> None:
    hangs, answers, reserve = threading.Event(), threading.Event(), DiskSpace.reserve

    def hangs_once(*arguments, **options) -> None:
        monkeypatch.setattr(DiskSpace, "reserve", reserve)
        hangs.set()
        assert answers.wait(30)
        reserve(*arguments, **options)

    monkeypatch.setattr(DiskSpace, "reserve", hangs_once)
    first = engine.begin(REPO, SMALL)
    assert hangs.wait(30)
    assert isinstance(engine.stop(first)[0], TransferStopped)

    second = engine.begin(REPO, SMALL)
    engine.log.wait_for_progress(second, lambda one: one.notice_kind == "waiting")
    answers.set()

    assert isinstance(engine.log.end_of(second), TransferFinished)
    assert [path.name for path in engine.folder.rglob("*.*")] == [SMALL]


def test_a_bug_in_the_last_checks_ends_the_attempt(engine, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "check_split_set", lambda files: 1 // 0)

    assert "ZeroDivisionError" in str(engine.failure(REPO, SMALL))


# The process.


def test_a_kernel_with_thousands_of_open_files_receives_engine_events(process) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]

    try:
        end = process.fetch(REPO, SMALL)
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert isinstance(end, TransferFinished)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_listener_that_raises_does_not_end_the_reports(hub, process, monkeypatch, error) -> None:
    add, broken = process.log.add, [True]

    def add_or_raise(report) -> None:
        if isinstance(report, Progress) and broken:
            broken.pop()
            raise error
        add(report)

    monkeypatch.setattr(process.client, "_on_event", add_or_raise)

    end = process.fetch(REPO, SMALL)

    assert isinstance(end, TransferFinished)
    assert not broken


def an_interpreter(folder: Path, script: str) -> str:
    path = folder / "python-of-the-test"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_cannot_start_is_reported_with_its_output_and_retried_after_a_pause(
    process, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(
        sys, "executable", an_interpreter(tmp_path, r"printf 'no module\033named encodings' >&2; exit 3")
    )
    process.begin(REPO, SMALL)
    lost = process.log.wait_for(lambda events: next((one for one in events if isinstance(one, EngineLost)), None))
    began_s = time.monotonic()
    process.begin(REPO, SMALL)
    process.log.wait_for(lambda events: sum(isinstance(one, EngineLost) for one in events) == 2)

    assert lost.reason == "it ended with status 3 (no module named encodings)"
    assert time.monotonic() - began_s >= 0.5


@pytest.mark.slow
def test_a_kernel_with_a_low_limit_of_open_files_downloads_at_full_speed(process, hub, tmp_path, monkeypatch) -> None:
    script = f'ulimit -Sn 24; exec {sys.executable} "$@"'
    monkeypatch.setattr(sys, "executable", an_interpreter(tmp_path, script))
    monkeypatch.setenv("GGLIB_ENGINE_TIMEOUTS", '{"connect_s": 60, "answer_s": 60, "stall_s": 60}')
    hub.set_speed(per_connection=3_000_000)

    end = process.fetch(REPO, NAME)

    assert isinstance(end, TransferFinished)
    assert not {"retrying", "offline"} & set(process.log.notices_of(1))


@pytest.mark.parametrize("executable", [None, "", 7])
def test_a_kernel_that_does_not_know_its_interpreter_reports_it_and_retries_after_a_pause(
    process, monkeypatch, executable
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    process.begin(REPO, SMALL)
    process.log.wait_for(lambda events: any(isinstance(one, EngineLost) for one in events))
    began_s = time.monotonic()
    monkeypatch.undo()

    end = process.fetch(REPO, SMALL)

    assert time.monotonic() - began_s >= 0.5
    assert isinstance(end, TransferFinished)


def test_a_debugger_that_rewrites_the_command_lines_of_interpreters_does_not_reach_the_engine(
    hub, tmp_path, monkeypatch
) -> None:
    """As pydevd does while JupyterLab's debugger is on: a started interpreter waits for a client that never connects."""
    real = subprocess._fork_exec

    def fork_exec(args, *others):
        is_python = b"python" in Path(os.fsdecode(args[0])).name.encode()
        return real(
            [b"/bin/sleep", b"60"] if is_python else args, *(((b"/bin/sleep",), *others[1:]) if is_python else others)
        )

    monkeypatch.setattr(subprocess, "_fork_exec", fork_exec)
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")

    end = engine.fetch(REPO, SMALL)

    assert isinstance(end, TransferFinished)
    engine.close()


def test_a_log_on_a_full_disk_ends_nothing(hub, tmp_path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "engine.log").symlink_to("/dev/full")
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")
    in_the_way = beside(engine.target(REPO, SMALL), ".part")
    in_the_way.mkdir(parents=True)

    engine.send(DiscardPartials((str(engine.target(REPO, SMALL)),)))  # its failure is written to the log
    end = engine.fetch(REPO, NAME)

    assert isinstance(end, TransferFinished)
    assert not any(isinstance(one, EngineLost) for one in engine.log.events)
    engine.close()


# Journals and leases.


def test_an_ended_attempt_keeps_the_journal_of_a_process_that_restarted_the_file(hub, engine) -> None:
    first = engine.begin(REPO, SMALL, "other.gguf", kind="mmproj")
    hub.set_speed(40_000_000)
    engine.log.wait_for_progress(first, lambda one: one.files[0].status.value == "finished")
    stall = Stall(after_bytes=100_000)
    hub.faults.add(stall, path=SMALL, origin="cdn", times=None)
    theirs = LocalEngine(hub, engine.folder)
    forced = theirs.begin(REPO, SMALL, force=True)
    theirs.log.wait_for_progress(forced, lambda one: one.files[0].downloaded_bytes > 0)

    assert isinstance(engine.log.end_of(first), TransferFinished)

    assert beside(engine.target(REPO, SMALL), ".part.journal").exists()
    stall.release()
    hub.set_speed()
    assert isinstance(theirs.log.end_of(forced), TransferFinished)
    theirs.close()


def test_a_lease_of_a_newer_version_is_not_taken_from_its_live_owner(engine) -> None:
    lease = beside(engine.target(REPO, SMALL), ".part.lease")
    lease.parent.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as owner:
        state = {"owner": "another", "place": system.process_place(), "pid": owner.pid, "beat": 1}
        lease.write_text(json.dumps(state | {"downloaded_bytes": 7, "speed": 9.5}))
        attempt = engine.begin(REPO, SMALL)

        waiting = engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")

        assert waiting.files[0].downloaded_bytes == 7
        owner.kill()
    assert isinstance(engine.log.end_of(attempt), TransferFinished)


def test_a_lease_left_in_mid_takeover_by_a_kill_is_cleaned_up(engine) -> None:
    target = engine.target(REPO, SMALL)
    target.parent.mkdir(parents=True)
    left = beside(target, ".part.lease.0123456789abcdef")
    left.write_text("{}")
    os.utime(left, (1e9, 1e9))
    mine = beside(target, ".part.lease.notes")
    mine.write_text("mine")

    engine.fetch(REPO, SMALL)

    assert sorted(path.name for path in target.parent.iterdir()) == [SMALL, mine.name]


def test_a_named_pipe_in_place_of_a_journal_or_lease_blocks_nothing(engine) -> None:
    target = engine.target(REPO, SMALL)
    target.parent.mkdir(parents=True)
    os.mkfifo(beside(target, ".part.journal"))
    beside(target, ".part.lease").symlink_to("/dev/zero")

    end = engine.log.end_of(engine.begin(REPO, SMALL))

    assert isinstance(end, TransferFinished)


# Disks.


def test_a_mount_that_cannot_sync_is_not_an_error(hub, engine, monkeypatch) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "fdatasync", refuse)

    end = engine.fetch(REPO, SMALL)

    assert digest_of(Path(end.files[0].target)) == right_digest(hub, SMALL)


def test_a_mount_that_reports_a_new_identity_each_time_is_refused_with_advice(engine, monkeypatch) -> None:
    monkeypatch.setattr(disk, "is_at", lambda fd, path, size_bytes: False)

    error = engine.failure(REPO, SMALL)

    assert isinstance(error, StorageError)
    assert "choose another models folder" in str(error)


def test_a_disk_of_unknown_size_is_not_full(engine, monkeypatch) -> None:
    nothing = shutil._ntuple_diskusage(0, 0, 0)
    monkeypatch.setattr(system, "disk_usage", lambda folder: nothing)

    assert engine.fetch(REPO, SMALL)


def test_a_mount_with_sequential_writes_only_is_refused_with_advice(engine, monkeypatch) -> None:
    write = os.pwrite

    def write_at_the_end_only(fd: int, data: bytes, offset: int) -> int:
        if offset >= 100_000:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write_at_the_end_only)
    error = engine.failure(REPO, NAME)

    assert isinstance(error, StorageError)
    assert "choose another models folder" in str(error)


def test_a_models_folder_that_is_a_broken_link_is_reported_by_name(hub, tmp_path) -> None:
    link = tmp_path / "models"
    link.symlink_to(tmp_path / "unmounted")
    engine = LocalEngine(hub, link)

    error = engine.failure(REPO, SMALL)

    assert f"{link} is a broken link" in str(error)
    engine.close()


def test_a_full_disk_during_a_journal_write_loses_only_that_record(hub, engine, monkeypatch) -> None:
    attempt = begin_slowly(engine)
    journal = beside(engine.target(REPO, NAME), ".part.journal").stat().st_ino
    broken: list[int] = []

    def written_short(call):
        def write(fd, data, *where):
            if os.fstat(fd).st_ino != journal or len(broken) >= 2:
                return call(fd, data, *where)
            broken.append(fd)
            if len(broken) == 1:
                return call(fd, bytes(data)[: len(data) // 2], *where)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return write

    monkeypatch.setattr(os, "pwrite", written_short(os.pwrite))
    monkeypatch.setattr(os, "write", written_short(os.write))
    end = engine.log.end_of(attempt)
    monkeypatch.undo()
    hub.set_speed()
    again = engine.begin(REPO, NAME)

    assert isinstance(end, TransferFailed)
    assert isinstance(engine.log.end_of(again), TransferFinished)
    assert engine.log.progress_of(again)[-1].received_bytes <= SIZE - 4_000_000


# Connections.


class ConnectionLimit:
    """The storage refuses more concurrent requests than it allows with a status."""

    def __init__(self, hub, most: int, status: int) -> None:
        self.hub, self.most, self.status = hub, most, status
        self.refused = 0

    def apply(self, request, response):
        running = sum(one.ended_s is None for one in list(self.hub.requests) if one.origin == "cdn")
        if running <= self.most:
            return response
        self.refused += 1
        return refusal(self.status, None, "too many connections")


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 503])
def test_a_servers_connection_limit_is_respected_while_others_receive_data(make_hub, tmp_path, status) -> None:
    hub = make_hub([make_repository("demo/large", {NAME: 30_000_000})])
    hub.set_speed(per_connection=4_000_000)
    limit = ConnectionLimit(hub, 2, status)
    hub.faults.add(limit, path=NAME, origin="cdn", times=None)
    engine = LocalEngine(hub, tmp_path / "models")

    end = engine.log.end_of(engine.begin("demo/large", NAME), timeout_s=60)

    resolves = sum(one.origin == "hub" and one.path_in_repo == NAME for one in hub.requests)
    assert isinstance(end, TransferFinished), end.error
    assert limit.refused <= 12
    assert resolves <= 2
    engine.close()


class ShortRanges:
    """The storage sends at most a megabyte of a range and declares it (RFC 9110 allows that)."""

    def apply(self, request, response):
        if response.status != 206 or response.subject is None:
            return response
        length = min(response.length, 1_000_000)
        last, total = response.offset + length - 1, response.subject.file.size_bytes
        return replace(response, length=length).having(Content_Range=f"bytes {response.offset}-{last}/{total}")


def test_short_responses_are_continued_on_the_same_connection(make_hub, tmp_path) -> None:
    hub = make_hub([make_repository("demo/large", {NAME: 20_000_000})])
    hub.faults.add(ShortRanges(), path=NAME, origin="cdn", times=None)
    engine = LocalEngine(hub, tmp_path / "models")

    engine.fetch("demo/large", NAME)

    assert len({one.connection_id for one in hub.requests if one.origin == "cdn"}) <= 16
    assert [one.origin for one in hub.requests].count("hub") == 1
    assert "retrying" not in engine.log.notices_of(1)
    engine.close()


def test_a_stop_during_opening_leaves_the_partial_file_closed_and_its_target_free(engine, monkeypatch) -> None:
    opening, go_on = threading.Event(), threading.Event()
    allocate = partial.allocate

    def slowly(fd: int, size_bytes: int) -> None:
        opening.set()
        assert go_on.wait(30)
        allocate(fd, size_bytes)

    monkeypatch.setattr(partial, "allocate", slowly)
    attempt = engine.begin(REPO, SMALL)
    assert opening.wait(30)
    threading.Timer(0.2, go_on.set).start()
    end, _ = engine.stop(attempt)

    assert isinstance(end, TransferStopped)
    assert list(engine.target(REPO, SMALL).parent.iterdir()) == []
    for thread in [one for one in threading.enumerate() if one.name == "gglib-digest"]:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.slow
def test_a_stop_waits_for_a_rename_and_for_an_opening_until_one_deadline(engine, monkeypatch) -> None:
    opening, renaming, go_on = threading.Event(), threading.Event(), threading.Event()
    allocate, sync_data = partial.allocate, partial.sync_data

    def open_slowly(fd: int, size_bytes: int) -> None:
        if size_bytes == SIZE:
            opening.set()
            assert go_on.wait(30)
        allocate(fd, size_bytes)

    def sync_slowly(fd: int) -> None:
        renaming.set()
        assert go_on.wait(30)
        sync_data(fd)

    monkeypatch.setattr(partial, "allocate", open_slowly)
    monkeypatch.setattr(partial, "sync_data", sync_slowly)
    monkeypatch.setattr(transfer, "_END_WAIT_S", 4.0)
    attempt = engine.begin(REPO, SMALL, NAME)
    assert opening.wait(30)
    assert renaming.wait(30)
    end, took_s = engine.stop(attempt)
    go_on.set()

    assert isinstance(end, TransferStopped)
    assert took_s < 7.5


@pytest.mark.slow
def test_a_write_error_that_a_running_sync_receives_is_not_lost_at_the_end_of_the_file(
    hub, engine, monkeypatch
) -> None:
    errors, sync_data = [OSError(errno.EIO, "Input/output error")], partial.sync_data

    def sync_late(fd: int) -> None:
        if errors:  # the system reports it once
            time.sleep(2)
            raise errors.pop()
        sync_data(fd)

    monkeypatch.setattr(partial, "sync_data", sync_late)
    monkeypatch.setattr(file_module, "_SYNC_BYTES", 1)
    monkeypatch.setattr(transfer, "_RECORD_S", 0.0)
    hub.set_speed(200_000)

    assert isinstance(engine.failure(REPO, SMALL), StorageError)
    assert not engine.target(REPO, SMALL).exists()

    monkeypatch.undo()
    hub.set_speed()
    engine.fetch(REPO, SMALL)
    assert engine.log.progress_of(2)[-1].received_bytes == 200_000, (
        "bytes that the system may have dropped were trusted"
    )


def test_a_transfer_that_finds_no_thread_fails_alone(hub, engine, monkeypatch) -> None:
    running, start = begin_slowly(engine), threading.Thread.start

    def starts(thread: threading.Thread) -> None:
        if thread.name == "gglib-transfer-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)

    assert "can't start new thread" in str(engine.failure(REPO, "small.gguf"))
    hub.set_speed()
    assert isinstance(engine.log.end_of(running), TransferFinished)


@pytest.mark.parametrize("job", ["look", "sync", "header"])
def test_a_job_that_finds_no_thread_starts_later_and_leaves_no_file_open(hub, engine, monkeypatch, job: str) -> None:
    refused, start, reader = threading.Event(), threading.Thread.start, PartialFile.reader
    opened: list[int] = []

    def starts(thread: threading.Thread) -> None:
        if thread.name == f"gglib-{job}" and not refused.is_set():
            del opened[:-1]  # that of the refused job remains
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    def reads(partial: PartialFile) -> int:
        fd = reader(partial)
        if not refused.is_set():
            opened.append(fd)
        return fd

    monkeypatch.setattr(threading.Thread, "start", starts)
    monkeypatch.setattr(PartialFile, "reader", reads)
    monkeypatch.setattr(file_module, "_SYNC_BYTES", 1)
    attempt = begin_slowly(engine)
    assert refused.wait(30)
    hub.set_speed()

    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    assert job == "look" or engine.target(REPO, NAME).stat().st_ino not in map(inode_of, opened)


def test_a_file_whose_rename_finds_no_thread_is_kept_and_left_closed(hub, engine, monkeypatch) -> None:
    start, record, opened = threading.Thread.start, PartialFile.record, list[int]()

    def starts(thread: threading.Thread) -> None:
        if thread.name == "gglib-finalize":
            raise RuntimeError("can't start new thread")
        start(thread)

    def records(partial: PartialFile) -> None:
        opened.append(partial._fd)
        record(partial)

    monkeypatch.setattr(PartialFile, "record", records)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starts)
        engine.failure(REPO, SMALL)
    part = disk.part_path(engine.target(REPO, SMALL))

    assert opened
    assert part.stat().st_ino not in map(inode_of, opened)
    assert isinstance(engine.fetch(REPO, SMALL), TransferFinished)
    assert engine.log.progress_of(2)[-1].received_bytes == 0


def test_a_check_that_finds_no_thread_ends_alone(engine, monkeypatch) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        engine.send(CheckFiles(7, (FileToCheck("model.gguf", 1, None, ""),)))

    engine.log.wait_for(lambda events: CheckEnded(7, ()) in events)
    assert isinstance(engine.fetch(REPO, "small.gguf"), TransferFinished)


def test_a_discard_that_finds_no_thread_still_deletes(hub, engine, monkeypatch) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine.stop(begin_slowly(engine))

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        engine.send(DiscardPartials((str(engine.target(REPO, NAME)),)))

    assert list(engine.target(REPO, NAME).parent.iterdir()) == []
    engine.close()


def inode_of(fd: int) -> int | None:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None  # it was closed
