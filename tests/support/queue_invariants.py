"""What holds in the queue's machine between two events."""

from collections.abc import Hashable

from gglib_nb.queue.downloads import add_to_index
from gglib_nb.queue.entry import Entry
from gglib_nb.queue.machine import QueueMachine


def check_invariants(machine: QueueMachine) -> None:
    """Raises `AssertionError` on the first violation."""
    downloads = machine._downloads
    live = list(downloads.live())
    identities = [entry.plan.identity for entry in live]
    assert len(set(identities)) == len(identities), "a download is live twice"
    assert all(entry.status.is_pending for entry in downloads.pending), "pending, with another status"
    assert all(entry.status.is_active for entry in downloads.active.values()), "active, with another status"
    assert not any(one.status.is_active or one.status.is_pending for one in downloads.ended), (
        "ended, with another status"
    )
    assert not set(downloads.active) & set(downloads.stopping), "active and stopping at once"
    held = downloads.held_targets()
    assert len(set(held)) == len(held), "two attempts hold one target"
    entries = [*live, *downloads.ended]
    assert len(set(entries)) == len(entries), "one download in two places"
    index: dict[Hashable, dict[Entry, None]] = {}
    for entry in live:
        add_to_index(index, entry)
    assert downloads._live == index, "the index of live downloads finds others"
    is_startable = machine._is_processing and machine._next_start() is not None
    assert not is_startable, "a slot is free and a download waits for it"
    assert machine._is_processing or not downloads.running(), "a download runs without a processor"
