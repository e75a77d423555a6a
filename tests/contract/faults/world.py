"""The world that all rows of the matrix share: one hub, a line to each of its origins, one manager with its engine process.

The engine has no root privileges and short timeouts, and trusts the certificates of the company. A row makes its
faults here, runs two downloads and lifts the faults; the rules that hold afterwards are checked here for all rows.
"""

import hashlib
import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from gglib_nb import DownloadManager, DownloadManagerConfig, DownloadStatus, QueuedDownload
from gglib_nb.demo import DemoRepository
from gglib_nb.domain.snapshot import DownloadProgressed, NoticeChanged, QueueEvent
from gglib_nb.engine.timeouts import Timeouts
from tests.support.certificates import Company
from tests.support.faulty_hub import FaultyHub, StorageAt
from tests.support.hub import make_repository, small_gguf
from tests.support.kernel import wait_until
from tests.support.line import Line, Mode
from tests.support.rights import as_ordinary_user

# Short enough for a hundred rows, and long enough to be visible in ten samples a second.
SHORT = Timeouts(
    connect_s=2,
    answer_s=0.8,
    stall_s=0.5,
    first_delay_s=0.3,
    longest_delay_s=0.6,
    give_up_s=30,
    idle_s=0.5,
    lease_s=1.5,
)
# For rows that fail only when the engine gives up.
IMPATIENT = replace(SHORT, first_delay_s=0.1, longest_delay_s=0.2, give_up_s=0.5)
# For rows with a limit of requests: a slow answer on a busy machine must not cause another one.
PATIENT = replace(SHORT, connect_s=30, answer_s=30, stall_s=30)
NAME = "model.gguf"
SIZE = 3_000_000
GONE_S = 60.0


@dataclass(frozen=True)
class Footprint:
    """The engine's system resources.

    Attributes:
        threads: How many.
        files: Open descriptors that are not sockets.
        strangers: Connections to other hosts than the hub (a few to the hub are kept open).
    """

    threads: int
    files: int
    strangers: int


@dataclass
class Subject:
    """The download that a row is about, and the next one in the queue.

    Attributes:
        repo_id: Its repository.
        next_repo_id: The repository of the next one.
        files: Names and sizes.
        id: Its id in the queue, once queued.
        next_id: The id of the next one.
        marked: The number of requests before the fault; None: no fault yet.
    """

    repo_id: str
    next_repo_id: str
    files: dict[str, int]
    id: str = ""
    next_id: str = ""
    marked: int | None = None


class World:
    """See the head of this module. Close it with `close`."""

    def __init__(self, folder: Path, company: Company, other_company: Company) -> None:
        self.company, self.other_company = company, other_company
        self.models = folder / "models"
        self._stack = ExitStack()
        self.hub = self._stack.enter_context(FaultyHub())
        self.hub_line = self._stack.enter_context(Line(self.hub.url))
        self.cdn_line = self._stack.enter_context(Line(self.hub.cdn_url))
        self.hub.faults.add(StorageAt(self.cdn_line.url), origin="hub", times=None)
        self._changed = threading.Condition()
        self._notices: dict[str, list[str]] = {}
        self._reached: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._undo: list[Callable[[], object]] = []
        self._began_s = time.monotonic()
        config = DownloadManagerConfig(
            models_directory=self.models,
            state_directory=folder / "state",
            hub_cache=folder / "cache",
            endpoint=self.hub_line.url,
            network_wait_s=60,
        )
        self.manager = as_ordinary_user(lambda: self._started(config))
        self.wait_until(lambda: self._footprint().strangers == 0, "the end of idle connections")
        self._at_rest = self._footprint()

    def _started(self, config: DownloadManagerConfig) -> DownloadManager:
        manager = DownloadManager(config)
        manager.subscribe_events(self._heard)
        self.hub.add_repository(make_repository("demo/first", {NAME: 10_000}))
        manager.sync.download("demo/first")
        return manager

    def close(self) -> None:
        """End everything."""
        self.restore()
        self.manager.close()
        self._stack.close()

    # Before a row --------------------------------------------------------------------------------------------------

    def subject(self, files: dict[str, int]) -> Subject:
        """Two new repositories."""
        number, self._began_s = next(self._numbers), time.monotonic()
        subject = Subject(f"demo/model-{number}", f"demo/next-{number}", files)
        self.hub.add_repository(self.repository(subject.repo_id, files))
        self.hub.add_repository(self.repository(subject.next_repo_id, {"next.gguf": 20_000}))
        return subject

    @staticmethod
    def repository(repo_id: str, files: dict[str, int]) -> DemoRepository:
        """A repository with unique files; others would be linked instead of downloaded."""
        return make_repository(
            repo_id, {name: small_gguf(name, size, f"{repo_id}/{name}") for name, size in files.items()}
        )

    def queue(self, subject: Subject) -> None:
        """Queue it, and the next one after it."""
        subject.id = str(self.manager.sync.queue_smart(subject.repo_id).id)
        subject.next_id = str(self.manager.sync.queue_smart(subject.next_repo_id).id)

    def commit_of(self, subject: Subject) -> str:
        """The commit of its main branch."""
        commit = self.hub.repositories[subject.repo_id].commit("main")
        assert commit is not None
        return commit.sha

    def target(self, subject: Subject, name: str = NAME) -> Path:
        """The target of one of its files."""
        return self.models / subject.repo_id / name

    # While it runs -------------------------------------------------------------------------------------------------

    def wait_for_bytes(self, subject: Subject, size_bytes: int) -> None:
        """Wait until that many of its bytes are on disk."""
        with self._changed:
            is_there = self._changed.wait_for(lambda: self._reached.get(subject.repo_id, 0) >= size_bytes, 60)
        assert is_there, f"{size_bytes} bytes did not come: {self._reached}"

    def reached(self, subject: Subject) -> int:
        """The number of its bytes on disk."""
        with self._changed:
            return self._reached.get(subject.repo_id, 0)

    def wait_for_notice(self, subject: Subject, pattern: str, timeout_s: float = 60) -> str:
        """Wait for a matching notice and return it."""

        def found() -> str | None:
            said = self._notices.get(subject.repo_id, [])
            return next((text for text in said if re.fullmatch(pattern, text)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, timeout_s)
            said = found()
        assert said is not None, f"nothing like {pattern!r} was said: {self._notices.get(subject.repo_id)}"
        return said

    def has_said(self, subject: Subject, text: str) -> bool:
        """Whether a notice with this text was shown."""
        with self._changed:
            return any(text in said for said in self._notices.get(subject.repo_id, ()))

    def engine(self) -> psutil.Process:
        """The engine's process."""
        assert self.manager.engine_pid is not None
        return psutil.Process(self.manager.engine_pid)

    def failure(self, repo_id: str) -> QueuedDownload:
        """The failed row of a repository."""
        rows = [one for one in self.manager.snapshot.recent_failures if one.repo_id == repo_id]
        assert len(rows) == 1, f"{len(rows)} failed rows of {repo_id}"
        assert rows[0].status is DownloadStatus.FAILED
        return rows[0]

    # Afterwards ----------------------------------------------------------------------------------------------------

    def check_files(self, subject: Subject) -> None:
        """Every file has its final name and the right digest, and no other file is in the folder."""
        for name in subject.files:
            path = self.target(subject, name)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == self.digests(subject)[name], name
        folder = self.models / subject.repo_id
        assert sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()) == sorted(
            subject.files
        )

    def digests(self, subject: Subject) -> dict[str, str]:
        """The digests of its generated files."""
        fresh = self.repository(subject.repo_id, subject.files).commit("main")
        assert fresh is not None
        return {name: file.content.sha256 for name, file in fresh.files.items()}

    def present(self, subject: Subject) -> dict[str, bytes]:
        """The files under their final names."""
        paths = {name: self.target(subject, name) for name in subject.files}
        return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}

    def check_nothing_wrong(self, subject: Subject, there: dict[str, bytes]) -> None:
        """Every file under a final name is right or was `there` before; files may be missing."""
        for name in subject.files:
            path = self.target(subject, name)
            if path.is_file() and path.read_bytes() != there.get(name):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == self.digests(subject)[name], name

    def bytes_sent(self, subject: Subject) -> int:
        """The bytes of its files that the storage sent, useful or not."""
        return sum(
            one.bytes_sent
            for one in self.hub.requests
            if one.origin == "cdn" and one.repo_id == subject.repo_id and one.carries_file
        )

    def mark(self, subject: Subject) -> None:
        """Marks the moment of the fault: `later_starts` counts from here."""
        subject.marked = len(self.hub.requests)

    def later_starts(self, subject: Subject) -> list[int]:
        """The starts of the ranges requested from the storage since the mark, or after the first request."""
        asked = [
            (number, one.range[0])
            for number, one in enumerate(self.hub.requests)
            if one.origin == "cdn" and one.repo_id == subject.repo_id and one.range is not None
        ]
        since = subject.marked if subject.marked is not None else asked[0][0] + 1 if asked else 0
        return [start for number, start in asked if number >= since and start is not None]

    def questions(self, subject: Subject) -> int:
        """The number of requests for its files at both origins."""
        names = set(subject.files)
        return sum(one.repo_id == subject.repo_id and one.path_in_repo in names for one in self.hub.requests)

    def check_no_leak(self) -> None:
        """The engine has the same resources as before the first row; this waits, because threads and connections end a moment later."""
        deadline_s = time.monotonic() + GONE_S
        while (now := self._footprint()) != self._at_rest and time.monotonic() < deadline_s:
            time.sleep(0.02)  # another process's threads cannot be awaited
        assert now == self._at_rest, f"{now}, at rest {self._at_rest}: {self._described()}"

    def _footprint(self) -> Footprint:
        engine = self.engine()
        files = [name for name in _open_files(engine.pid) if not name.startswith("socket:")]
        strangers = [one for one in engine.net_connections("tcp") if one.raddr and one.raddr.port != self.hub_line.port]
        return Footprint(engine.num_threads(), len(files), len(strangers))

    def _described(self) -> str:
        engine = self.engine()
        return f"{_open_files(engine.pid)} {engine.net_connections('tcp')}"

    def _heard(self, event: QueueEvent) -> None:
        with self._changed:
            match event:
                case NoticeChanged():
                    if event.notice is not None:
                        self._notices.setdefault(event.id.repo_id, []).append(event.notice)
                case DownloadProgressed():
                    self._reached[event.download.repo_id] = event.download.downloaded_bytes
            self._changed.notify_all()

    @property
    def took_s(self) -> float:
        """Seconds since the last subject was made."""
        return time.monotonic() - self._began_s

    def wait_until(self, is_true: Callable[[], bool], what: str) -> None:
        """Wait for a condition without an event."""
        wait_until(is_true, GONE_S, what)

    def on_restore(self, undo: Callable[[], object]) -> None:
        """Register a function that undoes something before the next row."""
        self._undo.append(undo)

    def restore(self) -> None:
        """Reset lines, speed and clock for the next row."""
        for undo in self._undo:
            undo()
        self._undo.clear()
        shutil.rmtree(
            self.models / "demo", ignore_errors=True
        )  # otherwise the next rows would check whether they are the same
        (self.models / "demo").mkdir()  # deleted on purpose, not an unmounted disk
        self.hub_line.set(Mode.OPEN)
        self.cdn_line.set(Mode.OPEN)
        self.hub.set_speed()


def _open_files(pid: int) -> list[str]:
    """The targets of a process's descriptors; descriptors closed in the meantime are skipped."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(one.readlink()))
    return found
