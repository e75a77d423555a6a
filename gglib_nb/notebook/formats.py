"""Numbers as a person reads them: sizes, rates, durations, percents. Pure; knows nothing of downloads.

They follow one table of cases (`tests/unit/format_cases.json`) and round half up; Python's own formatting rounds half to
even. All but large counts are in `gglib_nb.domain.units`, where errors and a script's progress find them too.
"""

from typing import Final

from gglib_nb.domain.units import UNKNOWN, duration, memory, percent, rate, scaled, size

__all__ = ["UNKNOWN", "count", "duration", "memory", "percent", "rate", "size"]

_LARGE: Final = ("", " k", " M", " B", " T")


def count(number: int | None) -> str:
    """A large number in short: `7.6 B` parameters, `12.3 k` downloads."""
    if number is None:
        return UNKNOWN
    return scaled(number, 1000, _LARGE, gap="")
