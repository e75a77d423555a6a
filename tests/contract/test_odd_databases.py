"""If the user's database cannot be used, one sentence says so and downloads still work."""

import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from gglib_nb import CatalogError, DownloadManager
from gglib_nb.catalog.store import Catalog
from tests.support.kernel import wait_until

SMALL = "demo/small-GGUF"


def database_of(folder: Path) -> Path:
    return folder / "state" / "gglib_nb.sqlite3"


def notices(manager: DownloadManager) -> dict[str, str]:
    return {notice.kind: notice.text for notice in manager.snapshot.notices}


def newer_version(path: Path) -> None:
    Catalog(path).models()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO migration (name) VALUES ('9999 of tomorrow')")
        connection.commit()


def folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)


def state_folder_that_cannot_be_made(path: Path) -> None:
    path.parent.touch()


def filesystem_without_shared_memory(path: Path) -> None:
    """The shared-memory file of the write-ahead log cannot be created."""
    path.with_name(f"{path.name}-shm").mkdir(parents=True)


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "newer": (newer_version, "written by a newer gglib_nb"),
    "folder": (folder_in_its_place, "cannot be opened or written"),
    "no shared memory": (filesystem_without_shared_memory, "set GGLIB_STATE_DIR to a folder that you can write"),
    "no state folder": (state_folder_that_cannot_be_made, "set GGLIB_STATE_DIR to another"),
}


@pytest.mark.parametrize("kind", ODD)
async def test_a_download_completes_without_the_database_and_reports_what_is_not_stored(
    make_manager: Callable[..., DownloadManager], tmp_path: Path, kind: str
) -> None:
    spoil, sentence = ODD[kind]
    spoil(database_of(tmp_path))
    manager = make_manager()

    path = await manager.download(SMALL, "Q4_K_M")

    [done] = manager.snapshot.recent_completed
    assert path.is_file()
    assert done.notice_kind == "unregistered"
    assert done.notice is not None
    assert sentence in done.notice
    wait_until(lambda: "not_kept" in notices(manager), 30, "the notice")
    assert sentence in notices(manager)["not_kept"]


async def test_a_damaged_database_is_renamed_and_the_download_is_registered_in_a_new_one(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    path = database_of(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    manager = make_manager()

    await manager.download(SMALL, "Q4_K_M")

    assert [str(model.id) for model in manager.catalog.models()] == [f"{SMALL}:Q4_K_M"]
    [aside] = path.parent.glob("gglib_nb.sqlite3.damaged-*")
    assert aside.read_bytes().endswith(b"\xff" * 8192)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE file SET facts = 'no json'",
        "UPDATE file SET wrong_ranges = '[[1]]'",
        "UPDATE past_download SET outcome = 'odd'",
    ],
)
def test_a_row_that_cannot_be_decoded_is_an_error_of_the_database(manager: DownloadManager, statement: str) -> None:
    manager.sync.download(SMALL, "Q4_K_M")
    manager.sync.history()
    with closing(sqlite3.connect(manager.config.database_path)) as connection:
        connection.execute(statement)
        connection.commit()

    with pytest.raises(CatalogError, match="cannot be used"):
        [ask() for ask in (manager.sync.models, manager.sync.history)]  # type: ignore[operator]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that holds the database lock."""
    Catalog(database_of(tmp_path)).models()
    with closing(sqlite3.connect(database_of(tmp_path), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


@pytest.mark.slow
async def test_a_locked_database_stops_no_download_and_is_used_again_when_free(
    held: sqlite3.Connection, make_manager: Callable[..., DownloadManager]
) -> None:
    manager = make_manager()
    queued = await manager.queue_smart(SMALL, "Q8_0")
    await manager.wait(queued.id)
    other = await manager.queue_smart(SMALL, "Q4_K_M")
    held.execute("ROLLBACK")
    await manager.wait(other.id)

    assert [str(model.id) for model in manager.catalog.models()] == [f"{SMALL}:Q4_K_M"]


@pytest.mark.slow
async def test_queueing_again_registers_an_unregistered_download(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    database_of(tmp_path).mkdir(parents=True)
    manager = make_manager()
    await manager.download(SMALL, "Q4_K_M")
    database_of(tmp_path).rmdir()

    await manager.download(SMALL, "Q4_K_M")

    [done] = manager.snapshot.recent_completed
    assert done.was_present
    assert [str(model.id) for model in manager.catalog.models()] == [f"{SMALL}:Q4_K_M"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate filesystem for the state folder."""
    folder = tmp_path / "state"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a filesystem can be mounted by root only: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """A full disk."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def fill_beside(folder: Path) -> None:
    """A disk that is full since the database was used last."""
    catalog = Catalog(database_of(folder.parent))
    catalog.models()
    catalog.close()
    fill(folder)


def make_read_only(folder: Path) -> None:
    Catalog(database_of(folder.parent)).models()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (fill, r"its disk is full|cannot be opened or written|its disk fails"),
        (fill_beside, r"its disk is full"),
        (make_read_only, r"may not be written|cannot be opened"),
    ],
    ids=["full", "full later", "read-only"],
)
async def test_a_full_or_read_only_disk_for_the_database_stops_no_download(
    small_disk: Path, make_manager: Callable[..., DownloadManager], spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(small_disk)
    manager = make_manager()

    path = await manager.download(SMALL, "Q4_K_M")

    [done] = manager.snapshot.recent_completed
    assert path.is_file()
    assert done.notice is not None
    assert re.search(f"The models database .* cannot be used: .*({sentence})", done.notice)
    manager.close()


@pytest.mark.parametrize("kind", ODD)
def test_plan_search_and_partials_need_no_database(
    make_manager: Callable[..., DownloadManager], tmp_path: Path, kind: str
) -> None:
    spoil, _ = ODD[kind]
    spoil(database_of(tmp_path))
    manager = make_manager()

    assert manager.sync.plan(SMALL).variants
    assert [row.is_here for row in manager.sync.search("small")] == [False]
    assert manager.sync.partials() == []


async def test_a_storage_limit_holds_for_what_is_known_without_the_database(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    newer_version(database_of(tmp_path))
    manager = make_manager(storage_limit_bytes=500_000)

    plan = await manager.plan(SMALL)
    path = await manager.download(SMALL, "Q4_K_M")

    assert plan.storage_left_bytes == 500_000
    assert path.is_file()
