"""A transfer driven only by events: no sockets, no clock, no threads except the digest's.

Hypothesis simulates connections, background jobs, other processes and the hub, in any order: late writes, requests
that are cut or revoked, wrong bytes, lost leases, a stop. After every step and at the end:

* no byte is written by two writers, or by a revoked request;
* the journal states only bytes that are in the file;
* a file taken over by another process is no longer touched: neither its bytes nor its journal change;
* a file is finished as verified only if its bytes on disk match the hub's digest, and fails only if it was wrong twice.
"""

import errno
import hashlib
import os
import queue
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.http_rules import origin_of
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine import digest, lease, pacing, pieces, transfer
from gglib_nb.engine import file as file_module
from gglib_nb.engine.connections import Pace, RequestEnded, Throttle
from gglib_nb.engine.disk import DiskSpace, journal_path, lease_path, part_path
from gglib_nb.engine.file import DownloadFile, Part, Request, Stage
from gglib_nb.engine.http import BusyError, LineError, RefusedError, WrongRangeError
from gglib_nb.engine.journal import Journal
from gglib_nb.engine.lease import Lease
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer import JobEnded, Shared, Transfer
from gglib_nb.errors import GglibError, IntegrityError, StorageError

PIECE = 4096
COUNTS = st.sampled_from([PIECE, 3 * PIECE]) | st.integers(1, 3 * PIECE)
URL = "http://cdn.example/file"
TIMEOUTS = Timeouts(give_up_s=1e9, stall_s=1e9, answer_s=1e9, lease_s=1e9)
ERRORS = (
    LineError("broken"),
    BusyError(503, None),
    RefusedError("HTTP 403", may_be_limit=True),
    WrongRangeError("another range"),
)


class NoThread:
    """The digest's thread, driven by the test."""

    def __init__(self, target, args, name, daemon) -> None:
        pass

    def start(self) -> None:
        pass


class FakeSession:
    endpoint = "http://hub.example"
    endpoints = (endpoint,)

    def address_of(self, repo_id, commit_sha):
        return partial(Asked, self.endpoint, repo_id, commit_sha)


class FakeWorker:
    """A connection of the test: it has a request until the test ends it."""

    answer_s = 0.01
    is_waiting = False

    def __init__(self) -> None:
        self.origin = origin_of(URL)
        self.pace = Pace()
        self.request: Request | None = None
        self.inbox = None
        self.is_closed = False

    def assign(self, request, session, inbox) -> None:
        self.request, self.inbox = request, inbox

    def close(self) -> None:
        self.is_closed = True


class FakePool:
    """Provides any number of connections."""

    def __init__(self) -> None:
        self.throttle = Throttle()
        self.workers: list[FakeWorker] = []

    def share(self, attempt, want):
        return min(want, 4)

    def acquire(self, url):
        self.workers.append(FakeWorker())
        return self.workers[-1]

    def release(self, worker) -> None:
        pass

    def discard(self, worker) -> None:
        worker.close()

    def forget(self, attempt) -> None:
        pass


def transfer_of(files, pool, report) -> Transfer:
    shared = Shared(
        session=FakeSession(),
        link_folders=(),
        pool=pool,
        disk_space=DiskSpace(),
        connectivity=SimpleNamespace(outage=None, probe=lambda now_s: None),
        network_wait_s=1e9,
        timeouts=TIMEOUTS,
    )
    return Transfer(StartTransfer(1, "owner/name", "c" * 40, tuple(files), force=False), shared, report)


class OtherProcess:
    """Another process that took over a file while we are alive: it resumes the recorded bytes and continues."""

    def __init__(self, file: DownloadFile, content: bytes) -> None:
        self.file = file
        self.lease = Lease(lease_path(file.path), 0.0)
        while self.lease.try_acquire() is not None:
            pass
        self.lease._lease_s = 1e9
        self.opened = PartialFile(
            file.path, file.identities, file.size_bytes, self.lease, queue.SimpleQueue(), threading.Event()
        )
        for start, gap_end in self.opened.pieces.missing(0, len(content))[:1]:
            end = min(gap_end, start + 2 * PIECE)
            self.opened.write(start, memoryview(content[start:end]))
            self.opened.pieces.set(start, end, pieces.WRITTEN)
        self.opened.record()
        self.bytes = self.read()

    def read(self) -> list[bytes]:
        """The state of its file in its journal."""
        state, data = Journal.read(journal_path(self.file.path)), part_path(self.file.path).read_bytes()
        assert state is not None
        return [data[start:end] for start, end in state.pieces.present()]

    def give_back(self) -> None:
        assert self.lease.is_ours()
        assert self.opened.is_in_place
        assert self.read() == self.bytes, "a process wrote to a file that is not its own"
        self.opened.close(is_ours=True)
        self.lease.release()


class TransferMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(
            st.sampled_from([9 * PIECE, 5 * PIECE + 17]) | st.integers(0, 9 * PIECE), min_size=1, max_size=2
        ),
        parts=st.integers(1, 2),
        is_stated=st.booleans(),
    )
    def begin(self, sizes, parts, is_stated) -> None:
        self.restore: list[Callable[[], None]] = []
        for module, name, value in (  # small pieces, and no thread
            (pieces, "PIECE_BYTES", PIECE),
            (pacing, "PIECE_BYTES", PIECE),
            (pacing, "_SHORT_REQUEST_BYTES", 2 * PIECE),
            (pacing, "LONGEST_REQUEST_BYTES", 4 * PIECE),
            (pacing, "SMALLEST_SPLIT_BYTES", 256),
            (pacing, "_SMALLEST_WINDOW_BYTES", 6 * PIECE),
            (file_module, "_SYNC_BYTES", PIECE),
            (transfer, "_END_WAIT_S", 0.0),
            (lease, "_SETTLE_S", 0.0),
            (digest, "threading", SimpleNamespace(Lock=threading.Lock, Thread=NoThread)),
        ):
            before = getattr(module, name)
            self.restore.append(lambda m=module, n=name, b=before: setattr(m, n, b))
            setattr(module, name, value)
        self.folder = Path(tempfile.mkdtemp())
        self.now_s = time.monotonic()
        self.contents: dict[str, bytes] = {}
        self.writers: dict[tuple[int, int], Request] = {}
        self.others: dict[DownloadFile, OtherProcess] = {}
        self.wrong_again: set[Part] = set()
        self.jobs: list = []
        self.error: Exception | None = None
        self.is_stopped = False
        files = []
        for number, size in enumerate(sizes):
            target = str(self.folder / f"{number}.bin")
            content = random.Random(number).randbytes(size)
            self.contents[target] = content
            cut = size // 2 if parts == 2 else size
            for part, (start, end) in enumerate([(0, cut), (cut, size)][:parts]):
                stated = hashlib.sha256(content[start:end]).hexdigest() if is_stated else None
                files.append(PlannedFile(f"{number}-{part}", end - start, stated, target, offset_bytes=start))
        self.pool = FakePool()
        self.reports: list = []
        self.transfer = transfer_of(files, self.pool, self.reports.append)
        self.transfer.start_job = self._keep_job
        for file in self.transfer.files:
            file.scan(is_replaced=False)
        self._advance()
        for _ in range(8):  # starts after checking, opening and resolving
            self._do_all_jobs()

    def _do_all_jobs(self) -> None:
        while self.jobs:
            self.a_job_is_done(0, True)

    def _keep_job(self, name, job) -> None:
        self.jobs.append((name, job))

    def _advance(self, do: Callable[[float], None] = lambda now_s: None) -> None:
        """The work of the transfer's thread between two events; an error ends it."""
        if self.error is not None or self.is_stopped:
            return
        try:
            do(self.now_s)
            while not self.transfer.inbox.empty():
                self.transfer.handle(self.transfer.inbox.get_nowait(), self.now_s)
            self.transfer.advance(self.now_s)
        except (GglibError, OSError) as error:
            self.error = error
            self.transfer.close()

    @property
    def is_running(self) -> bool:
        return self.error is None and not self.is_stopped and not self.transfer.is_done

    def _busy(self) -> list[FakeWorker]:
        return [one for one in self.pool.workers if one.request is not None]

    # The connections: closed ones notice it late.

    @precondition(lambda self: self._busy())
    @rule(which=st.integers(0, 7), count=COUNTS, is_wrong=st.sampled_from([False] * 3 + [True]))
    def a_connection_writes(self, which, count, is_wrong) -> None:
        busy = self._busy()
        request = busy[which % len(busy)].request
        content = self.contents[str(request.file.path)]
        at = request.position
        data = bytearray(content[at : at + count])
        if is_wrong and data:
            data[0] ^= 1
        request.write(memoryview(data))
        data[:] = bytes(len(data))  # a connection receives other bytes into the buffer
        if request.position > at:
            opened = id(request._opened)
            for offset in range(at, request.position):
                writer = self.writers.get((opened, offset))
                assert writer in (None, request) or writer._is_revoked or writer.end <= offset, (
                    "two writers of one byte"
                )
                self.writers[opened, offset] = request
            if is_wrong and request.part.is_refetched:
                self.wrong_again.add(request.part)

    @precondition(lambda self: self._busy())
    @rule(which=st.integers(0, 7), error=st.sampled_from([None, None, None, *ERRORS]))
    def a_connection_ends(self, which, error) -> None:
        busy = self._busy()
        worker = busy[which % len(busy)]
        request, worker.request = worker.request, None
        worker.inbox.put(RequestEnded(request, error))
        self._advance()

    # The background.

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 7), is_answered=st.sampled_from([True, True, True, False]))
    def a_job_is_done(self, which, is_answered) -> None:
        name, job = self.jobs.pop(which % len(self.jobs))
        if name == "check":  # which would wait for the other process
            self._given_back(job.args[1])
        event = self._answer(job, is_answered) if name == "resolve" else job()
        self.transfer.inbox.put(event)
        self._advance()

    @staticmethod
    def _answer(job, is_answered):
        name, file, version, *_, planned, _ = job.args
        answer = Remote(URL, planned.size_bytes, None) if is_answered else LineError("no answer")
        return JobEnded(name, file, version, answer)

    @rule(which=st.integers(0, 1), times=st.integers(1, 3))
    def the_digest_reads(self, which, times) -> None:
        file = self.transfer.files[which % len(self.transfer.files)]
        if file.opened is not None and file.stage is Stage.FETCHING:
            buffer = memoryview(bytearray(2 * PIECE))
            for _ in range(times):
                file.opened.hasher._hash_next(buffer)
        self._advance()

    @rule(seconds=st.sampled_from([0.1, 0.6, 6.0]))
    def time_passes(self, seconds) -> None:
        self.now_s += seconds
        self._advance(self.transfer.tick)

    # Other processes and users.

    @precondition(lambda self: self.is_running)
    @rule(which=st.integers(0, 1))
    def another_process_takes_a_file_over(self, which) -> None:
        file = self.transfer.files[which % len(self.transfer.files)]
        if file in self.others or file.check is None or not file.check.lease.is_held or file.size_bytes is None:
            return
        was_fetching, requests = file.stage is Stage.FETCHING and file.opened is not None, list(file.requests)
        self.others[file] = OtherProcess(file, self.contents[str(file.path)])
        self.time_passes(1.1)
        if was_fetching and self.is_running:
            assert file.stage is Stage.CHECKING, "a lost lease was not detected"
            assert not file.requests
            assert all(one._is_revoked for one in requests)

    def _given_back(self, file: DownloadFile) -> None:
        if (other := self.others.pop(file, None)) is not None:
            other.give_back()

    @precondition(lambda self: self.is_running)
    @rule(which=st.integers(0, 1))
    def the_partial_file_is_deleted(self, which) -> None:
        file = self.transfer.files[which % len(self.transfer.files)]
        if file not in self.others:
            part_path(file.path).unlink(missing_ok=True)
        self.time_passes(0.6)

    @precondition(lambda self: self.is_running)
    @rule(which=st.integers(0, 1), number=st.integers(0, 1))
    def a_server_sends_only_the_whole_of_a_part(self, which, number) -> None:
        file = self.transfer.files[which % len(self.transfer.files)]
        part = file.parts[number % len(file.parts)]
        part.is_whole = True
        self._advance(lambda now_s: self.transfer._connections.abandon_part(part, now_s))

    @precondition(lambda self: self.is_running)
    @rule(is_meant=st.sampled_from([False] * 7 + [True]))
    def it_is_stopped(self, is_meant) -> None:
        if is_meant:
            self.is_stopped = True
            self.transfer.close()

    # Invariants.

    @invariant()
    def only_what_was_written_is_trusted(self) -> None:
        for file in self.transfer.files:
            if file.opened is None or file.stage is Stage.DONE:
                continue
            left_end = vars(file.opened).setdefault("first_left_end", file.opened.left_end)
            assert sum(file.pieces._bytes) == file.pieces.end
            taken = sum(b - a for a, b, state in file.pieces.runs() if state == pieces.TAKEN)
            running = sum((request.end or 0) - request.position for request in file.requests)
            assert running <= taken or not file.requests
            for start, end in file.pieces.present():
                assert all(
                    (id(file.opened), offset) in self.writers or offset < left_end for offset in (start, end - 1)
                )

    @invariant()
    def a_request_is_taken_once(self) -> None:
        for file in self.transfer.files:
            ranges = sorted((request.start, request.end) for request in file.requests)
            assert all(one[1] <= two[0] for one, two in pairwise(ranges))

    @invariant()
    def what_is_finished_is_right(self) -> None:
        for file in self.transfer.files:
            if file.stage is Stage.DONE:
                data = file.path.read_bytes()
                assert file.stored.sha256 == hashlib.sha256(data).hexdigest()
                if file.stored.is_verified:
                    assert data == self.contents[str(file.path)]

    def play_to_the_end(self) -> None:
        """No more faults from here on: the transfer must end with the right files."""
        for file in list(self.others):
            self._given_back(file)
        for _ in range(300):
            if not self.is_running:
                break
            for _ in self._busy():
                self.a_connection_writes(0, 10 * PIECE, False)
                self.a_connection_ends(0, None)
            self._do_all_jobs()
            for number in range(len(self.transfer.files)):
                self.the_digest_reads(number, 9)
            self.time_passes(6.0)
        assert not self.is_running, [file.stage for file in self.transfer.files]
        if self.error is not None:
            assert isinstance(self.error, IntegrityError), repr(self.error)
            assert self.wrong_again, "a part was reported wrong although it was wrong at most once"
        self.what_is_finished_is_right()

    def teardown(self) -> None:
        if not hasattr(self, "transfer"):
            return
        try:
            self.play_to_the_end()
            self.look_at_what_is_left()
        finally:
            self.clean_up()

    def clean_up(self) -> None:
        for restore in self.restore:
            restore()
        shutil.rmtree(self.folder, ignore_errors=True)

    def look_at_what_is_left(self) -> None:
        self.transfer.close()
        for file in self.transfer.files:
            state = Journal.read(journal_path(file.path))
            if state is not None and part_path(file.path).exists():
                assert part_path(file.path).stat().st_size >= max((end for _, end in state.pieces.present()), default=0)


TestTransferByEvents = TransferMachine.TestCase
TestTransferByEvents.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


# Cases that Hypothesis may not find in every run.


def wrong_bytes(machine: TransferMachine) -> None:
    machine.a_connection_writes(0, PIECE, True)


def late_wrong_bytes_of_a_request_that_was_revoked(machine: TransferMachine) -> None:
    machine.a_connection_writes(0, PIECE, False)
    machine.the_partial_file_is_deleted(0)
    machine.a_connection_writes(0, PIECE, True)


def wrong_bytes_before_and_after_another_process_took_the_file_over(machine: TransferMachine) -> None:
    machine.a_connection_writes(0, PIECE, True)
    machine.time_passes(0.6)
    machine.another_process_takes_a_file_over(0)
    machine.a_connection_writes(0, PIECE, True)


@pytest.mark.parametrize(
    "play",
    [
        wrong_bytes,
        late_wrong_bytes_of_a_request_that_was_revoked,
        wrong_bytes_before_and_after_another_process_took_the_file_over,
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_the_file_is_right_after_the_faults(play: Callable[[TransferMachine], None], parts: int) -> None:
    machine = TransferMachine()
    machine.begin(sizes=[9 * PIECE], parts=parts, is_stated=True)
    try:
        play(machine)
    finally:
        machine.teardown()

    assert machine.error is None
    assert [file.stage for file in machine.transfer.files] == [Stage.DONE]


def test_a_write_error_that_a_sync_of_earlier_bytes_receives_is_not_lost(monkeypatch) -> None:
    """The system reports an error once: here to the sync that runs while the bytes are found wrong and fetched again."""

    def refuses(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    machine = TransferMachine()
    machine.begin(sizes=[9 * PIECE], parts=1, is_stated=True)
    file = machine.transfer.files[0]
    try:
        machine.a_connection_writes(0, PIECE, True)
        machine.time_passes(6.0)
        sync = next(job for name, job in machine.jobs if name == "sync")
        version = file.version
        while machine._busy():
            machine.a_connection_writes(0, 9 * PIECE, False)
            machine.a_connection_ends(0, None)
        machine.the_digest_reads(0, 9)
        assert file.version > version

        monkeypatch.setattr("gglib_nb.engine.partial.sync_data", refuses)
        machine.transfer.inbox.put(sync())
        machine._advance()

        assert isinstance(machine.error, StorageError)
    finally:
        machine.transfer.close()
        machine.clean_up()


def test_a_sync_for_which_there_are_too_many_open_files_leaves_none_open(monkeypatch) -> None:
    machine = TransferMachine()
    machine.begin(sizes=[9 * PIECE], parts=1, is_stated=True)
    file = machine.transfer.files[0]
    opened, dup = list[int](), os.dup

    def refuses_the_journal(fd: int) -> int:
        if fd == file.opened.journal.fd:
            raise OSError(errno.EMFILE, "Too many open files")
        opened.append(dup(fd))
        return opened[-1]

    try:
        machine.a_connection_writes(0, PIECE, True)
        file.settle()
        monkeypatch.setattr(os, "dup", refuses_the_journal)
        with pytest.raises(StorageError):
            machine.transfer._record(file, machine.now_s + 6.0)
        monkeypatch.undo()

        assert len(opened) == 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(opened[0])
    finally:
        machine.transfer.close()
        machine.clean_up()


def test_a_check_that_ends_after_its_transfer_keeps_the_file_from_other_processes_until_then(
    tmp_path, monkeypatch
) -> None:
    """A disk that hangs answers late: the check would replace the partial file of the process that took the file over."""
    monkeypatch.setattr(transfer, "_END_WAIT_S", 0.0)
    target, started, owners = tmp_path / "model.bin", [], []
    one = transfer_of([PlannedFile("model.bin", 9, "a" * 64, str(target))], FakePool(), lambda _: None)
    other = Lease(lease_path(target), 60)

    def hangs(*_args, **_options) -> None:
        one.close()
        owners.append(other.try_acquire())

    monkeypatch.setattr(one, "start_job", lambda _name, job: started.append(job))
    monkeypatch.setattr(DiskSpace, "reserve", hangs)
    for file in one.files:
        file.scan(is_replaced=False)
    one.advance(0.0)
    event = started[0]()

    assert [owner.owner for owner in owners] == [one.files[0].check.lease.owner]
    transfer.release(event)
    assert list(tmp_path.iterdir()) == []
    assert other.try_acquire() is None
    other.release()
