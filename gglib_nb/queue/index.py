"""Who answers to an id, who is the same download, who writes a path: found without walking the queue.

Knows nothing of places and order: whoever keeps a list of entries adds and removes them here as well. An entry's plan
must not change while it is in an index, and its aliases are added here.
"""

from collections.abc import Hashable, Iterable, Iterator

from gglib_nb.domain.download import PlannedDownload
from gglib_nb.domain.references import DownloadId
from gglib_nb.queue.entry import Entry

_Found = dict[Entry, None]  # a set that keeps its order


class EntryIndex:
    """Entries by what they are asked for."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._found: dict[Hashable, _Found] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Have it found."""
        for key in _keys(entry):
            self._found.setdefault(key, {})[entry] = None

    def remove(self, entry: Entry) -> None:
        """Have it found no more."""
        for key in _keys(entry):
            entries = self._found[key]
            del entries[entry]
            if not entries:
                del self._found[key]

    def add_alias(self, entry: Entry, id: DownloadId) -> None:  # noqa: A002 - the field's word
        """Have an entry that is in here answer to one more id."""
        entry.answer_also_to(id)
        self.add(entry)

    def answering_to(self, id: DownloadId) -> _Found:  # noqa: A002
        """Those that a caller may mean by `id`; the case of a quantization does not matter."""
        return self._found.get(_by_name(id), {}) | self._found.get(id, {})

    def same_as(self, plan: PlannedDownload) -> _Found:
        """Those that come to the same commit and variant, or that a caller could not tell apart."""
        return self._found.get(plan.identity, {}) | self.answering_to(plan.id)

    def sharing_targets(self, plan: PlannedDownload) -> _Found:
        """Those that write a path which the plan writes too."""
        return {entry: None for target in plan.targets for entry in self._found.get(target, ())}

    def differs_from(self, entries: Iterable[Entry]) -> bool:
        """Whether it would find others than an index made anew of these entries."""
        return self._found != EntryIndex(entries)._found  # noqa: SLF001 - its own kind


def _keys(entry: Entry) -> Iterator[Hashable]:
    """Of four kinds that cannot be mistaken for each other: a triple, a pair, ids, and paths."""
    yield entry.plan.identity
    yield _by_name(entry.plan.id)
    yield from entry.aliases
    yield from entry.plan.targets


def _by_name(id: DownloadId) -> Hashable:  # noqa: A002
    return ("id", str(id).casefold())
