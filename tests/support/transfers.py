"""A repository with every form of model for the engine's transfers, and checks of the results."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gglib_nb.demo import DemoRepository
from gglib_nb.domain.download import PlannedFile
from tests.support.engine import Engine, planned
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository, small_gguf

REPO = "demo/model"
NAME = "model.gguf"
SIZE = 40_000_000
SHARDS = [f"split/m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
PARTS = ["big.gguf.part1of3", "big.gguf.part2of3", "big.gguf.part3of3"]


def model_repository() -> DemoRepository:
    """A large file, another of its size, a small one, three shards, and one file in three raw pieces."""
    joined = b"".join(small_gguf("big.gguf", 3_000_000).slices())
    pieces = (joined[:1_000_000], joined[1_000_000:2_500_000], joined[2_500_000:])
    return make_repository(
        REPO,
        {
            NAME: SIZE,
            "other.gguf": SIZE,
            "small.gguf": 200_000,
            **{name: 400_000 + number for number, name in enumerate(SHARDS)},
            **dict(zip(PARTS, pieces, strict=True)),
        },
    )


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def right_digest(hub: FaultyHub, path: str) -> str:
    commit = hub.repositories[REPO].commit()
    assert commit is not None
    return commit.files[path].content.sha256


def begin_slowly(engine: Engine, name: str = NAME, downloaded_bytes: int = 4_000_000, **options: Any) -> int:
    """Start a file and wait until that many bytes have arrived; the rest of a large one would take half a minute."""
    engine.hub.set_speed(10_000_000)
    attempt = engine.begin(REPO, name, **options)
    engine.log.wait_for_progress(attempt, lambda one: one.files[0].downloaded_bytes >= downloaded_bytes)
    engine.hub.set_speed(1_000_000)
    return attempt


def parts_of(hub: FaultyHub, target: Path) -> tuple[PlannedFile, ...]:
    """The raw pieces as a plan joins them in one target."""
    files, offset = [], 0
    for file in planned(hub, REPO, *PARTS, folder=target.parent):
        files.append(replace(file, target=str(target), offset_bytes=offset))
        offset += file.size_bytes or 0
    return tuple(files)
