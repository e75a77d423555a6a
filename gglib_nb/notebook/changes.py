"""What the verbs do that change something in the queue. Each waits for the manager's answer and says it in one line."""

from typing import TYPE_CHECKING, assert_never

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueSnapshot
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook import commands, formats, wording
from gglib_nb.notebook.targets import find_download
from gglib_nb.notebook.waiting import settle
from gglib_nb.notebook.wording import printable

if TYPE_CHECKING:
    from gglib_nb.manager.port import DownloadManager

Change = (
    commands.Cancel
    | commands.CancelAll
    | commands.Remove
    | commands.Move
    | commands.Pause
    | commands.Resume
    | commands.RunNow
    | commands.Retry
    | commands.ClearFailed
    | commands.Limit
    | commands.Bandwidth
)


def change(command: Change, manager: "DownloadManager") -> str:
    """Makes the change and says in one line what is so now.

    Raises:
        GglibError: The queue refuses; it is as it was.
        KeyboardInterrupt: The waiting for the answer was interrupted.
    """
    match command:
        case commands.CancelAll():
            return _cancel_all(manager)
        case commands.Retry(None):
            return _retry_all(manager)
        case commands.Pause(None):
            number = sum(item.status is not DownloadStatus.PAUSED for item in manager.snapshot.items)
            settle(manager.submit_pause_all())
            return f"Paused {_downloads(number)}. Go on with: %gguf resume --all"
        case commands.Resume(None):
            number = sum(item.status is DownloadStatus.PAUSED for item in manager.snapshot.items)
            settle(manager.submit_resume_all())
            return f"Resumed {_downloads(number)}."
        case commands.ClearFailed(None):
            number = len(manager.snapshot.recent_failures)
            settle(manager.submit_clear_failed())
            return f"Cleared {_downloads(number, 'failed ')}."
        case commands.Limit() | commands.Bandwidth():
            return _set(command, manager)
        case _:
            return _change_one(command, manager)


def _change_one(  # noqa: C901 - one case a verb
    command: commands.Cancel
    | commands.Remove
    | commands.Move
    | commands.Pause
    | commands.Resume
    | commands.RunNow
    | commands.Retry
    | commands.ClearFailed,
    manager: "DownloadManager",
) -> str:
    is_about_failures = isinstance(command, commands.Retry | commands.ClearFailed)
    id_ = find_download(command.reference or "", manager.snapshot, failed_first=is_about_failures)
    match command:
        case commands.Cancel():
            return _cancel(id_, manager, discard=command.discard)
        case commands.Remove():
            settle(manager.submit_remove_from_queue(id_))
            return f"Removed {id_} from the queue."
        case commands.Move():
            position = settle(manager.submit_reorder_queue(id_, _position(command, id_, manager.snapshot)))
            return f"Moved {id_} to position {position}."
        case commands.Pause():
            settle(manager.submit_pause(id_))
            return f"Paused {id_}. Go on with: %gguf resume {id_}"
        case commands.Resume():
            settle(manager.submit_resume(id_))
            return f"Resumed {id_}. {standing(find_item(id_, manager.snapshot))}"
        case commands.RunNow():
            settle(manager.submit_run_now(id_))
            return f"{id_} runs now; what made room for it is next."
        case commands.Retry():
            settle(manager.submit_retry(id_))
            return f"Queued {id_} again. {standing(find_item(id_, manager.snapshot))}"
        case commands.ClearFailed():
            settle(manager.submit_clear_failed(id_))
            return f"Took {id_} off the failures; what was fetched is kept."
        case _:
            assert_never(command)


def _cancel(id_: DownloadId, manager: "DownloadManager", *, discard: bool) -> str:
    settle(manager.submit_cancel_download(id_, discard=discard))
    cancelled = next((item for item in manager.snapshot.recent_cancelled if item.id == id_), None)
    if cancelled is not None and cancelled.notice_kind == "elsewhere":
        return printable(f"Cancelled {id_} here; {cancelled.notice}.")
    kept = "its partial files are deleted" if discard else "what was fetched is kept for a resume"
    return f"Cancelled {id_}; {kept}."


def _cancel_all(manager: "DownloadManager") -> str:
    snapshot = manager.snapshot
    number = len(snapshot.items) + len(snapshot.resolving)
    settle(manager.submit_cancel_all())
    return f"Cancelled {_downloads(number)}; what was fetched is kept for a resume."


def _retry_all(manager: "DownloadManager") -> str:
    failures = manager.snapshot.recent_failures
    for item in reversed(failures):
        settle(manager.submit_retry(item.id))
    return f"Queued {_downloads(len(failures), 'failed ')} again."


def _position(command: commands.Move, id_: DownloadId, snapshot: QueueSnapshot) -> int:
    if command.position is not None:
        return command.position
    now = next((item.position for item in snapshot.items if item.id == id_), 1)
    return max(1, now + command.step)


def _set(command: commands.Limit | commands.Bandwidth, manager: "DownloadManager") -> str:
    match command:
        case commands.Limit(number):
            if number is not None:
                settle(manager.submit_set_max_queue_size(number))
            return f"Up to {manager.snapshot.max_size} downloads may wait."
        case commands.Bandwidth():
            return _limit_bandwidth(command, manager)


def _limit_bandwidth(command: commands.Bandwidth, manager: "DownloadManager") -> str:
    if not command.asks:
        settle(manager.submit_set_bandwidth_limit(command.bytes_per_second))
    if not command.keeps_hours:
        settle(manager.submit_set_download_hours(command.hours))
    now = manager.snapshot
    limit = now.bandwidth_limit_bytes_per_second if command.asks else command.bytes_per_second
    said = f"Transfers are limited to {formats.rate(limit)}." if limit else "Transfers are not limited."
    return f"{said} {wording.hours(now)}".rstrip()


def _downloads(number: int, kind: str = "") -> str:
    return f"{number} {kind}download{'' if number == 1 else 's'}"


def find_item(id_: DownloadId, snapshot: QueueSnapshot) -> QueuedDownload | None:
    """The download of that id, in the queue or lately ended; None where there is none."""
    shown = (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures)
    return next((item for item in shown if item.id == id_), None)


def is_unheard(item: QueuedDownload) -> bool:
    """Whether it has been started and nothing was heard of it yet."""
    return item.status.is_active and item.notice_kind == "connecting" and not item.downloaded_bytes


def standing(item: QueuedDownload | None) -> str:
    """Where it stands now; a small or present file can be through already."""
    if item is not None and item.status.is_active and item.notice_kind == "connecting" and item.downloaded_bytes:
        here = f"{formats.size(item.downloaded_bytes)} of {formats.size(item.total_bytes)}"
        return f"It goes on: {here} are here already."
    if item is None or item.status.is_active:
        return "It is downloading now."
    if not item.status.is_pending:
        return f"It {'is here already' if item.was_present else f'has {item.status.value}'}."
    if item.status is DownloadStatus.PAUSED:
        return f"It is paused; go on with: %gguf resume {item.id}"
    if item.notice_kind == "hours":
        return f"It is {item.notice}."
    return "It is next." if item.position == 1 else f"It waits at position {item.position}."
