"""What a user means by the text that names a download, a model or a row. One rule for all of them. Pure.

`#2` or `2` is the second row of the list that the verb works on. Everything else is an id, or a part of an id that only
one has; case does not matter.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.references import DownloadId, parse_pasted
from gglib_nb.errors import GglibError, InvalidRepoIdError, NotInQueueError

_ROW: Final = re.compile(r"#?(\d+)", re.ASCII)
_MOST_NAMED: Final = 5
_Item = TypeVar("_Item")


def row_number(text: str) -> int | None:
    """The number of `#2` or `2`; None for every other text."""
    found = _ROW.fullmatch(text)
    return None if found is None else int(found[1])


def pick_row(number: int, rows: Sequence[_Item], error: type[GglibError], said: str) -> _Item:
    """One row of a list.

    Args:
        number: 1-based.
        rows: The list.
        error: What is raised where it has no such row.
        said: What the error says of the list, in a sentence.
    """
    if not 1 <= number <= len(rows):
        raise error(f"There is no row {number}. {said}")
    return rows[number - 1]


def matching(text: str, ids: Iterable[str]) -> list[str]:
    """The ids that a text names: the first of these rules that finds any.

    The id itself; without its revision; the repository; the same without the owner; a part of the id.
    """
    typed, known = text.strip().casefold(), list(dict.fromkeys(ids))
    for matches in _RULES:
        if found := [one for one in known if matches(typed, one.casefold())]:
            return found
    return []


def _without_revision(one: str) -> str:
    id_ = DownloadId.parse(one)
    return str(DownloadId(id_.repo_id, id_.quantization))


def _without_owner(one: str) -> str:
    return one.partition("/")[2]


_RULES: Final[tuple[Callable[[str, str], bool], ...]] = (
    lambda typed, one: typed == one,
    lambda typed, one: typed == _without_revision(one),
    lambda typed, one: typed == DownloadId.parse(one).repo_id,
    lambda typed, one: typed in (_without_owner(one), _without_owner(DownloadId.parse(one).repo_id)),
    lambda typed, one: bool(typed) and typed in one,
)


def find_one(text: str, groups: Sequence[Iterable[str]], nouns: str, where: str) -> str:
    """The one id that a text names, looked for in one group after the other.

    Args:
        text: Not the number of a row.
        groups: Ids; the first group in which one matches decides.
        nouns: What they are, such as `downloads`.
        where: The command that lists them.

    Raises:
        NotInQueueError: None matches, or several do; the text names them.
    """
    known = [list(group) for group in groups]
    for ids in known:
        found = matching(text, ids)
        if len(found) > 1:
            named = ", ".join(found[:_MOST_NAMED])
            more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            raise NotInQueueError(f"{text!r} matches {len(found)} {nouns}: {named}{more}. Write more of the id.")
        if found:
            return found[0]
    folded = {one.casefold(): one for ids in known for one in ids}
    near = difflib.get_close_matches(text.casefold(), folded, n=1, cutoff=0.8)
    hint = f" Did you mean {folded[near[0]]}?" if near else ""
    raise NotInQueueError(f"No {nouns.removesuffix('s')} matches {text!r}.{hint} {where} lists them.")


def find_download(text: str, snapshot: QueueSnapshot) -> DownloadId:
    """The download that a text names: `#2` is a position in the queue; parts are looked for in the queue, then among
    ended ones.

    Raises:
        NotInQueueError: None matches, or several do; the text names them.
    """
    if (number := row_number(text)) is not None:
        for item in snapshot.items:
            if item.status.is_pending and item.position == number:
                return item.id
        waiting = f"{snapshot.pending_count} waiting" if snapshot.pending_count else "nothing is waiting"
        raise NotInQueueError(f"There is no position {number} in the queue ({waiting}). %gguf status shows the queue.")
    ended = (*snapshot.recent_failures, *snapshot.recent_completed, *snapshot.recent_cancelled)
    return _find(text, snapshot.items, ended)


def find_failure(text: str, snapshot: QueueSnapshot) -> DownloadId:
    """The same for a verb about failures: `#2` is the second of them, as `%gguf status` numbers them.

    Raises:
        NotInQueueError: None matches, or several do; the text names them.
    """
    failures = snapshot.recent_failures
    if (number := row_number(text)) is not None:
        count = f"{len(failures)} failed" if failures else "Nothing has failed"
        return pick_row(number, failures, NotInQueueError, f"{count}. %gguf status lists failed downloads.").id
    return _find(text, failures, (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_cancelled))


def _find(text: str, *groups: Iterable[QueuedDownload]) -> DownloadId:
    by_text = {str(item.id): item.id for group in groups for item in group}
    ids = [[str(item.id) for item in group] for group in groups]
    return by_text[find_one(text, ids, "downloads", "%gguf status")]


def find_repository(text: str, rows: Sequence[DownloadId]) -> DownloadId:
    """What is to be downloaded: an id, a pasted address, or a row of the last table of repositories or variants.

    Raises:
        InvalidRepoIdError: It is none of these.
    """
    if (number := row_number(text)) is None:
        return parse_pasted(text)
    has = f"The last table has {len(rows)}." if rows else "No table of repositories has been shown yet."
    return pick_row(number, rows, InvalidRepoIdError, f"{has} Write owner/name, or search first: %gguf search WORDS")
