"""Repairing models: only wrong parts are downloaded, and the damaged file is never written to."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gglib_nb import (
    AlreadyQueuedError,
    DownloadManager,
    ModelNotFoundError,
    RemoteChangedError,
    RequestError,
    StorageError,
)
from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.library import BLOCK_BYTES, BlockDigests
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.plan import RepoListing
from tests.contract.test_models_verify import LARGE, SIZE, spoil
from tests.support.catalog_models import stored
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.models import sha256_of

NAME = "large-Q4_K_M.gguf"


@pytest.fixture
def path(manager: DownloadManager, hub: FaultyHub) -> Path:
    """A model of four blocks, the last one short."""
    hub.add_repository(make_repository(LARGE, {NAME: SIZE}))
    return manager.sync.download(LARGE)


def right_digest(hub: FaultyHub) -> str:
    commit = hub.repositories[LARGE].commit()
    assert commit is not None
    return commit.files[NAME].content.sha256


def repair_and_wait(manager: DownloadManager, text: str) -> int | None:
    """Repairs, waits for the end, and returns the number of downloaded bytes."""
    repair = manager.sync.repair(text)
    manager.sync.wait(repair.id)
    return repair.bytes_to_fetch


def test_one_wrong_byte_downloads_one_block(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    spoil(path, BLOCK_BYTES + 5)
    before = hub.bytes_sent(NAME)

    said = repair_and_wait(manager, "large")

    assert said == BLOCK_BYTES
    assert hub.bytes_sent(NAME) - before <= BLOCK_BYTES + 100_000
    assert sha256_of(path) == right_digest(hub)
    [row] = manager.sync.models()
    assert (row.state, row.id) == ("verified", "demo/large-GGUF:Q4_K_M")


@pytest.mark.slow
def test_a_process_with_the_damaged_file_open_keeps_its_content(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    spoil(path, 5)
    damaged = sha256_of(path)
    with path.open("rb") as opened:
        repair_and_wait(manager, "large")

        assert hashlib.file_digest(opened, "sha256").hexdigest() == damaged
    assert sha256_of(path) == right_digest(hub)


@pytest.mark.slow
def test_a_repair_uses_the_findings_of_verify(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    spoil(path, 5)
    manager.sync.verify("large")
    reached: list[object] = []

    repair = manager.sync.repair("large", on_progress=reached.append)
    manager.sync.wait(repair.id)

    assert reached == []
    assert sha256_of(path) == right_digest(hub)


def test_an_intact_model_is_not_changed(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    asked = len(hub.requests)

    repair = manager.sync.repair("large")

    assert (repair.is_needed, repair.faulty_paths, repair.bytes_to_fetch) == (False, (), 0)
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_a_truncated_file_is_completed(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    os.truncate(path, 2 * BLOCK_BYTES + 17)
    before = hub.bytes_sent(NAME)

    repair_and_wait(manager, "large")

    assert hub.bytes_sent(NAME) - before <= BLOCK_BYTES + 101_000
    assert sha256_of(path) == right_digest(hub)


@pytest.mark.slow
def test_only_the_missing_shard_is_downloaded(manager: DownloadManager, hub: FaultyHub) -> None:
    first = manager.sync.download("demo/split-GGUF")
    second = first.with_name("split-Q4_K_M-00002-of-00003.gguf")
    second.unlink()
    before = hub.bytes_sent()

    assert repair_and_wait(manager, "split") == 100_002

    assert hub.bytes_sent() - before == 100_002
    assert manager.sync.verify("split").is_right


@pytest.mark.slow
def test_without_an_index_the_whole_file_is_downloaded(
    manager: DownloadManager, make_manager: Callable[..., DownloadManager], hub: FaultyHub, tmp_path: Path, path: Path
) -> None:
    spoil(path, 5)
    other = make_manager(state_directory=tmp_path / "other")
    [model] = manager.catalog.models()
    other.catalog.register(model)  # the row without the index, as one of an earlier version

    assert repair_and_wait(other, "large") == SIZE

    assert sha256_of(path) == right_digest(hub)


@pytest.mark.slow
def test_reused_bytes_that_prove_wrong_are_downloaded(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    spoil(path, 5)
    digests = BlockDigests()
    digests.feed(memoryview(path.read_bytes()))
    spoil(path, 2 * BLOCK_BYTES)
    # An index in which the first wrong block is right, and only the second one wrong.
    [model] = manager.catalog.models()
    manager.catalog.update_files([stored_with(model, digests.digest().hex())])

    repair_and_wait(manager, "large")

    assert sha256_of(path) == right_digest(hub)


def stored_with(model: Model, block_digests: str) -> StoredFile:
    return replace(model.files[0], block_digests=block_digests)


@pytest.mark.slow
def test_a_paused_repair_downloads_nothing_twice(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    spoil(path, 5)
    manager.sync.verify("large")
    hub.set_speed(bytes_per_second=0)
    repair = manager.sync.repair("large")
    before = hub.bytes_sent(NAME)

    manager.sync.pause(repair.id)
    hub.set_speed()
    manager.sync.resume(repair.id)
    manager.sync.wait(repair.id)

    assert hub.bytes_sent(NAME) - before <= BLOCK_BYTES + 100_000
    assert sha256_of(path) == right_digest(hub)


def test_a_joined_model_is_repaired_as_a_whole(manager: DownloadManager, hub: FaultyHub) -> None:
    data = os.urandom(300_000)
    parts = {
        f"joined.Q4_K_M.gguf.part{number}of2": data[start : start + 150_000] for number, start in ((1, 0), (2, 150_000))
    }
    hub.add_repository(make_repository("demo/joined-GGUF", parts))
    joined = manager.sync.download("demo/joined-GGUF")
    spoil(joined, 200_000)

    repair_and_wait(manager, "joined")

    assert joined.read_bytes() == data


def test_the_wrong_bytes_of_a_joined_model_count_once(manager: DownloadManager, hub: FaultyHub) -> None:
    data = os.urandom(2 * BLOCK_BYTES)
    half = BLOCK_BYTES
    parts = {f"joined.Q4_K_M.gguf.part{number}of2": data[at : at + half] for number, at in ((1, 0), (2, half))}
    hub.add_repository(make_repository("demo/joined-GGUF", parts))
    joined = manager.sync.download("demo/joined-GGUF")
    spoil(joined, 5)

    assert repair_and_wait(manager, "joined") == BLOCK_BYTES
    assert joined.read_bytes() == data


def test_a_model_is_repaired_after_the_history_of_its_repository_was_rewritten(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    commit = hub.repositories[LARGE].commit()
    assert commit is not None
    hub.add_repository(make_repository(LARGE, {NAME: SIZE, "README.md": b"# rewritten\n"}))  # without its old commits
    spoil(path, 5)

    repair_and_wait(manager, "large")

    assert sha256_of(path) == right_digest(hub) == commit.files[NAME].content.sha256


@pytest.mark.parametrize("name", ["new-Q4_K_M-0000{}-of-00002.gguf", "new-Q4_K_M.gguf.part{}of2"])
def test_a_repair_never_mixes_the_files_of_two_versions(manager: DownloadManager, hub: FaultyHub, name: str) -> None:
    def publish() -> None:
        parts = {name.format(number): os.urandom(100_000) for number in (1, 2)}
        hub.add_repository(make_repository("demo/new-GGUF", parts))  # without its old commits

    publish()
    path = manager.sync.download("demo/new-GGUF")
    spoil(path, 5)
    publish()

    with pytest.raises(RemoteChangedError, match="%gguf update demo/new-GGUF"):
        manager.sync.repair("demo/new-GGUF")


def test_a_model_with_a_file_that_cannot_be_read_is_not_called_intact(manager: DownloadManager, path: Path) -> None:
    path.unlink()
    path.mkdir()

    with pytest.raises(StorageError, match="cannot be repaired: it is not a file"):
        manager.sync.repair("large")


def test_a_queued_model_is_not_repaired(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    hub.set_speed(bytes_per_second=0)
    manager.sync.queue_smart(LARGE, force=True)

    with pytest.raises(AlreadyQueuedError, match="%gguf cancel"):
        manager.sync.repair("large")

    manager.sync.cancel_all()


def test_a_model_that_was_deleted_while_the_hub_answered_is_not_repaired(
    manager: DownloadManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(path, 5)
    manager.sync.verify("large")
    list_files = manager._parts.hub.list_files

    def list_and_delete(*args: Any) -> RepoListing:
        listing = list_files(*args)
        manager.sync.delete("large")
        return listing

    monkeypatch.setattr(manager._parts.hub, "list_files", list_and_delete)
    with pytest.raises(ModelNotFoundError):
        manager.sync.repair("large")

    assert (manager.catalog.models(), manager.snapshot.items) == ([], ())


def test_a_model_whose_files_were_moved_during_its_verification_is_repaired_where_they_are(
    manager: DownloadManager, path: Path
) -> None:
    moved = path.with_name(f"moved-{NAME}")

    def move(_: object) -> None:
        if not moved.exists():
            path.rename(moved)
            [model] = manager.catalog.models()
            manager.catalog.register(replace(model, files=(replace(model.files[0], target=str(moved)),)))

    assert not manager.sync.repair("large", on_progress=move).is_needed


def test_a_queued_model_is_not_taken_off_the_list(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    spoil(path, 5)
    hub.set_speed(bytes_per_second=0)
    manager.sync.repair("large")

    with pytest.raises(AlreadyQueuedError, match="taken off the list now"):
        manager.sync.forget("large")
    manager.sync.cancel_all()


def test_a_model_of_unknown_origin_cannot_be_repaired(manager: DownloadManager) -> None:
    manager.catalog.register(Model(DownloadId("local/own"), None, None, (stored("/own.gguf"),), 1.0, "local"))

    with pytest.raises(RequestError, match="is unknown"):
        manager.sync.repair("own")


@pytest.mark.slow
def test_a_model_in_another_programs_folder_is_repaired_in_place(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "lm" / "demo" / "large-GGUF" / NAME
    elsewhere.parent.mkdir(parents=True)
    path.rename(elsewhere)
    manager.sync.forget("large")
    manager.sync.import_folder(tmp_path / "lm")
    right = sha256_of(elsewhere)
    manager.sync.verify("large")  # no known digest: the first hash becomes the reference
    spoil(elsewhere, 5)

    repair_and_wait(manager, "large")

    assert sha256_of(elsewhere) == right
    assert manager.sync.path("large") == elsewhere
    manager.close()
    assert "could not be saved" not in caplog.text
