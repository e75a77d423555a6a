"""The verbs about the download queue."""

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from gglib_nb.domain import units
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import find_download, has_word, pick_row, row_number
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot
from gglib_nb.domain.text import printable
from gglib_nb.errors import DownloadsFailedError, NotInQueueError
from gglib_nb.manager.calls import settled
from gglib_nb.notebook import listings, rows
from gglib_nb.notebook.actions import POSITIONS, new_position, retry_all
from gglib_nb.notebook.progress import LiveOutput, TextQueue, has_work
from gglib_nb.notebook.render import render_html, render_text, static_bundle
from gglib_nb.notebook.session import Answer, Session
from gglib_nb.notebook.verb import All, Argument, GrammarError, read_count, verb

if TYPE_CHECKING:
    from gglib_nb.domain.library import Leftover

_OTHERS_S: Final = 1.0  # the queue is shown even if another program has locked the database
_POLL_S: Final = 0.1
_KEPT: Final = "Downloaded data is kept."


def _id(group: str, what: str, is_wanted: Callable[[DownloadStatus], bool] = lambda _status: True) -> Argument:
    """The id of a download in this group of the snapshot; Tab offers the wanted ones."""
    return Argument(
        "ID",
        f"An id, or a part that matches only one {what}.",
        find=lambda session, text: find_download(text, session.manager.snapshot, group),
        offers=lambda session, _words: [
            str(item.id) for item in getattr(session.known_snapshot, group, ()) if is_wanted(item.status)
        ],
    )


_QUEUED: Final = "download; #2 is the second in the queue"
AnyId = Annotated[DownloadId, _id("items", _QUEUED)]
AnyText = Annotated[str, replace(_id("items", _QUEUED), find=None)]
PendingId = Annotated[DownloadId, _id("items", _QUEUED, lambda status: status.is_pending)]
PausedId = Annotated[DownloadId, _id("items", _QUEUED, lambda status: status is DownloadStatus.PAUSED)]
_FAILED: Final = _id("recent_failures", "failed download; #2 is the second of them")
FailedId = Annotated[DownloadId, _FAILED]
FailedText = Annotated[str, replace(_FAILED, find=None)]
CancelledId = Annotated[DownloadId, _id("recent_cancelled", "cancelled download")]


@verb("queue")
def panel(session: Session, *, side: bool = False) -> Answer | str:
    """Show the live panel.

    --side: Beside the notebook; needs the package sidecar (%pip install sidecar).
    """
    if session.known_manager is not None:
        session.adopt(session.manager)  # the downloads of kernels that have ended since the manager was created
    return Answer() if session.screen.show_panel(session.manager, beside=side) else status.function(session)


@verb("queue")
def status(session: Session) -> Answer:
    """Show the queue as it is now."""
    manager = session.manager
    with suppress(TimeoutError):
        manager.submit(manager.sync.see_others).result(_OTHERS_S)
    session.new_notices(manager)
    return Answer(render_text(manager.snapshot, session.screen.width), render_html(manager.snapshot))


@verb("queue")
def cancel(session: Session, reference: AnyText | None = None, *, _all: All = False, discard: bool = False) -> str:
    """Cancel a download. Downloaded data is kept unless you add --discard.

    --discard: Also delete the downloaded data.
    """
    manager = session.manager
    if reference is None:
        if discard:
            raise GrammarError("--discard deletes the data of one download; give its id")
        snapshot = manager.snapshot
        queued = sum(item.status is not DownloadStatus.REGISTERING for item in snapshot.items)
        number = queued + len(snapshot.resolving)
        session.sync.cancel_all()
        undo = f" {_KEPT} Undo: %gguf undo --all" if queued else ""
        return _all_of("cancel", number, f"Cancelled {units.plural(number, 'download')}.{undo}")
    id_ = find_download(reference, manager.snapshot, is_discarded=discard)
    session.sync.cancel_download(id_, discard=discard)
    if _is_stored(id_, session):
        return f"{id_} is already complete, so it was not cancelled."
    cancelled = next((item for item in manager.snapshot.recent_cancelled if item.id == id_), None)
    if cancelled is not None and cancelled.notice_kind == "elsewhere":
        return f"Cancelled {id_} here; {cancelled.notice}."
    return f"Cancelled {id_}. {'Downloaded data was deleted.' if discard else f'{_KEPT} Undo: %gguf undo {id_.typed}'}"


@verb("queue")
def remove(session: Session, reference: PendingId) -> str:
    """Remove a waiting download from the queue."""
    session.sync.remove_from_queue(reference)
    return f"Removed {reference} from the queue. Undo: %gguf undo {reference.typed}"


@verb("queue")
def undo(session: Session, reference: CancelledId | None = None, *, _all: All = False) -> str:
    """Put a cancelled or removed download back in its place with all its options, or all of them."""
    if reference is None:
        positions = session.sync.put_back(*(item.id for item in session.manager.snapshot.recent_cancelled))
        return _all_of("undo", len(positions), f"Put {units.plural(len(positions), 'download')} back into the queue.")
    session.sync.put_back(reference)
    return f"Put {reference} back. {state_sentence(session.manager.snapshot.downloads.get(str(reference)))}"


def _read_position(text: str) -> str | int:
    if (word := text.lower()) in POSITIONS:
        return word
    try:
        return read_count(text.removeprefix("#"))
    except GrammarError:
        raise GrammarError(f"{text!r} is not a position. Write {', '.join(POSITIONS)} or a number from 1") from None


Position = Annotated[
    str | int,
    Argument("POSITION|top|up|down|last", "POSITION 1 is next to run.", _read_position, offers=POSITIONS),
]


@verb("queue")
def move(session: Session, reference: PendingId, position: Position) -> str:
    """Move a waiting download within the queue."""
    snapshot = session.manager.snapshot
    number = new_position(snapshot, str(reference), position) if isinstance(position, str) else position
    return f"Moved {reference} to position {session.sync.reorder_queue(reference, number)}."


@verb("queue")
def pause(session: Session, reference: AnyId | None = None, *, _all: All = False) -> str:
    """Pause a download, or all."""
    snapshot = session.manager.snapshot
    if reference is None:
        stays = (DownloadStatus.PAUSED, DownloadStatus.REGISTERING)
        number = sum(item.status not in stays for item in snapshot.items) + len(snapshot.resolving)
        session.sync.pause_all()
        return _all_of("pause", number, f"Paused {units.plural(number, 'download')}. Resume: %gguf resume --all")
    session.sync.pause(reference)
    if _is_stored(reference, session):
        return f"{reference} is already complete, so it was not paused."
    return f"Paused {reference}. Resume: %gguf resume {reference.typed}"


@verb("queue")
def resume(session: Session, reference: PausedId | None = None, *, _all: All = False) -> str:
    """Resume a paused download, or all."""
    if reference is None:
        snapshot = session.manager.snapshot
        number = sum(item.status is DownloadStatus.PAUSED for item in snapshot.items)
        session.sync.resume_all()
        if snapshot.items and not number and not snapshot.is_processing:
            return "Started the queue."
        return _all_of("resume", number, f"Resumed {units.plural(number, 'download')}.")
    session.sync.resume(reference)
    return f"Resumed {reference}. {state_sentence(session.manager.snapshot.downloads.get(str(reference)))}"


@verb("queue")
def run_now(session: Session, reference: PendingId) -> str:
    """Start a waiting download now. If no slot is free, the download that started last waits."""
    session.sync.run_now(reference)
    item = session.manager.snapshot.downloads.get(str(reference))
    if item is not None and item.notice_kind == "hours":
        return f"{reference} is first in the queue. {state_sentence(item)}"
    return f"{reference} is starting now."


@verb("queue")
def retry(session: Session, reference: FailedId | None = None, *, _all: All = False) -> str:
    """Download a failed model again. Downloaded data is reused."""
    manager = session.manager
    if reference is None:
        left = len(manager.snapshot.recent_failures)
        number = retry_all(session.sync)
        more = f" {left - number} cannot succeed without a change: %gguf status says why." if left > number else ""
        return _all_of("retry", number, f"Queued {units.plural(number, 'failed download')} again.") + more
    session.sync.retry(reference)
    return f"Queued {reference} again. {state_sentence(manager.snapshot.downloads.get(str(reference)))}"


@verb("queue")
def clear_failed(session: Session, reference: FailedText | None = None) -> str:
    """Clear the list of failed downloads, or remove one from it. Downloaded data is kept."""
    failures = session.manager.snapshot.recent_failures
    if reference is None:
        session.sync.clear_failed()
        return _all_of("clear", len(failures), f"Cleared {units.plural(len(failures), 'failed download')}.")
    id_ = find_download(reference, session.manager.snapshot, "recent_failures", is_discarded=True)
    session.sync.clear_failed(id_)
    return f"Cleared {id_}. {_KEPT}"


@verb("queue", interrupted="Stopped waiting. The downloads continue.")
def wait(session: Session, reference: AnyId | None = None) -> Answer | str:
    """Wait for a download and its --then command, or for all. An interrupt stops only the waiting."""
    manager = session.manager
    before = _only(manager.snapshot, reference)
    if reason := _no_wait(manager.snapshot, before, reference):
        return reason
    view = LiveOutput(static_bundle, has_work) if session.screen.redraws else TextQueue(sys.stdout, reference)
    earlier = {(item.id, item.ended_at_s) for item in _ended(before) if not item.has_running_command}
    operation: Callable[[], object] = manager.sync.join if reference is None else partial(manager.sync.wait, reference)

    def show() -> None:
        view.show(_only(manager.snapshot, reference))

    try:
        show()
        settled(manager.submit(operation), show)
        while any(item.has_running_command for item in _only(manager.snapshot, reference).recent_completed):
            time.sleep(_POLL_S)
            show()
    finally:
        view.close()
    new = [one for one in _ended(_only(manager.snapshot, reference)) if (one.id, one.ended_at_s) not in earlier]
    failures = [one for one in new if one.status is DownloadStatus.FAILED]
    if not failures:
        return "\n".join(f"{one.id}: {rows.note(one)}" for one in new if one.then is not None and one.then.error)
    ids = tuple(str(item.id) for item in failures)
    text = f"{ids[0]}: {failures[0].error}"
    if len(ids) > 1:
        text = f"{len(ids)} downloads failed: {', '.join(ids)}. The first, {text} %gguf status shows the others."
    raise DownloadsFailedError(text, ids)


@verb("queue")
def history(session: Session, *, clear: bool = False) -> Answer | str:
    """List the last 50 downloads that ended, in all kernels. %gguf queue #2 downloads the second of them again.

    --clear: Clear this list. Models, failed downloads and unfinished files are not affected.
    """
    if clear:
        number = session.sync.clear_history()
        return _all_of("clear", number, f"Cleared {units.plural(number, 'download')} from the history.")
    past = session.sync.history()
    session.list_rows(one.id for one in past)
    return session.answer(listings.history_table(past)) if past else "The history is empty."


@verb("queue")
def partials(
    session: Session,
    text: str | None = None,
    *,
    queue: bool = False,
    discard: bool = False,
    all_: bool = False,
    yes: bool = False,
) -> Answer | str:
    """List unfinished downloads in the models folder, finish them, or delete them.

    Files that are in the queue, or in use by another kernel, are never deleted.

    TEXT: Part of a file's path below the models folder, or #2 for the second row.
    --queue: Add them to the queue, to finish them.
    --discard: Delete them.
    --all: With --discard: delete all of them.
    --yes: Delete several without asking.
    """
    if queue == discard and (queue or all_ or yes):
        raise GrammarError("Write either --queue or --discard")
    has_text = text is not None and has_word(text)
    if all_ and has_text:
        raise GrammarError("Write either TEXT or --all")
    if discard and not (all_ or has_text):
        raise GrammarError("Name what to delete: part of a path, or --all")
    found = _selected(session, text)
    if text is not None and not found:
        return f"No unfinished download matches {text!r}."
    if queue:
        queued = session.sync.queue_partials([one.target for one in found]) if found else []
        nothing = "Nothing was queued: there are no unfinished downloads outside of the queue."
        return f"Queued {', '.join(map(str, queued))}. Downloaded data is reused." if queued else nothing
    if not found:
        return "There are no unfinished downloads."
    if discard:
        return _discard(session, found, text, is_confirmed=all_ or yes)
    session.partials = tuple(one.target for one in found)
    return session.answer(listings.partial_table(found))


def _selected(session: Session, part: str | None) -> "list[Leftover]":
    found = session.sync.partials()
    if part is None:
        return found
    if (number := row_number(part)) is not None:
        shown = session.partials or tuple(one.target for one in found)
        target = pick_row(number, shown, NotInQueueError, f"%gguf partials lists {len(shown)}.")
        return [one for one in found if one.target == target]
    return [one for one in found if part.casefold() in _path_in_folder(session, one).casefold()]


def _path_in_folder(session: Session, one: "Leftover") -> str:
    """Its path below the models folder, since the path of that folder is in every path."""
    folder = session.manager.config.models_directory.absolute()
    path = Path(one.target)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _discard(session: Session, found: "list[Leftover]", part: str | None, *, is_confirmed: bool) -> Answer | str:
    def amount(some: "list[Leftover]") -> tuple[str, str]:
        return units.plural(len(some), "unfinished file"), units.size(sum(one.disk_bytes for one in some))

    files, freed = amount(found)
    names = units.listed([_path_in_folder(session, one) for one in found], 5)
    question = printable(f"{part!r} matches {files} ({freed}): {names}.")
    command = f"%gguf partials --discard {shlex.quote(part or '')} --yes"
    if refusal := session.refusal(question, command, is_confirmed=is_confirmed or len(found) == 1):
        return refusal
    targets = session.sync.discard_partials([one.target for one in found])
    files, freed = amount([one for one in found if one.target in targets])
    left = len(found) - len(targets)
    kept = f" Kept {units.plural(left, 'unfinished file')} in the queue or in use elsewhere."
    return f"Deleted {files}: {freed} freed.{kept if left else ''}"


def _all_of(verb: str, number: int, text: str) -> str:
    """The answer about all downloads of a kind."""
    return text if number else f"There is nothing to {verb}."


def _is_stored(id_: DownloadId, session: Session) -> bool:
    """Whether a download has all its files, so that it can be neither cancelled nor paused."""
    item = session.manager.snapshot.downloads.get(str(id_))
    return item is not None and item.status in (DownloadStatus.REGISTERING, DownloadStatus.COMPLETED)


def _only(snapshot: QueueSnapshot, id_: DownloadId | None) -> QueueSnapshot:
    """The queue reduced to one download; None keeps all."""
    if id_ is None:
        return snapshot
    names = ("items", "recent_completed", "recent_failures", "recent_cancelled")
    kept: dict[str, Any] = {name: tuple(one for one in getattr(snapshot, name) if one.id == id_) for name in names}
    return replace(snapshot, **kept, resolving=(), elsewhere=(), last_run=None)


def _ended(snapshot: QueueSnapshot) -> tuple[QueuedDownload, ...]:
    """The failed and the complete downloads."""
    return (*snapshot.recent_failures, *snapshot.recent_completed)


def _no_wait(snapshot: QueueSnapshot, awaited: QueueSnapshot, id_: DownloadId | None) -> str:
    """Why there is nothing to wait for in the awaited part of the queue; empty if there is something."""
    if id_ is None and not has_work(awaited):
        failed = (f"{one.id} has failed: {one.error}" for one in awaited.recent_failures[:1])
        return " ".join(["Nothing is queued or active.", *failed])
    statuses = {item.status for item in awaited.items}
    if statuses == {DownloadStatus.PAUSED} and not has_work(replace(awaited, items=())):
        everything = "Everything in the queue is paused. Resume: %gguf resume --all"
        return everything if id_ is None else f"{id_} is not downloading. {state_sentence(awaited.items[0])}"
    is_running = snapshot.is_processing or snapshot.resolving or snapshot.active_count
    if DownloadStatus.QUEUED in statuses and not is_running:
        return "The queue has not been started. Start it: %gguf resume --all"
    return ""


def state_sentence(item: QueuedDownload | None) -> str:
    """Its state now; a small file may be complete already."""
    if item is None or item.status.is_active:
        if item is not None and item.progress == 1.0:
            return "All of its data is on the disk and is being verified."
        if item is None or item.notice_kind != "connecting" or not item.downloaded_bytes:
            return "It is downloading now."
        return f"It is resuming: {units.amount(item.downloaded_bytes, item.total_bytes)} is already downloaded."
    if item.status is DownloadStatus.PAUSED:
        return f"It is paused. Resume: %gguf resume {item.id.typed}"
    if item.status is DownloadStatus.QUEUED:
        waits = "It is next." if item.position == 1 else f"It waits at position {item.position}."
        return f"It is {item.notice}." if item.notice_kind == "hours" else waits
    if item.was_present:
        return "You already have it."
    if item.error is not None:
        return f"It has failed: {item.error}"
    return "It was cancelled." if item.status is DownloadStatus.CANCELLED else f"It has {item.status.value}."
