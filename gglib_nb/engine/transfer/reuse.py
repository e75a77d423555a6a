"""Takes a target from comparing to fetching: has the bytes fetched that tell what is here already, and has that copied.

Part of the coordinator and on its thread only; looking at files and copying is done by others. Whatever goes wrong, the
target goes on to be fetched as if nothing were here.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gglib_nb.domain.gguf_reuse import Copy, ReuseLimits
from gglib_nb.engine.storage.byte_ranges import RangeSet
from gglib_nb.engine.storage.donors import DonorFile
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.engine.storage.tensor_comparison import Asked, Decided, Step, TensorComparison
from gglib_nb.engine.transfer.checkpoints import renew_lease
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.stages import Cause, Stage
from gglib_nb.engine.transfer.target import Target
from gglib_nb.engine.transfer.tensor_copy import CopyEnded, TensorCopy


class Reuse:
    """What is done about the donors of one target."""

    def __init__(
        self,
        target: Target,
        partial: PartialFile,
        donors: Sequence[DonorFile],
        limits: ReuseLimits,
        mailbox: Mailbox,
        on_lease_lost: Callable[[Target], None],
    ) -> None:
        """Nothing is compared yet.

        Args:
            target: Has entered `comparing`; has one part, of known size.
            partial: Open.
            donors: What may be copied from.
            limits: What it may cost.
            mailbox: Of the coordinator.
            on_lease_lost: Called with the target when another process has taken it over.
        """
        seed = target.parts[0].planned.sha256 or str(target.path)
        comparison = TensorComparison(partial.path, target.size_bytes or 0, seed, donors, limits)
        self._target: Final = target
        self._partial: Final = partial
        self._donors: Final = donors
        self._mailbox: Final = mailbox
        self._on_lease_lost: Final = on_lease_lost
        self._next: Step | None = comparison.begin

    def advance(self) -> None:
        """Take the next step, if its bytes are there."""
        if self._target.parts[0].is_sequential or self._partial.copied.is_wrong:
            self._decided(())  # whoever sends the whole only would send all of it for every sample
        elif self._next is not None and self._has_wanted_bytes():
            step, fetched = self._next, self._partial.fetched
            self._next = None
            self._mailbox.in_background("compare", lambda: _outcome(step, fetched), self._stepped)

    def _has_wanted_bytes(self) -> bool:
        done = self._target.done
        return all(done.reach(start) >= end for start, end in self._target.wanted_first)

    def _stepped(self, outcome: Asked | Decided) -> None:
        if not self._is_current:
            return
        if isinstance(outcome, Asked):
            self._target.wanted_first = list(outcome.ranges)
            self._next = outcome.then
        else:
            self._decided(outcome.copies)

    @property
    def _is_current(self) -> bool:
        return self._target.stage is Stage.COMPARING and self._target.partial is self._partial

    def _decided(self, copies: Sequence[Copy]) -> None:
        self._target.wanted_first = []
        self._target.advance(Cause.COMPARED)
        if copies:
            self._copy(copies)

    def _copy(self, copies: Iterable[Copy]) -> None:
        self._target.copy = TensorCopy(
            self._partial, self._donors, copies, lambda ended: self._mailbox.post(lambda: self._copied(ended))
        )
        self._target.copy.start()

    def _copied(self, ended: CopyEnded) -> None:
        target = self._target
        if target.copy is not ended.copy:
            return  # it was revoked meanwhile
        target.end_copy()
        if ended.is_lease_stale:
            if renew_lease(target):
                self._copy(ended.copy.remaining())
            else:
                self._on_lease_lost(target)


def _outcome(step: Step, fetched: RangeSet) -> Asked | Decided:
    try:
        return step(fetched)
    except OSError:  # the partial file: a connection that writes to it will find out and say so
        return Decided()
