"""A short digest for every block of a file, to find its wrong bytes when the whole is wrong.

XXH3 costs a twentieth of SHA-256 and is no protection against intent: it finds what a disk or a copy damaged. Whether a
file is right is always decided by its SHA-256.
"""

from typing import Final

import xxhash

BLOCK_BYTES: Final = 4 * 1024**2
"""2 KB of digests for a GB of file, and at most this is downloaded again for one wrong byte."""
_DIGEST_BYTES: Final = 8


class BlockDigests:
    """Digests of consecutive blocks of the fed bytes, the last one shorter."""

    def __init__(self) -> None:
        self._digests: bytearray = bytearray()
        self._block = xxhash.xxh3_64()
        self._left_bytes: int = BLOCK_BYTES

    def feed(self, data: memoryview) -> None:
        """Takes the next bytes."""
        while len(data) > 0:
            piece = data[: self._left_bytes]
            self._block.update(piece)
            self._left_bytes -= len(piece)
            if not self._left_bytes:
                self._digests += self._block.digest()
                self._block.reset()
                self._left_bytes = BLOCK_BYTES
            data = data[len(piece) :]

    def digest(self) -> bytes:
        """The digests of all fed bytes."""
        return bytes(self._digests) + (b"" if self._left_bytes == BLOCK_BYTES else self._block.digest())


def wrong_ranges(expected: bytes, actual: bytes, size_bytes: int) -> tuple[tuple[int, int], ...]:
    """The changed bytes of a file of `size_bytes`, in whole blocks, from its digests when it was right and now."""
    joined: list[tuple[int, int]] = []
    for number, at in enumerate(range(0, len(expected), _DIGEST_BYTES)):
        if expected[at : at + _DIGEST_BYTES] != actual[at : at + _DIGEST_BYTES]:
            start = number * BLOCK_BYTES
            first = joined.pop()[0] if joined and joined[-1][1] == start else start
            joined.append((first, min(size_bytes, start + BLOCK_BYTES)))
    return tuple(joined)
