"""Which host of a cluster runs which attempt: commands of the queue and reports of hosts in, commands and reports out.

Law of this file: no clock, no threads, no network. Every method returns what has to be done for it, in order: a `Tell` is a
command for one host's engine, everything else a report for the queue. The caller brings the time and one call at a time.

* An attempt runs on one host, or, where it is wanted everywhere, on one host of each folder.
* One for which no host has a slot waits here and begins when one has; nothing is lost while the cluster has no host.
* What ran on a host that is gone is reported lost; the queue starts it again, and it goes to whoever can take it. Of an attempt
  that is wanted everywhere only that copy is lost.
* Limits are of all hosts together: each gets a share for the transfers that it runs, told before a transfer starts. With a
  bandwidth limit the copies of one download come one after the other, so that the first is there early.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final

from msgspec import structs

from gglib_nb.cluster.placed_attempt import ClusterHost, Copy, PlacedAttempt
from gglib_nb.cluster.placement import HostLoad, choose_host, shares_of, spread
from gglib_nb.domain.download import HostFolder
from gglib_nb.engine.protocol import (
    CheckEnded,
    CheckFiles,
    CheckProgress,
    Command,
    Configure,
    DiscardPartials,
    Progress,
    Ready,
    StartTransfer,
    StopCheck,
    StopTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine.reports import (
    EngineCommand,
    EngineLost,
    EnginesChanged,
    EngineSilent,
    HostedFinish,
    ProcessReport,
    Report,
    SetConcurrency,
    StartEverywhere,
    TransferWaits,
)
from gglib_nb.errors import EngineLostError, GglibError, to_wire

_NO_HOST: Final = "waiting for a worker of the cluster"
_NO_SLOT: Final = "waiting for a free host"
_LOSSES_ALLOWED: Final = 3
_GONE_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a command to the engine of a host."""

    host: str
    command: Command


Action = Tell | Report


class Dispatcher:
    """All attempts of one queue on all hosts of one cluster."""

    def __init__(self, configure: Configure) -> None:
        """No host yet.

        Args:
            configure: As the queue gives it: limits are those of all hosts together.
        """
        self._configure = configure
        self._max_concurrent = 1
        self._hosts: dict[str, ClusterHost] = {}
        self._owners: dict[str, str] = {}
        self._gone_owners: list[str] = []
        self._told: dict[str, Configure] = {}
        self._attempts: dict[int, PlacedAttempt] = {}
        self._copies: dict[int, Copy] = {}
        self._checks: dict[int, str] = {}
        self._part_folders: dict[frozenset[str], str] = {}
        self._last_number = 0
        self._here: str | None = None
        self._absence = _NO_HOST

    @property
    def hosts(self) -> tuple[ClusterHost, ...]:
        """The hosts there are."""
        return tuple(self._hosts.values())

    @property
    def waiting(self) -> list[int]:
        """Attempts that run nowhere."""
        return [number for number, attempt in self._attempts.items() if not attempt.running]

    # The queue -----------------------------------------------------------------------------------------------------

    def take(self, command: EngineCommand) -> list[Action]:  # noqa: C901 - one case per command
        """A command of the queue."""
        match command:
            case Configure():
                self._configure = command
                return self._place()
            case StartTransfer():
                self._attempts[command.attempt] = PlacedAttempt(command)
                return self._place()
            case StartEverywhere(transfer):
                self._attempts[transfer.attempt] = PlacedAttempt(transfer, everywhere=True)
                return self._place()
            case SetConcurrency(max_concurrent):
                self._max_concurrent = max_concurrent
                return self._place()
            case StopTransfer():
                return self._stop(command.attempt)
            case DiscardPartials():
                return [Tell(host, command) for host in spread(self._folders(), ())]
            case CheckFiles():
                return self._check(command)
            case StopCheck():
                host = self._checks.get(command.check)
                return [] if host is None else [Tell(host, command)]

    def _check(self, command: CheckFiles) -> list[Action]:
        """Has files hashed where they are: on the host in whose folder they lie, else on one that sees this machine's."""
        paths = [PurePath(file.path) for file in command.files]
        owners = [
            name
            for name, host in sorted(self._hosts.items())
            if all(path.is_relative_to(host.models_directory) for path in paths) or host.folder_id == self._here
        ]
        if not owners:
            return [CheckEnded(command.check, ())]
        self._checks[command.check] = owners[0]
        return [Tell(owners[0], command)]

    def _stop(self, number: int) -> list[Action]:
        if (attempt := self._attempts.get(number)) is None or attempt.is_stopping:
            return []
        attempt.is_stopping = True
        if not attempt.running:
            return [*self._end(attempt, TransferStopped(number))]
        return [Tell(copy.host.name, StopTransfer(copy.number)) for copy in attempt.running]

    # The cluster ---------------------------------------------------------------------------------------------------

    def host_joined(self, host: ClusterHost, here: str | None) -> list[Action]:
        """A host is there.

        Args:
            host: It.
            here: The name of this machine's own models folder; None where it has none.
        """
        self._here = here
        self._hosts[host.name] = host
        self._told[host.name] = self._configure
        return [EnginesChanged(len(self._hosts)), Tell(host.name, self._configure), *self._place()]

    def host_left(self, name: str, reason: str) -> list[Action]:
        """A host is gone, and with it what ran there."""
        if name not in self._hosts:
            return []
        lost = self._lose(name, reason)
        del self._hosts[name], self._told[name]
        return [EnginesChanged(len(self._hosts)), *lost, *self._conclude_everywhere(), *self._place()]

    def space_changed(self, name: str, free_bytes: int | None) -> None:
        """So much may still be written on the disk of a host."""
        if name in self._hosts:
            self._hosts[name] = replace(self._hosts[name], free_bytes=free_bytes)

    def fail_waiting(self, error: GglibError) -> list[Action]:
        """There is no cluster to wait for: what waits has failed."""
        wire = to_wire(error)
        found = [self._attempts[number] for number in self.waiting]
        return [
            action
            for attempt in found
            for action in self._end(attempt, TransferFailed(attempt.command.attempt, wire, can_retry=True))
        ]

    def say_absence(self, reason: str) -> list[Action]:
        """Why there is no host, for those who wait for one."""
        self._absence = reason
        return self._say_waits()

    def heard(self, host: str, report: ProcessReport, now_s: float) -> list[Action]:  # noqa: C901 - one case a report
        """The engine of a host reported something."""
        match report:
            case Ready():
                self._owners[host] = report.owner
                return []
            case Progress():
                return self._progressed(host, report, now_s)
            case TransferFinished() | TransferFailed():
                return self._ended(self._copy(host, report.attempt), report)
            case TransferStopped():
                return self._stopped(self._copy(host, report.attempt))
            case CheckProgress():
                return [report]
            case CheckEnded():
                self._checks.pop(report.check, None)
                return [report]
            case EngineLost():
                return [*self._lose(host, report.reason), *self._conclude_everywhere(), *self._place()]
            case EngineSilent():
                attempts = frozenset(copy.attempt.command.attempt for copy in self._running_on(host))
                return [EngineSilent(report.silent_s, attempts)] if attempts else []

    # Reports -------------------------------------------------------------------------------------------------------

    def _copy(self, host: str, number: int) -> Copy | None:
        copy = self._copies.get(number)
        return copy if copy is not None and copy.host.name == host else None

    def _progressed(self, host: str, report: Progress, now_s: float) -> list[Action]:
        if (copy := self._copy(host, report.attempt)) is None:
            return []
        copy.progress = report
        self._part_folders[copy.attempt.targets] = copy.host.folder_id
        hosted = copy.attempt.progress(now_s, self._yet_to_serve(copy.attempt))
        return [] if hosted is None else [hosted]

    def _ended(self, copy: Copy | None, end: TransferFinished | TransferFailed) -> list[Action]:
        if copy is None:
            return []
        del self._copies[copy.number]
        copy.end = end
        return [*self._conclude(copy.attempt), *self._place()]

    def _stopped(self, copy: Copy | None) -> list[Action]:
        if copy is None:
            return []
        self._drop(copy)
        return [*self._conclude(copy.attempt), *self._place()]

    def _conclude(self, attempt: PlacedAttempt) -> list[Action]:
        """The end of an attempt, if nothing of it runs or is to come."""
        if attempt.running or (not attempt.copies and not attempt.is_stopping):
            return []
        ends = [copy.end for copy in attempt.copies]
        failures = [end for end in ends if isinstance(end, TransferFailed)]
        if self._yet_to_serve(attempt):
            return [*self._end(attempt, TransferStopped(attempt.command.attempt))] if attempt.is_stopping else []
        if failures:
            return [*self._end(attempt, structs.replace(failures[0], attempt=attempt.command.attempt))]
        if not ends:
            return [*self._end(attempt, TransferStopped(attempt.command.attempt))]
        return [*self._end(attempt, self._finish(attempt))]

    def _conclude_everywhere(self) -> list[Action]:
        """Of what was wanted everywhere the last copy may have been that of a host that is gone."""
        everywhere = [attempt for attempt in self._attempts.values() if attempt.everywhere]
        return [action for attempt in everywhere for action in self._conclude(attempt)]

    def _finish(self, attempt: PlacedAttempt) -> HostedFinish:
        served = attempt.served_folders
        first = min(attempt.copies, key=lambda copy: copy.host.folder_id != self._here)
        names = sorted(self._hosts, key=lambda name: (name != first.host.name, name))
        found = [self._hosts[name] for name in names if self._hosts[name].folder_id in served]
        hosts = tuple(HostFolder(host.name, host.models_directory) for host in found)
        return HostedFinish(attempt.files_seen_here(first, self._here), hosts)

    def _end(self, attempt: PlacedAttempt, end: HostedFinish | TransferFailed | TransferStopped) -> Iterator[Action]:
        number = attempt.command.attempt
        del self._attempts[number]
        if isinstance(end, HostedFinish):
            self._part_folders.pop(attempt.targets, None)
        yield end

    def _lose(self, host: str, reason: str) -> list[Action]:
        if owner := self._owners.pop(host, ""):
            self._gone_owners = [*self._gone_owners[1 - _GONE_KEPT :], owner]
        checks = [check for check, where in self._checks.items() if where == host]
        for check in checks:
            del self._checks[check]
        lost: set[int] = set()
        for copy in self._running_on(host):
            attempt = copy.attempt
            self._drop(copy)
            if not attempt.everywhere:
                lost.add(attempt.command.attempt)
                del self._attempts[attempt.command.attempt]
            elif self._lost_too_often(attempt, host):
                copy.end = _lost_for_good(copy)
                attempt.copies.append(copy)
        ended: list[Action] = [CheckEnded(check, ()) for check in checks]
        return [*ended, EngineLost(reason, frozenset(lost))] if lost else ended

    @staticmethod
    def _lost_too_often(attempt: PlacedAttempt, host: str) -> bool:
        attempt.losses[host] = attempt.losses.get(host, 0) + 1
        return attempt.losses[host] > _LOSSES_ALLOWED

    def _drop(self, copy: Copy) -> None:
        self._copies.pop(copy.number, None)
        copy.attempt.copies.remove(copy)

    # Placing -------------------------------------------------------------------------------------------------------

    def _place(self) -> list[Action]:
        """Begins what can begin; says of the rest what it waits for."""
        begun = [copy for attempt in self._attempts.values() for copy in self._begin_copies(attempt)]
        starts = [Tell(copy.host.name, self._start_of(copy)) for copy in begun]
        return [*self._announce(), *starts, *self._say_waits()]

    def _begin_copies(self, attempt: PlacedAttempt) -> Iterator[Copy]:
        if attempt.is_stopping:
            return
        if not attempt.everywhere:
            host = (
                None
                if attempt.copies
                else choose_host(self._loads(attempt), self._max_concurrent, attempt.size_bytes or 0)
            )
            if host is not None:
                yield self._begin(attempt, host)
            return
        for host in self._yet_to_serve(attempt):
            is_next = self._configure.bandwidth_limit_bytes_per_second is None or not attempt.running
            if is_next and len(self._running_on(host)) < self._max_concurrent:
                yield self._begin(attempt, host)

    def _begin(self, attempt: PlacedAttempt, host: str) -> Copy:
        self._last_number += 1
        copy = Copy(self._last_number, attempt, self._hosts[host])
        attempt.copies.append(copy)
        attempt.waits_for = ""
        self._copies[copy.number] = copy
        return copy

    def _start_of(self, copy: Copy) -> StartTransfer:
        return structs.replace(copy.attempt.command, attempt=copy.number, gone_owners=tuple(self._gone_owners))

    def _yet_to_serve(self, attempt: PlacedAttempt) -> list[str]:
        return spread(self._folders(), attempt.served_folders) if attempt.everywhere else []

    def _folders(self) -> dict[str, str]:
        return {name: host.folder_id for name, host in self._hosts.items()}

    def _running_on(self, host: str) -> list[Copy]:
        return [copy for copy in self._copies.values() if copy.host.name == host]

    def _loads(self, attempt: PlacedAttempt) -> Iterator[HostLoad]:
        part_folder = self._part_folders.get(attempt.targets)
        for name, host in self._hosts.items():
            running = self._running_on(name)
            to_go = sum(copy.bytes_to_go for copy in running)
            yield HostLoad(name, len(running), to_go, host.free_bytes, has_part=host.folder_id == part_folder)

    def _say_waits(self) -> list[Action]:
        reason = _NO_SLOT if self._hosts else self._absence
        said: list[Action] = []
        for number in self.waiting:
            attempt = self._attempts[number]
            if attempt.waits_for != reason and not attempt.is_stopping:
                attempt.waits_for = reason
                said.append(TransferWaits(number, reason))
        return said

    def _announce(self) -> list[Action]:
        """Tells each host that runs something its share of the limits: first those whose share falls."""
        running = {name: len(self._running_on(name)) for name in self._hosts}
        limit = self._configure.bandwidth_limit_bytes_per_second
        connections = shares_of(self._configure.max_connections, running)
        shares = {} if limit is None else shares_of(limit, running)
        changed: list[tuple[bool, str, Configure]] = []
        for name, count in connections.items():
            share = structs.replace(
                self._configure, max_connections=count, bandwidth_limit_bytes_per_second=shares.get(name)
            )
            if share != (before := self._told[name]):
                changed.append((_is_raised(before, share), name, share))
                self._told[name] = share
        return [Tell(name, share) for _, name, share in sorted(changed, key=lambda one: one[:2])]


def _is_raised(before: Configure, share: Configure) -> bool:
    one, other = before.bandwidth_limit_bytes_per_second, share.bandwidth_limit_bytes_per_second
    return one is not None and (other is None or other > one)


def _lost_for_good(copy: Copy) -> TransferFailed:
    error = EngineLostError(
        f"The download process on {copy.host.name} ended four times in a row. What is there is kept; `retry` continues."
    )
    return TransferFailed(copy.number, to_wire(error), can_retry=True)
