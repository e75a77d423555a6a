"""One attempt: a coordinator thread that owns all state of a transfer, and threads that work for it.

The coordinator alone decides and keeps the books. Everything else reports into its inbox: connection
threads (a range ended), resolving, preparing, syncing and finishing threads (an outcome), the digest (a part
is hashed), the command loop (stop). Ten times a second it looks at the connections, twice a second it writes
the journals, each time after a look at the lease. On this path no call of the coordinator waits for the network,
an fsync or a long read.

The life of a target: PENDING → PREPARING (`prepare`) → FETCHING → FINISHING (`finish`) → DONE. The next target
is opened before the present one has given out all its ranges, so connections never idle between shards.
"""

import functools
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from gglib_nb.domain.download import PlannedFile, StoredFile
from gglib_nb.engine.budget import ConnectionBudget
from gglib_nb.engine.crew import Crew, Member
from gglib_nb.engine.facts import check_split_set
from gglib_nb.engine.fetch import Job, JobEnded
from gglib_nb.engine.finish import Finish, FinishOutcome, Gate
from gglib_nb.engine.notices import notice_of
from gglib_nb.engine.partial import Partial
from gglib_nb.engine.place import discard, journal_path, storage_error
from gglib_nb.engine.policy import STALLED, after_failure, can_retry
from gglib_nb.engine.prepare import Preparation, Prepared, StoppedError
from gglib_nb.engine.protocol import (
    Event,
    Progress,
    StartTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine.ranges import SMALLEST_RANGE_BYTES, RangeSet, choose_split, range_bytes
from gglib_nb.engine.resolve import FileAddress, Remote, resolve
from gglib_nb.engine.retry import BusyError, ExchangeError, LeaseLostError, LineError, Patience, RangeIgnoredError
from gglib_nb.engine.room import Claim, Room
from gglib_nb.engine.target import Part, Phase, Target
from gglib_nb.engine.throttle import Throttle
from gglib_nb.engine.web import Web
from gglib_nb.errors import GglibError, IntegrityError, StorageError, to_wire

_TICK_S: Final = 0.1
_KEEP_S: Final = 0.5
_BEAT_S: Final = 1.0
_MOST_OPEN_TARGETS: Final = 8
# At a stop, an fsync under way is waited for no longer than this.
_STOP_WAIT_S: Final = 0.5
# A connection that brought less before it broke counts as one that brought nothing.
_WORTH_BYTES: Final = 64 * 1024


@dataclass
class Resources:
    """What all transfers of the engine share; `web` and `link_folders` are replaced by `Configure`."""

    web: Web
    link_folders: tuple[str, ...]
    throttle: Throttle
    budget: ConnectionBudget
    room: Room
    patience: Patience


@dataclass(frozen=True, slots=True)
class _Stop:
    discard: bool


@dataclass(frozen=True, slots=True)
class _Resolved:
    part: Part
    outcome: Remote | ExchangeError | GglibError


@dataclass(frozen=True, slots=True)
class _Prepared:
    target: Target
    outcome: Prepared | GglibError | StoppedError


@dataclass(frozen=True, slots=True)
class _Synced:
    target: Target
    ranges: RangeSet
    error: OSError | None


@dataclass(frozen=True, slots=True)
class _Finished:
    target: Target
    outcome: FinishOutcome


@dataclass(frozen=True, slots=True)
class _PartHashed:
    """A look at the digests is due."""


_Message = _Stop | JobEnded | _Resolved | _Prepared | _Synced | _Finished | _PartHashed


class Transfer:
    """One attempt. `start` and `stop` may be called from any thread; all else belongs to the coordinator."""

    def __init__(self, command: StartTransfer, shared: Resources, emit: Callable[[Event], None]) -> None:
        self._command = command
        self._shared = shared
        self._emit = emit
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._crew = Crew(command.attempt, shared.throttle, shared.budget, self._inbox.put)
        self._targets = list(_targets_of(command, shared.web.endpoint))
        self._target_of: dict[Job, Target] = {}
        self._finishes: dict[Target, Finish] = {}
        self._gate = Gate()
        self._stop_event = threading.Event()
        self._stopping: _Stop | None = None
        self._next_tick_s = self._next_keep_s = self._next_beat_s = time.monotonic()
        self._thread = threading.Thread(target=self._main, name=f"gglib-transfer-{command.attempt}", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether its last event was emitted."""
        return not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, discard_partials: bool) -> None:
        """End within a second; the end is emitted."""
        self._stop_event.set()
        self._inbox.put(_Stop(discard_partials))

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _main(self) -> None:
        try:
            end = self._run()
        except GglibError as error:
            end = TransferFailed(self._command.attempt, to_wire(error), can_retry(error))
        except Exception as error:  # noqa: BLE001  # a bug must end the attempt, or its slot is held for ever
            traceback.print_exc(file=sys.stderr)
            wrapped = StorageError(f"The engine failed ({type(error).__name__}: {error}); its log says where.")
            end = TransferFailed(self._command.attempt, to_wire(wrapped), can_retry=True)
        finally:
            self._let_go()
        if isinstance(end, TransferFinished):
            for target in self._targets:
                journal_path(target.path).unlink(missing_ok=True)
        self._emit(end)

    def _run(self) -> Event:
        while True:
            now_s = time.monotonic()
            self._open_targets()
            self._resolve_parts(now_s)
            self._prove_targets()
            self._assign_jobs(now_s)
            if all(target.phase is Phase.DONE for target in self._targets):
                return self._finished()
            self._tick(now_s)
            self._handle_messages()
            if self._stopping is not None:
                return self._stopped(self._stopping)

    def _handle_messages(self) -> None:
        """Wait for one until the next tick, then take all there are."""
        wait_s = max(0.0, self._next_tick_s - time.monotonic())
        try:
            self._handle(self._inbox.get(timeout=wait_s))
            while self._stopping is None:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _handle(self, message: _Message) -> None:
        match message:
            case _Stop():
                self._stopping = message
            case JobEnded():
                self._job_ended(message)
            case _Resolved():
                self._resolved(message.part, message.outcome)
            case _Prepared():
                self._prepared(message.target, message.outcome)
            case _Synced():
                self._synced(message)
            case _Finished():
                self._target_finished(message.target, message.outcome)
            case _PartHashed():
                pass
            case _:
                assert_never(message)

    # Targets: opening, resolving, proving, finishing.

    @property
    def _fetching(self) -> list[Target]:
        return [target for target in self._targets if target.phase is Phase.FETCHING]

    def _open_targets(self) -> None:
        """Prepare the next target when those that are open will soon have no range to give."""
        for target in self._targets:
            if target.phase is Phase.PENDING:
                if not self._wants_another_target():
                    return
                self._prepare(target)

    def _wants_another_target(self) -> bool:
        preparations = [one.preparation for one in self._targets if one.phase is Phase.PREPARING]
        if any(one is not None and one.owner_bytes is not None for one in preparations):
            return False  # another process is at this download: follow it file by file
        fetching = self._fetching
        under_way = sum(job.end - job.position for job in self._target_of if job.end is not None)
        free = sum(target.missing_bytes for target in fetching) - under_way
        open_targets = len(preparations) + sum(target.missing_bytes > 0 for target in fetching)
        has_enough = free >= self._crew.share * SMALLEST_RANGE_BYTES
        return not preparations and open_targets < _MOST_OPEN_TARGETS and not has_enough

    def _prepare(self, target: Target) -> None:
        target.phase = Phase.PREPARING
        target.preparation = Preparation(
            tuple(part.planned for part in target.parts),
            force=self._command.force,
            link_folders=self._shared.link_folders,
            lease_s=self._shared.patience.lease_s,
            stop=self._stop_event,
        )
        target.preparation.start(lambda outcome: self._inbox.put(_Prepared(target, outcome)))

    def _prepared(self, target: Target, outcome: Prepared | GglibError | StoppedError) -> None:
        if isinstance(outcome, GglibError):
            raise outcome
        if isinstance(outcome, StoppedError):
            return
        if outcome.stored is not None:
            self._done(target, outcome.stored)
            return
        target.phase = Phase.FETCHING
        if target.size_bytes is not None and all(part.planned.sha256 is not None for part in target.parts):
            self._open_partial(target)

    def _open_partial(self, target: Target) -> None:
        """Make the partial file, once it is known what it will be."""
        preparation = target.preparation
        if target.partial is not None or preparation is None:
            return
        pending = [one for one in self._targets if one.phase is not Phase.DONE and one.size_bytes is not None]
        self._shared.room.claim(
            self._command.attempt, [Claim(one.path, one.size_bytes) for one in pending if one.size_bytes is not None]
        )
        try:
            target.partial = Partial(
                target.path,
                target.identities,
                target.size_bytes,
                preparation.lease,
                lambda: self._inbox.put(_PartHashed()),
            )
        except OSError as error:
            raise storage_error(error, target.path) from error

    def _resolve_parts(self, now_s: float) -> None:
        """Ask the hub for the parts that come next; one at a time for each target."""
        for target in self._fetching:
            part = next(target.waiting_parts(now_s), None)
            if part is not None and part.remote is None and not part.is_resolving:
                self._resolve(part)

    def _resolve(self, part: Part) -> None:
        part.is_resolving = True
        web = self._shared.web

        def run() -> None:
            try:
                outcome: Remote | ExchangeError | GglibError = resolve(web, part.address, part.planned)
            except (ExchangeError, GglibError) as error:
                outcome = error
            self._inbox.put(_Resolved(part, outcome))

        threading.Thread(target=run, name="gglib-resolve", daemon=True).start()

    def _resolved(self, part: Part, outcome: Remote | ExchangeError | GglibError) -> None:
        part.is_resolving = False
        if isinstance(outcome, GglibError):
            raise outcome
        if isinstance(outcome, ExchangeError):
            after_failure(part, outcome, time.monotonic(), self._shared.patience, others_flow=False)
            return
        part.remote = outcome
        part.is_sequential = part.is_sequential or not outcome.takes_ranges
        if part.end is None and outcome.size_bytes is not None:
            part.end = part.start + outcome.size_bytes
        part.is_sequential = part.is_sequential or part.end is None
        target = next(target for target in self._targets if part in target.parts)
        if target.phase is Phase.FETCHING:
            self._open_partial(target)

    def _prove_targets(self) -> None:
        """Compare the digests that are there with what they must be."""
        for target in self._fetching:
            if target.partial is not None:
                digest = target.partial.follower.digest
                for actual in digest.digests[target.proven_parts :]:
                    if not self._prove_part(target, target.partial, actual):
                        break
                if target.proven_parts == len(target.parts):
                    self._finish(target, target.partial, digest.whole)

    def _prove_part(self, target: Target, partial: Partial, actual: str) -> bool:
        index = target.proven_parts
        part = target.parts[index]
        if part.sha256 in (None, actual):
            target.proven_parts += 1
            return True
        self._fetch_again(target, partial, index)
        if part.is_refetched:
            raise IntegrityError(
                f"{part.planned.path_in_repo} arrived twice with another SHA-256 than the Hub states "
                "and was thrown away; retry later.",
                expected=part.sha256 or "",
                actual=actual,
            )
        part.is_refetched = True
        part.remote = None
        return False

    def _fetch_again(self, target: Target, partial: Partial, index: int) -> None:
        """Forget the bytes of a part, on the disk's books and in the digest."""
        part = target.parts[index]
        for job in [job for job in target.jobs if job.part_offset == part.start]:
            self._abandon(job)
        end = partial.done.last_end if part.end is None else part.end
        partial.forget(part.start, end)
        partial.follower.rewind(index, part.start)
        target.proven_parts = min(target.proven_parts, index)

    def _finish(self, target: Target, partial: Partial, sha256: str) -> None:
        first = target.parts[0]
        stored = StoredFile(
            target=str(target.path),
            path_in_repo=first.planned.path_in_repo,
            kind=first.planned.kind,
            size_bytes=target.size_bytes or 0,
            sha256=sha256,
            is_verified=all(part.sha256 is not None for part in target.parts),
            mtime_ns=0,
            was_present=False,
            facts={},
        )
        assert target.preparation is not None  # noqa: S101  # it brought the lease
        target.phase = Phase.FINISHING
        finish = Finish(partial, target.preparation.lease, stored, self._gate, may_replace=self._command.force)
        self._finishes[target] = finish
        finish.start(lambda outcome: self._inbox.put(_Finished(target, outcome)))

    def _target_finished(self, target: Target, outcome: FinishOutcome) -> None:
        del self._finishes[target]
        if isinstance(outcome, LeaseLostError):
            self._start_over(target)
        elif isinstance(outcome, GglibError):
            raise outcome
        elif outcome is not None:
            self._done(target, outcome)

    def _done(self, target: Target, stored: StoredFile) -> None:
        target.phase = Phase.DONE
        target.stored = stored
        if target.preparation is not None and target.preparation.has_lease:
            target.preparation.lease.release()

    # Jobs: giving out ranges, and what becomes of them.

    def _assign_jobs(self, now_s: float) -> None:
        while self._crew.has_room and (found := self._next_job(now_s)) is not None:
            target, job = found
            self._target_of[job] = target
            member = self._crew.someone_idle(self._shared.web, now_s)
            if member is None:
                self._abandon(job)
                return
            self._crew.assign(member, job, now_s)

    def _next_job(self, now_s: float) -> tuple[Target, Job] | None:
        rate = self._crew.typical_rate(now_s)
        for target in self._fetching:
            if (job := target.next_job(now_s, range_bytes(rate))) is not None:
                return target, job
        if any(target.phase in (Phase.PENDING, Phase.PREPARING) for target in self._targets):
            return None
        return self._split(now_s, rate)

    def _split(self, now_s: float, rate: float | None) -> tuple[Target, Job] | None:
        """The tail of the slowest range, when nothing else is left to give."""
        runners = [
            (job, runner)
            for job, runner in self._crew.runners(now_s)
            if self._target_of[job].part_of(job).retry_at_s <= now_s
        ]
        choice = choose_split([runner for _, runner in runners], rate)
        if choice is None:
            return None
        job = runners[choice[0]][0]
        target = self._target_of[job]
        tail = target.split_job(job, choice[1])
        return None if tail is None else (target, tail)

    def _abandon(self, job: Job) -> None:
        """Take a job away from whoever has it; what it wrote stays, and the rest is given out again."""
        self._target_of.pop(job).drop(job)
        member = next((member for member in self._crew if member.job is job), None)
        if member is not None:
            self._crew.ended(member.fetcher, time.monotonic())
            if member in list(self._crew):
                self._crew.dismiss(member)

    def _job_ended(self, ended: JobEnded) -> None:
        job, now_s = ended.job, time.monotonic()
        target = self._target_of.pop(job, None)
        if target is None:
            return  # it was abandoned, and its member with it
        self._crew.ended(ended.fetcher, now_s)
        target.drop(job)
        part = target.part_of(job)
        if job.position - job.start >= _WORTH_BYTES or job.position == job.end:
            part.succeeded()
        if isinstance(ended.error, GglibError):
            raise ended.error
        if ended.error is not None:
            self._job_failed(target, part, job, ended.error, now_s)
        elif part.end is None:
            self._length_is_known(target, part, job.position)

    def _length_is_known(self, target: Target, part: Part, end: int) -> None:
        part.end = end
        if target.partial is not None:
            target.take_note()
            target.partial.close_at(end)

    def _job_failed(self, target: Target, part: Part, job: Job, error: ExchangeError, now_s: float) -> None:
        if isinstance(error, LeaseLostError):
            self._keep_lease(target)
        elif isinstance(error, RangeIgnoredError):
            if not part.is_sequential and target.partial is not None:
                part.is_sequential = True
                self._fetch_again(target, target.partial, target.parts.index(part))
        elif part.remote is not None and part.remote.url == job.source.url:
            # Otherwise it was about a URL that has been replaced meanwhile.
            if isinstance(error, BusyError):
                self._crew.refused(now_s)
            if part.end is None:
                self._fetch_again(target, target.partial, 0) if target.partial is not None else None
            others_flow = bool(self._crew.busy) and now_s - self._crew.moved_s < 1
            after_failure(part, error, now_s, self._shared.patience, others_flow=others_flow)

    # The clock: watching connections, keeping the books, telling how far it is.

    def _tick(self, now_s: float) -> None:
        if now_s < self._next_tick_s:
            return
        self._next_tick_s = now_s + _TICK_S
        self._crew.watch(now_s)
        for target in self._fetching:
            target.take_note()
        self._drop_members(now_s)
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + _BEAT_S
            self._beat()
        if now_s >= self._next_keep_s:
            self._next_keep_s = now_s + _KEEP_S
            self._keep(now_s)
        self._emit(self._progress(now_s))

    def _drop_members(self, now_s: float) -> None:
        for member in self._crew.stalled(now_s, self._shared.patience.stall_s):
            self._dismiss(member, LineError(STALLED), now_s)
        slow = self._crew.candidate_to_drop(now_s)
        if slow is not None:
            self._dismiss(slow, None, now_s)

    def _dismiss(self, member: Member, error: LineError | None, now_s: float) -> None:
        job = member.job
        if job is None:
            return
        target = self._target_of[job]
        self._abandon(job)
        if error is not None:
            self._job_failed(target, target.part_of(job), job, error, now_s)

    def _beat(self) -> None:
        for target in self._targets:
            preparation = target.preparation
            if target.phase in (Phase.PREPARING, Phase.FINISHING) and preparation is not None and preparation.has_lease:
                preparation.lease.beat(target.done.total_bytes)
        for target in self._fetching:
            self._keep_lease(target)

    def _keep_lease(self, target: Target) -> None:
        if target.preparation is not None and not target.preparation.lease.beat(target.done.total_bytes):
            self._start_over(target)

    def _start_over(self, target: Target) -> None:
        """Another process has the file: write nothing more, and wait for it."""
        for job in list(target.jobs):
            self._abandon(job)
        if target.partial is not None and target.phase is Phase.FETCHING:
            target.partial.close(is_ours=False)
        target.partial = None
        target.proven_parts = 0
        self._prepare(target)

    def _keep(self, now_s: float) -> None:
        """Write the journals, and have the bytes synced when that is due."""
        for target in self._fetching:
            partial = target.partial
            if partial is None or target.preparation is None:
                continue
            if not target.preparation.lease.is_ours():
                self._start_over(target)
                continue
            try:
                partial.record()
            except OSError as error:
                raise storage_error(error, partial.path) from error
            if target.sync_is_due(now_s):
                self._sync(target, partial, now_s)

    def _sync(self, target: Target, partial: Partial, now_s: float) -> None:
        target.begin_sync(now_s)
        ranges, sync = partial.done.copy(), partial.syncer()

        def run() -> None:
            try:
                sync()
            except OSError as error:
                self._inbox.put(_Synced(target, ranges, error))
            else:
                self._inbox.put(_Synced(target, ranges, None))

        threading.Thread(target=run, name="gglib-sync", daemon=True).start()

    def _synced(self, message: _Synced) -> None:
        target = message.target
        target.is_syncing = False
        if target.phase is not Phase.FETCHING or target.partial is None or target.preparation is None:
            return
        if message.error is not None:
            raise storage_error(message.error, target.partial.path)
        if target.preparation.lease.is_ours():
            target.partial.record_synced(message.ranges)

    def _progress(self, now_s: float) -> Progress:
        files = {
            index: progress
            for target in self._targets
            for index, progress in zip(target.indexes, target.progress(), strict=True)
        }
        notice = notice_of(self._targets, now_s, self._crew.moved_s, self._crew.received_bytes)
        return Progress(
            attempt=self._command.attempt,
            sampled_s=now_s,
            files=tuple(files[index] for index in range(len(files))),
            received_bytes=self._crew.received_bytes,
            notice_kind=notice.kind,
            notice_s=notice.seconds,
            notice_text=notice.text,
            is_finalizing=notice.is_finalizing,
        )

    # The end.

    def _finished(self) -> TransferFinished:
        stored = tuple(target.stored for target in self._targets if target.stored is not None)
        check_split_set(stored)
        self._emit(self._progress(time.monotonic()))
        return TransferFinished(self._command.attempt, stored)

    def _stopped(self, stop: _Stop) -> Event:
        """Whatever was renamed already is done; all else is left for a resume, or deleted."""
        self._gate.close()
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while any(finish.is_renamed for finish in self._finishes.values()) and time.monotonic() < deadline_s:
            message = self._inbox.get()
            if isinstance(message, _Finished):
                self._target_finished(message.target, message.outcome)
        if all(target.phase is Phase.DONE for target in self._targets):
            return self._finished()
        self._let_go()
        if stop.discard:
            for target in self._targets:
                discard(target.path)
        return TransferStopped(self._command.attempt)

    def _let_go(self) -> None:
        """Stop all threads, write the journals, close the files, give the leases back. Harmless when done twice."""
        self._stop_event.set()
        self._gate.close()
        for job in list(self._target_of):
            self._target_of.pop(job).drop(job)
        self._crew.dismiss_all()
        for target in self._targets:
            self._let_go_of(target)
        self._shared.room.leave(self._command.attempt)

    def _let_go_of(self, target: Target) -> None:
        preparation = target.preparation
        if preparation is None or not preparation.has_lease:
            return
        if target.partial is not None and target.phase is Phase.FETCHING:
            target.partial.close(is_ours=preparation.lease.is_ours())
            target.partial = None
        preparation.lease.release()


def _targets_of(command: StartTransfer, endpoint: str) -> Iterator[Target]:
    """The files of a command by target, in the order of their first part."""
    by_target: dict[str, list[tuple[int, PlannedFile]]] = {}
    for index, file in enumerate(command.files):
        by_target.setdefault(file.target, []).append((index, file))
    address = functools.partial(FileAddress, endpoint, command.repo_id, command.commit_sha)
    for files in by_target.values():
        yield Target(sorted(files, key=lambda item: item[1].offset_bytes), address)
