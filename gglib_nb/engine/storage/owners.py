"""Which process something belongs to, and whether that process still lives. Knows neither leases nor queues.

A process id means something on its machine, in its boot and in its process namespace only, and is given again after
its process is gone. So an owner is all four with the time at which the process began; of another machine nothing can
be seen from here.
"""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """What tells this boot of this machine from any other; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def clock_s() -> float:
    """A clock that goes on while the machine sleeps, so that what runs out with time does so then, too."""
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(kind)


def present_place() -> str:
    """Where process ids mean the same as here: machine, boot and process namespace."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {boot_id()} {namespace}"


def is_of_earlier_boot(place: str, written_s: float) -> bool:
    """Whether something was written on this machine before it was started.

    Two machines may carry one name, so the time of the last write decides: a living owner, wherever it is, has
    written since this boot.

    Args:
        place: Of the owner, as `present_place` gave it.
        written_s: Unix time of its last sign of life.
    """
    host, boot, *_ = f"{place}  ".split(" ")
    is_other_boot = host == socket.gethostname() and bool(boot) and bool(boot_id()) and boot != boot_id()
    return is_other_boot and written_s < time.time() - clock_s()


def is_running(pid: int) -> bool:
    """Whether a process of this place is there and not killed; true where that cannot be told."""
    try:
        os.kill(pid, 0)
        # A killed process that nobody has waited for yet still has its id.
        return _stat_of(pid)[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:
        return True


def process_start(pid: int) -> str:
    """What tells a process of this place from a later one with its id; empty where the system does not say."""
    try:
        return _stat_of(pid)[19]
    except OSError:
        return ""


def _stat_of(pid: int) -> list[str]:
    """What Linux says of a process, from its state on (proc(5)); its name, which may hold anything, left out."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class Owner:
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
        return cls(present_place(), os.getpid(), process_start(os.getpid()))

    @property
    def host(self) -> str:
        """Name of its machine."""
        return self.place.partition(" ")[0]

    def is_gone(self, written_s: float) -> bool:
        """Whether it is known to be gone; False where that cannot be seen from here.

        Args:
            written_s: Unix time of its last sign of life.
        """
        if self.place != present_place():
            return is_of_earlier_boot(self.place, written_s)
        return not is_running(self.pid) or (bool(self.start) and process_start(self.pid) not in (self.start, ""))
