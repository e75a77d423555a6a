"""The context of a verb: the manager, the last tables, and the screen that asks and shows."""

import importlib
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from getpass import getpass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from IPython.display import display

from gglib_nb.domain.library import WorkProgress
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueueNotice, QueueSnapshot
from gglib_nb.errors import CatalogError
from gglib_nb.manager.calls import settled
from gglib_nb.manager.progress import encodable, is_terminal
from gglib_nb.notebook import host
from gglib_nb.notebook.progress import LineOutput, TextLine, progress_of
from gglib_nb.notebook.tables import Block, blocks_html, blocks_text

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager, SyncOperations
    from gglib_nb.notebook.panel import Panel

_Result = TypeVar("_Result")
# Reading the queues of earlier kernels takes milliseconds; a locked database must not block the cell.
_ADOPT_S: Final = 3.0
_NO_SIDECAR: Final = (
    "A panel beside the notebook needs the package sidecar. Install it with %pip install sidecar and reload the page, "
    "or show the panel here with %gguf panel."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a verb."""

    text: str = ""  # for a terminal, and the `text/plain` of a notebook; empty shows nothing
    html: str | None = None  # the same as static HTML; None if the text is enough
    value: str | None = None  # the Python value of the line


def _typed(read: Callable[[str], str], question: str) -> str:
    """What the user types; empty if the input ends, or if this kernel has none."""
    with suppress(EOFError, NotImplementedError):
        return read(encodable(question, sys.stdout))
    return ""


class Screen:
    """Asks and shows: a terminal, a notebook's cell, or a run without a user; without a shell there is no user."""

    _panel: "Panel | None" = None
    _sidecar: Any = None

    def __init__(self, shell: Any = None) -> None:  # noqa: ANN401 - IPython's
        self._shell = shell

    @property
    def _is_terminal(self) -> bool:
        return self._shell is not None and getattr(self._shell, "kernel", None) is None

    @property
    def redraws(self) -> bool:
        """Whether outputs are updated in place; without a user they are saved, and should read like a log."""
        return getattr(self._shell, "kernel", None) is not None and host.has_user()

    @property
    def width(self) -> int | None:
        """The maximum width of text in columns; None: unlimited."""
        return shutil.get_terminal_size().columns if self._is_terminal else None

    @property
    def can_ask(self) -> bool:
        """Whether a user can answer a question."""
        return is_terminal(sys.stdin) if self._is_terminal else self.redraws

    def ask(self, question: str) -> bool:
        """Whether the user agrees to a deletion. Prints the question: some hosts show only a long prompt's start."""
        self.print(question)
        return _typed(input, "Delete? [y/N] ").strip().casefold() in ("y", "yes")

    def ask_secret(self, question: str) -> str:
        """Reads input without echoing it."""
        return _typed(getpass, question)

    def show_panel(self, manager: "DownloadManager", *, beside: bool) -> bool:
        """Shows the live panel; False in a terminal, which has none."""
        if getattr(self._shell, "kernel", None) is None:
            return False
        from gglib_nb.notebook.panel import Panel

        if self._panel is None or not self._panel.is_open or self._panel.manager is not manager:
            self.close()
            self._panel = Panel(manager)
        if not beside:
            display(self._panel)
            return True
        try:
            sidecar = importlib.import_module("sidecar").Sidecar
        except ImportError:
            self.print(_NO_SIDECAR)
            return True
        self._close_sidecar()  # opening a new sidecar brings it to the front, even if the user closed the old one
        self._sidecar = sidecar(title="Downloads")
        with self._sidecar:
            display(self._panel)
        return True

    def show(self, answer: Answer) -> None:
        """Shows the result of a verb."""
        if answer.value is not None or not answer.text:
            return
        if answer.html is None:
            self.print(answer.text)
        else:
            text = encodable(answer.text, sys.stdout) if self._is_terminal else answer.text
            display({"text/plain": text, "text/html": answer.html}, raw=True)

    def print(self, text: str) -> None:
        """Prints a text to the cell or the terminal."""
        print(encodable(text, sys.stdout))  # noqa: T201 - a magic's answer

    def close(self) -> None:
        """Closes the panel."""
        self._close_sidecar()
        if self._panel is not None:
            self._panel.close()
            self._panel = None

    def _close_sidecar(self) -> None:
        if self._sidecar is not None:
            self._sidecar.close()
            self._sidecar = None


@dataclass(eq=False)
class Session:
    """One kernel's use of `%gguf`."""

    find_manager: "Callable[[], DownloadManager]"  # called by the first line that needs the manager
    screen: Screen = field(default_factory=Screen)
    has_manager: Callable[[], bool] = lambda: True  # if the manager exists, some settings cannot be changed
    known_manager: "DownloadManager | None" = None  # if a line has already used it
    rows: tuple[DownloadId, ...] = ()  # the repositories and variants of the last such table
    models: tuple[str, ...] = ()  # the ids of the last table of models
    partials: tuple[str, ...] = ()  # the targets of the last table of unfinished downloads
    seen: dict[DownloadId, None] = field(default_factory=dict)  # the repositories and variants named or listed
    _shown_notices: set[str] = field(default_factory=set)

    @property
    def manager(self) -> "DownloadManager":
        """The manager; the first use resumes the downloads of earlier kernels."""
        manager = self.find_manager()
        if manager is not self.known_manager:
            self.adopt(manager)
        return manager

    @property
    def sync(self) -> "SyncOperations":
        """The manager's operations."""
        return self.manager.sync

    @property
    def known_snapshot(self) -> QueueSnapshot | None:
        """The queue for completions, which create no manager: that would resume the downloads of earlier kernels."""
        return None if self.known_manager is None else self.known_manager.snapshot

    def known_models(self) -> list[DownloadId]:
        """The registered models, for completions."""
        if self.known_manager is not None:
            with suppress(CatalogError):
                return [model.id for model in self.known_manager.catalog.models()]
        return []

    def call_with_progress(self, what: str, operation: Callable[..., _Result], *args: object) -> _Result:
        """Runs an operation that has `on_progress`, and shows what it does as a line of progress."""
        reached: deque[WorkProgress] = deque(maxlen=1)
        line = LineOutput() if self.screen.redraws else TextLine(sys.stdout)

        def show() -> None:
            if reached:
                line.show(progress_of(what, reached[-1]))

        try:
            return settled(self.manager.submit(operation, *args, on_progress=reached.append), show)
        finally:
            line.close()

    def answer(self, *blocks: Block) -> Answer:
        """An answer with these blocks."""
        return Answer(blocks_text(blocks, self.screen.width), blocks_html(blocks))

    def refusal(self, question: str, command: str, *, is_confirmed: bool = False) -> Answer | None:
        """Asks before something is deleted; None if the user agrees. Suggests the command if no user can answer."""
        if is_confirmed:
            return None
        if not self.screen.can_ask:
            return Answer(f"{question} Nothing was deleted. To delete: {command}")
        return None if self.screen.ask(question) else Answer("Nothing was deleted.")

    def new_notices(self, manager: "DownloadManager") -> list[QueueNotice]:
        """The manager's notices that no line of this kernel has shown yet."""
        notices = manager.snapshot.notices
        new = [one for one in notices if one.text not in self._shown_notices and one.kind != "partials"]
        self._shown_notices |= {one.text for one in notices}
        return new

    def adopt(self, manager: "DownloadManager") -> None:
        """Resumes the downloads of earlier kernels."""
        with suppress(TimeoutError):
            manager.submit(manager.sync.adopt).result(_ADOPT_S)
        self.known_manager = manager

    def list_rows(self, rows: Iterable[DownloadId]) -> None:
        """Stores the rows of a table of repositories or variants, so that lines can refer to them by number."""
        self.rows = tuple(rows)
        for id_ in self.rows:
            self.note(id_)

    def note(self, id_: DownloadId) -> None:
        """Adds a repository or a variant to the completions."""
        self.seen[DownloadId(id_.repo_id)] = None
        self.seen[id_] = None
