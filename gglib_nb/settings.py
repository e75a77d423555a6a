"""What can be set, its defaults, and the one place that reads environment variables.

It does not look at the disk or the network, and it does not look for the Hub's stored token: huggingface_hub
finds that one anew at every call, so that logging in helps without a restart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import platformdirs

from gglib_nb.domain.hours import DailyHours
from gglib_nb.errors import InvalidConfigError

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
_MOST_CONNECTIONS: Final = 64  # more than 16 gained nothing on any line measured; beyond this, servers refuse
_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})  # what huggingface_hub takes for true (its constants.py)


def _default_models_directory() -> Path:
    return platformdirs.user_data_path("gglib_nb") / "models"


def _default_state_directory() -> Path:
    return platformdirs.user_state_path("gglib_nb")


def _default_hub_cache() -> Path:
    return Path("~/.cache/huggingface/hub")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; a value that cannot work is refused when the object is made.

    Attributes:
        models_directory: Folder of `<owner>/<repo>/<path in repo>`; `~` and relative paths become absolute. By
            default `models` in the user's data folder (`~/.local/share/gglib_nb/models` on Linux).
        state_directory: Folder of the database and the engine's log; by default the user's state folder.
        hub_cache: Folder of the Hugging Face cache, in which identical files are looked for before a download.
        endpoint: The hub's base URL, without a `/` at its end.
        token: The hub's token; None leaves it to huggingface_hub (`HF_TOKEN`, `hf auth login`). Never in a `repr`.
        max_concurrent: Downloads that run at once.
        max_queue_size: Downloads that may wait.
        max_connections: Connections of all transfers together.
        bandwidth_limit_bytes_per_second: Of all transfers together; None is unlimited.
        download_hours: The hours of the day in which downloads run, of the local time; None is at any time. Text such
            as `22:00-7:00` will do.
        network_wait_s: How long a download waits for a network that is gone before it fails.
        activity_interval_s: How often the kernel shows that it is at work while a download is active, so that nobody
            ends it as idle; 0 never.
        is_offline: Offline mode: the hub is not asked.
        engine: Where transfers run: None on this machine, else what `gglib_nb.cluster.connecting` takes.
    """

    models_directory: Path = field(default_factory=_default_models_directory)
    state_directory: Path = field(default_factory=_default_state_directory)
    hub_cache: Path = field(default_factory=_default_hub_cache)
    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    max_concurrent: int = 1
    max_queue_size: int = 10
    max_connections: int = 16
    bandwidth_limit_bytes_per_second: int | None = None
    download_hours: DailyHours | None = None
    network_wait_s: int = 86_400
    activity_interval_s: int = 60
    is_offline: bool = False
    engine: object = None

    def __post_init__(self) -> None:
        for name in ("models_directory", "state_directory", "hub_cache"):
            object.__setattr__(self, name, _folder(name, getattr(self, name)))
        object.__setattr__(self, "endpoint", _endpoint(self.endpoint))
        object.__setattr__(self, "token", _token(self.token))
        object.__setattr__(self, "engine", _engine(self.engine))
        _check_count("max_concurrent", self.max_concurrent)
        _check_count("max_queue_size", self.max_queue_size)
        checked_connections(self.max_connections)
        _check_count("network_wait_s", self.network_wait_s)
        _check_count("activity_interval_s", self.activity_interval_s, least=0)
        object.__setattr__(self, "download_hours", daily_hours(self.download_hours))
        if self.bandwidth_limit_bytes_per_second is not None:
            _check_count("bandwidth_limit_bytes_per_second", self.bandwidth_limit_bytes_per_second)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The settings that environment variables ask for; the rest are defaults. An empty variable is as none.

        Raises:
            InvalidConfigError: One of them has a value that cannot work.
        """
        asked = {name: environment_setting(environ, name) for name in ENVIRONMENT_VARIABLES}
        return cls(**{name: value for name, value in asked.items() if value is not None})

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.state_directory / "gglib_nb.sqlite3"

    @property
    def log_directory(self) -> Path:
        """Folder of the engine's log."""
        return self.state_directory / "logs"


def environment_setting(environ: Mapping[str, str], name: str) -> Any:  # noqa: ANN401 - as the setting is
    """What environment variables ask for in one setting; None where they do not. An empty variable is as none.

    Raises:
        InvalidConfigError: A number is none.
    """
    variable = asking_variable(environ, name)
    return None if variable is None else _READERS[name](environ[variable], variable)


def session_name(environ: Mapping[str, str]) -> str:
    """The notebook that a kernel was started for, as Jupyter's server says in `JPY_SESSION_NAME`; empty where none does."""
    return Path(environ.get("JPY_SESSION_NAME", "").strip()).name


def host_name(environ: Mapping[str, str]) -> str | None:
    """What `GGLIB_HOST` says a worker of a cluster is to call its host; None: the machine's own name."""
    return environ.get("GGLIB_HOST", "").strip() or None


def asking_variable(environ: Mapping[str, str], name: str) -> str | None:
    """The environment variable that one setting comes from; None where none asks for it."""
    return next((one for one in ENVIRONMENT_VARIABLES[name] if environ.get(one, "").strip()), None)


def saved_settings_path(environ: Mapping[str, str]) -> Path:
    """The file of the settings that were saved for good; `GGLIB_CONFIG_DIR` moves its folder."""
    folder = environ.get("GGLIB_CONFIG_DIR", "").strip()
    return (Path(folder).expanduser() if folder else platformdirs.user_config_path("gglib_nb")) / "settings.json"


def checked_setting(name: str, value: Any) -> Any:  # noqa: ANN401 - as the setting is
    """A value of one setting as it will be used.

    Raises:
        InvalidConfigError: It cannot work.
    """
    return getattr(Settings(**{name: value}), name)


def _read_folder(text: str, _variable: str) -> Path:
    return Path(text)


def _read_count(text: str, variable: str, least: int = 1) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and int(digits) >= least):
        raise InvalidConfigError(f"{variable} is {text!r}; it must be a whole number, {least} or more.")
    return int(digits)


def _read_hub_cache(text: str, variable: str) -> Path:
    return Path(text).joinpath(*_BELOW[variable])


def _read_hours(text: str, variable: str) -> DailyHours:
    try:
        return DailyHours.parse(text)
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{variable}: {error}") from None


# The order, and what is below the last two, are those of huggingface_hub's own constants.py.
_BELOW: Final[Mapping[str, tuple[str, ...]]] = {
    "HF_HUB_CACHE": (),
    "HF_HOME": ("hub",),
    "XDG_CACHE_HOME": ("huggingface", "hub"),
}
ENVIRONMENT_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "models_directory": ("GGLIB_MODELS_DIR",),
    "state_directory": ("GGLIB_STATE_DIR",),
    "hub_cache": ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"),
    "endpoint": ("HF_ENDPOINT",),
    "max_concurrent": ("GGLIB_MAX_CONCURRENT",),
    "max_queue_size": ("GGLIB_MAX_QUEUE_SIZE",),
    "max_connections": ("GGLIB_MAX_CONNECTIONS",),
    "bandwidth_limit_bytes_per_second": ("GGLIB_BANDWIDTH_BYTES_PER_SECOND",),
    "download_hours": ("GGLIB_DOWNLOAD_HOURS",),
    "network_wait_s": ("GGLIB_NETWORK_WAIT_S",),
    "activity_interval_s": ("GGLIB_ACTIVITY_INTERVAL_S",),
    "is_offline": ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    "engine": ("GGLIB_ENGINE",),
}
"""Of every setting that has some, the first that is set counting."""

_READERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "models_directory": _read_folder,
    "state_directory": _read_folder,
    "hub_cache": _read_hub_cache,
    "endpoint": lambda text, _variable: text.strip(),
    "max_concurrent": _read_count,
    "max_queue_size": _read_count,
    "max_connections": _read_count,
    "bandwidth_limit_bytes_per_second": _read_count,
    "download_hours": _read_hours,
    "network_wait_s": _read_count,
    "activity_interval_s": partial(_read_count, least=0),
    "is_offline": lambda text, _variable: text.strip().upper() in _TRUE,
    "engine": lambda text, _variable: text.strip(),
}


def daily_hours(value: DailyHours | str | None) -> DailyHours | None:
    """Hours as a value, whatever they were given as.

    Raises:
        InvalidConfigError: They are no hours.
    """
    if isinstance(value, str):
        return DailyHours.parse(value)
    if value is None or isinstance(value, DailyHours):
        return value
    raise InvalidConfigError(f"download_hours is {value!r}; write them such as '22:00-7:00'.")


def checked_connections(value: int) -> int:
    """A number of connections that can work.

    Raises:
        InvalidConfigError: It is none.
    """
    _check_count("max_connections", value, _MOST_CONNECTIONS)
    return value


def _folder(name: str, value: object) -> Path:
    if not isinstance(value, str | Path) or "\0" in str(value) or not str(value).strip():
        raise InvalidConfigError(f"{name} is {value!r}; it must be the path of a folder.")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:  # `~name` of nobody
        raise InvalidConfigError(f"{name} is {str(value)!r}, and there is no such home folder.") from None


def _endpoint(value: str) -> str:
    """The endpoint as it is used; what was given is not repeated, since it may carry a password."""
    try:
        url = urlsplit(value)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except (ValueError, AttributeError):
        is_usable = False
    else:
        is_usable = is_usable and not (url.query or url.fragment or url.username or url.password)
    if not is_usable or any(character.isspace() for character in value):
        raise InvalidConfigError(
            f"The endpoint must be an address such as {DEFAULT_ENDPOINT}, without user name or query (HF_ENDPOINT sets it)."
        )
    return value.rstrip("/")


def _token(value: str | None) -> str | None:
    """The token without the blanks that a file or a paste leaves around it; never repeated in an error."""
    token = (value or "").strip()
    if not all("!" <= character <= "~" for character in token):
        raise InvalidConfigError("The token holds a blank or a character that no token has; paste it again.")
    return token or None


def _engine(value: object) -> object:
    """The engine as it is used: None for this machine's; of an object only its own library can say more."""
    if value is None or (isinstance(value, str) and value.strip().casefold() in ("", "local")):
        return None
    if isinstance(value, bool | int | float | bytes):
        raise InvalidConfigError(
            f"engine is {value!r}; it must be local, an address such as dask://scheduler:8786, or auto."
        )
    return value.strip() if isinstance(value, str) else value


def _check_count(name: str, value: object, most: int | None = None, least: int = 1) -> None:
    # A bool is an int to Python, and True would count as 1.
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= (most or value):
        return
    limits = f"{least} or more" if most is None else f"from {least} to {most}"
    raise InvalidConfigError(f"{name} is {value!r}; it must be a whole number, {limits}.")
