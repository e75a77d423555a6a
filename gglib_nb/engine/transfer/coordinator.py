"""The coordinator of one attempt: what is done in each of its turns, and in which order.

Owns the targets and the parts that work on them: `target_lifecycle` (stages), `part_resolver` (the hub),
`scheduler` (ranges to connections), `range_results` (what became of them), `verification` (digests), `checkpoints`
(leases, journals). One thread, that of `transfer.attempt`, is the only one in here; errors that end the attempt are raised.
"""

import threading
import time
from typing import Final

from gglib_nb.engine.protocol import Progress, StartTransfer
from gglib_nb.engine.resolve import resolve
from gglib_nb.engine.retry import Outage
from gglib_nb.engine.transfer.checkpoints import Checkpoints
from gglib_nb.engine.transfer.connection_pool import ConnectionPool
from gglib_nb.engine.transfer.connection_worker import RequestEnded
from gglib_nb.engine.transfer.early_check import EarlyCheck
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.part_resolver import PartResolver
from gglib_nb.engine.transfer.progress import progress_of
from gglib_nb.engine.transfer.range_results import RangeResults
from gglib_nb.engine.transfer.resources import Resources
from gglib_nb.engine.transfer.scheduler import Scheduler
from gglib_nb.engine.transfer.stages import Stage
from gglib_nb.engine.transfer.target import Part, Target, targets_of
from gglib_nb.engine.transfer.target_lifecycle import TargetLifecycle
from gglib_nb.engine.transfer.verification import verify_parts
from gglib_nb.errors import NetworkError

# The last byte is so long ago before an outage is believed.
_FLOWING_S: Final = 2.0


class Coordinator:
    """One attempt's turns.

    Attributes:
        targets: In the order in which they are opened.
    """

    def __init__(self, command: StartTransfer, resources: Resources, mailbox: Mailbox, stop: threading.Event) -> None:
        """Nothing happens yet.

        Args:
            command: What to fetch.
            resources: What all attempts share.
            mailbox: How everything comes back to the coordinator's thread.
            stop: Set when the attempt shall end; what runs in the background looks at it.
        """
        self.targets = list(targets_of(command, resources.session.endpoint, resources.timeouts))
        self._command = command
        self._resources = resources
        self._mailbox = mailbox
        self._stop = stop
        self._pool = ConnectionPool(
            command.attempt, len(self.targets), resources.throttle, resources.budget, self._report
        )
        self._scheduler = Scheduler(self._pool, self.targets)
        self._lifecycle = TargetLifecycle(command, self.targets, resources, self._scheduler, mailbox, stop)
        self._results = RangeResults(
            self._scheduler, resources.timeouts, resources.connectivity, self._lifecycle.lease_lost
        )
        self._checkpoints = Checkpoints(self.targets, mailbox)
        self._early_check = EarlyCheck(self.targets)
        self._outage: Outage | None = None
        self._resolver = PartResolver(
            lambda part: resolve(resources.session, part.address, part.planned),
            mailbox,
            resources.connectivity,
            self._lifecycle.open_partial,
        )

    @property
    def is_done(self) -> bool:
        """Whether every file stands under its final name."""
        return all(target.stage is Stage.DONE for target in self.targets)

    @property
    def is_renaming(self) -> bool:
        """Whether a file has its final name and is about to be done."""
        return self._lifecycle.is_renaming

    @property
    def missing_bytes(self) -> int:
        """What still has to come, as far as sizes are known."""
        return sum(target.missing_bytes for target in self.targets)

    def scan(self) -> None:
        """See what earlier runs left."""
        for target in self.targets:
            target.scan(is_replaced=self._command.force or self._command.replaces)

    def advance(self, now_s: float) -> None:
        """Do all that can be done now."""
        fetching = self._lifecycle.fetching
        self._pool.adjust_share(has_work=any(target.bytes_to_fetch or target.requests for target in fetching))
        self._look_at_network(now_s)
        self._lifecycle.open_next()
        if self._outage is None:
            self._resolver.resolve_next(fetching, now_s)
        for target in fetching:
            if target.stage is Stage.COMPARING:
                self._lifecycle.compare(target)
            elif verify_parts(target, self._refetch):
                self._lifecycle.finalize(target)
        if self._outage is None:
            self._scheduler.assign(now_s, self._resources.session)

    def watch(self, now_s: float) -> None:
        """Look at the connections and write what is due; ten times a second."""
        self._pool.measure(now_s)
        for target in self._lifecycle.fetching:
            target.update_done()
        self._early_check.look()
        self._results.take_stalled(now_s)
        self._scheduler.replace_slow(now_s)
        for target in self._checkpoints.write_due(now_s):
            self._lifecycle.lease_lost(target)

    def progress(self, now_s: float) -> Progress:
        """How far it is."""
        pool = self._pool
        return progress_of(self._command.attempt, self.targets, now_s, pool.moved_s, pool.received_bytes, self._outage)

    def close_gate(self) -> None:
        """Let no rename begin any more; one that has begun is over when this returns."""
        self._lifecycle.gate.close()

    def close(self) -> None:
        """Stop all threads, write the journals, close the files, give the leases back. Harmless when done twice."""
        self._stop.set()
        self._lifecycle.gate.close()
        self._scheduler.close()
        self._lifecycle.close()

    def _look_at_network(self, now_s: float) -> None:
        """Wait while nothing can be reached, and begin anew where it can again.

        Raises:
            NetworkError: That took too long.
        """
        connectivity = self._resources.connectivity
        # Bytes that still come belie an outage: the hub may be gone and its CDN not.
        outage = connectivity.outage if now_s - self._pool.moved_s > _FLOWING_S else None
        if outage is None and self._outage is not None:
            for target in self.targets:
                for part in target.parts:
                    part.troubles.network_is_back()
        self._outage = outage
        if outage is not None:
            connectivity.probe_when_due(now_s)
            if now_s - outage.since_s > self._resources.network_wait_s:
                raise NetworkError(
                    f"There has been no network since {outage.since_text}; what is there is kept. Retry when it is back."
                )

    def _refetch(self, target: Target, part: Part) -> None:
        self._scheduler.refetch_part(target, part, time.monotonic())

    def _report(self, ended: RequestEnded) -> None:
        """Called by a connection's thread."""
        self._mailbox.post(lambda: self._results.ended(ended))
