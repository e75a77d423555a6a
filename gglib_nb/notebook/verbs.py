"""The parser of lines, and the verbs about settings and help. The modules of all other verbs are imported here.

The token is not a setting: whether there is one is shown, never its value, and only `login` stores it.
"""

import re
import shlex
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from gglib_nb import settings
from gglib_nb.domain import units
from gglib_nb.domain.references import is_command
from gglib_nb.domain.text import did_you_mean, printable, similar
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import InvalidConfigError, InvalidTokenError, RequestError
from gglib_nb.notebook import get_verbs, queue_verbs, tables  # noqa: F401 - register their verbs
from gglib_nb.notebook.actions import LIVE
from gglib_nb.notebook.model_verbs import folders
from gglib_nb.notebook.session import Answer, Session
from gglib_nb.notebook.verb import VERBS, Argument, Call, GrammarError, help_of_all, read_count, split_words, verb
from gglib_nb.system import exists, is_folder

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager

_HELP: Final = ("-h", "--help")
_COLUMNS: Final = (
    tables.Column("Setting", is_code=True),
    tables.Column("Value"),
    tables.Column("From", importance=2),
    tables.Column("Meaning", is_quiet=True, importance=3),
)
_HINT: Final = (
    "Change one in this kernel: %gguf config NAME VALUE. In all future kernels too: add --save. Undo: "
    "%gguf config NAME --reset"
)
_NOT_HERE: Final = (
    "The token cannot be set here, because the notebook would contain it. Log in with %gguf login, or set HF_TOKEN "
    "before the kernel starts. If you typed it, delete it from the cell, and revoke it if you share the notebook."
)
_SPEED: Final = settings.SETTINGS["bandwidth_limit_bytes_per_second"]
_HOURS: Final = settings.SETTINGS["download_hours"]
_FOLDERS: Final = frozenset({"models_directory", "model_stores", "state_directory", "hub_cache"})


def parse(line: str) -> Call:
    """Parses the text after `%gguf`; an empty line shows the panel.

    Raises:
        GrammarError: The line cannot be parsed; the message has the correct form.
    """
    name, *rest = split_words(line) or ["panel"]
    if name in _HELP:
        return Call(VERBS["help"], {})
    if name not in VERBS:
        command = " ".join([name, *rest])  # of another program, copied from a page
        raise GrammarError(printable(unknown_verb(command if is_command([name, *rest]) else name)))
    if not set(_HELP).isdisjoint(rest):
        return Call(VERBS["help"], {"name": name})
    if name == "login" and rest:
        raise GrammarError(f"{_NOT_HERE} Usage: %gguf login")
    return VERBS[name].read(rest)


@verb("settings")
def limit(session: Session, n: Annotated[int, Argument("N", read=read_count)] | None = None) -> str:
    """Show or set how many downloads may wait in the queue."""
    if n is not None:
        session.sync.set_max_queue_size(n)
    return f"Up to {units.plural(session.manager.snapshot.max_size, 'download')} may wait."


@verb("settings")
def login(session: Session) -> str:
    """Log in to the Hub, for gated and private repositories. Asks for the token, which is never shown or stored here.

    Create a token on https://huggingface.co/settings/tokens. Downloads that failed for lack of access are retried.
    """
    if not session.screen.can_ask:
        return "There is nowhere to type a token here. Set HF_TOKEN, or run hf auth login in a terminal."
    token = session.screen.ask_secret("Token of the Hugging Face Hub (not shown): ")
    if not token.strip():
        return "No token was entered; nothing has changed."
    retried = session.sync.log_in(token)
    again = f" Retrying {', '.join(map(str, retried))}." if retried else ""
    return f"Logged in. The token is stored for all your programs, not in this notebook.{again}"


Rate = Annotated[int, Argument("RATE|off", read=lambda text: _SPEED.read(text) or 0, offers=("off",), takes_rest=True)]
Hours = Annotated[
    DailyHours | Literal["off"], Argument(read=lambda text: _HOURS.read(text) or "off", offers=("off", "22:00-07:00"))
]


@verb("settings")
def bandwidth(session: Session, rate: Rate | None = None, *, hours: Hours | None = None) -> str:
    """Show or set the bandwidth limit, and the hours in which downloads run.

    RATE|off: RATE 5 or 5MB is 5 MB/s for all downloads together; off: no limit.
    --hours HOURS|off: Download only between these times, such as 22:00-7:00; off: at any time.
    """
    if rate is not None:
        session.sync.set_bandwidth_limit(rate or None)
    if hours is not None:
        session.sync.set_download_hours(None if hours == "off" else hours)
    now = session.manager.snapshot
    held = now.bandwidth_limit_bytes_per_second if rate is None else rate
    said = f"Bandwidth is limited to {units.rate(held)}." if held else "Bandwidth is not limited."
    if (span := now.download_hours) is not None:
        wait = f", and wait until {now.waits_until}" if now.is_outside_hours else ""
        zone = time.strftime("%Z")  # the clock of a hosted kernel is often not the user's
        said += f" Downloads run from {span.start:%H:%M} to {span.end:%H:%M} ({zone}){wait}."
    return said


def _setting_or_value(session: Session, words: Sequence[str]) -> Iterable[str]:
    if len(words) == 1:
        return settings.SETTINGS
    return folders(session, words) if words[0] in _FOLDERS and len(words) == 2 else ()


_SETTING: Final = Argument(
    "NAME [VALUE]",
    "NAME is a setting, or a part that matches only one.",
    offers=_setting_or_value,
    takes_rest=True,
)


@verb("settings")
def config(
    session: Session, words: Annotated[str, _SETTING] = "", *, save: bool = False, reset: bool = False
) -> Answer | str:
    """Show the settings and where each value comes from, or change one.

    --save: Set it for all future kernels too.
    --reset: Undo what was set or saved.
    """
    words = re.sub(r"^([\w-]+)\s*=\s*", r"\1 ", words)  # also as in `%config NAME = VALUE`
    typed, has_value, text = words.partition(" ")
    if reset and (not typed or text or save):
        raise GrammarError("--reset needs the name of a setting, without a value or --save")
    if save and not text:
        raise GrammarError("--save needs a setting and its value")
    if not typed:
        token = ("hf_token", *_token(session.manager), "Never shown, set or saved here.")
        rows = [*(_described(name, session.manager) for name in settings.SETTINGS), token]
        return session.answer(tables.Table(_COLUMNS, rows, _HINT))
    if typed.lower() in ("hf_token", "token"):
        raise RequestError(_NOT_HERE)
    name = settings.setting_name(typed)
    if reset:
        return _reset(name, session)
    if has_value:
        return _set(name, text, session, saves=save)
    _, value, origin, summary = _described(name, session.manager)
    return f"{name} is {value} ({origin}). {summary}"


def _set(name: str, text: str, session: Session, *, saves: bool) -> str:
    value = settings.checked_setting(name, settings.SETTINGS[name].read(text))
    for folder in (value if isinstance(value, tuple) else (value,)) if name in _FOLDERS else ():
        if exists(folder) and not is_folder(folder):
            raise InvalidConfigError(f"{folder} is not a folder. Give {name} the path of a folder.")
    command = f"%gguf config {name} {shlex.quote(text)} --save"
    is_now = name in LIVE or not session.has_manager()
    if not is_now and not saves:
        raise InvalidConfigError(
            f"{name} cannot change while this kernel's manager runs. To set it for future kernels: {command}"
        )
    if name in LIVE:  # before it is saved, because the manager may refuse it
        getattr(session.sync, LIVE[name][0])(value)
    where = f", saved in {settings.save_setting(name, value)} for all future kernels" if saves else " in this kernel"
    shown = settings.SETTINGS[name].show(value)
    if not is_now and (held := _held(name, session.manager)) != value:
        held = settings.SETTINGS[name].show(held)
        return f"{name} is {shown}{where}. This kernel still uses {held}; restart it to apply the change."
    settings.SET_HERE[name] = value
    more = "" if saves else f" For all future kernels: {command}"
    return f"{name} is {shown}{where}.{more}"


def _reset(name: str, session: Session) -> str:
    settings.save_setting(name)
    settings.SET_HERE.pop(name, None)
    value, origin = settings.asked_for(name) or (settings.default_of(name), settings.Origin("default"))
    shown = settings.SETTINGS[name].show(value)
    if name in LIVE:
        getattr(session.sync, LIVE[name][0])(value)
    elif session.has_manager() and (held := _held(name, session.manager)) != value:
        return f"{name} will be {shown} in the next kernel; this one still uses {settings.SETTINGS[name].show(held)}."
    return f"{name} is {shown} again ({': '.join(filter(None, origin))})."


def _described(name: str, manager: "DownloadManager") -> tuple[str, str, str, str]:
    """The cells of a setting: name, value, origin, meaning."""
    setting, value, asked = settings.SETTINGS[name], _held(name, manager), settings.asked_for(name)
    if asked is not None and asked[0] == value:
        origin = asked[1]
    elif value == getattr(manager.config, name):
        origin = manager.origins[name]
    else:
        origin = settings.Origin("default" if asked is None and value == settings.default_of(name) else "set here")
    return name, setting.show(value), ": ".join(filter(None, origin)), setting.summary


def _token(manager: "DownloadManager") -> tuple[str, str]:
    if manager.config.hf_token is not None:
        return "set", "argument"
    try:
        is_set = manager.hub.token is not None
    except InvalidTokenError as error:
        return "cannot be used", str(error)
    return ("set", "HF_TOKEN or hf auth login") if is_set else ("none", "default")


def _held(name: str, manager: "DownloadManager") -> Any:  # noqa: ANN401 - as the setting is
    """The value in use."""
    return attrgetter(LIVE[name][1] if name in LIVE else f"config.{name}")(manager)


@verb("settings")
def help_(session: Session, name: Annotated[str, Argument("VERB", offers=lambda *_: VERBS)] | None = None) -> Answer:
    """Explain a verb, or list all of them."""
    del session
    if name is not None and name not in VERBS:
        raise GrammarError(unknown_verb(name))
    return Answer(help_of_all() if name is None else VERBS[name].help)


# Commands of shells and other downloaders, and the equivalent line.
_LIST: Final = "%gguf status for the queue, or %gguf models for your models"
_QUEUE: Final = "%gguf queue owner/repo"
_OTHER_WORDS: Final = {
    "list": _LIST,
    "ls": _LIST,
    "rm": "%gguf cancel ID for a download, %gguf delete ID for a model, or %gguf partials --discard TEXT for an "
    "unfinished file",
    "stop": "%gguf cancel ID, or %gguf pause ID to resume later",
    "start": f"%gguf resume ID, or {_QUEUE}",
    **dict.fromkeys(("download", "get", "pull"), _QUEUE),
    **dict.fromkeys(("info", "show"), "%gguf inspect ID, or %gguf plan owner/repo"),
}


def unknown_verb(name: str) -> str:
    """Suggestions for a word that is not a verb."""
    near = did_you_mean([f"%gguf {one}" for one in similar(name, VERBS, 2, 0.65)])
    hint = near or "%gguf queue owner/repo downloads a model; %gguf help lists all verbs."
    if (meant := _OTHER_WORDS.get(name.lower())) is not None:
        hint = f"Write: {meant}"
    elif "/" in name:
        hint = f"To download it: %gguf queue {name if is_command(name.split()) else shlex.quote(name)}"
    return f"{name!r} is not a verb. {hint}".rstrip()
