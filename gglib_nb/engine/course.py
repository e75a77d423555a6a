"""What happens to the files of an attempt, stage by stage; the coordinator's thread is the only one in here.

PENDING → PREPARING (`prepare`) → FETCHING → FINISHING (`finish`) → DONE. The next target is opened before the present
one has given out all its ranges, so connections never idle between shards. `engine.dispatch` (ranges to connections)
and `engine.books` (leases, journals) are its hands. Whatever takes long runs in the background and comes back
through the mailbox; errors that end the attempt are raised.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from gglib_nb.domain.download import StoredFile
from gglib_nb.engine.adapt import MOST_CONNECTIONS
from gglib_nb.engine.books import Books
from gglib_nb.engine.crew import Crew
from gglib_nb.engine.dispatch import Dispatcher
from gglib_nb.engine.fetch import Job, JobEnded
from gglib_nb.engine.finish import Finish, FinishOutcome, Gate
from gglib_nb.engine.mailbox import Mailbox
from gglib_nb.engine.notices import progress_of
from gglib_nb.engine.partial import Partial
from gglib_nb.engine.place import discard, storage_error
from gglib_nb.engine.policy import after_failure
from gglib_nb.engine.prepare import Preparation, Prepared, StoppedError
from gglib_nb.engine.protocol import (
    Progress,
    StartTransfer,
)
from gglib_nb.engine.ranges import LARGEST_RANGE_BYTES, RangeSet
from gglib_nb.engine.resolve import Remote, resolve
from gglib_nb.engine.resources import Resources
from gglib_nb.engine.retry import STALLED, BusyError, ExchangeError, LeaseLostError, LineError, RangeIgnoredError
from gglib_nb.engine.room import Claim
from gglib_nb.engine.target import Part, Phase, Target, targets_of
from gglib_nb.errors import GglibError, IntegrityError

_MOST_OPEN_TARGETS: Final = MOST_CONNECTIONS
# A connection that brought less before it broke counts as one that brought nothing.
_WORTH_BYTES: Final = 64 * 1024


class Course:
    """The targets of one attempt on their way.

    Attributes:
        targets: In the order in which they are opened.
        gate: Closed when no file may be renamed any more.
    """

    def __init__(self, command: StartTransfer, shared: Resources, mailbox: Mailbox, stop: threading.Event) -> None:
        """Nothing happens yet.

        Args:
            command: What to fetch.
            shared: What all attempts share.
            mailbox: Of the coordinator.
            stop: Set when the attempt shall end; what runs in the background looks at it.
        """
        self.targets = list(targets_of(command, shared.web.endpoint))
        self.gate = Gate()
        self._command = command
        self._shared = shared
        self._mailbox = mailbox
        self._stop = stop
        files = len(self.targets)
        self._crew = Crew(command.attempt, files, shared.throttle, shared.budget, self._report_job)
        self._dispatcher = Dispatcher(self._crew, self.targets)
        self._books = Books(self.targets, self._sync)
        self._finishes: dict[Target, Finish] = {}

    @property
    def is_done(self) -> bool:
        """Whether every file stands under its final name."""
        return all(target.phase is Phase.DONE for target in self.targets)

    @property
    def is_renaming(self) -> bool:
        """Whether a file has its final name and is about to be done."""
        return any(finish.is_renamed for finish in self._finishes.values())

    @property
    def missing_bytes(self) -> int:
        """What still has to come, as far as sizes are known."""
        return sum(target.missing_bytes for target in self.targets)

    def look(self) -> None:
        """See what earlier runs left."""
        for target in self.targets:
            target.look(force=self._command.force)

    def advance(self, now_s: float) -> None:
        """Do all that can be done now."""
        self._crew.take_share(has_work=any(target.missing_bytes or target.jobs for target in self._fetching))
        self._open_targets()
        self._resolve_parts(now_s)
        self._prove_targets()
        self._dispatcher.assign(now_s, self._shared.web)

    def watch(self, now_s: float) -> None:
        """Look at the connections and keep the books; ten times a second."""
        self._crew.watch(now_s)
        for target in self._fetching:
            target.take_note()
        for target, job in self._dispatcher.drop_stalled_ones(now_s, self._shared.patience):
            self._job_failed(target, target.part_of(job), job, LineError(STALLED), now_s)
        self._dispatcher.drop_slow_ones(now_s)
        for target in self._books.keep(now_s):
            self._start_over(target)

    def progress(self, now_s: float) -> Progress:
        """How far it is."""
        crew = self._crew
        return progress_of(self._command.attempt, self.targets, now_s, crew.moved_s, crew.received_bytes)

    def let_go(self) -> None:
        """Stop all threads, write the journals, close the files, give the leases back. Harmless when done twice."""
        self._stop.set()
        self.gate.close()
        self._dispatcher.close()
        for target in self.targets:
            with contextlib.suppress(OSError):  # the attempt ends whatever the disk says
                self._let_go_of(target)
        self._shared.room.leave(self._command.attempt)

    def _let_go_of(self, target: Target) -> None:
        preparation = target.preparation
        if preparation is not None and preparation.has_lease:
            is_ours = preparation.lease.is_ours()
            if target.partial is not None and target.phase is Phase.FETCHING:
                target.partial.close(is_ours=is_ours)
                if is_ours and not target.partial.done.total_bytes:
                    discard(target.path)
                target.partial = None
            preparation.lease.release()

    def _report_job(self, ended: JobEnded) -> None:
        self._mailbox.post(lambda: self._job_ended(ended))

    # Targets: opening, resolving, proving, finishing.

    @property
    def _fetching(self) -> list[Target]:
        return [target for target in self.targets if target.phase is Phase.FETCHING]

    def _open_targets(self) -> None:
        """Prepare the next target when those that are open will soon have no range to give."""
        for target in self.targets:
            if target.phase is Phase.PENDING:
                if not self._wants_another_target():
                    return
                self._prepare(target)

    def _wants_another_target(self) -> bool:
        preparations = [one.preparation for one in self.targets if one.phase is Phase.PREPARING]
        if any(one is not None and one.owner_bytes is not None for one in preparations):
            return False  # another process is at this download: follow it file by file
        fetching = self._fetching
        free = sum(target.missing_bytes for target in fetching) - self._dispatcher.under_way_bytes
        open_targets = sum(not target.has_all_bytes for target in fetching)
        has_enough = free >= self._crew.share * LARGEST_RANGE_BYTES
        return not preparations and open_targets < _MOST_OPEN_TARGETS and not has_enough

    def _prepare(self, target: Target) -> None:
        target.phase = Phase.PREPARING
        target.preparation = preparation = Preparation(
            tuple(part.planned for part in target.parts),
            force=self._command.force,
            link_folders=self._shared.link_folders,
            lease_s=self._shared.patience.lease_s,
            stop=self._stop,
        )
        self._mailbox.in_background("prepare", preparation.outcome, lambda outcome: self._prepared(target, outcome))

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
                Claim(one.path, one.size_bytes, may_be_there=not self._command.force)
                for one in self.targets
                if one.phase is not Phase.DONE and one.size_bytes is not None
            ],
        )
        try:
            target.partial = Partial(
                target.path,
                target.identities,
                target.size_bytes,
                preparation.lease,
                self._mailbox.wake,
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

        self._mailbox.in_background("resolve", work, lambda outcome: self._resolved(part, outcome))

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
        target = next(target for target in self.targets if part in target.parts)
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
        finish = Finish(partial, target.preparation.lease, stored, self.gate, may_replace=self._command.force)
        self._finishes[target] = finish
        self._mailbox.in_background("finish", finish.outcome, lambda outcome: self._finished_target(target, outcome))

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
        target.take_note()  # the digest should not wait for the next tick
        job, part = ended.job, target.part_of(ended.job)
        # What a server that gives only the whole has sent is lost when it breaks off.
        has_gained = job.position - job.start >= _WORTH_BYTES and not part.is_sequential
        if has_gained or job.position == job.end:
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

        self._mailbox.in_background("sync", work, lambda _: self._synced(target, ranges))

    def _synced(self, target: Target, ranges: RangeSet) -> None:
        target.is_syncing = False
        if target.phase is Phase.FETCHING:
            self._books.synced(target, ranges)
