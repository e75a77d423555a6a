"""Every setting in words: what it is, how its value is written in `%gguf config`, and how it is read back.

Pure: a text in, a value out, and the other way round. Whether a value can work is known to `gglib_nb.settings`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gglib_nb.errors import RequestError
from gglib_nb.notebook import formats
from gglib_nb.notebook.arguments import NO_LIMIT, parse_rate, read_hours
from gglib_nb.notebook.grammar import GrammarError

_PART: Final = re.compile(
    r"(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)?(?![a-z])", re.IGNORECASE
)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_FLAGS: Final = {
    "on": True,
    "yes": True,
    "true": True,
    "1": True,
    "off": False,
    "no": False,
    "false": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class SettingWords:
    """One setting as a person sees it.

    Attributes:
        summary: What it is, in one sentence.
        read: Its value from what a person typed; raises `GrammarError` where that is none.
        show: The same the other way round.
    """

    summary: str
    read: Callable[[str], Any]
    show: Callable[[Any], str]


def setting_name(text: str) -> str:
    """The setting that a person means: by its name, or by a part of it that only one has.

    Raises:
        RequestError: There is none, or there are several; the names are said.
    """
    typed = text.strip().lower().replace("-", "_")
    if typed in SETTINGS:
        return typed
    near = [name for name in SETTINGS if name.startswith(typed)] or [name for name in SETTINGS if typed in name]
    if len(near) == 1:
        return near[0]
    raise RequestError(
        f"{text!r} {'names several settings' if near else 'is no setting'}: {', '.join(near or SETTINGS)}."
    )


def read_rate(text: str) -> int | None:
    """Bytes per second of `5MB`, `1.5 GiB/s`, `5` (MB/s, as in the panel); None for `off`.

    Raises:
        GrammarError: It is no such number, or zero.
    """
    return None if text.strip().lower() in NO_LIMIT else parse_rate(text)


def read_seconds(text: str) -> int:
    """Seconds of `90`, `2 min`, `1h`; 0 for `off`.

    Raises:
        GrammarError: It is no time.
    """
    if text.strip().lower() in NO_LIMIT:
        return 0
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise GrammarError(f"{text!r} is no time. Write it such as 90 s, 10 min or 2 h.")
    return round(sum(float(number) * _SECONDS[unit[:1].lower()] for number, unit in parts))


def _read_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise GrammarError(f"{text!r} is no whole number.")
    return int(text)


def _read_flag(text: str) -> bool:
    if (value := _FLAGS.get(text.strip().lower())) is None:
        raise GrammarError(f"{text!r} is neither on nor off.")
    return value


def _show_seconds(seconds: int) -> str:
    return "off" if seconds == 0 else formats.duration(seconds)


def _show_engine(engine: object) -> str:
    return "local" if engine is None else engine if isinstance(engine, str) else f"a Dask {type(engine).__name__}"


SETTINGS: Final[Mapping[str, SettingWords]] = {
    "models_directory": SettingWords("Folder of the models.", str, str),
    "state_directory": SettingWords("Folder of the catalog and the engine's log.", str, str),
    "endpoint": SettingWords("The hub, or a mirror.", str, str),
    "hub_cache": SettingWords("Folder in which identical files are looked for, to be linked.", str, str),
    "max_concurrent": SettingWords("Downloads that run at once.", _read_count, str),
    "max_queue_size": SettingWords("Downloads that may wait.", _read_count, str),
    "max_connections": SettingWords("Connections of all transfers together.", _read_count, str),
    "bandwidth_limit_bytes_per_second": SettingWords(
        "Of all transfers together.", read_rate, lambda rate: "unlimited" if rate is None else formats.rate(rate)
    ),
    "download_hours": SettingWords(
        "Hours of the day in which downloads run.", read_hours, lambda hours: "any" if hours is None else str(hours)
    ),
    "network_wait_s": SettingWords(
        "How long downloads wait for a network that is gone before they fail.", read_seconds, _show_seconds
    ),
    "activity_interval_s": SettingWords(
        "How often the kernel shows that a download is active, so that it is not ended as idle.",
        read_seconds,
        _show_seconds,
    ),
    "engine": SettingWords(
        "Where downloads run: local, a Dask scheduler (dask://host:8786), a cluster's name, or auto.", str, _show_engine
    ),
    "is_offline": SettingWords("Nothing is asked of the hub.", _read_flag, lambda is_on: "on" if is_on else "off"),
}
