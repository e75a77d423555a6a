"""What is written down while a file is fetched: the journal when it is due, the heartbeat, and nothing without the lease."""

import time

import pytest

from gglib_nb.engine.storage.journal import Journal
from gglib_nb.engine.storage.lease import read_lease
from gglib_nb.engine.storage.partial_file import SYNC_S
from gglib_nb.engine.storage.paths import journal_path, lease_path
from gglib_nb.engine.transfer.checkpoints import Checkpoints
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.stages import Stage
from tests.support.targets import a_target, fetched, write

PIECE = bytes(range(256)) * 64


class Checkpointed:
    """One target that is fetched, and its checkpoints."""

    def __init__(self, folder) -> None:
        self.mailbox = Mailbox()
        self.target = a_target(folder, [PIECE])
        self.partial = fetched(self.target, self.mailbox)
        self.checkpoints = Checkpoints([self.target], self.mailbox)

    def after(self, seconds: float) -> list:
        return list(self.checkpoints.write_due(time.monotonic() + seconds))

    def take_until_synced(self) -> None:
        deadline_s = time.monotonic() + 10
        while self.target.is_syncing and time.monotonic() < deadline_s:
            self.mailbox.take(0.1, lambda: False)

    def recorded_bytes(self) -> int:
        state = Journal.read(journal_path(self.target.path))
        return 0 if state is None else state.done.total_bytes

    def beat(self) -> int:
        state = read_lease(lease_path(self.target.path))
        assert state is not None
        return state.beat


@pytest.fixture
def checkpointed(tmp_path):
    checkpointed = Checkpointed(tmp_path)
    yield checkpointed
    if checkpointed.target.partial is not None:
        checkpointed.target.partial.close(is_ours=checkpointed.target.lease.is_ours())


def test_what_was_written_is_in_the_journal_at_the_next_checkpoint(checkpointed) -> None:
    checkpointed.after(0)
    write(checkpointed.target, 0, PIECE[:1000])
    before = checkpointed.recorded_bytes()

    lost = checkpointed.after(1)

    assert (before, checkpointed.recorded_bytes(), lost) == (0, 1000, [])


def test_nothing_is_written_before_it_is_due(checkpointed) -> None:
    checkpointed.after(0)
    beat = checkpointed.beat()
    write(checkpointed.target, 0, PIECE[:1000])

    checkpointed.after(0.1)

    assert (checkpointed.recorded_bytes(), checkpointed.beat()) == (0, beat)


def test_the_lease_gets_a_heartbeat(checkpointed) -> None:
    checkpointed.after(0)
    beat = checkpointed.beat()

    checkpointed.after(2)

    assert checkpointed.beat() > beat


def test_a_target_whose_lease_another_process_has_taken_is_named_and_not_written_to(checkpointed) -> None:
    checkpointed.after(0)
    write(checkpointed.target, 0, PIECE[:1000])
    path = lease_path(checkpointed.target.path)
    taken = path.with_name("taken")
    taken.write_text('{"owner": "other", "place": "", "pid": 1, "beat": 1, "downloaded_bytes": 0}')
    taken.replace(path)

    lost = checkpointed.after(2)

    assert lost[0] is checkpointed.target
    assert checkpointed.recorded_bytes() == 0


def test_a_sync_runs_in_the_background_and_counts_when_it_has_ended(checkpointed) -> None:
    write(checkpointed.target, 0, PIECE[:1000])

    checkpointed.after(SYNC_S + 1)
    was_syncing = checkpointed.target.is_syncing
    checkpointed.take_until_synced()

    assert (was_syncing, checkpointed.target.is_syncing) == (True, False)
    assert checkpointed.partial.synced.total_bytes == 1000


def test_a_sync_that_ends_after_the_file_was_given_up_changes_nothing(checkpointed) -> None:
    write(checkpointed.target, 0, PIECE[:1000])
    checkpointed.after(SYNC_S + 1)
    partial, checkpointed.target.partial = checkpointed.target.partial, None

    checkpointed.take_until_synced()

    assert partial.synced.total_bytes == 0
    assert checkpointed.target.stage is Stage.FETCHING
    checkpointed.target.partial = partial
