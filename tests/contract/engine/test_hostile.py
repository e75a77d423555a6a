"""The longest names a disk allows, names that differ by case, and links planted during a download."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb.domain.reports import TransferFailed
from gglib_nb.engine.disk import journal_path, part_path
from gglib_nb.errors import StorageError
from tests.support.engine import LocalEngine, planned
from tests.support.hub import make_repository

REPO = "demo/model"
NAME = "model.gguf"
LONG = f"{'ä' * 122}-Q4_0.gguf"
SIZE = 6_000_000


@pytest.fixture
def hub(make_hub):
    assert len(LONG.encode()) in range(250, 256)
    return make_hub([make_repository(REPO, {NAME: SIZE, LONG: SIZE, "a/Model.gguf": 70_000, "a/model.gguf": 80_000})])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models")
    yield local
    local.close()


def stop_half_way(hub, engine: LocalEngine, name: str) -> None:
    engine.hub.set_speed(bytes_per_second=3_000_000)
    attempt = engine.begin(REPO, name)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 1_500_000)
    hub.set_speed(0)
    engine.stop(attempt)
    hub.set_speed()


def test_a_name_of_255_bytes_is_downloaded_and_resumed(hub, engine) -> None:
    stop_half_way(hub, engine, LONG)
    target = engine.target(REPO, LONG)
    assert part_path(target).exists()
    asked_before = len(hub.ranges(LONG))

    engine.fetch(REPO, LONG)

    assert target.stat().st_size == SIZE
    assert min(start for start, _ in hub.ranges(LONG)[asked_before:]) > 1_000_000
    assert sorted(path.name for path in target.parent.iterdir()) == [LONG]


def test_names_that_differ_by_case_are_two_files(engine) -> None:
    engine.fetch(REPO, "a/Model.gguf", "a/model.gguf", kind="mmproj")

    assert engine.target(REPO, "a/Model.gguf").stat().st_size == 70_000
    assert engine.target(REPO, "a/model.gguf").stat().st_size == 80_000


@pytest.mark.parametrize("place", [part_path, journal_path, lambda target: Path(f"{journal_path(target)}.new")])
def test_a_link_planted_next_to_the_target_is_reported_and_not_followed(engine, tmp_path, place) -> None:
    outside = tmp_path / "precious"
    outside.write_bytes(b"precious")
    target = engine.target(REPO, NAME)
    target.parent.mkdir(parents=True)
    place(target).symlink_to(outside)

    if place is journal_path:  # the link is replaced, never opened
        engine.fetch(REPO, NAME)
    else:
        error = engine.failure(REPO, NAME)
        assert isinstance(error, StorageError)
        assert f"{place(target)} is a link" in str(error)

    assert outside.read_bytes() == b"precious"


def test_a_link_in_place_of_the_target_is_replaced_and_its_destination_kept(engine, tmp_path) -> None:
    outside = tmp_path / "not there"
    target = engine.target(REPO, NAME)
    target.parent.mkdir(parents=True)
    target.symlink_to(outside)

    engine.fetch(REPO, NAME)

    assert not target.is_symlink()
    assert target.stat().st_size == SIZE
    assert not outside.exists()


def test_nothing_is_written_to_a_folder_replaced_by_a_link_during_a_download(hub, engine, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = engine.target(REPO, NAME)
    hub.set_speed(bytes_per_second=3_000_000)
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 1_500_000)
    hub.set_speed(0)

    target.parent.rename(tmp_path / "moved away")
    target.parent.symlink_to(outside)
    hub.set_speed()
    end = engine.log.end_of(attempt)

    assert not [path for path in outside.rglob("*") if path.suffix == ".gguf"], "a file left the models folder"
    assert isinstance(end, TransferFailed)
    assert isinstance(end.error, StorageError)
    assert [path.name for path in outside.iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a link of another user")
def test_nothing_is_written_through_another_users_folder_link(engine, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / "models" / "demo"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    os.lchown(link, 12_345, 12_345)

    error = engine.failure(REPO, NAME)

    assert f"{link} is a link that belongs to another user" in str(error)
    assert list(outside.iterdir()) == []


def test_an_impossible_size_is_refused_before_any_byte_is_downloaded(hub, engine, tmp_path) -> None:
    (file,) = planned(hub, REPO, NAME, folder=tmp_path / "models")
    error = engine.failure(REPO, files=(replace(file, size_bytes=1 << 62),))

    assert "is full" in str(error) or "serves another" in str(error)
    assert hub.bytes_sent(NAME) == 0
