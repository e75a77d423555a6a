"""What holds in the queue's machine between two events."""

from gglib_nb.queue.downloads import Downloads
from gglib_nb.queue.machine import QueueMachine


def check_invariants(machine: QueueMachine) -> None:
    """Raises `AssertionError` on the first violation."""
    downloads = machine._downloads
    live = downloads.live
    identities = [entry.plan.identity for entry in live]
    assert len(set(identities)) == len(identities), "a download is live twice"
    assert all(entry.status.is_pending for entry in downloads.pending), "pending, with another status"
    assert all(entry.status.is_active for entry in downloads.active.values()), "active, with another status"
    assert not any(one.status.is_active or one.status.is_pending for one in downloads.ended), (
        "ended, with another status"
    )
    assert not set(downloads.active) & set(downloads.stopping), "active and stopping at once"
    held = [target for plan in downloads.held_plans for target in plan.targets]
    assert len(set(held)) == len(held), "two attempts hold one target"
    entries = [*live, *downloads.ended]
    assert len(set(entries)) == len(entries), "one download in two places"
    again = Downloads()
    for entry in live:
        again.add_to_index(entry)
    assert downloads.index == again.index, "the index of live downloads finds others"
    is_startable = machine._is_processing and downloads.next_ready(machine.limits) is not None
    assert not is_startable, "a slot is free and a download waits for it"
    assert machine._is_processing or not downloads.running, "a download runs without a processor"
