"""All downloads of the queue: pending, active, stopping or ended; which download has an id, a slot or a path.

Passive: only `gglib_nb.queue.machine` adds and removes. Every refusal that depends on a download's place is
made here, so that each sentence is written once.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload
from gglib_nb.domain.stored import StoredDownload
from gglib_nb.domain.values import known_sum
from gglib_nb.errors import AlreadyQueuedError, NotInQueueError
from gglib_nb.queue.entry import Entry

_ENDED_KEPT: Final = 200
"""How many ended downloads are kept, so that a session of weeks does not grow without limit. Failures always stay."""


_Found = dict[Entry, None]  # a set that keeps its order
_Index = dict[Hashable, _Found]


@dataclass(slots=True)
class Stop:
    """An attempt whose stop was requested and is not confirmed yet."""

    entry: Entry
    plan: PlannedDownload  # what the attempt downloads; the entry may have another plan by now
    discards: bool = False  # whether to delete its partial files once it has stopped


class Downloads:
    """The four places in which a download can be.

    Attributes:
        pending: In the order of running.
        active: By attempt.
        stopping: By attempt; such a download is in `pending` or `ended` too.
        ended: The newest last.
    """

    def __init__(self) -> None:
        self.pending: list[Entry] = []
        self.active: dict[int, Entry] = {}
        self.stopping: dict[int, Stop] = {}
        self.ended: list[Entry] = []
        self._live: Final[_Index] = {}

    def live(self) -> Iterator[Entry]:
        """Active ones first, then the pending ones in their order."""
        yield from self.active.values()
        yield from self.pending

    def position(self, entry: Entry) -> int:
        """1-based position among the pending downloads; 0 if it is not pending."""
        if not entry.status.is_pending:
            return 0
        # The last one is requested most often, right after it was queued.
        return len(self.pending) if self.pending[-1] is entry else self.pending.index(entry) + 1

    def add_pending(self, entry: Entry, index: int | None = None) -> None:
        """Adds a waiting download: at the end, or before the one at `index`."""
        self.pending.insert(len(self.pending) if index is None else index, entry)
        add_to_index(self._live, entry)

    def remove_pending(self, entry: Entry) -> None:
        """Removes a waiting download."""
        self.pending.remove(entry)
        _remove(self._live, entry)

    def move_pending(self, entry: Entry, position: int) -> int:
        """Moves a waiting download; returns its new position, the nearest possible one."""
        index = min(max(position, 1), len(self.pending)) - 1
        self.pending.remove(entry)
        self.pending.insert(index, entry)
        return index + 1

    def add_active(self, attempt: int, entry: Entry) -> None:
        """Adds a running download."""
        self.active[attempt] = entry
        add_to_index(self._live, entry)

    def remove_active(self, attempt: int) -> Entry:
        """Removes a running download."""
        entry = self.active.pop(attempt)
        _remove(self._live, entry)
        return entry

    def add_alias(self, entry: Entry, id: DownloadId) -> None:  # noqa: A002
        """Adds another id to a live download."""
        entry.answer_also_to(id)
        add_to_index(self._live, entry)

    def add_ended(self, entry: Entry) -> None:
        """Adds an ended download, and removes the oldest if there are too many."""
        self.ended.append(entry)
        passing = [other for other in self.ended if other.status is not DownloadStatus.FAILED]
        if len(passing) > _ENDED_KEPT:
            self.ended.remove(passing[0])

    def forget(self, is_unwanted: Callable[[Entry], bool]) -> None:
        """Removes ended downloads."""
        self.ended = [entry for entry in self.ended if not is_unwanted(entry)]

    def forget_same(self, plan: PlannedDownload) -> None:
        """Removes ended downloads of the same model."""
        self.forget(lambda entry: _is_same(entry, plan))

    def withdraw(self, entry: Entry) -> int | None:
        """Removes a live entry from its place; returns the attempt to stop, None if none runs."""
        if entry.status.is_pending:
            self.remove_pending(entry)
            return None
        attempt = next(attempt for attempt, active in self.active.items() if active is entry)
        self.remove_active(attempt)
        self.stopping[attempt] = Stop(entry, entry.plan)
        return attempt

    def take_finished(self, attempt: int) -> Entry | None:
        """Removes a download that finished despite its stop from its place.

        None if it was queued again with other files, or removed: then it counts as stopped.
        """
        stop = self.stopping[attempt]
        entry = stop.entry
        is_wanted = replace(stop.plan, add_to_db=entry.plan.add_to_db) == entry.plan
        if is_wanted and entry.status.is_pending:
            self.remove_pending(entry)
        elif is_wanted and entry in self.ended:
            self.ended.remove(entry)
        else:
            return None
        del self.stopping[attempt]
        return entry

    # Attempts and downloads --------------------------------------------------------------------------------------

    def at_work(self, attempt: int, *, is_running: bool = True) -> Entry | None:
        """The download of an attempt that the engine runs, or that is being registered; None for any other attempt."""
        entry = self.active.get(attempt)
        return entry if entry is not None and entry.is_running is is_running else None

    # Finding by id -----------------------------------------------------------------------------------------------

    def find_live(self, id: DownloadId) -> Entry | None:  # noqa: A002
        """The pending or active download meant by `id`; its own id comes before the aliases of others."""
        found = self._meant_by(id)
        return self._first_live([one for one in found if str(one.plan.id).casefold() == str(id).casefold()] or found)

    def find_ended(self, id: DownloadId, *statuses: DownloadStatus) -> Entry | None:  # noqa: A002
        """The newest ended download meant by `id`, with one of these statuses if there are any."""
        found = (one for one in reversed(self.ended) if (not statuses or one.status in statuses) and one.answers_to(id))
        return next(found, None)

    def same(self, plan: PlannedDownload) -> Entry | None:
        """The live download that is the same as the plan's, or that has its id."""
        return self._first_live(self._live.get(plan.identity, {}) | self._meant_by(plan.id))

    def same_ended(self, plan: PlannedDownload) -> bool:
        """Whether an ended download is the same as the plan's, or has its id."""
        return any(_is_same(entry, plan) for entry in self.ended)

    def stop_of(self, entry: Entry) -> Stop | None:
        """The unconfirmed stop of an entry."""
        return next((stop for stop in self.stopping.values() if stop.entry is entry), None)

    def same_stopping(self, plan: PlannedDownload) -> Stop | None:
        """The unconfirmed stop of a cancelled download that is the same as the plan's, or that has its id."""
        # (A download that was queued again with other files may end before its first attempt has stopped.)
        cancelled = (stop for stop in self.stopping.values() if stop.entry.status is DownloadStatus.CANCELLED)
        return next((stop for stop in cancelled if _is_same(stop.entry, plan)), None)

    def known(self, id: DownloadId) -> Entry:  # noqa: A002
        """The live download meant by `id`; if there is none, `NotInQueueError` says what happened to it."""
        if (entry := self.find_live(id)) is not None:
            return entry
        ended = self.find_ended(id)
        if ended is not None and ended.status is DownloadStatus.FAILED:
            raise NotInQueueError(f"{id} has failed and is not in the queue. Run %gguf retry to download it again.")
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
        """The failed download meant by `id`; else `NotInQueueError` says that it cannot be `what`, or ends with `otherwise`."""
        if (entry := self.find_ended(id, DownloadStatus.FAILED)) is not None:
            return entry
        if (live := self.find_live(id)) is not None:
            raise NotInQueueError(f"{live.plan.id} is {live.status}; only a failed download can be {what}.")
        raise NotInQueueError(f"There is no failed download {id}. {otherwise}")

    # Slots and targets -------------------------------------------------------------------------------------------

    def running(self) -> list[Entry]:
        """Downloads that the engine runs and that are not stopping."""
        return [entry for entry in self.active.values() if entry.is_running]

    def in_the_way_of(self, entry: Entry, slots: int, engine_count: int) -> list[Entry]:
        """Downloads that have to wait so that a waiting one can run, the last started first.

        Empty if a slot is free or about to be, or if it would not help: a download that is finalizing ends by itself.
        """
        running = self.running()
        stays = [one for one in running if one.status is DownloadStatus.FINALIZING or not _share(one, entry)]

        def has_slot() -> bool:
            return slots_of((one.plan for one in stays), engine_count) < slots

        for one in reversed([one for one in stays if one.status is DownloadStatus.DOWNLOADING]):
            if not has_slot():
                stays.remove(one)
        is_of_use = has_slot() and not any(_share(one, entry) for one in stays)
        return [one for one in reversed(running) if one not in stays] if is_of_use else []

    def held_plans(self) -> list[PlannedDownload]:
        """The plans of all attempts that run or are stopping."""
        return [entry.plan for entry in self.running()] + [stop.plan for stop in self.stopping.values()]

    def held_targets(self) -> list[str]:
        """Every path an attempt may be writing now."""
        return [target for plan in self.held_plans() for target in plan.targets]

    def next_ready(self) -> Entry | None:
        """The first download in the queue that may start; None if all are paused or have to wait."""
        held = set(self.held_targets())
        ready = (entry for entry in self.pending if entry.status is DownloadStatus.QUEUED)
        return next((entry for entry in ready if not entry.plan.targets & held), None)

    def is_drained(self) -> bool:
        """Nothing is queued, active or stopping; paused downloads do not count."""
        queued = (entry.status is DownloadStatus.QUEUED for entry in self.pending)
        return not (self.active or self.stopping or any(queued))

    def check_targets(self, plan: PlannedDownload) -> None:
        """Refuses a plan that would write a file of another live download.

        Raises:
            AlreadyQueuedError: It names the other one.
        """
        writers = {entry: None for target in plan.targets for entry in self._live.get(target, ())}
        others = [one for one in writers if one.status is not DownloadStatus.REGISTERING and _collide(one.plan, plan)]
        if (other := self._first_live(others)) is not None:
            raise AlreadyQueuedError(
                f"{other.plan.id} is {other.status} and writes the same files as {plan.id}. "
                "Wait until it is done, or cancel it first.",
                str(other.plan.id),
            )

    # Showing -----------------------------------------------------------------------------------------------------

    def views(self) -> tuple[QueuedDownload, ...]:
        """Every live download as shown to users; an unchanged one is the same object as last time."""
        active = [entry.view(0) for entry in self.active.values()]
        return (*active, *(entry.view(position) for position, entry in enumerate(self.pending, start=1)))

    def kept(self) -> tuple[StoredDownload, ...]:
        """The downloads to store: running, waiting and failed; an unchanged one is the same object."""
        failures = (entry for entry in self.ended if entry.status is DownloadStatus.FAILED)
        return tuple(entry.kept() for entry in (*self.live(), *failures))

    def ended_views(self, status: DownloadStatus) -> tuple[QueuedDownload, ...]:
        """Ended downloads of one kind, the newest first."""
        return tuple(entry.view(0) for entry in reversed(self.ended) if entry.status is status)

    def remaining_bytes(self) -> int | None:
        """Bytes left for all running and queued downloads; None if a size is unknown."""
        return known_sum(entry.remaining_bytes for entry in self.live() if entry.status is not DownloadStatus.PAUSED)

    def _meant_by(self, id: DownloadId) -> _Found:  # noqa: A002
        """Live downloads that a caller may mean by `id`; the case of a quantization does not matter."""
        return self._live.get(_by_name(id), {}) | self._live.get(id, {})

    def _first_live(self, entries: Collection[Entry]) -> Entry | None:
        """The first of them; there is rarely more than one."""
        return next((entry for entry in self.live() if entry in entries) if len(entries) > 1 else iter(entries), None)


def _keys(entry: Entry) -> Iterator[Hashable]:
    """The keys of an entry in an index; its plan must not change while it is there."""
    yield entry.plan.identity
    yield _by_name(entry.plan.id)
    yield from entry.aliases
    yield from entry.plan.targets


def _by_name(id: DownloadId) -> Hashable:  # noqa: A002
    return ("id", str(id).casefold())


def add_to_index(index: _Index, entry: Entry) -> None:
    """Adds a live download to an index of them."""
    for key in _keys(entry):
        index.setdefault(key, {})[entry] = None


def _remove(index: _Index, entry: Entry) -> None:
    for key in _keys(entry):
        del index[key][entry]
        if not index[key]:
            del index[key]


def slots_of(plans: Iterable[PlannedDownload], engine_count: int) -> int:
    """The slots that attempts at these plans occupy; one on every host occupies one of each engine."""
    return sum(engine_count if plan.everywhere else 1 for plan in plans)


def _share(one: Entry, other: Entry) -> bool:
    """Whether both write the same file, so that only one of them can run."""
    return bool(one.plan.targets & other.plan.targets)


def _is_same(entry: Entry, plan: PlannedDownload) -> bool:
    """Whether they have the same commit and variant, or an id that means both."""
    return entry.plan.identity == plan.identity or entry.answers_to(plan.id)


def _collide(one: PlannedDownload, other: PlannedDownload) -> bool:
    """Whether they write the same file, other than a companion that both want."""
    shared = one.targets & other.targets
    companions = {(file.target, file.sha256, file.size_bytes) for file in one.files if file.kind != "shard"}
    wanted = [file for file in other.files if file.target in shared]
    return any((file.target, file.sha256, file.size_bytes) not in companions for file in wanted)
