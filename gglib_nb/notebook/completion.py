"""What Tab offers after `%gguf`: verbs, options, ids in the queue, repositories seen and their variants.

Pure text over what is known here already; a key press asks nothing of the Hub.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from gglib_nb.domain.companions import COMPANION_KINDS
from gglib_nb.domain.download import DownloadStatus, QueueSnapshot
from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook.arguments import VERBS, options_of
from gglib_nb.notebook.commands import SortKey
from gglib_nb.notebook.model_grammar import ORDERS, STATES
from gglib_nb.settings import SETTINGS

# Also behind an assignment: `p = %gguf path …`.
_LINE: Final = re.compile(r"\s*(?:[\w, ]+=\s*)?%gguf\s+(.*)")
_AFTER_OPTION: Final[dict[str, tuple[str, ...]]] = {
    "--with": COMPANION_KINDS,
    "--sort": get_args(SortKey),
    "--revision": (),
    "--context": ("4096", "8192", "32768"),
    "--max-size": (),
    "--limit": (),
    "--hours": ("off", "22:00-07:00"),
    "--only": STATES,
    "--for": PROGRAMS,
}
# Of a verb that has an option under a name that another verb has too.
_AFTER_OPTION_OF: Final[dict[tuple[str, str], tuple[str, ...]]] = {("models", "--sort"): ORDERS}
_SECOND_WORDS: Final = {"move": ("top", "up", "down", "last")}
_FOLDER_SETTINGS: Final = frozenset({"models_directory", "state_directory", "hub_cache"})
_FIRST_WORDS: Final = {"bandwidth": ("off",), "retry": ("--all",), "cancel": ("--all",), "verify": ("--all",)}


@dataclass(frozen=True, slots=True)
class Known:
    """What may be offered.

    Attributes:
        snapshot: The queue; None while there is no manager.
        seen: Repositories and variants that were shown in this kernel.
        models: Registered models.
    """

    snapshot: QueueSnapshot | None = None
    seen: tuple[DownloadId, ...] = ()
    models: tuple[DownloadId, ...] = field(default=())


def is_ours(before_cursor: str) -> bool:
    """Whether the line up to the cursor is one of `%gguf`."""
    return _LINE.fullmatch(before_cursor) is not None


def takes_models(before_cursor: str) -> bool:
    """Whether registered models may be offered here, so that they are read only then."""
    found = _LINE.fullmatch(before_cursor)
    words = found[1].split() if found else []
    return bool(words) and words[0] in VERBS and VERBS[words[0]].takes in ("model", "repository")


def takes_folder(before_cursor: str) -> bool:
    """Whether a folder is to be named here; folders are not known here."""
    found = _LINE.fullmatch(before_cursor)
    match re.split(r"\s+", found[1]) if found else []:
        case [verb, _]:
            return verb in VERBS and VERBS[verb].takes == "folder"
        case ["config", setting, _]:
            return setting in _FOLDER_SETTINGS
        case _:
            return False


def complete(before_cursor: str, known: Known) -> tuple[str, list[str]]:
    """The fragment before the cursor, and what could stand in its place, best first."""
    found = _LINE.fullmatch(before_cursor)
    if found is None:
        return "", []
    *words, fragment = re.split(r"\s+", found[1])
    offered = _offered(words, fragment, known)
    return fragment, [text for text in dict.fromkeys(offered) if _goes_on(fragment, text)]


def _goes_on(fragment: str, text: str) -> bool:
    """With the text itself, or with a repository's name without its owner."""
    typed, whole = fragment.casefold(), text.casefold()
    return whole.startswith(typed) or ("/" not in typed and whole.partition("/")[2].startswith(typed))


def _offered(words: Sequence[str], fragment: str, known: Known) -> Iterable[str]:
    if not words:
        return VERBS
    verb, *given = words
    if verb not in VERBS:
        return ()
    if given and given[-1] in _AFTER_OPTION:
        return _AFTER_OPTION_OF.get((verb, given[-1]), _AFTER_OPTION[given[-1]])
    if fragment.startswith("-"):
        return [option for option in options_of(verb) if option not in given]
    return _places(verb, _count_places(given), fragment, known)


def _places(verb: str, place: int, fragment: str, known: Known) -> Iterable[str]:
    if place == 0:
        return [*_FIRST_WORDS.get(verb, ()), *_first(VERBS[verb].takes, fragment, known)]
    return _SECOND_WORDS.get(verb, ()) if place == 1 else ()


def _count_places(given: Sequence[str]) -> int:
    """How many words are no option and no option's value."""
    before = ["", *given]
    return sum(
        not word.startswith("-") and last not in _AFTER_OPTION for last, word in zip(before, given, strict=False)
    )


def _first(takes: str, fragment: str, known: Known) -> Iterable[str]:
    if takes == "verb":
        return VERBS
    if takes == "setting":
        return SETTINGS
    if takes == "model":
        return [*map(str, known.models), *_ended(known.snapshot)]
    if takes == "repository":
        return _repositories(fragment, known)
    return _queued(takes, known.snapshot)


def _queued(takes: str, snapshot: QueueSnapshot | None) -> list[str]:
    if snapshot is None:
        return []
    if takes == "failed":
        return [str(item.id) for item in snapshot.recent_failures]
    return [str(item.id) for item in snapshot.items if _is_wanted(takes, item.status)]


def _is_wanted(takes: str, status: DownloadStatus) -> bool:
    match takes:
        case "live":
            return True
        case "pending":
            return status.is_pending
        case "paused":
            return status is DownloadStatus.PAUSED
        case _:
            return False


def _ended(snapshot: QueueSnapshot | None) -> list[str]:
    return [] if snapshot is None else [str(item.id) for item in snapshot.recent_completed]


def _repositories(fragment: str, known: Known) -> list[str]:
    """Repositories; and the variants of one once its name stands there."""
    snapshot = known.snapshot
    queued = () if snapshot is None else (*snapshot.items, *snapshot.recent_failures, *snapshot.recent_cancelled)
    ids = [*known.seen, *(item.id for item in queued), *known.models]
    typed = fragment.partition(":")[0].partition("@")[0].casefold()
    names = [str(id_) for id_ in ids if id_.repo_id.casefold() == typed]
    return [*names, *(id_.repo_id for id_ in ids)]
