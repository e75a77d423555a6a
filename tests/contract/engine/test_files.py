"""What an attempt does with files: names, sets, joining, existing files, linking, replacing."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gglib_nb.demo.gguf_writer import Tensor, gguf_content
from gglib_nb.demo.llama import split_metadata
from gglib_nb.domain.download import ShardStatus
from gglib_nb.domain.reports import TransferFinished
from gglib_nb.engine import disk, local
from gglib_nb.engine.disk import journal_path, lease_path
from gglib_nb.engine.journal import Journal, PartIdentity, Verified
from gglib_nb.engine.pieces import Pieces
from gglib_nb.errors import IncompleteShardSetError, IntegrityError, StorageError
from tests.support.engine import LocalEngine
from tests.support.faulty_hub import Cut, WrongBytes
from tests.support.hub import make_repository, small_gguf
from tests.support.transfers import (
    PARTS,
    REPO,
    SHARDS,
    digest_of,
    parts_of,
    right_digest,
)

# Names, facts and sets.


def test_a_finished_file_is_alone_in_its_folder_and_has_its_facts(hub, engine) -> None:
    end = engine.fetch(REPO, "small.gguf")

    (stored,) = end.files
    path = engine.target(REPO, "small.gguf")
    assert stored.target == str(path)
    assert stored.sha256 == digest_of(path) == right_digest(hub, "small.gguf")
    assert stored.mtime_ns == path.stat().st_mtime_ns
    assert (stored.is_verified, stored.was_present) == (True, False)
    assert stored.facts["architecture"] == "llama"
    assert [one.name for one in path.parent.iterdir()] == ["small.gguf"]


def test_the_shards_of_a_set_are_downloaded_in_one_attempt_over_kept_connections(hub, engine) -> None:
    end = engine.fetch(REPO, *SHARDS)

    assert [Path(one.target).name for one in end.files] == [Path(name).name for name in SHARDS]
    connections = {one.connection_id for one in hub.requests if one.origin == "cdn"}
    assert len([one for one in hub.requests if one.origin == "cdn"]) == 3
    assert len(connections) <= 3


def test_a_set_whose_headers_declare_a_missing_shard_is_refused(engine) -> None:
    error = engine.failure(REPO, *SHARDS[:2])

    assert isinstance(error, IncompleteShardSetError)
    assert error.missing == (3,)
    assert sorted(str(one.relative_to(engine.folder / REPO)) for one in engine.folder.rglob("*.gguf*")) == SHARDS[:2]


def test_byte_splits_are_joined_and_each_part_is_verified(hub, engine, tmp_path) -> None:
    target = tmp_path / "models" / "big.gguf"

    end = engine.fetch(REPO, files=parts_of(hub, target))

    (stored,) = end.files
    assert stored.sha256 == digest_of(target)
    assert stored.facts["architecture"] == "llama"
    assert (stored.size_bytes, stored.is_verified) == (3_000_000, True)
    assert [one.files[1].status for one in engine.log.progress_of(1)][-1] is ShardStatus.FINISHED


def test_a_joined_file_whose_process_was_killed_after_the_rename_keeps_its_digest(hub, engine, tmp_path) -> None:
    target = tmp_path / "models" / "big.gguf"
    parts = parts_of(hub, target)
    (before,) = engine.fetch(REPO, files=parts).files
    commit = hub.repositories[REPO].commit().sha
    journal = Journal(journal_path(target), tuple(PartIdentity.of(part, part.size_bytes, commit) for part in parts))
    journal.begin(Pieces(before.size_bytes))
    journal.record(Pieces(before.size_bytes), Verified(before.size_bytes, before.sha256, before.mtime_ns))
    journal.close()

    (after,) = engine.fetch(REPO, files=parts).files

    assert (after.was_present, after.is_verified, after.sha256) == (True, True, before.sha256)


def test_only_the_wrong_part_of_a_byte_split_is_downloaded_again(hub, engine, tmp_path) -> None:
    hub.faults.add(WrongBytes(at_byte=9), path=PARTS[1], origin="cdn")
    target = tmp_path / "models" / "big.gguf"

    engine.fetch(REPO, files=parts_of(hub, target))

    assert digest_of(target) == hashlib.sha256(b"".join(small_gguf("big.gguf", 3_000_000).slices())).hexdigest()
    assert [len(hub.ranges(name)) for name in PARTS] == [1, 2, 1]


# Existing files.


def test_a_known_file_is_not_hashed_again(hub, engine) -> None:
    path = engine.target(REPO, "small.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 200_000)

    end = engine.fetch(REPO, "small.gguf", known_mtime_ns=path.stat().st_mtime_ns)

    assert end.files[0].was_present
    assert end.files[0].sha256 == right_digest(hub, "small.gguf")
    assert hub.requests == ()


def test_an_unknown_file_is_verified_and_kept(hub, engine) -> None:
    engine.fetch(REPO, "small.gguf")
    before = len(hub.requests)

    end = engine.fetch(REPO, "small.gguf")

    assert (end.files[0].was_present, end.files[0].is_verified) == (True, True)
    assert len(hub.requests) == before


def test_a_different_file_at_the_target_is_refused_and_not_changed(engine) -> None:
    path = engine.target(REPO, "small.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")

    error = engine.failure(REPO, "small.gguf")

    assert isinstance(error, StorageError)
    assert "force" in str(error)
    assert path.read_bytes() == b"mine"


def test_force_does_not_download_what_could_not_replace_a_folder(hub, engine) -> None:
    engine.target(REPO, "small.gguf").mkdir(parents=True)

    error = engine.failure(REPO, "small.gguf", force=True)

    assert isinstance(error, StorageError)
    assert not hub.ranges("small.gguf")


def test_force_replaces_a_different_file_only_after_the_new_one_is_verified(hub, engine) -> None:
    path = engine.target(REPO, "small.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    wrong = hub.faults.add(WrongBytes(), path="small.gguf", origin="cdn", times=None)

    error = engine.failure(REPO, "small.gguf", force=True)
    assert isinstance(error, IntegrityError)
    assert path.read_bytes() == b"mine"

    hub.faults.remove(wrong)
    engine.fetch(REPO, "small.gguf", force=True)
    assert digest_of(path) == right_digest(hub, "small.gguf")


@pytest.mark.parametrize("force", [False, True])
def test_shards_finished_before_a_stop_are_neither_hashed_nor_fetched_again(hub, engine, force: bool) -> None:
    hub.faults.add(Cut(after_bytes=0), path=SHARDS[2], origin="cdn", times=None)
    attempt = engine.begin(REPO, *SHARDS, force=force)
    engine.log.wait_for_progress(
        attempt, lambda one: [file.status for file in one.files[:2]] == [ShardStatus.FINISHED] * 2
    )
    engine.stop(attempt)
    hub.faults.clear()
    for name in SHARDS[:2]:
        path = engine.target(REPO, name)
        stat = path.stat()
        with path.open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"x" * 10)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    end = engine.log.end_of(engine.begin(REPO, *SHARDS, force=force))

    # They were not read; otherwise their last bytes would have been reported as wrong.
    assert isinstance(end, TransferFinished)
    assert [one.was_present for one in end.files] == [True, True, False]


def test_an_identical_blob_of_the_hugging_face_cache_is_linked(hub, tmp_path) -> None:
    cache = tmp_path / "hub"
    shared = cache / "blobs" / "ab" / "xet"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    blob = cache / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.symlink_to(shared)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(cache),))

    end = engine.fetch(REPO, "small.gguf")

    path = engine.target(REPO, "small.gguf")
    assert path.samefile(shared)
    assert end.files[0].is_verified
    assert hub.requests == ()
    assert "linked" in engine.log.notices_of(1)
    engine.close()


def test_a_cache_on_a_disk_that_hangs_holds_up_no_download(hub, tmp_path, monkeypatch) -> None:
    answers, searched, matching = threading.Event(), list[Path](), local.matching

    def hangs(folder: Path, pattern: str) -> Iterator[Path]:
        if folder.name == "dead":
            searched.append(folder)
            answers.wait(60)
        return matching(folder, pattern)

    monkeypatch.setattr(local, "matching", hangs)
    monkeypatch.setattr(disk, "_SEARCH_S", 0.2)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "dead"),))

    ends = [engine.log.end_of(engine.begin(REPO, name), timeout_s=30) for name in ("small.gguf", "other.gguf")]
    answers.set()

    assert all(isinstance(end, TransferFinished) for end in ends)
    assert len(searched) == 1  # it is not searched again before it answers
    engine.close()


def test_a_cache_on_a_disk_that_hangs_only_when_it_is_read_holds_up_no_download(hub, tmp_path, monkeypatch) -> None:
    blob = tmp_path / "dead" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(200_000))
    answers, opened = threading.Event(), disk.opened

    def hangs(path: Path, **options: bool) -> AbstractContextManager[int]:
        if "dead" in path.parts:
            answers.wait(60)
        return opened(path, **options)

    monkeypatch.setattr(disk, "opened", hangs)
    monkeypatch.setattr(disk, "_SEARCH_S", 0.2)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "dead"),))

    end = engine.log.end_of(engine.begin(REPO, "small.gguf"), timeout_s=30)
    answers.set()

    assert isinstance(end, TransferFinished)
    engine.close()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM], ids=["another disk", "another user's file"])
def test_an_identical_file_that_cannot_be_linked_is_not_hashed(hub, tmp_path, monkeypatch, code) -> None:
    """Linux lets no user link a file that he may only read, such as those of an Ollama that runs as a service."""
    blob = tmp_path / "elsewhere" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    hashed, hash_file = list[int](), local.hash_file

    def refused(path: Path, _: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    def hashes(fd: int, *args: Any) -> bool:
        hashed.append(fd)
        return hash_file(fd, *args)

    monkeypatch.setattr(Path, "hardlink_to", refused)
    monkeypatch.setattr(local, "hash_file", hashes)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "elsewhere"),))

    end = engine.fetch(REPO, "small.gguf")

    assert (hashed, end.files[0].was_present) == ([], False)
    assert (end.files[0].reused_bytes, end.files[0].reused_from) == (200_000, ("small.gguf",))
    assert hub.bytes_sent("small.gguf") == 0
    engine.close()


def test_a_wrong_copy_of_a_blob_that_cannot_be_linked_is_downloaded(hub, tmp_path, monkeypatch) -> None:
    blob = tmp_path / "elsewhere" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(200_000))

    def refused(*_: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "elsewhere"),))

    assert engine.fetch(REPO, "small.gguf").files[0].is_verified
    assert digest_of(engine.target(REPO, "small.gguf")) == right_digest(hub, "small.gguf")
    engine.close()


def test_a_link_left_by_a_kill_while_it_was_hashed_is_deleted(hub, tmp_path) -> None:
    """It would keep the space of a deleted model in use."""
    models = tmp_path / "models"
    twin = models / "someone" / "copy" / "small.gguf"
    twin.parent.mkdir(parents=True)
    twin.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    os.utime(twin, (0, 0))
    engine = LocalEngine(hub, models, link_folders=(str(models),))
    target = engine.target(REPO, "small.gguf")
    target.parent.mkdir(parents=True)
    target.with_name(f"{lease_path(target).name}.{'0' * 16}").hardlink_to(twin)

    engine.fetch(REPO, "small.gguf")

    assert target.samefile(twin)
    assert list(target.parent.iterdir()) == [target]
    engine.close()


def test_no_identical_file_is_hashed_for_a_target_that_exists(hub, tmp_path, monkeypatch) -> None:
    """A link cannot replace it."""
    twin = tmp_path / "elsewhere" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    twin.parent.mkdir(parents=True)
    twin.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "elsewhere"),))
    engine.target(REPO, "small.gguf").parent.mkdir(parents=True)
    engine.target(REPO, "small.gguf").write_bytes(b"damaged")
    monkeypatch.setattr(local, "hash_file", lambda *_: 1 // 0)

    assert engine.fetch(REPO, "small.gguf", replaces=True).files[0].is_verified
    engine.close()


def test_a_loop_of_links_in_place_of_a_blob_is_skipped(hub, tmp_path) -> None:
    blob = tmp_path / "hub" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.symlink_to(blob)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "hub"),))

    assert engine.fetch(REPO, "small.gguf").files[0].is_verified
    engine.close()


def test_a_blob_with_the_right_name_and_wrong_bytes_is_not_linked(hub, tmp_path) -> None:
    blob = tmp_path / "hub" / "models--demo--model" / "blobs" / right_digest(hub, "small.gguf")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 200_000)
    engine = LocalEngine(hub, tmp_path / "models", link_folders=(str(tmp_path / "hub"),))

    engine.fetch(REPO, "small.gguf")

    assert not engine.target(REPO, "small.gguf").samefile(blob)
    engine.close()


def test_an_identical_file_elsewhere_in_the_models_folder_is_linked_unless_forced(hub, tmp_path) -> None:
    models = tmp_path / "models"
    twin = models / "someone" / "copy" / "small.gguf"
    twin.parent.mkdir(parents=True)
    twin.write_bytes(b"".join(hub.repositories[REPO].commit().files["small.gguf"].content.slices()))
    engine = LocalEngine(hub, models, link_folders=(str(models),))

    engine.fetch(REPO, "small.gguf")
    assert engine.target(REPO, "small.gguf").samefile(twin)

    engine.fetch(REPO, "small.gguf", force=True)
    assert not engine.target(REPO, "small.gguf").samefile(twin)
    engine.close()


@pytest.mark.parametrize("path", ["stale.gguf", "stale-00001-of-00002.gguf"])
def test_a_shard_with_a_wrong_header_is_refused_before_its_data_is_downloaded(hub, engine, path) -> None:
    metadata = {"general.architecture": "llama"} | split_metadata(2, 3, 9)
    content = gguf_content(metadata, [Tensor("blk.0.weight", (20_000_000,), "I8")], "stale")
    hub.add_repository(make_repository("demo/stale-GGUF", {path: content}))
    hub.set_speed(bytes_per_second=4_000_000)

    error = engine.failure("demo/stale-GGUF", path)

    assert isinstance(error, IncompleteShardSetError)
    assert hub.bytes_sent(path) < 15_000_000
