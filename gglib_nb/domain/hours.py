"""Hours of the day in which downloads may run, by the local clock.

A change to summer time moves nothing: hours that start at 2:30 have begun at 3:00 in the night without a 2:30, and
begin with the first in the night that has it twice.
"""

import re
from contextlib import suppress
from datetime import time
from typing import Final, Self

from typing_extensions import override

from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidConfigError

_DAY_S: Final = 24 * 60 * 60
_SPAN: Final = re.compile(
    r"(\d{1,2})(?::(\d{2}))?\s*(?:-|\N{EN DASH}|to|until)\s*(\d{1,2})(?::(\d{2}))?", re.IGNORECASE
)


class DailyHours(Value, frozen=True):
    """Hours of every day, such as `22:00-07:00`; over midnight if they end before they start.

    Attributes:
        start: First moment, in local time.
        end: First moment after it.
    """

    start: time
    end: time

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise InvalidConfigError(
                f"From {self.start:%H:%M} to {self.end:%H:%M} is not a time range. To download at any time: %gguf bandwidth --hours off"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `22:00-7:00`, `22-7` or `22:00 to 7:00`.

        Raises:
            InvalidConfigError: It is no such text.
        """
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
        return (_second(turn) - _second(now)) % _DAY_S or float(_DAY_S)

    @override
    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def _time(hour: str, minute: str | None) -> time:
    # People write 24:00 for the end of a day.
    return time() if (hour, int(minute or 0)) == ("24", 0) else time(int(hour), int(minute or 0))


def _second(of: time) -> float:
    return of.hour * 3600 + of.minute * 60 + of.second + of.microsecond / 1e6
