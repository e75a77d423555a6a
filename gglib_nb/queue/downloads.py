"""All downloads of the queue: pending, active, stopping or ended; which download has an id, a slot or a path.

Passive: only `gglib_nb.queue.machine` adds and removes. Every refusal that depends on a download's place is
made here, so that each sentence is written once.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.units import DailyHours, check_count
from gglib_nb.domain.values import Value
from gglib_nb.errors import AlreadyQueuedError, NotInQueueError
from gglib_nb.queue.entry import Entry, name_of

_ENDED_KEPT: Final = 200
"""How many ended downloads are kept, so that a session of weeks does not grow without limit. Failures always stay."""


@dataclass(slots=True)
class Stop:
    """An attempt whose stop was requested and is not confirmed yet."""

    entry: Entry
    plan: PlannedDownload  # what the attempt downloads; the entry may have another plan by now
    discards: bool = False  # whether to delete its partial files once it has stopped


class Limits(Value, frozen=True):
    """The limits of a queue; an invalid one raises `InvalidConfigError`.

    Attributes:
        max_size: Downloads that may wait.
        max_concurrent: Downloads that run at once on each engine.
        bandwidth_bytes_per_second: Of everything together; None: unlimited.
        hours: When downloads run; None: at any time.
        is_open: Whether it is such an hour.
        engine_count: Engines that share the work.
    """

    max_size: int = 10
    max_concurrent: int = 1
    bandwidth_bytes_per_second: int | None = None
    hours: DailyHours | None = None
    is_open: bool = True
    engine_count: int = 1

    def __post_init__(self) -> None:
        bandwidth = 1 if self.bandwidth_bytes_per_second is None else self.bandwidth_bytes_per_second
        check_count("max_queue_size", self.max_size)
        check_count("max_concurrent", self.max_concurrent)
        check_count("The bandwidth limit in bytes per second", bandwidth)

    @property
    def opens_at(self) -> str | None:
        """When downloads run again; None: they run now."""
        return None if self.is_open or self.hours is None else f"{self.hours.start:%H:%M}"

    def have_room(self, plans: Iterable[PlannedDownload]) -> bool:
        """Whether a slot is free beside attempts at these plans; one on every host occupies one of each engine."""
        taken = sum(self.engine_count if one.everywhere else 1 for one in plans)
        return taken < self.max_concurrent * self.engine_count


class Downloads:
    """The four places in which a download can be.

    Attributes:
        pending: In the order of running.
        active: By attempt.
        stopping: By attempt; such a download is in `pending` or `ended` too.
        ended: The newest last.
        index: The live ones by each of their `keys`, in sets that keep their order.
    """

    def __init__(self) -> None:
        self.pending: list[Entry] = []
        self.active: dict[int, Entry] = {}
        self.stopping: dict[int, Stop] = {}
        self.ended: list[Entry] = []
        self.index: dict[Hashable, dict[Entry, None]] = {}

    @property
    def live(self) -> list[Entry]:
        """Active ones first, then the pending ones in their order."""
        return [*self.active.values(), *self.pending]

    @property
    def running(self) -> list[Entry]:
        """Downloads that the engine runs and that are not stopping."""
        return [entry for entry in self.active.values() if entry.is_running]

    def position(self, entry: Entry) -> int:
        """1-based position among the pending downloads; 0 if it is not pending."""
        if not entry.status.is_pending:
            return 0
        # The last one is requested most often, right after it was queued.
        return len(self.pending) if self.pending[-1] is entry else self.pending.index(entry) + 1

    # From place to place -----------------------------------------------------------------------------------------

    def add_pending(self, entry: Entry, index: int | None = None) -> None:
        """Adds a waiting download: at the end, or before the one at `index`."""
        self.pending.insert(len(self.pending) if index is None else index, entry)
        self.add_to_index(entry)

    def add_to_index(self, entry: Entry) -> None:
        """Makes a live download, or its new id, known to the searches."""
        for key in entry.keys:
            self.index.setdefault(key, {})[entry] = None

    def move_pending(self, entry: Entry, position: int) -> int:
        """Moves a waiting download; returns its new position, the nearest possible one."""
        index = min(max(position, 1), len(self.pending)) - 1
        self.pending.remove(entry)
        self.pending.insert(index, entry)
        return index + 1

    def withdraw(self, entry: Entry) -> int | None:
        """Removes a live download from its place; returns the attempt to stop, None if none runs."""
        if entry.status.is_pending:
            self.pending.remove(entry)
            return None
        attempt = next(attempt for attempt, active in self.active.items() if active is entry)
        del self.active[attempt]
        self.stopping[attempt] = Stop(entry, entry.plan)
        return attempt

    def add_ended(self, entry: Entry) -> None:
        """Adds an ended download, and removes the oldest if there are too many."""
        for key in entry.keys:
            found = self.index.get(key, {})
            found.pop(entry, None)
            if not found:
                self.index.pop(key, None)
        self.ended.append(entry)
        passing = (other for other in self.ended if other.status is not DownloadStatus.FAILED)
        oldest = next(passing, entry)
        # Those that ended with it, as by `cancel_all`, can be put back with it.
        if oldest.row.ended_at_s != entry.row.ended_at_s and sum(1 for _ in passing) >= _ENDED_KEPT:
            self.ended.remove(oldest)

    def forget(self, is_unwanted: Callable[[Entry], bool]) -> None:
        """Removes ended downloads."""
        self.ended = [entry for entry in self.ended if not is_unwanted(entry)]

    def take_finished(self, attempt: int) -> Entry | None:
        """Makes a download active again that finished despite its stop.

        None if it was queued again with other files, or removed: then it counts as stopped. None if it does not stop.
        """
        if (stop := self.stopping.get(attempt)) is None:
            return None
        entry = stop.entry
        place = self.pending if entry.status.is_pending else self.ended
        if replace(stop.plan, add_to_db=entry.plan.add_to_db) != entry.plan or entry not in place:
            return None
        place.remove(entry)
        del self.stopping[attempt]
        self.active[attempt] = entry
        self.add_to_index(entry)
        return entry

    # Finding -----------------------------------------------------------------------------------------------------

    def at_work(self, attempt: int, *, is_running: bool = True) -> Entry | None:
        """The download of an attempt that the engine runs, or that is being registered; None for any other attempt."""
        entry = self.active.get(attempt)
        return entry if entry is not None and entry.is_running is is_running else None

    def find_live(self, id: DownloadId) -> Entry | None:  # noqa: A002
        """The pending or active download meant by `id`; its own id comes before the aliases of others."""
        name = name_of(id)
        found = self.index.get(name, {})
        return self._first_live({one: None for one in found if name_of(one.plan.id) == name} or found)

    def find_ended(self, id: DownloadId, *statuses: DownloadStatus) -> Entry | None:  # noqa: A002
        """The newest ended download meant by `id`, with one of these statuses if there are any."""
        found = (one for one in reversed(self.ended) if (not statuses or one.status in statuses) and one.answers_to(id))
        return next(found, None)

    def same(self, plan: PlannedDownload) -> Entry | None:
        """The live download that is the same as the plan's, or that has its id."""
        return self._first_live(self.index.get(plan.identity, {}) | self.index.get(name_of(plan.id), {}))

    def stop_of(self, entry: Entry) -> Stop | None:
        """The unconfirmed stop of an entry."""
        return next((stop for stop in self.stopping.values() if stop.entry is entry), None)

    def same_stopping(self, plan: PlannedDownload) -> Entry | None:
        """The cancelled download that is the same as the plan's, or has its id, and has not stopped yet."""
        # (A download that was queued again with other files may end before its first attempt has stopped.)
        cancelled = (stop.entry for stop in self.stopping.values() if stop.entry.status is DownloadStatus.CANCELLED)
        return next((entry for entry in cancelled if entry.is_same(plan)), None)

    def known(self, id: DownloadId) -> Entry:  # noqa: A002
        """The live download meant by `id`; if there is none, `NotInQueueError` says what happened to it."""
        if (entry := self.find_live(id)) is not None:
            return entry
        ended = self.find_ended(id)
        if ended is not None and ended.status is DownloadStatus.FAILED:
            raise NotInQueueError(
                f"{id} has failed and is not in the queue. To download it again: %gguf retry {ended.plan.id.typed}"
            )
        if ended is not None:
            raise NotInQueueError(f"{id} is {ended.status} and no longer in the queue.")
        raise NotInQueueError(f"There is no download {id} in the queue. %gguf status shows the queue.")

    def waiting(self, id: DownloadId, otherwise: str) -> Entry:  # noqa: A002
        """The pending download meant by `id`; if it is active, a `NotInQueueError` that ends with `otherwise`."""
        entry = self.known(id)
        if not entry.status.is_pending:
            raise NotInQueueError(f"{entry.plan.id} is {entry.status}; {otherwise}")
        return entry

    def cancelled(self, ids: Iterable[DownloadId]) -> list[Entry]:
        """The newest cancelled download meant by each id; `NotInQueueError` if there is none for one of them."""
        entries: dict[Entry, None] = {}
        for id_ in ids:
            if (entry := self.find_ended(id_, DownloadStatus.CANCELLED)) is None:
                raise NotInQueueError(f"No cancelled or removed download matches {id_}, so none can be put back.")
            entries[entry] = None
        return list(entries)

    def failure(self, id: DownloadId, what: str, otherwise: str) -> Entry:  # noqa: A002
        """The failed download of `id`; else a `NotInQueueError` that it cannot be `what`, or that says `otherwise`."""
        if (entry := self.find_ended(id, DownloadStatus.FAILED)) is not None:
            return entry
        if (live := self.find_live(id)) is not None:
            raise NotInQueueError(f"{live.plan.id} is {live.status}; only a failed download can be {what}.")
        raise NotInQueueError(f"There is no failed download {id}. {otherwise}")

    def _first_live(self, entries: dict[Entry, None]) -> Entry | None:
        """The first of them; there is rarely more than one."""
        return next((entry for entry in self.live if entry in entries) if len(entries) > 1 else iter(entries), None)

    # Slots and targets -------------------------------------------------------------------------------------------

    @property
    def held_plans(self) -> list[PlannedDownload]:
        """The plans of all attempts that run or are stopping; they occupy slots, and every target."""
        return [entry.plan for entry in self.running] + [stop.plan for stop in self.stopping.values()]

    def next_ready(self, limits: Limits) -> Entry | None:
        """The first queued download that may start now; None if no slot is free, or all are paused or wait."""
        held = self.held_plans
        if not (limits.is_open and limits.have_room(held)):
            return None
        targets = {target for plan in held for target in plan.targets}
        ready = (entry for entry in self.pending if entry.status is DownloadStatus.QUEUED)
        return next((entry for entry in ready if not entry.plan.targets & targets), None)

    def in_the_way_of(self, entry: Entry, limits: Limits) -> list[Entry]:
        """Downloads that have to wait so that a waiting one can run, the last started first.

        Empty if a slot is free or about to be, or if it would not help: a download that is finalizing ends by itself.
        """

        def shares(one: Entry) -> bool:
            return bool(one.plan.targets & entry.plan.targets)

        stays = [one for one in self.running if one.status is DownloadStatus.FINALIZING or not shares(one)]

        def has_slot() -> bool:
            return limits.have_room(one.plan for one in stays)

        for one in reversed([one for one in stays if one.status is DownloadStatus.DOWNLOADING]):
            if not has_slot():
                stays.remove(one)
        is_of_use = has_slot() and not any(map(shares, stays))
        return [one for one in reversed(self.running) if one not in stays] if is_of_use else []

    def check_targets(self, plan: PlannedDownload) -> None:
        """Refuses a plan that would write a file of another live download.

        Raises:
            AlreadyQueuedError: It names the other one.
        """
        writers = {entry: None for target in plan.targets for entry in self.index.get(target, ())}
        others = {
            one: None for one in writers if one.status is not DownloadStatus.REGISTERING and _collide(one.plan, plan)
        }
        if (other := self._first_live(others)) is not None:
            raise AlreadyQueuedError(
                f"{other.plan.id} is {other.status} and writes the same files as {plan.id}. "
                "Wait until it is done, or cancel it first.",
                str(other.plan.id),
            )


def _collide(one: PlannedDownload, other: PlannedDownload) -> bool:
    """Whether they write the same file, other than a companion that both want."""
    shared = one.targets & other.targets
    companions = {(file.target, file.sha256, file.size_bytes) for file in one.files if file.kind != "shard"}
    wanted = [file for file in other.files if file.target in shared]
    return any((file.target, file.sha256, file.size_bytes) not in companions for file in wanted)
