"""What each verb of `%gguf` does: asks the manager, waits for its answer, says in words what came of it.

Knows no IPython: what is to be shown is returned as an `Answer`. Waiting can be interrupted; an interrupt while a
request is being resolved voids the request.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.download import DownloadRequest, QueuedDownload
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import NoGgufFilesError
from gglib_nb.notebook import arguments, commands, formats, history_table, model_verbs, plan_table, tables
from gglib_nb.notebook.answer import Answer
from gglib_nb.notebook.changes import change, find_item, is_unheard, standing
from gglib_nb.notebook.config import configure
from gglib_nb.notebook.markup import render_html
from gglib_nb.notebook.place import Place
from gglib_nb.notebook.recall import Recall
from gglib_nb.notebook.targets import row_of
from gglib_nb.notebook.text import render_text
from gglib_nb.notebook.waiting import settle

if TYPE_CHECKING:
    from gglib_nb.manager.port import DownloadManager

_FIRST_REPORT_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.02


# A database that another program holds must not keep the queue from being shown.
_LOOK_S: Final = 1.0


def perform(  # noqa: C901 - one case a kind of verb
    command: commands.Command,
    manager: "DownloadManager",
    recall: Recall,
    place: Place | None = None,
) -> Answer:
    """Does what a line asks for, and answers when it is done.

    A live panel, the waiting of `Wait` and the value of `ModelPath` are the magic's own business; here they answer as
    `Status` and in words.

    Args:
        command: The line as it was read.
        manager: Who is asked.
        recall: What was shown before.
        place: Where the line is run; None: where nobody can be asked and nothing moves.

    Raises:
        GglibError: The answer is no; the queue is as it was.
        KeyboardInterrupt: The waiting was interrupted.
    """
    if isinstance(command, commands.ModelCommand):
        return model_verbs.perform(command, manager, recall, place or Place())
    match command:
        case commands.Queue():
            return _queue(command, manager, recall)
        case commands.Plan():
            return _plan(command, manager, recall, None if place is None else place.width)
        case commands.Search():
            return _search(command, manager, recall, None if place is None else place.width)
        case commands.History():
            return _history(command, manager, recall, None if place is None else place.width)
        case commands.Partials():
            return _partials(command, manager, None if place is None else place.width)
        case commands.ShowPanel() | commands.Status() | commands.Wait():
            return show_queue(manager)
        case commands.Config():
            return configure(command, lambda: manager, is_running=True)
        case commands.Help():
            return Answer(arguments.help_text(command.verb))
        case _:
            return Answer(change(command, manager))


def _queue(command: commands.Queue, manager: "DownloadManager", recall: Recall) -> Answer:
    wanted = row_of(command.reference, recall.rows)
    revision = command.revision or wanted.revision
    request = DownloadRequest(
        wanted.repo_id,
        wanted.quantization,
        revision,
        command.force,
        command.add_to_db,
        command.companions,
        command.everywhere,
    )
    before = {item.id for item in manager.snapshot.items}
    with _numbering_alternatives(recall):
        id_ = _submit(request, manager, starts=command.starts)
    recall.saw(id_)
    item = _first_report(id_, manager)
    is_new = id_ not in before
    head = f"Queued {id_}{_extent(item)}." if is_new else f"{id_} is in the queue already."
    why = f" {item.reason}" if is_new and item is not None and item.reason else ""
    return Answer(printable(f"{head}{why} {standing(item)}"))


def _first_report(id_: DownloadId, manager: "DownloadManager") -> QueuedDownload | None:
    """What the engine says of it at first, waited for a moment: what is here already is not downloading."""
    until_s = time.monotonic() + _FIRST_REPORT_S
    while (item := find_item(id_, manager.snapshot)) is not None and is_unheard(item):
        if time.monotonic() >= until_s:
            break
        time.sleep(_LOOK_EVERY_S)
    return item


@contextmanager
def _numbering_alternatives(recall: Recall) -> Iterator[None]:
    """Repositories that an error names in place of the one asked for can be named by number, too."""
    try:
        yield
    except NoGgufFilesError as error:
        if error.alternatives:
            recall.showed(map(DownloadId, error.alternatives))
        raise


def _submit(request: DownloadRequest, manager: "DownloadManager", *, starts: bool) -> DownloadId:
    if not starts:
        return settle(manager.submit_queue_download(request))
    place = manager.submit_queue_smart(
        request.repo_id,
        request.quantization,
        revision=request.revision,
        force=request.force,
        companions=request.companions,
        add_to_db=request.add_to_db,
        everywhere=request.everywhere,
    )
    return settle(place).id


def _extent(item: QueuedDownload | None) -> str:
    if item is None:
        return ""
    number = len(item.shards) + len(item.companions)
    return f" ({formats.size(item.total_bytes)}{f', {number} files' if number > 1 else ''})"


def _search(command: commands.Search, manager: "DownloadManager", recall: Recall, width: int | None) -> Answer:
    found = settle(
        manager.submit_search(
            command.words,
            max_parameters=command.max_parameters,
            licence=command.licence,
            task=command.task,
            sort=command.sort,
            limit=command.limit,
        )
    )
    recall.showed(DownloadId(repo.repo_id) for repo in found)
    if not found:
        return Answer(f"No repository with GGUF files answers to {command.words!r}. Try fewer or other words.")
    return Answer(tables.search_text(found, width), tables.search_html(found))


def _plan(command: commands.Plan, manager: "DownloadManager", recall: Recall, width: int | None) -> Answer:
    wanted = row_of(command.reference, recall.rows)
    revision = command.revision or wanted.revision
    with _numbering_alternatives(recall):
        plan = settle(
            manager.submit_plan(wanted.repo_id, wanted.quantization, revision=revision, context=command.context)
        )
    recall.showed(DownloadId(plan.repo_id, variant.key, revision) for variant in plan.variants)
    return Answer(plan_table.plan_text(plan, width), plan_table.plan_html(plan))


def _history(command: commands.History, manager: "DownloadManager", recall: Recall, width: int | None) -> Answer:
    if command.clears:
        number = settle(manager.submit_clear_history())
        return Answer(f"Forgot {number} download{'' if number == 1 else 's'} that ended; what was fetched stays.")
    past = settle(manager.submit_history())
    recall.showed(one.id for one in past)
    if not past:
        return Answer("No download has ended yet.")
    return Answer(history_table.history_text(past, width), history_table.history_html(past))


def _partials(command: commands.Partials, manager: "DownloadManager", width: int | None) -> Answer:
    if command.queue:
        return _queue_partials(command, manager)
    found = [one for one in settle(manager.submit_partials()) if (command.part_of_path or "") in one.target]
    if not found:
        return Answer(
            "No partial download lies about." if command.part_of_path is None else "None has that in its path."
        )
    if not command.discard:
        return Answer(tables.partials_text(found, width), tables.partials_html(found))
    deleted = settle(manager.submit_discard_partials([one.target for one in found]))
    freed = sum(one.disk_bytes for one in found if one.target in deleted)
    kept = len(found) - len(deleted)
    spared = f" {kept} in the queue or in use elsewhere stay." if kept else ""
    return Answer(f"Deleted {_files(len(deleted))}; {formats.size(freed)} are free again.{spared}")


def _queue_partials(command: commands.Partials, manager: "DownloadManager") -> Answer:
    queued = settle(manager.submit_queue_partials(command.part_of_path or ""))
    if not queued:
        return Answer("Nothing was queued: no partial download lies about that the queue does not go on with already.")
    return Answer(printable(f"Queued {', '.join(map(str, queued))}; what is there is not fetched again."))


def _files(number: int) -> str:
    return f"{number} partial file{'' if number == 1 else 's'}"


def show_queue(manager: "DownloadManager") -> Answer:
    """The queue as it is now, and those of other kernels."""
    with suppress(TimeoutError):
        manager.submit_see_others().result(_LOOK_S)
    snapshot = manager.snapshot
    return Answer(render_text(snapshot), render_html(snapshot))
