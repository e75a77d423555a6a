"""What Tab offers after `%gguf`: verbs, options and their values, and what each verb says its words can be.

Pure text over what is known already: pressing a key sends no request.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook.verb import VERBS, Option, Verb, all_verbs

if TYPE_CHECKING:
    from gglib_nb.domain.download import QueueSnapshot

# Also after an assignment: `p = %gguf path …`.
_LINE: Final = re.compile(r"\s*(?:[\w, ]+=\s*)?%gguf\s+(.*)")
# Without the percent sign, where IPython's automagic allows that.
_AUTOMAGIC_LINE: Final = re.compile(r"\s*gguf\s+(.*)")


def _no_models() -> tuple[DownloadId, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Tab:
    """What is known when Tab is pressed.

    Attributes:
        snapshot: The queue; None while there is no manager.
        seen: Repositories and variants that were shown in this kernel.
        read_models: Gives the registered models; called only where they are offered.
        fragment: The word before the cursor, as far as it is typed.
        given: The words before that are no options.
    """

    snapshot: "QueueSnapshot | None" = None
    seen: tuple[DownloadId, ...] = ()
    read_models: Callable[[], Sequence[DownloadId]] = _no_models
    fragment: str = ""
    given: tuple[str, ...] = ()

    @property
    def models(self) -> Sequence[DownloadId]:
        """The registered models."""
        return self.read_models()


def words_before(before_cursor: str, *, has_automagic: bool = False) -> list[str] | None:
    """The words after `%gguf` up to the cursor, the last one as far as it is typed; None where the line is another's.

    Args:
        before_cursor: The line up to the cursor.
        has_automagic: Whether the percent sign may be left out.
    """
    found = _LINE.fullmatch(before_cursor)
    if found is not None:
        return re.split(r"\s+", found[1])
    found = _AUTOMAGIC_LINE.fullmatch(before_cursor) if has_automagic else None
    if found is None:
        return None
    words = re.split(r"\s+", found[1])
    # `gguf = 1` and `gguf in names` are Python.
    is_ours = words[0] in VERBS if len(words) > 1 else any(verb.startswith(words[0]) for verb in VERBS)
    return words if is_ours else None


def complete(words: Sequence[str], known: Tab) -> list[str]:
    """What can take the place of the last word, best first."""
    *given, fragment = words
    if not given:
        return [verb.name for verb in all_verbs() if _continues(fragment, verb.name)]
    if given[0] not in VERBS:
        return []
    offered = _offered(VERBS[given[0]], given[1:], fragment, known)
    return [text for text in dict.fromkeys(offered) if _continues(fragment, text)]


def _continues(fragment: str, text: str) -> bool:
    """Whether the text continues the fragment; a repository may be typed without its owner."""
    typed, whole = fragment.casefold(), text.casefold()
    return whole.startswith(typed) or ("/" not in typed and whole.partition("/")[2].startswith(typed))


def _offered(verb: Verb, given: Sequence[str], fragment: str, known: Tab) -> Iterable[str]:
    words, pending = _sorted_out(verb, given)
    tab = Tab(known.snapshot, known.seen, known.read_models, fragment, tuple(words))
    if pending is not None:
        return pending.choices or pending.offers(tab)
    if fragment.startswith("-"):
        return [name for name in verb.options if name not in given]
    replacing = [name for name, (_, option) in verb.options.items() if option.replaces and not words and not given]
    return [*replacing, *_offered_words(verb, tab)]


def _offered_words(verb: Verb, tab: Tab) -> Iterable[str]:
    if not verb.arguments:
        return ()
    at = len(tab.given)
    if at < len(verb.arguments):
        return verb.arguments[at][1].offers(tab)
    last = verb.arguments[-1][1]
    return last.offers(tab) if last.takes_rest else ()


def _sorted_out(verb: Verb, given: Sequence[str]) -> tuple[list[str], Option | None]:
    """The words that are no options nor values of options, and the option whose value is to be typed now."""
    words: list[str] = []
    pending: Option | None = None
    for word in given:
        if pending is not None:
            pending = None
        elif word in verb.options:
            option = verb.options[word][1]
            pending = option if option.value else None
        elif not word.startswith("-"):
            words.append(word)
    return words, pending
