"""Numbers as a person reads them: sizes, rates, durations, percents. Pure; knows nothing of downloads.

The panel's script prints the same numbers beside these, so both follow one table of cases
(`tests/unit/format_cases.json`), and both round half up: Python's own formatting rounds half to even and
JavaScript's does not. What is said of bytes stands in `gglib_nb.domain.units`, where errors find it too.
"""

import math
from typing import Final

from gglib_nb.domain.units import UNKNOWN, memory, rate, scaled, size

__all__ = ["UNKNOWN", "count", "duration", "memory", "percent", "rate", "size"]

_LARGE: Final = ("", " k", " M", " B", " T")
# What is longer is not worth telling apart, and a column has to end somewhere.
_LONGEST_S: Final = (99 * 60 + 59) * 60


def count(number: int | None) -> str:
    """A large number in short: `7.6 B` parameters, `12.3 k` downloads."""
    if number is None:
        return UNKNOWN
    return scaled(number, 1000, _LARGE, gap="")


def duration(seconds: float | None) -> str:
    """Seconds as `1 h 02 min`, `3 min 20 s` or `12 s`.

    Never `0 s`, since what is shown has not ended yet or took some time; never above `99 h 59 min`.
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = min(_LONGEST_S, max(1, math.floor(seconds + 0.5)))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"


def percent(fraction: float | None) -> str:
    """A fraction of 0 to 1 as whole percents, rounded down: `100 %` is said of nothing unfinished."""
    if fraction is None:
        return UNKNOWN
    # The addend gives back what binary fractions lose: 0.29 * 100 is 28.999999999999996.
    return f"{math.floor(min(1.0, max(0.0, fraction)) * 100 + 1e-9)} %"
