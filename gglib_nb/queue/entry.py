"""One download inside the machine: its state, and its view for readers.

Mutable, and changed only by `gglib_nb.queue.machine`. The view is rebuilt only when something changed; otherwise it
is the same object, so that readers can detect changes by identity.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from msgspec.structs import replace

from gglib_nb.domain.download import (
    DownloadStatus,
    HostFolder,
    HostProgress,
    PlannedDownload,
    PlannedFile,
    QueuedDownload,
    ShardProgress,
    ShardStatus,
    StoredFile,
    Then,
)
from gglib_nb.domain.progress import RateEstimator
from gglib_nb.domain.references import DownloadId, source_of
from gglib_nb.domain.reports import FileProgress, Progress
from gglib_nb.domain.stored import RestoredDownload, StoredDownload
from gglib_nb.errors import GglibError
from gglib_nb.queue.notices import notice_of, reused
from gglib_nb.queue.transitions import TRANSITIONS, Cause

_LOSSES_ALLOWED: Final = 3


class Place(NamedTuple):
    """Where a download was when it was cancelled or removed."""

    position: int  # 1-based among the pending ones; 0 or less if it was active, with others behind it
    was_paused: bool  # whether it was paused
    was_processing: bool  # whether the queue was running


_IN_FRONT: Final = Place(0, False, False)


@dataclass(slots=True, eq=False)
class Entry:
    """One download.

    Attributes:
        plan: The plan to download.
        queued_at_s: Unix time.
        aliases: Ids that were found to mean this download.
        ran_s: Seconds in which the engine ran it, until the last change of status.
        stored: Its files, once they have their final names.
        hosts: The hosts of a cluster that download it or have it; empty on this machine.
        peer: The other kernel that downloads the same, in words; None if unknown.
        place: Its place when it was cancelled; only meaningful then.
        then: The command or callable that runs once it is complete; None if there is none.
    """

    plan: PlannedDownload
    queued_at_s: float
    status: DownloadStatus = DownloadStatus.QUEUED
    aliases: set[DownloadId] = field(default_factory=set)
    started_at_s: float | None = None
    ended_at_s: float | None = None
    ran_s: float = 0.0
    error: GglibError | None = None
    can_retry: bool = False
    stored: tuple[StoredFile, ...] = ()
    hosts: tuple[HostProgress, ...] = ()
    peer: str | None = None
    place: Place = _IN_FRONT
    then: Then | None = None
    _files: tuple[ShardProgress, ...] = ()
    _rate: RateEstimator = field(default_factory=RateEstimator)
    _copies: int = 1
    _received_bytes: int = 0
    _reused_bytes: int = 0
    _reused_from: tuple[str, ...] = ()
    _mean_rate: float | None = None
    _attempt_at_s: float = 0.0
    _running_since_s: float = 0.0
    _losses: int = 0
    _notice: tuple[str, str] | None = None
    _is_shared: bool = False
    _view: QueuedDownload | None = None
    _is_changed: bool = True
    _kept: StoredDownload | None = None

    def __post_init__(self) -> None:
        self._follow(self.plan)

    def _follow(self, plan: PlannedDownload) -> None:
        """Takes over a plan; its bars start empty if its files are others."""
        if not self._files or plan.files != self.plan.files:
            self._files = tuple(
                ShardProgress(number, file.path_in_repo, file.kind, file.size_bytes, 0, ShardStatus.QUEUED)
                for number, file in enumerate(plan.files, start=1)
            )
            self._reused_bytes, self._reused_from = 0, ()
        self.plan, self.then = plan, None if plan.then is None else Then(plan.then)

    @classmethod
    def restored(cls, restored: RestoredDownload) -> Self:
        """A download from the queue of a previous kernel, with its status there; if it was running, it waits now."""
        stored = restored.stored
        entry = cls(stored.plan, stored.queued_at_s, stored.status, set(stored.aliases), stored.started_at_s)
        entry.ended_at_s, entry.error, entry.can_retry = stored.ended_at_s, stored.error, stored.can_retry
        entry.ran_s = stored.ran_s
        samples = (
            FileProgress(size, ShardStatus.FINISHED if size and size == bar.size_bytes else ShardStatus.QUEUED)
            for bar, size in zip(entry._files, restored.file_bytes, strict=True)
        )
        entry._files = tuple(
            _progressed(bar, one, bar.size_bytes) for bar, one in zip(entry._files, samples, strict=True)
        )
        return entry

    def answers_to(self, id: DownloadId) -> bool:  # noqa: A002 - the field's word
        """Whether a caller means this download by `id`; the case of a quantization does not matter."""
        return id in self.aliases or str(id).casefold() == str(self.plan.id).casefold()

    def move_on(self, cause: Cause, at_s: float) -> None:
        """Makes one transition of the table; counts the time in which the engine runs it."""
        was_running = self.is_running
        self.status = TRANSITIONS.following(self.status, cause)
        if was_running and not self.is_running:
            self.ran_s += max(0.0, at_s - self._running_since_s)
        elif self.is_running and not was_running:
            self._running_since_s = at_s
        self._is_changed, self._kept = True, None

    def answer_also_to(self, id: DownloadId) -> None:  # noqa: A002 - the field's word
        """Adds another id."""
        self.aliases.add(id)
        self._kept = None

    def register_at_end(self) -> None:
        """Register it once it is complete, because a later request asks for that."""
        self.plan = replace(self.plan, add_to_db=True)
        self._kept = None

    def start(self, at_s: float) -> None:
        """Begins an attempt: resets the rate, the notice and the last error."""
        self.started_at_s = at_s if self.started_at_s is None else self.started_at_s
        self.ended_at_s, self.error, self.can_retry = None, None, False
        self._rate, self._received_bytes, self._notice = RateEstimator(), 0, ("connecting", "connecting")
        self._attempt_at_s, self._mean_rate, self._is_shared = at_s, None, False
        self._is_changed, self._kept = True, None

    def hold(self) -> None:
        """It does not run: no rate, no notice; the bars keep their state."""
        self._rate, self._notice, self._is_shared = RateEstimator(), None, False
        self._is_changed, self._kept = True, None

    def end(self, at_s: float) -> None:
        """It has ended, successfully or not."""
        self.hold()
        self.ended_at_s = at_s

    def fail(self, error: GglibError, at_s: float, *, can_retry: bool) -> None:
        """Records why it failed."""
        self.end(at_s)
        self.error, self.can_retry = error, can_retry

    def leave_to(self, peer: str) -> None:
        """It ended here, and another kernel continues it."""
        self._notice = ("elsewhere", f"{peer} continues it")

    def keep(self, stored: tuple[StoredFile, ...], hosts: tuple[HostFolder, ...] = ()) -> None:
        """Every file has its final name, on every requested host."""
        self.hold()
        self.stored, self.ended_at_s = stored, None
        size = self.plan.size_bytes
        self.hosts = tuple(HostProgress(one.host, size or 0, size, is_finished=True) for one in hosts)
        self._reused_bytes = sum(file.reused_bytes for file in stored)
        self._reused_from = tuple(dict.fromkeys(name for file in stored for name in file.reused_from))
        self._notice = ("registering", "registering")
        self._files = tuple(
            _progressed(bar, FileProgress(arrived * self._copies, ShardStatus.FINISHED), bar.size_bytes)
            for bar, arrived in zip(self._files, _arrived_bytes(self.plan.files, stored), strict=True)
        )

    def settle(self, at_s: float, unregistered: GglibError | None = None, remark: str = "") -> None:
        """It is complete: notes the source of its data, and why it is not registered if it should be."""
        self.end(at_s)
        if self._received_bytes and at_s > self._attempt_at_s:
            self._mean_rate = self._received_bytes / (at_s - self._attempt_at_s)
        if unregistered is not None:
            self._notice = ("unregistered", f"not added to your models: {unregistered}")
        elif remark:
            self._notice = ("remark", remark)
        elif self.was_present:
            self._notice = ("already_present", "already downloaded")
        elif not all(file.is_verified for file in self.stored):
            self._notice = ("unverified", f"not verified: {source_of(self.plan.id.repo_id)} gives no SHA-256")
        elif self._reused_bytes:
            self._notice = self._reuse_notice

    def progress(self, event: Progress) -> tuple[ShardProgress, ...]:
        """Adds a sample; returns the files that changed."""
        self.hosts = event.hosts
        self._copies = max(1, len(event.hosts)) if self.plan.everywhere else 1
        sizes = (None if file.size_bytes is None else file.size_bytes * self._copies for file in self.plan.files)
        files = tuple(_progressed(*each) for each in zip(self._files, event.files, sizes, strict=True))
        changed = tuple(new for old, new in zip(self._files, files, strict=True) if new is not old)
        if event.received_bytes > self._received_bytes or event.reused_bytes > self._reused_bytes:
            self._losses = 0
        self._files, self._received_bytes = files, event.received_bytes
        self._reused_bytes, self._reused_from = event.reused_bytes, event.reused_from
        is_stalled = event.notice_kind in ("stalled", "retrying", "offline")
        self._rate.observe(event.sampled_s, event.received_bytes, self.remaining_bytes, is_stalled=is_stalled)
        self._notice = self._notice_of(event.notice_kind, event.notice_s, event.notice_text)
        if self._reused_bytes and event.notice_kind in (None, "copying"):
            self._notice = self._reuse_notice
        self._is_changed = True
        return changed

    def meet(self, peer: str | None) -> bool:
        """Notes which other kernel downloads it; returns whether the view changed."""
        is_news, self.peer = peer != self.peer and self.waits_for_peer, peer
        if is_news:
            self._notice, self._is_changed = self._notice_of("waiting", None, ""), True
        return is_news

    def _notice_of(self, kind: str | None, seconds: float | None, text: str) -> tuple[str, str] | None:
        self._is_shared = kind == "waiting" and not text
        return notice_of(kind, seconds, f"{self.peer} is downloading it" if self._is_shared and self.peer else text)

    def hold_up(self, kind: str, seconds: float | None, text: str) -> None:
        """Its state is unknown now: no rate, no time left, and the bars keep their state."""
        self.hold()
        self._notice = notice_of(kind, seconds, text)

    def wait_for_hours(self, opens_at: str | None) -> bool:
        """Notes until when it waits (None: it does not wait); returns whether that changed."""
        before, self._notice = self._notice, None if opens_at is None else notice_of("hours", None, opens_at)
        self._is_changed |= self._notice != before
        return self._notice != before

    def report_then(self, then: Then) -> None:
        """Notes the state of its command."""
        self.then, self._is_changed = then, True

    def lose_engine(self) -> bool:
        """Counts a loss of the engine; False if there were too many without a new byte."""
        self._losses += 1
        return self._losses <= _LOSSES_ALLOWED

    def renew(self, plan: PlannedDownload, at_s: float) -> None:
        """It is queued again: as if new, except for the bars, which stay until the engine reports."""
        self._follow(plan)
        self.queued_at_s, self.ended_at_s, self._losses = at_s, None, 0
        self.error, self.can_retry = None, False
        self.hold()

    @property
    def _reuse_notice(self) -> tuple[str, str]:
        return "reused", reused(self._reused_bytes, self.plan.size_bytes, self._reused_from)

    @property
    def notice(self) -> str | None:
        """Its notice in words; None if the status says enough."""
        return None if self._notice is None else self._notice[1]

    @property
    def is_running(self) -> bool:
        """The engine is running it."""
        return self.status in (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING)

    @property
    def waits_for_peer(self) -> bool:
        """Another process downloads it, and this one waits."""
        return self.is_running and self._is_shared

    @property
    def downloaded_bytes(self) -> int:
        """Bytes on the disk, of all files."""
        return sum(file.downloaded_bytes for file in self._files)

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all files, in every copy that is downloaded; None if unknown."""
        return None if self.plan.size_bytes is None else self.plan.size_bytes * self._copies

    @property
    def remaining_bytes(self) -> int | None:
        """Bytes left; None if unknown."""
        total = self.total_bytes
        return None if total is None else max(0, total - self.downloaded_bytes)

    @property
    def was_present(self) -> bool:
        """Every file was already on the disk."""
        return bool(self.stored) and all(file.was_present for file in self.stored)

    def kept(self) -> StoredDownload:
        """Its stored form; the same object as before if nothing in it changed."""
        if self._kept is None:
            is_at_rest = self.status in (DownloadStatus.PAUSED, DownloadStatus.FAILED)
            self._kept = StoredDownload(
                plan=self.plan,
                status=self.status if is_at_rest else DownloadStatus.QUEUED,
                was_active=self.status.is_active,
                aliases=tuple(sorted(self.aliases, key=str)),
                queued_at_s=self.queued_at_s,
                started_at_s=self.started_at_s,
                ended_at_s=self.ended_at_s,
                error=self.error,
                can_retry=self.can_retry,
                ran_s=self.ran_s,
            )
        return self._kept

    def view(self, position: int) -> QueuedDownload:
        """Its view for readers; the same object as before if nothing in it changed."""
        if self._view is None or self._is_changed:
            view = self._build_view(position)
            self._view = self._view if view == self._view else view
            self._is_changed = False
        elif self._view.position != position:
            self._view = replace(self._view, position=position)
        return self._view

    def _build_view(self, position: int) -> QueuedDownload:
        kind, text = self._notice or (None, None)
        is_done, is_downloading = self.status is DownloadStatus.COMPLETED, self.status is DownloadStatus.DOWNLOADING
        return QueuedDownload(
            id=self.plan.id,
            status=self.status,
            position=position,
            downloaded_bytes=self.downloaded_bytes,
            total_bytes=self.total_bytes,
            bytes_per_second=self._mean_rate if is_done else self._rate.bytes_per_second if is_downloading else None,
            eta_seconds=self._rate.eta_seconds if is_downloading else None,
            shards=tuple(file for file in self._files if file.kind == "shard"),
            companions=tuple(file for file in self._files if file.kind != "shard"),
            notice=text,
            notice_kind=kind,
            error=self.error,
            can_retry=self.can_retry,
            reason=self.plan.reason,
            mirrors=tuple(dict.fromkeys(host for file in self.stored for host in file.mirrors)) if is_done else (),
            scan_finding=self.plan.scan_finding,
            commit_sha=self.plan.commit_sha,
            label=self.plan.label,
            paths=tuple(file.target for file in self.stored if file.kind == "shard") if is_done else (),
            companion_paths=tuple(file.target for file in self.stored if file.kind != "shard") if is_done else (),
            is_verified=all(file.is_verified for file in self.stored) if is_done else None,
            was_present=is_done and self.was_present,
            queued_at_s=self.queued_at_s,
            started_at_s=self.started_at_s,
            ended_at_s=self.ended_at_s,
            ran_s=self.ran_s,
            hosts=self.hosts,
            to=self.plan.to,
            then=self.then,
            reused_bytes=self._reused_bytes,
            reused_from=self._reused_from,
        )


def _arrived_bytes(planned: tuple[PlannedFile, ...], stored: tuple[StoredFile, ...]) -> list[int]:
    """The size of each file; if the hub stated none, that of the file at its target."""
    # One stored file for each target, in the order of its first part. (On another host its path differs.)
    sizes = dict(zip(dict.fromkeys(file.target for file in planned), (file.size_bytes for file in stored), strict=True))
    return [sizes[file.target] if file.size_bytes is None else file.size_bytes for file in planned]


def _progressed(file: ShardProgress, sample: FileProgress, size_bytes: int | None) -> ShardProgress:
    was = (file.downloaded_bytes, file.status, file.arrived_steps, file.verified_steps)
    now = (sample.downloaded_bytes, sample.status, sample.arrived_steps, sample.verified_steps)
    is_same = was == now and file.size_bytes == size_bytes
    return file if is_same else ShardProgress(file.number, file.path_in_repo, file.kind, size_bytes, *now)
