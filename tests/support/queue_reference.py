"""A second, plain implementation of the queue's rules: lists and dictionaries, no effects, no views.

The random test plays the same events to this model and to the machine, and compares. Every operation either raises
`RefusedError` before it changes anything, or changes the lists and records the expected events.
"""

from dataclasses import dataclass, field, replace

from gglib_nb import errors
from gglib_nb.domain.download import PlannedDownload
from gglib_nb.domain.names import DownloadId

ACTIVE = ("downloading", "finalizing", "registering")


class RefusedError(Exception):
    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


@dataclass(eq=False)
class Item:
    plan: PlannedDownload
    status: str = "queued"
    aliases: set[DownloadId] = field(default_factory=set)
    losses: int = 0
    received: int = 0
    place: tuple[int, bool, bool] = (0, False, False)

    asked: object = None

    @property
    def to_register(self):
        return self.plan.add_to_db, self.aliases - {self.plan.id}

    def answers(self, id_):
        return str(id_).lower() in {str(one).lower() for one in (self.plan.id, *self.aliases)}

    def is_same(self, plan):
        return self.plan.identity == plan.identity or self.answers(plan.id)


def collide(one, other):
    """Whether two plans write one file that is not an identical companion of both."""
    for mine in one.files:
        for theirs in other.files:
            is_companion = mine.kind != "shard" and theirs.kind != "shard"
            is_equal = (mine.sha256, mine.size_bytes) == (theirs.sha256, theirs.size_bytes)
            if mine.target == theirs.target and not (is_companion and is_equal):
                return True
    return False


def is_more(wanted, live):
    """Whether a request has an option that the live download of the same id lacks."""
    return bool(
        set(wanted.companions) - set(live.companions)
        or (wanted.force and not live.force)
        or (wanted.everywhere and not live.everywhere)
        or (live.add_to_db and not wanted.add_to_db)
    )


class Reference:
    def __init__(self, max_size, max_concurrent):
        self.max_size, self.max_concurrent, self.is_open = max_size, max_concurrent, True
        self.engine_count = 1
        self.requests = set()
        self.held = set()  # of those, the ones that will be paused after resolving
        self.pending = []
        self.active = {}  # attempt -> Item
        self.stopping = {}  # attempt -> (Item, the plan of the attempt)
        self.ended = []
        self.is_processing = False
        self.run = None
        self.last_attempt = 0
        self.expect_nothing()

    def expect_nothing(self):
        self.starts, self.stops, self.ends, self.runs = [], [], [], []

    # What is where

    def live(self):
        return [*self.active.values(), *self.pending]

    def find(self, id_):
        found = [item for item in self.live() if item.answers(id_)]
        own = [item for item in found if str(item.plan.id).lower() == str(id_).lower()]
        if found:
            return (own or found)[0]
        raise RefusedError(errors.NotInQueueError)

    def attempt_of(self, item):
        return next((attempt for attempt, other in self.active.items() if other is item), None)

    def position(self, item):
        return self.pending.index(item) + 1 if item in self.pending else 0

    def running(self):
        return {a: item for a, item in self.active.items() if item.status in ("downloading", "finalizing")}

    def held_targets(self):
        plans = [item.plan for item in self.running().values()] + [plan for _item, plan in self.stopping.values()]
        return {target for plan in plans for target in plan.targets}

    def is_drained(self):
        return not self.active and not self.stopping and all(item.status == "paused" for item in self.pending)

    def cancelled_and_stopping(self):
        return [item for item, _plan in self.stopping.values() if item.status == "cancelled"]

    def failures(self):
        return [item for item in reversed(self.ended) if item.status == "failed"]

    # Ended kernels

    def kept(self):
        """`id, status, whether it ran` of everything that must outlive the process."""
        live = [
            (item.plan.id, "paused" if item.status == "paused" else "queued", item.status in ACTIVE)
            for item in self.live()
        ]
        return live + [(item.plan.id, "failed", False) for item in reversed(self.failures())]

    def restore(self, downloads, *, starts):
        """`downloads` are `(plan, status, whether it ran)`; returns how many resumed, wait, are paused and had failed."""
        outcomes = {"going_on": 0, "waiting": 0, "paused": 0, "failed": 0}
        for plan, status, was_active in downloads:
            known = [*self.live(), *self.ended, *self.cancelled_and_stopping()]
            if any(item.is_same(plan) for item in known):
                continue
            item = Item(plan, status)
            if any(other.status != "registering" and collide(other.plan, plan) for other in self.live()):
                item.status = "failed"
            if item.status == "failed":
                self.ended.append(item)
                outcomes["failed"] += 1
            elif was_active:
                self.pending.insert(outcomes["going_on"], item)
                outcomes["going_on" if item.status == "queued" else "paused"] += 1
            else:
                self.pending.append(item)
                outcomes["waiting" if item.status == "queued" else "paused"] += 1
        self.is_processing = self.is_processing or (starts and bool(outcomes["going_on"] + outcomes["waiting"]))
        return outcomes

    # Requests

    def resolve(self, request, plan, *, starts, joins):
        """Returns the download and whether it is new."""
        if request not in self.requests:
            raise RefusedError(errors.DownloadCancelledError)
        item = next((item for item in self.live() if item.is_same(plan)), None)
        is_new = item is None
        if item is not None:
            if not joins or is_more(plan, item.plan):
                raise RefusedError(errors.AlreadyQueuedError)
            if plan.add_to_db:
                item.plan = replace(item.plan, add_to_db=True)
            item.aliases.add(plan.id)
        else:
            self.check(plan)
            item = self.admit(plan)
        self.requests.discard(request)
        if request in self.held:
            self.held.discard(request)
            self.pause_item(item)
        self.is_processing = self.is_processing or starts
        return item, is_new

    def drop(self, request):
        self.requests.discard(request)
        self.held.discard(request)

    def check(self, plan):
        if len(self.pending) >= self.max_size:
            raise RefusedError(errors.QueueFullError)
        self.check_targets(plan)

    def check_targets(self, plan):
        if any(item.status != "registering" and collide(item.plan, plan) for item in self.live()):
            raise RefusedError(errors.AlreadyQueuedError)

    def admit(self, plan):
        item = next((item for item in self.cancelled_and_stopping() if item.is_same(plan)), None)
        self.ended = [other for other in self.ended if not other.is_same(plan)]
        if item is None:
            item = Item(plan)
        else:
            self.note_end(item)
            item.plan, item.status, item.losses = plan, "queued", 0
        self.pending.append(item)
        return item

    def cancel(self, id_):
        item = self.find(id_)
        if item.status != "registering":
            self.cancel_item(item)

    def discard(self, id_):
        """Cancels; or drops a cancelled or failed download without a live one."""
        left = [item for item in reversed(self.ended) if item.status != "completed" and item.answers(id_)]
        if left and not any(item.answers(id_) for item in self.live()):
            self.ended.remove(left[0])
        else:
            self.cancel(id_)

    def cancel_item(self, item, position=None):
        position = self.position(item) if position is None else position
        item.place = (position, item.status == "paused", self.is_processing)
        self.take_off(item)
        self.end(item, "cancelled", is_told=not any(stopping is item for stopping, _plan in self.stopping.values()))

    def cancel_all(self):
        """Returns the attempts that have yet to stop."""
        self.requests.clear()
        self.held.clear()
        for position, item in enumerate(self.live(), 1 - len(self.active)):
            if item.status != "registering":
                self.cancel_item(item, position)
        return frozenset(self.stopping)

    def take_off(self, item):
        if (attempt := self.attempt_of(item)) is None:
            self.pending.remove(item)
            return
        del self.active[attempt]
        self.stopping[attempt] = (item, item.plan)
        self.stops.append(attempt)

    def remove(self, id_):
        item = self.find(id_)
        if item not in self.pending:
            raise RefusedError(errors.NotInQueueError)
        self.cancel_item(item)

    def move(self, id_, position):
        """Returns the new position."""
        item = self.find(id_)
        if item not in self.pending:
            raise RefusedError(errors.NotInQueueError)
        others = [other for other in self.pending if other is not item]
        given = min(max(position, 1), len(self.pending))
        self.pending = [*others[: given - 1], item, *others[given - 1 :]]
        return given

    def cancelled(self, id_):
        for item in reversed(self.ended):
            if item.status == "cancelled" and item.answers(id_):
                return item
        raise RefusedError(errors.NotInQueueError)

    def put_back(self, ids):
        """Returns the restored downloads."""
        items = list(dict.fromkeys(map(self.cancelled, ids)))
        for item in items:
            if any(other.is_same(item.plan) for other in self.live()):
                raise RefusedError(errors.AlreadyQueuedError)
            self.check_targets(item.plan)
        waiting = [item for item in items if item.place[0] > 0]
        if waiting and len(self.pending) + len(waiting) > self.max_size:
            raise RefusedError(errors.QueueFullError)
        ran = sorted((item for item in items if item not in waiting), key=lambda item: item.place[0])
        for item in [*ran, *sorted(waiting, key=lambda item: item.place[0])]:
            self.ended.remove(item)
            if any(stopping is item for stopping, _plan in self.stopping.values()):
                self.note_end(item)
            position, was_paused, was_processing = item.place
            self.pending.insert(ran.index(item) if item in ran else position - 1 + len(ran), item)
            item.status, item.losses = "paused" if was_paused else "queued", 0
            self.is_processing = self.is_processing or was_processing
        return items

    def pause(self, id_):
        self.pause_item(self.find(id_))

    def pause_all(self):
        self.held |= self.requests
        for item in reversed(self.live()):
            self.pause_item(item)

    def resume_all(self):
        self.held.clear()
        for item in self.pending:
            item.status = "queued"
        self.is_processing = True

    def pause_item(self, item):
        if item.status == "registering":
            return
        if item not in self.pending:
            self.take_off(item)
            self.pending = [item, *self.pending]
        item.status = "paused"

    def resume(self, id_):
        item = self.find(id_)
        if item.status == "paused":
            item.status = "queued"
        self.is_processing = True

    def run_now(self, id_):
        """Returns the download to run."""
        item = self.find(id_)
        if item not in self.pending:
            raise RefusedError(errors.NotInQueueError)
        for other in self.displaced_by(item):
            self.take_off(other)
            other.status = "queued"
            self.pending = [other, *self.pending]
        self.pending = [item, *(other for other in self.pending if other is not item)]
        self.resume(id_)
        return item

    def displaced_by(self, item):
        """The downloads to stop: writers of its files, and as many more as needed for a slot, the last started first."""
        running = list(self.running().values())
        holders = [other for other in running if other.plan.targets & item.plan.targets]
        if not self.is_open or any(other.status == "finalizing" for other in holders):
            return []
        others = [other for other in reversed(running) if other.status == "downloading" and other not in holders]
        for count in range(len(others) + 1):
            leaving = [*holders, *others[:count]]
            if self.slots_of(other.plan for other in running if other not in leaving) < self.slots():
                return [other for other in reversed(running) if other in leaving]
        return []

    def retry(self, id_):
        """Returns the restored download."""
        item = next((item for item in self.failures() if item.answers(id_)), None)
        if item is None:
            raise RefusedError(errors.NotInQueueError)
        self.check(item.plan)
        self.ended.remove(item)
        self.pending.append(item)
        item.status, item.losses, self.is_processing = "queued", 0, True
        return item

    def clear_failure(self, id_):
        item = next((item for item in self.failures() if item.answers(id_)), None)
        if item is None:
            raise RefusedError(errors.NotInQueueError)
        self.ended.remove(item)

    def clear_failures(self):
        self.ended = [item for item in self.ended if item.status != "failed"]

    def turn(self, *, is_open):
        self.is_open = is_open
        for item in reversed(list(self.running().values())):
            self.hold_outside_hours(item)

    def hold_outside_hours(self, item):
        if not self.is_open and item.status == "downloading":
            self.take_off(item)
            item.status = "queued"
            self.pending = [item, *self.pending]

    # Reports

    def progress(self, attempt, received, *, is_finalizing):
        if (item := self.running().get(attempt)) is None:
            return
        item.losses = 0 if received > item.received else item.losses
        item.received = received
        item.status = "finalizing" if is_finalizing else "downloading"
        self.hold_outside_hours(item)

    def finish(self, attempt):
        if attempt in self.stopping:
            item, plan = self.stopping[attempt]
            shelf = self.pending if item in self.pending else self.ended
            if item.plan != replace(plan, add_to_db=item.plan.add_to_db) or item not in shelf:
                self.stop(attempt)
                return
            del self.stopping[attempt]
            shelf.remove(item)
            self.active[attempt] = item
        item = self.active[attempt]
        item.status = "registering"
        item.asked = item.to_register
        if not item.plan.add_to_db:
            self.register(attempt)

    def fail(self, attempt):
        if attempt in self.stopping:
            self.stop(attempt)
        else:
            self.end(self.active.pop(attempt), "failed")

    def stop(self, attempt):
        item, _plan = self.stopping.pop(attempt)
        if item.status == "cancelled":
            self.note_end(item)

    def register(self, attempt, *, is_written=True):
        """Even if the catalog could not write: the files are stored. Later requests are registered first."""
        item = self.active[attempt]
        asked, item.asked = item.asked, item.to_register
        if is_written and item.plan.add_to_db and asked != item.asked:
            return
        self.end(self.active.pop(attempt), "completed")

    def lose_engine(self, attempts=None):
        lost = {*self.stopping, *self.active} if attempts is None else attempts
        for attempt in [attempt for attempt in self.stopping if attempt in lost]:
            self.stop(attempt)
        for attempt, item in [each for each in self.running().items() if each[0] in lost]:
            del self.active[attempt]
            item.losses += 1
            if item.losses > 3:
                self.end(item, "failed")
            else:
                self.begin(item)

    # Steps

    def end(self, item, status, *, is_told=True):
        item.status = status
        self.ended.append(item)
        if is_told:
            self.note_end(item)

    def note_end(self, item):
        self.ends.append((item.plan.id, item.status))
        if self.run is not None:
            self.run.append((item.plan.id, item.status))

    def begin(self, item):
        self.last_attempt += 1
        item.status, item.received = "downloading", 0
        self.active[self.last_attempt] = item
        self.starts.append((self.last_attempt, item.plan))

    def slots_held(self):
        plans = [item.plan for item in self.running().values()] + [plan for _item, plan in self.stopping.values()]
        return self.slots_of(plans)

    def slots_of(self, plans):
        return sum(self.engine_count if plan.everywhere else 1 for plan in plans)

    def slots(self):
        return self.max_concurrent * self.engine_count

    def settle(self):
        """What follows every event: free slots are used in order, and a drained queue is reported."""
        while self.is_processing and self.is_open and self.slots_held() < self.slots():
            held = self.held_targets()
            ready = [item for item in self.pending if item.status == "queued" and not item.plan.targets & held]
            if not ready:
                break
            self.pending.remove(ready[0])
            self.run = [] if self.run is None else self.run
            self.begin(ready[0])
        if self.is_processing and self.is_drained():
            self.is_processing = False
            if self.run:
                self.runs.append(self.run)
            self.run = None
