"""A range of a partial file that one connection fetches, and where its bytes come from.

Bytes are written under the request's lock, only while it is not revoked and only up to its end, which the scheduler
may pull in; so no byte is written by two, and after `revoke` has returned nothing is written any more.
"""

import threading
from dataclasses import dataclass

from gglib_nb.engine.storage.filesystem import storage_error
from gglib_nb.engine.storage.partial_file import PartialFile


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a part come from.

    Attributes:
        url: Serves them.
        size_bytes: Of the part; None unknown.
        is_whole: Ask for the whole without a range.
    """

    url: str
    size_bytes: int | None
    is_whole: bool


class RangeRequest:
    """A range under way. The connection's thread moves `position`, the coordinator's `end`.

    Attributes:
        source: Where from.
        part_offset: Where the part begins in the file.
        start: First byte, in the file.
        position: Next byte to be written.
        end: One past the last byte; None where unknown.
    """

    def __init__(self, source: Source, partial: PartialFile, part_offset: int, start: int, end: int | None) -> None:
        self.source = source
        self.part_offset = part_offset
        self.start = start
        self.position = start
        self.end = end
        self._partial = partial
        self._lock = threading.Lock()
        self._is_revoked = False

    @property
    def wanted(self) -> tuple[int, int | None, int | None]:
        """What to ask the server for next: first byte, one past the last (None: the whole), size of the part."""
        if self.source.is_whole or self.end is None:
            return 0, None, self.source.size_bytes
        return self.position - self.part_offset, self.end - self.part_offset, self.source.size_bytes

    @property
    def received_bytes(self) -> int:
        """What it has brought."""
        return self.position - self.start

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to fetch."""
        return self._is_revoked or self.position == self.end

    @property
    def is_far_ahead(self) -> bool:
        """Whether the file's hasher should catch up before more is fetched."""
        return not self.is_over and self._partial.hasher.is_far_behind

    def write(self, view: memoryview) -> None:
        """Write the next bytes; what lies beyond the end is dropped. Called by the connection's thread.

        Raises:
            LeaseLostError: The file may belong to another process.
            TransferError: The bytes cannot be written.
        """
        with self._lock:
            if self._is_revoked:
                return
            if self.end is not None:
                view = view[: self.end - self.position]
            at = self.position
            try:
                self._partial.write(at, view)
            except OSError as error:
                raise storage_error(error, self._partial.path) from error
            self.position = at + len(view)
        self._partial.hasher.offer(self.start, at, view)

    def cut(self, end: int) -> bool:
        """Pull the end in; False where the connection is beyond it already. Called by the coordinator."""
        with self._lock:
            if self._is_revoked or self.position > end:
                return False
            self.end = end
            return True

    def end_here(self) -> None:
        """The body of unknown length is at its end. Called by the connection's thread."""
        with self._lock:
            self.end = self.position

    def revoke(self) -> None:
        """Nothing is written any more once this has returned. Called by the coordinator."""
        with self._lock:
            self._is_revoked = True
