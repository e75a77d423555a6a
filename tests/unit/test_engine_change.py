"""The engine of a manager, replaced by another one."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import DownloadManagerConfig
from gglib_nb.domain.reports import EngineLost
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


@pytest.mark.parametrize("report", [wire.CheckEnded(1, ()), EngineLost("killed")])
def test_a_check_ends_while_a_setting_waits_for_the_engine_that_reports_it(tmp_path: Path, report: wire.Report) -> None:
    config = DownloadManagerConfig(tmp_path / "models", state_directory=tmp_path / "state")
    engine, is_sending, may_take = (
        Engine(config, lambda: "t", lambda _event: None),
        threading.Event(),
        threading.Event(),
    )
    report_to = list[Callable[[wire.Report], None]]()

    class Reporting(Silent):
        """An engine that takes no command while it reports, as that of a cluster."""

        def send(self, command: wire.EngineCommand) -> None:
            if isinstance(command, wire.Configure) and command.max_connections == 3:
                is_sending.set()
                may_take.wait(20)

    def make(_configure: wire.Configure, on_event: Callable[[wire.Report], None]) -> Reporting:
        report_to.append(on_event)
        return Reporting()

    engine.change(None, make)
    check = engine.check([])
    setting = threading.Thread(target=engine.configure, kwargs={"max_connections": 3})
    setting.start()
    assert is_sending.wait(20)

    reporting = threading.Thread(target=report_to[0], args=(report,), daemon=True)
    reporting.start()
    reporting.join(5)

    has_ended = not reporting.is_alive()
    may_take.set()
    setting.join()
    assert has_ended
    assert check.answer.done()
