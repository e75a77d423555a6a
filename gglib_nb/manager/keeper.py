"""The thread that stores a queue in the user's database, and reads the queues of other kernels there.

The queue thread only reports that something changed; this one asks for the latest state when it is ready, so a busy
disk does not delay the queue, and many changes become one write. While a queue is stored, it writes heartbeats; while
the queue is watched, or other kernels have downloads, it reads those. If the database cannot be used, it reports that
once and tries again.
"""

import logging
import math
import os
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace
from typing_extensions import override

from gglib_nb.catalog.queues import KernelRecord, Queues
from gglib_nb.catalog.store import Catalog, known_files
from gglib_nb.domain.download import DownloadStatus, PlannedDownload, StoredFile
from gglib_nb.domain.snapshot import QueuedDownload
from gglib_nb.domain.stored import MOST_REMEMBERED, Adoption, PastDownload, RestoredDownload, StoredQueue, remembered
from gglib_nb.engine.disk import found_in_time
from gglib_nb.engine.lease import Owner
from gglib_nb.engine.local import present_by_file
from gglib_nb.errors import CatalogDamagedError, CatalogError, GglibError, ManagerClosedError
from gglib_nb.manager.calls import InboxThread
from gglib_nb.manager.library import look_at, loss_of_folder, partial_requests
from gglib_nb.manager.queue_thread import is_open_now
from gglib_nb.queue import events as on
from gglib_nb.queue.machine import QueueMachine
from gglib_nb.system import exists, others_may_write

if TYPE_CHECKING:
    from gglib_nb.manager.manager import Parts

_log: Final = logging.getLogger("gglib_nb")

_BEAT_S: Final = 1.0
# If nothing runs, or if every write goes over the network, heartbeats may be less frequent.
_SLOW_BEAT_S: Final = 5.0
_LOOK_S: Final = 1.0
# Two slow heartbeats and the reads of them: another kernel's last report of its downloads is outdated after this.
OUTDATED_S: Final = 15.0
# Four slow heartbeats: a kernel of another machine or container counts as stopped after this.
SILENT_S: Final = 20.0
_RETRY_S: Final = 10.0
# A hanging models folder on a network share must not delay the database.
_DISK_S: Final = 3.0

_Result = TypeVar("_Result")


class QueueKeeper(InboxThread):
    """Stores one queue. Safe from any thread, and only `close` waits. Opens nothing before it is needed."""

    def __init__(self, parts: "Parts") -> None:
        super().__init__("gglib-queue-keeper", 1)
        self._parts: Final = parts
        self._config: Final = parts.config
        self._queue: Final = parts.queue
        self._database: Final = parts.catalog.database
        self._catalog: Final = Catalog(self._database)
        # Set by any thread:
        self._is_changed = self._hands_on = False
        self._ended: Final[deque[PastDownload]] = deque(maxlen=MOST_REMEMBERED)  # and not written yet
        # Used by the thread:
        self._adopted = Adoption()
        self._is_kept = False  # the database has this queue
        self._beat_at_s = self._look_at_s = self._retry_at_s = self._watch_until_s = 0.0
        self._beats: dict[str, tuple[float, float]] = {}  # the last one of each kernel, and when it was first seen here
        self._is_unsure = False  # a kernel could not be checked; its heartbeats will show whether it runs
        self._targets_elsewhere: frozenset[str] = frozenset()  # what the queues of other kernels write
        self._trouble = ""

    # From any thread ---------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Marks the queue as changed, so that it is stored."""
        self._is_changed = True
        self.wake()

    def record(self, download: QueuedDownload) -> None:
        """Records an ended download in the history."""
        if (past := remembered(download)) is not None:
            with self._lock:
                self._ended.append(past)
            self.wake()

    def adopt(self) -> "Future[Adoption]":
        """Adopts the queues of stopped kernels, and offers this queue for adoption when it closes."""
        self._hands_on = True
        return self._put(lambda _: self._respond(adopts=True))

    def look(self) -> "Future[frozenset[str]]":
        """Records ended downloads, and reads other kernels' queues into the snapshot; the paths that they write."""
        return self._put(lambda _: self._respond(adopts=False))

    def wake(self) -> None:
        """Makes the thread look for work, such as the downloads of other kernels once the queue is watched."""
        self._put(lambda _: None)

    # On the thread -----------------------------------------------------------------------------------------------

    def _respond(self, *, adopts: bool) -> Adoption | frozenset[str]:
        """The answer also if the database cannot be used, which is a notice."""
        if self._refusal:
            raise ManagerClosedError(self._refusal)
        self._try(partial(self._take_turn, adopts=adopts, looks=not adopts))
        return self._adopted if adopts else self._targets_elsewhere

    @override
    def _do_due(self) -> float | None:
        rest_s = self._rest_s()
        if rest_s is None or rest_s > 0:
            return rest_s
        if not self._refusal:  # else the last write is next
            self._try(self._take_turn)
        return 0.0

    @override
    def _end(self) -> None:
        self._try(self._finish)  # also after an error, which may be over
        super()._end()

    @cached_property
    def _owner(self) -> Owner:
        return Owner.this_process()

    @cached_property
    def _queues(self) -> Queues:
        config, owner, place = self._config, self._owner, str(self._config.models_directory)
        place = self._of_disk(lambda: os.path.realpath(place), otherwise=place)
        title = Path(os.environ.get("JPY_SESSION_NAME", "").strip()).name  # the notebook, by Jupyter's server
        mine = (secrets.token_hex(8), title, owner.place, owner.pid, owner.start, place, config.endpoint)
        return Queues(self._database, KernelRecord(*mine), config.models_directory)

    def _of_disk(self, look: Callable[[], _Result], otherwise: _Result) -> _Result:
        """The result of a call on the models folder, or a default if it does not return in time."""

        def search() -> Iterator[_Result]:
            with suppress(OSError, GglibError):
                yield look()

        place = f"{self._config.models_directory} of {self!r}"  # a scan may be slow, and the folder answer others
        return next(iter(found_in_time({place: search}, _DISK_S)), otherwise)

    def _rest_s(self) -> float | None:
        """How long to wait; None: until a method is called."""
        due = [self._retry_at_s] if self._is_changed or self._ended else []
        due += [max(self._beat_at_s, self._retry_at_s)] if self._is_kept and self._beat_at_s < math.inf else []
        due += [max(self._look_at_s, self._retry_at_s)] if self._wants_to_look() else []
        return min(due) - time.monotonic() if due else None

    def _wants_to_look(self) -> bool:
        snapshot = self._queue.snapshot
        is_wanted = self._queue.is_watched or snapshot.elsewhere or time.monotonic() < self._watch_until_s
        return bool(is_wanted) or any(item.notice_kind == "waiting" for item in snapshot.items)

    def _take_turn(self, *, adopts: bool = False, looks: bool = False) -> None:
        """Does the work that is due, and what a caller asks for."""
        if adopts or time.monotonic() < self._watch_until_s:
            self._adopt(is_asked=adopts)
        if self._is_changed:
            self._store()
        elif self._is_kept and time.monotonic() >= self._beat_at_s:
            self._put_off_beat()
            if not self._queues.beat(self._queue.snapshot.items):
                # Another machine considers this kernel stopped, or the database is new: two queues, and one transfer.
                self._store()
        self._remember()
        if looks:
            self._targets_elsewhere = self._queues.targets()
        if looks or (self._wants_to_look() and time.monotonic() >= self._look_at_s):
            self._look()

    def _adopt(self, *, is_asked: bool) -> None:
        self._adopted, self._is_unsure = Adoption(), False
        if is_asked := is_asked or self._watch_until_s == math.inf:
            self._watch_until_s = math.inf  # tried again until the database can be used
        if exists(self._database.path):
            models = self._catalog.models()
            lost = self._of_disk(lambda: loss_of_folder(self._config.models_directory, models), otherwise="")
            if lost:  # the models folder is not mounted: abandoned queues wait for a kernel that finds it
                self._say("folder_missing", lost)
            elif (left := self._queues.adopt(self._is_gone)) is not None:
                self._is_kept = True
                self._take_up(left, known_files(models))
        if is_asked:
            self._watch_until_s = time.monotonic() + SILENT_S + 2 * _SLOW_BEAT_S if self._is_unsure else 0.0
            self._offer_partials()

    def _take_up(self, left: StoredQueue, known: Mapping[str, StoredFile]) -> None:
        downloads = left.downloads
        if any(one.plan.then for one in downloads) and others_may_write(self._database.path):
            # A command runs as this user: it must not come from another one.
            downloads = tuple(replace(one, plan=replace(one.plan, then=None)) for one in downloads)
            self._say(
                "commands_dropped",
                "The commands of resumed downloads will not run, because other users can write to "
                f"{self._database.path}. Make it yours alone, or set GGLIB_STATE_DIR to a folder of your own.",
            )
        restored = self._of_disk(
            lambda: tuple(
                RestoredDownload(one, _bytes_on_disk(one.plan))
                for one in downloads
                if one.plan.then is not None or not (one.was_active and _is_complete(one.plan, known))
            ),
            otherwise=tuple(RestoredDownload(one, (0,) * len(one.plan.files)) for one in downloads),
        )
        if left.is_processing and any(one.stored.status is DownloadStatus.QUEUED for one in restored):
            self._parts.prepare()
        is_open = is_open_now(left.limits.hours)
        event = on.DownloadsRestored(restored, left.limits, left.is_processing, is_open)
        self._adopted = self._queue.post(event).result()
        if self._adopted.total:
            self._say("adopted", f"Took over {self._adopted}.")

    def _offer_partials(self) -> None:
        queue = self._queue.ask(QueueMachine.stored).result()
        wanted = {target for stored in queue.downloads for target in stored.plan.targets} | self._queues.targets()
        folder = self._config.models_directory
        if number := self._of_disk(lambda: len(partial_requests(folder, (), wanted)), otherwise=0):
            noun = "unfinished download that is" if number == 1 else "unfinished downloads that are"
            self._say("partials", f"The models folder has {number} {noun} not in the queue.")

    def _store(self) -> None:
        self._is_changed = False
        queue = self._queue.ask(QueueMachine.stored).result()
        try:
            if queue.downloads or queue.limits != StoredQueue().limits:
                self._queues.write(queue, self._queue.snapshot.items)
                self._is_kept = True
                self._put_off_beat()
            elif self._is_kept:
                self._queues.forget()
                self._is_kept = False
        except CatalogError:
            self._is_changed = True
            raise

    def _remember(self) -> None:
        """Records ended downloads."""
        with self._lock:
            ended = list(self._ended)
        if ended:
            self._catalog.remember(ended)
            with self._lock:
                while self._ended and self._ended[0] in ended:
                    self._ended.popleft()

    def _put_off_beat(self) -> None:
        snapshot = self._queue.snapshot
        is_busy = snapshot.active_count > 0 and self._database.network is None
        # Failures alone need no heartbeat: another kernel may adopt them.
        self._beat_at_s = time.monotonic() + (_BEAT_S if is_busy else _SLOW_BEAT_S) if snapshot.items else math.inf

    def _look(self) -> None:
        self._look_at_s = time.monotonic() + (_LOOK_S if self._database.network is None else _SLOW_BEAT_S)
        if not exists(self._database.path):
            return
        found = self._queues.others(self._is_gone, self._describe, lambda one: self._silent_s(one) > OUTDATED_S)
        if found != self._queue.snapshot.elsewhere:
            active = (one for one in found if one.status.is_active and not one.is_left)
            owners = {(one.id.repo_id, one.commit_sha, one.id.quantization): one.owner for one in active}
            self._queue.note(elsewhere=found).result()
            self._queue.post(on.PeersSeen(owners)).result()

    def _finish(self) -> None:
        """The last write."""
        with suppress(ManagerClosedError):  # the database was locked for too long: it is released as last stored
            if self._hands_on and (self._is_changed or self._is_kept):
                self._store()
        if self._is_kept:
            (self._queues.release if self._hands_on else self._queues.forget)()
        self._remember()

    # Running kernels ---------------------------------------------------------------------------------------------

    def _is_gone(self, record: KernelRecord) -> bool:
        owner = Owner(record.place, record.pid, record.start)
        if owner.place == self._owner.place:
            return owner.is_gone(0.0)
        # A local filesystem has one boot at a time.
        if self._database.network is None and owner.is_of_other_boot(self._owner):
            return True
        self._is_unsure = True
        return self._silent_s(record) > SILENT_S

    def _silent_s(self, record: KernelRecord) -> float:
        """Seconds since the beat of a kernel changed, by the clock of this process only."""
        beat, since_s = self._beats.get(record.owner, (None, 0.0))
        if beat != record.beat:
            since_s = time.monotonic()
            self._beats[record.owner] = (record.beat, since_s)
        return time.monotonic() - since_s

    def _describe(self, record: KernelRecord) -> str:
        if record.pid == self._owner.pid and record.place == self._owner.place:
            return "another queue of this kernel"
        name = record.title or f"process {record.pid}"
        host = Owner(record.place, record.pid, record.start).host
        return name if host == self._owner.host else f"{name} on {host}"

    # Errors ------------------------------------------------------------------------------------------------------

    def _try(self, work: Callable[[], None]) -> None:
        try:
            try:
                work()
            except CatalogDamagedError as error:
                self._say("database_replaced", str(error))
                work()
        except CatalogError as error:
            self._retry_at_s = time.monotonic() + _RETRY_S
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._say(
                    "not_kept",
                    f"Downloads work, but the queue cannot be saved and will be lost when the kernel stops. {error}",
                )
        except GglibError:
            pass  # the queue was closed meanwhile
        except Exception:  # noqa: BLE001 - a bug here must not keep the next kernel from adopting
            self._retry_at_s = time.monotonic() + _RETRY_S
            _log.exception("The queue could not be saved")
        else:
            if self._trouble:
                self._trouble = ""
                self._say("not_kept", "")

    def _say(self, kind: str, text: str) -> None:
        with suppress(GglibError):  # the queue was closed meanwhile
            self._queue.give_notice(kind, text).result()


def _bytes_on_disk(plan: PlannedDownload) -> tuple[int, ...]:
    """How many bytes of each file are on the disk; 0 if the file at a target may be the one to replace."""
    if plan.force or plan.replaces or any(file.wrong_ranges is not None for file in plan.files):
        return (0,) * len(plan.files)
    return present_by_file(plan.files, plan.commit_sha)


def _is_complete(plan: PlannedDownload, known: Mapping[str, StoredFile]) -> bool:
    """Whether its kernel had downloaded and registered all of it, and was killed before it stored that."""
    looks, parts = look_at(plan.targets), Counter(file.target for file in plan.files)
    pairs = [(planned, known.get(planned.target), looks[planned.target]) for planned in plan.files]
    return not plan.force and all(
        file is not None
        and look is not None
        and (look.size_bytes, look.mtime_ns) == (file.size_bytes, file.mtime_ns)
        and (parts[planned.target] > 1 or planned.sha256 == file.sha256)
        for planned, file, look in pairs
    )
