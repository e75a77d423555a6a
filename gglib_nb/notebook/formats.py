"""Human-readable numbers and times. Pure, and independent of downloads.

Sizes, rates, durations and percentages are in `gglib_nb.domain.units`, because errors and scripts use them too.
"""

import os
from datetime import UTC, datetime
from typing import Final

from gglib_nb.domain.units import UNKNOWN, duration, memory, percent, rate, scaled, size

__all__ = [
    "UNKNOWN", "amount", "count", "day", "duration", "folder", "memory", "minute", "percent", "plural", "rate", "size",
    "tilde",
]  # fmt: skip

_LARGE: Final = ("", " k", " M", " B", " T")


def count(number: int | None) -> str:
    """A large number, abbreviated: `7.6 B` parameters, `12.3 k` downloads."""
    return UNKNOWN if number is None else scaled(number, 1000, _LARGE, gap="")


def plural(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def amount(downloaded_bytes: int, total_bytes: int | None) -> str:
    """Downloaded and total size; only the total before the first byte and after the last."""
    if downloaded_bytes in (0, total_bytes):
        return size(total_bytes)
    return f"{size(downloaded_bytes)} of {size(total_bytes)}"


def minute(at_s: float) -> str:
    """A Unix time in this machine's time zone, to the minute."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def day(at_s: float | None) -> str:
    """The local date of a Unix time."""
    return UNKNOWN if at_s is None else minute(at_s)[:10]


def folder(path: str) -> str:
    """The folder of a file, with `~` for the home folder, as in Jupyter's configuration."""
    return tilde(os.path.dirname(path))  # noqa: PTH120 - as below


def tilde(above: str) -> str:
    """A folder with `~` for this user's home folder."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib raises without a home
    return f"~{above.removeprefix(home)}" if f"{above}/".startswith(f"{home.rstrip('/')}/") else above
