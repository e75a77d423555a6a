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
        network_wait_s: How long a download waits for a network that is gone before it fails.
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
    network_wait_s: int = 86_400
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
        _check_count("max_connections", self.max_connections, _MOST_CONNECTIONS)
        _check_count("network_wait_s", self.network_wait_s)
        if self.bandwidth_limit_bytes_per_second is not None:
            _check_count("bandwidth_limit_bytes_per_second", self.bandwidth_limit_bytes_per_second)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The settings that environment variables ask for; the rest are defaults. An empty variable is as none.

        Raises:
            InvalidConfigError: One of them has a value that cannot work.
        """
        asked = {name: environment_setting(environ, name) for name in _READERS}
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
    """What environment variables ask for in one setting; None where they do not.

    `GGLIB_MODELS_DIR`, `GGLIB_STATE_DIR`, `GGLIB_MAX_CONCURRENT`, `GGLIB_MAX_QUEUE_SIZE`, `GGLIB_MAX_CONNECTIONS`,
    `GGLIB_BANDWIDTH_BYTES_PER_SECOND`, `GGLIB_NETWORK_WAIT_S`, `GGLIB_ENGINE`, and the Hub's own `HF_ENDPOINT`, `HF_HUB_OFFLINE` (`TRANSFORMERS_OFFLINE`),
    `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, with the Hub's meaning.

    Raises:
        InvalidConfigError: A number is none.
    """
    return _READERS[name](environ)


def host_name(environ: Mapping[str, str]) -> str | None:
    """What `GGLIB_HOST` says a worker of a cluster is to call its host; None: the machine's own name."""
    return environ.get("GGLIB_HOST", "").strip() or None


def _named(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value) if value.strip() else None


def _counted(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "").strip()
    if not value:
        return None
    if not (value.isascii() and value.isdigit()):
        raise InvalidConfigError(f"{name} is {value!r}; it must be a whole number, 1 or more.")
    return int(value)


def _is_offline(environ: Mapping[str, str]) -> bool:
    value = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


def _hub_cache(environ: Mapping[str, str]) -> Path | None:
    """The order of huggingface_hub's own constants.py."""
    if (cache := _named(environ, "HF_HUB_CACHE")) is not None:
        return cache
    if (home := _named(environ, "HF_HOME")) is not None:
        return home / "hub"
    if (caches := _named(environ, "XDG_CACHE_HOME")) is not None:
        return caches / "huggingface" / "hub"
    return None


_READERS: Final[Mapping[str, Callable[[Mapping[str, str]], Any]]] = {
    "models_directory": partial(_named, name="GGLIB_MODELS_DIR"),
    "state_directory": partial(_named, name="GGLIB_STATE_DIR"),
    "hub_cache": _hub_cache,
    "endpoint": lambda environ: environ.get("HF_ENDPOINT", "").strip() or None,
    "max_concurrent": partial(_counted, name="GGLIB_MAX_CONCURRENT"),
    "max_queue_size": partial(_counted, name="GGLIB_MAX_QUEUE_SIZE"),
    "max_connections": partial(_counted, name="GGLIB_MAX_CONNECTIONS"),
    "bandwidth_limit_bytes_per_second": partial(_counted, name="GGLIB_BANDWIDTH_BYTES_PER_SECOND"),
    "network_wait_s": partial(_counted, name="GGLIB_NETWORK_WAIT_S"),
    "is_offline": _is_offline,
    "engine": lambda environ: environ.get("GGLIB_ENGINE", "").strip() or None,
}


def _folder(name: str, value: object) -> Path:
    if not isinstance(value, str | Path) or "\0" in str(value) or not str(value).strip():
        raise InvalidConfigError(f"{name} is {value!r}; it must be the path of a folder.")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # `~name` of nobody
        raise InvalidConfigError(f"{name} is {str(value)!r}, and there is no such home folder.") from error


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


def _check_count(name: str, value: object, most: int | None = None) -> None:
    # A bool is an int to Python, and True would count as 1.
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= (most or value):
        return
    limits = "1 or more" if most is None else f"from 1 to {most}"
    raise InvalidConfigError(f"{name} is {value!r}; it must be a whole number, {limits}.")
