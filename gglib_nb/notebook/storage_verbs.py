"""The verbs before and after a download: inspect a model, carry models in a bundle, free disk space."""

from collections.abc import Iterable
from typing import Annotated, Final

from gglib_nb.domain.matching import row_number
from gglib_nb.domain.printable import printable
from gglib_nb.domain.units import parse_bytes
from gglib_nb.manager.bundles import BundleProgress
from gglib_nb.notebook import formats, results
from gglib_nb.notebook.model_verbs import find_model, folders
from gglib_nb.notebook.progress import Progress, progress_of
from gglib_nb.notebook.session import Answer, Session
from gglib_nb.notebook.verb import Argument, GrammarError, Option, Tab, read_age, verb

_STOPPED: Final = "Stopped. Copied files are kept. Run it again to continue."


def _models_and_repositories(tab: Tab) -> Iterable[str]:
    return [*map(str, tab.models()), *map(str, tab.seen)]


def _id(reference: str, session: Session) -> str:
    """The id of a row of the last table of models; any other text as it is."""
    return reference if row_number(reference) is None else str(find_model(reference, session).id)


@verb("models")
def inspect(
    session: Session,
    reference: Annotated[
        str,
        Argument(
            "ID",
            "A model of yours, or owner/repo:QUANT on the Hub: nothing is downloaded.",
            offers=_models_and_repositories,
        ),
    ],
    other: Annotated[
        str, Argument("ID2", "A second model: shows only what differs.", offers=_models_and_repositories)
    ] = "",
    *,
    on_hub: Annotated[bool, Option("--hub", help="Compare your model with what the Hub has now.")] = False,
) -> Answer:
    """Show what a GGUF file contains: metadata, chat template, tokenizer, tensors by type.

    With two ids, it shows the keys that differ and the chat template as a diff.
    """
    one = _id(reference, session)
    if other and on_hub:
        raise GrammarError("Write either ID2 or --hub")
    if not other and not on_hub:
        return session.answer(*results.inspection_blocks(session.call(session.sync.inspect, one)))
    found = session.call(session.sync.compare, one, _id(other, session) if other else None)
    return session.answer(*results.comparison_blocks(found))


def _exporting(progress: BundleProgress) -> Progress:
    return progress_of(f"writing {progress.path}", progress.done_bytes, progress.total_bytes)


@verb("models", interrupted=_STOPPED)
def export(
    session: Session,
    words: Annotated[
        tuple[str, ...],
        Argument("ID… FOLDER", "One or more models, and the folder to write to.", offers=folders, is_repeated=True),
    ],
) -> Answer:
    """Write models into a bundle for a machine without a network: files, model cards, and a manifest with every SHA-256.

    Files are linked on the same disk and copied to another one; large files are split where the file system needs it. Run it
    again to continue, or to add models. On the other machine: %gguf import FOLDER
    """
    *references, folder = words
    if not references:
        raise GrammarError("FOLDER is missing")
    ids = [find_model(reference, session).id for reference in references]
    report = session.call_with_progress(_exporting, session.sync.export, ids, folder)
    how = " (linked)" if report.linked_bytes == report.size_bytes else ""
    models = report.models[0] if len(report.models) == 1 else f"{len(report.models)} models"
    return Answer(
        printable(
            f"Exported {models}, {formats.size(report.size_bytes)}{how}, to {report.folder}. "
            f"On the other machine: %gguf import FOLDER"
        )
    )


@verb("models")
def prune(
    session: Session,
    *,
    keep: Annotated[
        int | None,
        Option("--keep", "SIZE", "Delete until your models take no more than this, such as 100GB.", parse_bytes),
    ] = None,
    unused: Annotated[
        float | None,
        Option("--unused", "AGE", "Delete what has not been used for this long, such as 30d or 8w.", read_age),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only show what would be deleted.")] = False,
    is_confirmed: Annotated[bool, Option("--yes", help="Delete without asking.")] = False,
) -> Answer:
    """Free disk space: delete the least recently used models, and abandoned unfinished downloads. Asks first.

    A model counts as used when its path is asked for, or when a program opens its file, if the disk records that.
    """
    if keep is None and unused is None:
        raise GrammarError("Say what to delete: --keep SIZE or --unused AGE")
    plan = session.call(session.sync.prune, keep_bytes=keep, unused_s=unused, dry_run=True)
    if not plan:
        return Answer(
            f"Nothing to delete. Your models take {formats.size(plan.kept_bytes)}, without files that are also linked elsewhere."
            f"{results.unmounted(plan)}"
        )
    table = results.pruning_table(plan)
    if dry_run:
        return session.answer(table)
    if refusal := session.refusal(table.text(session.screen.width), "add --yes", is_confirmed=is_confirmed):
        return refusal
    done = session.call(session.sync.prune, keep_bytes=keep, unused_s=unused)
    return Answer(
        f"Deleted {results.pruned(done)}: {formats.size(done.freed_bytes)} freed, {formats.size(done.kept_bytes)} kept."
    )
