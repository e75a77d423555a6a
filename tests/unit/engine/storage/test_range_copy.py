"""Bytes from file to file: cut such that blocks can be shared, and by hand where the system cannot."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.storage.range_copy import RangeCopier, next_step

MIB = 1024 * 1024


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 40 * MIB))
def test_a_run_is_cut_into_steps_that_end(source_at, target_at, length) -> None:
    steps = []
    while length:
        step = next_step(source_at, target_at, length)
        assert 0 < step <= min(length, 8 * MIB)
        steps.append((source_at, target_at, step))
        source_at, target_at, length = source_at + step, target_at + step, length - step
    assert len(steps) <= 8


def test_where_both_offsets_lie_alike_all_but_the_ends_is_in_whole_blocks() -> None:
    at, end, steps = 100, 100 + 20 * MIB, []
    while at < end:
        step = next_step(at + 3 * 4096, at, end - at)
        steps.append((at, step))
        at += step

    assert steps[0] == (100, 4096 - 100)
    assert all(start % 4096 == 0 and step % 4096 == 0 for start, step in steps[1:-1])
    assert steps[-1][1] == 100


@pytest.fixture
def files(tmp_path: Path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3 * MIB))
    descriptors = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT)
    yield source, target, *descriptors
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("refusal", [None, errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EIO])
def test_bytes_arrive_whether_the_system_copies_or_not(files, monkeypatch, refusal) -> None:
    source, target, one, other = files
    if refusal is not None:
        monkeypatch.setattr(os, "copy_file_range", lambda *_: _refuse(refusal), raising=False)
    copier = RangeCopier()

    done = 0
    while done < 2 * MIB:
        done += copier.copy(one, 77 + done, other, 5 + done, 2 * MIB - done)

    assert target.read_bytes()[5:] == source.read_bytes()[77 : 77 + 2 * MIB]


def test_a_full_disk_is_said_and_not_tried_by_hand(files, monkeypatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: _refuse(errno.ENOSPC), raising=False)

    with pytest.raises(OSError, match="No space"):
        RangeCopier().copy(files[2], 0, files[3], 0, 10)


def test_at_the_end_of_the_source_nothing_is_copied(files) -> None:
    assert RangeCopier().copy(files[2], 3 * MIB, files[3], 0, 10) == 0


def _refuse(code: int) -> int:
    raise OSError(code, os.strerror(code))
