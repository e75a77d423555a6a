"""A file above 50 GB, which the Hub serves only in ranges: offsets beyond 32 bits are right in requests, on disk and in the journal."""

import os
import shutil
from pathlib import Path

import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.disk import journal_path, part_path
from gglib_nb.engine.journal import Journal, PartIdentity
from gglib_nb.engine.pieces import SYNCED, Pieces
from gglib_nb.engine.timeouts import Timeouts
from tests.support.engine import LocalEngine
from tests.support.hub import make_repository, noise_content

REPO, NAME = "demo/huge-GGUF", "huge-BF16.gguf"
SIZE = 51_000_000_007
# An earlier run downloaded everything except the ends and a gap at 2^32.
HEAD = 8 << 20
BORDER = (4 << 30) - (3 << 20)
HOLE = 6 << 20
TAIL = SIZE - (10 << 20)
MISSING = HEAD + HOLE + (SIZE - TAIL)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    if shutil.disk_usage(tmp_path).free < SIZE + 10**9:
        pytest.skip("the disk has less than 51 GB free, which the engine checks but does not use")
    return tmp_path / "models"


@pytest.fixture
def hub(make_hub):
    content = noise_content(SIZE, "huge")
    vars(content)["sha256"] = "ab" * 32  # the file is not hashed completely here
    return make_hub([make_repository(REPO, {NAME: content})])


def test_the_missing_ranges_of_a_file_above_50_gb_are_written_at_their_offsets(hub, models) -> None:
    target = models / REPO / NAME
    commit = hub.repositories[REPO].commit("main")
    content = commit.files[NAME].content
    file = PlannedFile(NAME, SIZE, content.sha256, str(target))
    target.parent.mkdir(parents=True)
    with part_path(target).open("wb") as part:
        os.ftruncate(part.fileno(), SIZE)  # sparse: it takes no space
    there = [(HEAD, BORDER, SYNCED), (BORDER + HOLE, TAIL, SYNCED)]
    journal = Journal(journal_path(target), (PartIdentity.of(file, SIZE, commit.sha),))
    journal.begin(Pieces(SIZE, there))
    journal.close()
    engine = LocalEngine(hub, models, Timeouts())

    attempt = engine.begin(REPO, files=(file,))
    engine.log.wait_for_progress(attempt, lambda one: one.files[0].downloaded_bytes == SIZE, timeout_s=60)
    engine.stop(attempt)
    engine.close()

    asked = sorted(hub.ranges(NAME))
    assert asked[0][0] == 0
    assert asked[-1][1] == SIZE - 1
    gaps = ((0, HEAD), (BORDER, BORDER + HOLE), (TAIL, SIZE))
    assert all(any(start <= at < end for start, end in gaps) for at, _ in asked)
    assert hub.bytes_sent(NAME) < MISSING + (8 << 20)
    with part_path(target).open("rb") as part:
        for start, end in gaps:
            for offset in (start, (start + end) // 2, end - 1000):
                part.seek(offset)
                assert part.read(1000) == bytes(content.read(offset, 1000))
    state = Journal.read(journal_path(target))
    assert state is not None
    assert state.pieces.present() == [(0, SIZE)]
