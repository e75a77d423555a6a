"""Which download a person means by what they typed: an id, a part of it, or a position. Pure."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from gglib_nb.domain.download import QueuedDownload, QueueSnapshot
from gglib_nb.domain.references import DownloadId, parse_pasted
from gglib_nb.errors import InvalidRepoIdError, NotInQueueError

_POSITION: Final = re.compile(r"#?(\d+)")


def find_download(text: str, snapshot: QueueSnapshot, *, failed_first: bool = False) -> DownloadId:
    """The download that a text names: its id in any case, `#2` for a position in the queue, or a part only it has.

    Parts are looked for among what is in the queue first, then among what ended; `failed_first` turns that round for
    those that failed. Whether the operation fits the download found is the queue's to say.

    Raises:
        NotInQueueError: Nothing answers to it, or several do; the text names them.
    """
    ended = (*snapshot.recent_failures, *snapshot.recent_completed, *snapshot.recent_cancelled)
    groups: list[Sequence[QueuedDownload]] = [snapshot.items, ended]
    if failed_first:
        groups = [snapshot.recent_failures, snapshot.items, ended]
    elif position := _POSITION.fullmatch(text):
        return _at(int(position[1]), snapshot)
    everything = [item for group in groups for item in group]
    exact = next((item.id for item in everything if _folded(item) == text.casefold()), None)
    return exact or _by_part(text, groups)


def row_of(text: str, rows: Sequence[DownloadId]) -> DownloadId:
    """What `queue` and `plan` are told to take: an id, a pasted address, or the number of a row of the last table.

    Raises:
        InvalidRepoIdError: It is neither.
    """
    number = _POSITION.fullmatch(text)
    if number is None:
        return parse_pasted(text)
    index = int(number[1])
    if not 1 <= index <= len(rows):
        has = f"The last table has {len(rows)} rows." if rows else "No search or plan was shown yet."
        raise InvalidRepoIdError(
            f"There is no row {index}. {has} Write owner/name, or search first: %gguf search WORDS"
        )
    return rows[index - 1]


def _at(position: int, snapshot: QueueSnapshot) -> DownloadId:
    for item in snapshot.items:
        if item.status.is_pending and item.position == position:
            return item.id
    waiting = f"{snapshot.pending_count} wait" if snapshot.pending_count else "nothing waits"
    raise NotInQueueError(f"There is no position {position} in the queue: {waiting}. %gguf status shows them.")


def _by_part(text: str, groups: Iterable[Sequence[QueuedDownload]]) -> DownloadId:
    part = text.casefold()
    for group in groups:
        found = list(dict.fromkeys(item.id for item in group if part in _folded(item)))
        if len(found) > 1:
            raise NotInQueueError(f"{text!r} names several downloads: {_named(found)}. Write more of the one you mean.")
        if found:
            return found[0]
    raise NotInQueueError(_unknown(text, [item for group in groups for item in group]))


def _unknown(text: str, items: Iterable[QueuedDownload]) -> str:
    ids = {_folded(item): str(item.id) for item in items}
    near = difflib.get_close_matches(text.casefold(), ids, n=1, cutoff=0.8)
    hint = f" Did you mean {ids[near[0]]}?" if near else ""
    return f"No download answers to {text!r}.{hint} %gguf status shows what is there."


def _named(ids: Sequence[DownloadId], most: int = 5) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(map(str, ids[:most])) + more


def _folded(item: QueuedDownload) -> str:
    return str(item.id).casefold()
