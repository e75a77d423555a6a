"""What each request of the panel's page asks of the manager, and what its answer says.

Every function here waits for the manager's operations, so the panel calls it on a thread of the manager's. Knows no widget.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.library import VerifyProgress
from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.references import DownloadId, parse_pasted
from gglib_nb.errors import GglibError, InvalidConfigError, RequestError
from gglib_nb.notebook import formats, listings, messages, rows
from gglib_nb.notebook.messages import Answer, Code, Listing
from gglib_nb.notebook.model_table import repaired, verified
from gglib_nb.notebook.update_table import updating

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager, SyncOperations

Tell = Callable[[str], None]
"""Sends the page a sentence that says how far the request is."""

_MOST_SUGGESTIONS: Final = 8
_MEGABYTE: Final = 1_000_000


def act(manager: "DownloadManager", request: messages.Request, tell: Tell) -> Answer | Listing | None:
    """Does what the request asks for.

    Args:
        manager: The panel's `DownloadManager`.
        request: As it was parsed; not `Sync` and not `Look`, which the panel answers itself.
        tell: For what takes long.

    Raises:
        GglibError: The manager refuses, or the page asks for what this kernel does not know.
    """
    return _KINDS[type(request)](manager.sync, request, tell)


def _act(operations: "SyncOperations", request: messages.Act, tell: Tell) -> Answer | None:
    if (action := _ACTIONS.get(request.action)) is None:
        raise RequestError(f"This kernel does not know the action {request.action!r}. Reload the page.")
    return action(operations, request, tell)


def _search(operations: "SyncOperations", request: messages.Search, _tell: Tell) -> Listing:
    found = operations.search(
        request.text,
        max_parameters=int(request.max_parameters) if request.max_parameters.isdecimal() else None,
        licence=request.licence.strip() or None,
        task=request.task or None,
        limit=_MOST_SUGGESTIONS,
    )
    return listings.suggestions(found)


def _offer(operations: "SyncOperations", request: messages.Offer, _tell: Tell) -> Listing:
    wanted = parse_pasted(request.repo_id)
    return listings.offer(operations.plan(wanted.repo_id, wanted.quantization, revision=wanted.revision))


def _add(operations: "SyncOperations", request: messages.Add, _tell: Tell) -> Answer:
    operations.queue_smart(request.repo_id, request.key, revision=request.revision, companions=request.choices)
    news = f"{request.key} of {request.repo_id} is in the queue."
    return Answer(text="In the queue", mood="good", news=news, is_queued=True)


def _models(operations: "SyncOperations", _request: object, _tell: Tell) -> Listing:
    return listings.model_list(operations.models(), operations.disk_use())


def _earlier(operations: "SyncOperations", _request: object, _tell: Tell) -> Listing:
    return listings.earlier_list(operations.history())


# Limits ----------------------------------------------------------------------------------------------------------


def _set(operations: "SyncOperations", request: messages.Set, _tell: Tell) -> None:
    text = request.value.strip()
    match request.id:
        case "max_concurrent":
            operations.set_max_concurrent(_count(text))
        case "max_size":
            operations.set_max_queue_size(_count(text))
        case "max_connections":
            operations.set_max_connections(_count(text))
        case "bandwidth":
            operations.set_bandwidth_limit(_bytes_per_second(text))
        case "hours":
            operations.set_download_hours(DailyHours.parse(text) if text else None)
        case _:
            raise RequestError(f"This kernel does not know the limit {request.id!r}. Reload the page.")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise InvalidConfigError(f"{text!r} is not a valid number. Enter 1 or more.")
    return int(text)


def _bytes_per_second(text: str) -> int | None:
    try:
        speed = float(text or 0)
    except ValueError:
        raise InvalidConfigError(f"{text!r} is not a valid speed. Enter a number of MB/s, or nothing.") from None
    return round(speed * _MEGABYTE) if 0 < speed < float("inf") else None


# Actions of downloads --------------------------------------------------------------------------------------------

_Action = Callable[["SyncOperations", messages.Act, Tell], Answer | None]


def _one(operation: Callable[["SyncOperations", str], object], news: str = "") -> _Action:
    def act_on_one(operations: "SyncOperations", request: messages.Act, _tell: Tell) -> Answer | None:
        operation(operations, request.id)
        return Answer(news=news.format(name=_name(request.id))) if news else None

    return act_on_one


def _all(operation: Callable[["SyncOperations"], object], news: str = "") -> _Action:
    def act_on_all(operations: "SyncOperations", _request: messages.Act, _tell: Tell) -> Answer | None:
        operation(operations)
        return Answer(news=news) if news else None

    return act_on_all


def _name(id_: str) -> str:
    found = DownloadId.parse(id_)
    return " ".join(filter(None, (found.repo_id.rpartition("/")[2], found.quantization)))


def _move(operations: "SyncOperations", request: messages.Act, _tell: Tell) -> Answer:
    now = next((item.position for item in operations.get_queue_snapshot().items if str(item.id) == request.id), 1)
    steps = {"top": 1, "up": max(1, now - 1), "down": now + 1}
    position = operations.reorder_queue(request.id, steps.get(request.action, request.position or 1))
    return Answer(news=f"{_name(request.id)} is number {position} now.")


def _retry_all(operations: "SyncOperations") -> None:
    """Each, also where one is refused; the first refusal is what the page hears."""
    refusals = []
    for failure in rows.retry_order(operations.get_queue_snapshot()):
        try:
            operations.retry(failure.id)
        except GglibError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


# Actions of models -----------------------------------------------------------------------------------------------


def _loading(operations: "SyncOperations", request: messages.Act, _tell: Tell) -> Answer:
    return Answer(code=tuple(Code(program, operations.loading_lines(request.id, program)) for program in PROGRAMS))


def _reading(tell: Tell) -> Callable[[VerifyProgress], None]:
    def progressed(progress: VerifyProgress) -> None:
        part = progress.done_bytes / progress.total_bytes if progress.total_bytes else 1.0
        tell(f"Verifying: {formats.percent(part)} of {formats.size(progress.total_bytes)} read.")

    return progressed


def _verify(operations: "SyncOperations", request: messages.Act, tell: Tell) -> Answer:
    found = operations.verify(request.id, on_progress=_reading(tell))
    return Answer(text=verified(found), mood="good" if found.is_right else "bad", news=verified(found))


def _repair(operations: "SyncOperations", request: messages.Act, tell: Tell) -> Answer:
    found = operations.repair(request.id, on_progress=_reading(tell))
    return Answer(text=repaired(found), mood="plain" if found.is_needed else "good", news=repaired(found))


def _update(operations: "SyncOperations", request: messages.Act, _tell: Tell) -> Answer:
    text = updating(operations.update(request.id))
    return Answer(text=text, news=text)


def _ask_deletion(operations: "SyncOperations", request: messages.Act, _tell: Tell) -> Answer:
    preview = operations.delete(request.id, dry_run=True)
    kept = f" {rows.plural(len(preview.kept), 'file')} kept: {preview.kept[0].reason}." if preview.kept else ""
    files, size = rows.plural(len(preview.deleted), "file"), formats.size(preview.freed_bytes)
    question = f"Delete {files}? This frees {size}.{kept}"
    return Answer(confirm=rows.Action("delete_now", "Delete", confirm=question, yes="Yes, delete"))


def _delete(operations: "SyncOperations", request: messages.Act, _tell: Tell) -> Answer:
    deletion = operations.delete(request.id, dry_run=False)
    return Answer(
        text=f"Deleted. {formats.size(deletion.freed_bytes)} freed.", news=f"{_name(request.id)} was deleted."
    )


_ACTIONS: Final[Mapping[str, _Action]] = {
    "top": _move,
    "up": _move,
    "down": _move,
    "move": _move,
    "run_now": _one(lambda operations, id_: operations.run_now(id_)),
    "pause": _one(lambda operations, id_: operations.pause(id_)),
    "resume": _one(lambda operations, id_: operations.resume(id_)),
    "cancel": _one(lambda operations, id_: operations.cancel_download(id_)),
    "remove": _one(lambda operations, id_: operations.remove_from_queue(id_)),
    "undo": _one(lambda operations, id_: operations.put_back(id_)),
    "retry": _one(lambda operations, id_: operations.retry(id_)),
    "dismiss": _one(lambda operations, id_: operations.clear_failed(id_), "{name} was removed from the list."),
    "discard": _one(
        lambda operations, id_: operations.cancel_download(id_, discard=True),
        "The partial files of {name} were deleted.",
    ),
    "retry_all": _all(_retry_all),
    "pause_all": _all(lambda operations: operations.pause_all()),
    "resume_all": _all(lambda operations: operations.resume_all()),
    "cancel_all": _all(lambda operations: operations.cancel_all()),
    "clear_failed": _all(lambda operations: operations.clear_failed(), "Failed downloads cleared."),
    "clear_completed": _all(lambda operations: operations.clear_ended("completed"), "Completed downloads cleared."),
    "clear_cancelled": _all(lambda operations: operations.clear_ended("cancelled"), "Cancelled downloads cleared."),
    "clear_earlier": _all(lambda operations: operations.clear_history(), "Earlier downloads cleared."),
    "queue_partials": _all(lambda operations: operations.queue_partials()),
    "loading": _loading,
    "verify": _verify,
    "repair": _repair,
    "update": _update,
    "delete": _ask_deletion,
    "delete_now": _delete,
}

_KINDS: Final[Mapping[type[messages.Request], Callable[["SyncOperations", Any, Tell], Answer | Listing | None]]] = {
    messages.Act: _act,
    messages.Set: _set,
    messages.ListModels: _models,
    messages.ListEarlier: _earlier,
    messages.Search: _search,
    messages.Offer: _offer,
    messages.Add: _add,
}
