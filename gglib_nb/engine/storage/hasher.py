"""The digest keeps up with the bytes: from the buffer where they are at hand, from the disk where not.

Two kinds of threads feed one `FrontDigest`, each only under its lock. A connection thread that has just
written the bytes at the front hashes them from its buffer; it never waits for the lock. The hasher's own
thread reads again what arrived out of order (or in an earlier run), as far as the coordinator allowed. Both
hash bytes that are already written, in order, each once.

The coordinator never waits for that lock: the hasher's thread takes it again as soon as it has let go of it, so
that others could wait for most of a second.
"""

import errno
import queue
import threading
from collections.abc import Callable
from typing import Final

from gglib_nb.engine.storage.byte_ranges import MIB
from gglib_nb.engine.storage.digest import FrontDigest
from gglib_nb.engine.storage.filesystem import new_buffer
from gglib_nb.system import read_at, read_into

# Connections wait for a digest that is further behind: hashing then ends soon after the last byte.
_FAR_BEHIND_BYTES: Final = 96 * MIB
# A connection that is so little ahead of the front reads the gap again and takes the front over.
_TAKE_OVER_BYTES: Final = 4 * MIB


class Hasher:
    """Hashes one partial file while it grows.

    Attributes:
        digest: Read by anyone; fed only here.
        error: Why the file could not be read; None while all is well.
    """

    def __init__(self, fd: int, digest: FrontDigest, on_part: Callable[[], None], left_end: int = 0) -> None:
        """Start the thread.

        Args:
            fd: The partial file, open for reading until `stop` has returned.
            digest: At the front where to begin.
            on_part: Called by whichever thread ends a part; must not block.
            left_end: One past the last byte that an earlier run left.
        """
        self.digest = digest
        self.error: OSError | None = None
        self._fd = fd
        self._on_part = on_part
        self._left_end = left_end
        self._lock = threading.Lock()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._reach = 0
        self._is_stopped = False
        threading.Thread(target=self._run, name="gglib-digest", daemon=True).start()

    def allow(self, reach: int) -> None:
        """Everything before this offset is written; called by the coordinator."""
        if reach > self._reach:
            self._reach = reach
            self._news.put(None)

    @property
    def is_far_behind(self) -> bool:
        """Whether connections should wait for it; not while it reads what an earlier run left, which takes long."""
        front = self.digest.front
        return front >= self._left_end and self._reach - front > _FAR_BEHIND_BYTES

    def offer(self, range_start: int, offset: int, view: memoryview) -> None:
        """Hash bytes that were just written, if they are at the front; called by connection threads.

        Args:
            range_start: Everything from here to `offset` was written by the same thread.
            offset: Where the bytes stand.
            view: The bytes.
        """
        front = self.digest.front
        if not range_start <= front <= offset or offset - front > _TAKE_OVER_BYTES:
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._is_stopped and range_start <= self.digest.front <= offset:
                if self.digest.front < offset:
                    self._feed(memoryview(read_at(self._fd, offset - self.digest.front, self.digest.front)))
                if self.digest.front == offset:
                    self._feed(view)
        except OSError as error:
            self.error = error
            self._on_part()
        finally:
            self._lock.release()

    def rewind(self, part: int, reach: int) -> None:
        """Hash this part and what follows again; `reach` is what is still right."""
        with self._lock:
            self.digest.rewind(part)
            self._reach = reach

    def close_at(self, end: int) -> None:
        """The file turned out to end here."""
        with self._lock:
            self.digest.close_at(end)
        self._on_part()

    def stop(self) -> None:
        """Hash no more; when it returns, the file is not read any more."""
        self._is_stopped = True
        self._news.put(None)
        with self._lock:  # whoever hashes is through with its bytes
            pass

    def _run(self) -> None:
        try:
            self._catch_up()
        except OSError as error:
            self.error = error
            self._on_part()

    def _catch_up(self) -> None:
        buffer = new_buffer(MIB)
        while not self._is_stopped:
            self._news.get()
            while self._read_again(buffer):
                pass

    def _read_again(self, buffer: memoryview) -> bool:
        """Hash one buffer from the disk; False where nothing is left that may be read."""
        with self._lock:
            wanted = min(len(buffer), self._reach - self.digest.front)
            if self._is_stopped or wanted <= 0:
                return False
            count = read_into(self._fd, buffer[:wanted], self.digest.front)
            if count == 0:
                raise OSError(errno.EIO, "somebody cut the partial file short")
            self._feed(buffer[:count])
            return True

    def _feed(self, view: memoryview) -> None:
        parts = len(self.digest.digests)
        self.digest.feed(view)
        if len(self.digest.digests) != parts:
            self._on_part()
