"""Every setting, stated once: what it is, which variables set it, how it is parsed, checked and shown.

A value comes from an argument, else from what was set in this kernel, what is saved, the profile, an environment
variable, or the default. Only this module reads the file of saved settings. It does not look for the Hub's stored
token: huggingface_hub reads that at every call, so that logging in helps without a restart.

Every function raises `InvalidConfigError` for an impossible value, with a text that names its source.
"""

# ruff: noqa: RUF009 - the calls in the table return fields

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec
import platformdirs

from gglib_nb.domain.http_rules import web_address
from gglib_nb.domain.text import INVALID_CHARACTER, can_be_sent
from gglib_nb.domain.units import (
    UNLIMITED,
    DailyHours,
    check_count,
    duration,
    parse_bytes,
    parse_seconds,
    python_number,
    rate,
    size,
)
from gglib_nb.errors import InvalidConfigError, RequestError
from gglib_nb.system import exists, only_writer, replace_file

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
_MOST: Final = 64  # more than 16 gained nothing on any line measured; beyond this, servers refuse
_TRUE: Final = frozenset({"1", "on", "yes", "true"})  # what huggingface_hub takes for true (its constants.py)
_FALSE: Final = frozenset({"0", "off", "no", "false"})


class Setting(NamedTuple):
    """One setting."""

    summary: str  # what it is, in one sentence
    check: Callable[[str, Any], Any]  # name and given value → the value as used; raises `InvalidConfigError`
    default: Any = None  # or a function that finds it
    variables: tuple[str, ...] = ()  # the first that is set wins; `NAME/below` is a folder in the one that it names
    read: Callable[[str], Any] = str.strip  # what a user types → the value
    read_variable: Callable[[str], Any] | None = None  # the same for a variable; None: as `read`
    show: Callable[[Any], str] = str  # the value as a user writes it

    def default_value(self) -> Any:  # noqa: ANN401 - as the setting is
        """The value that holds if nothing else is said."""
        return self.default() if callable(self.default) else self.default


class Origin(NamedTuple):
    """The source of a value: a variable or file, `where`, if there is one to name."""

    source: Literal["argument", "set here", "saved", "profile", "environment", "default"]
    where: str = ""


# --- checks: a value as given → as used ------------------------------------------------------------------------------


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with `~` and `$SCRATCH` replaced, as huggingface_hub does; a `RuntimeError` without a home folder."""
    return Path(os.path.expandvars(Path(path).expanduser()))


def absolute_path(name: str, value: object, what: str = "folder") -> Path:
    """The absolute path of what a user named."""
    given = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(given, str) or "\0" in given or not given.strip():
        raise InvalidConfigError(f"{name} is {value!r}; it must be the path of a {what}.")
    try:
        given.encode()  # the engine and the database store text
        return expanded(given).absolute()
    except UnicodeEncodeError:
        raise InvalidConfigError(f"{name} is {given!r}, which is not valid text. Rename the {what}.") from None
    except RuntimeError:  # `~name` of no user, or `~` without a home folder
        raise InvalidConfigError(f"{name} is {given!r}, and there is no such home folder.") from None
    except OSError:
        raise InvalidConfigError(
            f"{name} is {given!r}, relative to the working directory, which no longer exists. "
            "Give an absolute path, or change to a folder that exists."
        ) from None


def _bytes(name: str, value: object) -> int | None:
    return None if value is None else check_count(name, value)


def _endpoint(name: str, value: object) -> str:
    """The endpoint as it is used; errors do not repeat the value, which may contain a password."""
    with suppress(ValueError):
        if isinstance(value, str) and value.split() == [value]:
            url = urlsplit(value)
            if url.port != 0 and not (url.query or url.fragment or url.username or url.password):
                return web_address(value).rstrip("/")
    setting = _ALL[name]
    raise InvalidConfigError(
        f"{name} must be an address such as {setting.default or DEFAULT_ENDPOINT}, without user name or query "
        f"({setting.variables[0]} sets it)."
    )


def _each(check: Callable[[str, Any], Any], name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise InvalidConfigError(f"{name} must be a list.")
    return tuple(dict.fromkeys(check(name, one) for one in value))


def _token(_name: str, value: object) -> str | None:
    """The token without surrounding blanks; errors do not repeat it."""
    token = value.strip() if isinstance(value, str) else ""
    if not isinstance(value, str | None) or not can_be_sent(token):
        raise InvalidConfigError(INVALID_CHARACTER)
    return token or None


def _hours(name: str, value: object) -> DailyHours | None:
    if isinstance(value, str):
        return DailyHours.parse(value)
    if value is None or isinstance(value, DailyHours):
        return value
    raise InvalidConfigError(f"{name} is {value!r}; write the hours as in '22:00-7:00'.")


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidConfigError(f"{name} is {value!r}; it must be True or False.")


def _engine(name: str, value: object) -> object:
    """The engine as it is used; None is this machine's."""
    if value is None or (isinstance(value, str) and value.strip().casefold() in ("", "local")):
        return None
    if not isinstance(value, str) and not hasattr(value, "asynchronous"):  # as Dask's clients and clusters have
        raise InvalidConfigError(
            f"{name} is {value!r}; it must be local, an address such as dask://scheduler:8786, or auto."
        )
    return value.strip() if isinstance(value, str) else value


# --- defaults --------------------------------------------------------------------------------------------------------


def _user_folder(kind: Literal["data", "state", "config"], variable: str) -> Path:
    try:
        return Path(getattr(platformdirs, f"user_{kind}_path")("gglib_nb"))
    except (RuntimeError, KeyError, OSError):  # no HOME, and no entry for this user in the list of users
        raise InvalidConfigError(
            f"This user has no home folder: set HOME, or {variable} to a folder that can be written."
        ) from None


def _hub_cache() -> Path:
    return Path(os.path.expanduser("~/.cache/huggingface/hub").lstrip("~"))  # noqa: PTH111 - it keeps `~` without a home folder


# --- text of a user → a value, and back -----------------------------------------------------------------------------


def _read_count(text: str) -> int | str:
    """The number, or the text, which the check refuses with the setting's name."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() else text


def _read_flag(text: str) -> bool:
    if (word := text.strip().lower()) not in _TRUE | _FALSE:
        raise InvalidConfigError(f"{text!r} is neither on nor off.")
    return word in _TRUE


def _read_list(text: str, separator: str | None = None) -> Sequence[str]:
    return () if text.strip().lower() == "none" else [one for one in text.strip().split(separator) if one.strip()]


def _or_unlimited(read: Callable[[str], Any], otherwise: object = None) -> Callable[[str], Any]:
    return lambda text: otherwise if text.strip().lower() in UNLIMITED else read(text)


def _show_seconds(seconds: int) -> str:
    """A duration that reads back as the same; `duration` leaves out seconds beside hours, and hours beyond 99."""
    if not seconds:
        return "off"
    text = duration(seconds)
    return text if parse_seconds(text) == seconds else f"{seconds} s"


def _show_engine(engine: object) -> str:
    return "local" if engine is None else engine if isinstance(engine, str) else f"a Dask {type(engine).__name__}"


_OPEN: Final[Any] = ...  # the argument is not given


def _setting(*stated: Any, is_shown: bool = True, **how: Any) -> Any:  # noqa: ANN401 - as the setting is
    """A field with its `Setting`."""
    return field(default=_OPEN, repr=is_shown, metadata={"setting": Setting(*stated, **how)})


_FOLDER: Final = partial(_setting, check=absolute_path)
_COUNT: Final = partial(_setting, read=_read_count)
_SECONDS: Final = partial(_COUNT, read=_or_unlimited(parse_seconds, 0), show=_show_seconds)
_BYTES: Final = partial(_setting, check=_bytes)


@dataclass(frozen=True)
class DownloadManagerConfig:
    """Settings of one manager, checked when they are made; docs/settings.md has their meanings and defaults.

    For a setting that is left out, the saved value holds, else the one of the profile or environment, else the default.
    None means the default too.

    Attributes:
        models_directory: `~` and relative paths become absolute.
        hf_token: None: huggingface_hub finds it (`HF_TOKEN`, `hf auth login`). Never in a `repr`.
        max_connections: 1 to 64.
        download_hours: In local time, such as `22:00-7:00`; None: at any time.
        activity_interval_s: 0: never.
        engine: None (or `local`): this machine. The hosts of a Dask cluster: `dask://scheduler:8786`, a
            `distributed.Client`, a cluster object such as `LocalCluster` or its name, or `auto` for this process's
            current client; needs the extra `gglib-nb[dask]`.

    Raises:
        InvalidConfigError: A value is impossible; the text names the setting and possible values.
    """

    models_directory: Path = _FOLDER("Folder of the models.", default=Path, variables=("GGLIB_MODELS_DIR",))
    model_stores: tuple[Path, ...] = _setting(
        "Folders of other programs whose models are listed and reused, and never changed.",
        partial(_each, absolute_path),
        (),
        ("GGLIB_MODEL_STORES",),
        read=partial(_read_list, separator=os.pathsep),
        show=lambda value: os.pathsep.join(map(str, value)) or "none",
    )
    storage_limit_bytes: int | None = _BYTES(
        "Maximum disk space for your models. Nothing is deleted: downloads that would exceed it are refused.",
        variables=("GGLIB_STORAGE_LIMIT",),
        read=_or_unlimited(partial(parse_bytes, bare_unit="GB")),
        show=lambda value: "unlimited" if value is None else size(value),
    )
    max_concurrent: int = _COUNT("Downloads that run at once.", check_count, 1, ("GGLIB_MAX_CONCURRENT",))
    max_queue_size: int = _COUNT("Downloads that may wait.", check_count, 10, ("GGLIB_MAX_QUEUE_SIZE",))
    hf_token: str | None = _setting("The Hub's token.", _token, is_shown=False)
    state_directory: Path = _FOLDER(
        "Folder of the database and the engine's log.",
        default=partial(_user_folder, "state", "GGLIB_STATE_DIR"),
        variables=("GGLIB_STATE_DIR",),
    )
    endpoint: str = _setting("The hub, or a mirror.", _endpoint, DEFAULT_ENDPOINT, ("HF_ENDPOINT",))
    mirrors: tuple[str, ...] = _setting(
        "Mirrors of the hub, separated by spaces: they are asked, without the token, for what the hub cannot provide.",
        partial(_each, _endpoint),
        (),
        ("GGLIB_MIRRORS",),
        read=_read_list,
        show=lambda value: " ".join(value) or "none",
    )
    max_connections: int = _COUNT(
        "Connections of all transfers together.", partial(check_count, most=_MOST), 16, ("GGLIB_MAX_CONNECTIONS",)
    )
    bandwidth_limit_bytes_per_second: int | None = _BYTES(
        "Speed limit of all transfers together.",
        variables=("GGLIB_BANDWIDTH_BYTES_PER_SECOND",),
        # A bare number is MB/s, as in the panel, but bytes in the variable, as its name says.
        read=_or_unlimited(partial(parse_bytes, bare_unit="MB")),
        read_variable=_read_count,
        show=lambda value: "unlimited" if value is None else rate(value),
    )
    download_hours: DailyHours | str | None = _setting(
        "Hours of the day in which downloads run.",
        _hours,
        None,
        ("GGLIB_DOWNLOAD_HOURS",),
        read=_or_unlimited(DailyHours.parse),
        show=lambda value: "any" if value is None else str(value),
    )
    hub_cache: Path = _FOLDER(
        "The Hugging Face cache; identical files in it are linked.",
        default=_hub_cache,
        # The order, and what is below the last two, are those of huggingface_hub's own constants.py.
        variables=("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME/hub", "XDG_CACHE_HOME/huggingface/hub"),
    )
    network_wait_s: int = _SECONDS(
        "How long downloads wait for a lost network before they fail.", check_count, 86_400, ("GGLIB_NETWORK_WAIT_S",)
    )
    activity_interval_s: int = _SECONDS(
        "How often the kernel shows that a download is active, so that a server does not stop it as idle.",
        partial(check_count, least=0, most=86_400),
        60,
        ("GGLIB_ACTIVITY_INTERVAL_S",),
    )
    is_offline: bool = _setting(
        "Offline mode: no requests are sent to the hub.",
        _flag,
        False,
        ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
        read=_read_flag,
        read_variable=lambda text: text.lower() in _TRUE,
        show=lambda value: "on" if value else "off",
    )
    engine: object = _setting(
        "Where downloads run: local, a Dask scheduler (dask://host:8786), a cluster's name, or auto.",
        _engine,
        None,
        ("GGLIB_ENGINE",),
        show=_show_engine,
    )
    ms_endpoint: str = _setting(
        "ModelScope, for repositories of the form ms://owner/name.",
        _endpoint,
        "https://www.modelscope.cn",
        ("GGLIB_MODELSCOPE_ENDPOINT",),
    )

    def __post_init__(self) -> None:
        is_all_given = all(getattr(self, name) is not _OPEN for name in _ALL)
        saved = {} if is_all_given else saved_settings()
        for name, setting in _ALL.items():
            value = python_number(getattr(self, name))
            if value is _OPEN:
                asked = asked_for(name, saved)
                value = None if asked is None else asked[0]
            object.__setattr__(self, name, setting.check(name, setting.default_value() if value is None else value))

    @classmethod
    def of_kernel(cls) -> Self:
        """The settings of this kernel's own manager, whose default models folder is in the user's data folder."""
        given = dict(SET_HERE)
        if "models_directory" not in given and asked_for("models_directory") is None:
            given["models_directory"] = default_of("models_directory")
        return cls(**given)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.state_directory / "gglib_nb.sqlite3"

    @property
    def log_directory(self) -> Path:
        """Folder of the engine's log."""
        return self.state_directory / "logs"


_ALL: Final[Mapping[str, Setting]] = {one.name: one.metadata["setting"] for one in fields(DownloadManagerConfig)}
SETTINGS: Final[Mapping[str, Setting]] = {name: setting for name, setting in _ALL.items() if name != "hf_token"}
"""By name; the token is not one of them: it is never shown, saved or set in a notebook."""

SET_HERE: Final[dict[str, Any]] = {}
"""What the user set in this kernel, checked, by name; later managers begin with it."""

_profile: Final[dict[str, Any]] = {}


# --- where a value comes from ----------------------------------------------------------------------------------------


def setting_name(text: str) -> str:
    """The setting that a user means, by its name or a unique part of one; else a `RequestError` with the choices."""
    typed = text.strip().lower().replace("-", "_")
    if typed in SETTINGS:
        return typed
    near = [name for name in SETTINGS if name.startswith(typed)] or [name for name in SETTINGS if typed in name]
    if len(near) == 1:
        return near[0]
    raise RequestError(
        f"{text!r} {'matches several settings' if near else 'is not a setting'}: {', '.join(near or SETTINGS)}."
    )


def checked_setting(name: str, value: Any) -> Any:  # noqa: ANN401 - as the setting is
    """A value of one setting as used; None is its default."""
    return _ALL[name].check(name, default_of(name) if value is None else value)


def default_of(name: str) -> Any:  # noqa: ANN401 - as the setting is
    """The default of this kernel's own manager."""
    if name == "models_directory":
        return _user_folder("data", "GGLIB_MODELS_DIR") / "models"
    return _ALL[name].default_value()


def use_profile(values: Mapping[str, Any]) -> None:
    """Takes the settings of the host's profile (`c.Gglib.max_concurrent = 2`) for managers made from now on."""
    checked = {name: _stated(name, value, f"c.Gglib.{name}") for name, value in values.items()}
    _profile.clear()
    _profile.update(checked)


def _stated(name: str, value: Any, where: str, advice: str = "") -> Any:  # noqa: ANN401 - as the setting is
    """Checks a value of a profile or of the saved settings, which may also be what a user types."""
    try:
        return checked_setting(name, _ALL[name].read(value) if isinstance(value, str) else value)
    except RequestError as error:
        raise InvalidConfigError(f"{where}: {error}{advice}") from None


def asked_for(name: str, saved: Mapping[str, Any] | None = None) -> tuple[Any, Origin] | None:
    """The value that is `saved` (None: read the file), or set by profile or environment; None: the default holds."""
    if name in (saved := saved_settings() if saved is None else saved):
        return saved[name], Origin("saved", str(saved_settings_path()))
    if name in _profile:
        return _profile[name], Origin("profile", f"c.Gglib.{name}")
    return of_environment(name, os.environ)


def of_environment(name: str, environ: Mapping[str, str]) -> tuple[Any, Origin] | None:
    """The value of one setting in environment variables; None: none. An empty variable counts as not set."""
    setting = _ALL[name]
    for variable, _, below in (one.partition("/") for one in setting.variables):
        if text := environ.get(variable, "").strip():
            try:
                value = (setting.read_variable or setting.read)(text)
                return setting.check(name, Path(value, below) if below else value), Origin("environment", variable)
            except RequestError as error:
                raise InvalidConfigError(f"The environment variable {variable} cannot be used: {error}") from None
    return None


def origins_of(config: DownloadManagerConfig) -> Mapping[str, Origin]:
    """The source of each value. An argument equal to the value that holds without it counts as that."""
    return {name: _origin(name, getattr(config, name)) for name in SETTINGS}


def _origin(name: str, value: Any) -> Origin:  # noqa: ANN401 - as the setting is
    if SET_HERE.get(name, _OPEN) == value:
        return Origin("set here")
    if (asked := asked_for(name)) is not None:
        return asked[1] if asked[0] == value else Origin("argument")
    # Two defaults of the models folder: of a manager made by hand, and of the kernel's own.
    for default in (_ALL[name].default_value, partial(default_of, name)):
        with suppress(InvalidConfigError):  # no home folder, or no working directory: then the value was given
            if _ALL[name].check(name, default()) == value:
                return Origin("default")
    return Origin("argument")


# --- saved for good --------------------------------------------------------------------------------------------------


def saved_settings_path() -> Path:
    """The file of saved settings; `GGLIB_CONFIG_DIR` moves its folder."""
    variable = "GGLIB_CONFIG_DIR"
    given = os.environ.get(variable, "").strip()
    return (absolute_path(variable, given) if given else _user_folder("config", variable)) / "settings.json"


def saved_settings() -> Mapping[str, Any]:
    """The saved values by name, checked; names that this version does not know are left out."""
    try:
        path = saved_settings_path()
        path.stat()
    except (OSError, InvalidConfigError):
        return {}
    where, advice = f"In the saved settings, {path}", " To undo it: %gguf config {} --reset"
    saved = {name: value for name, value in _read_saved(path).items() if name in SETTINGS}
    return {name: _stated(name, value, where, advice.format(name)) for name, value in saved.items()}


def save_setting(name: str, value: Any = _OPEN) -> Path:  # noqa: ANN401 - as the setting is
    """Saves one setting for later kernels; without a value, removes it. Returns the file."""
    path = saved_settings_path()
    if value is _OPEN and not exists(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(path.parent):
            kept = _read_saved(path) if exists(path) else {}
            if kept.pop(name, _OPEN) is _OPEN and value is _OPEN:
                return path
            if value is not _OPEN:
                is_plain = isinstance(value, int | None)
                kept[name] = value if is_plain else _ALL[name].show(value) if isinstance(value, tuple) else str(value)
            text = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False)
            replace_file(path, f"{text}\n".encode(), mode=0o600)
    except OSError as error:
        raise InvalidConfigError(
            f"The setting was not saved: {path} cannot be written ({error.strerror}). Set GGLIB_CONFIG_DIR to a folder "
            "that you can write."
        ) from error
    return path


def _read_saved(path: Path) -> dict[str, Any]:
    try:  # with `-sig`, because some editors write a mark in front
        return msgspec.json.decode(path.read_text(encoding="utf-8-sig"), type=dict[str, Any])
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidConfigError(f"The saved settings cannot be read; repair or delete {path} ({error}).") from None
