"""The verbs about your models: list, check, update, inspect, carry them in a bundle, free disk space."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Final, get_args

from typing_extensions import override

from gglib_nb.domain import units
from gglib_nb.domain.loading import PROGRAMS, loading_lines
from gglib_nb.domain.model import Model, ModelOrder, ModelState, ordered, selected, state_of
from gglib_nb.domain.references import pick_row, refuse_beginning, row_number
from gglib_nb.domain.text import printable
from gglib_nb.errors import ModelNotFoundError
from gglib_nb.notebook import listings, results
from gglib_nb.notebook.session import Answer, Session
from gglib_nb.notebook.verb import CANCELLED, All, Argument, GrammarError, read_age, verb
from gglib_nb.settings import expanded

_NO_MODEL: Final = "You have no models yet. Download one: %gguf queue owner/repo"
_DELETING: Final = "Interrupted. %gguf models lists the models that are left."
_STOPPED: Final = "Stopped checking. Earlier results are kept."
_STOPPED_COPY: Final = "Stopped. Copied files are kept. Run it again to continue."


class Lines(str):
    """A text whose line breaks are kept when it is the value of a cell."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return str(self)


def folders(_session: Session, words: Sequence[str]) -> Iterable[str]:
    """Folders whose path starts with this text. Names with a space are left out: they would be read as two words."""
    above, slash, begun = words[-1].rpartition("/")
    try:
        names = sorted(path.name for path in expanded(f"{above}{slash}").iterdir() if path.is_dir())
    except (OSError, RuntimeError):  # it does not exist, or `~name` of an unknown user
        return []
    shown = [name for name in names if name.startswith(begun) and (begun or not name.startswith("."))]
    return [f"{above}{slash}{name}/" for name in shown if name.split() == [name]]


def _find_model(session: Session, text: str) -> Model:
    if (number := row_number(text)) is not None:
        rows = session.models or tuple(model.id for model in ordered(session.sync.models(), "newest"))
        text = pick_row(number, rows, ModelNotFoundError, f"%gguf models lists {len(rows)}.")
    return session.sync.find_model(text)


def _find_deleted(session: Session, text: str) -> Model:
    model = _find_model(session, text)
    refuse_beginning(text, model)
    return model


_MODEL: Final = Argument(
    "ID",
    "An id, or a part that matches only one model; #2 is the second row of %gguf models.",
    find=_find_model,
    offers=lambda session, _words: map(str, session.known_models()),
)
ModelId = Annotated[Model, _MODEL]
DeletedId = Annotated[Model, replace(_MODEL, find=_find_deleted)]
InspectedId = Annotated[
    str,
    Argument(
        find=lambda session, text: text if row_number(text) is None else str(_find_model(session, text).id),
        offers=lambda session, _words: map(str, [*session.known_models(), *session.seen]),
    ),
]
Folder = Annotated[str, Argument("FOLDER", offers=folders)]


@verb("models")
def models(
    session: Session,
    text: Annotated[str, Argument(takes_rest=True)] = "",
    *,
    sort: ModelOrder = "newest",
    only: Annotated[str, Argument(choices=(*get_args(ModelState), "update"))] = "",
) -> Answer | str:
    """List your models: size, quantization, parameters, context, state, folder, free disk space.

    TEXT: Part of a model's id, architecture or path.
    --sort KEY: Order of the rows.
    --only STATE: Only models in this state; update: a newer version is known.
    """
    everything = session.sync.models()
    use = session.sync.disk_use()
    if not everything:
        missing = listings.missing_stores(use)
        return Answer(f"{_NO_MODEL}\nFolders of model_stores {missing}" if missing else _NO_MODEL)
    shown = ordered(selected(everything, text, only), sort)
    if not shown:
        return f"0 of {len(everything)} models match. %gguf models lists all."
    session.models = tuple(model.id for model in shown)
    return session.answer(listings.model_table(shown, use))


@verb("models")
def path(
    session: Session,
    reference: ModelId | None = None,
    *,
    for_: Annotated[str, Argument(choices=PROGRAMS)] | None = None,
    preset: Annotated[str, Argument(is_instead=True)] | None = None,
) -> Answer:
    """Show the path that llama.cpp opens, or the code that loads the model. In Python: p = %gguf path ID.

    --for PROGRAM: Show the code that loads the model into this program.
    --preset FILE: Write all models to a models.ini for the router of llama-server; lines that you added are kept.
    """
    if reference is None:
        if for_ is not None:
            raise GrammarError("Write either --for or --preset")
        written = session.sync.write_preset(preset or "models.ini")
        left_out = f" Not in it, because the format cannot write their paths: {', '.join(written.left_out)}."
        said = f"{written.path}: {units.plural(written.model_count, 'model')}.{left_out if written.left_out else ''}"
        session.screen.print(printable(said))
        return Answer(value=Lines(f"llama-server --models-preset {shlex.quote(written.path)}"))
    from gglib_nb.manager.library import look_at  # slow to import

    opened = str(session.sync.path(reference.id))
    if (state := state_of(reference, look_at(reference.targets))) in ("wrong", "changed"):
        check = f"Check it: %gguf verify {shlex.quote(str(reference.id))}"
        session.screen.print(printable(f"The file of {reference.id} is {state}. {check}"))
    value = opened if for_ is None else Lines(loading_lines(reference, for_))
    return Answer(value, value=value)


@verb("models", interrupted=_STOPPED)
def verify(session: Session, reference: ModelId | None = None, *, _all: All = False) -> Answer | str:
    """Check a model's files against their SHA-256, and report which bytes are wrong."""
    if reference is None:
        found = session.call_with_progress("verifying", session.sync.verify_all)
        return Answer("\n".join(map(results.verified, found)) or _NO_MODEL)
    return results.verified(session.call_with_progress("verifying", session.sync.verify, reference.id))


@verb("models", interrupted=_STOPPED)
def repair(session: Session, reference: ModelId) -> str:
    """Repair a model: only the damaged parts are downloaded.

    The damaged file is kept until the repaired one is verified. The model is checked first, unless verify found damage.
    """
    return results.repaired(session.call_with_progress("verifying", session.sync.repair, reference.id))


@verb("models", interrupted=_STOPPED_COPY)
def import_(session: Session, folder: Folder) -> Answer:
    """Add the GGUF files in a folder to your models. Nothing is moved or copied, except from a bundle.

    A bundle written by export is copied into the models folder and every byte is verified.

    In the Hugging Face cache and the folders of LM Studio and llama.cpp, the repository of each file is recognised.
    """
    report = session.call_with_progress("reading", session.sync.import_folder, folder)
    return Answer(results.imported(report, str(expanded(folder).absolute())))


@verb("models", interrupted=CANCELLED)
def updates(session: Session, reference: ModelId | None = None) -> Answer | str:
    """Check which models have a new version on the Hub, and what changed. Downloads nothing."""
    found = session.sync.check_updates(None if reference is None else reference.id)
    if not found:
        return _NO_MODEL
    return session.answer(*listings.update_blocks(found))


@verb("models")
def update(session: Session, reference: ModelId, *, keep: bool = False) -> str:
    """Download the new version of a model. It replaces the old one once it is verified.

    --keep: Keep the old version too, under an id with its commit.
    """
    return results.updating(session.sync.update(reference.id, keep=keep))


@verb("models")
def forget(session: Session, reference: DeletedId) -> str:
    """Remove a model from the list. Its files are kept."""
    session.sync.forget(reference.id)
    return f"Removed {reference.id}. To list it again: %gguf import FOLDER. Its files are kept: {reference.paths[0]}"


@verb("models", interrupted=_DELETING)
def delete(session: Session, reference: DeletedId, *, yes: bool = False) -> Answer | str:
    """Delete a model's files. Shows how much space that frees, and asks first.

    Files that another model uses, such as a shared vision projector, are kept.

    --yes: Delete without asking.
    """
    id_ = reference.id
    question = results.deletion(session.sync.delete(id_, dry_run=True))
    if refusal := session.refusal(question, f"%gguf delete {id_.typed} --yes", is_confirmed=yes):
        return refusal
    return results.deletion(session.sync.delete(id_))


@verb("models", interrupted=CANCELLED)
def inspect(session: Session, id_: InspectedId, id2: InspectedId = "", *, hub: bool = False) -> Answer:
    """Show what a GGUF file contains: metadata, chat template, tokenizer, tensors by type.

    With two ids, it shows the keys that differ and the chat template as a diff.

    ID: A model of yours, or owner/repo:QUANT on the Hub: nothing is downloaded.
    ID2: A second model: shows only what differs.
    --hub: Compare your model with what the Hub has now.
    """
    if id2 and hub:
        raise GrammarError("Write either ID2 or --hub")
    if not id2 and not hub:
        return session.answer(*results.inspection_blocks(session.sync.inspect(id_)))
    found = session.sync.compare(id_, id2 or None)
    return session.answer(*results.comparison_blocks(found))


_EXPORTED: Final = Argument(
    "ID… FOLDER",
    "One or more models, and the folder to write to.",
    offers=lambda session, words: [*map(str, session.known_models()), *folders(session, words)],
)


@verb("models", interrupted=_STOPPED_COPY)
def export(session: Session, words: Annotated[tuple[str, ...], _EXPORTED]) -> str:
    """Write models into a bundle for a machine without a network: files, model cards, a manifest with every SHA-256.

    Files are linked on the same disk and copied to another one; large files are split where the file system needs it.
    Run it again to continue, or to add models. On the other machine: %gguf import FOLDER
    """
    *references, folder = words
    if not references:
        raise GrammarError("FOLDER is missing")
    ids = list(dict.fromkeys(_find_model(session, reference).id for reference in references))
    report = session.call_with_progress("writing", session.sync.export, ids, folder)
    return results.exported(report)


@verb("models", interrupted=_DELETING)
def prune(
    session: Session,
    *,
    keep: Annotated[int, Argument(read=partial(units.parse_bytes, bare_unit="GB"), has_unit=True)] | None = None,
    unused: Annotated[float, Argument(read=read_age, has_unit=True)] | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> Answer | str:
    """Free disk space: delete the least recently used models, and abandoned unfinished downloads. Asks first.

    A model counts as used when its path is asked for, or when a program opens its file, if the disk records that.

    --keep SIZE: Delete until your models take no more than this, such as 100GB.
    --unused AGE: Delete what has not been used for this long, such as 30d or 8w.
    --dry-run: Only show what would be deleted.
    --yes: Delete without asking.
    """
    if keep is None and unused is None:
        raise GrammarError("Say what to delete: --keep SIZE or --unused AGE")
    plan = session.sync.prune(keep_bytes=keep, unused_s=unused, dry_run=True)
    if not plan:
        return results.nothing_pruned(plan)
    table = results.pruning_table(plan)
    if dry_run:
        return session.answer(table)
    if refusal := session.refusal(table.text(session.screen.width), "run this line again with --yes", is_confirmed=yes):
        return refusal
    return results.pruned(session.sync.prune(keep_bytes=keep, unused_s=unused))
