"""Decides which host of a cluster runs which attempt. Takes the queue's commands and the hosts' reports, returns actions.

No clock, no threads, no network. Every method returns the actions to carry out, in order: a `Tell` is a command for one host's
engine, anything else a report for the queue. The caller passes the time and makes one call at a time.

* An attempt runs on one host, or, if it is wanted everywhere, on one host of each folder.
* An attempt for which no host has a slot waits here; nothing is lost while the cluster has no host.
* Attempts on a lost host are reported lost; the queue starts them again, on any host. Of an attempt wanted everywhere,
  only that copy is lost.
* Limits are for all hosts together: each gets a share for its transfers, sent before a transfer starts. With a
  bandwidth limit the copies of one download run one after the other, so that the first is complete early.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final

from msgspec import structs

from gglib_nb.cluster.attempt import AttemptReport, ClusterHost, Copy, PlacedAttempt
from gglib_nb.domain import reports
from gglib_nb.domain.download import HostFolder
from gglib_nb.domain.values import Value
from gglib_nb.engine import protocol as wire
from gglib_nb.errors import EngineLostError, GglibError, to_wire

NO_HOST: Final = "waiting for a worker of the cluster"
_NO_SLOT: Final = "waiting for a free host"
_LOSSES_ALLOWED: Final = 3
_GONE_KEPT: Final = 64


class Tell(Value, frozen=True):
    """Send a command to the engine of a host."""

    host: str
    command: wire.Command


Action = Tell | wire.Report


def shares_of(limit: int, running: Mapping[str, int]) -> dict[str, int]:
    """Each busy host's share of a limit, in proportion to the transfers that it runs; at least 1. They add up to the limit."""
    total, shares, passed = sum(running.values()), dict[str, int](), 0
    for host, count in sorted(running.items()):
        if count:
            shares[host] = max(1, limit * (passed + count) // total - limit * passed // total)
            passed += count
    return shares


@dataclass(slots=True, eq=False)
class _Host:
    """A host of the cluster."""

    about: ClusterHost
    share: wire.Configure  # the limits that its engine has
    owner: str = ""  # the name under which its engine holds leases; empty before its first report
    checks: set[int] = field(default_factory=set)  # runs of hashing there


class Dispatcher:
    """All attempts of one queue on all hosts of one cluster."""

    def __init__(self, configure: wire.Configure) -> None:
        """Has no host yet; the limits of `configure` are for all hosts together."""
        self._configure = configure
        self._max_concurrent = 1
        self._hosts: dict[str, _Host] = {}
        self._attempts: dict[int, PlacedAttempt] = {}
        self._gone_owners: list[str] = []
        self._part_folders: dict[frozenset[str], str] = {}
        self._last_number = 0
        self._here: str | None = None
        self._absence = NO_HOST

    @property
    def waiting(self) -> list[int]:
        """Attempts that run on no host."""
        return [number for number, attempt in self._attempts.items() if not attempt.running]

    def take(self, command: wire.EngineCommand) -> list[Action]:  # noqa: C901 - one case per command
        """Handles a command of the queue."""
        match command:
            case wire.Configure():
                self._configure = command
            case wire.StartTransfer():
                self._attempts[command.attempt] = PlacedAttempt(command)
            case wire.StartEverywhere(transfer):
                self._attempts[transfer.attempt] = PlacedAttempt(transfer, everywhere=True)
            case wire.SetConcurrency(max_concurrent):
                self._max_concurrent = max_concurrent
            case wire.StopTransfer():
                return self._stop(command.attempt)
            case wire.DiscardPartials():
                return [Tell(hosts[0].about.name, command) for hosts in self._by_folder()]
            case wire.CheckFiles():
                return self._check(command)
            case wire.StopCheck():
                return [Tell(name, command) for name, host in self._hosts.items() if command.check in host.checks]
        return self._settle()

    def host_joined(self, host: ClusterHost, here: str | None) -> list[Action]:
        """Adds a host; `here` is the identity of this machine's own models folder, None if it has none."""
        self._here = here
        self._hosts[host.name] = _Host(host, self._configure)
        return [reports.EnginesChanged(len(self._hosts)), Tell(host.name, self._configure), *self._settle()]

    def host_left(self, name: str, reason: str) -> list[Action]:
        """Removes a host; its transfers are lost."""
        if name not in self._hosts:
            return []
        lost = self._lose(name, reason)
        del self._hosts[name]
        return [reports.EnginesChanged(len(self._hosts)), *lost, *self._settle()]

    def space_changed(self, name: str, free_bytes: int | None) -> None:
        """Updates the free space of a host's disk."""
        if (host := self._hosts.get(name)) is not None:
            host.about = replace(host.about, free_bytes=free_bytes)

    def fail_waiting(self, error: GglibError) -> list[Action]:
        """Fails waiting attempts, because the cluster will not come back."""
        ends = [wire.TransferFailed(number, to_wire(error), can_retry=True) for number in self.waiting]
        for end in ends:
            del self._attempts[end.attempt]
        return [*ends]

    def say_absence(self, reason: str) -> list[Action]:
        """Reports why there is no host, for attempts that wait for one."""
        self._absence = reason
        return self._say_waits()

    def take_report(self, host: str, report: wire.ProcessReport, now_s: float) -> list[Action]:
        """Handles a report of a host's engine."""
        match report:
            case wire.Ready():
                self._hosts[host].owner = report.owner
                return []
            case wire.CheckProgress():
                return [report]
            case wire.CheckEnded():
                self._hosts[host].checks.discard(report.check)
                return [report]
            case reports.EngineLost():
                return [*self._lose(host, report.reason), *self._settle()]
            case reports.EngineSilent():
                attempts = frozenset(copy.attempt.number for copy in self._running_on(host))
                return [reports.EngineSilent(report.silent_s, attempts)] if attempts else []
            case _:
                copies = (copy for copy in self._running_on(host) if copy.number == report.attempt)
                return next((self._reported(copy, report, now_s) for copy in copies), [])

    def _check(self, command: wire.CheckFiles) -> list[Action]:
        """Hashes files on the host whose folder they are in, else on one that shares this machine's folder."""
        paths = [PurePath(file.path) for file in command.files]
        for name, host in sorted(self._hosts.items()):
            folder = host.about.models_directory
            if all(path.is_relative_to(folder) for path in paths) or host.about.folder_id == self._here:
                host.checks.add(command.check)
                return [Tell(name, command)]
        return [wire.CheckEnded(command.check, ())]

    def _stop(self, number: int) -> list[Action]:
        if (attempt := self._attempts.get(number)) is None or attempt.is_stopping:
            return []
        attempt.is_stopping = True
        stops = [Tell(copy.host.name, wire.StopTransfer(copy.number)) for copy in attempt.running]
        return [*stops, *self._settle()]

    # Reports -------------------------------------------------------------------------------------------------------

    def _reported(self, copy: Copy, report: AttemptReport, now_s: float) -> list[Action]:
        attempt = copy.attempt
        if isinstance(report, reports.Progress):
            copy.progress = report
            self._part_folders[attempt.targets] = copy.host.folder_id
            return [attempt.progress(now_s, [hosts[0].about.name for hosts in self._yet_to_serve(attempt)])]
        if isinstance(report, reports.TransferStopped):
            attempt.copies.remove(copy)
        else:
            copy.end = report
        return self._settle()

    def _conclude(self, attempt: PlacedAttempt) -> list[Action]:
        """Ends an attempt if none of its copies runs or has yet to start."""
        is_partial = not attempt.copies or bool(self._yet_to_serve(attempt))
        if attempt.running or (is_partial and not attempt.is_stopping):
            return []
        del self._attempts[attempt.number]
        if is_partial:
            return [reports.TransferStopped(attempt.number)]
        failure = next((copy.end for copy in attempt.copies if isinstance(copy.end, wire.TransferFailed)), None)
        if failure is not None:
            return [structs.replace(failure, attempt=attempt.number)]
        self._part_folders.pop(attempt.targets, None)
        return [self._finish(attempt)]

    def _finish(self, attempt: PlacedAttempt) -> reports.TransferFinished:
        """The result: with the queue's paths if this machine sees a copy, else with those of the first copy's host."""
        first = min(attempt.copies, key=lambda copy: copy.host.folder_id != self._here)
        found = [host.about for host in self._hosts.values() if host.about.folder_id in attempt.served_folders]
        found.sort(key=lambda host: (host.name != first.host.name, host.name))
        hosts = tuple(HostFolder(host.name, host.models_directory) for host in found)
        assert isinstance(first.end, reports.TransferFinished)  # noqa: S101 - every copy has finished
        files = first.end.files
        if first.host.folder_id == self._here:
            targets = dict.fromkeys(file.target for file in attempt.command.files)
            files = tuple(replace(file, target=target) for file, target in zip(files, targets, strict=True))
        return reports.TransferFinished(attempt.number, files, hosts)

    def _lose(self, name: str, reason: str) -> list[Action]:
        """Handles the end of a host's engine: its checks and its transfers are lost."""
        host, lost = self._hosts[name], set[int]()
        ended: list[Action] = [wire.CheckEnded(check, ()) for check in sorted(host.checks)]
        self._gone_owners = [*self._gone_owners, *filter(None, [host.owner])][-_GONE_KEPT:]
        host.owner, host.checks = "", set()
        for copy in self._running_on(name):
            attempt = copy.attempt
            losses = attempt.losses[name] = attempt.losses.get(name, 0) + 1
            if not attempt.everywhere:
                lost.add(attempt.number)
                del self._attempts[attempt.number]
            elif losses <= _LOSSES_ALLOWED:
                attempt.copies.remove(copy)
            else:
                error = EngineLostError(
                    f"The download process on {name} ended four times in a row. Downloaded data is kept. "
                    "Run %gguf retry to resume."
                )
                copy.end = wire.TransferFailed(copy.number, to_wire(error), can_retry=True)
        return [*ended, reports.EngineLost(reason, frozenset(lost))] if lost else ended

    # Placing -------------------------------------------------------------------------------------------------------

    def _settle(self) -> list[Action]:
        """Ends attempts that are over, starts every copy that can start, and reports why the other attempts wait."""
        ends = [end for attempt in list(self._attempts.values()) for end in self._conclude(attempt)]
        starts: list[Action] = []
        for attempt in self._attempts.values():
            for candidates in self._wanted_copies(attempt):
                if (host := self._host_for(attempt, candidates)) is not None:
                    self._last_number += 1
                    attempt.copies.append(Copy(self._last_number, attempt, host))
                    attempt.waits_for = ""
                    owners = tuple(self._gone_owners)
                    command = structs.replace(attempt.command, attempt=self._last_number, gone_owners=owners)
                    starts.append(Tell(host.name, command))
        return [*ends, *self._share(), *starts, *self._say_waits()]

    def _wanted_copies(self, attempt: PlacedAttempt) -> list[list[_Host]]:
        """The hosts that may run each copy that an attempt still needs."""
        if attempt.is_stopping:
            return []
        if attempt.everywhere:
            return self._yet_to_serve(attempt)
        return [] if attempt.copies else [[*self._hosts.values()]]

    def _host_for(self, attempt: PlacedAttempt, candidates: list[_Host]) -> ClusterHost | None:
        """The host that starts a copy of an attempt now; None: none can.

        A host with enough disk space comes before one without (its engine, which can link an identical file, decides
        in the end); then one that has a part of it; then the one with the fewest bytes to go; then by name.
        """
        if self._configure.bandwidth_limit_bytes_per_second is not None and attempt.running:
            return None
        part_folder, needed_bytes = self._part_folders.get(attempt.targets), attempt.size_bytes or 0

        def rank(host: ClusterHost) -> tuple[bool, bool, int, str]:
            is_full = host.free_bytes is not None and host.free_bytes < needed_bytes
            to_go = sum(copy.bytes_to_go for copy in self._running_on(host.name))
            return is_full, host.folder_id != part_folder, to_go, host.name

        hosts = [host.about for host in candidates]
        free = [host for host in hosts if len(self._running_on(host.name)) < self._max_concurrent]
        return min(free, key=rank, default=None)

    def _yet_to_serve(self, attempt: PlacedAttempt) -> list[list[_Host]]:
        """The hosts of each folder that has yet to get its copy, if every folder gets one."""
        return self._by_folder(attempt.served_folders) if attempt.everywhere else []

    def _by_folder(self, served: Collection[str] = ()) -> list[list[_Host]]:
        """The hosts of each folder that is not served, by name: hosts that share a folder need one copy."""
        found: dict[str, list[_Host]] = {}
        for _, host in sorted(self._hosts.items()):
            if host.about.folder_id not in served:
                found.setdefault(host.about.folder_id, []).append(host)
        return list(found.values())

    def _running_on(self, host: str) -> list[Copy]:
        return [copy for attempt in self._attempts.values() for copy in attempt.running if copy.host.name == host]

    def _say_waits(self) -> list[Action]:
        reason = _NO_SLOT if self._hosts else self._absence
        news = [
            one for one in self._attempts.values() if not (one.running or one.is_stopping or one.waits_for == reason)
        ]
        for attempt in news:
            attempt.waits_for = reason
        return [reports.TransferWaits(attempt.number, reason) for attempt in news]

    def _share(self) -> list[Action]:
        """Sends each busy host its share of the limits, if that has changed."""
        running = {name: len(self._running_on(name)) for name in self._hosts}
        limit = self._configure.bandwidth_limit_bytes_per_second
        bandwidths = {} if limit is None else shares_of(limit, running)
        changed: list[Action] = []
        for name, connections in shares_of(self._configure.max_connections, running).items():
            host, bandwidth = self._hosts[name], bandwidths.get(name)
            share = structs.replace(
                self._configure, max_connections=connections, bandwidth_limit_bytes_per_second=bandwidth
            )
            if share != host.share:
                host.share = share
                changed.append(Tell(name, share))
        return changed
