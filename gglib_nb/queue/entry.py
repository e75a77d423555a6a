"""One download inside the machine: its plan, its row as users see it, and what neither of them shows.

Only `gglib_nb.queue.machine` changes it. The row is replaced when something in it changes, and only then, so that
readers can detect changes by identity.
"""

from collections.abc import Hashable
from typing import Any, Final, NamedTuple, Self

from msgspec.structs import asdict, replace

from gglib_nb.domain.download import (
    DownloadStatus,
    HostFolder,
    HostProgress,
    PlannedDownload,
    PlannedFile,
    ShardStatus,
    StoredFile,
)
from gglib_nb.domain.names import DownloadId, source_of
from gglib_nb.domain.reports import FileProgress, Progress
from gglib_nb.domain.snapshot import QueuedDownload, ShardProgress, Then
from gglib_nb.domain.stored import RestoredDownload, StoredDownload
from gglib_nb.errors import GglibError
from gglib_nb.queue.effects import RegisterModel
from gglib_nb.queue.notices import Notice, notice_of, reused
from gglib_nb.queue.rate import RateEstimator
from gglib_nb.queue.transitions import TRANSITIONS, Cause

_RUNNING: Final = (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING)
_MOVING: Final = (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING)
# Notices of work without requests: it takes time that is no speed of the network.
_WITHOUT_NETWORK: Final = ("waiting", "verifying", "comparing", "copying")
# The fields of a row that are kept for the next kernel.
_KEPT: Final = ("queued_at_s", "started_at_s", "ended_at_s", "error", "can_retry", "ran_s")
_NO_RATE: Final = {"bytes_per_second": None, "eta_seconds": None}


class FormerPlace(NamedTuple):
    """Where a download was when it was cancelled or removed."""

    position: int  # 1-based among the pending ones; 0 or less if it was active, with others behind it
    was_paused: bool
    was_processing: bool  # whether the queue was running


class Entry:
    """One download.

    Attributes:
        plan: The plan to download.
        row: Its state, as users see it.
        aliases: Ids that were found to mean this download.
        stored: Its files, once they have their final names.
        registration: The last effect that registers it, or would.
        peer: The other kernel that downloads the same, in words; None if unknown.
        former_place: Where it was when it was cancelled; only meaningful then.
        losses: Losses of the engine since its last new byte.
    """

    def __init__(
        self, plan: PlannedDownload, queued_at_s: float, status: DownloadStatus = DownloadStatus.QUEUED
    ) -> None:
        self.plan = plan
        self.aliases: set[DownloadId] = set()
        self.stored: tuple[StoredFile, ...] = ()
        self.registration: RegisterModel | None = None
        self.peer: str | None = None
        self.former_place = FormerPlace(0, was_paused=False, was_processing=False)
        self.losses = 0
        self._rate = RateEstimator()
        self._copies = 1
        self._received_bytes = 0
        self._attempt_at_s = self._running_since_s = 0.0
        self._is_shared = False
        self._kept: StoredDownload | None = None
        shown = self._bars(_empty_bars(plan)) | _shown(plan)
        self.row = QueuedDownload(status=status, queued_at_s=queued_at_s, ran_s=0.0, **shown)

    @classmethod
    def restored(cls, restored: RestoredDownload) -> Self:
        """A download from the queue of a previous kernel, with its status there; if it was running, it waits now."""
        stored = restored.stored
        entry = cls(stored.plan, stored.queued_at_s, stored.status)
        entry.aliases = set(stored.aliases)
        bars = tuple(
            replace(
                bar,
                downloaded_bytes=size,
                status=ShardStatus.FINISHED if size and size == bar.size_bytes else bar.status,
            )
            for bar, size in zip(entry._files, restored.file_bytes, strict=True)
        )
        entry.change(**entry._bars(bars), **{name: getattr(stored, name) for name in _KEPT})
        return entry

    # What users see ----------------------------------------------------------------------------------------------

    def view(self, position: int = 0) -> QueuedDownload:
        """Its row at a position among the pending downloads; 0: it is not pending."""
        if self.row.position != position:
            self.row = replace(self.row, position=position)
        return self.row

    def change(self, **fields: Any) -> None:  # noqa: ANN401 - of the row
        """Replaces its row if one of these fields is another now."""
        row = replace(self.row, **fields)
        if row != self.row:
            self.row, self._kept = row, None

    def _say(self, notice: Notice | None, **fields: Any) -> None:  # noqa: ANN401 - of the row
        kind, text = notice or (None, None)
        self.change(notice_kind=kind, notice=text, **fields)

    def _bars(self, files: tuple[ShardProgress, ...]) -> dict[str, Any]:
        """Keeps the bars of its files; returns the fields of the row that show them."""
        self._files = files
        size_bytes = self.plan.size_bytes
        return {
            "shards": tuple(file for file in files if file.kind == "shard"),
            "companions": tuple(file for file in files if file.kind != "shard"),
            "downloaded_bytes": sum(file.downloaded_bytes for file in files),
            "total_bytes": None if size_bytes is None else size_bytes * self._copies,
        }

    def without_data(self) -> dict[str, Any]:
        """The fields of its row once its data has been deleted."""
        return {**self._bars(_empty_bars(self.plan)), "reused_bytes": 0, "reused_from": (), "mirrors": ()}

    def lose(self, targets: frozenset[str]) -> None:
        """Notes that the partial files of these targets were deleted; a completed download has none."""
        if self.status is not DownloadStatus.COMPLETED and not self.plan.targets.isdisjoint(targets):
            each = zip(self.plan.files, self._files, _empty_bars(self.plan), strict=True)
            bars = self._bars(tuple(empty if file.target in targets else bar for file, bar, empty in each))
            self.change(**(bars if bars["downloaded_bytes"] else self.without_data()))

    @property
    def status(self) -> DownloadStatus:
        """Its status."""
        return self.row.status

    @property
    def is_running(self) -> bool:
        """The engine is running it."""
        return self.row.status in _RUNNING

    @property
    def waits_for_peer(self) -> bool:
        """Another process downloads it, and this one waits."""
        return self.is_running and self._is_shared

    def kept(self) -> StoredDownload:
        """Its stored form; the same object as before if nothing in its row changed."""
        if self._kept is None:
            row = self.row
            is_at_rest = row.status in (DownloadStatus.PAUSED, DownloadStatus.FAILED)
            status = row.status if is_at_rest else DownloadStatus.QUEUED
            kept = {name: getattr(row, name) for name in _KEPT}
            self._kept = StoredDownload(self.plan, status, row.status.is_active, self.other_ids, **kept)
        return self._kept

    # Whether it is meant -----------------------------------------------------------------------------------------

    @property
    def keys(self) -> set[Hashable]:
        """What identifies it among the live downloads: commit and variant, ids, and the paths that it writes."""
        return {self.plan.identity, *self._names, *self.plan.targets}

    @property
    def other_ids(self) -> tuple[DownloadId, ...]:
        """The other ids that mean it."""
        return tuple(sorted(self.aliases - {self.plan.id}, key=str))

    @property
    def _names(self) -> set[str]:
        return set(map(name_of, (self.plan.id, *self.aliases)))

    def answers_to(self, id: DownloadId) -> bool:  # noqa: A002 - the field's word
        """Whether a caller means this download by `id`."""
        return name_of(id) in self._names

    def is_same(self, plan: PlannedDownload) -> bool:
        """Whether both have the same commit and variant, or an id that means both."""
        return self.plan.identity == plan.identity or self.answers_to(plan.id)

    # What happens to it ------------------------------------------------------------------------------------------

    def join(self, plan: PlannedDownload) -> None:
        """Notes another request for it: its id means this one too, and it is registered if either asks for that."""
        self.aliases.add(plan.id)
        self.plan = replace(self.plan, add_to_db=self.plan.add_to_db or plan.add_to_db)
        self._kept = None

    def move_on(self, cause: Cause, now_s: float) -> None:
        """Makes one transition of the table; counts the time in which the engine runs it."""
        status, was_running = TRANSITIONS[self.status, cause], self.is_running
        fields: dict[str, Any] = {} if status is DownloadStatus.DOWNLOADING else {**_NO_RATE}
        if was_running and status not in _RUNNING:
            at_rest = (replace(one, status=ShardStatus.QUEUED) if one.status in _MOVING else one for one in self._files)
            fields |= self._bars(tuple(at_rest))
            fields["ran_s"] = (self.row.ran_s or 0.0) + max(0.0, now_s - self._running_since_s)
        elif not was_running:
            self._running_since_s = now_s
        self.change(status=status, **fields)

    def start(self, at_s: float, now_s: float) -> None:
        """Begins an attempt: resets the rate, the notice and the last error."""
        self._received_bytes, self._attempt_at_s = 0, now_s
        started_at_s = at_s if self.row.started_at_s is None else self.row.started_at_s
        self.hold(notice_of("connecting"), started_at_s=started_at_s, ended_at_s=None, error=None, can_retry=False)

    def hold(self, notice: Notice | None = None, **fields: Any) -> None:  # noqa: ANN401 - of the row
        """Nothing arrives: no rate, only this notice; the bars keep their state."""
        self._rate, self._is_shared = RateEstimator(), False
        self._say(notice, **{**_NO_RATE, **fields})

    def keep(self, stored: tuple[StoredFile, ...], hosts: tuple[HostFolder, ...] = ()) -> None:
        """Every file has its final name, on every requested host."""
        self.stored = stored
        size = self.plan.size_bytes
        bars = tuple(
            _progressed(bar, FileProgress(arrived * self._copies, ShardStatus.FINISHED), bar.size_bytes)
            for bar, arrived in zip(self._files, _arrived_bytes(self.plan.files, stored), strict=True)
        )
        self.hold(
            ("registering", "registering"),
            **self._bars(bars),
            ended_at_s=None,
            hosts=tuple(HostProgress(one.host, size or 0, size, is_finished=True) for one in hosts),
            reused_bytes=sum(file.reused_bytes for file in stored),
            reused_from=tuple(dict.fromkeys(name for file in stored for name in file.reused_from)),
        )

    def complete(self, at_s: float, now_s: float, unregistered: GglibError | None = None, remark: str = "") -> None:
        """It is complete: notes the source of its data, and why it is not registered if it should be."""
        files = self.stored
        is_verified = all(file.is_verified for file in files)
        was_present = bool(files) and all(file.was_present for file in files)
        notice: Notice | None = None
        if unregistered is not None:
            notice = ("unregistered", f"not added to your models: {unregistered}")
        elif remark:
            notice = ("remark", remark)
        elif was_present:
            notice = ("already_present", "already downloaded")
        elif not is_verified:
            notice = ("unverified", f"not verified: {source_of(self.plan.id.repo_id)} gives no SHA-256")
        elif self.row.reused_bytes:
            notice = reused(self.row.reused_bytes, self.plan.size_bytes, self.row.reused_from)
        ran_s = now_s - self._attempt_at_s
        self.hold(
            notice,
            ended_at_s=at_s,
            bytes_per_second=self._received_bytes / ran_s if self._received_bytes and ran_s > 0 else None,
            is_verified=is_verified,
            was_present=was_present,
            paths=tuple(file.target for file in files if file.kind == "shard"),
            companion_paths=tuple(file.target for file in files if file.kind != "shard"),
            mirrors=tuple(dict.fromkeys(host for file in files for host in file.mirrors)),
        )

    def progress(self, event: Progress) -> tuple[ShardProgress, ...]:
        """Adds a sample; returns the files that changed."""
        if event.received_bytes > self._received_bytes or event.reused_bytes > self.row.reused_bytes:
            self.losses = 0
        self._received_bytes = event.received_bytes
        self._copies = max(1, len(event.hosts)) if self.plan.everywhere else 1
        before = self._files
        sizes = (None if file.size_bytes is None else file.size_bytes * self._copies for file in self.plan.files)
        bars = self._bars(tuple(_progressed(*each) for each in zip(before, event.files, sizes, strict=True)))
        notice = self._notice_of(event.notice_kind, event.notice_s, event.notice_text)
        if event.reused_bytes and event.notice_kind in (None, "copying"):
            notice = reused(event.reused_bytes, self.plan.size_bytes, event.reused_from)
        is_stalled = event.notice_kind in ("stalled", "retrying", "offline")
        remaining_bytes = left_of(bars["total_bytes"], bars["downloaded_bytes"])
        self._rate.observe(event.sampled_s, event.received_bytes, remaining_bytes, is_stalled=is_stalled)
        if event.notice_kind in _WITHOUT_NETWORK and self._rate.bytes_per_second == 0:
            self._rate = RateEstimator()
        is_downloading, rate = self.status is DownloadStatus.DOWNLOADING, self._rate
        self._say(
            notice,
            **bars,
            hosts=event.hosts,
            mirrors=event.mirrors,
            reused_bytes=event.reused_bytes,
            reused_from=event.reused_from,
            bytes_per_second=rate.bytes_per_second if is_downloading else None,
            eta_seconds=rate.eta_seconds if is_downloading else None,
        )
        return tuple(new for old, new in zip(before, self._files, strict=True) if new is not old)

    def meet(self, peer: str | None) -> bool:
        """Notes which other kernel downloads it; returns whether the row changed."""
        is_news, self.peer = peer != self.peer and self.waits_for_peer, peer
        if is_news:
            self._say(self._notice_of("waiting", None, ""))
        return is_news

    def wait_for_hours(self, opens_at: str | None) -> bool:
        """Notes until when it waits (None: it does not wait); returns whether that changed."""
        before = self.row
        if opens_at is not None or before.notice is not None:
            self._say(notice_of(None if opens_at is None else "hours", None, opens_at or ""))
        return self.row is not before

    def renew(self, plan: PlannedDownload, at_s: float) -> None:
        """It is queued again: as if new, except for the bars, which stay until the engine reports."""
        self.losses = 0
        fields = _shown(plan)
        has_other_files, self.plan, self._kept = plan.files != self.plan.files, plan, None
        if has_other_files:
            fields |= self.without_data()
        self.hold(**fields, queued_at_s=at_s, ended_at_s=None, error=None, can_retry=False)

    def _notice_of(self, kind: str | None, seconds: float | None, text: str) -> Notice | None:
        self._is_shared = kind == "waiting" and not text
        return notice_of(kind, seconds, f"{self.peer} is downloading it" if self._is_shared and self.peer else text)


def left_of(total_bytes: int | None, downloaded_bytes: int) -> int | None:
    """Bytes left; None if unknown."""
    return None if total_bytes is None else max(0, total_bytes - downloaded_bytes)


def name_of(id: DownloadId) -> str:  # noqa: A002 - the field's word
    """An id as callers may write it: the case does not matter."""
    return str(id).casefold()


def _shown(plan: PlannedDownload) -> dict[str, Any]:
    """The fields of a row that show a plan."""
    shown = {name: getattr(plan, name) for name in ("id", "commit_sha", "label", "reason", "scan_finding", "to")}
    return {**shown, "then": None if plan.then is None else Then(plan.then)}


def _empty_bars(plan: PlannedDownload) -> tuple[ShardProgress, ...]:
    return tuple(
        ShardProgress(number, file.path_in_repo, file.kind, file.size_bytes, 0, ShardStatus.QUEUED)
        for number, file in enumerate(plan.files, start=1)
    )


def _arrived_bytes(planned: tuple[PlannedFile, ...], stored: tuple[StoredFile, ...]) -> list[int]:
    """The size of each file; if the hub stated none, that of the file at its target."""
    # One stored file for each target, in the order of its first part. (On another host its path differs.)
    sizes = dict(zip(dict.fromkeys(file.target for file in planned), (file.size_bytes for file in stored), strict=True))
    return [sizes[file.target] if file.size_bytes is None else file.size_bytes for file in planned]


def _progressed(file: ShardProgress, sample: FileProgress, size_bytes: int | None) -> ShardProgress:
    new = replace(file, size_bytes=size_bytes, **asdict(sample))
    return file if new == file else new
