"""What `%gguf config` does: shows every setting with its value and where it comes from, sets one, saves it, takes it back.

The token is no setting here: it is shown as there or not, and never set or saved.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from gglib_nb.errors import InvalidConfigError, RequestError
from gglib_nb.notebook import commands, tables
from gglib_nb.notebook.answer import Answer
from gglib_nb.notebook.waiting import settle
from gglib_nb.settings import (
    SET_HERE,
    SETTINGS,
    Origin,
    asked_for,
    checked_setting,
    default_of,
    save_setting,
    saved_settings,
    setting_name,
)

if TYPE_CHECKING:
    from gglib_nb.manager.port import DownloadManager

_COLUMNS: Final = (
    tables.Column("Setting", is_code=True),
    tables.Column("Value"),
    tables.Column("From"),
    tables.Column("What it is", is_quiet=True),
)
_HINT: Final = (
    "Set one for this kernel: %gguf config NAME VALUE. For every kernel to come: add --save. Take it back: "
    "%gguf config NAME --reset"
)
_NOT_HERE: Final = (
    "The token is not set here, so that it stands in no notebook: log in with `hf auth login`, or set HF_TOKEN before the "
    "kernel starts."
)

# What a running manager can change, and where it shows what holds.
LIVE: Final[
    Mapping[str, tuple[Callable[["DownloadManager", Any], Future[None]], Callable[["DownloadManager"], Any]]]
] = {
    "max_concurrent": (
        lambda manager, value: manager.submit_set_max_concurrent(value),
        lambda manager: manager.snapshot.max_concurrent,
    ),
    "max_queue_size": (
        lambda manager, value: manager.submit_set_max_queue_size(value),
        lambda manager: manager.snapshot.max_size,
    ),
    "max_connections": (
        lambda manager, value: manager.submit_set_max_connections(value),
        lambda manager: manager.snapshot.max_connections,
    ),
    "bandwidth_limit_bytes_per_second": (
        lambda manager, value: manager.submit_set_bandwidth_limit(value),
        lambda manager: manager.snapshot.bandwidth_limit_bytes_per_second,
    ),
    "download_hours": (
        lambda manager, value: manager.submit_set_download_hours(value),
        lambda manager: manager.snapshot.download_hours,
    ),
    "network_wait_s": (
        lambda manager, value: manager.submit_set_network_wait(value),
        lambda manager: manager.snapshot.network_wait_s,
    ),
    "engine": (lambda manager, value: manager.submit_set_engine(value), lambda manager: manager.engine),
}
_READ_LATE: Final = frozenset(name for name, setting in SETTINGS.items() if setting.change == "when read")


def configure(command: commands.Config, find_manager: Callable[[], "DownloadManager"], *, is_running: bool) -> Answer:
    """Shows, sets, saves or takes back.

    Args:
        command: What was asked for.
        find_manager: Gives the manager; not called where one of a kernel that has none yet is only told what to be.
        is_running: Whether there is a manager already.

    Raises:
        RequestError: There is no such setting.
        InvalidConfigError: The value cannot work, or cannot change while the manager runs.
    """
    if command.name is None:
        rows = _rows(find_manager())
        return Answer(
            f"{tables.text_table(_COLUMNS, rows)}\n{_HINT}", tables.html_table(_COLUMNS, rows) + tables.hint(_HINT)
        )
    if command.name.lower() in ("hf_token", "token"):
        raise RequestError(_NOT_HERE)
    name = setting_name(command.name)
    if command.resets:
        return Answer(_reset(name, find_manager, is_running=is_running))
    if command.value is None:
        return Answer(_one(name, find_manager()))
    value = checked_setting(name, SETTINGS[name].read(command.value))
    return Answer(_set(name, value, command, find_manager, is_running=is_running))


def _set(
    name: str,
    value: Any,  # noqa: ANN401 - as the setting is
    command: commands.Config,
    find_manager: Callable[[], "DownloadManager"],
    *,
    is_running: bool,
) -> str:
    is_now = name in LIVE or name in _READ_LATE or not is_running
    if not is_now and not command.saves:
        raise InvalidConfigError(
            f"{name} cannot change while this kernel's manager runs. For every kernel to come: "
            f"%gguf config {name} {command.value} --save"
        )
    where = f", saved in {save_setting(name, value)} for every kernel to come" if command.saves else " in this kernel"
    shown = SETTINGS[name].show(value)
    if not is_now:
        held = SETTINGS[name].show(_held(name, find_manager()))
        return f"{name} is {shown}{where}. This kernel keeps {held}: restart it to have the new one."
    _hold(name, value, find_manager)
    more = "" if command.saves else f" For every kernel to come: %gguf config {name} {command.value} --save"
    return f"{name} is {shown}{where}.{more}"


def _hold(name: str, value: Any, find_manager: Callable[[], "DownloadManager"]) -> None:  # noqa: ANN401 - as above
    if name in LIVE:
        settle(LIVE[name][0](find_manager(), value))
    SET_HERE[name] = value


def _reset(name: str, find_manager: Callable[[], "DownloadManager"], *, is_running: bool) -> str:
    if name in saved_settings():
        save_setting(name, None)
    SET_HERE.pop(name, None)
    asked = asked_for(name)
    value = default_of(name) if asked is None else asked[0]
    shown = SETTINGS[name].show(value)
    if name in LIVE:
        settle(LIVE[name][0](find_manager(), value))
    elif name in _READ_LATE:
        SET_HERE[name] = value
    elif is_running and (held := _held(name, find_manager())) != value:
        return f"{name} is {shown} from the next kernel on; this one keeps {SETTINGS[name].show(held)}."
    origin = Origin("default") if asked is None else asked[1]
    return f"{name} is {shown} again ({_said(origin)})."


def _one(name: str, manager: "DownloadManager") -> str:
    value = _held(name, manager)
    return f"{name} is {SETTINGS[name].show(value)} ({_said(_origin(name, value, manager))}). {SETTINGS[name].summary}"


def _rows(manager: "DownloadManager") -> list[tables.Row]:
    rows = []
    for name, words in SETTINGS.items():
        value = _held(name, manager)
        rows.append(tables.row(name, words.show(value), _said(_origin(name, value, manager)), words.summary))
    token = tables.row("hf_token", *_token(manager), "Never shown, set or saved here.")
    return [*rows, token]


def _token(manager: "DownloadManager") -> tuple[str, str]:
    if manager.config.hf_token is not None:
        return "given", "argument"
    if manager.hub.token is None:
        return "none", "default"
    return "given", "HF_TOKEN or hf auth login"


def _held(name: str, manager: "DownloadManager") -> Any:  # noqa: ANN401 - as the setting is
    """What holds now."""
    if name in _READ_LATE and name in SET_HERE:
        return SET_HERE[name]
    return LIVE[name][1](manager) if name in LIVE else getattr(manager.config, name)


def _origin(name: str, value: Any, manager: "DownloadManager") -> Origin:  # noqa: ANN401 - as the setting is
    if (asked := asked_for(name)) is not None and asked[0] == value:
        return asked[1]
    if value == getattr(manager.config, name):
        return manager.origins[name]
    return Origin("default" if asked is None and value == default_of(name) else "set here")


def _said(origin: Origin) -> str:
    return f"{origin.source}: {origin.where}" if origin.where else origin.source
