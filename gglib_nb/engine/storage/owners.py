"""Which process something belongs to, and whether that process still lives. Knows neither leases nor queues.

A process id means something on its machine, in its boot and in its process namespace only, and is given again after
its process is gone. So an owner is all four with the time at which the process began; of another machine nothing can
be seen from here.
"""

import os
import socket
import time
from typing import Self

from gglib_nb.domain.values import Value
from gglib_nb.system import boot_id, clock_s, is_running, process_place, process_start


def is_of_earlier_boot(place: str, written_s: float) -> bool:
    """Whether something was written on this machine before it was started.

    Two machines may carry one name, so the time of the last write decides: a living owner, wherever it is, has
    written since this boot.

    Args:
        place: Of the owner, as `process_place` gave it.
        written_s: Unix time of its last sign of life.
    """
    host, boot, *_ = f"{place}  ".split(" ")
    is_other_boot = host == socket.gethostname() and bool(boot) and bool(boot_id()) and boot != boot_id()
    return is_other_boot and written_s < time.time() - clock_s()


class Owner(Value, frozen=True):
    """A process, wherever it runs.

    Attributes:
        place: Machine, boot and process namespace.
        pid: Its id there.
        start: What tells it from a later process with the same id; empty unknown.
    """

    place: str
    pid: int
    start: str

    @classmethod
    def this_process(cls) -> Self:
        """The one that asks."""
        return cls(process_place(), os.getpid(), process_start(os.getpid()))

    @property
    def host(self) -> str:
        """Name of its machine."""
        return self.place.partition(" ")[0]

    def is_of_other_boot(self, other: Self) -> bool:
        """Whether both say in which boot they run, and it is not the same."""
        mine, theirs = (f"{one.place}  ".split(" ")[1] for one in (self, other))
        return bool(mine and theirs) and mine != theirs

    def is_gone(self, written_s: float) -> bool:
        """Whether it is known to be gone; False where that cannot be seen from here.

        Args:
            written_s: Unix time of its last sign of life.
        """
        if self.place != process_place():
            return is_of_earlier_boot(self.place, written_s)
        return not is_running(self.pid) or (bool(self.start) and process_start(self.pid) not in (self.start, ""))
