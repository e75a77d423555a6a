"""Events to a kernel that reads slowly or not at all."""

import contextlib
import os
import queue
import threading
import time
from typing import cast

import pytest

from gglib_nb.domain.reports import Progress, TransferFailed, TransferStopped
from gglib_nb.engine.main import Engine, PipeOutbox
from gglib_nb.engine.protocol import CheckEnded, CheckFiles, CheckProgress, Ready, decode_report
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import NetworkError, StorageError


def progress(attempt: int, received_bytes: int) -> Progress:
    return Progress(attempt, 0.0, (), received_bytes)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def read_until(reader: int, count: int) -> list:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(reader, 1 << 16)
    return [decode_report(line) for line in data.splitlines()]


def fill(writer: int) -> int:
    """Write until the pipe is full; returns the number of bytes."""
    os.set_blocking(writer, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    return filled


def test_events_are_written_in_order(pipe) -> None:
    reader, writer = pipe
    outbox = PipeOutbox(writer)

    outbox.post(Ready(7))
    outbox.post(TransferStopped(1))
    outbox.post(TransferFailed(2, NetworkError("The line was cut."), True))

    assert [type(one) for one in read_until(reader, 3)] == [Ready, TransferStopped, TransferFailed]


def test_a_slow_reader_gets_the_latest_progress_and_every_end(pipe) -> None:
    reader, writer = pipe
    filled = fill(writer)
    outbox = PipeOutbox(writer)
    outbox.post(Ready(7))

    for received in range(1_000):
        outbox.post(progress(1, received))
        outbox.post(progress(2, received))
    outbox.post(TransferStopped(1))

    left = filled
    while left:
        left -= len(os.read(reader, left))
    events = read_until(reader, 4)
    assert events[0] == Ready(7)
    assert progress(1, 999) in events
    assert events.index(progress(1, 999)) < events.index(TransferStopped(1))
    assert progress(2, 999) in events
    assert len(events) == 4


def test_the_progress_of_a_check_is_not_mixed_up_with_an_attempts(pipe) -> None:
    reader, writer = pipe
    filled = fill(writer)
    outbox = PipeOutbox(writer)
    outbox.post(Ready(7))

    outbox.post(progress(1, 5))
    for done in range(100):
        outbox.post(CheckProgress(1, 0, done))
    outbox.post(CheckEnded(1, ()))

    left = filled
    while left:
        left -= len(os.read(reader, left))
    assert read_until(reader, 4) == [Ready(7), progress(1, 5), CheckProgress(1, 0, 99), CheckEnded(1, ())]


def test_a_closed_pipe_is_detected(pipe) -> None:
    reader, writer = pipe
    os.close(reader)
    outbox = PipeOutbox(writer)

    outbox.post(Ready(7))

    deadline_s = time.monotonic() + 30
    while not outbox.is_lost and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert outbox.is_lost


def test_text_that_cannot_be_encoded_ends_nothing(pipe) -> None:
    """Such as a name in the models folder that is not UTF-8."""
    reader, writer = pipe
    outbox = PipeOutbox(writer)

    outbox.post(TransferFailed(1, StorageError("mod\udce8le.gguf cannot be written."), False))
    outbox.post(TransferStopped(2))

    failed, stopped = read_until(reader, 2)
    assert str(failed.error) == "mod?le.gguf cannot be written."
    assert stopped == TransferStopped(2)


def test_an_outbox_that_ends_by_an_error_is_lost(pipe, monkeypatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    outbox = PipeOutbox(pipe[1])

    outbox.post(cast(Ready, object()))

    assert ended.wait(60)
    assert outbox.is_lost


def test_an_engine_keeps_nothing_of_checks_that_have_ended() -> None:
    reports = queue.SimpleQueue()
    engine = Engine(reports.put, Timeouts())
    for number in range(3):
        engine.handle(CheckFiles(number, ()))
        assert reports.get(timeout=60) == CheckEnded(number, ())

    assert list(engine._checks) == [2]
