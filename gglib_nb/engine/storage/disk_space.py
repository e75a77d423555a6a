"""Disk space for everything that runs: reserved before the first byte, against all that is still to come.

What a partial file has allocated is gone from the free space already, so only the rest of each file counts.
"""

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gglib_nb.engine.storage.filesystem import disk_full
from gglib_nb.engine.storage.paths import part_path
from gglib_nb.system import allocated_bytes, existing_folder, free_bytes


@dataclass(frozen=True, slots=True)
class Reservation:
    """One file that will be written.

    Attributes:
        target: Its final path.
        size_bytes: Its size.
        may_be_there: A file of that size at the target is taken for it, so that nothing more is written.
    """

    target: Path
    size_bytes: int
    may_be_there: bool = True

    @property
    def device(self) -> int:
        """The filesystem it will stand on."""
        return existing_folder(self.target.parent).stat().st_dev

    @property
    def missing_bytes(self) -> int:
        """What it will still take."""
        with contextlib.suppress(OSError):
            if self.may_be_there and self.target.stat().st_size == self.size_bytes:
                return 0
        return max(0, self.size_bytes - allocated_bytes(part_path(self.target)))


class DiskSpace:
    """The reservations of all transfers; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reservations: dict[int, tuple[Reservation, ...]] = {}

    def reserve(self, attempt: int, reservations: Iterable[Reservation]) -> None:
        """State what the attempt will still write, in the place of what it stated before.

        Raises:
            DiskFullError: That does not fit beside what the others will write.
        """
        own = tuple(reservations)
        with self._lock:
            self._reservations[attempt] = own
            by_device: dict[int, list[Reservation]] = {}
            for reservation in own:
                by_device.setdefault(reservation.device, []).append(reservation)
            for device, mine in by_device.items():
                self._check(attempt, device, mine)

    def release(self, attempt: int) -> None:
        """The attempt ended."""
        with self._lock:
            self._reservations.pop(attempt, None)

    def _check(self, attempt: int, device: int, mine: list[Reservation]) -> None:
        needed = sum(reservation.missing_bytes for reservation in mine)
        others = sum(
            reservation.missing_bytes
            for other, reservations in self._reservations.items()
            if other != attempt
            for reservation in reservations
            if reservation.device == device
        )
        left = max(0, free_bytes(mine[0].target.parent) - others)
        if needed > left:
            raise disk_full(mine[0].target.parent, needed, left)
