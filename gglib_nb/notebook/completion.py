"""Tab completion after `%gguf`: verbs, options and their values, and the values that each verb offers for its arguments.

Pure, and uses only data that is in memory: a keystroke sends no request.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook.verb import VERBS, Option, Verb, all_verbs

if TYPE_CHECKING:
    from gglib_nb.domain.download import QueueSnapshot

# Also after an assignment: `p = %gguf path …`.
_LINE: Final = re.compile(r"\s*(?:[\w, ]+=\s*)?%gguf\s+(.*)")
# Without the percent sign, if IPython's automagic is on.
_AUTOMAGIC_LINE: Final = re.compile(r"\s*gguf\s+(.*)")


@dataclass(frozen=True, slots=True)
class Tab:
    """The data available for a completion."""

    snapshot: "QueueSnapshot | None" = None  # None before the manager's first use
    seen: tuple[DownloadId, ...] = ()  # repositories and variants that were shown in this kernel
    models: Callable[[], Sequence[DownloadId]] = tuple  # the registered models; called only if they are offered
    fragment: str = ""  # the incomplete word before the cursor
    given: tuple[str, ...] = ()  # the words before the fragment, without options


def words_before(before_cursor: str, *, has_automagic: bool = False) -> list[str] | None:
    """The words after `%gguf` up to the cursor, the last one possibly incomplete; None for any other line.

    Args:
        before_cursor: The line up to the cursor.
        has_automagic: Whether the percent sign is optional.
    """
    if (found := _LINE.fullmatch(before_cursor)) is not None:
        return re.split(r"\s+", found[1])
    found = _AUTOMAGIC_LINE.fullmatch(before_cursor) if has_automagic else None
    if found is None:
        return None
    words = re.split(r"\s+", found[1])
    # `gguf = 1` and `gguf in names` are Python code.
    is_verb = words[0] in VERBS if len(words) > 1 else any(verb.startswith(words[0]) for verb in VERBS)
    return words if is_verb else None


def complete(words: Sequence[str], known: Tab) -> list[str]:
    """The replacements for the last word, best first."""
    *given, fragment = words
    if not given:
        return [verb.name for verb in all_verbs() if _continues(fragment, verb.name)]
    if given[0] not in VERBS:
        return []
    offered = _offered(VERBS[given[0]], given[1:], replace(known, fragment=fragment))
    return [text for text in dict.fromkeys(offered) if _continues(fragment, text)]


def _continues(fragment: str, text: str) -> bool:
    """Whether the text continues the fragment; a repository may be typed without its owner."""
    typed, whole = fragment.casefold(), text.casefold()
    return whole.startswith(typed) or ("/" not in typed and whole.partition("/")[2].startswith(typed))


def _offered(verb: Verb, given: Sequence[str], known: Tab) -> Iterable[str]:
    words, option = _parsed(verb, given)
    tab = replace(known, given=tuple(words))
    if option is not None:
        return option.choices or option.offers(tab)
    if tab.fragment.startswith("-"):
        return [name for name in verb.options if name not in given]
    replacing = [name for name, (_, each) in verb.options.items() if each.replaces and not given]
    if not verb.arguments:
        return replacing
    argument = verb.arguments[min(len(words), len(verb.arguments) - 1)][1]
    is_full = len(words) >= len(verb.arguments) and not (argument.takes_rest or argument.is_repeated)
    return [*replacing, *(() if is_full else argument.offers(tab))]


def _parsed(verb: Verb, given: Sequence[str]) -> tuple[list[str], Option | None]:
    """The words that are neither options nor their values, and the option whose value comes next."""
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
