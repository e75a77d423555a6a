"""What is said about the queue and its downloads, in words; the same for the terminal and for static HTML.

Pure: reads a snapshot, returns plain text. Where it stands on a page is the business of `text` and `markup`.
No rate is computed here: the snapshot carries what was measured.
"""

from typing import Final

from gglib_nb.domain.download import (
    DownloadStatus,
    ElsewhereDownload,
    HostProgress,
    QueuedDownload,
    QueueNotice,
    QueueRunSummary,
    QueueSnapshot,
    ShardProgress,
    ShardStatus,
)
from gglib_nb.domain.printable import printable as printable  # noqa: PLC0414  # words of the notebook are found here
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook import formats

EMPTY: Final = "Nothing is queued. Start with: %gguf queue owner/repo"


def overview(snapshot: QueueSnapshot) -> str:
    """The queue in one line: how many, how fast, how long."""
    parts = [_counts(snapshot)]
    if snapshot.active_count and snapshot.bytes_per_second is not None:
        parts.append(formats.rate(snapshot.bytes_per_second))
    if snapshot.active_count and snapshot.eta_seconds is not None:
        parts.append(f"{formats.duration(snapshot.eta_seconds)} left")
    if (limit := snapshot.bandwidth_limit_bytes_per_second) is not None:
        parts.append(f"limited to {formats.rate(limit)}")
    if snapshot.waits_until is not None:
        parts.append(f"waiting until {snapshot.waits_until}")
    return " · ".join(parts)


def _counts(snapshot: QueueSnapshot) -> str:
    room = max(0, snapshot.max_size - snapshot.pending_count)
    paused = sum(item.status is DownloadStatus.PAUSED for item in snapshot.items)
    words = [
        f"{snapshot.active_count} active",
        f"{snapshot.pending_count} waiting" + (f" ({paused} paused)" if paused else ""),
        f"room for {room}",
    ]
    return ", ".join(words)


def hours(snapshot: QueueSnapshot) -> str:
    """In which hours downloads run, and until when they wait; empty where they run at any time."""
    if snapshot.download_hours is None:
        return ""
    wait = f", and wait until {snapshot.waits_until}" if snapshot.is_outside_hours else ""
    return f"Downloads run from {snapshot.download_hours.start:%H:%M} to {snapshot.download_hours.end:%H:%M}{wait}."


def name(item: QueuedDownload) -> str:
    """The id, as the verbs take it."""
    return printable(str(item.id))


def place(item: QueuedDownload) -> str:
    """The position among pending downloads, as the verbs take it; empty for others."""
    return f"#{item.position}" if item.status.is_pending else ""


def state(item: QueuedDownload) -> str:
    """What is going on with it: its notice where it has one, else its status."""
    return printable(item.notice) if item.notice else item.status.value


def amount(downloaded_bytes: int, total_bytes: int | None) -> str:
    """How much of how much; a single size once all is there."""
    if downloaded_bytes in (0, total_bytes):
        return formats.size(total_bytes)
    return f"{formats.size(downloaded_bytes)} of {formats.size(total_bytes)}"


def reached(item: QueuedDownload) -> str:
    """How far a download came that ended before its end, and whether it goes on elsewhere."""
    if item.notice_kind == "elsewhere" and item.notice:
        return printable(item.notice)
    if item.downloaded_bytes == 0:
        return "nothing fetched"
    return f"at {formats.size(item.downloaded_bytes)} of {formats.size(item.total_bytes)}"


def pace(item: QueuedDownload) -> str:
    """Rate and remaining time of a download that moves, and on which hosts of a cluster; empty for others."""
    if item.status is not DownloadStatus.DOWNLOADING:
        return ""
    rate = "" if item.bytes_per_second is None else formats.rate(item.bytes_per_second)
    if item.eta_seconds is not None:
        rate = f"{formats.rate(item.bytes_per_second)} · {formats.duration(item.eta_seconds)} left"
    return " · ".join(filter(None, (rate, hosts(item))))


def hosts(item: QueuedDownload) -> str:
    """The hosts of a cluster that have it or fetch it; how far each is, where there are several. Empty on this machine."""
    if len(item.hosts) < 2 or all(one.is_finished for one in item.hosts):
        return printable(f"on {', '.join(one.host for one in item.hosts)}") if item.hosts else ""
    return printable(", ".join(f"{one.host} {_share(one)}" for one in item.hosts))


def _share(one: HostProgress) -> str:
    if one.is_finished:
        return "done"
    return (
        f"{100 * one.downloaded_bytes // one.total_bytes} %" if one.total_bytes else formats.size(one.downloaded_bytes)
    )


def shard_fraction(shard: ShardProgress) -> float | None:
    """How much of a file is there, 0 to 1; None where its size is unknown."""
    if shard.status is ShardStatus.FINISHED:
        return 1.0
    if shard.size_bytes is None:
        return None
    return min(1.0, shard.downloaded_bytes / shard.size_bytes) if shard.size_bytes else 1.0


def files(item: QueuedDownload) -> tuple[ShardProgress, ...]:
    """Its files where there are several, since one file's bar is the download's own."""
    together = (*item.shards, *item.companions)
    return together if len(together) > 1 else ()


def file_title(item: QueuedDownload, shard: ShardProgress) -> str:
    """Which file of how many it is, or what kind of companion."""
    return f"{shard.number}/{item.shard_count}" if shard.kind == "shard" else shard.kind


def result(item: QueuedDownload) -> str:
    """What a finished download came to."""
    parts = [formats.size(item.total_bytes)]
    if item.was_present:
        parts[0] += ", was here already"
    elif item.started_at_s is not None and item.ended_at_s is not None:
        parts[0] += f" in {formats.duration(item.ended_at_s - item.started_at_s)}"
    if item.notice_kind == "reused":
        parts.append(state(item))
    if item.hosts:
        parts.append(hosts(item))
    if item.is_verified is not None:
        parts.append("SHA-256 verified" if item.is_verified else "unverified: the Hub states no SHA-256")
    if item.notice_kind == "unregistered" and item.notice:
        parts.append(printable(item.notice))
    return ", ".join(parts)


def location(item: QueuedDownload) -> str:
    """The path a program opens; how many more files stand beside it."""
    if not item.paths:
        return ""
    more = len(item.paths) - 1
    return printable(item.paths[0]) + (f" (and {more} more)" if more else "")


def failure(item: QueuedDownload) -> str:
    """Why it failed, in the error's own words."""
    return "It failed for an unknown reason." if item.error is None else printable(str(item.error))


def remedy(item: QueuedDownload) -> str:
    """The line to type next; empty where trying again cannot help."""
    return f"%gguf retry {name(item)}" if item.can_retry else ""


def notice(one: QueueNotice) -> str:
    """A line about the queue as a whole, and what to type where something can be done."""
    command = " Go on with them: %gguf partials --queue" if one.kind == "partials" else ""
    return printable(one.text) + command


def whose(item: ElsewhereDownload) -> str:
    """Which kernel has it."""
    return printable(f"left by {item.owner}" if item.is_left else item.owner)


def elsewhere(item: ElsewhereDownload) -> str:
    """How far a download of another kernel is, and what goes on with it."""
    parts = [amount(item.downloaded_bytes, item.total_bytes)]
    if item.is_left:
        parts.append("its kernel is gone; %gguf takes it up")
    elif item.bytes_per_second is not None:
        left = "" if item.eta_seconds is None else f" · {formats.duration(item.eta_seconds)} left"
        parts.append(f"{formats.rate(item.bytes_per_second)}{left}")
    else:
        parts.append(printable(item.notice or item.status.value))
    return "  ".join(parts)


def run(summary: QueueRunSummary) -> str:
    """What the last run of the queue came to."""
    tally = (
        (summary.models_completed, "completed"),
        (summary.models_failed, "failed"),
        (summary.models_cancelled, "cancelled"),
    )
    said = ", ".join(f"{number} {word}" for number, word in tally if number) or "nothing ended"
    return f"Last run: {said} in {formats.duration(summary.ended_at_s - summary.started_at_s)}"


def find_item(id_: DownloadId, snapshot: QueueSnapshot) -> QueuedDownload | None:
    """The download of that id, in the queue or recently ended; None where there is none."""
    shown = (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures)
    return next((item for item in shown if item.id == id_), None)


def is_unheard(item: QueuedDownload) -> bool:
    """Whether it has started and the engine has not reported on it yet."""
    return item.status.is_active and item.notice_kind == "connecting" and not item.downloaded_bytes


def standing(item: QueuedDownload | None) -> str:
    """Its state now, in a sentence; a small file may be complete already."""
    if item is not None and item.status.is_active and item.notice_kind == "connecting" and item.downloaded_bytes:
        here = f"{formats.size(item.downloaded_bytes)} of {formats.size(item.total_bytes)}"
        return f"It is resuming: {here} are here already."
    if item is None or item.status.is_active:
        return "It is downloading now."
    if not item.status.is_pending:
        return _ended(item)
    if item.status is DownloadStatus.PAUSED:
        return f"It is paused. Resume: %gguf resume {item.id}"
    if item.notice_kind == "hours":
        return f"It is {item.notice}."
    return "It is next." if item.position == 1 else f"It waits at position {item.position}."


def _ended(item: QueuedDownload) -> str:
    if item.was_present:
        return "You already have it."
    return f"It {'was cancelled' if item.status is DownloadStatus.CANCELLED else f'has {item.status.value}'}."
