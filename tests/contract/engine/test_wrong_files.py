"""No wrong file is reported as finished or verified, regardless of other processes, hubs and earlier files."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gglib_nb.demo.messages import Request, Response
from gglib_nb.domain.reports import TransferFailed, TransferFinished
from gglib_nb.errors import IntegrityError, StorageError
from tests.support.engine import LocalEngine
from tests.support.faulty_hub import NoLinkedHeaders
from tests.support.faulty_hub.fault_kinds import altered_content
from tests.support.hub import make_repository

REPO, NAME = "demo/model", "model.gguf"
SIZE = 3_000_000
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3000000\n"


@pytest.fixture
def hub(make_hub):
    return make_hub([make_repository(REPO, {NAME: SIZE, "pointer.gguf": POINTER, "empty.gguf": b""})])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()


def right_digest(hub) -> str:
    return hub.repositories[REPO].commit().files[NAME].content.sha256


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Swap:
    """Replaces the partial file with another process's half-written file, just before it is renamed."""

    def __init__(self, monkeypatch, other: Path) -> None:
        self.other, self.replace = other, Path.replace
        for name in ("rename", "replace"):
            monkeypatch.setattr(Path, name, self._swapping(getattr(Path, name)))

    def _swapping(self, call):
        def renaming(path, target):
            if path.name == f"{NAME}.part" and self.other.exists():
                self.replace(self.other, path)
            return call(path, target)

        return renaming


def test_a_file_swapped_in_before_the_rename_is_not_accepted(hub, engine, tmp_path, monkeypatch) -> None:
    other = tmp_path / "half-written"
    other.write_bytes(b"x" * SIZE)
    Swap(monkeypatch, other)

    end = engine.fetch(REPO, NAME)

    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub)
    assert end.files[0].sha256 == right_digest(hub)


def test_a_mount_that_copies_a_file_to_rename_it_stores_it(hub, engine, monkeypatch) -> None:
    """As those of object stores do: the file of the new name is another one than the open file."""
    copies: list[Path] = []

    def rename(path: Path, target: Path) -> None:
        shutil.copy2(path, target)
        path.unlink()
        copies.append(path)

    monkeypatch.setattr(Path, "rename", rename)

    end = engine.fetch(REPO, NAME)

    assert len(copies) == 1
    assert end.files[0].is_verified
    assert digest_of(engine.target(REPO, NAME)) == right_digest(hub)


def test_an_existing_file_is_accepted_only_after_asking_the_hub_for_a_digest(hub, engine) -> None:
    target = engine.target(REPO, NAME)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"GGUF" + bytes(SIZE - 4))

    end = engine.log.end_of(engine.begin(REPO, NAME, sha256=None))

    assert isinstance(end, TransferFailed), "a wrong file was finished because the listing states no digest"
    assert isinstance(end.error, StorageError)


def test_an_existing_file_is_verified_by_the_digest_in_the_hubs_redirect(hub, engine) -> None:
    engine.fetch(REPO, NAME)

    end = engine.fetch(REPO, NAME, sha256=None)

    assert (end.files[0].was_present, end.files[0].is_verified) == (True, True)


@pytest.mark.parametrize("name", ["pointer.gguf", "empty.gguf"])
def test_without_a_digest_a_file_that_is_not_gguf_is_not_finished(hub, engine, name) -> None:
    hub.faults.add(NoLinkedHeaders(), path=name, origin="hub", times=None)

    end = engine.log.end_of(engine.begin(REPO, name, sha256=None))

    assert isinstance(end, TransferFailed)
    assert isinstance(end.error, IntegrityError)
    assert "is not a GGUF file" in str(end.error)
    assert list(engine.target(REPO, name).parent.iterdir()) == []


def test_without_a_digest_a_local_file_that_is_not_gguf_is_not_reused(hub, engine) -> None:
    hub.faults.add(NoLinkedHeaders(), path="pointer.gguf", origin="hub", times=None)
    target = engine.target(REPO, "pointer.gguf")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"<html>" + bytes(len(POINTER) - 6))

    end = engine.log.end_of(engine.begin(REPO, "pointer.gguf", sha256=None))

    assert isinstance(end, TransferFailed)


def test_without_a_digest_a_gguf_file_is_finished_as_unverified(hub, engine) -> None:
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub", times=None)

    end = engine.log.end_of(engine.begin(REPO, NAME, sha256=None))

    assert isinstance(end, TransferFinished)
    assert not end.files[0].is_verified


def test_a_known_file_without_a_stated_digest_stays_unverified(hub, engine) -> None:
    target = Path(engine.fetch(REPO, NAME).files[0].target)
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub", times=None)

    end = engine.fetch(REPO, NAME, sha256=None, known_mtime_ns=target.stat().st_mtime_ns)

    assert (end.files[0].was_present, end.files[0].is_verified) == (True, False)


@dataclass(frozen=True)
class NewVersion:
    """The storage has another version of the file, of the same size, as its `ETag` or its date shows."""

    header: str

    def apply(self, request: Request, response: Response) -> Response:
        content = altered_content(altered_content(response.content, 100_000), SIZE - 1)
        return replace(response, content=content).having(**{"ETag": None, self.header: "another version"})


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_without_a_digest_the_bytes_of_two_versions_are_not_mixed_by_a_resume(hub, tmp_path, header) -> None:
    old = hub.repositories[REPO].commit().files[NAME].content
    hub.faults.add(NoLinkedHeaders(), origin="hub", times=None)
    for _ in range(2):  # the second engine finds only what is on the disk
        hub.set_speed(2_000_000)
        engine = LocalEngine(hub, tmp_path / "models")
        attempt = engine.begin(REPO, NAME, sha256=None)
        engine.log.wait_for_progress(attempt, lambda one: one.files[0].downloaded_bytes > SIZE // 2)
        hub.set_speed(0)
        engine.stop(attempt)
        engine.close()
    hub.faults.add(NewVersion(header), origin="cdn", times=None)
    hub.set_speed()
    engine = LocalEngine(hub, tmp_path / "models")

    engine.fetch(REPO, NAME, sha256=None)

    engine.close()
    assert digest_of(engine.target(REPO, NAME)) == altered_content(altered_content(old, 100_000), SIZE - 1).sha256


def test_without_a_digest_the_bytes_of_two_versions_are_not_mixed_within_a_download(hub, engine) -> None:
    old = hub.repositories[REPO].commit().files[NAME].content
    hub.faults.add(NoLinkedHeaders(), origin="hub", times=None)
    hub.faults.add(NewVersion("ETag"), origin="cdn", times=None, skip=1)
    hub.set_speed(per_connection=1_000_000)

    engine.fetch(REPO, NAME, sha256=None)

    new = altered_content(altered_content(old, 100_000), SIZE - 1)
    assert digest_of(engine.target(REPO, NAME)) in (old.sha256, new.sha256)
