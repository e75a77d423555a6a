"""Which filesystem a folder will be on, and how much of it the queue will use."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gglib_nb import system
from gglib_nb.domain.download import sizes_by_target
from gglib_nb.manager.hardware import bytes_to_write, queued_bytes
from gglib_nb.system import device_of, free_bytes
from tests.support.plans import a_file, a_plan

KIB = 1024


def test_a_missing_folder_is_on_the_filesystem_of_its_parent(tmp_path: Path) -> None:
    assert device_of(tmp_path / "a" / "b") == tmp_path.stat().st_dev
    assert free_bytes(tmp_path / "a" / "b")


def test_a_link_counts_as_its_target_even_if_the_target_is_missing(tmp_path: Path, other_disk: Path) -> None:
    link = tmp_path / "models"
    link.symlink_to(other_disk / "not there yet")

    assert device_of(link / "owner") == other_disk.stat().st_dev


def test_circular_links_are_resolved_without_hanging(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    assert device_of(tmp_path / "a") == tmp_path.stat().st_dev


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
def test_an_unreadable_folder_uses_the_free_space_of_its_parent(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)

    assert device_of(closed / "models") == tmp_path.stat().st_dev


def test_parts_of_a_byte_split_become_one_file() -> None:
    parts = [a_file("m.gguf.part1of2", size_bytes=10, target="/m.gguf"), a_file(size_bytes=None, target="/x.gguf")]
    parts.append(a_file("m.gguf.part2of2", size_bytes=5, target="/m.gguf", offset_bytes=10))

    assert sizes_by_target(parts) == {"/m.gguf": 15, "/x.gguf": 0}


def test_a_finished_file_needs_no_space_and_a_partial_one_its_remainder(tmp_path: Path) -> None:
    (tmp_path / "finished.gguf").write_bytes(bytes(40 * KIB))
    (tmp_path / "begun.gguf.part").write_bytes(os.urandom(64 * KIB))
    taken = (tmp_path / "begun.gguf.part").stat().st_blocks * 512

    assert needed_bytes(tmp_path / "finished.gguf", 40 * KIB) == 0
    assert needed_bytes(tmp_path / "begun.gguf", 1024 * KIB) == 1024 * KIB - taken
    assert needed_bytes(tmp_path / "new.gguf", 10 * KIB) == 10 * KIB


def needed_bytes(target: Path, size_bytes: int) -> int:
    return bytes_to_write([a_file(target=str(target), size_bytes=size_bytes)])


def test_a_different_file_at_the_target_saves_no_space(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(bytes(10))

    assert needed_bytes(tmp_path / "m.gguf", 40 * KIB) == 40 * KIB


def test_the_files_of_the_queue_are_counted_on_their_own_filesystem(tmp_path: Path, other_disk: Path) -> None:
    (tmp_path / "far").symlink_to(other_disk)
    near = a_plan("near/m:Q8_0", a_file(target=str(tmp_path / "near" / "m.gguf"), size_bytes=100))
    far = a_plan("far/m:Q8_0", a_file(target=str(tmp_path / "far" / "m.gguf"), size_bytes=50))

    assert queued_bytes([near, far], tmp_path.stat().st_dev) == 100
    assert queued_bytes([near, far], other_disk.stat().st_dev) == 50


def test_a_file_system_that_reports_no_size_does_not_count_as_full(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(system, "disk_usage", lambda _folder: SimpleNamespace(total=0, used=0, free=0))

    assert (device_of(tmp_path), free_bytes(tmp_path)) == (tmp_path.stat().st_dev, None)
