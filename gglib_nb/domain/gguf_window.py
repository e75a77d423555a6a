"""A window that moves once over the bytes of a GGUF header, from a file or from a hub.

It reads bytes when they are needed, jumps over those that are skipped, and refuses impossible lengths, so that time and
memory stay bounded whatever the bytes say.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

from gglib_nb.errors import GgufError

ReadBytes = Callable[[int, int], bytes]
"""Reads (offset, length); fewer bytes mean that the file ends there."""

# The longest real headers (vocabularies of 260,000 tokens with as many merges) have some 16 MB.
_LONGEST_HEADER_BYTES: Final = 64 * 1024**2
_U64: Final = struct.Struct("<Q")


def broken(what: str) -> GgufError:
    """The error of a header that cannot be; `what` is a clause without its full stop."""
    return GgufError(f"The GGUF header is broken: {what}. Download the file again.")


class ReadLimitError(GgufError):
    """The header is longer than may be read; what was read so far is right."""


class Window:
    """Takes and skips bytes from the front; arguments as for `gguf.read_header`."""

    def __init__(self, read: ReadBytes, size_bytes: int, window_bytes: int, limit_bytes: int | None) -> None:
        self.position: int = 0
        self._read: Final = read
        self._size_bytes: Final = size_bytes
        self._window_bytes: Final = window_bytes
        self._allowance: int | None = limit_bytes
        self._start: int = 0
        self._buffer: bytes = b""

    @property
    def left_bytes(self) -> int:
        """Bytes that may follow in a header."""
        return min(self._size_bytes, _LONGEST_HEADER_BYTES) - self.position

    def take(self, length: int) -> bytes:
        """The next bytes."""
        self._require(length)
        at = self.position - self._start
        self.position += length
        return self._buffer[at : at + length]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next values of a fixed layout."""
        self._require(layout.size)
        values = layout.unpack_from(self._buffer, self.position - self._start)
        self.position += layout.size
        return values

    def skip(self, length: int) -> None:
        """Passes over bytes without asking for them."""
        self._check(length)
        self.position += length

    def skip_strings(self, count: int) -> None:
        """Passes over strings, each after its length. A vocabulary has a quarter of a million."""
        unpack = _U64.unpack_from
        while count:
            self._require(_U64.size)
            at, last = self.position - self._start, len(self._buffer) - _U64.size
            while count and at <= last:
                at += _U64.size + unpack(self._buffer, at)[0]
                count -= 1
            self.skip(self._start + at - self.position)

    def _check(self, length: int) -> None:
        if length > self.left_bytes:
            left = max(0, self.left_bytes)
            raise broken(f"at byte {self.position} it declares {length} more bytes and at most {left} can follow")

    def _require(self, length: int) -> None:
        """Makes sure that the next bytes are in the buffer."""
        self._check(length)
        if self.position + length <= self._start + len(self._buffer):
            return
        kept = self._buffer[self.position - self._start :]  # empty where a skip went beyond it
        wanted = min(max(length, self._window_bytes), self._size_bytes - self.position) - len(kept)
        self._buffer, self._start = kept + self._ask(self.position + len(kept), wanted), self.position
        if len(self._buffer) < length:
            if self._allowance == 0:
                raise ReadLimitError("The GGUF header is too long to be read.")
            raise GgufError(f"The file ends inside its GGUF header, at byte {self.position + len(self._buffer)}.")

    def _ask(self, offset: int, length: int) -> bytes:
        if self._allowance is not None:
            length = min(length, self._allowance)
            self._allowance -= length
        return self._read(offset, length) if length else b""
