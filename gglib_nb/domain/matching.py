"""What a user's text names, a download, a model or a row: one rule for all of them.

`#2` or `2` is the second row of the verb's list. Any other text is an id, or a part of an id that matches only one, in
any case.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.model import Model
from gglib_nb.domain.references import DownloadId, canonical, parse_pasted
from gglib_nb.domain.units import listed, plural
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    GglibError,
    InvalidRepoIdError,
    ModelNotFoundError,
    NotInQueueError,
)

_ROW: Final = re.compile(r"#?(\d+)", re.ASCII)
_MOST_NAMED: Final = 5
_Item = TypeVar("_Item")


def row_number(text: str) -> int | None:
    """The number of `#2` or `2`; None for every other text."""
    found = _ROW.fullmatch(text)
    return None if found is None else int(found[1])


def pick_row(number: int, rows: Sequence[_Item], error: type[GglibError], said: str) -> _Item:
    """The row of a 1-based number; without it, an `error` that ends with `said`, a sentence about the list."""
    if not 1 <= number <= len(rows):
        raise error(f"There is no row {number}. {said}")
    return rows[number - 1]


def has_word(text: str) -> bool:
    """Whether it contains a letter or a digit: `/` and `.` are in every id, and name none."""
    return any(map(str.isalnum, text))


def _matching(text: str, labels: Mapping[DownloadId, str | None]) -> list[DownloadId]:
    """The ids that a text names by the first rule that finds any; `labels` has the label of each id, if known."""
    typed = canonical(text.strip())
    if not has_word(typed):
        return []
    if exact := [id_ for id_ in labels if str(id_) == typed]:
        return exact
    names = [_names(id_, label) for id_, label in labels.items()]
    for rule in zip(*names, strict=True):
        if found := [id_ for id_, each in zip(labels, rule, strict=True) if typed.casefold() in each]:
            return found
    return []


def _names(id_: DownloadId, label: str | None) -> tuple[set[str] | str, ...]:
    """What matches an id, in lower case: itself, without revision, its repository, without owner, and any part."""
    whole, repo_id, tail = str(id_).casefold(), id_.repo_id.casefold(), id_.quantization
    plain = {str(DownloadId(repo_id, one)).casefold() for one in (tail, label or tail)}
    return {whole}, plain, {repo_id}, {name.partition("/")[2] for name in (whole, repo_id, *plain)}, whole


def _did_you_mean(text: str, ids: Iterable[DownloadId], most: int, cutoff: float) -> str:
    folded = {str(id_).casefold(): str(id_) for id_ in ids}
    near = [folded[one] for one in difflib.get_close_matches(text.casefold(), folded, n=most, cutoff=cutoff)]
    return f"Did you mean {' or '.join(near)}? " if near else ""


def find_download(text: str, snapshot: QueueSnapshot) -> DownloadId:
    """The download that a text names; `#2` is a position. Parts are looked for in the queue, then among ended ones.

    Raises `NotInQueueError` if none matches, or several do; its text names them.
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
    """The same for a verb about failures: `#2` is the second of them, as `%gguf status` numbers them."""
    failures = snapshot.recent_failures
    if (number := row_number(text)) is not None:
        count = f"{len(failures)} failed" if failures else "Nothing has failed"
        return pick_row(number, failures, NotInQueueError, f"{count}. %gguf status lists failed downloads.").id
    return _find(text, failures, (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_cancelled))


def find_cancelled(text: str, snapshot: QueueSnapshot) -> DownloadId:
    """The same for a verb about cancelled downloads."""
    others = (*snapshot.items, *snapshot.recent_failures, *snapshot.recent_completed)
    return _find(text, snapshot.recent_cancelled, others)


def _find(text: str, *groups: Iterable[QueuedDownload]) -> DownloadId:
    """The first group in which one matches decides."""
    known = [dict.fromkeys(item.id for item in group) for group in groups]
    found = next(filter(None, (_matching(text, ids) for ids in known)), [])
    if len(found) == 1:
        return found[0]
    if found:
        named = listed(found, _MOST_NAMED)
        raise NotInQueueError(f"{text!r} matches {len(found)} downloads: {named}. Write more of the id.")
    hint = _did_you_mean(text, (id_ for ids in known for id_ in ids), 1, 0.8)
    raise NotInQueueError(f"No download matches {text!r}. {hint}%gguf status lists them.")


def find_model(models: Sequence[Model], text: str) -> Model:
    """The model that a text names; `#2` is the second of `models`.

    Raises `ModelNotFoundError`, whose text names similar ones, or `AmbiguousQuantizationError`, whose `choices` are ids.
    """
    wanted = text.strip()
    if (number := row_number(wanted)) is not None:
        return pick_row(
            number, models, ModelNotFoundError, f"You have {plural(len(models), 'model')}; %gguf models lists them."
        )
    by_id = {model.id: model for model in reversed(models)}
    found = _matching(wanted, {model.id: model.label for model in models})
    if len(found) == 1:
        return by_id[found[0]]
    if found:
        choices = tuple(map(str, found))
        raise AmbiguousQuantizationError(
            f"{wanted!r} could be several models; say which one: {', '.join(choices)}.", choices
        )
    if not models:
        raise ModelNotFoundError(
            f"There is no model {wanted!r}: none is registered yet. `%gguf queue owner/repo` downloads one."
        )
    hint = _did_you_mean(wanted, by_id, 3, 0.5)
    raise ModelNotFoundError(f"There is no model {wanted!r}. {hint}`%gguf models` lists all.")


def find_repository(text: str, rows: Sequence[DownloadId]) -> DownloadId:
    """What to download: an id, a pasted address, or a row of the last table; an `InvalidRepoIdError` if it is none of these."""
    if (number := row_number(text)) is None:
        return parse_pasted(text)
    has = f"The last table has {len(rows)}." if rows else "No table of repositories has been shown yet."
    return pick_row(number, rows, InvalidRepoIdError, f"{has} Write owner/name, or search first: %gguf search WORDS")
