"""What the verbs about models that are here do: ask the manager, wait for its answer, say in words what came of it.

Knows no IPython: how a question is put to a person and how progress is shown is the `Place`'s business.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from gglib_nb.domain.checking import VerifyProgress
from gglib_nb.domain.importing import ImportProgress
from gglib_nb.domain.loading import loading_lines
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import ordered, selected
from gglib_nb.domain.printable import printable
from gglib_nb.errors import ModelNotFoundError
from gglib_nb.notebook import commands, model_table, update_table
from gglib_nb.notebook.answer import Answer
from gglib_nb.notebook.place import Place
from gglib_nb.notebook.recall import Recall
from gglib_nb.notebook.waiting import settle

if TYPE_CHECKING:
    from gglib_nb.manager.port import DownloadManager

_ROW: Final = re.compile(r"#?(\d+)")


class Lines(str):
    """A text of several lines that shows itself as such, also as the value of a cell."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return str(self)


def perform(  # noqa: C901 - one case a verb
    command: commands.ModelCommand, manager: "DownloadManager", recall: Recall, place: Place
) -> Answer:
    """Does what a line about models asks for; arguments and errors as those of `verbs.perform`."""
    match command:
        case commands.Models():
            return show_models(command, manager, recall, place.width)
        case commands.ModelPath():
            return Answer(model_path(command, manager, recall))
        case commands.Verify():
            return verify(command, manager, recall, place)
        case commands.Import():
            return import_folder(command, manager, place)
        case commands.Updates():
            return updates(command, manager, recall, place.width)
        case commands.Update():
            model = find_model(command.reference, manager, recall)
            return Answer(update_table.updating(settle(manager.submit_update(model.id, keep=command.keeps_old))))
        case commands.Repair():
            return repair(command, manager, recall, place)
        case commands.Forget():
            return forget(command, manager, recall)
        case commands.Delete():
            return delete(command, manager, recall, place)


def show_models(command: commands.Models, manager: "DownloadManager", recall: Recall, width: int | None) -> Answer:
    """The table; its rows can be named by number from now on.

    Args:
        command: What to show.
        manager: Whose models.
        recall: Told of the rows.
        width: Columns of characters to keep to; None: any.
    """
    everything = settle(manager.submit_models())
    if not everything:
        return Answer("No model is here yet. Get one with: %gguf queue owner/repo")
    shown = ordered(selected(everything, command.text, command.only), command.order)
    recall.models = tuple(model.id for model in shown)
    if not shown:
        return Answer(f"None of {len(everything)} models is such. %gguf models lists all.")
    use = settle(manager.submit_disk_use())
    return Answer(model_table.models_text(shown, use, width), model_table.models_html(shown, use))


def model_path(command: commands.ModelPath, manager: "DownloadManager", recall: Recall) -> str:
    """The path of a model that a program opens, or the lines that load it there.

    Raises:
        ModelNotFoundError: No model answers to the reference.
        AmbiguousQuantizationError: Several do; the text names them.
    """
    model = find_model(command.reference, manager, recall)
    return model.paths[0] if command.program is None else Lines(loading_lines(model, command.program))


def verify(command: commands.Verify, manager: "DownloadManager", recall: Recall, place: Place) -> Answer:
    """Hashes the files of a model, or of all, and says what came out."""
    with _shown(place) as (tell, show):
        if command.reference is None:
            found = settle(manager.submit_verify_all(on_progress=tell), show)
        else:
            model = find_model(command.reference, manager, recall)
            found = [settle(manager.submit_verify(model.id, on_progress=tell), show)]
    return Answer("\n".join(map(model_table.verified, found)) or "No model is here yet.")


def import_folder(command: commands.Import, manager: "DownloadManager", place: Place) -> Answer:
    """Registers what lies in a folder, and says what was left out and why."""
    reached: deque[ImportProgress] = deque(maxlen=1)
    line = place.progress()

    def show() -> None:
        if reached:
            line.show(f"reading {reached[-1].path}", reached[-1].done_files / max(1, reached[-1].total_files))

    try:
        report = settle(manager.submit_import_folder(command.folder, on_progress=reached.append), show)
    finally:
        line.close()
    return Answer(model_table.imported(report, command.folder))


def updates(command: commands.Updates, manager: "DownloadManager", recall: Recall, width: int | None) -> Answer:
    """What has become of a model on the Hub, or of all."""
    only = None if command.reference is None else find_model(command.reference, manager, recall).id
    found = settle(manager.submit_updates(only))
    if not found:
        return Answer("No model is here yet. Get one with: %gguf queue owner/repo")
    return Answer(update_table.updates_text(found, width), update_table.updates_html(found))


def repair(command: commands.Repair, manager: "DownloadManager", recall: Recall, place: Place) -> Answer:
    """Has what is wrong of a model fetched again."""
    model = find_model(command.reference, manager, recall)
    with _shown(place) as (tell, show):
        return Answer(model_table.repaired(settle(manager.submit_repair(model.id, on_progress=tell), show)))


@contextmanager
def _shown(place: Place) -> Iterator[tuple[Callable[[VerifyProgress], None], Callable[[], None]]]:
    """Who is told how far a verification is, and who shows it: a thread of the manager's, and the one that waits."""
    reached: deque[VerifyProgress] = deque(maxlen=1)
    line = place.progress()

    def show() -> None:
        if reached:
            line.show(model_table.reading(reached[-1]), model_table.read_fraction(reached[-1]))

    try:
        yield reached.append, show
    finally:
        line.close()


def forget(command: commands.Forget, manager: "DownloadManager", recall: Recall) -> Answer:
    """Takes a model off the list."""
    model = find_model(command.reference, manager, recall)
    settle(manager.submit_forget(model.id))
    return Answer(printable(f"{model.id} is off the list; its files stay: {model.paths[0]}"))


def delete(command: commands.Delete, manager: "DownloadManager", recall: Recall, place: Place) -> Answer:
    """Deletes a model's files, after it was asked for or confirmed."""
    model = find_model(command.reference, manager, recall)
    plan = settle(manager.submit_delete(model.id, dry_run=True))
    question = model_table.question(plan)
    if not command.is_confirmed:
        if place.ask is None:
            return Answer(f"{question} Nothing was deleted. To delete it, write: %gguf delete {model.id} --yes")
        if not place.ask(f"{question} Delete? [y/N] "):
            return Answer("Nothing was deleted.")
    return Answer(model_table.deleted(settle(manager.submit_delete(model.id))))


def find_model(reference: str, manager: "DownloadManager", recall: Recall) -> Model:
    """The model that a reference names: an id, a part that only one has, or a row of the last table of models.

    Raises:
        ModelNotFoundError: None answers to it.
        AmbiguousQuantizationError: Several do; the text names them.
    """
    if (row := _ROW.fullmatch(reference)) is None:
        return manager.catalog.find(reference)
    number = int(row[1])
    rows = recall.models or tuple(str(model.id) for model in manager.catalog.models())
    if not 1 <= number <= len(rows):
        raise ModelNotFoundError(f"There is no row {number}: %gguf models lists {len(rows)}.")
    return manager.catalog.find(rows[number - 1])
