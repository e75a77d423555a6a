"""Which connection fetches which range: ranges given out, taken back, split.

Part of the coordinator and on its thread only. What a failure means is decided in `engine.transfer`.
"""

from collections.abc import Sequence

from gglib_nb.engine.crew import Crew, Member
from gglib_nb.engine.fetch import Job, JobEnded
from gglib_nb.engine.ranges import LARGEST_RANGE_BYTES, choose_split, range_bytes
from gglib_nb.engine.retry import Patience
from gglib_nb.engine.target import Phase, Target
from gglib_nb.engine.web import Web


class Dispatcher:
    """The jobs of one transfer.

    Attributes:
        crew: Who does them.
    """

    def __init__(self, crew: Crew, targets: Sequence[Target]) -> None:
        self.crew = crew
        self._targets = targets
        self._target_of: dict[Job, Target] = {}

    @property
    def under_way_bytes(self) -> int:
        """What the jobs given out still have to bring, as far as it is known."""
        return sum(job.end - job.position for job in self._target_of if job.end is not None)

    def assign(self, now_s: float, web: Web) -> None:
        """Give out ranges as long as there is somebody to take one."""
        while self.crew.has_room and (job := self._next_job(now_s)) is not None:
            member = self.crew.someone_idle(web, now_s)
            if member is None:
                self.abandon(job, now_s)
                return
            self.crew.assign(member, job, now_s)

    def take_back(self, ended: JobEnded, now_s: float) -> Target | None:
        """A fetcher is done with a job; None where it was taken away from it before."""
        target = self._target_of.pop(ended.job, None)
        if target is not None:
            self.crew.ended(ended.fetcher, now_s)
            target.drop(ended.job)
        return target

    def abandon(self, job: Job, now_s: float) -> Target:
        """Take a job away from whoever has it; what it wrote stays, the rest can be given out again."""
        target = self._target_of.pop(job)
        target.drop(job)
        member = next((member for member in self.crew if member.job is job), None)
        if member is not None:
            member.is_to_be_replaced = True
            self.crew.ended(member.fetcher, now_s)
        return target

    def abandon_all(self, jobs: Sequence[Job], now_s: float) -> None:
        """Take several jobs away."""
        for job in list(jobs):
            self.abandon(job, now_s)

    def drop_slow_ones(self, now_s: float) -> None:
        """Let a member go that is above our share or far slower than the best: with its job, or at once if that is long."""
        member = self.crew.candidate_to_drop(now_s)
        if member is None or member.job is None:
            return
        if member.is_soon_free(now_s):
            member.is_to_be_replaced = True
        else:
            self.abandon(member.job, now_s)

    def drop_stalled_ones(self, now_s: float, patience: Patience) -> list[tuple[Target, Job]]:
        """Take the jobs of members that bring nothing, and let those go; returns the jobs."""
        return [self._drop(member, now_s) for member in self.crew.stalled(now_s, patience)]

    def close(self) -> None:
        """Take everything back and close all connections."""
        for job, target in self._target_of.items():
            target.drop(job)
        self._target_of.clear()
        self.crew.dismiss_all()

    def _drop(self, member: Member, now_s: float) -> tuple[Target, Job]:
        job = member.job
        assert job is not None  # noqa: S101  # only busy members stall
        return self.abandon(job, now_s), job

    def _next_job(self, now_s: float) -> Job | None:
        rate = self.crew.typical_rate(now_s)
        length_bytes = self._length_bytes(rate)
        # A file that nobody is at comes first: what one connection brings in order need not be read again for its digest.
        for target in sorted(self._targets, key=lambda one: bool(one.jobs)):
            if target.phase is Phase.FETCHING and (job := target.next_job(now_s, length_bytes)) is not None:
                self._target_of[job] = target
                return job
        return None if any(target.is_about_to_give for target in self._targets) else self._split(now_s, rate)

    def _length_bytes(self, rate: float | None) -> int:
        missing = [target.missing_bytes for target in self._targets if target.missing_bytes]
        if len(missing) >= self.crew.share:
            return LARGEST_RANGE_BYTES  # each connection has a file for itself, in which nothing comes out of order
        return range_bytes(rate, sum(missing) - self.under_way_bytes, self.crew.share, self.crew.answer_s)

    def _split(self, now_s: float, rate: float | None) -> Job | None:
        """The tail of the slowest range, when nothing else is left to give."""
        runners = [
            (job, runner)
            for job, runner in self.crew.runners(now_s)
            if self._target_of[job].part_of(job).retry_at_s <= now_s
        ]
        choice = choose_split([runner for _, runner in runners], rate)
        if choice is None:
            return None
        job = runners[choice[0]][0]
        target = self._target_of[job]
        tail = target.split_job(job, choice[1])
        if tail is not None:
            self._target_of[tail] = target
        return tail
