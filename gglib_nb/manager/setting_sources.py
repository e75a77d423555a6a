"""Where a setting comes from: an argument, set here, saved, the profile, the environment, or the default; in this rank.

What a person set here, and what the profile says, is of this process; `saved_settings` has the file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gglib_nb.manager.saved_settings import saved_settings
from gglib_nb.settings import (
    ENVIRONMENT_VARIABLES,
    Settings,
    asking_variable,
    checked_setting,
    environment_setting,
    saved_settings_path,
)


class Source(StrEnum):
    """Who asked for a value."""

    ARGUMENT = "argument"
    SET_HERE = "set here"
    SAVED = "saved"
    PROFILE = "profile"
    ENVIRONMENT = "environment"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        source: Who asked for it.
        where: The variable, or the file; empty where there is none to name.
    """

    source: Source
    where: str = ""


SET_HERE: Final[dict[str, Any]] = {}
"""What a person set for this kernel, checked, by name; a manager that is made later begins with it."""

_profile: dict[str, Any] = {}


def use_profile(values: Mapping[str, Any]) -> None:
    """Takes what the profile of the host says (`c.Gglib.max_concurrent = 2`); counts for managers made from now on.

    Raises:
        InvalidConfigError: A value cannot work.
    """
    checked = {name: checked_setting(name, value) for name, value in values.items()}
    _profile.clear()
    _profile.update(checked)


def asked_for(name: str) -> tuple[Any, Origin] | None:
    """What is asked for in one setting, by whom; None: the default holds. Arguments and what is set here are not seen.

    Raises:
        InvalidConfigError: A saved value or a variable cannot work.
    """
    saved = saved_settings()
    if name in saved:
        return saved[name], Origin(Source.SAVED, str(saved_settings_path(os.environ)))
    if name in _profile:
        return _profile[name], Origin(Source.PROFILE, f"c.Gglib.{name}")
    if (variable := asking_variable(os.environ, name)) is not None:
        return environment_setting(os.environ, name), Origin(Source.ENVIRONMENT, variable)
    return None


def settings_of_kernel() -> Settings:
    """The settings of this kernel's own manager.

    Raises:
        InvalidConfigError: Something that is asked for cannot work.
    """
    found = {name: asked[0] for name in ENVIRONMENT_VARIABLES if (asked := asked_for(name)) is not None}
    return Settings(**{**found, **SET_HERE})


def origins_of(settings: Settings) -> Mapping[str, Origin]:
    """Where each value comes from. An argument that says what would hold without it cannot be told apart, and is not."""
    return {name: _origin(name, getattr(settings, name)) for name in ENVIRONMENT_VARIABLES}


def default_of(name: str) -> Any:  # noqa: ANN401 - as the setting is
    """What holds where nobody asks for anything, for this kernel's own manager."""
    return getattr(Settings(), name)


def _origin(name: str, value: Any) -> Origin:  # noqa: ANN401 - as the setting is
    if name in SET_HERE and SET_HERE[name] == value:
        return Origin(Source.SET_HERE)
    if (asked := asked_for(name)) is not None:
        return asked[1] if checked_setting(name, asked[0]) == value else Origin(Source.ARGUMENT)
    # (A manager made by hand has the present folder by default.)
    is_default = value == default_of(name) or (name == "models_directory" and value == Path().absolute())
    return Origin(Source.DEFAULT if is_default else Source.ARGUMENT)
