"""The connections of one transfer: hired, watched, replaced, within the engine's bound.

Belongs to the coordinator's thread. It counts bytes and seconds; which ranges are fetched and what an error means
is decided in `engine.transfer`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gglib_nb.engine.adapt import Adaptation, Pace, Replacement
from gglib_nb.engine.budget import ConnectionBudget
from gglib_nb.engine.fetch import Fetcher, Job, JobEnded
from gglib_nb.engine.ranges import Runner
from gglib_nb.engine.retry import Patience
from gglib_nb.engine.throttle import Throttle
from gglib_nb.engine.web import Web

# A connection's rate is that of about the last second.
_RATE_S: Final = 1.0
# Its rate says something about its range after so long.
_KNOWN_AFTER_S: Final = 0.5
# Closing a connection in the middle of a range loses what is on its way and the speed it has worked up to, so one
# whose range ends within this time may end it.
_SOON_S: Final = 2.0
# A new connection on a long line is slow at first (TCP's slow start): not judged for so many times what its first byte
# took beyond what is usual on a short line, seen ten times a second.
_WARM_UP_ANSWERS: Final = 4.0
_SHORT_ANSWER_S: Final = 0.15


@dataclass(eq=False)
class Member:
    """One connection as the crew sees it.

    Attributes:
        fetcher: Its thread.
        hired_s: When it was made.
        moved_s: When it last brought a byte or began.
        received_bytes: All it ever brought.
        flowing_since_s: When it brought its first byte; None before.
        is_to_be_replaced: Its next range is to be fetched by a new connection.
    """

    fetcher: Fetcher
    hired_s: float
    moved_s: float
    received_bytes: int = 0
    flowing_since_s: float | None = None
    is_to_be_replaced: bool = False
    _ended_bytes: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def job(self) -> Job | None:
        """What it does; None while idle."""
        return self.fetcher.job

    @property
    def has_begun(self) -> bool:
        """Whether its job has brought a byte."""
        return self.job is not None and self.job.position > self.job.start

    def sample(self, now_s: float) -> int:
        """Take note of what came; returns the bytes since the last time."""
        job = self.job
        received = self._ended_bytes + (0 if job is None else job.position - job.start)
        new = received - self.received_bytes
        if new > 0:
            self.moved_s = now_s
            self.flowing_since_s = self.flowing_since_s or now_s
        self.received_bytes = received
        self._samples.append((now_s, received))
        while now_s - self._samples[0][0] > _RATE_S:
            self._samples.popleft()
        return new

    def end_job(self) -> None:
        """Its job is over."""
        if self.job is not None:
            self._ended_bytes += self.job.position - self.job.start
            self.fetcher.job = None

    def rate_of_job(self, now_s: float) -> float | None:
        """How fast its job goes; None while that has brought nothing or the connection is new."""
        pace = self.pace(now_s)
        return pace.bytes_per_second if self.has_begun and pace.flowing_s >= _KNOWN_AFTER_S else None

    def is_soon_free(self, now_s: float) -> bool:
        """Whether its job will end by itself in a moment."""
        left = None if self.job is None or self.job.end is None else self.job.end - self.job.position
        return left is not None and left <= self.pace(now_s).bytes_per_second * _SOON_S

    def pace(self, now_s: float) -> Pace:
        """How it does."""
        flowing_s = 0.0
        if self.flowing_since_s is not None:
            long_s = max(0.0, self.flowing_since_s - self.hired_s - _SHORT_ANSWER_S)
            flowing_s = max(0.0, now_s - self.flowing_since_s - long_s * _WARM_UP_ANSWERS)
        if len(self._samples) < 2:
            return Pace(flowing_s, 0.0)
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return Pace(flowing_s, (last - first) / (last_s - first_s) if last_s > first_s else 0.0)


class Crew:
    """The members, and how many there should be.

    Attributes:
        received_bytes: What all of them, also those that left, ever brought.
        moved_s: When any of them last brought a byte.
    """

    def __init__(
        self, attempt: int, files: int, throttle: Throttle, budget: ConnectionBudget, report: Callable[[JobEnded], None]
    ) -> None:
        now_s = time.monotonic()
        self.received_bytes = 0
        self.moved_s = now_s
        self._attempt = attempt
        self._throttle = throttle
        self._budget = budget
        self._report = report
        self._members: list[Member] = []
        self._adaptation = Adaptation(files)
        self._replacement = Replacement(now_s)
        self._share = self._adaptation.wanted

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    @property
    def busy(self) -> list[Member]:
        """Those with a job."""
        return [member for member in self._members if member.job is not None]

    def runners(self, now_s: float) -> list[tuple[Job, Runner]]:
        """The ranges under way that could be split, for planning."""
        return [
            (job, Runner(job.position, job.end, member.rate_of_job(now_s)))
            for member in self._members
            if (job := member.job) is not None and job.end is not None and not job.source.is_whole
        ]

    def watch(self, now_s: float) -> None:
        """Sample everybody and decide anew how many are wanted."""
        for member in self._members:
            self._sample(member, now_s)
        flowing = sum(now_s - member.moved_s < 0.3 and member.received_bytes > 0 for member in self.busy)
        self._adaptation.observe(now_s, self.received_bytes, flowing, self.is_limited)

    def take_share(self, *, has_work: bool) -> None:
        """Ask for as many connections as are wanted, without work for them for one; idle ones above our share leave."""
        self._share = self._budget.share(self._attempt, self._adaptation.wanted if has_work else 1)
        for member in [member for member in self._members if member.job is None][: self._surplus()]:
            self.dismiss(member)

    @property
    def is_limited(self) -> bool:
        """Whether there is a bandwidth limit."""
        return self._throttle.bytes_per_second is not None

    def candidate_to_drop(self, now_s: float) -> Member | None:
        """A busy member that should leave at once: above our share, or far slower than the best.

        Not one that brings a file as a whole, since that would begin again.
        """
        busy = [member for member in self.busy if member.job is not None and not member.job.source.is_whole]
        staying = [member for member in busy if not member.is_to_be_replaced]
        if self._surplus() > len(busy) - len(staying):
            return min(staying, key=lambda member: member.pace(now_s).bytes_per_second, default=None)
        busy = [member for member in staying if member.has_begun]  # one that waits for its answer is not slow
        if self.is_limited or len(busy) < 2:
            return None
        paces = [member.pace(now_s) for member in busy]
        index = self._replacement.slow_one(now_s, paces)
        if index is None:
            probed = self._replacement.probe(now_s, paces)
            if probed is not None:
                busy[probed].is_to_be_replaced = True
            return None
        return busy[index]

    def stalled(self, now_s: float, patience: Patience) -> list[Member]:
        """Busy members that have brought nothing for too long and wait neither for the bandwidth limit nor for the digest.

        The first byte of a range may take longer than the next: a CDN may have to fetch the file itself.
        """
        return [
            member
            for member in self.busy
            if not member.fetcher.is_waiting
            and now_s - member.moved_s > (patience.stall_s if member.has_begun else patience.answer_s)
        ]

    @property
    def has_room(self) -> bool:
        """Whether a job could be given to somebody now."""
        return len(self._members) < self._share or any(member.job is None for member in self._members)

    @property
    def share(self) -> int:
        """How many connections this transfer may hold now."""
        return self._share

    def typical_rate(self, now_s: float) -> float | None:
        """The median rate of those that bring bytes; None where nobody does."""
        rates = sorted(rate for member in self.busy if (rate := member.pace(now_s).bytes_per_second) > 0)
        return rates[len(rates) // 2] if rates else None

    @property
    def answer_s(self) -> float | None:
        """The shortest time that a request waits for the head of its answer; None before the first answer."""
        return min((wait_s for one in self._members if (wait_s := one.fetcher.answer_s) is not None), default=None)

    def someone_idle(self, web: Web, now_s: float) -> Member | None:
        """A member that can take a job, hired if need be; None where all the share is busy."""
        idle = next((member for member in self._members if member.job is None), None)
        if idle is not None:
            return idle
        if len(self._members) >= self._share or not self._budget.acquire(self._attempt):
            return None
        member = Member(Fetcher(web, self._throttle, self._report), now_s, now_s)
        self._members.append(member)
        return member

    def assign(self, member: Member, job: Job, now_s: float) -> None:
        """Give a job to an idle member."""
        member.moved_s = now_s
        member.fetcher.assign(job)

    def ended(self, fetcher: Fetcher, now_s: float) -> Member | None:
        """A fetcher reported; None where it was dismissed before."""
        member = next((member for member in self._members if member.fetcher is fetcher), None)
        if member is None:
            return None
        self._sample(member, now_s)
        member.end_job()
        if member.is_to_be_replaced:
            self.dismiss(member)
        return member

    def refused(self, now_s: float) -> None:
        """A server wants fewer connections."""
        flowing = sum(now_s - member.moved_s < 1 for member in self.busy)
        if flowing:
            self._adaptation.refused(now_s, flowing)

    def dismiss(self, member: Member) -> None:
        """Close a member's connection; its job, if any, must have been revoked."""
        self._members.remove(member)
        member.fetcher.close()
        self._budget.release(self._attempt)

    def dismiss_all(self) -> None:
        """Close everything and leave the budget; all jobs must have been revoked."""
        for member in list(self._members):
            self.dismiss(member)
        self._budget.leave(self._attempt)

    def _sample(self, member: Member, now_s: float) -> None:
        if (new := member.sample(now_s)) > 0:
            self.received_bytes += new
            self.moved_s = now_s

    def _surplus(self) -> int:
        return len(self._members) - self._share
