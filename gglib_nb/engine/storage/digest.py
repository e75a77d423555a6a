"""SHA-256 that follows the bytes while they arrive.

`FrontDigest` hashes a file from its first byte on, in order, and notes a digest for every part of it (a
file joined of raw splits has several parts, any other one). It does not know where bytes come from and
is not thread-safe: whoever holds its lock in `storage.hasher` feeds it.
"""

import hashlib
from collections.abc import Sequence

from gglib_nb.domain.content_index import BlockDigests
from gglib_nb.engine.storage.byte_ranges import Range


class FrontDigest:
    """Digests of consecutive parts and of the whole.

    Attributes:
        front: Everything before this offset is hashed.
        digests: SHA-256 of the parts that the front has passed, in hexadecimal.
    """

    def __init__(self, parts: Sequence[Range]) -> None:
        """Start at byte 0.

        Args:
            parts: Where each begins and ends; the first at 0, each at the end of the one before. The last end
                may be beyond what will come where the length is unknown: `close_at` tells it.
        """
        self.front = 0
        self.digests: list[str] = []
        self._starts = [start for start, _ in parts]
        self._ends = [end for _, end in parts]
        self._part = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._whole_before = [self._whole.copy()]
        self._blocks: BlockDigests | None = BlockDigests()
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
        """Short digests of every block before the front, in hexadecimal; empty where they were lost by a rewind."""
        return "" if self._blocks is None else self._blocks.digest().hex()

    def feed(self, data: memoryview) -> None:
        """Hash the bytes that stand at the front."""
        while len(data) > 0 and not self.is_complete:
            piece = data[: self._ends[len(self.digests)] - self.front]
            self._part.update(piece)
            if len(self._ends) > 1:
                self._whole.update(piece)
            if self._blocks is not None:
                self._blocks.feed(piece)
            self.front += len(piece)
            data = data[len(piece) :]
            self._end_empty_parts()

    def close_at(self, end: int) -> None:
        """The last part turned out to end here, where the front stands."""
        self._ends[-1] = end
        self._end_empty_parts()

    def rewind(self, part: int) -> None:
        """Forget this part and those after it: its bytes were wrong and come again."""
        if part > len(self.digests) or self.front == self._starts[part]:
            return
        del self.digests[part:]
        del self._whole_before[part + 1 :]
        self.front = self._starts[part]
        self._whole = self._whole_before[part].copy()
        self._part = hashlib.sha256()
        if self._blocks is not None and not self._blocks.rewind(self.front):
            self._blocks = None  # a part of raw splits begins anywhere

    def _end_empty_parts(self) -> None:
        while not self.is_complete and self.front == self._ends[len(self.digests)]:
            self.digests.append(self._part.hexdigest())
            if not self.is_complete:
                self._whole_before.append(self._whole.copy())
                self._part = hashlib.sha256()
