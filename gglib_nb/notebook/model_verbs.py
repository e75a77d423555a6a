"""The verbs about the models that you have. Each waits for the manager's answer and reports it."""

import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, get_args

from typing_extensions import override

from gglib_nb.domain.importing import ImportProgress
from gglib_nb.domain.library import VerifyProgress
from gglib_nb.domain.loading import PROGRAMS, loading_lines
from gglib_nb.domain.matching import pick_row, row_number
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import ModelOrder, ModelState, ordered, selected
from gglib_nb.domain.printable import printable
from gglib_nb.errors import ModelNotFoundError
from gglib_nb.notebook import model_table, update_table
from gglib_nb.notebook.completion import Tab
from gglib_nb.notebook.session import Answer, Session, settle
from gglib_nb.notebook.verb import Argument, Option, verb

_NO_MODEL: Final = "You have no models yet. Download one: %gguf queue owner/repo"
_STOPPED: Final = "Stopped checking. Earlier results are kept."
_VOID: Final = "Interrupted. The request was cancelled."


class Lines(str):
    """A text of several lines that is shown as such when it is the value of a cell."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return str(self)


def _models(tab: Tab) -> Iterable[str]:
    completed = () if tab.snapshot is None else tab.snapshot.recent_completed
    return [*map(str, tab.models), *(str(item.id) for item in completed)]


def folders(tab: Tab) -> Iterable[str]:
    """Folders whose path begins as typed. One with a space in its name would be two words, and is left out."""
    above, slash, begun = tab.fragment.rpartition("/")
    try:
        names = sorted(path.name for path in Path(f"{above}{slash}").expanduser().iterdir() if path.is_dir())
    except (OSError, RuntimeError):  # not there, or `~name` of an unknown user
        return []
    shown = [name for name in names if name.startswith(begun) and (begun or not name.startswith("."))]
    return [f"{above}{slash}{name}/" for name in shown if name.split() == [name]]


_MODEL: Final = Argument(
    "ID", "An id, a part that matches only one model, or #2 for the second row of %gguf models.", offers=_models
)


def find_model(reference: str, session: Session) -> Model:
    """The model that a reference names.

    Raises:
        ModelNotFoundError: None matches.
        AmbiguousQuantizationError: Several do; the text names them.
    """
    manager = session.manager
    if (number := row_number(reference)) is not None:
        rows = session.models or tuple(model.id for model in settle(manager.submit(manager.sync.models)))
        reference = pick_row(number, rows, ModelNotFoundError, f"%gguf models lists {len(rows)}.")
    return settle(manager.submit(manager.sync.find_model, reference))


@verb("models")
def models(
    session: Session,
    text: Annotated[str, Argument("TEXT", "Part of a model's id, architecture or path.", takes_rest=True)] = "",
    *,
    sort: Annotated[ModelOrder, Option("--sort", "KEY", "Order of the rows.", choices=get_args(ModelOrder))] = "newest",
    only: Annotated[
        str,
        Option(
            "--only",
            "STATE",
            "Only models in this state; update: a newer version is known.",
            choices=(*get_args(ModelState), "update"),
        ),
    ] = "",
) -> Answer:
    """List your models: size, quantization, parameters, context, state, folder, free disk space."""
    manager = session.manager
    everything = settle(manager.submit(manager.sync.models))
    if not everything:
        return Answer(_NO_MODEL)
    shown = ordered(selected(everything, text, only), sort)
    session.models = tuple(model.id for model in shown)
    if not shown:
        return Answer(f"0 of {len(everything)} models match. %gguf models lists all.")
    use = settle(manager.submit(manager.sync.disk_use))
    return Answer(model_table.models_text(shown, use, session.screen.width), model_table.models_html(shown, use))


@verb("models")
def path(
    session: Session,
    reference: Annotated[str | None, _MODEL] = None,
    *,
    program: Annotated[
        str | None,
        Option("--for", "PROGRAM", "Show the code that loads the model into this program.", choices=PROGRAMS),
    ] = None,
    preset: Annotated[
        str | None,
        Option(
            "--preset",
            "FILE",
            "With --for llama-server: write all models to a models.ini for its router; lines that you added are kept.",
            replaces="reference",
        ),
    ] = None,
) -> Answer:
    """Show the path that llama.cpp opens, or the code that loads the model. In Python: p = %gguf path ID."""
    if reference is None:
        return _preset(session, preset or "models.ini")
    model = find_model(reference, session)
    value = model.paths[0] if program is None else Lines(loading_lines(model, program))
    return Answer(value, value=value)


def _preset(session: Session, file: str) -> Answer:
    written = settle(session.manager.submit(session.manager.sync.write_preset, file))
    count = f"{written.model_count} model{'s'[: written.model_count != 1]}"
    left_out = f" Not in it, because the format cannot write their paths: {', '.join(written.left_out)}."
    line = f"llama-server --models-preset {shlex.quote(written.path)}"
    return Answer(f"{written.path}: {count}.{left_out if written.left_out else ''} Serve them with: {line}", value=line)


@verb("models", interrupted=_STOPPED)
def verify(
    session: Session,
    reference: Annotated[str | None, _MODEL] = None,
    *,
    everything: Annotated[bool, Option("--all", help="All models.", replaces="reference")] = False,
) -> Answer:
    """Check a model's files against their SHA-256, and report which bytes are wrong."""
    manager = session.manager
    with _progress(session) as (report, show):
        if reference is None or everything:
            found = settle(manager.submit(manager.sync.verify_all, on_progress=report), show)
        else:
            found = [
                settle(manager.submit(manager.sync.verify, find_model(reference, session).id, on_progress=report), show)
            ]
    return Answer("\n".join(map(model_table.verified, found)) or _NO_MODEL)


@verb("models", interrupted=_STOPPED)
def repair(session: Session, reference: Annotated[str, _MODEL]) -> Answer:
    """Repair a model: only the damaged parts are downloaded.

    The damaged file is kept until the repaired one is verified. The model is checked first, unless verify has already found what
    is wrong.
    """
    model = find_model(reference, session)
    with _progress(session) as (report, show):
        return Answer(
            model_table.repaired(
                settle(session.manager.submit(session.manager.sync.repair, model.id, on_progress=report), show)
            )
        )


@contextmanager
def _progress(session: Session) -> Iterator[tuple[Callable[[VerifyProgress], None], Callable[[], None]]]:
    """What takes the progress of a check, on a thread of the manager's, and what shows it, on the one that waits."""
    reached: deque[VerifyProgress] = deque(maxlen=1)
    line = session.screen.progress_line()

    def show() -> None:
        if reached:
            line.show(model_table.reading(reached[-1]), model_table.read_fraction(reached[-1]))

    try:
        yield reached.append, show
    finally:
        line.close()


@verb("models")
def import_(session: Session, folder: Annotated[str, Argument("FOLDER", offers=folders)]) -> Answer:
    """Add the GGUF files in a folder to your models. Nothing is moved or copied, except from a bundle.

    A bundle written by export is copied into the models folder and every byte is verified.

    In the Hugging Face cache and the folders of LM Studio and llama.cpp, the repository of each file is recognised.
    """
    reached: deque[ImportProgress] = deque(maxlen=1)
    line = session.screen.progress_line()

    def show() -> None:
        if reached:
            done = reached[-1]
            fraction = (
                done.done_files / max(1, done.total_files)
                if done.done_bytes is None or done.total_bytes is None
                else done.done_bytes / max(1, done.total_bytes)
            )
            line.show(f"reading {done.path}", fraction)

    try:
        report = settle(
            session.manager.submit(session.manager.sync.import_folder, folder, on_progress=reached.append), show
        )
    finally:
        line.close()
    return Answer(model_table.imported(report, folder))


@verb("models", interrupted=_VOID)
def updates(session: Session, reference: Annotated[str | None, _MODEL] = None) -> Answer:
    """Check which models have a new version on the Hub, and what changed. Downloads nothing."""
    only = None if reference is None else find_model(reference, session).id
    found = settle(session.manager.submit(session.manager.sync.check_updates, only))
    if not found:
        return Answer(_NO_MODEL)
    return Answer(update_table.updates_text(found, session.screen.width), update_table.updates_html(found))


@verb("models", interrupted=_VOID)
def update(
    session: Session,
    reference: Annotated[str, _MODEL],
    *,
    keep: Annotated[bool, Option("--keep", help="Keep the old version too, under an id with its commit.")] = False,
) -> Answer:
    """Download the new version of a model. It replaces the old one once it is verified."""
    model = find_model(reference, session)
    return Answer(
        update_table.updating(settle(session.manager.submit(session.manager.sync.update, model.id, keep=keep)))
    )


@verb("models")
def forget(session: Session, reference: Annotated[str, _MODEL]) -> Answer:
    """Remove a model from the list. Its files are kept."""
    model = find_model(reference, session)
    settle(session.manager.submit(session.manager.sync.forget, model.id))
    return Answer(printable(f"Removed {model.id} from the list. Its files are kept: {model.paths[0]}"))


@verb("models")
def delete(
    session: Session,
    reference: Annotated[str, _MODEL],
    *,
    is_confirmed: Annotated[bool, Option("--yes", help="Delete without asking.")] = False,
) -> Answer:
    """Delete a model's files. Shows how much space that frees, and asks first.

    Files that another model uses, such as a shared vision projector, are kept.
    """
    model = find_model(reference, session)
    question = model_table.question(settle(session.manager.submit(session.manager.sync.delete, model.id, dry_run=True)))
    if not is_confirmed:
        if not session.screen.can_ask:
            return Answer(f"{question} Nothing was deleted. To delete it: %gguf delete {model.id} --yes")
        if not session.screen.ask(f"{question} Delete? [y/N] "):
            return Answer("Nothing was deleted.")
    return Answer(model_table.deleted(settle(session.manager.submit(session.manager.sync.delete, model.id))))
