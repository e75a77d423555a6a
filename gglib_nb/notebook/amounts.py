"""Values that only lines of `%gguf` have; sizes, rates and times are read by `gglib_nb.domain.units`. Pure.

Every reader raises `GrammarError` with one sentence.
"""

import re
from functools import partial
from typing import Final, Literal

from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.units import UNLIMITED, parse_bytes
from gglib_nb.notebook.verb import GrammarError

_COUNT: Final = re.compile(r"(\d+)\s*(?:(k)(i?))?", re.IGNORECASE | re.ASCII)
_PARAMETERS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([mbt])", re.IGNORECASE | re.ASCII)
_AGE: Final = re.compile(r"(\d{1,5})\s*(h|d|w)", re.IGNORECASE | re.ASCII)
_read_rate: Final = partial(parse_bytes, bare_unit="MB")


def read_count(text: str) -> int:
    """A whole number of at least 1: `8192`, `8k` (8,000), `8Ki` (8,192)."""
    found = _COUNT.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise GrammarError(f"{text!r} is not a whole number of at least 1")
    return int(found[1]) * ((1024 if found[3] else 1000) if found[2] else 1)


def read_limit(text: str) -> int:
    """Bytes per second of `5MB`, `1.5 GiB/s`, or of `5`, which is 5 MB/s as in the panel; 0 of `off`."""
    return 0 if text.strip().lower() in UNLIMITED else _read_rate(text)


def read_age(text: str) -> float:
    """Seconds of `30d`, `8w`, `12h`."""
    found = _AGE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise GrammarError(f"{text!r} is not an age. Write one such as 30d, 8w or 12h")
    return int(found[1]) * {"h": 3_600.0, "d": 86_400.0, "w": 604_800.0}[found[2].lower()]


def read_hours(text: str) -> DailyHours | Literal["off"]:
    """Hours of the day of `22:00-7:00`; `off` of `off`."""
    return "off" if text.strip().lower() in UNLIMITED else DailyHours.parse(text)


def read_parameters(text: str) -> int:
    """Parameters of `8B`, `1.5b`, `500M`."""
    found = _PARAMETERS.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise GrammarError(f"{text!r} is not a number of parameters. Write one such as 8B or 500M")
    return int(float(found[1]) * {"m": 10**6, "b": 10**9, "t": 10**12}[found[2].lower()])
