"""The engine's side of the commands: runs the attempts it is told to, shares the line among them.

Called by the command loop's thread only. No queue and no policy: what is started runs at once.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gglib_nb.engine.budget import ConnectionBudget
from gglib_nb.engine.partial import discard_unowned
from gglib_nb.engine.protocol import (
    Command,
    Configure,
    DiscardPartials,
    Event,
    StartTransfer,
    StopTransfer,
)
from gglib_nb.engine.resources import Resources
from gglib_nb.engine.retry import Patience
from gglib_nb.engine.room import Room
from gglib_nb.engine.throttle import Throttle
from gglib_nb.engine.transfer import Transfer
from gglib_nb.engine.web import Web

# How long all transfers together may take to stop when the engine ends.
_SHUTDOWN_S: Final = 1.2


class Worker:
    """All attempts of one engine."""

    def __init__(self, emit: Callable[[Event], None], patience: Patience | None = None) -> None:
        """Idle until the first `Configure`.

        Args:
            emit: Takes events, from any thread.
            patience: None: the engine's own.
        """
        self._emit = emit
        self._patience = patience or Patience()
        self._throttle = Throttle()
        self._budget = ConnectionBudget(1)
        self._room = Room()
        self._configure: Configure | None = None
        self._resources: Resources | None = None
        self._transfers: dict[int, Transfer] = {}

    def handle(self, command: Command) -> None:
        """Do as told."""
        match command:
            case Configure():
                self._configured(command)
            case StartTransfer():
                self._start(command)
            case StopTransfer():
                self._stop(command)
            case DiscardPartials():
                for target in command.targets:
                    self._discard(Path(target))

    def shut_down(self) -> None:
        """Stop everything, leaving what can be resumed; takes about a second at most."""
        for transfer in self._transfers.values():
            transfer.stop()
        deadline_s = time.monotonic() + _SHUTDOWN_S
        for transfer in self._transfers.values():
            transfer.join(max(0.0, deadline_s - time.monotonic()))
        if self._resources is not None:
            self._resources.web.close()

    def _discard(self, target: Path) -> None:
        try:
            discard_unowned(target, self._patience.lease_s)
        except OSError as error:
            sys.stderr.write(f"partial files of {target} were not deleted: {error}\n")

    def _configured(self, command: Configure) -> None:
        self._throttle.set_limit(command.bandwidth_limit_bytes_per_second or None)
        self._budget.set_max(command.max_connections)
        previous = self._configure
        self._configure = command
        if self._resources is None or previous is None:
            web = Web(command, self._patience)
            web.warm_up()
            self._resources = Resources(
                web=web,
                link_folders=command.link_folders,
                throttle=self._throttle,
                budget=self._budget,
                room=self._room,
                patience=self._patience,
            )
            return
        self._resources.link_folders = command.link_folders
        if _asks_otherwise(previous, command):
            self._resources.web = Web(command, self._patience)

    def _start(self, command: StartTransfer) -> None:
        if self._resources is None:
            raise ValueError("a transfer was started before the first Configure")
        self._transfers = {attempt: one for attempt, one in self._transfers.items() if not one.is_over}
        transfer = Transfer(command, self._resources, self._emit)
        self._transfers[command.attempt] = transfer
        transfer.start()

    def _stop(self, command: StopTransfer) -> None:
        # An attempt that has ended meanwhile has said so; nothing is left to stop.
        if (transfer := self._transfers.get(command.attempt)) is not None:
            transfer.stop()


def _asks_otherwise(one: Configure, other: Configure) -> bool:
    return (one.endpoint, one.token, one.user_agent) != (other.endpoint, other.token, other.user_agent)
