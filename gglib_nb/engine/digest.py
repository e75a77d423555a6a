"""SHA-256 of files while their bytes arrive, and of files on the disk.

`FrontDigest` hashes a file in order, with a digest for each part (only a file joined from raw splits has several).
`Hasher` feeds it: a connection that has just written the bytes at the front hashes them from its buffer, and the
hasher's thread reads back bytes that arrived out of order or in an earlier run. Only written bytes are hashed, once.
The transfer never waits for the digest.
"""

import errno
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gglib_nb.domain.library import BlockDigests, CheckedFile, FileVerdict, wrong_ranges
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import identity, new_buffer, opened
from gglib_nb.engine.pieces import MIB
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.system import drop_cached, read_at, read_into

# Bytes this near to the front are hashed from the buffer of their connection; those in between are read from the disk.
_NEAR_BYTES: Final = 4 * MIB


class FrontDigest:
    """Digests of consecutive parts, which have these ends, and of the whole; not thread-safe."""

    def __init__(self, ends: Sequence[int]) -> None:
        self._ends = ends
        self.front = 0  # everything before it is hashed
        self.digests: list[str] = []  # SHA-256 of the parts that the front has passed, in hexadecimal
        self._part, self._whole, self._blocks = hashlib.sha256(), hashlib.sha256(), BlockDigests()
        self._end_empty_parts()

    @property
    def is_complete(self) -> bool:
        """Whether every part has its digest."""
        return len(self.digests) == len(self._ends)

    @property
    def whole(self) -> str:
        """SHA-256 of everything before the front, in hexadecimal."""
        return (self._whole if len(self._ends) > 1 else self._part).hexdigest()

    @property
    def block_digests(self) -> str:
        """Short digests of every block before the front, in hexadecimal."""
        return self._blocks.digest().hex()

    def feed(self, data: memoryview) -> None:
        """Hash the bytes at the front."""
        while len(data) > 0 and not self.is_complete:
            piece = data[: self._ends[len(self.digests)] - self.front]
            self._part.update(piece)
            if len(self._ends) > 1:
                self._whole.update(piece)
            self._blocks.feed(piece)
            self.front += len(piece)
            data = data[len(piece) :]
            self._end_empty_parts()

    def _end_empty_parts(self) -> None:
        while not self.is_complete and self.front == self._ends[len(self.digests)]:
            self.digests.append(self._part.hexdigest())
            if not self.is_complete:
                self._part = hashlib.sha256()


class Digested(Value, frozen=True):
    """Event: a part of some file has its digest, or the file cannot be read."""


class Hasher:
    """Hashes one growing partial file, open until `stop` returns; may raise `OSError`. `inbox` receives `Digested`."""

    def __init__(self, fd: int, digest: FrontDigest, inbox: "queue.SimpleQueue[Any]") -> None:
        self.digest = digest  # any thread may read it; only the hasher feeds it
        self.error: Exception | None = None  # why hashing failed; None if it has not
        self._fd = fd
        self._inbox = inbox
        self._lock = threading.Lock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._reach = 0
        self._is_stopped = False
        threading.Thread(target=self._run, args=[new_buffer(MIB)], name="gglib-digest", daemon=True).start()

    def allow(self, reach: int) -> None:
        """Allow reading up to this offset: all bytes before it are written. Called by the transfer."""
        if reach > self._reach:
            self._reach = reach
            self._wake.put(None)

    def offer(self, start: int, offset: int, view: memoryview) -> None:
        """Hash bytes that were just written, if they are near the front and the hasher's thread is idle; never waits.

        The caller holds the lock of its request, which wrote everything from `start` to `offset`, where `view` begins.
        """
        front = self.digest.front
        if not start <= front <= offset or offset - front > _NEAR_BYTES or not self._lock.acquire(blocking=False):
            return
        try:
            front = self.digest.front
            if not self._is_stopped and start <= front <= offset:
                if front < offset:
                    self._feed(memoryview(read_at(self._fd, offset - front, front)))
                if self.digest.front == offset:
                    self._feed(view)
        except Exception as error:  # noqa: BLE001  # as in `_hash_next`
            self._failed(error)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Stop hashing; once it returns, the file is no longer read."""
        self._is_stopped = True
        self._wake.put(None)
        with self._lock:  # waits for the thread that is hashing
            pass

    def _run(self, buffer: memoryview) -> None:
        while not self._is_stopped:
            self._wake.get()
            while self._hash_next(buffer):
                pass

    def _hash_next(self, buffer: memoryview) -> bool:
        """Hash one buffer from the disk; False if there is nothing to hash now."""
        with self._lock:
            wanted = min(len(buffer), self._reach - self.digest.front)
            if self._is_stopped or wanted <= 0 or self.digest.is_complete:
                return False
            try:
                if count := read_into(self._fd, buffer[:wanted], self.digest.front):
                    self._feed(buffer[:count])
                else:
                    self._failed(OSError(errno.EIO, "another program truncated the partial file"))
            except Exception as error:  # noqa: BLE001  # the transfer must see it, or it would wait forever for the digest
                self._failed(error)
            return True

    def _failed(self, error: Exception) -> None:
        self.error, self._is_stopped = error, True
        self._inbox.put(Digested())

    def _feed(self, view: memoryview) -> None:
        parts = len(self.digest.digests)
        self.digest.feed(view)
        if len(self.digest.digests) != parts:
            self._inbox.put(Digested())


# --- Files on the disk ------------------------------------------------------------------------------------------------


def check_file(file: FileToCheck, on_read: Callable[[int], None], stop: threading.Event) -> CheckedFile | None:
    """Hash a file and compare it with its expected digest; None if stopped. `on_read` gets the bytes read so far.

    Reads from the disk and not from the system's cache, which it leaves unchanged for the model in use.
    """

    def note(front: int) -> None:
        on_read(front)
        drop_cached(fd, 0, front)

    try:
        with opened(Path(file.path)) as fd:
            before = os.fstat(fd)
            digest = FrontDigest([before.st_size])
            drop_cached(fd, 0, 0)
            if not hash_file(fd, digest, note, stop):
                return None
        after = Path(file.path).stat()  # not of the descriptor: another program may have replaced the file
    except FileNotFoundError:
        return CheckedFile(file.path, "missing")
    except OSError as error:
        return CheckedFile(file.path, "unreadable", reason=error.strerror or str(error))
    seen = CheckedFile(file.path, "changed", size_bytes=after.st_size, mtime_ns=after.st_mtime_ns)
    if identity(before) != identity(after) or not digest.is_complete:
        return seen
    seen = replace(seen, sha256=digest.whole)
    if file.sha256 in (None, digest.whole):
        verdict: FileVerdict = "unstated" if file.sha256 is None else "right"
        return replace(seen, verdict=verdict, block_digests=digest.block_digests)
    blocks = bytes.fromhex(file.block_digests), bytes.fromhex(digest.block_digests)
    return replace(seen, verdict="wrong", wrong_ranges=wrong_ranges(*blocks, file.size_bytes))


def hash_file(fd: int, digest: FrontDigest, on_read: Callable[[int], None], stop: threading.Event) -> bool:
    """Feed the digest from an open file; False if stopped. `on_read` gets the number of bytes read so far."""
    buffer = new_buffer(MIB)
    while not stop.is_set():
        count = read_into(fd, buffer, digest.front)
        digest.feed(buffer[:count])
        on_read(digest.front)
        if count == 0 or digest.is_complete:
            return True
    return False
