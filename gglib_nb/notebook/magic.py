"""`%gguf` in a shell: reads a line, runs its verb, shows the result. Only here are IPython's magics and completer used.

A magic runs on the main thread and blocks on the manager's futures; it never runs or patches an event loop. Grammar
errors become `UsageError`, and this package's errors are shown in one line; others are bugs and keep their traceback.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from IPython.core import completer
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets.config import Configurable
from typing_extensions import override

from gglib_nb.domain.text import printable, redacted
from gglib_nb.errors import GglibError, copy_of
from gglib_nb.manager.calls import is_interrupt
from gglib_nb.manager.progress import encodable, use_views
from gglib_nb.notebook.progress import download_in_cell
from gglib_nb.notebook.session import Answer, Screen, Session
from gglib_nb.notebook.verb import Call, GrammarError, complete, words_before
from gglib_nb.notebook.verbs import parse
from gglib_nb.settings import SETTINGS, use_profile

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult

    from gglib_nb.manager.manager import DownloadManager

_NAME: Final = "gguf"


class GgufMagics:
    """The magic with its completions, and the magic that it replaced.

    Uses the matcher API of the running IPython: context matchers since 8.6, line matchers before.
    """

    def __init__(self, shell: InteractiveShell, find_manager: "Callable[[], DownloadManager]") -> None:
        self._shell: Any = shell  # some of the attributes used here are untyped and differ between versions
        self._session = Session(find_manager, Screen(shell), _has_manager)
        self._replaced: Any = None
        if hasattr(completer, "context_matcher"):
            self._matchers: list[Any] = self._shell.Completer.custom_matchers
            # It gets attributes, which a method cannot.
            self._matcher = completer.context_matcher()(lambda context: self._match(context))  # noqa: PLW0108
        else:
            self._matchers = self._shell.Completer.magic_arg_matchers
            self._matcher = self._match_line

    def gguf(self, line: str) -> str | None:
        """Downloads GGUF models. `%gguf help` lists the verbs; alone it shows the panel."""
        try:
            answer = self._answer(parse(line))
        except GrammarError as error:
            # No subclass: IPython compares with `is`, and prints the traceback of a subclass (ipython#14024).
            raise UsageError(redacted(str(error))) from None  # a token typed as an argument
        except GglibError as error:
            raise in_one_line(error) from error.__cause__
        return answer.value

    def _answer(self, call: Call) -> Answer:
        try:
            try:
                answer = call.run(self._session)
            finally:
                if (manager := self._session.known_manager) is not None:
                    for notice in self._session.new_notices(manager):
                        self._session.screen.print(printable(notice.text))
            self._session.screen.show(answer)
        except (KeyboardInterrupt, RuntimeError) as error:
            if not is_interrupt(error):
                raise
            raise in_one_line(KeyboardInterrupt(call.verb.interrupted)) from None
        return answer

    def install(self) -> None:
        """Registers `%gguf` and its completions."""
        line_magics = self._shell.magics_manager.magics["line"]
        self._replaced = line_magics.get(_NAME)
        line_magics[_NAME] = self.gguf
        self._matchers.append(self._matcher)

    def uninstall(self) -> None:
        """Restores the previous magic of this name and closes the panel. Downloads continue."""
        line_magics = self._shell.magics_manager.magics["line"]
        line_magics.pop(_NAME, None)
        if self._replaced is not None:
            line_magics[_NAME] = self._replaced
        with suppress(ValueError):
            self._matchers.remove(self._matcher)
        self._session.screen.close()

    def _match(self, context: "CompletionContext") -> "SimpleMatcherResult":
        """Completes a `%gguf` line, and suppresses Python and file completions there."""
        words = self._words(context.text_until_cursor)
        if words is None:
            return {"completions": []}
        texts = complete(words, self._session)
        offered = [completer.SimpleCompletion(text, type="keyword") for text in texts] or _NothingElse()
        return {"completions": offered, "matched_fragment": words[-1], "suppress": True, "ordered": True}

    def _match_line(self, _line: str) -> list[str]:
        """The replacements for the last word; IPython before 8.6 calls no other matcher unless this is empty."""
        before_cursor: str = self._shell.Completer.text_until_cursor
        words = self._words(before_cursor)
        if words is None:
            return []
        word: str = self._shell.Completer.splitter.split_line(before_cursor)
        return [text[len(words[-1]) - len(word) :] for text in complete(words, self._session)] or [word]

    def _words(self, before_cursor: str) -> list[str] | None:
        has_automagic = self._shell.magics_manager.auto_magic and _NAME not in self._shell.user_ns
        return words_before(before_cursor, has_automagic=has_automagic)


def in_one_line(error: BaseException) -> BaseException:
    """A copy that IPython shows as `Name: message`, without tokens; keeps its class and attributes."""
    shown, text = copy_of(error), redacted(str(error))
    shown.args = (text, *error.args[1:])  # the kernel sends it beside the line
    line = encodable(f"{type(error).__name__}: {printable(text)}", sys.stdout)
    vars(shown)["_render_traceback_"] = lambda: [line]
    return shown


class _NothingElse(list["SimpleCompletion"]):
    """An empty result that suppresses other matchers: IPython does that only if a matcher reports completions."""

    @override
    def __len__(self) -> int:
        return 1


# Loading ---------------------------------------------------------------------------------------------------------


_TRAITS: Final = {name: AnyTrait(help=setting.summary).tag(config=True) for name, setting in SETTINGS.items()}
Gglib: Final[type[Configurable]] = type("Gglib", (Configurable,), dict[str, Any](_TRAITS))
"""The settings of `DownloadManagerConfig` in an IPython profile: `c.Gglib.max_concurrent = 2`; None sets nothing."""


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
    owner = getattr(shell.magics_manager.magics["line"].get(_NAME), "__self__", None)
    return owner if isinstance(owner, GgufMagics) else None
