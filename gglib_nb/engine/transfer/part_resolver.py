"""Asks the hub where the bytes of the parts are that come next: in the background, one part of each target at a time.

Part of the coordinator and on its thread only, but for the asking itself. Knows neither ranges nor files.
"""

import time
from collections.abc import Callable, Iterable

from gglib_nb.engine.http import ExchangeError, LineError
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.target import Part, Target


class PartResolver:
    """Resolves the parts of one attempt."""

    def __init__(
        self,
        ask: Callable[[Part], Remote],
        mailbox: Mailbox,
        connectivity: Connectivity,
        on_resolved: Callable[[Target], None],
    ) -> None:
        """Nothing is asked yet.

        Args:
            ask: Asks the hub, and waits for its answer; raises what `engine.resolve.resolve` raises.
            mailbox: Of the coordinator.
            connectivity: Told of failures of the line.
            on_resolved: Called when the hub has said where a part of the target is.
        """
        self._ask = ask
        self._mailbox = mailbox
        self._connectivity = connectivity
        self._on_resolved = on_resolved

    def resolve_next(self, targets: Iterable[Target], now_s: float) -> None:
        """Have the hub asked for the first waiting part of each target, where that is not known."""
        for target in targets:
            part = next(target.waiting_parts(now_s), None)
            if part is not None and part.remote is None and not part.is_resolving:
                self._resolve(target, part)

    def _resolve(self, target: Target, part: Part) -> None:
        part.is_resolving = True

        def work() -> Remote | ExchangeError:
            try:
                return self._ask(part)
            except ExchangeError as error:
                return error

        self._mailbox.in_background("resolve", work, lambda outcome: self._resolved(target, part, outcome))

    def _resolved(self, target: Target, part: Part, outcome: Remote | ExchangeError) -> None:
        part.is_resolving = False
        if isinstance(outcome, ExchangeError):
            now_s = time.monotonic()
            if isinstance(outcome, LineError):
                self._connectivity.failed(now_s)
            part.troubles.failed(outcome, now_s, is_offline=self._connectivity.outage is not None)
            return
        part.resolved(outcome)
        self._on_resolved(target)
