"""One attempt: a coordinator thread that owns all state of a transfer, and threads that work for it.

The coordinator alone decides; `engine.dispatch` (ranges to connections) and `engine.books` (leases, journals) are
its hands, on its thread. Everything else reports into its inbox: connection threads (a range ended), threads
that resolve, prepare, sync and finish (an outcome), the digest (a part is hashed), the command loop (stop).
The coordinator never waits for the network, an fsync or a long read.

The life of a target: PENDING → PREPARING (`prepare`) → FETCHING → FINISHING (`finish`) → DONE. The next target
is opened before the present one has given out all its ranges, so connections never idle between shards.
"""

import contextlib
import functools
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final, TypeVar

from gglib_nb.domain.download import StoredFile
from gglib_nb.engine.books import Books
from gglib_nb.engine.crew import Crew
from gglib_nb.engine.dispatch import Dispatcher
from gglib_nb.engine.facts import check_split_set
from gglib_nb.engine.fetch import Job, JobEnded
from gglib_nb.engine.finish import Finish, FinishOutcome, Gate
from gglib_nb.engine.notices import notice_of
from gglib_nb.engine.partial import Partial, discard_unowned
from gglib_nb.engine.place import discard, disk_full, free_bytes, journal_path, storage_error
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
from gglib_nb.engine.ranges import SMALLEST_RANGE_BYTES, RangeSet
from gglib_nb.engine.resolve import Remote, resolve
from gglib_nb.engine.resources import Resources
from gglib_nb.engine.retry import BusyError, ExchangeError, LeaseLostError, LineError, RangeIgnoredError
from gglib_nb.engine.room import Claim
from gglib_nb.engine.target import Part, Phase, Target, targets_of
from gglib_nb.errors import DiskFullError, GglibError, IntegrityError, StorageError, to_wire

Outcome = TypeVar("Outcome")

_TICK_S: Final = 0.1
_MOST_OPEN_TARGETS: Final = 8
# At a stop, an fsync under way is waited for no longer than this.
_STOP_WAIT_S: Final = 0.5
# A connection that brought less before it broke counts as one that brought nothing.
_WORTH_BYTES: Final = 64 * 1024


class Transfer:
    """One attempt. `start`, `stop` and `join` may be called from any thread; all else belongs to the coordinator.

    Its inbox holds calls: whoever has something to report puts in what the coordinator shall do about it.
    """

    def __init__(self, command: StartTransfer, shared: Resources, emit: Callable[[Event], None]) -> None:
        self._command = command
        self._shared = shared
        self._emit = emit
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._targets = list(targets_of(command, shared.web.endpoint))
        self._crew = Crew(command.attempt, shared.throttle, shared.budget, self._report_job)
        self._dispatcher = Dispatcher(self._crew, self._targets)
        self._books = Books(self._targets, self._sync)
        self._finishes: dict[Target, Finish] = {}
        self._gate = Gate()
        self._stop_event = threading.Event()
        self._is_stopping = False
        self._discards = False
        self._next_tick_s = time.monotonic()
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
        self._inbox.put(lambda: self._stop(discard_partials=discard_partials))

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _main(self) -> None:
        try:
            end = self._run()
        except DiskFullError as error:
            full = error if error.needed_bytes is not None else self._disk_full()
            end = TransferFailed(self._command.attempt, to_wire(full), can_retry(full))
        except GglibError as error:
            end = TransferFailed(self._command.attempt, to_wire(error), can_retry(error))
        except OSError as error:
            wrong = storage_error(error, self._targets[0].path)
            end = TransferFailed(self._command.attempt, to_wire(wrong), can_retry(wrong))
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

    def _disk_full(self) -> DiskFullError:
        """The error with what is still missing."""
        folder = self._targets[0].path.parent
        return disk_full(folder, sum(target.missing_bytes for target in self._targets), free_bytes(folder))

    def _run(self) -> Event:
        for target in self._targets:
            target.look(force=self._command.force)
        while True:
            now_s = time.monotonic()
            self._open_targets()
            self._resolve_parts(now_s)
            self._prove_targets()
            self._dispatcher.assign(now_s, self._shared.web)
            if all(target.phase is Phase.DONE for target in self._targets):
                return self._finished()
            self._tick(now_s)
            self._take_reports()
            if self._is_stopping:
                return self._stopped()

    def _take_reports(self) -> None:
        """Wait for one until the next tick, then take all there are."""
        wait_s = max(0.0, self._next_tick_s - time.monotonic())
        with contextlib.suppress(queue.Empty):
            self._inbox.get(timeout=wait_s)()
            while not self._is_stopping:
                self._inbox.get_nowait()()

    def _stop(self, *, discard_partials: bool) -> None:
        self._is_stopping = True
        self._discards = discard_partials

    def _report_job(self, ended: JobEnded) -> None:
        self._inbox.put(lambda: self._job_ended(ended))

    def _report_digest(self) -> None:
        self._inbox.put(lambda: None)  # waking up is all: every turn looks at the digests

    def _in_background(self, name: str, work: Callable[[], Outcome], then: Callable[[Outcome], None]) -> None:
        """Do the work in a thread of its own, and have the coordinator do the rest with what comes out."""

        def run() -> None:
            try:
                outcome = work()
            except Exception as error:  # noqa: BLE001  # it must end the attempt and not the thread alone
                self._inbox.put(functools.partial(_raise, error))
            else:
                self._inbox.put(lambda: then(outcome))

        threading.Thread(target=run, name=f"gglib-{name}", daemon=True).start()

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
        free = sum(target.missing_bytes for target in fetching) - self._dispatcher.under_way_bytes
        open_targets = sum(not target.has_all_bytes for target in fetching)
        has_enough = free >= self._crew.share * SMALLEST_RANGE_BYTES
        return not preparations and open_targets < _MOST_OPEN_TARGETS and not has_enough

    def _prepare(self, target: Target) -> None:
        target.phase = Phase.PREPARING
        target.preparation = preparation = Preparation(
            tuple(part.planned for part in target.parts),
            force=self._command.force,
            link_folders=self._shared.link_folders,
            lease_s=self._shared.patience.lease_s,
            stop=self._stop_event,
        )
        self._in_background("prepare", preparation.outcome, lambda outcome: self._prepared(target, outcome))

    def _prepared(self, target: Target, outcome: Prepared | GglibError | StoppedError) -> None:
        if isinstance(outcome, GglibError):
            raise outcome
        if isinstance(outcome, StoppedError):
            return
        target.is_linked = outcome.is_linked
        if outcome.stored is not None:
            self._done(target, outcome.stored)
            return
        target.phase = Phase.FETCHING
        if target.size_bytes is not None or target.parts[0].remote is not None:
            self._open_partial(target)

    def _open_partial(self, target: Target) -> None:
        """Make the partial file, once it is known how long it will be, or that nobody says."""
        preparation = target.preparation
        if target.partial is not None or preparation is None:
            return
        if not preparation.lease.is_ours():
            self._start_over(target)
            return
        self._shared.room.claim(
            self._command.attempt,
            [
                Claim(one.path, one.size_bytes)
                for one in self._targets
                if one.phase is not Phase.DONE and one.size_bytes is not None
            ],
        )
        try:
            target.partial = Partial(
                target.path,
                target.identities,
                target.size_bytes,
                preparation.lease,
                self._report_digest,
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

        def work() -> Remote | ExchangeError:
            try:
                return resolve(web, part.address, part.planned)
            except ExchangeError as error:
                return error

        self._in_background("resolve", work, lambda outcome: self._resolved(part, outcome))

    def _resolved(self, part: Part, outcome: Remote | ExchangeError) -> None:
        part.is_resolving = False
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
                if (broken := target.partial.follower.error) is not None:
                    raise storage_error(broken, target.path)
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
        self._dispatcher.abandon_all([job for job in target.jobs if job.part_offset == part.start], time.monotonic())
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
        self._in_background("finish", finish.outcome, lambda outcome: self._finished_target(target, outcome))

    def _finished_target(self, target: Target, outcome: FinishOutcome) -> None:
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

    # Jobs: what becomes of them.

    def _job_ended(self, ended: JobEnded) -> None:
        now_s = time.monotonic()
        target = self._dispatcher.take_back(ended, now_s)
        if target is None:
            return
        job, part = ended.job, target.part_of(ended.job)
        if job.position - job.start >= _WORTH_BYTES or job.position == job.end:
            part.succeeded()
        if isinstance(ended.error, ExchangeError):
            self._job_failed(target, part, job, ended.error, now_s)
        elif ended.error is not None:
            raise ended.error
        elif part.end is None and job.end is not None:
            self._length_is_known(target, part, job.end)

    def _length_is_known(self, target: Target, part: Part, end: int) -> None:
        part.end = end
        if target.partial is not None:
            target.take_note()
            target.partial.close_at(end)

    def _job_failed(self, target: Target, part: Part, job: Job, error: ExchangeError, now_s: float) -> None:
        if isinstance(error, LeaseLostError):
            if not self._books.renew(target):
                self._start_over(target)
        elif isinstance(error, RangeIgnoredError):
            self._take_whole(target, part)
        elif part.remote is not None and part.remote.url == job.source.url:
            # Otherwise it was about a URL that has been replaced meanwhile.
            if isinstance(error, BusyError):
                self._crew.refused(now_s)
            if part.is_sequential and target.partial is not None:
                self._fetch_again(target, target.partial, target.parts.index(part))
            others_flow = bool(self._crew.busy) and now_s - self._crew.moved_s < 1
            after_failure(part, error, now_s, self._shared.patience, others_flow=others_flow)

    def _take_whole(self, target: Target, part: Part) -> None:
        """The server gives the whole or nothing: begin again from its first byte, on one connection."""
        if not part.is_sequential and target.partial is not None:
            part.is_sequential = True
            self._fetch_again(target, target.partial, target.parts.index(part))

    # The clock: watching connections, keeping the books, telling how far it is.

    def _tick(self, now_s: float) -> None:
        if now_s < self._next_tick_s:
            return
        self._next_tick_s = now_s + _TICK_S
        self._crew.watch(now_s, has_work=any(target.missing_bytes or target.jobs for target in self._fetching))
        for target in self._fetching:
            target.take_note()
        for target, job in self._dispatcher.drop_stalled_ones(now_s, self._shared.patience.stall_s):
            self._job_failed(target, target.part_of(job), job, LineError(STALLED), now_s)
        self._dispatcher.drop_slow_ones(now_s)
        for target in self._books.keep(now_s):
            self._start_over(target)
        self._emit(self._progress(now_s))

    def _start_over(self, target: Target) -> None:
        """Another process has the file: write nothing more, and wait for it."""
        self._dispatcher.abandon_all(target.jobs, time.monotonic())
        if target.partial is not None and target.phase is Phase.FETCHING:
            target.partial.close(is_ours=False)
        if target.preparation is not None:
            target.preparation.lease.release()
        target.partial = None
        target.proven_parts = 0
        self._prepare(target)

    def _sync(self, target: Target, ranges: RangeSet, sync: Callable[[], None]) -> None:
        def work() -> None:
            try:
                sync()
            except OSError as error:
                raise storage_error(error, target.path) from error

        self._in_background("sync", work, lambda _: self._synced(target, ranges))

    def _synced(self, target: Target, ranges: RangeSet) -> None:
        target.is_syncing = False
        if target.phase is Phase.FETCHING:
            self._books.synced(target, ranges)

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

    def _stopped(self) -> Event:
        """Whatever was renamed already is done; all else is left for a resume, or deleted."""
        self._gate.close()
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while any(finish.is_renamed for finish in self._finishes.values()) and time.monotonic() < deadline_s:
            with contextlib.suppress(queue.Empty):
                self._inbox.get(timeout=_STOP_WAIT_S)()
        if all(target.phase is Phase.DONE for target in self._targets):
            return self._finished()
        self._let_go()
        return TransferStopped(self._command.attempt)

    def _let_go(self) -> None:
        """Stop all threads, write the journals, close the files, give the leases back. Harmless when done twice."""
        self._stop_event.set()
        self._gate.close()
        self._dispatcher.close()
        for target in self._targets:
            with contextlib.suppress(OSError):  # the attempt ends whatever the disk says
                self._let_go_of(target)
        self._shared.room.leave(self._command.attempt)

    def _let_go_of(self, target: Target) -> None:
        preparation = target.preparation
        if preparation is not None and preparation.has_lease:
            is_ours = preparation.lease.is_ours()
            if target.partial is not None and target.phase is Phase.FETCHING:
                target.partial.close(is_ours=is_ours)
                target.partial = None
            if is_ours and self._discards:
                discard(target.path)
            preparation.lease.release()
        elif self._discards:
            discard_unowned(target.path, self._shared.patience.lease_s)


def _raise(error: Exception) -> None:
    raise error
