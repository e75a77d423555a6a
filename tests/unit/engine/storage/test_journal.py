"""What a journal may claim after a kill and after a power cut, and what of a damaged one is believed."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.storage.byte_ranges import RangeSet
from gglib_nb.engine.storage.journal import Copied, Journal, PartIdentity, Verified, read_state

PARTS = (PartIdentity("model.gguf", 0, 1000, "a" * 64),)
BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    return BOOT.read_text().strip()


@pytest.fixture
def journal(tmp_path: Path):
    journal = Journal(tmp_path / "model.gguf.part.journal", PARTS)
    journal.begin(RangeSet(), RangeSet())
    yield journal
    journal.close()


def state(journal: Journal, boot_id: str | None = None):
    return read_state(journal.path.read_bytes(), boot() if boot_id is None else boot_id)


def test_the_last_line_counts(journal) -> None:
    journal.record(RangeSet([(0, 10)]), RangeSet())
    journal.record(RangeSet([(0, 50), (70, 90)]), RangeSet([(0, 10)]))

    read = state(journal)

    assert read.parts == PARTS
    assert list(read.done) == [(0, 50), (70, 90)]
    assert list(read.synced) == [(0, 10)]


def test_after_a_power_cut_only_what_was_synced_is_believed(journal) -> None:
    journal.record(RangeSet([(0, 500)]), RangeSet([(0, 200)]))

    assert list(state(journal, "another boot").done) == [(0, 200)]


def test_where_boots_cannot_be_told_apart_only_what_was_synced_is_believed(journal) -> None:
    journal.record(RangeSet([(0, 500)]), RangeSet([(0, 200)]))

    assert list(state(journal, "").done) == [(0, 200)]


def test_what_was_copied_is_named_apart_and_only_as_far_as_it_is_there(journal) -> None:
    copied = Copied(RangeSet([(20, 60)]), ("Q4_K_M",))
    journal.record(RangeSet([(0, 50)]), RangeSet([(0, 30)]), copied=copied)

    here, elsewhere = state(journal).copied, state(journal, "another boot").copied

    assert (list(here.ranges), here.names, here.is_wrong) == ([(20, 50)], ("Q4_K_M",), False)
    assert list(elsewhere.ranges) == [(20, 30)]


def test_that_copies_were_wrong_outlives_them(journal) -> None:
    journal.begin(RangeSet([(0, 10)]), RangeSet(), Copied(is_wrong=True))
    journal.record(RangeSet([(0, 20)]), RangeSet(), copied=Copied(is_wrong=True))

    assert state(journal).copied.is_wrong


def test_a_journal_of_a_version_that_copied_nothing_is_read(journal) -> None:
    journal.record(RangeSet([(0, 50)]), RangeSet())

    assert b"copied" not in journal.path.read_bytes()
    assert list(state(journal).copied.ranges) == []


@given(st.data())
def test_a_journal_torn_anywhere_claims_only_what_one_of_its_lines_said(data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal", PARTS)
        journal.begin(RangeSet(), RangeSet())
        for end in range(100, 1000, 100):
            journal.record(RangeSet([(0, end)]), RangeSet())
        journal.close()
        content = journal.path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))

    read = read_state(content[:cut], boot())

    # A line without its line end is whole all the same.
    whole_lines = content[:cut].count(b"\n") + (cut < len(content) and content[cut : cut + 1] == b"\n")
    claimed = None if read is None else read.done.total_bytes
    assert claimed == (None if whole_lines == 0 else max(0, whole_lines - 2) * 100)


def test_a_stale_line_of_another_journal_is_not_believed(tmp_path) -> None:
    other = Journal(tmp_path / "other", PARTS)
    other.begin(RangeSet(), RangeSet())
    other.record(RangeSet([(0, 999)]), RangeSet([(0, 999)]))
    mine = Journal(tmp_path / "mine", PARTS)
    mine.begin(RangeSet([(0, 5)]), RangeSet())
    stale = other.path.read_bytes().splitlines(keepends=True)[-1]

    read = read_state(mine.path.read_bytes() + stale, boot())

    assert list(read.done) == [(0, 5)]
    mine.close()
    other.close()


def test_zeros_that_a_power_cut_leaves_are_not_believed(journal) -> None:
    journal.record(RangeSet([(0, 5)]), RangeSet([(0, 5)]))

    read = read_state(journal.path.read_bytes() + b"\0" * 4096, boot())

    assert list(read.done) == [(0, 5)]


def test_a_long_journal_is_begun_anew_with_its_last_state(journal) -> None:
    ranges = RangeSet((start, start + 1) for start in range(0, 4000, 2))
    for _ in range(20):
        journal.record(ranges, RangeSet([(0, 1)]))

    assert journal.path.stat().st_size < 400_000
    assert list(state(journal).done) == list(ranges)


def test_what_was_verified_is_told_with_size_and_time(journal) -> None:
    journal.record(RangeSet([(0, 1000)]), RangeSet([(0, 1000)]), Verified(1000, "b" * 64, 42))

    assert state(journal, "another boot").verified == Verified(1000, "b" * 64, 42)


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense", b"00000000 {}\n", b"\xff" * 100])
def test_what_is_no_journal_is_none(tmp_path, content) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)

    assert Journal.read(path) is None


def test_no_journal_is_none(tmp_path) -> None:
    assert Journal.read(tmp_path / "journal") is None
