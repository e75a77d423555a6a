"""Engines for tests: in this process with real sockets and files, or as the real process; events are recorded and awaited."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.domain.reports import Progress, StopTransfer, TransferFailed, TransferFinished, TransferStopped
from gglib_nb.engine.client import EngineClient
from gglib_nb.engine.main import Engine as EngineLoop
from gglib_nb.engine.protocol import Command, Configure, Report, StartTransfer
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import GglibError
from tests.support.faulty_hub import FaultyHub

# Without a fault of the line, a slow answer means a busy machine: such tests must not take it for a stall.
PATIENT = Timeouts(
    connect_s=30,
    answer_s=30,
    stall_s=30,
    first_delay_s=0.02,
    longest_delay_s=0.1,
    give_up_s=60,
    lease_s=1.5,
)
# For failures that end only when the engine gives up.
IMPATIENT = replace(PATIENT, give_up_s=0.5)
# For silent lines: a connection is soon replaced, and the download still does not fail.
HASTY = replace(PATIENT, connect_s=2, answer_s=0.8, stall_s=0.4)
_Found = TypeVar("_Found")
ENDS = (TransferFinished, TransferFailed, TransferStopped)


def configured(hub: FaultyHub, **changes: Any) -> Configure:
    fields: dict[str, Any] = {
        "endpoint": hub.url,
        "token": None,
        "bandwidth_limit_bytes_per_second": None,
        "max_connections": 16,
        "link_folders": (),
        "user_agent": "gglib-nb/test",
    }
    return Configure(**fields | changes)


def planned(
    hub: FaultyHub, repo_id: str, *paths: str, folder: Path, kind: str = "shard", **changes: Any
) -> tuple[PlannedFile, ...]:
    """The files as a listing would plan them, at their usual paths below `folder`."""
    commit = hub.repositories[repo_id].commit("main")
    assert commit is not None
    plain = [
        PlannedFile(
            path,
            commit.files[path].size_bytes,
            commit.files[path].content.sha256,
            str(folder / repo_id / path),
            kind=kind,
        )
        for path in paths
    ]
    return tuple(replace(file, **changes) for file in plain)


class EventLog:
    """Events in order of arrival; safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[Report] = []

    def add(self, event: Report) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, look: Callable[[list[Report]], _Found | None], timeout_s: float = 60) -> _Found:
        """The result of `look` on the events, called after each one."""
        with self._changed:
            found: _Found | None = None

            def has_found() -> bool:
                nonlocal found
                found = look(self.events)
                return bool(found)

            assert self._changed.wait_for(has_found, timeout_s), f"not within {timeout_s} s: {self.events[-3:]}"
            assert found is not None
            return found

    def end_of(self, attempt: int, timeout_s: float = 60) -> Any:
        """The event with which the attempt ended."""
        return self.wait_for(
            lambda events: next((one for one in events if isinstance(one, ENDS) and one.attempt == attempt), None),
            timeout_s,
        )

    def progress_of(self, attempt: int) -> list[Progress]:
        return [one for one in list(self.events) if isinstance(one, Progress) and one.attempt == attempt]

    def wait_for_progress(self, attempt: int, condition: Callable[[Progress], bool], timeout_s: float = 60) -> Progress:
        return self.wait_for(
            lambda events: next(
                (one for one in events if isinstance(one, Progress) and one.attempt == attempt and condition(one)), None
            ),
            timeout_s,
        )

    def notices_of(self, attempt: int) -> list[str]:
        """Kinds of notices in order, each once."""
        return list(dict.fromkeys(one.notice_kind for one in self.progress_of(attempt) if one.notice_kind))


class Engine:
    """An engine that runs attempts: a worker in this process, or the real one with a client."""

    def __init__(self, hub: FaultyHub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.log = EventLog()
        self._attempts = 0

    def send(self, command: Command) -> None:
        raise NotImplementedError

    def begin(
        self,
        repo_id: str,
        *paths: str,
        force: bool = False,
        replaces: bool = False,
        donors: tuple[str, ...] = (),
        known_folders: tuple[str, ...] = (),
        files: tuple[PlannedFile, ...] = (),
        **changes: Any,
    ) -> int:
        """Start an attempt for the files and return its number."""
        self._attempts += 1
        repository = self.hub.repositories[repo_id]
        commit = repository.commit("main")
        assert commit is not None
        files = files or planned(self.hub, repo_id, *paths, folder=self.folder, **changes)
        command = StartTransfer(
            self._attempts, repo_id, commit.sha, files, force, replaces, donors, known_folders=known_folders
        )
        self.send(command)
        return self._attempts

    def fetch(self, repo_id: str, *paths: str, **options: Any) -> TransferFinished:
        """Run an attempt to its success."""
        end = self.log.end_of(self.begin(repo_id, *paths, **options))
        assert isinstance(end, TransferFinished), end
        return end

    def failure(self, repo_id: str, *paths: str, **options: Any) -> GglibError:
        """Run an attempt to its failure and return the error."""
        end = self.log.end_of(self.begin(repo_id, *paths, **options))
        assert isinstance(end, TransferFailed), end
        return end.error

    def stop(self, attempt: int) -> tuple[Any, float]:
        """Stop an attempt; returns its end and the seconds it took."""
        began_s = time.monotonic()
        self.send(StopTransfer(attempt))
        end = self.log.end_of(attempt)
        return end, time.monotonic() - began_s

    def target(self, repo_id: str, path: str) -> Path:
        return self.folder / repo_id / path

    def close(self) -> None:
        raise NotImplementedError


class LocalEngine(Engine):
    """The worker in this process: real sockets, files and threads."""

    def __init__(
        self,
        hub: FaultyHub,
        folder: Path,
        timeouts: Timeouts = PATIENT,
        reuse_limits: ReuseLimits | None = None,
        **changes: Any,
    ) -> None:
        super().__init__(hub, folder)
        self._commands = EngineLoop(self.log.add, timeouts)
        self.send(configured(hub, **changes))
        if reuse_limits is not None and self._commands._shared is not None:
            self._commands._shared.reuse_limits = reuse_limits

    @override
    def send(self, command: Command) -> None:
        self._commands.handle(command)

    @override
    def close(self) -> None:
        self._commands.shut_down()


class EngineProcess(Engine):
    """The real process and its client."""

    def __init__(self, hub: FaultyHub, folder: Path, log_folder: Path, **changes: Any) -> None:
        super().__init__(hub, folder)
        self.client = EngineClient(configured(hub, **changes), log_folder=log_folder, on_event=self.log.add)

    @override
    def send(self, command: Command) -> None:
        self.client.send(command)

    @override
    def close(self) -> None:
        self.client.close()
