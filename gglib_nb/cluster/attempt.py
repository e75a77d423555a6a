"""One attempt of the queue on the hosts that run it: its copies, and their progress together. Only `dispatcher` adds and ends copies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import structs

from gglib_nb.domain.download import HostProgress, ShardStatus
from gglib_nb.domain.reports import FileProgress, Progress, TransferFinished, TransferStopped
from gglib_nb.domain.values import Value, known_sum
from gglib_nb.engine.protocol import StartTransfer, TransferFailed

AttemptReport = Progress | TransferFinished | TransferFailed | TransferStopped


class ClusterHost(Value, frozen=True):
    """One host of a cluster."""

    name: str
    folder_id: str  # hosts with the same one see the same files
    models_directory: str  # on that host
    free_bytes: int | None = None  # on the disk of that folder; None unknown


@dataclass(slots=True, eq=False)
class Copy:
    """One host's transfer for an attempt."""

    number: int  # the attempt's number for that host's engine
    attempt: "PlacedAttempt"
    host: ClusterHost
    progress: Progress | None = None  # the latest
    end: TransferFinished | TransferFailed | None = None  # how it ended; None while it runs

    @property
    def files(self) -> Sequence[FileProgress]:
        """The progress of each file; all are complete once it is finished."""
        if isinstance(self.end, TransferFinished):
            return [FileProgress(file.size_bytes or 0, ShardStatus.FINISHED) for file in self.attempt.command.files]
        if self.progress is None:
            return [FileProgress(0, ShardStatus.QUEUED) for _ in self.attempt.command.files]
        return self.progress.files

    @property
    def shown(self) -> HostProgress:
        """Its progress, for users."""
        downloaded_bytes = sum(file.downloaded_bytes for file in self.files)
        is_finished = isinstance(self.end, TransferFinished)
        return HostProgress(self.host.name, downloaded_bytes, self.attempt.size_bytes, is_finished)

    @property
    def bytes_to_go(self) -> int:
        """Bytes left; 0 if its size is unknown."""
        return max(0, (self.attempt.size_bytes or 0) - self.shown.downloaded_bytes)


@dataclass(slots=True, eq=False)
class PlacedAttempt:
    """An attempt that the queue started."""

    command: StartTransfer
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
    def targets(self) -> frozenset[str]:
        """The paths that it writes, as the queue names them."""
        return frozenset(file.target for file in self.command.files)

    @property
    def running(self) -> list[Copy]:
        """Transfers that have not ended."""
        return [copy for copy in self.copies if copy.end is None]

    @property
    def served_folders(self) -> set[str]:
        """Folders that have a copy, are getting one, or cannot have one."""
        return {copy.host.folder_id for copy in self.copies}

    def progress(self, now_s: float, waiting_hosts: Sequence[str]) -> Progress:
        """The progress report, once a host has reported, with the hosts whose copies have not started.

        The time is that of this machine, because the clocks of two hosts cannot be compared.
        """
        latest = [copy.progress for copy in self.copies if copy.progress is not None]
        waiting = [HostProgress(host, 0, self.size_bytes) for host in waiting_hosts]
        hosts = (*(copy.shown for copy in self.copies), *waiting)
        if len(hosts) == 1:
            return structs.replace(latest[0], attempt=self.number, hosts=hosts)
        running = [copy.progress for copy in self.running if copy.progress is not None]
        # If one of several copies waits, the download does not.
        notice = running[0] if running and all(one.notice_kind is not None for one in running) else None
        return Progress(
            attempt=self.number,
            sampled_s=now_s,
            files=tuple(_together(column) for column in zip(*(copy.files for copy in self.copies), strict=True)),
            received_bytes=sum(one.received_bytes for one in latest),
            notice_kind=notice.notice_kind if notice else None,
            notice_s=notice.notice_s if notice else None,
            notice_text=notice.notice_text if notice else "",
            reused_bytes=sum(one.reused_bytes for one in latest),
            reused_from=tuple(dict.fromkeys(name for one in latest for name in one.reused_from)),
            mirrors=tuple(dict.fromkeys(host for one in latest for host in one.mirrors)),
            is_finalizing=not waiting and bool(running) and all(one.is_finalizing for one in running),
            hosts=hosts,
        )


def _together(files: Sequence[FileProgress]) -> FileProgress:
    statuses = {file.status for file in files}
    order = (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING, ShardStatus.QUEUED)
    status = next((one for one in order if one in statuses), ShardStatus.FINISHED)
    return FileProgress(sum(file.downloaded_bytes for file in files), status)
