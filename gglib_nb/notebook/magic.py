"""`%gguf` in a shell: reads a line, runs its verb, shows the result. The only module that uses IPython's magics and completer.

A magic runs on the main thread and blocks on the manager's futures; it never runs or patches an event loop. Grammar errors
become `UsageError`, and errors of this package are shown in one line; any other exception is a bug and keeps its traceback.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from IPython.core import completer
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class
from traitlets import Bool, Integer, TraitType, Unicode
from traitlets.config import Configurable
from typing_extensions import override

from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.text import printable
from gglib_nb.errors import CatalogError, GglibError, copy_of
from gglib_nb.manager.progress import use_views
from gglib_nb.notebook.progress import download_in_cell
from gglib_nb.notebook.session import Screen, Session
from gglib_nb.notebook.verb import GrammarError, Tab, complete, words_before
from gglib_nb.notebook.verbs import parse
from gglib_nb.settings import SETTINGS, use_profile

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult

    from gglib_nb.manager.manager import DownloadManager

_NAME: Final = "gguf"


@magics_class
class GgufMagics(Magics):
    """The magic, and the magic that it replaced; `find_manager` is called by the first line that needs the manager."""

    def __init__(self, shell: InteractiveShell, find_manager: "Callable[[], DownloadManager]") -> None:
        super().__init__(shell)
        self._shell = shell
        self._screen = Screen(shell)
        self._session = Session(find_manager, self._screen, _has_manager)
        self._replaced: Any = None
        self._completer: Final = LineCompleter(shell, self._offered)

    @line_magic
    def gguf(self, line: str) -> str | None:
        """Downloads GGUF models. `%gguf help` lists the verbs; alone it shows the panel."""
        with _one_line_errors():
            call = parse(line)
            try:
                answer = call.run(self._session)
            except KeyboardInterrupt:
                raise _in_one_line(KeyboardInterrupt(call.verb.interrupted)) from None
            finally:
                self._show_notices()
            self._screen.show(answer)
            return answer.value

    def _show_notices(self) -> None:
        """Prints each notice of the manager once; the panel shows it too."""
        if (manager := self._session.known_manager) is not None:
            for notice in self._session.new_notices(manager):
                self._screen.print(printable(notice.text))

    def install(self) -> None:
        """Registers `%gguf` and its completions."""
        magics = self._shell.magics_manager
        self._replaced = (magics.magics["line"].get(_NAME), magics.registry.get(type(self).__name__))
        magics.register(self)
        self._completer.join()

    def uninstall(self) -> None:
        """Restores the previous magic of this name and closes the panel. Downloads continue."""
        magics = self._shell.magics_manager
        for table, name, before in zip(
            (magics.magics["line"], magics.registry), (_NAME, type(self).__name__), self._replaced, strict=True
        ):
            table.pop(name, None)
            if before is not None:
                table[name] = before
        self._completer.leave()
        self._screen.close()

    def _offered(self, before_cursor: str) -> tuple[str, list[str]] | None:
        has_automagic = self._shell.magics_manager.auto_magic and _NAME not in self._shell.user_ns
        words = words_before(before_cursor, has_automagic=has_automagic)
        return None if words is None else (words[-1], complete(words, self._known()))

    def _known(self) -> Tab:
        # Completion must not create a manager: that would resume the downloads of earlier kernels.
        manager = self._session.known_manager
        if manager is None:
            return Tab(seen=self._session.seen)

        def read_models() -> list[DownloadId]:
            with suppress(CatalogError):
                return [model.id for model in manager.catalog.models()]
            return []

        return Tab(manager.snapshot, self._session.seen, read_models)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Shows an error that a user can correct in one line; keeps its class, attributes and cause."""
    try:
        yield
    except GrammarError as error:
        # No subclass: IPython compares with `is`, and prints the traceback of a subclass (ipython#14024).
        raise UsageError(str(error)) from None
    except GglibError as error:
        raise _in_one_line(error) from error.__cause__


def _in_one_line(error: BaseException) -> BaseException:
    """A copy that IPython shows as `Name: message`."""
    shown = copy_of(error)
    line = f"{type(error).__name__}: {printable(str(error))}"
    vars(shown)["_render_traceback_"] = lambda: [line]
    return shown


# Completion ------------------------------------------------------------------------------------------------------


class LineCompleter:
    """Completes `%gguf` lines, and suppresses Python and file completions there.

    Uses the matcher API of the running IPython: context matchers since 8.6, line matchers before. `offer` returns the text to replace
    and its replacements, or None for any other line; it must not block.
    """

    def __init__(self, shell: InteractiveShell, offer: Callable[[str], tuple[str, list[str]] | None]) -> None:
        self._completer: Any = shell.Completer  # the attributes used here are untyped and differ between versions
        self._offer: Final = offer
        if hasattr(completer, "context_matcher"):
            self._matchers: list[Any] = self._completer.custom_matchers
            # It gets attributes, which a method cannot.
            self._matcher = completer.context_matcher()(lambda context: self._match(context))  # noqa: PLW0108
        else:
            self._matchers = self._completer.magic_arg_matchers
            self._matcher = self._match_line

    def join(self) -> None:
        """Registers the matcher."""
        self._matchers.append(self._matcher)

    def leave(self) -> None:
        """Removes the matcher."""
        with suppress(ValueError):
            self._matchers.remove(self._matcher)

    def _match(self, context: "CompletionContext") -> "SimpleMatcherResult":
        found = self._offer(context.text_until_cursor)
        if found is None:
            return {"completions": []}
        fragment, texts = found
        offered = [completer.SimpleCompletion(text, type="keyword") for text in texts] or _NothingElse()
        return {"completions": offered, "matched_fragment": fragment, "suppress": True, "ordered": True}

    def _match_line(self, _line: str) -> list[str]:
        """The replacements for the last word; IPython before 8.6 calls no other matcher unless this is empty."""
        before_cursor: str = self._completer.text_until_cursor
        found = self._offer(before_cursor)
        if found is None:
            return []
        fragment, texts = found
        word: str = self._completer.splitter.split_line(before_cursor)
        return [text[len(fragment) - len(word) :] for text in texts] or [word]


class _NothingElse(list["SimpleCompletion"]):
    """An empty result that suppresses other matchers: IPython does that only if a matcher reports completions."""

    @override
    def __len__(self) -> int:
        return 1


# Loading ---------------------------------------------------------------------------------------------------------


def _trait(name: str) -> "TraitType[Any, Any]":
    kinds: dict[type, type[TraitType[Any, Any]]] = {str: Unicode, int: Integer, bool: Bool}
    return kinds[SETTINGS[name].type](None, allow_none=True, help=SETTINGS[name].summary).tag(config=True)


Gglib: Final[type[Configurable]] = type("Gglib", (Configurable,), {name: _trait(name) for name in SETTINGS})
"""The settings of `DownloadManagerConfig` in the profile of IPython: `c.Gglib.max_concurrent = 2`; None sets nothing."""


def _manager_of_kernel() -> "DownloadManager":
    from gglib_nb.notebook.shortcuts import get_manager

    return get_manager()


def _has_manager() -> bool:
    from gglib_nb.manager.manager import existing_manager

    manager = existing_manager()
    return manager is not None and not manager.is_closed


def load(shell: InteractiveShell, find_manager: "Callable[[], DownloadManager]" = _manager_of_kernel) -> None:
    """Registers `%gguf`; repeated calls have no effect. Starts nothing and prints nothing."""
    if _loaded(shell) is None:
        profile = Gglib(parent=shell)
        use_profile({name: value for name in SETTINGS if (value := getattr(profile, name)) is not None})
        use_views(download_in_cell)
        GgufMagics(shell, find_manager).install()


def unload(shell: InteractiveShell) -> None:
    """Restores the state before `load`; without it, does nothing. Downloads continue."""
    if (magics := _loaded(shell)) is not None:
        magics.uninstall()


def _loaded(shell: InteractiveShell) -> GgufMagics | None:
    magics = shell.magics_manager.registry.get(GgufMagics.__name__)
    return magics if isinstance(magics, GgufMagics) else None
