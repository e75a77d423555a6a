"""What a journal states after a kill and after a power cut, and what a damaged one contains."""

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.journal import Journal, PartIdentity, Verified, read_state
from gglib_nb.engine.pieces import COPIED, SYNCED, WRITTEN, Pieces
from gglib_nb.system import boot_id

PARTS = (PartIdentity("model.gguf", 0, 1000, "a" * 64),)


@pytest.fixture
def journal(tmp_path: Path):
    journal = Journal(tmp_path / "model.gguf.part.journal", PARTS)
    journal.begin(Pieces(1000))
    yield journal
    journal.close()


def with_runs(*runs) -> Pieces:
    return Pieces(1000, runs)


def state(journal: Journal, boot: str | None = None):
    return read_state(journal.path.read_bytes(), boot_id() if boot is None else boot)


def test_the_newest_record_is_used(journal) -> None:
    journal.record(with_runs((0, 10, WRITTEN)))
    journal.record(with_runs((0, 50, WRITTEN), (70, 90, SYNCED)))

    assert state(journal).record.parts == PARTS
    assert state(journal).pieces.present() == [(0, 50), (70, 90)]


@pytest.mark.parametrize("boot", ["another boot", ""])
def test_after_a_power_cut_only_synced_bytes_count(journal, boot) -> None:
    journal.record(with_runs((0, 200, SYNCED), (200, 500, WRITTEN)))

    assert state(journal, boot).pieces.present() == [(0, 200)]


def test_copied_bytes_are_recorded_separately_with_their_donors(journal) -> None:
    journal.next.donors = ("Q4_K_M",)
    journal.record(with_runs((0, 20, WRITTEN), (20, 50, COPIED)))

    assert state(journal).runs == [(0, 20, WRITTEN), (20, 50, COPIED)]
    assert state(journal).record.donors == ("Q4_K_M",)


def test_the_record_of_wrong_copies_is_kept_after_their_removal(journal) -> None:
    journal.next.is_copy_wrong = True
    journal.begin(Pieces(1000))
    journal.record(with_runs((0, 20, WRITTEN)))

    assert state(journal).record.is_copy_wrong


def test_a_full_disk_on_which_no_journal_can_be_created_still_records_the_loss_of_bytes(journal) -> None:
    journal.record(with_runs((0, 50, WRITTEN)))
    journal.path.with_name(journal.path.name + ".new").mkdir()

    with contextlib.suppress(OSError):
        journal.begin(with_runs((0, 20, WRITTEN)))
    with contextlib.suppress(OSError):
        journal.record(with_runs((0, 20, WRITTEN)))

    assert state(journal).pieces.present() == [(0, 20)]


def test_a_disk_that_is_full_after_a_journal_was_created_has_room_for_its_records(journal) -> None:
    blocks = journal.path.stat().st_blocks

    for end in (10, 20, 30):
        journal.record(with_runs((0, end, WRITTEN)))

    assert journal.path.stat().st_blocks == blocks


def test_a_file_joined_from_hundreds_of_parts_can_be_resumed(tmp_path) -> None:
    parts = tuple(PartIdentity(f"models/a/model.gguf.part{n}of1500", n, 1, "a" * 64) for n in range(1500))
    journal = Journal(tmp_path / "model.gguf.part.journal", parts)
    journal.begin(Pieces(1500))

    journal.record(Pieces(1500, [(0, 10, WRITTEN)]))
    journal.record(Pieces(1500, [(0, 20, WRITTEN)]))

    assert Journal.read(journal.path).record.parts == parts
    assert Journal.read(journal.path).pieces.present() == [(0, 20)]
    journal.close()


def test_a_journal_of_an_earlier_version_with_smaller_slots_is_read(journal) -> None:
    journal.record(with_runs((0, 10, WRITTEN)))
    content = journal.path.read_bytes()

    earlier = content[: 128 * 1024].ljust(128 * 1024, b"\0") + content[512 * 1024 :]
    newest_second = bytes(128 * 1024) + content[: 128 * 1024]

    assert read_state(earlier, boot_id()).pieces.present() == [(0, 10)]
    assert read_state(newest_second, boot_id()).pieces.present() == [(0, 10)]


@given(st.data())
def test_a_truncated_journal_states_only_what_a_complete_record_states(data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal", PARTS)
        journal.begin(Pieces(1000))
        records = data.draw(st.integers(0, 9))
        for number in range(1, records + 1):
            journal.record(with_runs((0, number * 100, WRITTEN)))
        journal.close()
        content = journal.path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))

    read = read_state(content[:cut], boot_id())

    newest = {records * 100, (records - 1) * 100 if records else 0}
    assert read is None or read.pieces.present_bytes in newest


@given(st.integers(1, 9), st.data())
def test_a_partly_written_record_leaves_the_previous_one(records, data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal", PARTS)
        journal.begin(Pieces(1000))
        for number in range(1, records + 1):
            journal.record(with_runs((0, number * 100, WRITTEN)))
        before = bytearray(journal.path.read_bytes())
        journal.record(with_runs((0, 1000, WRITTEN)))
        journal.close()
        after = journal.path.read_bytes()
    before = before.ljust(len(after), b"\0")
    differing = [at for at, (one, two) in enumerate(zip(before, after, strict=True)) if one != two]
    cut = data.draw(st.integers(0, len(differing) - 1))
    for at in differing[:cut]:
        before[at] = after[at]

    assert read_state(bytes(before), boot_id()).pieces.present_bytes == records * 100


def test_the_journal_does_not_grow(journal) -> None:
    pieces = Pieces(10_000, [(start, start + 1, WRITTEN) for start in range(0, 8000, 2)])

    for _ in range(50):
        journal.record(pieces)

    assert journal.path.stat().st_size <= 1024 * 1024
    assert state(journal).pieces.present_bytes == 4000


def test_a_new_journal_is_a_new_file(journal) -> None:
    before = journal.path.stat().st_ino
    with journal.path.open("rb+") as theirs:
        journal.begin(with_runs((0, 7, WRITTEN)))
        os.pwrite(theirs.fileno(), b"\0" * 1000, 0)

    assert journal.path.stat().st_ino != before
    assert state(journal).pieces.present() == [(0, 7)]


def test_a_record_after_a_journal_that_could_not_get_its_name_begins_it_again(journal) -> None:
    journal.path.unlink()
    journal.path.mkdir()
    for write in (journal.begin, journal.record):
        with pytest.raises(IsADirectoryError):
            write(with_runs((0, 7, WRITTEN)))
    journal.path.rmdir()

    journal.record(with_runs((0, 7, WRITTEN)))

    assert state(journal).pieces.present() == [(0, 7)]


def test_verified_files_are_recorded_with_size_and_time(journal) -> None:
    journal.record(with_runs((0, 1000, SYNCED)), Verified(1000, "b" * 64, 42))

    assert state(journal, "another boot").record.verified == Verified(1000, "b" * 64, 42)


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense", b"00000000 {}\n", b"\xff" * 100, b"gglib journal 2\n"])
def test_an_invalid_journal_is_none(tmp_path, content) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)

    assert Journal.read(path) is None


def test_a_missing_journal_is_none(tmp_path) -> None:
    assert Journal.read(tmp_path / "journal") is None
