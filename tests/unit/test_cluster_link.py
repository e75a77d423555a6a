"""Both ends of a host's link without a cluster: lost messages are repeated, nothing is executed twice, paths stay inside."""

import asyncio
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed", reason="the extra `dask` is not installed")

from distributed.core import Status

from gglib_nb.cluster import dask_engine, host_link, worker_side
from gglib_nb.cluster.dask_engine import DaskEngine, _refusal_of
from gglib_nb.cluster.dispatcher import ClusterHost
from gglib_nb.cluster.host_link import HostLink, HostLost
from gglib_nb.cluster.worker_side import CLOSE, HostEngine, existing_folder_id, folder_id, package_version, packed
from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.reports import EngineLost, EngineSilent, Progress, TransferFailed, TransferStopped
from gglib_nb.engine.protocol import Configure, StartTransfer, decode_command, decode_report, encode
from gglib_nb.errors import InvalidConfigError, RequestError

KEY = "gglib_nb-link"
HOST = ClusterHost("host", "shared", "/models")
WAIT_S = 60


class FakeWorker:
    """The parts of a Dask worker that the host's end uses."""

    def __init__(self) -> None:
        self.handlers = {}
        self.data = {KEY: True}
        self.status = Status.running
        self.logged = []

    def log_event(self, topic, message) -> None:
        self.logged.append((topic, message))


@pytest.fixture
def worker(monkeypatch, tmp_path) -> FakeWorker:
    monkeypatch.setenv("GGLIB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("GGLIB_MODELS_DIR", raising=False)
    return FakeWorker()


@pytest.fixture
def engine(worker, tmp_path):
    engine = HostEngine(worker, KEY, tmp_path / "models", "")
    yield engine
    engine.exchange(10_000, 0, packed(CLOSE + b"\n"))


def start(target: Path | str, number: int = 1) -> bytes:
    return encode(StartTransfer(number, "o/r", "c" * 40, (PlannedFile("m.gguf", 10, None, str(target)),), False))


def wait_until(condition) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "{models}/../o/r/m.gguf", "{models}/o/r/../../../m.gguf", "{models}/m"]
)
def test_the_worker_refuses_a_target_outside_its_models_folder(engine, tmp_path, target) -> None:
    answer = engine.exchange(0, 0, packed(start(target.format(models=tmp_path / "models"))))

    ((number, line),) = answer["reports"]
    failed = decode_report(line.encode())
    assert number == 1
    assert isinstance(failed, TransferFailed)
    assert isinstance(failed.error, RequestError)


def test_a_target_is_stored_in_the_workers_own_folder(worker, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GGLIB_MODELS_DIR", str(tmp_path / "own"))
    engine = HostEngine(worker, KEY, tmp_path / "kernel", "")

    assert engine._target(str(tmp_path / "kernel/o/r/sub/m.gguf")) == str(tmp_path / "own/o/r/sub/m.gguf")
    engine.exchange(0, 0, packed(CLOSE + b"\n"))


def test_the_kernels_own_disk_need_not_be_mounted_on_a_host(engine, tmp_path) -> None:
    file = PlannedFile("m.gguf", 10, None, str(tmp_path / "models/o/r/m.gguf"))
    command = StartTransfer(1, "o/r", "c" * 40, (file,), False, known_folders=("/of/the/kernel/o",))

    assert engine._placed_here(command).known_folders == ()


def test_settings_that_a_worker_cannot_use_are_its_refusal(worker, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GGLIB_MAX_CONNECTIONS", "many")

    with pytest.raises(InvalidConfigError, match="GGLIB_MAX_CONNECTIONS") as raised:
        asyncio.run(worker_side.introduce(str(tmp_path), "", worker))
    assert "GGLIB_MAX_CONNECTIONS" in _refusal_of("tcp://w:1", raised.value)


def test_a_repeated_batch_is_executed_once(engine) -> None:
    batch = packed(start("/outside"))

    engine.exchange(0, 0, batch)
    answer = engine.exchange(0, 0, batch)

    assert len(answer["reports"]) == 1


def test_a_report_is_kept_until_it_is_acknowledged(engine) -> None:
    engine.exchange(0, 0, packed(start("/outside", 1) + start("/outside", 2)))

    assert [number for number, _ in engine.exchange(1, 1, b"")["reports"]] == [2]
    assert engine.exchange(2, 2, b"")["reports"] == []


def test_a_host_reports_progress_a_few_times_a_second_and_always_the_last(worker, engine, monkeypatch) -> None:
    monkeypatch.setattr(worker_side, "_PROGRESS_S", 3600.0)

    def reported() -> list[Progress]:
        return [decode_report(message["line"].encode()) for _, message in worker.logged]

    first, last = Progress(1, 0.0, (), 0), Progress(1, 0.2, (), 9, is_finalizing=True)

    for progress in (first, Progress(1, 0.1, (), 5), Progress(2, 0.1, (), 0), last):
        engine._report(progress)

    assert reported() == [first, Progress(2, 0.1, (), 0), last]

    monkeypatch.setattr(worker_side, "_PROGRESS_S", 0.1)
    wait_until(lambda: engine._report(Progress(3, 0.3, (), 9)) or len(reported()) == 5)


def test_the_engine_ends_when_its_client_releases_it(worker, engine) -> None:
    del worker.data[KEY]

    assert engine.closed.wait(WAIT_S)
    assert engine.exchange(0, 0, b"") is None


def test_the_engine_ends_with_its_client_even_if_its_disk_hangs(worker, tmp_path, monkeypatch) -> None:
    hangs, may_answer = threading.Event(), threading.Event()
    monkeypatch.setattr(worker_side, "free_bytes", lambda _folder: hangs.set() or may_answer.wait(3 * WAIT_S))
    engine = HostEngine(worker, KEY, tmp_path / "models", "")
    assert hangs.wait(WAIT_S)

    del worker.data[KEY]

    assert engine.closed.wait(WAIT_S)
    may_answer.set()


def test_the_engine_ends_with_its_worker(worker, engine) -> None:
    worker.status = Status.closing

    assert engine.closed.wait(WAIT_S)


class FakeClient:
    """A client whose topics deliver nothing, as if every event were lost; the worker is called directly."""

    def __init__(self, handler, data=None) -> None:
        self.scheduler = SimpleNamespace(broadcast=None)
        self._data = {} if data is None else data  # of the worker
        self._handler = handler
        self.failures = 0

    def subscribe_topic(self, topic, handler) -> None:
        self.take_event = handler

    def unsubscribe_topic(self, topic) -> None:
        pass

    def scatter(self, data, workers) -> dict:
        self._data.update(data)
        return dict(data)

    def sync(self, _broadcast, *, msg, workers, on_error, callback_timeout) -> dict:
        if self.failures:
            self.failures -= 1
            raise TimeoutError
        fields = {name: value for name, value in msg.items() if name != "op"}
        return {worker: self._handler(**fields) for worker in workers}


@pytest.mark.parametrize("failures", [0, 2])
def test_missing_reports_are_requested_and_a_failed_exchange_is_repeated(worker, tmp_path, failures) -> None:
    client = FakeClient(worker_side._handler(worker), worker.data)
    client.failures = failures
    heard, lost = [], []
    link = HostLink(
        client,
        "tcp://worker",
        HOST,
        tmp_path / "models",
        lambda _link, event: (lost if isinstance(event, HostLost) else heard).append(event),
    )

    link.send(Configure("http://hub", "secret", None, 1, (), "test"))
    link._lines.put(start("/outside"))
    wait_until(lambda: any(isinstance(event, TransferFailed) for event in heard))
    link.begin_close()
    link.wait_closed(WAIT_S)

    assert [type(event) for event in heard] == [TransferFailed]
    assert lost == []


def test_a_report_is_taken_from_an_event_as_dask_sends_it(worker, tmp_path) -> None:
    client, heard = FakeClient(worker_side._handler(worker), worker.data), []
    link = HostLink(client, "tcp://worker", HOST, tmp_path, lambda _link, event: heard.append(event))
    wait_until(lambda: link._name in worker.data)

    client.take_event((5.0, {"number": 1, "line": encode(TransferStopped(7)).decode(), "worker": "tcp://worker"}))

    assert heard == [TransferStopped(7)]
    link.begin_close()
    link.wait_closed(WAIT_S)


def test_a_link_ends_as_soon_as_its_last_command_is_delivered(worker, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(host_link, "_EXCHANGE_S", 3600.0)
    is_opening, may_open, handler = threading.Event(), threading.Event(), worker_side._handler(worker)
    client = FakeClient(lambda **fields: is_opening.set() or (may_open.wait(WAIT_S) and handler(**fields)), worker.data)
    link = HostLink(client, "tcp://worker", HOST, tmp_path, lambda *_: None)
    assert is_opening.wait(WAIT_S)

    link.begin_close()
    may_open.set()
    link.wait_closed(WAIT_S)

    assert not link._thread.is_alive()


def test_free_space_that_a_host_has_not_measured_yet_is_as_introduced(worker, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(worker_side, "_LOOK_S", WAIT_S)
    host, client = ClusterHost("host", "shared", "/models", 7), FakeClient(worker_side._handler(worker), worker.data)
    link = HostLink(client, "tcp://worker", host, tmp_path, lambda *_: None)
    started_s = link.heard_s

    wait_until(lambda: link.heard_s > started_s)

    link.begin_close()
    link.wait_closed(WAIT_S)
    assert host.free_bytes == 7


def test_a_host_is_lost_if_its_worker_does_not_know_the_link(worker, tmp_path) -> None:
    lost = []
    link = HostLink(
        FakeClient(lambda **_: None),
        "tcp://worker",
        HOST,
        tmp_path,
        lambda _link, event: lost.append(event),
    )

    link.wait_closed(WAIT_S)
    link.lose("once more")

    assert lost == [HostLost("its worker dropped it")]


def test_commands_are_not_sent_as_readable_text() -> None:
    line = encode(Configure("http://hub", "hf_a_token_that_is_secret", None, 1, (), "test"))

    assert b"hf_a_token" in line
    assert b"hf_a_token" not in packed(line)


@pytest.mark.parametrize("report", [EngineLost("it was ended by SIGKILL"), EngineSilent(3.5), TransferStopped(4)])
def test_a_report_is_unchanged_after_encoding_and_decoding(report) -> None:
    assert decode_report(encode(report)) == report


def test_a_folder_keeps_its_first_name(tmp_path) -> None:
    assert existing_folder_id(tmp_path / "models") is None

    name = folder_id(tmp_path / "models")

    assert name is not None
    assert folder_id(tmp_path / "models") == existing_folder_id(tmp_path / "models") == name
    assert folder_id(tmp_path / "other") != name
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".gglib-nb-folder"]


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"version": "0.0.1"}, "has gglib_nb 0.0.1 and this kernel"),
        (ModuleNotFoundError("No module named 'gglib_nb'", name="gglib_nb"), "has no gglib_nb: install"),
        (AttributeError("introduce"), "has another version of gglib_nb"),
        (OSError("gone"), "cannot be used (OSError: gone)"),
        ({"version": package_version()}, ""),
    ],
)
def test_an_unusable_worker_is_refused_in_one_line(said, part) -> None:
    refusal = _refusal_of("tcp://w:1", said)

    assert part in refusal if part else refusal == ""
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("own", "inherited", "expected"),
    [("", "", "/kernel"), ("/env", "/env", "/kernel"), ("/own", "/env", "/own"), ("/own", "", "/own")],
)
def test_a_folder_inherited_from_the_kernels_environment_is_not_the_workers_own(
    monkeypatch, own, inherited, expected
) -> None:
    monkeypatch.setenv("GGLIB_MODELS_DIR", own)

    assert worker_side._models_directory("/kernel", inherited) == Path(expected)


def test_a_client_that_connects_after_the_engine_was_closed_is_closed_too(tmp_path) -> None:
    is_connecting, may_connect, closed = threading.Event(), threading.Event(), threading.Event()

    def connect():
        is_connecting.set()
        may_connect.wait(WAIT_S)
        return SimpleNamespace(status="running", close=closed.set), True

    configure = Configure("http://hub", None, None, 1, (), "test")
    engine = DaskEngine(
        configure, lambda _report: None, connect=connect, models_directory=tmp_path, can_come_back=False
    )
    engine.start()
    assert is_connecting.wait(WAIT_S)

    engine.close(0.1)
    may_connect.set()

    assert closed.wait(WAIT_S)


def test_a_worker_that_does_not_answer_holds_up_no_other(monkeypatch, tmp_path) -> None:
    linked, may_answer = threading.Event(), threading.Event()

    def run(_function, *_arguments, workers, on_error):
        if "tcp://blocked" in workers:
            may_answer.wait(WAIT_S)
        host = {"models_directory": "/models", "folder_id": "x", "free_bytes": None}
        return {worker: {"version": package_version(), "host": {**host, "name": worker}} for worker in workers}

    workers = {"tcp://blocked": {}, "tcp://free": {}}
    client = SimpleNamespace(status="running", run=run, scheduler_info=lambda n_workers: {"workers": workers})
    monkeypatch.setattr(
        dask_engine, "HostLink", lambda _client, worker, host, *_, **__: linked.set() or a_link(worker, host)
    )
    configure = Configure("http://hub", None, None, 1, (), "test")
    engine = DaskEngine(
        configure,
        lambda _report: None,
        connect=lambda: (client, False),
        models_directory=tmp_path,
        can_come_back=False,
    )
    engine.start()

    assert linked.wait(WAIT_S / 2)
    may_answer.set()
    engine.close(0.1)


def test_a_worker_that_no_thread_could_ask_is_asked_again(monkeypatch, tmp_path) -> None:
    asked = threading.Event()

    def run(*_arguments, workers, on_error):
        asked.set()
        return {}

    def cannot_start(**_options) -> None:
        raise RuntimeError("can't start new thread")

    client = SimpleNamespace(status="running", run=run, scheduler_info=lambda n_workers: {"workers": {"tcp://a": {}}})
    engine = DaskEngine(
        Configure("http://hub", None, None, 1, (), "test"),
        lambda _report: None,
        connect=lambda: (client, False),
        models_directory=tmp_path,
        can_come_back=False,
    )
    with monkeypatch.context() as patched:
        patched.setattr(dask_engine.threading, "Thread", cannot_start)
        with pytest.raises(RuntimeError):
            engine._look()

    engine._look()

    assert asked.wait(WAIT_S)
    engine.close(0.1)


def test_of_a_large_cluster_few_workers_are_asked_at_once_and_few_idle_hosts_have_an_open_link(tmp_path) -> None:
    may_answer = threading.Event()
    client = FakeClient(lambda **_: {"reports": [], "free_bytes": None})
    client.status, workers = "running", {f"tcp://{number:03}": {} for number in range(100)}
    client.scheduler_info = lambda n_workers: {"workers": workers}

    def run(_function, *_arguments, workers, on_error):
        assert may_answer.wait(WAIT_S)
        host = {"name": workers[0], "models_directory": str(tmp_path), "folder_id": workers[0], "free_bytes": None}
        return {workers[0]: {"version": package_version(), "host": host}}

    client.run = run
    engine = DaskEngine(
        Configure("http://hub", None, None, 1, (), "test"),
        lambda _report: None,
        connect=lambda: (client, False),
        models_directory=tmp_path,
        can_come_back=False,
    )
    for _ in range(2):
        engine._look()
    assert len(engine._workers) == dask_engine._MOST_AT_ONCE

    may_answer.set()
    wait_until(lambda: engine._look() or len(engine._links) == len(workers))
    opened = [link for link in engine._links.values() if link._thread.ident is not None]
    assert len(opened) == dask_engine._MOST_AT_ONCE

    for number in range(1, dask_engine._MOST_AT_ONCE + 2):
        engine.send(decode_command(start(tmp_path / "o/r/m.gguf", number)))
    opened = [link for link in engine._links.values() if link._thread.ident is not None]
    assert len(opened) > dask_engine._MOST_AT_ONCE
    engine.close(WAIT_S)


def test_workers_that_never_answer_keep_the_others_from_being_asked_for_a_minute_only(monkeypatch, tmp_path) -> None:
    may_answer, now_s = threading.Event(), [1_000.0]
    workers = {f"tcp://{number:03}": {} for number in range(100)}
    client = SimpleNamespace(
        status="running",
        run=lambda *_, **__: may_answer.wait(WAIT_S) and {},
        scheduler_info=lambda n_workers: {"workers": workers},
    )
    monkeypatch.setattr(dask_engine, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    engine = DaskEngine(
        Configure("http://hub", None, None, 1, (), "test"),
        lambda _report: None,
        connect=lambda: (client, False),
        models_directory=tmp_path,
        can_come_back=False,
    )
    for passed_s, asked in ((0, 32), (59, 32), (1, 64), (59, 64), (1, 96)):
        now_s[0] += passed_s
        engine._look()
        assert len(engine._workers) == asked

    engine.close(0.1)
    may_answer.set()


def a_link(worker: str, host: ClusterHost) -> SimpleNamespace:
    nothing = lambda *_: None  # noqa: E731
    return SimpleNamespace(
        worker=worker,
        host=host,
        heard_s=time.monotonic(),
        send=nothing,
        lose=nothing,
        begin_close=nothing,
        wait_closed=nothing,
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "place", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("nothing")]
)
def test_what_is_no_file_gives_a_folder_no_name_and_blocks_nothing(tmp_path, place) -> None:
    place(tmp_path / ".gglib-nb-folder")

    assert folder_id(tmp_path) is existing_folder_id(tmp_path) is None


def test_an_engine_that_is_closed_while_it_looks_for_workers_starts_none(tmp_path) -> None:
    started = []

    def scheduler_info(n_workers):
        engine.close(0.1)
        return {"workers": {}}

    client = SimpleNamespace(
        status="running", scheduler_info=scheduler_info, submit=lambda *_, key: started.append(key)
    )
    engine = DaskEngine(
        Configure("http://hub", None, None, 1, (), "test"),
        lambda _report: None,
        connect=lambda: (client, False),
        models_directory=tmp_path,
        can_come_back=False,
    )
    file = PlannedFile("m.gguf", 10, None, str(tmp_path / "o/r/m.gguf"))
    engine._dispatcher.take(StartTransfer(1, "o/r", "c" * 40, (file,), False))

    engine._look()

    assert started == []
