"""Any order of events: the machine behaves like a plain model of the rules, and always drains.

Three checks follow every step: the machine's own invariants, the reference model, and a fake engine that knows
only which attempts it has to run, and fails if two of them would write one file.
It is long because it has one rule for each event, and the reference model.
"""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gglib_nb.domain import reports
from gglib_nb.domain import snapshot as announcements
from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import Adoption, RestoredDownload, StoredDownload, StoredLimits
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import NetworkError
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Limits
from gglib_nb.queue.machine import QueueMachine
from tests.support.fake_engine import FakeEngine
from tests.support.plans import a_file, a_plan, an_mmproj, shards, stored
from tests.support.queue_invariants import check_invariants
from tests.support.queue_reference import Reference, RefusedError

NIGHT = DailyHours.parse("22:00-7:00")
ERROR = NetworkError("The line was cut. `retry` continues.")
EMBEDDED = a_file("owner/a/q4.gguf", sha256="1" * 64)


def _plans():
    """Downloads that share ids, commits, targets and companions in every way that the rules distinguish."""
    return (
        a_plan("owner/a:Q4", EMBEDDED),
        a_plan("owner/a@main:Q4", EMBEDDED),  # the same download under another name
        a_plan("owner/a:Q4", EMBEDDED, force=True),  # requested with other options
        a_plan("owner/a:Q4", a_file("owner/a/q4.gguf", sha256="2" * 64), commit_sha="d" * 40),  # the branch moved
        a_plan("owner/a:Q4", a_file("owner/a/new-q4.gguf"), commit_sha="f" * 40),  # and its file was renamed
        a_plan("owner/a@v1:Q4", a_file("owner/a/q4.gguf", sha256="3" * 64), commit_sha="b" * 40),  # same target only
        a_plan("owner/v:Q8", *shards("v-q8", 12), an_mmproj(), companions=("mmproj",)),
        a_plan("owner/v:Q5", *shards("v-q5", 2), an_mmproj(), companions=("mmproj",), add_to_db=False),
        a_plan("owner/v:Q5", *shards("v-q5", 2), add_to_db=False),
        a_plan("owner/v:Q5", *shards("v-q5", 2)),
        a_plan("owner/x:Q2", a_file("x-q2.gguf"), an_mmproj(sha256="9" * 64), companions=("mmproj",)),
        a_plan(
            "owner/b:Q6",
            a_file("b.gguf.part1of2", target="/models/b.gguf"),
            a_file("b.gguf.part2of2", target="/models/b.gguf", offset_bytes=100, size_bytes=None),
        ),
        a_plan("owner/c:Q4"),
        a_plan("owner/e:Q4", everywhere=True),
    )


PLANS = st.integers(0, len(_plans()) - 1).map(lambda index: _plans()[index])  # equal, never the same object
PICKS = st.integers(0, 11)
STRAY_IDS = (DownloadId("owner/nobody", "Q4"), DownloadId("OWNER/c", "q4"), DownloadId("owner/a", "Q4", "main"))
OUTCOMES = {
    announcements.DownloadCompleted: DownloadStatus.COMPLETED,
    announcements.DownloadFailed: DownloadStatus.FAILED,
    announcements.DownloadCancelled: DownloadStatus.CANCELLED,
}


class QueueRules(RuleBasedStateMachine):
    @initialize(max_size=st.integers(1, 4), max_concurrent=st.integers(1, 3))
    def begin(self, max_size, max_concurrent):
        self.machine = QueueMachine(Limits(max_size, max_concurrent))
        self.model = Reference(max_size, max_concurrent)
        self.engine = FakeEngine()
        self.most_engines = 1
        self.registering = {}
        self.last_request = 0
        self.now_s = 1000.0
        self.is_size_set = False

    # Requests ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.requests) < 3)
    @rule()
    def receive(self):
        self.last_request += 1
        self.play(on.RequestReceived(self.last_request, "owner/a"), lambda: self.model.requests.add(self.last_request))

    @precondition(lambda self: self.model.requests)
    @rule(pick=PICKS)
    def drop_any(self, pick):
        self.drop(self.one_of(sorted(self.model.requests), pick))

    def drop(self, number):
        self.play(on.RequestDropped(number), lambda: self.model.drop(number))

    @precondition(lambda self: self.last_request)
    @rule(pick=PICKS, plan=PLANS, starts=st.booleans(), joins=st.booleans())
    def resolve_any(self, pick, plan, starts, joins):
        self.resolve(self.one_of([*sorted(self.model.requests), 1, 2], pick), plan, starts, joins)

    @rule(plan=PLANS)
    def queue(self, plan):
        self.receive()
        self.resolve(self.last_request, plan, starts=True, joins=True)

    @rule(plans=st.lists(PLANS, min_size=2, max_size=4), starts=st.booleans())
    def queue_several(self, plans, starts):
        for plan in plans:
            self.receive()
            self.resolve(self.last_request, plan, starts=starts, joins=False)

    def resolve(self, number, plan, starts, joins):
        event = on.PlanResolved(number, plan, starts, joins)
        found = self.play(event, lambda: self.model.resolve(number, plan, starts=starts, joins=joins))
        if found is not None:
            item, is_new = found
            position = self.model.position(item)
            assert self.reply == do.QueuePosition(
                item.plan.id, position, plan.shard_count, is_new, "", item.plan.paths[0]
            )

    @precondition(lambda self: self.model.live())
    @rule(pick=PICKS, discards=st.booleans())
    def cancel(self, pick, discards):
        id_ = self.live_or_stray(pick)
        predict = self.model.discard if discards else self.model.cancel
        self.play(on.CancelRequested(id_, discards), lambda: predict(id_))

    @precondition(lambda self: self.model.ended)
    @rule(pick=PICKS)
    def discard_what_ended(self, pick):
        id_ = self.one_of(self.model.ended, pick).plan.id
        self.play(on.CancelRequested(id_, True), lambda: self.model.discard(id_))

    @precondition(lambda self: self.model.ended)
    @rule(pick=PICKS)
    def put_back(self, pick):
        id_ = self.one_of(self.model.ended, pick).plan.id
        items = self.play(on.PutBackRequested((id_,)), lambda: self.model.put_back([id_]))
        assert self.reply == (None if items is None else tuple(map(self.model.position, items)))

    @precondition(lambda self: self.model.live())
    @rule()
    def cancel_all_and_put_all_back(self):
        ids = tuple(item.plan.id for item in self.model.live() if item.status != "registering")
        self.cancel_all()
        self.play(on.PutBackRequested(ids), lambda: self.model.put_back(ids))

    @precondition(lambda self: self.model.live() or self.model.requests)
    @rule()
    def pause_all(self):
        self.play(on.PauseRequested(None), self.model.pause_all)

    @precondition(lambda self: self.model.pending)
    @rule()
    def resume_all(self):
        self.play(on.ResumeRequested(None), self.model.resume_all)

    @precondition(lambda self: len(self.model.live()) > 1)
    @rule()
    def cancel_all(self):
        stopping = self.play(on.AllCancelRequested(), self.model.cancel_all)
        assert self.reply == stopping == self.machine.stopping

    @precondition(lambda self: self.model.live())
    @rule(pick=PICKS)
    def remove(self, pick):
        id_ = self.live_or_stray(pick)
        self.play(on.RemovalRequested(id_), lambda: self.model.remove(id_))

    @precondition(lambda self: self.model.live())
    @rule(pick=PICKS, position=st.integers(-2, 7))
    def move(self, pick, position):
        id_ = self.live_or_stray(pick)
        given = self.play(on.MoveRequested(id_, position), lambda: self.model.move(id_, position))
        assert self.reply == given

    @precondition(lambda self: self.model.live())
    @rule(pick=PICKS)
    def pause(self, pick):
        id_ = self.live_or_stray(pick)
        self.play(on.PauseRequested(id_), lambda: self.model.pause(id_))

    @precondition(lambda self: self.model.live())
    @rule(pick=PICKS)
    def resume_any(self, pick):
        self.resume(self.live_or_stray(pick))

    def resume(self, id_):
        self.play(on.ResumeRequested(id_), lambda: self.model.resume(id_))

    @precondition(lambda self: self.model.pending)
    @rule(pick=PICKS)
    def run_any_now(self, pick):
        self.run_now(self.waiting_or_other(pick))

    def run_now(self, id_):
        return self.play(on.RunRequested(id_), lambda: self.model.run_now(id_))

    @precondition(lambda self: self.model.pending)
    @rule(pick=PICKS)
    def run_now_and_stop_displaced_downloads(self, pick):
        if (item := self.run_now(self.waiting_or_other(pick))) is None:
            return
        # If two attempts share targets, one target may be taken again while the other is still held.
        is_held_twice = sum(bool(plan.targets & item.plan.targets) for _, plan in self.model.stopping.values()) > 1
        while self.engine.stop_requested:
            self.stop(0)
        nearly_there = [other.plan for other in self.model.active.values() if other.status == "finalizing"]
        has_slot = self.model.slots_of(nearly_there) < self.model.slots()
        is_held = any(plan.targets & item.plan.targets for plan in nearly_there)
        if self.model.is_open and has_slot and not is_held and not is_held_twice:
            assert item.status == "downloading"

    @rule(plans=st.lists(PLANS, min_size=2, max_size=4), pick=PICKS)
    def run_one_of_several_now(self, plans, pick):
        for plan in plans:
            self.queue(plan)
        if self.model.pending:
            self.run_now_and_stop_displaced_downloads(pick)

    @precondition(lambda self: self.model.failures())
    @rule(pick=PICKS)
    def retry(self, pick):
        id_ = self.failed_or_other(pick)
        item = self.play(on.RetryRequested(id_), lambda: self.model.retry(id_))
        assert self.reply == (None if item is None else self.model.position(item))

    @precondition(lambda self: self.model.failures())
    @rule()
    def clear_failures(self):
        self.play(on.EndedCleared(DownloadStatus.FAILED), self.model.clear_failures)

    @precondition(lambda self: self.model.failures())
    @rule(pick=PICKS)
    def clear_failure(self, pick):
        id_ = self.failed_or_other(pick)
        self.play(on.FailureCleared(id_), lambda: self.model.clear_failure(id_))

    @rule(max_size=st.integers(1, 4), bytes_per_second=st.none() | st.integers(1, 10**9))
    def limit(self, max_size, bytes_per_second):
        self.is_size_set = True
        self.play(on.LimitsChanged(StoredLimits(max_size=max_size)), lambda: setattr(self.model, "max_size", max_size))
        self.play(
            on.LimitsChanged(StoredLimits(has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=bytes_per_second)),
            lambda: None,
        )
        assert self.of(do.LimitBandwidth) == [do.LimitBandwidth(bytes_per_second)]

    @rule(max_concurrent=st.integers(1, 3))
    def change_concurrency(self, max_concurrent):
        change = on.ConcurrencyChanged(max_concurrent)
        self.play(change, lambda: setattr(self.model, "max_concurrent", max_concurrent))

    @rule(is_open=st.booleans())
    def keep_hours(self, is_open):
        change = on.LimitsChanged(StoredLimits(has_hours=True, hours=NIGHT), is_open)
        self.play(change, lambda: self.model.turn(is_open=is_open))

    # Other kernels -------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.live()) < 6)
    @rule(
        downloads=st.lists(
            st.tuples(PLANS, st.sampled_from(["queued", "paused", "failed"]), st.booleans()), max_size=4
        ),
        starts=st.booleans(),
        limit=st.none() | st.integers(1, 4),
    )
    def restore(self, downloads, starts, limit):
        # Active downloads come first, as in the stored order; failed or paused ones did not run.
        ordered = sorted(downloads, key=lambda one: (one[1] == "failed", not one[2]))
        left = [(plan, status, was_active and status == "queued") for plan, status, was_active in ordered]
        event = on.DownloadsRestored(tuple(map(a_restored, left)), StoredLimits(max_size=limit), starts)
        outcomes = self.play(event, lambda: self.restored(left, starts, limit))
        assert self.reply == Adoption(**outcomes)

    def restored(self, left, starts, limit):
        if limit is not None and not self.is_size_set:
            self.model.max_size, self.is_size_set = limit, True
        return self.model.restore(left, starts=starts)

    @rule(owner=st.sampled_from(["a.ipynb", "b.ipynb"]), pick=PICKS)
    def see_others(self, owner, pick):
        plan = _plans()[pick]
        self.play(on.PeersSeen({plan.identity: owner}), lambda: None)

    # Reports -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.engine.running)
    @rule(
        pick=PICKS, received=st.integers(0, 100), is_finalizing=st.booleans(), kind=st.sampled_from([None, "stalled"])
    )
    def progress(self, pick, received, is_finalizing, kind):
        attempt = self.one_of(self.engine.running, pick)
        event = self.sample(attempt, self.engine.running[attempt], received, is_finalizing, kind)
        self.play(event, lambda: self.model.progress(attempt, received, is_finalizing=is_finalizing))

    @precondition(lambda self: self.engine.running)
    @rule(pick=PICKS)
    def finish(self, pick):
        attempt = self.one_of(self.engine.running, pick)
        files = stored(self.engine.running[attempt])
        self.engine.answer(attempt)
        self.play(reports.TransferFinished(attempt, files), lambda: self.model.finish(attempt))

    @precondition(lambda self: self.engine.running)
    @rule(pick=PICKS, can_retry=st.booleans())
    def fail(self, pick, can_retry):
        attempt = self.one_of(self.engine.running, pick)
        self.engine.answer(attempt)
        self.play(reports.TransferFailed(attempt, ERROR, can_retry), lambda: self.model.fail(attempt))

    @precondition(lambda self: self.engine.stop_requested)
    @rule(pick=PICKS)
    def stop(self, pick):
        attempt = self.one_of(sorted(self.engine.stop_requested), pick)
        self.engine.answer(attempt)
        self.play(reports.TransferStopped(attempt), lambda: self.model.stop(attempt))

    @precondition(lambda self: self.engine.running)
    @rule()
    def lose_engine(self):
        self.engine.die()
        self.play(reports.EngineLost(), self.model.lose_engine)

    @precondition(lambda self: self.engine.running)
    @rule(picks=st.sets(PICKS, min_size=1, max_size=3))
    def lose_one_of_several_engines(self, picks):
        lost = frozenset(self.one_of(self.engine.running, pick) for pick in picks)
        for attempt in lost:
            self.engine.answer(attempt)
        self.play(reports.EngineLost(attempts=lost), lambda: self.model.lose_engine(lost))

    @rule(count=st.integers(0, 3))
    def change_engines(self, count):
        event = reports.EnginesChanged(count)
        self.most_engines = max(self.most_engines, count)
        self.play(event, lambda: setattr(self.model, "engine_count", max(1, count)))

    @precondition(lambda self: self.engine.running)
    @rule(pick=PICKS)
    def wait_for_an_engine(self, pick):
        attempt = self.one_of(self.engine.running, pick)
        self.play(reports.TransferWaits(attempt, "waiting"), lambda: None)

    @precondition(lambda self: self.registering)
    @rule(pick=PICKS)
    def register(self, pick):
        attempt = self.one_of(self.registering, pick)
        del self.registering[attempt]
        self.play(on.ModelRegistered(attempt), lambda: self.model.register(attempt))

    @precondition(lambda self: self.registering)
    @rule(pick=PICKS)
    def fail_to_register(self, pick):
        attempt = self.one_of(self.registering, pick)
        del self.registering[attempt]
        self.play(on.ModelRegistered(attempt, error=ERROR), lambda: self.model.register(attempt, is_written=False))

    @precondition(lambda self: self.engine.answered)
    @rule(pick=PICKS, which=st.integers(0, 4))
    def report_of_an_old_attempt(self, pick, which):
        attempt = self.one_of(self.engine.answered, pick)
        plan = self.engine.answered[attempt]
        late = (
            self.sample(attempt, plan, 7, is_finalizing=True, kind=None),
            reports.TransferFinished(attempt, stored(plan)),
            reports.TransferFailed(attempt, ERROR, True),
            reports.TransferStopped(attempt),
            reports.TransferWaits(attempt, "waiting"),
        )
        self.play_stale(late[which])

    @rule(attempt=PICKS, is_failure=st.booleans())
    def report_of_an_unwritten_row(self, attempt, is_failure):
        if attempt not in self.registering:
            failure = on.ModelRegistered(attempt, error=ERROR)
            self.play_stale(failure if is_failure else on.ModelRegistered(attempt))

    # Checks --------------------------------------------------------------------------------------------------

    def play(self, event, predict):
        """Applies an event to the model and to the machine; returns the result of the model's operation."""
        self.model.expect_nothing()
        self.now_s += 1.0
        self.effects, self.reply = [], None
        before, kept_before = self.machine.snapshot(), self.machine.stored()
        try:
            predicted = predict()
        except RefusedError as refused:
            with pytest.raises(refused.kind):
                self.machine.handle(event, self.now_s)
            assert self.machine.snapshot() == before
            return None
        self.effects = self.machine.handle(event, self.now_s)
        self.reply = next((effect.value for effect in self.of(do.Reply)), None)
        self.model.settle()
        # Nothing that must outlive the process changes without an effect that stores it.
        assert self.machine.stored() == kept_before or self.of(do.StoreQueue) == [do.StoreQueue()]
        self.obey()
        self.compare_announcements()
        self.compare_objects(before)
        return predicted

    def play_stale(self, event):
        before = self.machine.snapshot()
        assert self.machine.handle(event, self.now_s) == []
        after = self.machine.snapshot()
        assert all(new is old for new, old in zip(after.items, before.items, strict=True))

    def obey(self):
        """The fake engine and the fake catalog execute their commands in order."""
        for effect in self.effects:
            match effect:
                case do.StartAttempt(attempt, plan):
                    self.engine.start(attempt, plan)
                case do.StopTransfer(attempt):
                    self.engine.stop(attempt)
                case do.DiscardPartials(targets):
                    self.engine.discard(targets)
                case do.RegisterModel(attempt, plan):
                    assert plan.files == self.engine.answered[attempt].files
                    self.registering[attempt] = plan
                case _:
                    pass

    def compare_announcements(self):
        assert [(effect.attempt, effect.plan) for effect in self.of(do.StartAttempt)] == self.model.starts
        assert [effect.attempt for effect in self.of(do.StopTransfer)] == self.model.stops
        events = self.of(announcements.QueueEvent)
        assert [(e.download.id, OUTCOMES[type(e)]) for e in events if type(e) in OUTCOMES] == self.model.ends
        runs = [event.summary for event in events if isinstance(event, announcements.RunSummarized)]
        assert [self.counts(run) for run in runs] == [self.expected_counts(run) for run in self.model.runs]

    def counts(self, run):
        attempts = (run.attempts_completed, run.attempts_failed, run.attempts_cancelled)
        return attempts, (run.models_completed, run.models_failed, run.models_cancelled), run.items[0].id

    def expected_counts(self, run):
        outcomes = ("completed", "failed", "cancelled")
        attempts, models = Counter(status for _id, status in run), Counter(dict(run).values())
        return tuple(attempts[one] for one in outcomes), tuple(models[one] for one in outcomes), run[-1][0]

    def compare_objects(self, before):
        def rows(snapshot):
            return (
                *snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled
            )  # fmt: skip

        old = {(row.id, row.queued_at_s, row.ended_at_s): row for row in rows(before)}
        for row in rows(self.machine.snapshot()):
            same = old.get((row.id, row.queued_at_s, row.ended_at_s))
            assert row is same or row != same

    def of(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def one_of(self, choices, pick):
        return list(choices)[pick % len(choices)]

    def live_and_stray(self):
        live = [item.plan.id for item in self.model.live()]
        return [*live, *(item.plan.id for item in self.model.failures()[:1]), *STRAY_IDS]

    def live_or_stray(self, pick):
        return self.one_of(self.live_and_stray(), pick)

    def waiting_or_other(self, pick):
        waiting = [item.plan.id for item in self.model.pending]
        return self.one_of([*waiting * 4, *self.live_and_stray()], pick)

    def failed_or_other(self, pick):
        failed = [item.plan.id for item in self.model.failures()]
        return self.one_of([*failed, *self.live_and_stray()], pick)

    def sample(self, attempt, plan, received, is_finalizing, kind):
        files = tuple(reports.FileProgress(received, ShardStatus.DOWNLOADING) for _file in plan.files)
        return reports.Progress(attempt, self.now_s, files, received, kind, None, "", is_finalizing)

    @invariant()
    def nothing_that_always_holds_is_broken(self):
        check_invariants(self.machine)

    @invariant()
    def the_queue_shows_what_the_model_holds(self):
        snapshot, model = self.machine.snapshot(), self.model
        active = [(item.plan.id, item.status, 0) for item in model.active.values()]
        pending = [(item.plan.id, item.status, place) for place, item in enumerate(model.pending, start=1)]
        assert [(row.id, row.status, row.position) for row in snapshot.items] == active + pending
        assert [row.id for row in snapshot.recent_failures] == [item.plan.id for item in model.failures()]
        assert (snapshot.active_count, snapshot.pending_count) == (len(active), len(pending))
        assert snapshot.is_processing == model.is_processing
        assert (snapshot.max_size, snapshot.max_concurrent) == (model.max_size, model.max_concurrent)
        waiting = [row.notice for row in snapshot.items if row.status is DownloadStatus.QUEUED]
        assert set(waiting) <= ({None} if model.is_open else {"waiting until 22:00"})
        assert len(snapshot.resolving) == len(model.requests)
        assert self.machine.is_drained == (model.is_drained() and not model.requests)

    @invariant()
    def what_is_kept_is_what_the_model_holds(self):
        stored = self.machine.stored()
        kept = [(one.plan.id, one.status, one.was_active) for one in stored.downloads]
        assert kept == self.model.kept()
        assert stored.is_processing == self.model.is_processing
        assert all(one is same for one, same in zip(self.machine.stored().downloads, stored.downloads, strict=True))

    @invariant()
    def every_attempt_is_accounted_for(self):
        assert set(self.engine.running) == set(self.model.running()) | set(self.model.stopping)
        assert self.engine.stop_requested == set(self.model.stopping) == self.machine.stopping
        # (Fewer engines stop nothing.)
        assert len(self.engine.running) <= 3 * self.most_engines
        assert set(self.registering) == set(self.model.active) - set(self.model.running())

    # The end -------------------------------------------------------------------------------------------------

    def teardown(self):
        """From any state the queue drains when every request is answered and nothing is held back."""
        for number in list(self.model.requests):
            self.drop(number)
        self.keep_hours(is_open=True)
        for row in self.machine.snapshot().items:
            self.resume(row.id)
        for _round in range(100):
            self.answer_everything()
        snapshot = self.machine.snapshot()
        assert snapshot.items == ()
        assert not snapshot.is_processing
        assert self.machine.is_drained

    def answer_everything(self):
        if self.engine.stop_requested:
            self.stop(0)
        elif self.engine.running:
            self.finish(0)
        elif self.registering:
            self.register(0)


def a_restored(left):
    plan, status, was_active = left
    error = ERROR if status == "failed" else None
    stored = StoredDownload(plan, DownloadStatus(status), was_active, (), 900.0, ended_at_s=None, error=error)
    return RestoredDownload(stored, tuple(10 for _file in plan.files))


TestQueue = QueueRules.TestCase
