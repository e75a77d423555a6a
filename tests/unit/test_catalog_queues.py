"""Queues in the database: a stored queue is restored, only one of two kernels adopts it, and a damaged file is renamed."""

import json
import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import fields, replace
from pathlib import Path
from threading import Thread

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.catalog.database import Database
from gglib_nb.catalog.queues import KernelRecord, Queues, from_row, limits_of, to_row
from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import DownloadStatus, PlannedDownload, PlannedFile
from gglib_nb.domain.names import DownloadId, Quantization
from gglib_nb.domain.stored import StoredDownload, StoredLimits, StoredQueue
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import CatalogDamagedError, CatalogError, GatedRepoError, IntegrityError
from tests.support.plans import a_plan
from tests.support.snapshots import download

MODELS = Path("/models")
NIGHT = DailyHours.parse("22-7")
GONE = {"gone", "long gone"}


def kernel(owner: str, **fields: object) -> KernelRecord:
    record = KernelRecord(owner, f"{owner}.ipynb", "host boot ns", 1, "1", str(MODELS), "https://hub")
    return replace(record, **fields)  # type: ignore[arg-type]


def is_gone(record: KernelRecord) -> bool:
    return record.owner in GONE


def left(text: str, status: str = "queued", *, was_active: bool = False, **fields: object) -> StoredDownload:
    plan = a_plan(text)
    plan = replace(plan, files=tuple(replace(file, target=f"/models/{file.path_in_repo}") for file in plan.files))
    return StoredDownload(plan, DownloadStatus(status), was_active, (), 500.0, **fields)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gglib_nb.sqlite3"


def queues(path: Path, owner: str = "mine", **fields: object) -> Queues:
    return Queues(Database(path), kernel(owner, **fields), MODELS)


def rows(path: Path) -> list[tuple[str, str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT owner, name, position FROM download ORDER BY owner, position").fetchall()


A, B, C = left("owner/a:Q4", was_active=True), left("owner/b:Q4", "paused"), left("owner/c:Q4")
FAILED = left("owner/d:Q4", "failed", error=IntegrityError("wrong", "aa", "bb"), ended_at_s=600.0, can_retry=True)


def test_a_stored_queue_is_restored_unchanged(path: Path) -> None:
    kept = StoredQueue((A, B, C, FAILED), StoredLimits(7, True, None), True)
    queues(path, "gone").write(kept, [])

    taken = queues(path).adopt(is_gone)

    assert taken is not None
    assert replace(taken, downloads=()) == replace(kept, downloads=())
    assert taken.downloads[:3] == (A, B, C)
    error = taken.downloads[3].error
    assert isinstance(error, IntegrityError)
    assert (error.expected, error.actual, str(error)) == ("aa", "bb", "wrong")


def test_an_adopted_queue_is_owned_at_once_and_the_dead_kernel_is_forgotten(path: Path) -> None:
    queues(path, "gone").write(StoredQueue((A, B)), [])

    queues(path).adopt(is_gone)

    assert rows(path) == [("mine", "owner/a:Q4", 1), ("mine", "owner/b:Q4", 2)]
    assert queues(path, "third").adopt(is_gone) is None


def test_the_queue_of_a_running_kernel_is_not_adopted(path: Path) -> None:
    queues(path, "living").write(StoredQueue((A,)), [])

    assert queues(path).adopt(is_gone) is None
    assert rows(path) == [("living", "owner/a:Q4", 1)]


def test_a_released_queue_is_adopted_while_its_process_still_runs(path: Path) -> None:
    living = queues(path, "living")
    living.write(StoredQueue((A,)), [])
    living.release()

    assert queues(path).adopt(is_gone) is not None


@pytest.mark.parametrize("other", [{"models_directory": "/elsewhere"}, {"endpoint": "https://mirror"}])
def test_a_queue_of_another_models_folder_or_hub_is_not_adopted(path: Path, other: dict[str, str]) -> None:
    queues(path, "gone", **other).write(StoredQueue((A,)), [])

    assert queues(path).adopt(is_gone) is None


def test_queues_of_several_kernels_merge_active_first_then_waiting_then_failed(path: Path) -> None:
    ran = left("owner/e:Q4", was_active=True)
    queues(path, "long gone").write(StoredQueue((A, C), StoredLimits(9, True, 1000)), [])
    queues(path, "gone").write(StoredQueue((ran, B, FAILED), StoredLimits(5)), [])

    taken = queues(path).adopt(is_gone)

    assert taken is not None
    assert [str(one.plan.id)[6] for one in taken.downloads] == ["a", "e", "c", "b", "d"]
    assert taken.limits == StoredLimits(5, True, 1000)


def test_only_changed_rows_are_written(path: Path) -> None:
    mine = queues(path)
    mine.write(StoredQueue((A, B, C)), [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE download SET detail = 'untouched' WHERE name != 'owner/b:Q4'")
        connection.commit()

    mine.write(StoredQueue((A, replace(B, status=DownloadStatus.QUEUED), C)), [])

    with closing(sqlite3.connect(path)) as connection:
        details = [detail for (detail,) in connection.execute("SELECT detail FROM download ORDER BY position")]
    assert details[0] == details[2] == "untouched"
    assert json.loads(details[1])["status"] == "queued"


def test_the_rows_behind_one_that_left_the_queue_are_not_written(path: Path) -> None:
    mine = queues(path)
    mine.write(StoredQueue((A, B, C)), [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER no_writes BEFORE INSERT ON download BEGIN SELECT RAISE(FAIL, 'written'); END"
        )
        connection.commit()

    mine.write(StoredQueue((B, C)), [])

    assert [name for _, name, _ in rows(path)] == [str(one.plan.id) for one in (B, C)]


@pytest.mark.parametrize("order", [(C, A, B), (B, C, A), (B,), (C, B), (A, B, C, FAILED), ()])
def test_any_new_order_is_restored(path: Path, order: tuple[StoredDownload, ...]) -> None:
    gone = queues(path, "gone")
    gone.write(StoredQueue((A, B, C)), [])

    gone.write(StoredQueue(order), [])

    assert [name for _, name, _ in rows(path)] == [str(one.plan.id) for one in order]


def test_a_queue_with_missing_rows_is_written_again(path: Path) -> None:
    mine = queues(path)
    mine.write(StoredQueue((A, B)), [])
    path.unlink()

    assert not mine.beat([])
    mine.write(StoredQueue((A, B)), [])

    assert len(rows(path)) == 2


def test_downloads_of_other_kernels_are_seen_with_their_progress(path: Path) -> None:
    items = [download("owner/a:Q4", "downloading", downloaded_bytes=30, total_bytes=100, bytes_per_second=5.0)]
    queues(path, "living").write(StoredQueue((A,)), items)
    queues(path, "gone").write(StoredQueue((B,)), [download("owner/b:Q4", bytes_per_second=5.0)])

    seen = queues(path).others(is_gone, lambda record: record.title, lambda _record: False)

    assert [(one.owner, str(one.id), one.is_left, one.bytes_per_second) for one in seen] == [
        ("living.ipynb", "owner/a:Q4", False, 5.0),
        ("gone.ipynb", "owner/b:Q4", True, None),
    ]
    assert (seen[0].downloaded_bytes, seen[0].total_bytes, seen[0].status) == (30, 100, "downloading")


def test_a_download_of_which_a_stopped_kernel_had_every_byte_is_not_shown_as_left(path: Path) -> None:
    complete = download("owner/b:Q4", "downloading", downloaded_bytes=100, total_bytes=100)
    queues(path, "gone").write(StoredQueue((B,)), [complete])

    assert queues(path).others(is_gone, lambda record: record.title, lambda _record: False) == ()


def test_a_heartbeat_carries_the_newest_progress(path: Path) -> None:
    living = queues(path, "living")
    living.write(StoredQueue((A,)), [])

    assert living.beat([download("owner/a:Q4", "downloading", downloaded_bytes=70)])

    [seen] = queues(path).others(is_gone, lambda record: record.title, lambda _record: False)
    assert seen.downloaded_bytes == 70


def _adopt(path: Path, owner: str, taken: "multiprocessing.Queue[int]") -> None:
    queue = queues(path, owner).adopt(is_gone)
    taken.put(0 if queue is None else len(queue.downloads))


@pytest.mark.slow
def test_of_several_simultaneous_kernels_one_adopts_everything(path: Path) -> None:
    queues(path, "gone").write(StoredQueue((A, B, C)), [])
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    processes = [context.Process(target=_adopt, args=(path, f"new {n}", taken)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert sorted(taken.get(timeout=60) for _ in processes) == [0, 0, 0, 3]
    assert len(rows(path)) == 3


def test_a_row_with_a_target_outside_the_models_folder_is_skipped(path: Path) -> None:
    queues(path, "gone").write(StoredQueue((A, C)), [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE download SET detail = replace(detail, '\"owner/a/', '\"owner/a/../../../') WHERE name = 'owner/a:Q4'"
        )
        connection.commit()

    taken = queues(path).adopt(is_gone)

    assert taken is not None
    assert taken.downloads == (C,)


# As JSON

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
names = st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,8}[a-z0-9_]", fullmatch=True).filter(
    lambda name: ".." not in name and "--" not in name
)
sizes = st.none() | st.integers(0, 10**13)
times = st.floats(0, 4e9)


@st.composite
def stored_downloads(draw: st.DrawFn) -> StoredDownload:
    repo_id = f"owner/{draw(names)}"
    files = tuple(
        PlannedFile(
            path, draw(sizes), draw(st.none() | st.just("a" * 64)), f"/models/{repo_id}/{path}",
            draw(st.integers(0, 10**12)), draw(st.sampled_from(["shard", "mmproj"])), draw(sizes),
        )
        for path in draw(st.lists(names.map(lambda name: f"{name}.gguf"), min_size=1, max_size=3, unique=True))
    )  # fmt: skip
    id_ = DownloadId(repo_id, draw(st.none() | texts), draw(st.none() | texts))
    plan = PlannedDownload(
        id_, "c" * 40, draw(st.none() | texts), files, draw(texts), draw(st.booleans()), draw(st.booleans()), ("mmproj",)
    )  # fmt: skip
    status = draw(st.sampled_from([DownloadStatus.QUEUED, DownloadStatus.PAUSED, DownloadStatus.FAILED]))
    return StoredDownload(
        plan, status, draw(st.booleans()), (id_,), draw(times), draw(st.none() | times), draw(st.none() | times)
    )


def test_every_field_of_a_download_is_stored() -> None:
    """Fails if a field is added to one of these values but not stored."""
    file = PlannedFile("a.gguf", 9, "a" * 64, "/disk/owner/a/a.gguf", 3, "mmproj", 5, ((1, 2),))
    id_ = DownloadId("owner/a", Quantization("q4_0"), "main")
    plan = PlannedDownload(
        id_, "c" * 40, Quantization("q4_0"), (file,), "why", force=True, add_to_db=False, companions=("mmproj",),
        replaces=True, donors=("/donor.gguf",), everywhere=True, is_update=True, keeps_old=True,
        to="/disk", then="echo", scan_finding="unsafe",
    )  # fmt: skip
    stored = StoredDownload(plan, DownloadStatus.PAUSED, True, (id_,), 1.0, 2.0, 3.0, IntegrityError("no"), True, 4.0)
    for value in (file, plan, stored):
        plain = [field for field in fields(value) if getattr(value, field.name) == field.default]
        assert plain == [], "give it a distinct value here"

    back = from_row(to_row(stored, MODELS), MODELS)

    assert replace(back, error=stored.error) == stored


@given(stored_downloads())
def test_every_download_is_unchanged_after_writing_and_reading(stored: StoredDownload) -> None:
    assert from_row(to_row(stored, MODELS), MODELS) == stored


@given(stored_downloads())
def test_targets_are_rewritten_for_another_path_of_the_models_folder(stored: StoredDownload) -> None:
    moved = from_row(to_row(stored, MODELS), Path("/linked"))

    assert [file.target for file in moved.plan.files] == [
        file.target.replace("/models/", "/linked/", 1) for file in stored.plan.files
    ]


@given(st.text(max_size=40) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_an_invalid_stored_download_is_refused_and_invalid_limits_are_ignored(text: str) -> None:
    with pytest.raises(ValueError, match="not a download that was kept"):
        from_row(text, MODELS)
    assert limits_of(text) == StoredLimits()


@pytest.mark.parametrize(
    "limits", [StoredLimits(), StoredLimits(3), StoredLimits(None, True, None), StoredLimits(3, True, 9, True, NIGHT)]
)
def test_limits_are_restored_unchanged(limits: StoredLimits) -> None:
    assert limits_of(msgspec.json.encode(limits).decode()) == limits


@pytest.mark.parametrize("to", ["disk", "../disk", "/disk/../etc", "/disk\0"])
def test_a_download_to_a_relative_folder_is_refused(to: str) -> None:
    row = json.loads(to_row(left("owner/a:Q4_K_M"), MODELS))
    row["plan"]["to"] = to

    with pytest.raises(ValueError, match="its folder is not an absolute path"):
        from_row(json.dumps(row), MODELS)


def test_a_download_to_a_folder_writes_nowhere_else() -> None:
    row = json.loads(to_row(left("owner/a:Q4_K_M"), MODELS))
    row["plan"]["to"] = "/disk"
    row["plan"]["files"][0]["target"] = "../outside.gguf"

    with pytest.raises(ValueError, match="outside of its folder"):
        from_row(json.dumps(row), MODELS)


def test_an_error_keeps_its_class_and_its_page() -> None:
    error = GatedRepoError("Accept the terms.", "https://hub/owner/a")
    stored = replace(FAILED, error=error)

    back = from_row(to_row(stored, MODELS), MODELS).error

    assert isinstance(back, GatedRepoError)
    assert (str(back), back.accept_url) == ("Accept the terms.", "https://hub/owner/a")


# Unusable files


@pytest.mark.parametrize("content", [b"these are notes of mine " * 100, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_damaged_database_is_renamed_and_the_next_use_creates_a_new_one(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    catalog = Catalog(path)

    with pytest.raises(CatalogDamagedError, match="was renamed"):
        catalog.models()

    [aside] = path.parent.glob("gglib_nb.sqlite3.damaged-20*")
    assert aside.read_bytes() == content
    assert catalog.models() == []


def test_two_databases_damaged_within_a_second_are_both_kept(path: Path) -> None:
    path.parent.mkdir()
    for content in (b"first " * 400, b"second " * 400):
        path.write_bytes(content)
        with pytest.raises(CatalogDamagedError):
            Catalog(path).models()

    kept = sorted(aside.read_bytes()[:6] for aside in path.parent.glob("*.damaged-*"))
    assert kept == [b"first ", b"second"]


def test_a_damaged_database_is_renamed_once_however_many_threads_find_it(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"damaged " * 400)

    def use() -> bool:
        try:
            return Catalog(path).models() == []
        except CatalogDamagedError:
            return False

    with ThreadPoolExecutor(8) as pool:
        outcomes = [used.result() for used in [pool.submit(use) for _ in range(40)]]

    assert not all(outcomes)
    assert use()
    assert [aside.read_bytes()[:7] for aside in path.parent.glob("*.damaged-*")] == [b"damaged"]


def test_a_database_created_while_a_damaged_one_is_renamed_keeps_its_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"damaged " * 400)
    replace, others = Path.replace, []

    def replace_and_write(source: Path, target: Path) -> Path:
        replaced = replace(source, target)
        if source == path:
            others.append(queues(path, owner="other"))
            others[0].write(StoredQueue((A,)), [])
        return replaced

    monkeypatch.setattr(Path, "replace", replace_and_write)
    with pytest.raises(CatalogDamagedError):
        Catalog(path).models()

    assert [(owner, name) for owner, name, _ in rows(path)] == [("other", "owner/a:Q4")]


def test_a_lock_left_by_a_killed_process_blocks_no_other_process(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"damaged " * 400)
    guard = path.with_name(f"{path.name}.moving")
    guard.touch()
    os.utime(guard, (1.0, 1.0))

    with pytest.raises(CatalogDamagedError):
        Catalog(path).models()

    assert Catalog(path).models() == []
    assert not guard.exists()


def test_a_database_of_a_newer_version_is_refused_by_name_and_not_renamed(path: Path) -> None:
    Catalog(path).models()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO migration (name) VALUES ('9999 of tomorrow')")
        connection.commit()

    with pytest.raises(CatalogError, match="written by a newer gglib_nb"):
        queues(path).write(StoredQueue((A,)), [])

    assert not list(path.parent.glob("*.damaged-*"))


# Everything accepted on saving is accepted on loading


@pytest.mark.parametrize(
    "target",
    ["/models/loose.gguf", "/models/some/folder of mine/a: b.gguf", "/models/owner/old-name/@cccccccc/a.gguf"],
)
def test_a_download_anywhere_below_the_models_folder_is_restored(path: Path, target: str) -> None:
    plan = replace(A.plan, files=tuple(replace(file, target=target) for file in A.plan.files))
    kept = replace(A, plan=plan)
    queues(path, "gone").write(StoredQueue((kept,)), [])

    taken = queues(path).adopt(is_gone)

    assert taken is not None
    assert taken.downloads == (kept,)


@pytest.mark.parametrize("target", ["/elsewhere/a.gguf", "/models/\udcff.gguf"])
def test_a_download_that_could_not_be_restored_is_not_saved(path: Path, target: str) -> None:
    plan = replace(A.plan, files=tuple(replace(file, target=target) for file in A.plan.files))
    queues(path, "gone").write(StoredQueue((replace(A, plan=plan), C)), [])

    taken = queues(path).adopt(is_gone)

    assert taken is not None
    assert taken.downloads == (C,)


@pytest.mark.parametrize("hostile", ["/etc/a.gguf", "../a.gguf", "x/../../a.gguf", "", "."])
def test_no_stored_target_is_outside_the_models_folder(hostile: str) -> None:
    row = json.loads(to_row(A, MODELS))
    row["plan"]["files"][0]["target"] = hostile

    with pytest.raises(ValueError, match="not a download that was kept"):
        from_row(json.dumps(row), MODELS)


# Few writes


def synced_bytes(path: Path, work: Callable[[], object]) -> tuple[int, int]:
    """The growth of the database file and its log during an operation."""
    before = [one.stat().st_mtime_ns for one in (path, path.with_name(f"{path.name}-wal"))]
    work()
    after = [one.stat().st_mtime_ns for one in (path, path.with_name(f"{path.name}-wal"))]
    return after[0] - before[0], after[1] - before[1]


def test_a_heartbeat_writes_only_to_the_write_ahead_log_and_keeps_connections_open(path: Path) -> None:
    mine = queues(path)
    mine.write(StoredQueue((A,)), [])

    file, log = synced_bytes(path, lambda: mine.beat([]))

    assert file == 0, "a checkpoint was made"
    assert log > 0


def test_heartbeat_numbers_grow_across_kernels(path: Path) -> None:
    first, second = queues(path, "one"), queues(path, "two")
    seen: list[float] = []

    def look(record: KernelRecord) -> bool:
        seen.append(record.beat)
        return False

    progress = [download("owner/a:Q4", "downloading")]
    first.write(StoredQueue((A,)), progress)
    for kernel_ in (second, first, second):
        kernel_.write(StoredQueue((A,)), progress)
        queues(path).others(look, lambda record: record.title, lambda _record: False)

    assert max(seen[:2]) < max(seen[2:4]) < max(seen[4:])


def test_a_connection_inherited_by_fork_is_not_used_in_the_child(path: Path) -> None:
    mine = queues(path)
    mine.write(StoredQueue((A,)), [])

    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os._exit(0 if mine.beat([]) else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert mine.beat([])
    assert rows(path) == [("mine", "owner/a:Q4", 1)]


def test_a_finished_thread_closes_its_connection(path: Path) -> None:
    database = Database(path)

    def use() -> None:
        with database.open() as connection:
            connection.execute("SELECT 1")

    for _ in range(3):
        thread = Thread(target=use)
        thread.start()
        thread.join()

    assert str(path) not in {file.path for file in psutil.Process().open_files()}
    assert not path.with_name(f"{path.name}-wal").exists()
