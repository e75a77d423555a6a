"""The engine of a manager, replaced by another one."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import DownloadManagerConfig
from gglib_nb.engine import protocol as wire
from gglib_nb.errors import GglibError
from gglib_nb.manager.engine import Engine, FileCheck


class Silent:
    """An engine that answers nothing."""

    pid = None

    def __init__(self) -> None:
        self.sent: list[object] = []

    def start(self) -> None:
        pass

    def send(self, command: wire.EngineCommand) -> None:
        self.sent.append(command)

    def close(self, timeout_s: float = 2.0) -> None:
        pass

    def abandon(self) -> None:
        pass


def test_no_check_is_left_with_an_engine_that_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DownloadManagerConfig(tmp_path / "models", state_directory=tmp_path / "state")
    engine, old, new = Engine(config, lambda: "test", lambda _event: None), Silent(), Silent()
    engine.change(None, lambda *_: old)
    check, fail_checks = engine.check([]), engine._fail_checks

    def fail_checks_and_begin_another(error: GglibError) -> None:
        fail_checks(error)
        engine.check([])

    monkeypatch.setattr(engine, "_fail_checks", fail_checks_and_begin_another)
    engine.change(None, lambda *_: new)

    assert isinstance(check.answer.exception(0), GglibError)
    assert [type(command) for command in new.sent if isinstance(command, wire.CheckFiles)] == [wire.CheckFiles]


def test_a_check_that_no_host_of_a_cluster_can_run_does_not_blame_a_download_process(tmp_path: Path) -> None:
    config = DownloadManagerConfig(tmp_path / "models", state_directory=tmp_path / "state")
    engine, report = Engine(config, lambda: "test", lambda _event: None), list[Callable[[wire.Report], None]]()

    def cluster(_configure: wire.Configure, on_event: Callable[[wire.Report], None]) -> Silent:
        report.append(on_event)
        return Silent()

    engine.change("dask://scheduler", cluster)
    check = engine.check([wire.FileToCheck("/models/m.gguf", 1, None, "")])
    report[0](wire.CheckEnded(1, ()))

    assert "worker" in str(check.answer.exception(0))


def test_a_check_of_the_new_engine_does_not_fail_with_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DownloadManagerConfig(tmp_path / "models", state_directory=tmp_path / "state")
    engine, checks = Engine(config, lambda: "test", lambda _event: None), list[FileCheck]()
    fail_checks, beginning = engine._fail_checks, threading.Thread(target=lambda: checks.append(engine.check([])))

    def begin_another_and_fail_checks(error: GglibError) -> None:
        beginning.start()
        beginning.join(0.2)
        fail_checks(error)

    monkeypatch.setattr(engine, "_fail_checks", begin_another_and_fail_checks)
    engine.change(None, lambda *_: Silent())
    beginning.join(60)

    assert not checks[0].answer.done()
