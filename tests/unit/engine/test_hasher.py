"""The hashing thread: its callers never wait."""

import hashlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gglib_nb.engine.digest import FrontDigest, Hasher

DATA = bytes(range(256)) * 4096


class HeldDigest(FrontDigest):
    """Hashes nothing before it is released."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__([size_bytes])
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def feed(self, data: memoryview) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(60)
        super().feed(data)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "model.gguf.part"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as opened:
        yield opened.fileno()


def test_allowing_more_bytes_never_waits_for_hashing(file) -> None:
    digest, parts = HeldDigest(len(DATA)), queue.SimpleQueue[None]()
    hasher = Hasher(file, digest, parts)
    hasher.allow(100)
    assert digest.has_begun.wait(60)

    teller = threading.Thread(target=lambda: hasher.allow(len(DATA)))
    teller.start()
    teller.join(60)
    assert not teller.is_alive()
    digest.may_go_on.set()
    parts.get(timeout=60)

    hasher.stop()
    assert digest.digests == [hashlib.sha256(DATA).hexdigest()]


def test_after_stop_returns_nothing_is_read(file) -> None:
    digest = FrontDigest([len(DATA)])
    hasher = Hasher(file, digest, queue.SimpleQueue())

    hasher.stop()
    hasher.allow(len(DATA))
    hasher.offer(0, 0, memoryview(DATA))

    assert digest.front == 0


def test_an_offered_buffer_is_hashed_before_the_offer_returns(file) -> None:
    digest = FrontDigest([3 * len(DATA)])
    hasher = Hasher(file, digest, queue.SimpleQueue())

    hasher.offer(0, 100, memoryview(DATA))  # the 100 bytes before it are in the file

    hasher.stop()
    assert digest.front == 100 + len(DATA)
    assert digest.whole == hashlib.sha256(DATA[:100] + DATA).hexdigest()


def test_a_truncated_file_gives_an_error_and_no_digest(file) -> None:
    parts = queue.SimpleQueue[None]()
    hasher = Hasher(file, FrontDigest([2 * len(DATA)]), parts)

    hasher.allow(2 * len(DATA))
    parts.get(timeout=60)

    assert hasher.error is not None
    assert hasher.digest.digests == []
    hasher.stop()


def test_every_error_of_the_digest_is_reported(file, monkeypatch) -> None:
    parts = queue.SimpleQueue[None]()
    digest = FrontDigest([len(DATA)])
    monkeypatch.setattr(digest, "feed", lambda data: 1 / 0)
    hasher = Hasher(file, digest, parts)

    hasher.allow(len(DATA))
    parts.get(timeout=60)

    assert isinstance(hasher.error, ZeroDivisionError)
    hasher.stop()
