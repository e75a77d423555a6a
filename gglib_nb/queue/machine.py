"""The queue: which download runs, which waits, which has ended. A pure state machine.

`handle(event) -> list[Effect]` is the only way to change anything. No clock, no I/O, no threads,
no logging; the time comes with the event, and the effects are returned in order.
A refused event raises one of `gglib_nb.errors.QueueError` before anything has changed.

The place of a download (`TRANSITIONS` has the changes of status):

    queued, paused                          in `downloads.pending`, in the order in which they run
    downloading, finalizing, registering    in `downloads.active`, by attempt
    completed, failed, cancelled            in `downloads.ended`, the newest last

Rules that are not in the table:

* Cancel and pause of a running download show at once, but its slot and its targets stay occupied until the engine
  reports that the attempt stopped: it is also in `downloads.stopping`. If the engine reports "finished" instead, the
  rename was done before the stop arrived, and that wins: they do not change a download that is being registered.
* An event of an attempt that is neither active nor stopping is stale and changes nothing.
* Only downloading, finalizing and stopping attempts occupy a slot: a slow catalog never stops the queue.
* There are `max_concurrent` slots for each engine that shares the work. A download for every host needs one of each.
* A download that is queued again before its stop is confirmed is the same download, not a second one.
* Downloads that ran when the engine was lost start again with a new attempt, before any other.
* Outside the download hours nothing starts, and running downloads are stopped and wait at the head of the queue.
  A download that is finalizing ends first; if it has to download again, it is stopped then.
* Downloads of a previous kernel are added with their status there, without a transition of the table.
* Cancelled and removed downloads keep their place and all options, so that they can be put back as they were.
* A download whose targets are still occupied is skipped until they are free. Two different downloads may share a
  companion (one mmproj for several quantizations), never a shard.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, assert_never

from msgspec.structs import replace

from gglib_nb.domain import reports
from gglib_nb.domain import snapshot as announced
from gglib_nb.domain.download import DownloadStatus, PlannedDownload
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload, QueueRunSummary, QueueSnapshot
from gglib_nb.domain.stored import Adoption, RestoredDownload, StoredLimits, StoredQueue
from gglib_nb.domain.units import DailyHours
from gglib_nb.domain.values import known_sum
from gglib_nb.errors import AlreadyQueuedError, DownloadCancelledError, EngineLostError, GglibError, QueueFullError
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Downloads, Limits
from gglib_nb.queue.effects import Effect
from gglib_nb.queue.entry import Entry, FormerPlace, left_of
from gglib_nb.queue.notices import notice_of
from gglib_nb.queue.transitions import Cause

# Of the engine, without a new byte between them.
_LOSSES_ALLOWED: Final = 3


class QueueMachine:
    """The queue of one manager.

    Attributes:
        limits: Its limits.
        version: Grows with every change, also of what its thread shows beside it.
    """

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self.limits = limits
        self._limits_set_by_user = StoredLimits()  # they are kept after the kernel ends
        self._downloads: Final = Downloads()
        self._resolving: dict[int, str] = {}
        self._held: set[int] = set()  # of those, the ones to pause once they are resolved
        self._is_processing = False
        self._last_attempt = 0
        self._run: list[QueuedDownload] | None = None
        self._run_started_at_s = 0.0
        self._last_run: QueueRunSummary | None = None
        self.version = 0
        # Of the event that is handled:
        self._effects: list[Effect] = []
        self._reply: Callable[[], object] | None = None  # called once everything that can start has started
        self._is_to_be_stored = False
        self._at_s = self._now_s = 0.0

    # What happens ------------------------------------------------------------------------------------------------

    def handle(self, event: on.Event, at_s: float, now_s: float | None = None) -> list[Effect]:
        """Handles one event, at a Unix time and a monotonic one, for durations; returns its effects, in order.

        Raises:
            QueueError: The request is refused; nothing has changed.
            InvalidConfigError: A limit is invalid; nothing has changed.
            DownloadCancelledError: A plan for a request that was cancelled meanwhile.
        """
        self._effects = []
        # A pause changes a status, or nothing.
        self._is_to_be_stored = isinstance(event, on.Request) and not isinstance(event, on.PauseRequested)
        self._at_s, self._now_s = at_s, at_s if now_s is None else now_s
        self._take(event)
        if not isinstance(event, reports.Progress):
            self._go_on()
        if self._reply is not None:
            self._do(do.Reply(self._reply()))
        if self._is_to_be_stored:
            self._do(do.StoreQueue())
        self.version += 1
        return self._effects

    def _take(self, event: on.Event) -> None:  # noqa: C901 - one case an event, nothing else
        self._reply = None
        downloads = self._downloads
        match event:
            case on.RequestReceived():
                self._resolving[event.request] = event.text
            case on.RequestDropped():
                self._resolving.pop(event.request, None)
                self._held.discard(event.request)
            case on.PlanResolved():
                self._enqueue(event)
            case on.CancelRequested():
                self._cancel_one(event)
            case on.AllCancelRequested():
                self._cancel_all()
            case on.RemovalRequested():
                self._cancel(downloads.waiting(event.id, "%gguf cancel stops it."), discards=False)
            case on.PutBackRequested():
                self._put_back(downloads.cancelled(event.ids))
            case on.MoveRequested():
                moved = downloads.waiting(event.id, "only waiting downloads have a position.")
                position = downloads.move_pending(moved, event.position)
                self._reply = lambda: position
            case on.PauseRequested(DownloadId() as id_):
                self._pause(downloads.known(id_))
            case on.PauseRequested():
                self._pause_all()
            case on.RunRequested():
                self._run_now(downloads.waiting(event.id, "it is already running."))
            case on.ResumeRequested(DownloadId() as id_):
                self._resume([downloads.known(id_)])
            case on.ResumeRequested():
                self._held.clear()
                self._resume(downloads.pending)
            case on.RetryRequested():
                self._retry(downloads.failure(event.id, "retried", f"To download it: %gguf queue {event.id.typed}"))
            case on.EndedCleared():
                downloads.forget(lambda entry: entry.status is event.status)
            case on.FilesDeleted():
                downloads.forget(lambda entry: any(file.target in event.targets for file in entry.stored))
            case on.PartialsDeleted():
                for entry in downloads.ended:
                    entry.lose(event.targets)
            case on.FailureCleared():
                downloads.ended.remove(downloads.failure(event.id, "cleared", "%gguf status shows the queue."))
            case on.ConcurrencyChanged():
                self.limits = replace(self.limits, max_concurrent=event.max_concurrent)
                self._do(reports.LimitConcurrency(event.max_concurrent))
            case on.LimitsChanged():
                self._limit(event.limits, is_open=event.is_open)
            case on.HoursTurned():
                self._turn(self.limits.hours, is_open=event.is_open)
            case on.DownloadsRestored():
                self._restore(event)
            case on.PeersSeen():
                self._see_peers(event.owners)
            case reports.Progress():
                self._progress(event)
            case reports.TransferWaits():
                if (held := downloads.at_work(event.attempt)) is not None:
                    self._hold_up(held, "waiting", None, event.reason)
            case reports.TransferFinished():
                self._store(event)
            case reports.TransferFailed():
                if downloads.at_work(event.attempt) is not None:
                    self._fail(event.attempt, event.error, can_retry=event.can_retry)
                self._confirm_stop(event.attempt)
            case reports.TransferStopped():
                self._confirm_stop(event.attempt)
            case reports.EngineLost():
                self._lose_engine(event)
            case reports.EnginesChanged():
                self.limits = replace(self.limits, engine_count=max(1, event.count))
            case reports.EngineSilent():
                for attempt, running in downloads.active.items():
                    if running.is_running and (event.attempts is None or attempt in event.attempts):
                        self._hold_up(running, "silent", event.silent_s, event.detail)
            case on.ModelRegistered():
                self._end_registration(event)
            case on.ThenReported():
                self._report_then(event)
            case _:
                assert_never(event)

    # Requests ----------------------------------------------------------------------------------------------------

    def _enqueue(self, event: on.PlanResolved) -> None:
        plan = event.plan
        if event.request not in self._resolving:
            raise DownloadCancelledError(f"{plan.id} was cancelled while its files were being listed.")
        if (same := self._downloads.same(plan)) is not None:
            self._join(same, event)
        entry = same or self._admit(plan)
        del self._resolving[event.request]
        if event.request in self._held:
            self._held.discard(event.request)
            self._pause(entry)
        self._is_processing |= event.starts
        path = next(iter(entry.plan.paths), "")
        self._reply = lambda: do.QueuePosition(
            entry.plan.id, self._downloads.position(entry), plan.shard_count, same is None, plan.reason, path
        )

    def _join(self, entry: Entry, event: on.PlanResolved) -> None:
        if not event.joins:
            raise _already(entry)
        if missing := _missing(event.plan, entry.plan):
            raise _already(entry, f", {', '.join(missing)}. Cancel it first, then queue it again.")
        entry.join(event.plan)
        self._downloads.add_to_index(entry)

    def _admit(self, plan: PlannedDownload) -> Entry:
        self._check_room(plan)
        self._downloads.check_targets(plan)
        self._downloads.forget(lambda entry: entry.is_same(plan))
        if (entry := self._downloads.same_stopping(plan)) is None:
            entry = Entry(plan, self._at_s)
        else:
            self._revive(entry, plan, self._at_s)
        self._downloads.add_pending(entry)
        self._tell_status(entry)
        return entry

    def _revive(self, entry: Entry, plan: PlannedDownload, queued_at_s: float) -> None:
        """Queues a cancelled download again: if its attempt has not stopped yet, it is one download, not two."""
        if (stop := self._downloads.stop_of(entry)) is not None:
            stop.discards = False
            self._record(announced.DownloadCancelled(entry.view()))  # callers that wait for it get its end
        entry.move_on(Cause.REQUEUED, self._now_s)
        entry.renew(plan, queued_at_s)

    def _cancel_one(self, event: on.CancelRequested) -> None:
        if event.discards and self._downloads.find_live(event.id) is None:
            ended = self._downloads.find_ended(event.id, DownloadStatus.CANCELLED, DownloadStatus.FAILED)
            if ended is not None:
                self._downloads.ended.remove(ended)
                if (stop := self._downloads.stop_of(ended)) is None:
                    self._discard_partials(ended)
                else:
                    stop.discards = True  # once the attempt has stopped
                return
        if (entry := self._downloads.known(event.id)).status is not DownloadStatus.REGISTERING:
            self._cancel(entry, discards=event.discards)

    def _cancel(self, entry: Entry, *, discards: bool, position: int | None = None) -> None:
        """Cancels it; `position` is where it would be put back, None: where it is now."""
        elsewhere = ("elsewhere", f"{entry.peer or 'another kernel'} continues it") if entry.waits_for_peer else None
        changed = entry.without_data() if discards and elsewhere is None else {}
        position = self._downloads.position(entry) if position is None else position
        entry.former_place = FormerPlace(position, entry.status is DownloadStatus.PAUSED, self._is_processing)
        self._withdraw(entry)
        self._step(entry, Cause.CANCELLED)
        entry.hold(elsewhere, ended_at_s=self._at_s, **changed)
        self._downloads.add_ended(entry)
        if (stop := self._downloads.stop_of(entry)) is not None:
            stop.discards |= discards
        else:
            self._finish_cancel(entry, discards=discards)

    def _cancel_all(self) -> None:
        self._resolving.clear()
        self._held.clear()
        for position, entry in enumerate(self._downloads.live, 1 - len(self._downloads.active)):
            if entry.status is not DownloadStatus.REGISTERING:
                self._cancel(entry, discards=False, position=position)
        self._reply = lambda: self.stopping

    def _put_back(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if (live := self._downloads.same(entry.plan)) is not None:
                raise _already(live)
            self._downloads.check_targets(entry.plan)
        # A download that ran does not count: it runs again as soon as its attempt has stopped.
        in_order = sorted(entries, key=lambda entry: entry.former_place.position)
        waiting = [entry for entry in in_order if entry.former_place.position > 0]
        if waiting:
            self._check_room(waiting[0].plan, len(waiting), len(in_order))
        ran = len(in_order) - len(waiting)
        for number, entry in enumerate(in_order):
            place = entry.former_place
            self._downloads.ended.remove(entry)
            self._revive(entry, entry.plan, entry.row.queued_at_s)
            self._downloads.add_pending(entry, number if number < ran else place.position - 1 + ran)
            if place.was_paused:
                entry.move_on(Cause.PAUSED, self._now_s)
            self._tell_status(entry)
            self._is_processing |= place.was_processing
        self._reply = lambda: tuple(map(self._downloads.position, entries))

    def _pause(self, entry: Entry) -> None:
        if entry.is_running:
            self._step_back(entry, Cause.PAUSED)
        elif entry.status is DownloadStatus.QUEUED:
            entry.hold()
            self._step(entry, Cause.PAUSED)

    def _pause_all(self) -> None:
        self._held.update(self._resolving)
        # Running downloads are put at the front one by one, so the first is put there last.
        for entry in reversed(self._downloads.live):
            self._pause(entry)

    def _resume(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.status is DownloadStatus.PAUSED:
                self._step(entry, Cause.RESUMED)
        self._is_processing = True

    def _run_now(self, entry: Entry) -> None:
        if self.limits.is_open:
            for other in self._downloads.in_the_way_of(entry, self.limits):
                self._step_back(other)
        self._downloads.move_pending(entry, 1)
        self._resume([entry])

    def _step_back(self, entry: Entry, cause: Cause = Cause.HELD) -> None:
        """Stops a running download, which waits at the head of the queue."""
        self._withdraw(entry)
        self._downloads.add_pending(entry, 0)
        entry.hold()
        self._step(entry, cause)

    def _retry(self, entry: Entry) -> None:
        self._check_room(entry.plan)
        self._downloads.check_targets(entry.plan)
        self._downloads.ended.remove(entry)
        entry.renew(entry.plan, self._at_s)
        self._step(entry, Cause.RETRIED)
        self._downloads.add_pending(entry)
        self._is_processing = True
        self._reply = lambda: self._downloads.position(entry)

    # Limits ------------------------------------------------------------------------------------------------------

    def _limit(self, new: StoredLimits, *, is_open: bool = True) -> None:
        """Applies the limits that a user has set, of those in `new`; `is_open`: whether it is one of its hours."""
        if new.max_size is not None:
            self.limits = replace(self.limits, max_size=new.max_size)
        if new.has_bandwidth_limit:
            limit = new.bandwidth_limit_bytes_per_second
            self.limits = replace(self.limits, bandwidth_bytes_per_second=limit)
            self._do(do.LimitBandwidth(limit))
        if new.has_hours:
            self._turn(new.hours, is_open=is_open)
        self._limits_set_by_user = new.over(self._limits_set_by_user)

    def _turn(self, hours: DailyHours | None, *, is_open: bool) -> None:
        self.limits = replace(self.limits, hours=hours, is_open=is_open)
        for entry in reversed(self._downloads.running):
            self._hold_outside_hours(entry)
        for entry in self._downloads.pending:
            self._say_until_when(entry)

    def _hold_outside_hours(self, entry: Entry) -> None:
        if not self.limits.is_open and entry.status is DownloadStatus.DOWNLOADING:
            self._step_back(entry)

    def _say_until_when(self, entry: Entry) -> None:
        if entry.status is DownloadStatus.QUEUED and entry.wait_for_hours(self.limits.opens_at):
            self._do(announced.NoticeChanged(entry.plan.id, entry.row.notice))

    # Other kernels -----------------------------------------------------------------------------------------------

    def _restore(self, event: on.DownloadsRestored) -> None:
        outcomes: Counter[str] = Counter()
        for restored in event.downloads:
            if (outcome := self._take_up(restored, place=outcomes["going_on"])) is not None:
                outcomes[outcome] += 1
        mine = self._limits_set_by_user
        self._limit(mine.over(event.limits), is_open=self.limits.is_open if mine.has_hours else event.is_open)
        self._is_processing |= event.starts and bool(outcomes["going_on"] or outcomes["waiting"])
        self._is_to_be_stored = True
        self._reply = lambda: Adoption(**outcomes)

    def _take_up(self, restored: RestoredDownload, place: int) -> str | None:
        """The result for one download, as a field of `Adoption`; None if this queue has already decided about it."""
        plan, was_active, entry = restored.stored.plan, restored.stored.was_active, Entry.restored(restored)
        same = [ended for ended in self._downloads.ended if ended.is_same(plan)]
        is_ended = any(ended.row.notice_kind != "elsewhere" for ended in same)  # the others left it to that kernel
        if is_ended or self._downloads.same(plan) or self._downloads.same_stopping(plan):
            return None
        self._downloads.forget(lambda ended: ended in same)
        if entry.status is not DownloadStatus.FAILED:
            try:
                self._downloads.check_targets(plan)
            except AlreadyQueuedError as error:
                entry.hold(status=DownloadStatus.FAILED, ended_at_s=self._at_s, error=error, can_retry=True)
        if entry.status is DownloadStatus.FAILED:
            self._downloads.add_ended(entry)
        else:
            self._downloads.add_pending(entry, place if was_active else None)
        self._tell_status(entry)
        waiting = "going_on" if was_active else "waiting"
        return waiting if entry.status is DownloadStatus.QUEUED else str(entry.status)

    def _see_peers(self, owners: Mapping[tuple[str, str, str | None], str]) -> None:
        for entry in self._downloads.running:
            if entry.meet(owners.get(entry.plan.identity)):
                self._do(announced.NoticeChanged(entry.plan.id, entry.row.notice))

    # Reports -----------------------------------------------------------------------------------------------------

    def _progress(self, event: reports.Progress) -> None:
        if (entry := self._downloads.at_work(event.attempt)) is None:
            return
        before = entry.view()
        if event.is_finalizing and entry.status is DownloadStatus.DOWNLOADING:
            self._step(entry, Cause.ARRIVED)
        elif not event.is_finalizing and entry.status is DownloadStatus.FINALIZING:
            self._step(entry, Cause.STARTED)
        for shard in entry.progress(event):
            self._do(announced.ShardProgressed(entry.plan.id, shard))
        now = entry.row
        if now.notice != before.notice:
            self._do(announced.NoticeChanged(now.id, now.notice))
        if now is not before:
            self._do(announced.DownloadProgressed(now))
        self._hold_outside_hours(entry)

    def _store(self, event: reports.TransferFinished) -> None:
        entry = self._downloads.at_work(event.attempt) or self._downloads.take_finished(event.attempt)
        if entry is None:
            self._confirm_stop(event.attempt)
            return
        self._step(entry, Cause.STORED)
        entry.keep(event.files, event.hosts)
        row, others = entry.row, entry.other_ids
        entry.registration = do.RegisterModel(
            event.attempt, entry.plan, event.files, self._at_s, event.hosts, row.queued_at_s, others
        )
        if entry.plan.add_to_db or entry.plan.then is not None:
            self._do(entry.registration)
        else:
            self._end_registration(on.ModelRegistered(event.attempt))

    def _confirm_stop(self, attempt: int) -> None:
        stop = self._downloads.stopping.pop(attempt, None)
        if stop is not None and stop.entry.status is DownloadStatus.CANCELLED:
            self._finish_cancel(stop.entry, discards=stop.discards)

    def _hold_up(self, entry: Entry, kind: str, seconds: float | None, text: str) -> None:
        entry.hold(notice_of(kind, seconds, text))
        self._do(announced.NoticeChanged(entry.plan.id, entry.row.notice))
        self._do(announced.DownloadProgressed(entry.view()))

    def _lose_engine(self, event: reports.EngineLost) -> None:
        # Lost downloads are queued before anything new starts, so that nothing newly started counts as lost.
        lost = {*self._downloads.stopping, *self._downloads.active} if event.attempts is None else event.attempts
        for attempt in [attempt for attempt in self._downloads.stopping if attempt in lost]:
            self._confirm_stop(attempt)
        for attempt, entry in list(self._downloads.active.items()):
            if entry.is_running and attempt in lost:
                self._restart(attempt, entry, event.reason)

    def _restart(self, attempt: int, entry: Entry, reason: str) -> None:
        entry.losses += 1
        if entry.losses <= _LOSSES_ALLOWED:
            del self._downloads.active[attempt]
            self._begin(entry, Cause.ENGINE_LOST)
            return
        error = EngineLostError(
            f"The download process stopped four times without receiving data for {entry.plan.id}"
            f"{f': {reason}' if reason else ''}. Downloaded data is kept. To resume: %gguf retry {entry.plan.id.typed}"
        )
        self._fail(attempt, error, can_retry=True)

    def _end_registration(self, event: on.ModelRegistered) -> None:
        if (entry := self._downloads.at_work(event.attempt, is_running=False)) is None:
            return
        if event.error is not None and entry.plan.is_update:
            # It has not replaced the old version, so the request is not fulfilled yet.
            self._fail(event.attempt, event.error, can_retry=True)
            return
        done, others = entry.registration, entry.other_ids
        if done and entry.plan.add_to_db and (done.plan.add_to_db, done.also) != (True, others) and event.error is None:
            # It was requested again meanwhile. Its command has been started.
            entry.registration = replace(done, plan=replace(entry.plan, then=None), also=others)
            self._do(entry.registration)
            return
        entry.stored = entry.stored if event.files is None else event.files
        del self._downloads.active[event.attempt]
        self._step(entry, Cause.REGISTERED)
        entry.complete(self._at_s, self._now_s, event.error, event.remark)
        self._downloads.add_ended(entry)
        self._record(announced.DownloadCompleted(entry.view()))

    def _report_then(self, event: on.ThenReported) -> None:
        entry = self._downloads.find_live(event.id) or self._downloads.find_ended(event.id)
        if entry is not None:
            entry.change(then=event.then)
            self._do(announced.ThenChanged(entry.view(self._downloads.position(entry))))

    def _fail(self, attempt: int, error: GglibError, *, can_retry: bool) -> None:
        entry = self._downloads.active.pop(attempt)
        self._step(entry, Cause.FAILED)
        entry.hold(ended_at_s=self._at_s, error=error, can_retry=can_retry)
        self._downloads.add_ended(entry)
        self._record(announced.DownloadFailed(entry.view()))

    # Steps -------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Starts every download that can start, and summarizes the run if nothing is left to do.

        A stopping attempt frees its slot only when the engine confirms it; a download that only waited, as for its
        hour, is removed at once.
        """
        while self._is_processing and (entry := self._downloads.next_ready(self.limits)) is not None:
            self._downloads.pending.remove(entry)
            if self._run is None:
                self._run, self._run_started_at_s, self._last_run = [], self._at_s, None
            self._begin(entry, Cause.STARTED)
        if self._is_processing and self._is_idle:
            self._is_processing, self._is_to_be_stored = False, True
            ended, self._run = self._run, None
            if ended:
                self._last_run = QueueRunSummary.of(ended, self._run_started_at_s, self._at_s)
                self._do(announced.RunSummarized(self._last_run))

    def _begin(self, entry: Entry, cause: Cause) -> None:
        self._last_attempt += 1
        entry.start(self._at_s, self._now_s)
        self._downloads.active[self._last_attempt] = entry
        self._do(do.StartAttempt(self._last_attempt, entry.plan))
        self._do(announced.DownloadStarted(entry.plan.id, self._last_attempt))
        self._step(entry, cause)

    def _withdraw(self, entry: Entry) -> None:
        if (attempt := self._downloads.withdraw(entry)) is not None:
            self._do(reports.StopTransfer(attempt))

    def _finish_cancel(self, entry: Entry, *, discards: bool) -> None:
        if discards:
            self._discard_partials(entry)
        self._record(announced.DownloadCancelled(entry.view()))

    def _discard_partials(self, entry: Entry) -> None:
        if targets := sorted(entry.plan.targets - self.wanted_targets):
            self._do(reports.DiscardPartials(tuple(targets)))

    def _record(self, event: announced.DownloadEnded) -> None:
        if self._run is not None:
            self._run.append(event.download)
        self._do(event)

    def _step(self, entry: Entry, cause: Cause) -> None:
        entry.move_on(cause, self._now_s)
        self._tell_status(entry)

    def _tell_status(self, entry: Entry) -> None:
        self._is_to_be_stored = True
        self._do(announced.StatusChanged(entry.plan.id, entry.status))
        self._say_until_when(entry)

    def _do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _check_room(self, plan: PlannedDownload, count: int = 1, together: int = 1) -> None:
        """Refuses `count` more waiting downloads if too many wait; of several added `together`, all are refused."""
        waiting, most = len(self._downloads.pending), self.limits.max_size
        if waiting + count > most:
            head = "The queue is full" if count == 1 else f"The queue has no room for {count} more downloads"
            end = f"{plan.id} was not added" if together == 1 else f"none of the {together} downloads was added"
            raise QueueFullError(
                f"{head}: {waiting} {'is' if waiting == 1 else 'are'} waiting, and its limit is {most}, so {end}. "
                "Wait for one to start, remove one, or raise the limit: %gguf limit N",
                most,
            )

    # Showing -----------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> frozenset[int]:
        """Attempts whose stop was requested and is not confirmed yet."""
        return frozenset(self._downloads.stopping)

    @property
    def plans(self) -> list[PlannedDownload]:
        """The plans of all queued and stopping downloads."""
        plans = [entry.plan for entry in self._downloads.live]
        return plans + [stop.plan for stop in self._downloads.stopping.values()]

    @property
    def wanted_targets(self) -> frozenset[str]:
        """Every path that a live or stopping download writes or will write."""
        return frozenset(target for plan in self.plans for target in plan.targets)

    def plan_about(self, id: DownloadId, targets: frozenset[str]) -> PlannedDownload | None:  # noqa: A002 - the port's word
        """The queued or stopping download that has this id or writes one of these paths; None if there is none."""
        return next((plan for plan in self.plans if plan.id == id or plan.targets & targets), None)

    @property
    def is_transferring(self) -> bool:
        """Whether an attempt runs or is stopping, on any engine."""
        return bool(self._downloads.held_plans)

    @property
    def is_drained(self) -> bool:
        """Nothing is queued, active, stopping or being listed; paused downloads do not count."""
        return self._is_idle and not self._resolving

    @property
    def _is_idle(self) -> bool:
        is_queued = any(entry.status is DownloadStatus.QUEUED for entry in self._downloads.pending)
        return not (is_queued or self._downloads.active or self._downloads.stopping)

    def find(self, id: DownloadId) -> QueuedDownload | None:  # noqa: A002 - the port's word
        """The pending or active download that has this id; None if there is none."""
        entry = self._downloads.find_live(id)
        return None if entry is None else entry.view(self._downloads.position(entry))

    def find_ended(self, id: DownloadId) -> QueuedDownload | None:  # noqa: A002 - the port's word
        """The newest ended download that has this id; None if there is none."""
        entry = self._downloads.find_ended(id)
        return None if entry is None else entry.view()

    def plans_of_ended(self, ids: Sequence[DownloadId], status: DownloadStatus) -> list[PlannedDownload]:
        """The plans of the newest downloads with these ids that ended with this status."""
        found = (self._downloads.find_ended(id_, status) for id_ in dict.fromkeys(ids))
        return [entry.plan for entry in found if entry is not None]

    def snapshot(self) -> QueueSnapshot:
        """The whole queue as it is now; items that did not change are the same objects as last time."""
        active, pending = self._downloads.active.values(), enumerate(self._downloads.pending, start=1)
        items = (*(entry.view() for entry in active), *(entry.view(position) for position, entry in pending))
        ended = [entry.view() for entry in reversed(self._downloads.ended)]
        rates = [item.bytes_per_second for item in items if item.bytes_per_second is not None]
        rate = sum(rates) if rates else None
        going_on = [item for item in items if rate and item.status is not DownloadStatus.PAUSED]
        remaining = known_sum(left_of(item.total_bytes, item.downloaded_bytes) for item in going_on)
        return QueueSnapshot(
            version=self.version,
            items=items,
            recent_completed=tuple(row for row in ended if row.status is DownloadStatus.COMPLETED),
            recent_failures=tuple(row for row in ended if row.status is DownloadStatus.FAILED),
            recent_cancelled=tuple(row for row in ended if row.status is DownloadStatus.CANCELLED),
            resolving=tuple(self._resolving.values()),
            max_size=self.limits.max_size,
            max_concurrent=self.limits.max_concurrent,
            is_processing=self._is_processing,
            bandwidth_limit_bytes_per_second=self.limits.bandwidth_bytes_per_second,
            bytes_per_second=rate,
            eta_seconds=None if not rate or remaining is None else remaining / rate,
            last_run=self._last_run,
            download_hours=self.limits.hours,
            is_outside_hours=not self.limits.is_open,
        )

    def stored(self) -> StoredQueue:
        """The queue to store; unchanged downloads are the same objects as last time."""
        failures = [entry for entry in self._downloads.ended if entry.status is DownloadStatus.FAILED]
        kept = tuple(entry.kept() for entry in (*self._downloads.live, *failures))
        return StoredQueue(kept, self._limits_set_by_user, self._is_processing)


def _already(entry: Entry, more: str = ". %gguf status shows it.") -> AlreadyQueuedError:
    name = str(entry.plan.id)
    return AlreadyQueuedError(f"{name} is already {entry.status}{more}", name)


def _missing(wanted: PlannedDownload, live: PlannedDownload) -> list[str]:
    """The options of the request that the live download of the same model lacks."""
    companions = sorted(set(wanted.companions) - set(live.companions))
    found = {
        f"without its {', '.join(companions)}": bool(companions),
        "without `force`": wanted.force and not live.force,
        "not on every host": wanted.everywhere and not live.everywhere,
        "without this command": wanted.then not in (None, live.then),
        f"to be stored in {live.to or 'the models folder'}": wanted.to not in (None, live.to),
        "and will be registered": live.add_to_db and not wanted.add_to_db,
        "as a download and not as an update": wanted.is_update and not live.is_update,
        "as an update that replaces the old version": wanted.keeps_old and live.is_update and not live.keeps_old,
        "as an update that keeps the old version": wanted.is_update and live.keeps_old and not wanted.keeps_old,
        "without the repair": wanted.replaces and not live.replaces,
    }
    return [text for text, is_missing in found.items() if is_missing]
