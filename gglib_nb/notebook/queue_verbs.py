"""The verbs about the download queue. Each waits for the manager's answer and reports it in one line."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueSnapshot
from gglib_nb.domain.matching import find_download, find_failure, pick_row, row_number
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import DownloadsFailedError, NotInQueueError
from gglib_nb.notebook import formats, history_table, tables
from gglib_nb.notebook.amounts import read_count
from gglib_nb.notebook.completion import Tab
from gglib_nb.notebook.markup import render_html
from gglib_nb.notebook.session import Answer, Session, settle
from gglib_nb.notebook.text import render_text
from gglib_nb.notebook.verb import Argument, GrammarError, Option, verb

if TYPE_CHECKING:
    from gglib_nb.engine.local import Leftover
    from gglib_nb.manager.manager import DownloadManager

# A database that another program has locked must not keep the queue from being shown.
_LOOK_S: Final = 1.0
# The queue clamps a position beyond its end.
_LAST_POSITION: Final = 1_000_000
_WORDS: Final = ("top", "up", "down", "last")
_RESUMABLE: Final = "Downloaded data is kept."


def _queued(is_wanted: Callable[[DownloadStatus], bool]) -> Callable[[Tab], Iterable[str]]:
    def offer(tab: Tab) -> Iterable[str]:
        items = () if tab.snapshot is None else tab.snapshot.items
        return [str(item.id) for item in items if is_wanted(item.status)]

    return offer


def _failed(tab: Tab) -> Iterable[str]:
    return [] if tab.snapshot is None else [str(item.id) for item in tab.snapshot.recent_failures]


_HELP: Final = "An id, a part that matches only one download, or #2 for the second in the queue."
_ANY: Final = Argument("ID", _HELP, offers=_queued(lambda _status: True))
_PENDING: Final = Argument("ID", _HELP, offers=_queued(lambda status: status.is_pending))
_PAUSED: Final = Argument("ID", _HELP, offers=_queued(lambda status: status is DownloadStatus.PAUSED))
_FAILED: Final = Argument(
    "ID", "An id, a part that matches only one failed download, or #2 for the second of them.", offers=_failed
)
_ALL: Final = Option("--all", help="All of them.", replaces="reference")


def show_queue(session: Session) -> Answer:
    """The queue as it is now, and those of other kernels."""
    manager = session.manager
    with suppress(TimeoutError):
        manager.submit(manager.sync.see_others).result(_LOOK_S)
    session.new_notices(manager)
    snapshot = manager.snapshot
    width = session.screen.width
    text = render_text(snapshot) if width is None else render_text(snapshot, width)
    return Answer(text, render_html(snapshot))


@verb("queue")
def panel(
    session: Session,
    *,
    beside: Annotated[
        bool, Option("--side", help="Beside the notebook; needs the package sidecar: pip install gglib_nb[side].")
    ] = False,
) -> Answer:
    """Show the live panel."""
    if session.known_manager is not None:
        session.adopt(session.manager)  # what kernels left since then
    return Answer() if session.screen.show_panel(session.manager, beside=beside) else show_queue(session)


@verb("queue")
def status(session: Session) -> Answer:
    """Show the queue as it is now."""
    return show_queue(session)


@verb("queue")
def cancel(
    session: Session,
    reference: Annotated[str | None, _ANY] = None,
    *,
    everything: Annotated[bool, _ALL] = False,
    discard: Annotated[bool, Option("--discard", help="Also delete the downloaded data.")] = False,
) -> Answer:
    """Cancel a download. Downloaded data is kept unless you add --discard."""
    manager = session.manager
    if reference is None or everything:
        if discard:
            raise GrammarError("--discard deletes the data of one download; give its id")
        number = len(manager.snapshot.items) + len(manager.snapshot.resolving)
        settle(manager.submit(manager.sync.cancel_all))
        return Answer(f"Cancelled {_downloads(number)}. {_RESUMABLE}")
    id_ = find_download(reference, manager.snapshot)
    settle(manager.submit(manager.sync.cancel_download, id_, discard=discard))
    cancelled = next((item for item in manager.snapshot.recent_cancelled if item.id == id_), None)
    if cancelled is not None and cancelled.notice_kind == "elsewhere":
        return Answer(printable(f"Cancelled {id_} here; {cancelled.notice}."))
    return Answer(f"Cancelled {id_}. {'Downloaded data was deleted.' if discard else _RESUMABLE}")


@verb("queue")
def remove(session: Session, reference: Annotated[str, _PENDING]) -> Answer:
    """Remove a waiting download from the queue."""
    id_ = find_download(reference, session.manager.snapshot)
    settle(session.manager.submit(session.manager.sync.remove_from_queue, id_))
    return Answer(f"Removed {id_} from the queue.")


def _read_position(text: str) -> str | int:
    word = text.lower()
    if word in _WORDS:
        return word
    return read_count(word.removeprefix("#"))


def _positions(_tab: Tab) -> Iterable[str]:
    return _WORDS


@verb("queue")
def move(
    session: Session,
    reference: Annotated[str, _PENDING],
    position: Annotated[
        str | int,
        Argument("POSITION|top|up|down|last", "POSITION 1 is next to run.", read=_read_position, offers=_positions),
    ],
) -> Answer:
    """Move a waiting download within the queue."""
    snapshot = session.manager.snapshot
    id_ = find_download(reference, snapshot)
    now = next((item.position for item in snapshot.items if item.id == id_), 1)
    wanted = {"top": 1, "up": max(1, now - 1), "down": now + 1, "last": _LAST_POSITION}
    number = wanted[position] if isinstance(position, str) else position
    return Answer(
        f"Moved {id_} to position {settle(session.manager.submit(session.manager.sync.reorder_queue, id_, number))}."
    )


@verb("queue")
def pause(
    session: Session,
    reference: Annotated[str | None, _ANY] = None,
    *,
    everything: Annotated[bool, _ALL] = False,
) -> Answer:
    """Pause a download, or all."""
    manager = session.manager
    if reference is None or everything:
        number = sum(item.status is not DownloadStatus.PAUSED for item in manager.snapshot.items)
        settle(manager.submit(manager.sync.pause_all))
        return Answer(f"Paused {_downloads(number)}. Resume: %gguf resume --all")
    id_ = find_download(reference, manager.snapshot)
    settle(manager.submit(manager.sync.pause, id_))
    return Answer(f"Paused {id_}. Resume: %gguf resume {id_}")


@verb("queue")
def resume(
    session: Session,
    reference: Annotated[str | None, _PAUSED] = None,
    *,
    everything: Annotated[bool, _ALL] = False,
) -> Answer:
    """Resume a paused download, or all."""
    manager = session.manager
    if reference is None or everything:
        number = sum(item.status is DownloadStatus.PAUSED for item in manager.snapshot.items)
        settle(manager.submit(manager.sync.resume_all))
        return Answer(f"Resumed {_downloads(number)}.")
    id_ = find_download(reference, manager.snapshot)
    settle(manager.submit(manager.sync.resume, id_))
    return Answer(f"Resumed {id_}. {standing(find_item(id_, manager.snapshot))}")


@verb("queue")
def run_now(session: Session, reference: Annotated[str, _PENDING]) -> Answer:
    """Start a waiting download now. If no slot is free, the download that started last waits."""
    id_ = find_download(reference, session.manager.snapshot)
    settle(session.manager.submit(session.manager.sync.run_now, id_))
    return Answer(f"{id_} is starting now.")


@verb("queue")
def retry(
    session: Session,
    reference: Annotated[str | None, _FAILED] = None,
    *,
    everything: Annotated[bool, _ALL] = False,
) -> Answer:
    """Download a failed model again. Downloaded data is reused."""
    manager = session.manager
    if reference is None or everything:
        return Answer(f"Queued {_downloads(retry_all(manager), 'failed ')} again.")
    id_ = find_failure(reference, manager.snapshot)
    settle(manager.submit(manager.sync.retry, id_))
    return Answer(f"Queued {id_} again. {standing(find_item(id_, manager.snapshot))}")


def retry_all(manager: "DownloadManager") -> int:
    """Queues all failed downloads again, the one that failed first at the front; returns how many."""
    failures = manager.snapshot.recent_failures
    for item in reversed(failures):
        settle(manager.submit(manager.sync.retry, item.id))
    return len(failures)


@verb("queue")
def clear_failed(session: Session, reference: Annotated[str | None, _FAILED] = None) -> Answer:
    """Clear the list of failed downloads, or remove one from it. Downloaded data is kept."""
    manager = session.manager
    if reference is None:
        number = len(manager.snapshot.recent_failures)
        settle(manager.submit(manager.sync.clear_failed))
        return Answer(f"Cleared {_downloads(number, 'failed ')}.")
    id_ = find_failure(reference, manager.snapshot)
    settle(manager.submit(manager.sync.clear_failed, id_))
    return Answer(f"Cleared {id_}. {_RESUMABLE}")


@verb("queue", interrupted="Stopped waiting. The downloads continue.")
def wait(session: Session, reference: Annotated[str | None, _ANY] = None) -> Answer:
    """Wait for a download, or for all. An interrupt stops only the waiting."""
    manager = session.manager
    snapshot = manager.snapshot
    only = None if reference is None else find_download(reference, snapshot)
    if only is None and not (snapshot.items or snapshot.resolving):
        return Answer("Nothing is queued or active.")
    view = session.screen.queue_view(only)
    view.show(snapshot)
    earlier = {(item.id, item.ended_at_s) for item in snapshot.recent_failures}
    try:
        if only is None:
            settle(manager.submit(manager.sync.join), lambda: view.show(manager.snapshot))
        else:
            settle(manager.submit(manager.sync.wait, only), lambda: view.show(manager.snapshot))
        view.show(manager.snapshot)
    finally:
        view.close()
    failures = [one for one in manager.snapshot.recent_failures if (one.id, one.ended_at_s) not in earlier]
    if failures:
        raise _failure_of(failures)
    return Answer()


def _failure_of(failures: Sequence[QueuedDownload]) -> DownloadsFailedError:
    ids = tuple(str(item.id) for item in failures)
    first = f"{failures[0].id}: {failures[0].error}"
    if len(failures) == 1:
        return DownloadsFailedError(first, ids)
    return DownloadsFailedError(
        f"{len(failures)} downloads failed: {', '.join(ids)}. The first, {first} %gguf status shows the others.", ids
    )


@verb("queue")
def history(
    session: Session,
    *,
    clear: Annotated[
        bool,
        Option("--clear", help="Clear this list. Models, failed downloads and unfinished files are not affected."),
    ] = False,
) -> Answer:
    """List the last 50 downloads that ended, in all kernels. %gguf queue #2 downloads the second of them again."""
    if clear:
        number = settle(session.manager.submit(session.manager.sync.clear_history))
        return Answer(f"Cleared {_downloads(number)} from the history.")
    past = settle(session.manager.submit(session.manager.sync.history))
    session.list_rows(one.id for one in past)
    if not past:
        return Answer("No download has ended yet.")
    return Answer(history_table.history_text(past, session.screen.width), history_table.history_html(past))


@verb("queue")
def partials(
    session: Session,
    part: Annotated[
        str | None,
        Argument("TEXT", "Part of a file's path below the models folder, or #2 for the second row."),
    ] = None,
    *,
    queues: Annotated[bool, Option("--queue", help="Add them to the queue, to finish them.")] = False,
    discards: Annotated[bool, Option("--discard", help="Delete them.")] = False,
    everything: Annotated[bool, Option("--all", help="With --discard: delete all of them.")] = False,
    is_confirmed: Annotated[bool, Option("--yes", help="Delete several without asking.")] = False,
) -> Answer:
    """List unfinished downloads in the models folder, finish them, or delete them.

    Files that are in the queue, or in use by another kernel, are never deleted.
    """
    manager = session.manager
    _check_partials(part, queues=queues, discards=discards, everything=everything)
    found = _selected(session, settle(manager.submit(manager.sync.partials)), part)
    if queues:
        return _queue_partials(manager, found)
    if not found:
        return Answer(
            "There are no unfinished downloads." if part is None else f"No unfinished download matches {part!r}."
        )
    if not discards:
        session.partials = tuple(one.target for one in found)
        return Answer(tables.partials_text(found, session.screen.width), tables.partials_html(found))
    if len(found) > 1 and not (everything or is_confirmed):
        freed = formats.size(sum(one.disk_bytes for one in found))
        names = ", ".join(_below(manager, one) for one in found[:5]) + (
            f" and {len(found) - 5} more" if len(found) > 5 else ""
        )
        question = printable(f"{part!r} matches {_files(len(found))} ({freed}): {names}.")
        if not session.screen.can_ask:
            return Answer(f"{question} Nothing was deleted. To delete them: %gguf partials --discard {part} --yes")
        if not session.screen.ask(f"{question} Delete them? [y/N] "):
            return Answer("Nothing was deleted.")
    return _discard_partials(manager, found)


def _check_partials(part: str | None, *, queues: bool, discards: bool, everything: bool) -> None:
    if queues and discards:
        raise GrammarError("Write either --queue or --discard")
    if discards and everything == (part is not None):
        raise GrammarError("Name what to delete: part of a path, or --all")
    if everything and not discards:
        raise GrammarError("--all needs --discard; without both, all are listed")


def _selected(session: Session, found: "list[Leftover]", part: str | None) -> "list[Leftover]":
    if part is None:
        return found
    if (number := row_number(part)) is not None:
        rows = session.partials or tuple(one.target for one in found)
        said = f"%gguf partials lists {len(rows)}."
        target = pick_row(number, rows, NotInQueueError, said)
        return [one for one in found if one.target == target]
    return [one for one in found if part.casefold() in _below(session.manager, one).casefold()]


def _below(manager: "DownloadManager", one: "Leftover") -> str:
    """Its path below the models folder: what is above it is the same for all, and names none."""
    folder = manager.config.models_directory.absolute()
    path = Path(one.target)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _queue_partials(manager: "DownloadManager", found: "list[Leftover]") -> Answer:
    queued = settle(manager.submit(manager.sync.queue_partials, [one.target for one in found])) if found else []
    if not queued:
        return Answer("Nothing was queued: there are no unfinished downloads outside of the queue.")
    return Answer(printable(f"Queued {', '.join(map(str, queued))}. Downloaded data is reused."))


def _discard_partials(manager: "DownloadManager", found: "list[Leftover]") -> Answer:
    deleted = settle(manager.submit(manager.sync.discard_partials, [one.target for one in found]))
    freed = sum(one.disk_bytes for one in found if one.target in deleted)
    kept = len(found) - len(deleted)
    spared = f" {_files(kept)} in the queue or in use elsewhere {'was' if kept == 1 else 'were'} kept." if kept else ""
    return Answer(f"Deleted {_files(len(deleted))}: {formats.size(freed)} freed.{spared}")


def _files(number: int) -> str:
    return f"{number} unfinished file{'' if number == 1 else 's'}"


def _downloads(number: int, kind: str = "") -> str:
    return f"{number} {kind}download{'' if number == 1 else 's'}"


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
        return f"It is resuming: {here} are already downloaded."
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
    if item.error is not None:
        return f"It has failed: {item.error}"
    return f"It {'was cancelled' if item.status is DownloadStatus.CANCELLED else f'has {item.status.value}'}."
