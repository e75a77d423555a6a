"""The rule by which a host is chosen for a download, and how a limit is shared. Pure functions of plain values."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What a host has to do.

    Attributes:
        host: Its name.
        running: Transfers that run there.
        bytes_to_go: What is still to come for them; of unknown sizes nothing.
        free_bytes: On the disk of its models folder; None unknown.
        has_part: Whether its models folder holds a part of what is to be placed.
    """

    host: str
    running: int
    bytes_to_go: int
    free_bytes: int | None
    has_part: bool = False


def choose_host(loads: Iterable[HostLoad], slots: int, needed_bytes: int) -> str | None:
    """The host that takes the next download; None where every one is busy.

    A host with room on its disk before one without (its engine, which can link what is there, has the last word on
    that); then one that has a part of it; then the one with the fewest bytes to go; then by name.

    Args:
        loads: The hosts.
        slots: Transfers that a host may run at once.
        needed_bytes: What the download will take of the disk.
    """
    free = [load for load in loads if load.running < slots]
    best = min(
        free,
        key=lambda load: (not _has_room(load, needed_bytes), not load.has_part, load.bytes_to_go, load.host),
        default=None,
    )
    return None if best is None else best.host


def _has_room(load: HostLoad, needed_bytes: int) -> bool:
    return load.free_bytes is None or load.free_bytes >= needed_bytes


def shares_of(limit: int, running: Mapping[str, int], at_least: int = 1) -> dict[str, int]:
    """What each host gets of a limit for all together, in proportion to the transfers that it runs.

    The shares make up the limit, but for hosts that would get less than `at_least`.
    """
    total = sum(running.values())
    shares, given, passed = {}, 0, 0
    for host, count in sorted(running.items()):
        if count:
            passed += count
            upto = limit * passed // total
            shares[host] = max(at_least, upto - given)
            given = upto
    return shares


def spread(folders: Mapping[str, str], served: Collection[str]) -> list[str]:
    """The hosts that still have to fetch a copy where every folder shall have one: one of each folder, by name.

    Args:
        folders: The folder of each host, by its identity; hosts that share one need one copy.
        served: Folders that have theirs, or that get it now.
    """
    firsts: dict[str, str] = {}
    for host, folder in sorted(folders.items()):
        if folder not in served:
            firsts.setdefault(folder, host)
    return list(firsts.values())
