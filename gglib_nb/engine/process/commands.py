"""Carries out the kernel's commands: runs the attempts it is told to, shares the line among them.

Called by the command loop's thread only. No queue and no policy: what is started runs at once.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.engine.http import Session
from gglib_nb.engine.process.file_checks import FileChecks
from gglib_nb.engine.protocol import (
    CheckFiles,
    Command,
    Configure,
    DiscardPartials,
    Event,
    StartTransfer,
    StopCheck,
    StopTransfer,
)
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.storage.disk_space import DiskSpace
from gglib_nb.engine.storage.partial_file import delete_unowned
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.attempt import Attempt
from gglib_nb.engine.transfer.connection_budget import ConnectionBudget
from gglib_nb.engine.transfer.resources import Resources
from gglib_nb.engine.transfer.throttle import Throttle

# How long all transfers together may take to stop when the engine ends.
_SHUTDOWN_S: Final = 1.2


class CommandHandler:
    """All attempts of one engine."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        timeouts: Timeouts | None = None,
        reuse_limits: ReuseLimits | None = None,
    ) -> None:
        """Idle until the first `Configure`.

        Args:
            emit: Takes events, from any thread.
            timeouts: None: the engine's own.
            reuse_limits: None: the engine's own.
        """
        self._emit = emit
        self._timeouts = timeouts or Timeouts()
        self._reuse_limits = reuse_limits or ReuseLimits()
        self._throttle = Throttle()
        self._budget = ConnectionBudget(1)
        self._disk_space = DiskSpace()
        self._configure: Configure | None = None
        self._resources: Resources | None = None
        self._attempts: dict[int, Attempt] = {}
        self._checks = FileChecks(emit)

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
            case CheckFiles():
                self._checks.start(command)
            case StopCheck():
                self._checks.stop(command.check)

    def shut_down(self) -> None:
        """Stop everything, leaving what can be resumed; takes about a second at most."""
        self._checks.stop_all()
        for attempt in self._attempts.values():
            attempt.stop()
        deadline_s = time.monotonic() + _SHUTDOWN_S
        for attempt in self._attempts.values():
            attempt.join(max(0.0, deadline_s - time.monotonic()))
        if self._resources is not None:
            self._resources.session.close()

    def _discard(self, target: Path) -> None:
        try:
            delete_unowned(target, self._timeouts.lease_s)
        except OSError as error:
            sys.stderr.write(f"partial files of {target} were not deleted: {error}\n")

    def _configured(self, command: Configure) -> None:
        self._throttle.set_limit(command.bandwidth_limit_bytes_per_second or None)
        self._budget.set_max(command.max_connections)
        previous = self._configure
        self._configure = command
        if self._resources is None or previous is None:
            session = self._session(command)
            session.warm_up()
            self._resources = Resources(
                session=session,
                link_folders=command.link_folders,
                throttle=self._throttle,
                budget=self._budget,
                disk_space=self._disk_space,
                connectivity=Connectivity(self._can_reach_hub),
                network_wait_s=command.network_wait_s,
                timeouts=self._timeouts,
                reuse_limits=self._reuse_limits,
            )
            return
        self._resources.link_folders = command.link_folders
        self._resources.network_wait_s = command.network_wait_s
        if _asks_otherwise(previous, command):
            self._resources.session = self._session(command)

    def _can_reach_hub(self) -> bool:
        return self._resources is None or self._resources.session.can_reach_hub()

    def _session(self, configure: Configure) -> Session:
        return Session(configure.endpoint, configure.token, configure.user_agent, self._timeouts)

    def _start(self, command: StartTransfer) -> None:
        if self._resources is None:
            raise ValueError("a transfer was started before the first Configure")
        self._attempts = {number: one for number, one in self._attempts.items() if not one.is_over}
        attempt = Attempt(command, self._resources, self._emit)
        self._attempts[command.attempt] = attempt
        attempt.start()

    def _stop(self, command: StopTransfer) -> None:
        # An attempt that has ended meanwhile has said so; nothing is left to stop.
        if (attempt := self._attempts.get(command.attempt)) is not None:
            attempt.stop()


def _asks_otherwise(one: Configure, other: Configure) -> bool:
    return (one.endpoint, one.token, one.user_agent) != (other.endpoint, other.token, other.user_agent)
