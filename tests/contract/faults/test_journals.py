"""Journals that are torn, stale, corrupted or false: no wrong file is ever reported as finished."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.reports import TransferFailed, TransferFinished
from gglib_nb.engine.disk import journal_path, part_path
from gglib_nb.engine.journal import Journal, PartIdentity, Verified
from gglib_nb.engine.pieces import SYNCED, WRITTEN, Pieces
from tests.support.engine import LocalEngine, planned
from tests.support.hub import make_repository
from tests.support.transfers import digest_of

REPO = "demo/many"
SIZE = 50_000
CASES = 200
AT_ONCE = 20
NAMES = [f"{number:03}.gguf" for number in range(AT_ONCE)]


@pytest.fixture
def hub(make_hub):
    return make_hub([make_repository(REPO, {name: SIZE + number for number, name in enumerate(NAMES)})])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()


Damage = Callable[[random.Random, bytes, bytes], bytes]


def torn(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    return journal[: chance.randrange(len(journal))]


def flipped(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    data = bytearray(journal)
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def stale(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    """A slot of another journal in place of its own, as a disk may have after a crash."""
    half = len(journal) // 2
    return journal[:half] + other[half:] if chance.random() < 0.5 else other[:half] + journal[half:]


def of_another_file(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    return other


def swapped(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    half = len(journal) // 2
    return journal[half:] + journal[:half]


def of_the_old_format(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    return b'0badcafe {"boot": "x", "parts": []}\n0badcafe {"written": [[0, 50000]], "synced": [], "verified": null}\n'


def unharmed(chance: random.Random, journal: bytes, other: bytes) -> bytes:
    return journal


DAMAGES: tuple[Damage, ...] = (torn, flipped, stale, of_another_file, swapped, of_the_old_format, unharmed)


def journal_of(file: PlannedFile, commit: str, chance: random.Random, verified: Verified | None = None) -> bytes:
    """A journal as an engine writes it, which records one range after another."""
    path = journal_path(Path(file.target))
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(path, (PartIdentity.of(file, file.size_bytes, commit),))
    pieces = Pieces(file.size_bytes)
    journal.begin(pieces)
    for _ in range(chance.randint(1, 6)):
        start = chance.randrange(SIZE)
        pieces.set(start, min(SIZE, start + chance.randint(1, SIZE)), chance.choice((WRITTEN, SYNCED)))
        journal.record(pieces, verified)
    journal.close()
    data = path.read_bytes()
    path.unlink()
    return data


def write_a_partial_file(hub, file: PlannedFile, other: PlannedFile, chance: random.Random) -> None:
    """A partial file with right or wrong bytes, and a journal that was damaged."""
    commit = hub.repositories[REPO].commit()
    target = Path(file.target)
    damage = chance.choice(DAMAGES)
    data = damage(chance, journal_of(file, commit.sha, chance), journal_of(other, commit.sha, chance))
    content = b"".join(commit.files[file.path_in_repo].content.slices())
    if chance.random() < 0.5:
        content = bytes(byte ^ 0xFF for byte in content)
    part_path(target).write_bytes(content[: chance.randrange(1, len(content) + 1)])
    journal_path(target).write_bytes(data)


@pytest.mark.parametrize(
    "round_", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in range(1, CASES // AT_ONCE))]
)
def test_any_journal_leads_to_the_right_file(hub, engine, round_) -> None:
    chance = random.Random(round_)
    files = planned(hub, REPO, *NAMES, folder=engine.folder)
    for number, file in enumerate(files):
        write_a_partial_file(hub, file, files[number - 1], chance)

    end = engine.log.end_of(engine.begin(REPO, *NAMES, kind="mmproj"))

    assert isinstance(end, TransferFinished)
    assert [digest_of(Path(file.target)) for file in files] == [file.sha256 for file in files]


@pytest.mark.parametrize("case", [0, 1, *(pytest.param(one, marks=pytest.mark.slow) for one in range(2, 20))])
def test_a_journal_that_marks_a_wrong_file_as_verified_is_not_trusted(hub, engine, case) -> None:
    """The file was changed after the journal was written, or the journal is another file's, or damaged."""
    chance = random.Random(case)
    file, other = planned(hub, REPO, *NAMES[:2], folder=engine.folder)
    commit = hub.repositories[REPO].commit()
    target = Path(file.target)
    target.parent.mkdir(parents=True)
    target.write_bytes(chance.randbytes(file.size_bytes))
    times = target.stat()
    verified = Verified(file.size_bytes, file.sha256, times.st_mtime_ns)
    if is_damaged := chance.random() < 0.5:
        data = journal_of(other, commit.sha, chance, verified)
    else:
        data = journal_of(file, commit.sha, chance, verified)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    before = target.read_bytes()
    journal_path(target).write_bytes(flipped(chance, data, b"") if is_damaged else data)

    end = engine.log.end_of(engine.begin(REPO, NAMES[0]))

    assert isinstance(end, TransferFailed)
    assert target.read_bytes() == before
