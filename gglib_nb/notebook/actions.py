"""Executes the requests of the panel's page and formats the results.

Every function here blocks on the manager's operations, so the panel calls it on one of the manager's threads.
Independent of the widget.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from gglib_nb.domain import units
from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import parse_pasted
from gglib_nb.domain.snapshot import QueueSnapshot
from gglib_nb.domain.text import printable
from gglib_nb.errors import GglibError, ModelNotFoundError, RequestError
from gglib_nb.notebook import listings, messages, plan_table, results, rows
from gglib_nb.notebook.messages import Answer, Listing
from gglib_nb.notebook.tables import blocks_text
from gglib_nb.notebook.verb import TYPOGRAPHIC
from gglib_nb.settings import SETTINGS, absolute_path

if TYPE_CHECKING:
    from gglib_nb.domain.library import WorkProgress
    from gglib_nb.manager.manager import SyncOperations

SendProgress = Callable[[str], None]
"""Sends the page one sentence about the request's progress."""

# Settings that a running manager can change: the operation, and the manager's attribute with the value.
LIVE: Final[Mapping[str, tuple[str, str]]] = {
    "max_concurrent": ("set_max_concurrent", "snapshot.max_concurrent"),
    "max_queue_size": ("set_max_queue_size", "snapshot.max_size"),
    "max_connections": ("set_max_connections", "snapshot.max_connections"),
    "bandwidth_limit_bytes_per_second": ("set_bandwidth_limit", "snapshot.bandwidth_limit_bytes_per_second"),
    "download_hours": ("set_download_hours", "snapshot.download_hours"),
    "network_wait_s": ("set_network_wait", "snapshot.network_wait_s"),
    "engine": ("set_engine", "engine"),
}
POSITIONS: Final = ("top", "up", "down", "last")
"""Named positions to which a waiting download can be moved."""
_LAST_POSITION: Final = 1_000_000  # the queue clamps a position beyond its end
_MOST_SUGGESTIONS: Final = 8
_MOST_NAMED: Final = 5
_CONTENTS_WIDTH: Final = 100


def act(operations: "SyncOperations", request: messages.Request, send: SendProgress) -> Answer | Listing | None:
    """Executes a request; the panel itself answers `Sync` and `SetVisible`.

    Raises:
        GglibError: The manager refuses the request, or the action is unknown.
    """
    match request:
        case messages.Act():
            return _act(operations, request, send)
        case messages.Set():
            _set(operations, request.id, request.value.strip())
            return None
        case messages.Show(what="models"):
            return listings.model_list(operations.models(), operations.disk_use())
        case messages.Show(what="earlier"):
            return listings.earlier_list(operations.history())
        case messages.Show(what="found"):
            return _search(operations, request)
        case messages.Show():
            wanted = parse_pasted(request.text.translate(TYPOGRAPHIC))
            return plan_table.offer(operations.plan(wanted.repo_id, wanted.quantization, revision=wanted.revision))
        case messages.Add():
            operations.queue_smart(request.repo_id, request.key, revision=request.revision, companions=request.choices)
            news = f"{request.key} of {request.repo_id} is in the queue."
            return Answer(text="In the queue", mood="good", news=news, is_queued=True)
        case _:
            return None


def _search(operations: "SyncOperations", request: messages.Show) -> Listing:
    found = operations.search(
        request.text,
        max_parameters=int(request.max_parameters) if request.max_parameters.isdecimal() else None,
        licence=request.licence.strip() or None,
        task=request.task or None,
        limit=_MOST_SUGGESTIONS,
    )
    if not found:
        is_filtered = bool(request.max_parameters or request.licence or request.task)
        raise RequestError(listings.nothing_found(request.text, is_filtered=is_filtered))
    return listings.suggestions(found)


# Limits ----------------------------------------------------------------------------------------------------------


def _set(operations: "SyncOperations", name: str, text: str) -> None:
    if name not in rows.LIMITS:
        raise RequestError(f"This kernel does not know the limit {name!r}. Reload the page.")
    if not text.strip() and SETTINGS[name].default is not None:
        raise RequestError(f"{rows.LIMITS[name][0]} is empty; write a number.")
    value = SETTINGS[name].read(text or "none")
    getattr(operations, LIVE[name][0])(SETTINGS[name].check(rows.LIMITS[name][0], value))


# Actions ---------------------------------------------------------------------------------------------------------


def retry_all(operations: "SyncOperations") -> int:
    """Queues the failed downloads that can be retried, oldest first; returns how many.

    Raises:
        GglibError: The first refusal; raised after trying all of them.
    """
    refusals, failures = [], rows.retry_order(operations.get_queue_snapshot())
    for failure in failures:
        try:
            operations.retry(failure.id)
        except GglibError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    return len(failures)


# By action: the operation, called with the id of the row (an action on the whole queue or a list has none), and the
# announcement for screen readers. Without one, the changed row is announced.
_OPERATIONS: Final[Mapping[str, tuple[Callable[["SyncOperations", "DownloadId | str"], object], str]]] = {
    "run_now": (lambda operations, id_: operations.run_now(id_), ""),
    "pause": (lambda operations, id_: operations.pause(id_), ""),
    "resume": (lambda operations, id_: operations.resume(id_), ""),
    "cancel": (lambda operations, id_: operations.cancel_download(id_), ""),
    "discard": (
        lambda operations, id_: operations.cancel_download(id_, discard=True),
        "The partial files of {name} were deleted.",
    ),
    "remove": (lambda operations, id_: operations.remove_from_queue(id_), ""),
    "undo": (lambda operations, id_: operations.put_back(id_), ""),
    "retry": (lambda operations, id_: operations.retry(id_), ""),
    "dismiss": (lambda operations, id_: operations.clear_failed(id_), "{name} was removed from the list."),
    "retry_all": (lambda operations, _: retry_all(operations), ""),
    "pause_all": (lambda operations, _: operations.pause_all(), ""),
    "resume_all": (lambda operations, _: operations.resume_all(), ""),
    "cancel_all": (lambda operations, _: operations.cancel_all(), ""),
    "queue_partials": (lambda operations, _: operations.queue_partials(), ""),
    "clear_failed": (lambda operations, _: operations.clear_failed(), "Failed downloads cleared."),
    "clear_completed": (lambda operations, _: operations.clear_ended("completed"), "Completed downloads cleared."),
    "clear_cancelled": (lambda operations, _: operations.clear_ended("cancelled"), "Cancelled downloads cleared."),
    "clear_earlier": (lambda operations, _: operations.clear_history(), "Earlier downloads cleared."),
}


def _act(operations: "SyncOperations", request: messages.Act, send: SendProgress) -> Answer | None:
    action, id_ = request.action, request.id
    # The row may have gone: its id must not be taken for a part of another one.
    row = id_ if id_ in operations.get_queue_snapshot().downloads else DownloadId.parse(id_)
    if action in _OPERATIONS:
        operation, news = _OPERATIONS[action]
        operation(operations, row)
    elif action in (*POSITIONS, "move"):
        where = "top" if action == "move" else action
        wanted = request.position or new_position(operations.get_queue_snapshot(), id_, where)
        news = f"{{name}} is number {operations.reorder_queue(row, wanted)} now."
    else:
        return _act_on_model(operations, action, id_, send)
    if "{name}" in news:
        news = news.format(name=rows.name_of(DownloadId.parse(id_)))
    return Answer(news=news) if news else None


def new_position(snapshot: QueueSnapshot, id_: str, where: str) -> int:
    """The position for one of `POSITIONS`."""
    now = next((item.position for item in snapshot.items if str(item.id) == id_), 1)
    return {"top": 1, "up": max(1, now - 1), "down": now + 1, "last": _LAST_POSITION}[where]


def _act_on_model(operations: "SyncOperations", action: str, id_: str, send: SendProgress) -> Answer:
    def show(progress: "WorkProgress") -> None:
        send(f"{units.size(progress.done_bytes)} of {units.size(progress.total_bytes)} done.")

    if id_ and str(operations.find_model(id_).id) != id_:  # else it is a part of another's id; a prune has no id
        raise ModelNotFoundError(f"{id_} is no longer one of your models.")
    match action:
        case "verify":
            found = operations.verify(id_, on_progress=show)
            return _result(results.verified(found), "good" if found.is_right else "bad")
        case "repair":
            repair = operations.repair(id_, on_progress=show)
            return _result(results.repaired(repair), "plain" if repair.is_needed else "good")
        case "update":
            return _result(results.updating(operations.update(id_)))
        case "loading":
            return Answer(code=tuple((program, operations.loading_lines(id_, program)) for program in PROGRAMS))
        case "inspect":
            text = blocks_text(results.inspection_blocks(operations.inspect(id_)), _CONTENTS_WIDTH)
            return Answer(code=(("Contents", text),))
        case _:
            return _act_after_question(operations, action, id_, show)


def _act_after_question(
    operations: "SyncOperations", action: str, id_: str, show: Callable[["WorkProgress"], None]
) -> Answer:
    """Asks the user before an action; the request with the agreed action executes it."""
    name, _, agreed = action.partition(":")
    match name:
        case "delete":
            text = results.deletion(operations.delete(id_, dry_run=not agreed))
            return _result(text, "good") if agreed else _question(f"{text} Delete?", "delete:now")
        case "prune" if agreed:
            return _result(results.pruned(operations.prune(unused_s=listings.UNUSED_S)), "good")
        case "prune":
            plan = operations.prune(unused_s=listings.UNUSED_S, dry_run=True)
            names = [*(one.id for one in plan.models), *(one.target for one in plan.unfinished)]
            question = f"{results.pruning_question(plan)} Delete {units.listed(names, _MOST_NAMED)}?"
            return _question(question, "prune:now") if plan else Answer(text=results.nothing_pruned(plan))
        case "export" if agreed:
            return _result(results.exported(operations.export(id_, agreed, on_progress=show)), "good")
        case "export":
            folder = str(absolute_path("The folder", "gguf-bundle"))
            other = f"To another folder: %gguf export {shlex.quote(id_)} FOLDER"
            return _question(f"Export to {units.tilde(folder)}? {other}", f"export:{folder}", "Export")
        case _:
            raise RequestError(f"This kernel does not know the action {action!r}. Reload the page.")


def _question(text: str, agreed: str, label: str = "Delete") -> Answer:
    return Answer(confirm=messages.Action(agreed, label, confirm=printable(text), yes=f"Yes, {label.lower()}"))


def _result(text: str, mood: messages.Mood = "plain") -> Answer:
    return Answer(text=text, mood=mood, news=text)
