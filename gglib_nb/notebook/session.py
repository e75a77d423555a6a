"""What a verb works with: the manager, what was listed before, and the screen on which it answers. Knows no IPython."""

from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from typing_extensions import override

from gglib_nb.domain.download import QueueNotice, QueueSnapshot
from gglib_nb.domain.references import DownloadId

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager

_Result = TypeVar("_Result")
# A lock cannot be interrupted on Windows; an interrupt is noticed this late there.
_LOOK_UP_EVERY_S: Final = 0.25
# Reading what earlier kernels left takes milliseconds; a database that another program has locked must not block the cell.
_ADOPT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb says.

    Attributes:
        text: For a terminal, and the `text/plain` of a notebook; empty: nothing is shown.
        html: The same as static HTML; None where the text is enough.
        value: What the line gives as a Python value; None: nothing.
    """

    text: str = ""
    html: str | None = None
    value: str | None = None

    @override
    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str | None:
        return self.html


class ProgressLine(Protocol):
    """One line of progress."""

    def show(self, text: str, fraction: float | None) -> None:
        """Shows a text and how much is done, 0 to 1 (None unknown). May be called at any rate."""

    def close(self) -> None:
        """Ends it."""


class QueueView(Protocol):
    """Progress of downloads while a line waits for them."""

    def show(self, snapshot: QueueSnapshot) -> None:
        """Shows the queue as it is. May be called at any rate."""

    def close(self) -> None:
        """Ends it."""


class NoProgress:
    """Shows nothing, for either protocol."""

    def show(self, *_shown: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Screen:
    """Where a verb answers. This one has no user and shows nothing; `magic` has the one of a shell."""

    @property
    def width(self) -> int | None:
        """Columns of characters that text keeps to; None: any."""
        return None

    @property
    def can_ask(self) -> bool:
        """Whether a user can answer a question."""
        return False

    def ask(self, question: str) -> bool:
        """Whether the user says yes; False where there is none."""
        del question
        return False

    def ask_secret(self, question: str) -> str:
        """What the user types, which is not shown; empty where there is no user."""
        del question
        return ""

    def progress_line(self) -> ProgressLine:
        """Starts a line of progress."""
        return NoProgress()

    def queue_view(self, only: DownloadId | None) -> QueueView:
        """Starts a view of one download, or of the whole queue where None."""
        del only
        return NoProgress()

    def show_panel(self, manager: "DownloadManager", *, beside: bool) -> bool:
        """Shows the live panel; False where there is none, as in a terminal."""
        del manager, beside
        return False


class Session:
    """One kernel's use of `%gguf`.

    Args:
        find_manager: Gives the manager; called by the first line that needs it.
        screen: Where verbs answer.
        has_manager: Whether there is a manager already, which then cannot change all of its settings.

    Attributes:
        rows: Repositories and variants of the last table of those.
        models: Ids of the last table of models.
        partials: Targets of the last table of unfinished downloads.
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
        """The manager; the first use resumes what earlier kernels left."""
        manager = self._find_manager()
        if manager is not self._adopted:
            self.adopt(manager)
        return manager

    @property
    def known_manager(self) -> "DownloadManager | None":
        """The manager where a line has used it before."""
        return self._adopted

    @property
    def has_manager(self) -> bool:
        """Whether there is a manager already."""
        return self._adopted is not None or self._has_manager()

    def new_notices(self, manager: "DownloadManager") -> list[QueueNotice]:
        """What the manager has to say that no line of this kernel has shown yet."""
        notices = manager.snapshot.notices
        new = [one for one in notices if one.text not in self._shown_notices and one.kind != "partials"]
        self._shown_notices |= {one.text for one in notices}
        return new

    def adopt(self, manager: "DownloadManager") -> None:
        """Resumes the downloads that earlier kernels left."""
        with suppress(TimeoutError):
            manager.submit(manager.sync.adopt).result(_ADOPT_S)
        self._adopted = manager

    @property
    def seen(self) -> tuple[DownloadId, ...]:
        """Repositories and variants that were named or listed, each once."""
        return tuple(self._seen)

    def list_rows(self, rows: Iterable[DownloadId]) -> None:
        """A table of repositories or variants was shown: its rows can be named by number from now on."""
        self.rows = tuple(rows)
        for id_ in self.rows:
            self.note(id_)

    def note(self, id_: DownloadId) -> None:
        """A repository or a variant was named: Tab offers it from now on."""
        self._seen[DownloadId(id_.repo_id)] = None
        self._seen[id_] = None


def settle(future: "Future[_Result]", meanwhile: Callable[[], None] = lambda: None) -> _Result:
    """Waits for a future on the main thread, so that an interrupt ends the wait.

    Args:
        future: Cancelled when the wait ends early, which withdraws a request that is not resolved yet.
        meanwhile: Called a few times a second.

    Raises:
        KeyboardInterrupt: The user interrupted the cell.
    """
    try:
        while not future.done():
            futures.wait([future], timeout=_LOOK_UP_EVERY_S)
            meanwhile()
    except BaseException:
        future.cancel()
        raise
    return future.result()
