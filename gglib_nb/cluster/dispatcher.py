"""Decides which host of a cluster runs which attempt. Takes commands and the hosts' reports, returns actions.

No clock, no threads, no network. Every method returns the actions to carry out, in order: `SendCommand` is for one
host's engine, anything else is a report for the queue. The caller passes the time and makes one call at a time.

* An attempt runs on one host, or on one host of each folder if it is wanted everywhere. Without a free slot it waits.
* Attempts on a lost host are reported lost, and the queue starts them again; of one wanted everywhere, that copy only.
* Each host gets a share of the limits, sent before a transfer starts. With a bandwidth limit the copies of a download
  run one after the other, so that the first is complete early.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final

from msgspec import structs

from gglib_nb.domain import reports
from gglib_nb.domain.download import HostFolder, HostProgress, ShardStatus
from gglib_nb.domain.values import Value, known_sum
from gglib_nb.engine import protocol as wire
from gglib_nb.errors import EngineLostError, GglibError, copy_of

NO_HOST: Final = "waiting for a worker of the cluster"
_LOSSES_ALLOWED: Final = 3


class SendCommand(Value, frozen=True):
    """Send a command to the engine of a host."""

    host: str
    command: wire.Command


Action = SendCommand | wire.Report
_AttemptReport = reports.Progress | reports.TransferFinished | reports.TransferFailed | reports.TransferStopped


@dataclass(slots=True, eq=False)
class ClusterHost:
    """One host of a cluster, as long as it is linked."""

    name: str
    folder_id: str  # hosts with the same one see the same files
    models_directory: str  # on that host
    free_bytes: int | None = None  # on the disk of that folder, kept current by its link; None unknown
    limits: wire.Configure | None = None  # those that its engine has
    owner: str = ""  # the name under which its engine holds leases; empty before its first report
    checks: set[int] = field(default_factory=set)  # runs of hashing there


@dataclass(slots=True, eq=False)
class Copy:
    """One host's transfer for an attempt."""

    number: int  # the attempt's number for that host's engine
    attempt: "PlacedAttempt"
    host: ClusterHost
    progress: reports.Progress  # the latest
    end: reports.TransferFinished | reports.TransferFailed | None = None  # how it ended; None while it runs

    @property
    def shown(self) -> HostProgress:
        """Its progress, for users."""
        downloaded_bytes = sum(file.downloaded_bytes for file in self.progress.files)
        is_finished = isinstance(self.end, reports.TransferFinished)
        return HostProgress(self.host.name, downloaded_bytes, self.attempt.size_bytes, is_finished)


@dataclass(slots=True, eq=False)
class PlacedAttempt:
    """An attempt that the queue started."""

    command: wire.StartTransfer
    everywhere: bool = False  # one copy is wanted in every folder
    copies: list[Copy] = field(default_factory=list)  # one, or one for each folder if it is wanted everywhere
    waits_for: str = ""  # the reported reason why it waits, or empty
    is_stopping: bool = False  # the queue wants it stopped
    losses: dict[str, int] = field(default_factory=dict)  # how often each host's engine ended while it ran there

    @property
    def number(self) -> int:
        """The attempt's number for the queue."""
        return self.command.attempt

    @property
    def size_bytes(self) -> int | None:
        """Bytes of one copy; None if the size of a file is unknown."""
        return known_sum(file.size_bytes for file in self.command.files)

    @property
    def running(self) -> list[Copy]:
        """Transfers that have not ended."""
        return [copy for copy in self.copies if copy.end is None]

    def progress(self, now_s: float, waiting_hosts: Sequence[str]) -> reports.Progress:
        """The progress of all copies, after one has reported, and of hosts whose copies have not started."""
        waiting = [HostProgress(host, 0, self.size_bytes) for host in waiting_hosts]
        hosts = (*(copy.shown for copy in self.copies), *waiting)
        copies = [copy.progress for copy in self.copies]
        if len(hosts) == 1:
            return structs.replace(copies[0], attempt=self.number, hosts=hosts)
        running = [copy.progress for copy in self.running]
        return structs.replace(
            min(running, key=lambda one: one.notice_kind is not None),  # if one copy waits, the download does not
            attempt=self.number,
            sampled_s=now_s,  # of this machine, because the clocks of two hosts cannot be compared
            files=tuple(_together(column) for column in zip(*(one.files for one in copies), strict=True)),
            received_bytes=sum(one.received_bytes for one in copies),
            reused_bytes=sum(one.reused_bytes for one in copies),
            reused_from=tuple(dict.fromkeys(name for one in copies for name in one.reused_from)),
            mirrors=tuple(dict.fromkeys(host for one in copies for host in one.mirrors)),
            is_finalizing=not waiting and all(one.is_finalizing for one in running),
            hosts=hosts,
        )


def _together(files: Sequence[reports.FileProgress]) -> reports.FileProgress:
    order = (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING, ShardStatus.QUEUED, ShardStatus.FINISHED)
    status = min((file.status for file in files), key=order.index)
    return reports.FileProgress(sum(file.downloaded_bytes for file in files), status)


def shares_of(limit: int, running: Mapping[str, int]) -> dict[str, int]:
    """Each busy host's share of a limit, in proportion to its transfers, at least 1. They add up to the limit."""
    total, shares, passed = sum(running.values()), dict[str, int](), 0
    for host, count in sorted(running.items()):
        if count:
            shares[host] = max(1, limit * (passed + count) // total - limit * passed // total)
            passed += count
    return shares


class Dispatcher:
    """All attempts of one queue on all hosts of one cluster; `attempts` are those that wait or run, by number."""

    def __init__(self, configure: wire.Configure) -> None:
        """Has no host yet; the limits of `configure` are for all hosts together."""
        self._configure = configure
        self._max_concurrent = 1
        self._hosts: dict[str, ClusterHost] = {}
        self.attempts: dict[int, PlacedAttempt] = {}
        self._gone_owners: deque[str] = deque(maxlen=64)
        self._part_folders: dict[str, str] = {}  # where the latest bytes of an attempt are, by its first target
        self._last_number = 0
        self._here: str | None = None
        self._absence = NO_HOST

    def take(self, command: wire.EngineCommand) -> list[Action]:  # noqa: C901 - one case per command
        """Handles a command of the queue."""
        match command:
            case wire.Configure():
                self._configure = command
            case wire.StartTransfer():
                self.attempts[command.attempt] = PlacedAttempt(command)
            case wire.StartEverywhere(transfer):
                self.attempts[transfer.attempt] = PlacedAttempt(transfer, everywhere=True)
            case reports.LimitConcurrency(max_concurrent):
                self._max_concurrent = max_concurrent
            case reports.StopTransfer(number):
                if (attempt := self.attempts.get(number)) is not None and not attempt.is_stopping:
                    attempt.is_stopping = True
                    stops = [SendCommand(copy.host.name, reports.StopTransfer(copy.number)) for copy in attempt.running]
                    return [*stops, *self._settle()]
            case reports.DiscardPartials():
                return [SendCommand(hosts[0].name, command) for hosts in self._by_folder()]
            case wire.CheckFiles():
                return self._check(command)
            case wire.StopCheck():
                checking = (name for name, host in self._hosts.items() if command.check in host.checks)
                return [SendCommand(name, command) for name in checking]
        return self._settle()

    def host_joined(self, host: ClusterHost, here: str | None) -> list[Action]:
        """Adds a host; `here` is the identity of this machine's own models folder, None if it has none."""
        self._here, self._hosts[host.name], host.limits = here, host, self._configure
        return [reports.EnginesChanged(len(self._hosts)), SendCommand(host.name, self._configure), *self._settle()]

    def host_left(self, name: str, reason: str) -> list[Action]:
        """Removes a host; its transfers are lost."""
        if name not in self._hosts:
            return []
        lost = self._lose(name, reason)
        del self._hosts[name]
        return [reports.EnginesChanged(len(self._hosts)), *lost, *self._settle()]

    def fail_waiting(self, error: GglibError) -> list[Action]:
        """Fails waiting attempts, because the cluster will not come back."""
        waiting = [number for number, attempt in self.attempts.items() if not attempt.running]
        self.attempts = {number: attempt for number, attempt in self.attempts.items() if attempt.running}
        return [reports.TransferFailed(number, copy_of(error), can_retry=True) for number in waiting]

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
                copy = next((copy for copy in self._running_on(host) if copy.number == report.attempt), None)
                return [] if copy is None else self._reported(copy, report, now_s)

    def _check(self, command: wire.CheckFiles) -> list[Action]:
        """Hashes files on the host whose folder they are in, else on one that shares this machine's folder."""
        paths = [PurePath(file.path) for file in command.files]
        for name, host in sorted(self._hosts.items()):
            if all(path.is_relative_to(host.models_directory) for path in paths) or host.folder_id == self._here:
                host.checks.add(command.check)
                return [SendCommand(name, command)]
        return [wire.CheckEnded(command.check, ())]

    # Reports -------------------------------------------------------------------------------------------------------

    def _reported(self, copy: Copy, report: _AttemptReport, now_s: float) -> list[Action]:
        attempt = copy.attempt
        if isinstance(report, reports.Progress):
            copy.progress = report
            self._part_folders[attempt.command.files[0].target] = copy.host.folder_id
            return [attempt.progress(now_s, [hosts[0].name for hosts in self._missing_copies(attempt)])]
        if isinstance(report, reports.TransferStopped):
            attempt.copies.remove(copy)
        else:
            copy.end = report
        return self._settle()

    def _conclude(self, attempt: PlacedAttempt) -> list[Action]:
        """Ends an attempt if none of its copies runs or has yet to start."""
        is_partial = not attempt.copies or bool(self._missing_copies(attempt))
        if attempt.running or (is_partial and not attempt.is_stopping):
            return []
        del self.attempts[attempt.number]
        if is_partial:
            return [reports.TransferStopped(attempt.number)]
        for copy in attempt.copies:
            if isinstance(copy.end, reports.TransferFailed):
                return [structs.replace(copy.end, attempt=attempt.number)]
        self._part_folders.pop(attempt.command.files[0].target, None)
        return [self._finish(attempt)]

    def _finish(self, attempt: PlacedAttempt) -> reports.TransferFinished:
        """The result: with the queue's paths if this machine sees a copy, else with those of the first copy's host."""
        first = min(attempt.copies, key=lambda copy: copy.host.folder_id != self._here)
        served = {copy.host.folder_id for copy in attempt.copies}
        ordered = sorted(self._hosts.values(), key=lambda host: (host.name != first.host.name, host.name))
        hosts = tuple(HostFolder(one.name, one.models_directory) for one in ordered if one.folder_id in served)
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
        if host.owner:
            self._gone_owners.append(host.owner)
        host.owner, host.checks = "", set()
        for copy in self._running_on(name):
            attempt = copy.attempt
            losses = attempt.losses[name] = attempt.losses.get(name, 0) + 1
            if not attempt.everywhere:
                lost.add(attempt.number)
                del self.attempts[attempt.number]
            elif losses <= _LOSSES_ALLOWED:
                attempt.copies.remove(copy)
            else:
                error = EngineLostError(
                    f"The download process on {name} ended four times in a row. Downloaded data is kept. "
                    "To resume: %gguf retry --all"
                )
                copy.end = reports.TransferFailed(copy.number, error, can_retry=True)
        return [*ended, reports.EngineLost(reason, frozenset(lost))] if lost else ended

    # Placing -------------------------------------------------------------------------------------------------------

    def _settle(self) -> list[Action]:
        """Ends attempts that are over, starts every copy that can start, and reports why the other attempts wait."""
        ends = [end for attempt in list(self.attempts.values()) for end in self._conclude(attempt)]
        starts: list[Action] = []
        for attempt in self.attempts.values():
            for candidates in [] if attempt.is_stopping else self._missing_copies(attempt):
                starts += self._begin(attempt, candidates)
        return [*ends, *self._share(), *starts, *self._say_waits()]

    def _begin(self, attempt: PlacedAttempt, candidates: list[ClusterHost]) -> list[Action]:
        """Starts a copy, which has yet to report, if one of these hosts has a slot."""
        if (host := self._host_for(attempt, candidates)) is None:
            return []
        self._last_number += 1
        files = tuple(reports.FileProgress(0, ShardStatus.QUEUED) for _ in attempt.command.files)
        progress = reports.Progress(self._last_number, 0.0, files, 0, "connecting")
        attempt.copies.append(Copy(self._last_number, attempt, host, progress))
        attempt.waits_for, owners = "", tuple(self._gone_owners)
        return [SendCommand(host.name, structs.replace(attempt.command, attempt=self._last_number, gone_owners=owners))]

    def _missing_copies(self, attempt: PlacedAttempt) -> list[list[ClusterHost]]:
        """The hosts that may run each copy that an attempt still needs."""
        if attempt.everywhere:
            return self._by_folder({copy.host.folder_id for copy in attempt.copies})
        return [] if attempt.copies else [[*self._hosts.values()]]

    def _by_folder(self, served: Collection[str] = ()) -> list[list[ClusterHost]]:
        """The hosts of each folder that is not served, by name: hosts that share a folder need one copy."""
        found: dict[str, list[ClusterHost]] = {}
        for _, host in sorted(self._hosts.items()):
            if host.folder_id not in served:
                found.setdefault(host.folder_id, []).append(host)
        return list(found.values())

    def _host_for(self, attempt: PlacedAttempt, candidates: list[ClusterHost]) -> ClusterHost | None:
        """The host that starts a copy of an attempt now; None: none can.

        A host with enough disk space comes before one without (its engine, which can link an identical file, decides
        in the end); then one that has a part of it; then the one with the fewest bytes to go; then by name.
        """
        if self._configure.bandwidth_limit_bytes_per_second is not None and attempt.running:
            return None
        part_folder, needed_bytes = self._part_folders.get(attempt.command.files[0].target), attempt.size_bytes or 0

        def rank(host: ClusterHost) -> tuple[bool, bool, int, str]:
            is_full = host.free_bytes is not None and host.free_bytes < needed_bytes
            shown = [copy.shown for copy in self._running_on(host.name)]
            bytes_to_go = sum(max(0, (one.total_bytes or 0) - one.downloaded_bytes) for one in shown)
            return is_full, host.folder_id != part_folder, bytes_to_go, host.name

        free = [host for host in candidates if len(self._running_on(host.name)) < self._max_concurrent]
        return min(free, key=rank, default=None)

    def _running_on(self, host: str) -> list[Copy]:
        return [copy for attempt in self.attempts.values() for copy in attempt.running if copy.host.name == host]

    def _say_waits(self) -> list[Action]:
        reason = "waiting for a free host" if self._hosts else self._absence
        waiting = (attempt for attempt in self.attempts.values() if not (attempt.running or attempt.is_stopping))
        news = [attempt for attempt in waiting if attempt.waits_for != reason]
        for attempt in news:
            attempt.waits_for = reason
        return [reports.TransferWaits(attempt.number, reason) for attempt in news]

    def _share(self) -> list[Action]:
        """Sends each busy host its share of the limits, if that has changed."""
        running = {name: len(self._running_on(name)) for name in self._hosts}
        limit = self._configure.bandwidth_limit_bytes_per_second
        bandwidths = {} if limit is None else shares_of(limit, running)
        changed: list[Action] = []
        for name, count in shares_of(self._configure.max_connections, running).items():
            host, rate = self._hosts[name], bandwidths.get(name)
            share = structs.replace(self._configure, max_connections=count, bandwidth_limit_bytes_per_second=rate)
            if share != host.limits:
                host.limits = share
                changed.append(SendCommand(name, share))
        return changed
