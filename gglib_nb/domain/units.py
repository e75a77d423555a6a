"""Bytes, time, shares, lists and hours of the day as text, and back.

On the disk and the network they are decimal, as on the Hub's pages; memory is binary, as in llama.cpp and nvidia-smi.
All round half up, as the panel's script does; Python's own formatting rounds half to even.
"""

import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Self

from typing_extensions import override

from gglib_nb.domain.text import check_text
from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidConfigError, RequestError

UNKNOWN: Final = "—"

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_LARGE: Final = ("", " k", " M", " B", " T")
# Longer durations need not be distinguished, and a column has a limited width.
_LONGEST_S: Final = (99 * 60 + 59) * 60


@lru_cache(maxsize=1024)  # the panel repeats totals in each message
def size(size_bytes: float | None) -> str:
    """Bytes on a disk or network, decimal: `4.9 GB`."""
    return UNKNOWN if size_bytes is None else scaled(size_bytes, 1000, _DECIMAL)


def rate(bytes_per_second: float | None) -> str:
    """Bytes per second, decimal: `12.3 MB/s`. 0 is a stall, None is unknown."""
    return UNKNOWN if bytes_per_second is None else scaled(bytes_per_second, 1000, _DECIMAL) + "/s"


def memory(memory_bytes: float | None) -> str:
    """Bytes of RAM or of a GPU, binary: `15.5 GiB`."""
    return UNKNOWN if memory_bytes is None else scaled(memory_bytes, 1024, _BINARY)


def duration(seconds: float | None) -> str:
    """Seconds as `1 h 02 min`, `3 min 20 s` or `12 s`; never less than `1 s` or more than `99 h 59 min`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = min(_LONGEST_S, max(1, math.floor(seconds + 0.5)))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"


def percent(fraction: float | None) -> str:
    """A fraction of 0 to 1 in whole percents, rounded down, so that nothing unfinished is `100 %`."""
    if fraction is None:
        return UNKNOWN
    # The addend compensates the rounding of binary fractions: 0.29 * 100 is 28.999999999999996.
    return f"{math.floor(min(1.0, max(0.0, fraction)) * 100 + 1e-9)} %"


def count(number: int | None) -> str:
    """A large number, abbreviated: `7.6 B` parameters, `12.3 k` downloads."""
    return UNKNOWN if number is None else scaled(number, 1000, _LARGE, gap="")


def figure(number: float, digits: int = 6) -> str:
    """A number with so many significant digits, never with an exponent: `0.00005`, `1000000`."""
    return f"{Decimal(f'{number:.{digits}g}'):f}"


def plural(number: int, noun: str) -> str:
    """`1 file`, `2,345 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counted(number: int | None, noun: str) -> str:
    """The same abbreviated: `7.6 B parameters`, `1 download`; empty if unknown."""
    return "" if number is None else f"{count(number)} {noun}{'' if number == 1 else 's'}"


def amount(downloaded_bytes: int, total_bytes: int | None) -> str:
    """Downloaded and total size; only the total before the first and after the last byte, only the first without it."""
    if total_bytes is None:
        return size(downloaded_bytes or None)
    if downloaded_bytes in (0, total_bytes):
        return size(total_bytes)
    return f"{size(downloaded_bytes)} of {size(total_bytes)}"


def minute(at_s: float) -> str:
    """A Unix time in this machine's time zone, to the minute."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def day(at_s: float | None) -> str:
    """The local date of a Unix time."""
    return UNKNOWN if at_s is None else minute(at_s)[:10]


def tilde(path: str) -> str:
    """A path with `~` for this user's home folder, as in Jupyter's configuration."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib raises without a home
    return f"~{path.removeprefix(home)}" if f"{path}/".startswith(f"{home.rstrip('/')}/") else path


def listed(items: Sequence[object], most: int) -> str:
    """The first ones for a sentence: `a, b and 3 more`."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def scaled(value: float, step: int, units: tuple[str, ...], gap: str = " ") -> str:
    """A number in the unit in which it is short, with one decimal; whole in the first unit."""
    whole = max(0, math.floor(value + 0.5))
    if whole < step:
        return f"{whole}{gap}{units[0]}"
    power = 1
    while (tenths := math.floor(value * 10 / step**power + 0.5)) >= step * 10 and power < len(units) - 1:
        power += 1
    return f"{tenths // 10}.{tenths % 10}{gap}{units[power]}"


# --- and back: what users type ---

UNLIMITED: Final = frozenset({"off", "none", "unlimited", "any"})
"""Words for no limit."""

MOST: Final = 10**18
"""The largest number of anything: the engine and the database use 64 bits."""

_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d+)?)\s*([kmgt]?)(i?)(b?(?:/s|ps)?|bits?(?:/s|ps)?)", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATION: Final = re.compile(
    r"(\d{1,12}(?:\.\d+)?)(?!\d)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)?(?![a-z])", re.IGNORECASE
)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_bytes(text: str, bare_unit: str = "") -> int:
    """Bytes, or bytes per second, of `5MB`, `1.5 GiB/s`, `800k`, `100 Mbit/s`: decimal; an `i` makes the unit binary.

    `Mbps` is megabits, `MBps` megabytes; `bare_unit` is the unit of a plain number. Anything else, and zero, is a
    `RequestError`.
    """
    bare = text.strip()
    found = _AMOUNT.fullmatch(bare + bare_unit if bare.replace(".", "", 1).isdecimal() else bare)
    amount = 0
    if found is not None:
        number, prefix, is_binary, unit = found.groups()
        bits = 8 if unit == "bps" or unit.lower().startswith("bit") else 1
        amount = int(float(number) * (1024 if is_binary else 1000) ** _POWERS[prefix.lower()] / bits)
    if not amount:
        number = f"a number of {bare_unit}, or one" if bare_unit else "a number"
        raise RequestError(f"{text!r} is not an amount above zero. Write {number} with its unit, such as 5MB or 1.5GB.")
    return amount


def python_number(value: Any) -> Any:  # noqa: ANN401 - any value
    """A single number or flag of NumPy or pandas as Python's own; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def check_count(name: str, value: object, least: int = 1, most: int = MOST) -> int:
    """A whole number within limits; an `InvalidConfigError` for anything else. `name` is what it counts."""
    if type(value) is int and least <= value <= most:  # a bool is an int to Python, and True would count as 1
        return value
    is_too_large = type(value) is int and value > most
    limits = f"{least} or more" if most == MOST and not is_too_large else f"from {least} to {most}"
    raise InvalidConfigError(f"{name} is {value!r}; it must be a whole number, {limits}.")


def parse_seconds(text: str) -> int:
    """Seconds of `90`, `2 min`, `1h 30min`; a `RequestError` for anything else."""
    parts = _DURATION.findall(text)
    is_unclear = len(parts) > 1 and not all(unit for _, unit in parts)  # `1h30`
    if not parts or is_unclear or _DURATION.sub("", text).strip():
        raise RequestError(f"{text!r} is not a time. Write it such as 90 s, 10 min or 2 h.")
    return round(sum(float(number) * _SECONDS[unit[:1].lower()] for number, unit in parts))


# --- hours of the day ---

_DAY_S: Final = 24 * 60 * 60
_SPAN: Final = re.compile(
    r"(\d{1,2})(?::(\d{2}))?\s*(?:-|\N{EN DASH}|to|until)\s*(\d{1,2})(?::(\d{2}))?", re.IGNORECASE
)


class DailyHours(Value, frozen=True):
    """Hours of every day in local time, such as `22:00-07:00`; over midnight if they end before they start."""

    start: time
    end: time  # the first moment after it

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise InvalidConfigError(
                f"From {self.start:%H:%M} to {self.end:%H:%M} is not a time range. To download at any time: %gguf "
                "bandwidth --hours off"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `22:00-7:00`, `22-7` or `22:00 to 7:00`; an `InvalidConfigError` for anything else."""
        check_text("The time range", text)
        if (found := _SPAN.fullmatch(text.strip())) is not None:
            with suppress(ValueError):  # such as 25:00
                return cls(_time(found[1], found[2]), _time(found[3], found[4]))
        raise InvalidConfigError(f"{text!r} is not a valid time range (for example 22:00-7:00).")

    def contains(self, now: time) -> bool:
        """Whether a time of day is in it."""
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def seconds_until_turn(self, now: time) -> float:
        """Until it begins or ends next, by a clock that is not changed meanwhile; never 0."""
        turn = self.end if self.contains(now) else self.start
        left = datetime.combine(date.min, turn) - datetime.combine(date.min, now)
        return left.total_seconds() % _DAY_S or float(_DAY_S)

    @override
    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def _time(hour: str, minute: str | None) -> time:
    # People write 24:00 for the end of a day.
    return time() if (hour, int(minute or 0)) == ("24", 0) else time(int(hour), int(minute or 0))
