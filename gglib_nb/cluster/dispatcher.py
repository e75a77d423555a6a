"""Which host of a cluster runs which attempt. Commands of the queue and reports of hosts in, commands and reports out.

No clock, no threads, no network. Every method returns what has to be done, in order: a `Tell` is a command for one host's engine,
everything else a report for the queue. The caller brings the time and makes one call at a time.

* An attempt runs on one host, or, if it is wanted everywhere, on one host of each folder.
* An attempt for which no host has a slot waits here; nothing is lost while the cluster has no host.
* Attempts on a lost host are reported lost; the queue starts them again, on any host. Of an attempt wanted everywhere,
  only that copy is lost.
* Limits are for all hosts together: each gets a share for its transfers, sent before a transfer starts. With a
  bandwidth limit the copies of one download run one after the other, so that the first is complete early.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from msgspec import structs

from gglib_nb.cluster.attempt import ClusterHost, Copy, PlacedAttempt
from gglib_nb.domain.download import HostFolder
from gglib_nb.domain.values import Value
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


class Tell(Value, frozen=True):
    """Send a command to the engine of a host."""

    host: str
    command: Command


Action = Tell | Report


class HostLoad(Value, frozen=True):
    """The load of a host.

    Attributes:
        host: Its name.
        running: Transfers that run there.
        bytes_to_go: What they still have to download; 0 for those of unknown size.
        free_bytes: Free space on the disk of its models folder; None unknown.
        has_part: Whether its models folder has a part of the download.
    """

    host: str
    running: int
    bytes_to_go: int
    free_bytes: int | None
    has_part: bool = False


def choose_host(loads: Iterable[HostLoad], slots: int, needed_bytes: int) -> str | None:
    """The host that runs the next download; None if all are busy.

    A host with enough disk space comes before one without (its engine, which can link an identical file, decides
    in the end); then one that has a part of it; then the one with the fewest bytes to go; then by name.

    Args:
        loads: The hosts.
        slots: Transfers that a host may run at once.
        needed_bytes: Disk space that the download needs.
    """

    def rank(load: HostLoad) -> tuple[bool, bool, int, str]:
        is_full = load.free_bytes is not None and load.free_bytes < needed_bytes
        return is_full, not load.has_part, load.bytes_to_go, load.host

    best = min((load for load in loads if load.running < slots), key=rank, default=None)
    return None if best is None else best.host


def shares_of(limit: int, running: Mapping[str, int]) -> dict[str, int]:
    """Each busy host's share of a limit, in proportion to the transfers that it runs; at least 1. They add up to the limit."""
    total = sum(running.values())
    shares, given, passed = {}, 0, 0
    for host, count in sorted(running.items()):
        if count:
            passed += count
            upto = limit * passed // total
            shares[host] = max(1, upto - given)
            given = upto
    return shares


def spread(folders: Mapping[str, str], served: Collection[str]) -> list[str]:
    """One host for each folder that has no copy yet, by name: hosts that share a folder need one copy.

    Args:
        folders: The identity of each host's folder.
        served: Folders that have their copy, or are getting it.
    """
    firsts: dict[str, str] = {}
    for host, folder in sorted(folders.items()):
        if folder not in served:
            firsts.setdefault(folder, host)
    return list(firsts.values())


class Dispatcher:
    """All attempts of one queue on all hosts of one cluster."""

    def __init__(self, configure: Configure) -> None:
        """Has no host yet.

        Args:
            configure: As the queue gives it: limits are for all hosts together.
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
        """The hosts of the cluster."""
        return tuple(self._hosts.values())

    @property
    def waiting(self) -> list[int]:
        """Attempts that run on no host."""
        return [number for number, attempt in self._attempts.items() if not attempt.running]

    def take(self, command: EngineCommand) -> list[Action]:  # noqa: C901 - one case per command
        """A command of the queue."""
        match command:
            case Configure():
                self._configure = command
            case StartTransfer():
                self._attempts[command.attempt] = PlacedAttempt(command)
            case StartEverywhere(transfer):
                self._attempts[transfer.attempt] = PlacedAttempt(transfer, everywhere=True)
            case SetConcurrency(max_concurrent):
                self._max_concurrent = max_concurrent
            case StopTransfer():
                return self._stop(command.attempt)
            case DiscardPartials():
                return [Tell(host, command) for host in spread(self._folders(), ())]
            case CheckFiles():
                return self._check(command)
            case StopCheck():
                host = self._checks.get(command.check)
                return [] if host is None else [Tell(host, command)]
        return self._place()

    def host_joined(self, host: ClusterHost, here: str | None) -> list[Action]:
        """A host has joined the cluster.

        Args:
            host: The host.
            here: The identity of this machine's own models folder; None if it has none.
        """
        self._here = here
        self._hosts[host.name] = host
        self._told[host.name] = self._configure
        return [EnginesChanged(len(self._hosts)), Tell(host.name, self._configure), *self._place()]

    def host_left(self, name: str, reason: str) -> list[Action]:
        """A host has left the cluster, and its transfers are lost."""
        if name not in self._hosts:
            return []
        lost = self._lose(name, reason)
        del self._hosts[name], self._told[name]
        return [EnginesChanged(len(self._hosts)), *lost, *self._conclude_everywhere(), *self._place()]

    def space_changed(self, name: str, free_bytes: int | None) -> None:
        """A host's disk has this much free space now."""
        if name in self._hosts:
            self._hosts[name] = replace(self._hosts[name], free_bytes=free_bytes)

    def fail_waiting(self, error: GglibError) -> list[Action]:
        """The cluster will not come back: waiting attempts fail."""
        wire, waiting = to_wire(error), self.waiting
        for number in waiting:
            del self._attempts[number]
        return [TransferFailed(number, wire, can_retry=True) for number in waiting]

    def say_absence(self, reason: str) -> list[Action]:
        """Why there is no host, for attempts that wait for one."""
        self._absence = reason
        return self._say_waits()

    def heard(self, host: str, report: ProcessReport, now_s: float) -> list[Action]:
        """The engine of a host reported something."""
        match report:
            case Ready():
                self._owners[host] = report.owner
                return []
            case Progress():
                return self._progressed(self._copy(host, report.attempt), report, now_s)
            case TransferFinished() | TransferFailed() | TransferStopped():
                return self._ended(self._copy(host, report.attempt), report)
            case CheckProgress():
                return [report]
            case CheckEnded():
                self._checks.pop(report.check, None)
                return [report]
            case EngineLost():
                return [*self._lose(host, report.reason), *self._conclude_everywhere(), *self._place()]
            case EngineSilent():
                attempts = frozenset(copy.attempt.number for copy in self._running_on(host))
                return [EngineSilent(report.silent_s, attempts)] if attempts else []

    def _check(self, command: CheckFiles) -> list[Action]:
        """Hash files on the host whose folder they are in, else on one that shares this machine's folder."""
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
            return self._end(attempt, TransferStopped(number))
        return [Tell(copy.host.name, StopTransfer(copy.number)) for copy in attempt.running]

    # Reports -------------------------------------------------------------------------------------------------------

    def _copy(self, host: str, number: int) -> Copy | None:
        copy = self._copies.get(number)
        return copy if copy is not None and copy.host.name == host else None

    def _progressed(self, copy: Copy | None, report: Progress, now_s: float) -> list[Action]:
        if copy is None:
            return []
        copy.progress = report
        self._part_folders[copy.attempt.targets] = copy.host.folder_id
        hosted = copy.attempt.progress(now_s, self._yet_to_serve(copy.attempt))
        return [] if hosted is None else [hosted]

    def _ended(self, copy: Copy | None, end: TransferFinished | TransferFailed | TransferStopped) -> list[Action]:
        if copy is None:
            return []
        if isinstance(end, TransferStopped):
            self._drop(copy)
        else:
            del self._copies[copy.number]
            copy.end = end
        return [*self._conclude(copy.attempt), *self._place()]

    def _conclude(self, attempt: PlacedAttempt) -> list[Action]:
        """The end of an attempt, if none of its copies runs or has yet to start."""
        if attempt.running or (not attempt.copies and not attempt.is_stopping):
            return []
        is_partial = bool(self._yet_to_serve(attempt)) or not attempt.copies
        if is_partial:
            return self._end(attempt, TransferStopped(attempt.number)) if attempt.is_stopping else []
        failure = next((copy.end for copy in attempt.copies if isinstance(copy.end, TransferFailed)), None)
        if failure is not None:
            return self._end(attempt, structs.replace(failure, attempt=attempt.number))
        self._part_folders.pop(attempt.targets, None)
        return self._end(attempt, self._finish(attempt))

    def _conclude_everywhere(self) -> list[Action]:
        """Ends attempts wanted everywhere whose last missing copy was on a lost host."""
        everywhere = [attempt for attempt in self._attempts.values() if attempt.everywhere]
        return [action for attempt in everywhere for action in self._conclude(attempt)]

    def _finish(self, attempt: PlacedAttempt) -> HostedFinish:
        served = attempt.served_folders
        first = min(attempt.copies, key=lambda copy: copy.host.folder_id != self._here)
        names = sorted(self._hosts, key=lambda name: (name != first.host.name, name))
        found = [self._hosts[name] for name in names if self._hosts[name].folder_id in served]
        hosts = tuple(HostFolder(host.name, host.models_directory) for host in found)
        return HostedFinish(attempt.files_seen_here(first, self._here), hosts)

    def _end(self, attempt: PlacedAttempt, end: HostedFinish | TransferFailed | TransferStopped) -> list[Action]:
        del self._attempts[attempt.number]
        return [end]

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
                lost.add(attempt.number)
                del self._attempts[attempt.number]
                continue
            attempt.losses[host] = attempt.losses.get(host, 0) + 1
            if attempt.losses[host] > _LOSSES_ALLOWED:
                copy.end = _lost_for_good(copy)
                attempt.copies.append(copy)
        ended: list[Action] = [CheckEnded(check, ()) for check in checks]
        return [*ended, EngineLost(reason, frozenset(lost))] if lost else ended

    def _drop(self, copy: Copy) -> None:
        self._copies.pop(copy.number, None)
        copy.attempt.copies.remove(copy)

    # Placing -------------------------------------------------------------------------------------------------------

    def _place(self) -> list[Action]:
        """Starts every copy that can start, and reports what the other attempts wait for."""
        begun = [copy for attempt in self._attempts.values() for copy in self._begin_copies(attempt)]
        starts = [Tell(copy.host.name, self._start_of(copy)) for copy in begun]
        return [*self._announce(), *starts, *self._say_waits()]

    def _begin_copies(self, attempt: PlacedAttempt) -> Iterator[Copy]:
        if attempt.is_stopping or (attempt.copies and not attempt.everywhere):
            return
        if not attempt.everywhere:
            host = choose_host(self._loads(attempt), self._max_concurrent, attempt.size_bytes or 0)
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
        """Sends each busy host its share of the limits, first to those whose share falls."""
        running = {name: len(self._running_on(name)) for name in self._hosts}
        limit = self._configure.bandwidth_limit_bytes_per_second
        bandwidths = {} if limit is None else shares_of(limit, running)
        changed: list[tuple[bool, str, Configure]] = []
        for name, connections in shares_of(self._configure.max_connections, running).items():
            one, other = self._told[name].bandwidth_limit_bytes_per_second, bandwidths.get(name)
            share = structs.replace(
                self._configure, max_connections=connections, bandwidth_limit_bytes_per_second=other
            )
            if share != self._told[name]:
                changed.append((one is not None and (other is None or other > one), name, share))
                self._told[name] = share
        return [Tell(name, share) for _, name, share in sorted(changed, key=lambda change: change[:2])]


def _lost_for_good(copy: Copy) -> TransferFailed:
    error = EngineLostError(
        f"The download process on {copy.host.name} ended four times in a row. Downloaded data is kept. Run %gguf retry to resume."
    )
    return TransferFailed(copy.number, to_wire(error), can_retry=True)
