"""The context of a verb: the manager, the last tables, and the screen that shows the answer. Independent of IPython."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, TypeVar

from typing_extensions import override

from gglib_nb.domain.download import QueueNotice, QueueSnapshot
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook import formats
from gglib_nb.notebook.tables import Block, blocks_html, blocks_text

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager, SyncOperations

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_State = TypeVar("_State")
_Shown_contra = TypeVar("_Shown_contra", contravariant=True)
# On Windows waiting for a lock cannot be interrupted: the delay until an interrupt is noticed.
_POLL_S: Final = 0.25
# Reading the queues of earlier kernels takes milliseconds; a database locked by another program must not block the cell.
_ADOPT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a verb."""

    text: str = ""  # for a terminal, and the `text/plain` of a notebook; empty shows nothing
    html: str | None = None  # the same as static HTML; None if the text is enough
    value: str | None = None  # the Python value of the line

    @override
    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str | None:
        return self.html


class View(Protocol[_Shown_contra]):
    """Shows progress while a line waits."""

    def show(self, state: _Shown_contra, /) -> None:
        """Shows the latest state. May be called at any rate."""

    def close(self) -> None:
        """Ends the progress output."""


Progress = tuple[str, float | None]
"""A text, and the completed fraction, 0 to 1 (None: unknown)."""


def progress_of(what: str, done_bytes: int, total_bytes: int) -> Progress:
    """How much of it is done."""
    amount = f"{formats.size(done_bytes)} of {formats.size(total_bytes)}"
    return f"{what}  {amount}", done_bytes / total_bytes if total_bytes else None


class _NoView:
    def show(self, _state: object, /) -> None:
        pass

    def close(self) -> None:
        pass


class Screen:
    """Shows the output of verbs. This one has no user and shows nothing; `magic` has the screen of a shell."""

    @property
    def width(self) -> int | None:
        """The maximum width of text in columns; None: unlimited."""
        return None

    @property
    def can_ask(self) -> bool:
        """Whether a user can answer a question."""
        return False

    def ask(self, _question: str, /) -> bool:
        """Whether the user answers yes; False without a user."""
        return False

    def ask_secret(self, _question: str, /) -> str:
        """Reads input without echoing it; empty without a user."""
        return ""

    def progress_line(self) -> View[Progress]:
        """Starts a line of progress."""
        return _NoView()

    def queue_view(self, _only: DownloadId | None, /) -> View[QueueSnapshot]:
        """Starts a view of one download; None: the whole queue."""
        return _NoView()

    def show_panel(self, manager: "DownloadManager", *, beside: bool) -> bool:
        """Shows the live panel; False in a terminal, which has none."""
        del manager, beside
        return False


class Session:
    """One kernel's use of `%gguf`.

    Args:
        find_manager: Returns the manager; called by the first line that needs it.
        screen: Shows the output of verbs.
        has_manager: Whether the manager exists; then some of its settings cannot be changed.

    Attributes:
        rows: The repositories and variants of the last such table.
        models: The ids of the last table of models.
        partials: The targets of the last table of unfinished downloads.
    """

    def __init__(
        self,
        find_manager: "Callable[[], DownloadManager]",
        screen: Screen | None = None,
        has_manager: Callable[[], bool] = lambda: True,
    ) -> None:
        self.screen: Final = screen or Screen()
        self.rows: tuple[DownloadId, ...] = ()
        self.models: tuple[str, ...] = ()
        self.partials: tuple[str, ...] = ()
        self._find_manager: Final = find_manager
        self._has_manager: Final = has_manager
        self._adopted: DownloadManager | None = None
        self._seen: dict[DownloadId, None] = {}
        self._shown_notices: set[str] = set()

    @property
    def manager(self) -> "DownloadManager":
        """The manager; the first use resumes the downloads of earlier kernels."""
        manager = self._find_manager()
        if manager is not self._adopted:
            self.adopt(manager)
        return manager

    @property
    def sync(self) -> "SyncOperations":
        """The manager's operations, for `call`."""
        return self.manager.sync

    def call(
        self, operation: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Runs an operation on one of the manager's threads, and waits for it with `settle`."""
        return settle(self.manager.submit(operation, *args, **kwargs))

    def call_with_progress(
        self, describe: Callable[[_State], Progress], operation: Callable[..., _Result], *args: object
    ) -> _Result:
        """Like `call`, for an operation with `on_progress`; shows a line of progress.

        Args:
            describe: Returns the text for a state that the operation reports.
            operation: The operation to run.
            args: Its arguments, without `on_progress`.
        """
        reached: deque[_State] = deque(maxlen=1)
        line = self.screen.progress_line()

        def show() -> None:
            if reached:
                line.show(describe(reached[-1]))

        try:
            return settle(self.manager.submit(operation, *args, on_progress=reached.append), show)
        finally:
            line.close()

    def answer(self, *blocks: Block) -> Answer:
        """An answer with these blocks."""
        return Answer(blocks_text(blocks, self.screen.width), blocks_html(blocks))

    def refusal(self, question: str, command: str, *, is_confirmed: bool = False) -> Answer | None:
        """Asks before something is deleted; None if the user agrees.

        Args:
            question: The question, with what would be deleted.
            command: The command to suggest if no user can answer.
            is_confirmed: Whether the user has already confirmed.
        """
        if is_confirmed:
            return None
        if not self.screen.can_ask:
            return Answer(f"{question} Nothing was deleted. To delete: {command}")
        return None if self.screen.ask(f"{question} Delete? [y/N] ") else Answer("Nothing was deleted.")

    @property
    def known_manager(self) -> "DownloadManager | None":
        """The manager if a line has already used it, otherwise None."""
        return self._adopted

    @property
    def has_manager(self) -> bool:
        """Whether the manager exists."""
        return self._adopted is not None or self._has_manager()

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
        self._adopted = manager

    @property
    def seen(self) -> tuple[DownloadId, ...]:
        """The repositories and variants that were named or listed, without duplicates."""
        return tuple(self._seen)

    def list_rows(self, rows: Iterable[DownloadId]) -> None:
        """Stores the rows of a table of repositories or variants, so that lines can refer to them by number."""
        self.rows = tuple(rows)
        for id_ in self.rows:
            self.note(id_)

    def note(self, id_: DownloadId) -> None:
        """Adds a repository or a variant to the completions."""
        self._seen[DownloadId(id_.repo_id)] = None
        self._seen[id_] = None


def settle(future: "Future[_Result]", meanwhile: Callable[[], None] = lambda: None) -> _Result:
    """Waits for a future on the main thread; an interrupt ends the wait.

    Args:
        future: Cancelled if the wait ends early; that withdraws a request that is not resolved yet.
        meanwhile: Called a few times a second.

    Raises:
        KeyboardInterrupt: The user interrupted the cell.
    """
    try:
        while not future.done():
            futures.wait([future], timeout=_POLL_S)
            meanwhile()
    except BaseException:
        future.cancel()
        raise
    return future.result()
