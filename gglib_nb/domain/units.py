"""Bytes as a person reads them: one system for disk and line, one for memory. Pure; knows nothing of downloads.

On the disk and on the line they are decimal, as on the Hub's pages, in its client and on the label of a disk: a file that
the Hub calls 4.92 GB is 4.9 GB everywhere here. Memory is binary, as in llama.cpp and nvidia-smi. All round half up, as the
panel's script does: Python's own formatting rounds half to even.
"""

import math
from typing import Final

UNKNOWN: Final = "—"

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(size_bytes: float | None) -> str:
    """Bytes on a disk or a line, decimal: `4.9 GB`."""
    return UNKNOWN if size_bytes is None else scaled(size_bytes, 1000, _DECIMAL)


def part(part_bytes: float, whole_bytes: float | None) -> str:
    """How much of how much, in the unit of the whole: `13.2 of 17.0 GB`; alone where that is unknown."""
    if whole_bytes is None or part_bytes >= whole_bytes:
        return size(part_bytes)
    whole = size(whole_bytes)
    unit = whole.rpartition(" ")[2]
    if unit == _DECIMAL[0]:
        return f"{max(0, math.floor(part_bytes + 0.5))} of {whole}"
    tenths = math.floor(part_bytes * 10 / 1000 ** _DECIMAL.index(unit) + 0.5)
    return f"{tenths // 10}.{tenths % 10} of {whole}"


def rate(bytes_per_second: float | None) -> str:
    """Bytes per second, decimal: `12.3 MB/s`. 0 is a stall, None is unknown."""
    return UNKNOWN if bytes_per_second is None else scaled(bytes_per_second, 1000, _DECIMAL) + "/s"


def memory(memory_bytes: float | None) -> str:
    """Bytes of RAM or of a GPU, binary: `15.5 GiB`."""
    return UNKNOWN if memory_bytes is None else scaled(memory_bytes, 1024, _BINARY)


def scaled(value: float, step: int, units: tuple[str, ...], gap: str = " ") -> str:
    """A number in the unit in which it is short, with one digit behind the point; whole in the first unit."""
    whole = max(0, math.floor(value + 0.5))
    if whole < step:
        return f"{whole}{gap}{units[0]}"
    power, tenths = 0, step * 10
    while tenths >= step * 10 and power < len(units) - 1:
        power += 1
        tenths = math.floor(value * 10 / step**power + 0.5)
    return f"{tenths // 10}.{tenths % 10}{gap}{units[power]}"
