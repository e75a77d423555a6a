"""Joins IPython's completer in the way that the running IPython has: matchers with a context since 8.6, of lines before.

Knows how completions are handed over; what is offered comes from `completion`.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from IPython.core import completer
from IPython.core.interactiveshell import InteractiveShell
from typing_extensions import override

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult

# The line up to the cursor → the end of it that is replaced, and what may stand there; None on another's line.
Offer = Callable[[str], tuple[str, list[str]] | None]


class LineCompleter:
    """Offers completions for the lines that are ours, and suppresses those of Python and of files there."""

    def __init__(self, shell: InteractiveShell, offer: Offer) -> None:
        """Join nothing yet.

        Args:
            shell: The running IPython.
            offer: What to offer for a line up to the cursor; must answer from memory.
        """
        self._shell: Any = shell  # the parts used here are untyped, and differ between versions
        self._offer = offer
        self._matcher: object = None

    def join(self) -> None:
        """Offer from now on."""
        if hasattr(completer, "context_matcher"):

            @completer.context_matcher()
            def gguf(context: "CompletionContext") -> "SimpleMatcherResult":
                return self._match(context)

            self._matcher = gguf
        else:
            self._matcher = self._match_line
        self._matchers.append(self._matcher)

    def leave(self) -> None:
        """Offer no more; the completer is as it was before."""
        with suppress(ValueError):
            self._matchers.remove(self._matcher)

    @property
    def _matchers(self) -> list[object]:
        ours: Any = self._shell.Completer
        matchers: list[object] = (
            ours.custom_matchers if hasattr(completer, "context_matcher") else ours.magic_arg_matchers
        )
        return matchers

    def _match(self, context: "CompletionContext") -> "SimpleMatcherResult":
        found = self._offer(context.text_until_cursor)
        if found is None:
            return {"completions": []}
        fragment, texts = found
        offered = [completer.SimpleCompletion(text, type="keyword") for text in texts] or _NothingElse()
        return {"completions": offered, "matched_fragment": fragment, "suppress": True, "ordered": True}

    def _match_line(self, _line: str) -> list[str]:
        """What may replace the last word; IPython before 8.6 asks nothing else where this is not empty."""
        before_cursor: str = self._shell.Completer.text_until_cursor
        found = self._offer(before_cursor)
        if found is None:
            return []
        fragment, texts = found
        word: str = self._shell.Completer.splitter.split_line(before_cursor)
        kept = len(fragment) - len(word)
        return [text[kept:] for text in texts] or [word]


class _NothingElse(list["SimpleCompletion"]):
    """No completions, and none of others: IPython suppresses others only for a matcher that says it has some."""

    @override
    def __len__(self) -> int:
        return 1
