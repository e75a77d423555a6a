"""How many bytes a connection reads at once.

Grows and shrinks so that a read takes about a tenth of a second: a stop is seen soon, a kill loses little, and a fast
line still fills the whole buffer. Arithmetic only; it knows neither sockets nor clocks.
"""

from typing import Final

from gglib_nb.engine.storage.byte_ranges import MIB

BUFFER_BYTES: Final = MIB
READ_S: Final = 0.1
_SMALLEST_BYTES: Final = 4 * 1024
# Below this a read takes what has come and does not wait until it is full: at 3 KB/s that would look like a stall.
_FILLED_BYTES: Final = 128 * 1024


class SliceLength:
    """The length of one connection's next read."""

    def __init__(self) -> None:
        self._length_bytes = _SMALLEST_BYTES
        self._gained_bytes = 0
        self._took_s = 0.0

    @property
    def length_bytes(self) -> int:
        """To read at once, at most."""
        return self._length_bytes

    @property
    def is_filled(self) -> bool:
        """Whether the next read waits until it is full, which costs a fast line least."""
        return self._length_bytes >= _FILLED_BYTES

    def observe(self, count_bytes: int, took_s: float) -> None:
        """A read has brought so much in so long.

        What several reads bring counts together: TLS hands out 16 KiB at a time, however much has come.
        """
        self._gained_bytes += count_bytes
        self._took_s += took_s
        if took_s > 2 * READ_S:
            self._set(self._length_bytes // 2)
        elif self._gained_bytes >= self._length_bytes:
            self._set(self._length_bytes * (2 if self._took_s < READ_S / 2 else 1))

    def limit(self, bytes_per_second: float) -> None:
        """Under a bandwidth limit, let no read run far ahead of it."""
        self._length_bytes = max(_SMALLEST_BYTES, min(self._length_bytes, int(bytes_per_second * READ_S / 2)))

    def _set(self, length_bytes: int) -> None:
        self._length_bytes = min(BUFFER_BYTES, max(_SMALLEST_BYTES, length_bytes))
        self._gained_bytes, self._took_s = 0, 0.0
