"""The digest's thread: what it is told, and that nobody who tells it has to wait."""

import hashlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gglib_nb.engine.storage.digest import FrontDigest
from gglib_nb.engine.storage.hasher import Hasher

DATA = bytes(range(256)) * 4096


class HeldDigest(FrontDigest):
    """Hashes nothing before it is let go."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__([(0, size_bytes)])
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def feed(self, data: memoryview) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(10)
        super().feed(data)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "model.gguf.part"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as opened:
        yield opened.fileno()


def test_who_allows_more_never_waits_while_bytes_are_hashed(file) -> None:
    digest, parts = HeldDigest(len(DATA)), queue.SimpleQueue[None]()
    hasher = Hasher(file, digest, lambda: parts.put(None))
    hasher.allow(100)
    assert digest.has_begun.wait(10)

    teller = threading.Thread(target=lambda: hasher.allow(len(DATA)))
    teller.start()
    teller.join(10)
    assert not teller.is_alive()
    digest.may_go_on.set()
    parts.get(timeout=10)

    hasher.stop()
    assert digest.digests == [hashlib.sha256(DATA).hexdigest()]


@pytest.mark.parametrize(("left_end", "is_far_behind"), [(0, True), (100, True), (101, False)])
def test_connections_wait_for_a_digest_far_behind_but_not_for_what_an_earlier_run_left(
    file, left_end, is_far_behind
) -> None:
    digest = HeldDigest(10**9)
    digest.may_go_on.set()
    digest.feed(memoryview(DATA[:100]))
    digest.may_go_on.clear()
    hasher = Hasher(file, digest, lambda: None, left_end)
    assert not hasher.is_far_behind

    hasher.allow(100 + 96 * 1024**2)
    assert not hasher.is_far_behind
    hasher.allow(101 + 96 * 1024**2)

    assert hasher.is_far_behind == is_far_behind
    digest.may_go_on.set()
    hasher.stop()


def test_after_stop_has_returned_nothing_is_read_any_more(file) -> None:
    digest = FrontDigest([(0, len(DATA))])
    hasher = Hasher(file, digest, lambda: None)

    hasher.stop()
    hasher.allow(len(DATA))
    hasher.offer(0, 0, memoryview(DATA))

    assert digest.front == 0


def test_a_file_that_somebody_cut_short_is_an_error_and_no_digest(file) -> None:
    parts = queue.SimpleQueue[None]()
    hasher = Hasher(file, FrontDigest([(0, 2 * len(DATA))]), lambda: parts.put(None))

    hasher.allow(2 * len(DATA))
    parts.get(timeout=10)

    assert hasher.error is not None
    assert hasher.digest.digests == []
    hasher.stop()
