"""`%gguf`: a line in, parsed, done, shown. The only module that knows IPython's magics and completer.

A magic runs on the main thread and waits there for the manager's futures; it never enters or patches an event loop.
Mistakes of grammar become `UsageError`, errors of this package one line of output; anything else keeps its traceback,
since it is a bug and should look like one.
"""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import display
from typing_extensions import override

from gglib_nb.domain.download import QueuedDownload
from gglib_nb.errors import CatalogError, DownloadsFailedError, GglibError, copy_of
from gglib_nb.manager.progress_watch import use_views
from gglib_nb.notebook import arguments, commands, completion, host
from gglib_nb.notebook.answer import Answer
from gglib_nb.notebook.config import configure
from gglib_nb.notebook.grammar import GrammarError
from gglib_nb.notebook.model_verbs import model_path
from gglib_nb.notebook.place import Place, ProgressLine
from gglib_nb.notebook.profile import Gglib
from gglib_nb.notebook.progress_display import LineDisplay, ProgressDisplay, view_in_cell
from gglib_nb.notebook.progress_line import TextLine
from gglib_nb.notebook.progress_text import ProgressText
from gglib_nb.notebook.recall import Recall
from gglib_nb.notebook.targets import find_download
from gglib_nb.notebook.verbs import perform, show_queue
from gglib_nb.notebook.waiting import settle
from gglib_nb.notebook.wording import notice as notice_line
from gglib_nb.notebook.wording import printable
from gglib_nb.settings import use_profile

if TYPE_CHECKING:
    from gglib_nb.manager.port import DownloadManager
    from gglib_nb.notebook.panel import Panel

_NAME: Final = "gguf"
_NO_SIDECAR: Final = (
    "A panel beside the notebook needs the package sidecar. Install it with %pip install sidecar, then reload the page; "
    "%gguf panel shows it here."
)
# What earlier kernels left is read in milliseconds; a database that another program holds must not hold up the cell.
_ADOPT_S: Final = 3.0


@magics_class
class GgufMagics(Magics):
    """The magic, what it has shown, and what stood in its place before.

    Args:
        shell: Where it is registered.
        find_manager: Gives the manager at the first line that needs one.
    """

    def __init__(self, shell: InteractiveShell, find_manager: "Callable[[], DownloadManager]") -> None:
        super().__init__(shell)
        self._shell = shell
        self._find_manager = find_manager
        self._recall = Recall()
        self._panel: Panel | None = None
        self._panel_manager: DownloadManager | None = None
        self._beside: Any = None
        self._manager: DownloadManager | None = None
        self._said: set[str] = set()
        self._replaced: Any = None

    @line_magic
    def gguf(self, line: str) -> str | None:
        """Downloads GGUF models. `%gguf help` lists what it can do; alone it shows the panel."""
        with _one_line_errors():
            command = arguments.parse(line)
            try:
                return self._run(command)
            except KeyboardInterrupt:
                raise _in_one_line(KeyboardInterrupt(_after_interrupt(command))) from None

    def _run(self, command: commands.Command) -> str | None:
        if isinstance(command, commands.Help):
            _print(arguments.help_text(command.verb))
            return None
        if isinstance(command, commands.Config):
            # Told before there is a manager, it begins with what it was told.
            _show(configure(command, self._find, is_running=self._manager is not None or _has_manager()))
            return None
        manager = self._manager_ready_for(command)
        try:
            return self._do(command, manager)
        finally:
            self._say_what_is_new(command, manager)

    def _manager_ready_for(self, command: commands.Command) -> "DownloadManager":
        """The manager, with everything taken up that earlier kernels left: at first, and whenever the panel is shown."""
        manager = self._find_manager()
        if manager is not self._manager or isinstance(command, commands.ShowPanel):
            with suppress(TimeoutError):
                manager.submit_adopt().result(_ADOPT_S)
        self._manager = manager
        return manager

    def _say_what_is_new(self, command: commands.Command, manager: "DownloadManager") -> None:
        """What was taken up, or is wrong with the database, stands once in a cell; the panel shows it too."""
        shows_it_already = isinstance(command, commands.Status) or (
            isinstance(command, commands.ShowPanel) and self._kernel is None
        )
        for notice in manager.snapshot.notices:
            if notice.text not in self._said and not shows_it_already and notice.kind != "partials":
                _print(notice_line(notice))
            self._said.add(notice.text)

    def _do(self, command: commands.Command, manager: "DownloadManager") -> str | None:
        match command:
            case commands.ShowPanel(side):
                self._show_panel(manager, beside=side)
            case commands.Wait():
                self._wait(command, manager)
            case commands.ModelPath():
                return model_path(command, manager, self._recall)
            case _:
                _show(perform(command, manager, self._recall, self._place))
        return None

    def _find(self) -> "DownloadManager":
        self._manager = self._find_manager()
        return self._manager

    def _show_panel(self, manager: "DownloadManager", *, beside: bool) -> None:
        if self._kernel is None:
            _print(show_queue(manager).text)
            return
        from gglib_nb.notebook.panel import Panel

        if self._panel is None or self._panel_manager is not manager:
            if self._panel is not None:
                self._panel.close()
            self._panel, self._panel_manager = Panel(manager), manager
        if beside and (sidecar := _sidecar()) is None:
            _print(_NO_SIDECAR)
        elif beside:
            self._close_beside()  # asked for again it comes to the front; a person may have closed it, which nobody tells
            self._beside = sidecar(title="Downloads")
            with self._beside:
                display(self._panel)
        else:
            display(self._panel)

    def _close_beside(self) -> None:
        if self._beside is not None:
            self._beside.close()
            self._beside = None

    def _wait(self, command: commands.Wait, manager: "DownloadManager") -> None:
        snapshot = manager.snapshot
        only = None if command.reference is None else find_download(command.reference, snapshot)
        if only is None and not (snapshot.items or snapshot.resolving):
            _print("Nothing is queued or active.")
            return
        progress: ProgressText | ProgressDisplay
        # Where nobody sits before the kernel, what is saved shall read as a log.
        if self._kernel is not None and self._can_ask:
            progress = ProgressDisplay(only)
        else:
            progress = ProgressText(sys.stdout, only=only, is_terminal=self._kernel is None and sys.stdout.isatty())
            progress.show(snapshot)  # or what ends before the next look is never seen alive, and has no line
        earlier = {(item.id, item.ended_at_s) for item in snapshot.recent_failures}
        try:
            if only is None:
                settle(manager.submit_join(), lambda: progress.show(manager.snapshot))
            else:
                settle(manager.submit_wait(only), lambda: progress.show(manager.snapshot))
            progress.show(manager.snapshot)
        finally:
            progress.close()
        failures = [one for one in manager.snapshot.recent_failures if (one.id, one.ended_at_s) not in earlier]
        if failures:
            raise _failed(failures)

    @property
    def _kernel(self) -> object | None:
        return getattr(self._shell, "kernel", None)

    @property
    def _can_ask(self) -> bool:
        """Whether a person can answer a question: on a terminal, or in a client that allows input."""
        return sys.stdin.isatty() if self._kernel is None else host.has_person()

    @property
    def _place(self) -> Place:
        """What can be done here: a notebook's tables are HTML of any width, a terminal's keep to its own."""
        width = shutil.get_terminal_size().columns if self._kernel is None else None
        return Place(width, _ask if self._can_ask else None, self._progress_line)

    def _progress_line(self) -> ProgressLine:
        if self._kernel is not None and self._can_ask:
            return LineDisplay()
        return TextLine(sys.stdout, is_terminal=self._kernel is None and sys.stdout.isatty())

    # Loading -----------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Takes the place of whatever answers to `%gguf`, and joins the completer."""
        magics = self._shell.magics_manager
        self._replaced = (magics.magics["line"].get(_NAME), magics.registry.get(type(self).__name__))
        magics.register(self)
        self._shell.Completer.custom_matchers.append(self._matcher)

    def uninstall(self) -> None:
        """Puts back what was there and closes the panel. Downloads go on."""
        magics = self._shell.magics_manager
        for table, name, before in zip(
            (magics.magics["line"], magics.registry), (_NAME, type(self).__name__), self._replaced, strict=True
        ):
            table.pop(name, None)
            if before is not None:
                table[name] = before
        with suppress(ValueError):
            self._shell.Completer.custom_matchers.remove(self._matcher)
        self._close_beside()
        if self._panel is not None:
            self._panel.close()

    # Completion --------------------------------------------------------------------------------------------------

    @context_matcher()
    def _matcher(self, context: CompletionContext) -> SimpleMatcherResult:
        before_cursor = context.text_until_cursor
        if not completion.is_ours(before_cursor):
            return SimpleMatcherResult(completions=[])
        fragment, texts = completion.complete(before_cursor, self._known(before_cursor))
        if completion.takes_folder(before_cursor):
            texts = _folders(fragment)
        offered = [SimpleCompletion(text, type="keyword") for text in texts] or _NothingElse()
        # Names of Python and of files in the folder are no words of this line.
        return SimpleMatcherResult(completions=offered, matched_fragment=fragment, suppress=True, ordered=True)

    def _known(self, before_cursor: str) -> completion.Known:
        # Tab alone must not make a manager: that would adopt what another kernel left.
        manager = self._manager
        if manager is None:
            return completion.Known(seen=self._recall.seen)
        models = []
        if completion.takes_models(before_cursor):
            with suppress(CatalogError):
                models = manager.catalog.models()
        return completion.Known(manager.snapshot, self._recall.seen, tuple(model.id for model in models))


class _NothingElse(list[SimpleCompletion]):
    """No completions, and none of others: IPython heeds what a matcher suppresses only where that says it has some."""

    @override
    def __len__(self) -> int:
        return 1


def _folders(typed: str) -> list[str]:
    """Folders whose path begins so, as a person goes on typing it. One with a blank in its name would be two words."""
    above, slash, begun = typed.rpartition("/")
    try:
        names = sorted(path.name for path in Path(f"{above}{slash}").expanduser().iterdir() if path.is_dir())
    except (OSError, RuntimeError):  # it is not there, or `~name` of nobody
        return []
    shown = [name for name in names if name.startswith(begun) and (begun or not name.startswith("."))]
    return [f"{above}{slash}{name}/" for name in shown if name.split() == [name]]


def _sidecar() -> Any:  # noqa: ANN401 - its class, of a package without types that need not be there
    with suppress(ImportError):
        return importlib.import_module("sidecar").Sidecar
    return None


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a magic's answer


def _ask(question: str) -> bool:
    return input(question).strip().casefold() in ("y", "yes")


def _show(answer: Answer) -> None:
    if answer.html is None:
        _print(answer.text)
    else:
        display(answer)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Renders what a person can mend in one line, with its class, attributes and cause kept."""
    try:
        yield
    except GrammarError as error:
        # Exactly this class: IPython compares with `is`, and prints the traceback of a subclass (ipython#14024).
        raise UsageError(str(error)) from None
    except GglibError as error:
        raise _in_one_line(error) from error.__cause__


def _in_one_line(error: BaseException) -> BaseException:
    """A copy that IPython shows as `Name: message`."""
    shown = copy_of(error)
    line = f"{type(error).__name__}: {printable(str(error))}"
    vars(shown)["_render_traceback_"] = lambda: [line]
    return shown


def _failed(failures: Sequence[QueuedDownload]) -> DownloadsFailedError:
    """What ends the waiting for all where some failed, so that the cell does not look as if all were well."""
    ids = tuple(str(item.id) for item in failures)
    first = f"{failures[0].id}: {failures[0].error}"
    if len(failures) == 1:
        return DownloadsFailedError(first, ids)
    return DownloadsFailedError(
        f"{len(failures)} downloads failed: {', '.join(ids)}. The first of them, {first} %gguf status shows the others.",
        ids,
    )


def _after_interrupt(command: commands.Command) -> str:
    match command:
        case commands.Wait():
            return "Stopped waiting; the downloads go on."
        case commands.Queue() | commands.Plan() | commands.Search() | commands.Updates() | commands.Update():
            return "Interrupted; the request is void."
        case commands.Verify() | commands.Repair():
            return "Stopped verifying; what was known of the models stays."
        case _:
            return "Interrupted; %gguf status shows how the queue is."


def _manager_of_kernel() -> "DownloadManager":
    from gglib_nb.notebook.activity import get_manager

    return get_manager()


def _has_manager() -> bool:
    from gglib_nb.manager.default_manager import existing_manager

    manager = existing_manager()
    return manager is not None and not manager.is_closed


def load(shell: InteractiveShell, find_manager: "Callable[[], DownloadManager]" = _manager_of_kernel) -> None:
    """Registers `%gguf`; twice is harmless. Starts nothing and prints nothing.

    Args:
        shell: The running IPython.
        find_manager: Gives the manager at the first line that needs one.
    """
    if _loaded(shell) is None:
        use_profile(Gglib(parent=shell).given())
        use_views(view_in_cell)
        GgufMagics(shell, find_manager).install()


def unload(shell: InteractiveShell) -> None:
    """Puts back exactly what was there before `load`; without it, does nothing. Downloads go on."""
    if (magics := _loaded(shell)) is not None:
        magics.uninstall()


def _loaded(shell: InteractiveShell) -> GgufMagics | None:
    magics = shell.magics_manager.registry.get(GgufMagics.__name__)
    return magics if isinstance(magics, GgufMagics) else None
