"""Bytes that can be read at any offset: from memory, from a file, or made up on the spot.

Nothing here holds more than one slice of a file in memory, so a file of many gigabytes costs what a small
one costs. Knows nothing of HTTP, repositories or GGUF.
"""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path

SLICE_BYTES = 1 << 20
# A prime, so that ranges at round offsets never hold the same bytes: a misplaced range changes the digest.
_NOISE_PERIOD = 1_048_573


@dataclass(frozen=True)
class Content:
    """A run of bytes with a length and random access.

    Attributes:
        size_bytes: length in bytes.
        identity: a text that differs where the bytes differ; cheap, unlike a digest.
        read: called with an offset and a length it returns at least one and at most that many bytes;
            nothing only at the end.
    """

    size_bytes: int
    identity: str
    read: Callable[[int, int], bytes | memoryview]

    def slices(self) -> Iterator[bytes | memoryview]:
        """Yield all bytes in slices of at most a mebibyte."""
        offset = 0
        while offset < self.size_bytes and (piece := self.read(offset, min(SLICE_BYTES, self.size_bytes - offset))):
            offset += len(piece)
            yield piece

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the whole; computed once, on first use (about 1 s per GiB)."""
        digest = hashlib.sha256()
        for piece in self.slices():
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def git_sha1(self) -> str:
        """The id git gives a blob of these bytes, which is the Hub's `oid` and `ETag` of small files."""
        digest = hashlib.sha1(b"blob %d\0" % self.size_bytes, usedforsecurity=False)
        for piece in self.slices():
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def xet_hash(self) -> str:
        """64 hex digits that look like a SHA-256 and are not: the shape of a Xet hash."""
        return hashlib.sha256(b"xet " + self.sha256.encode()).hexdigest()


def bytes_content(data: bytes) -> Content:
    """Content held in memory."""
    view = memoryview(data)
    identity = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return Content(len(data), identity, lambda offset, length: view[offset : offset + length])


def file_content(path: Path) -> Content:
    """Content of a file on the disk, as long as it is now."""
    stat = path.stat()

    def read(offset: int, length: int) -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)

    return Content(stat.st_size, f"{path} {stat.st_size} {stat.st_mtime_ns}", read)


def noise_content(size_bytes: int, seed: str = "") -> Content:
    """Made-up bytes that do not compress, the same for the same seed, at no cost in memory or time.

    Args:
        size_bytes: any size, also terabytes.
        seed: content with another seed differs from its first byte on.
    """
    shift = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) % _NOISE_PERIOD

    def read(offset: int, length: int) -> memoryview:
        start = (offset + shift) % _NOISE_PERIOD
        return _noise()[start : start + max(0, min(length, size_bytes - offset, _NOISE_PERIOD))]

    return Content(size_bytes, f"noise {seed} {size_bytes}", read)


def joined_content(parts: Sequence[Content]) -> Content:
    """Several contents one behind the other."""
    parts = [part for part in parts if part.size_bytes]
    ends = list(accumulate(part.size_bytes for part in parts))

    def read(offset: int, length: int) -> bytes | memoryview:
        index = bisect_right(ends, offset)
        if index == len(parts):
            return b""
        start = ends[index] - parts[index].size_bytes
        return parts[index].read(offset - start, min(length, ends[index] - offset))

    return Content(ends[-1] if ends else 0, " + ".join(part.identity for part in parts), read)


@lru_cache(maxsize=1)
def _noise() -> memoryview:
    """Two periods of noise, so that every slice of one period is one contiguous view."""
    period = random.Random(_NOISE_PERIOD).randbytes(_NOISE_PERIOD)  # noqa: S311  # content, not a secret
    return memoryview(period * 2)
