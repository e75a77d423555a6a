"""What the profile of IPython sets: `c.Gglib.max_concurrent = 2` in `ipython_kernel_config.py`.

Read when the extension is loaded; what is left out there stays open.
"""

from typing import Any, Final

from traitlets import Bool, Integer, TraitType, Unicode
from traitlets.config import Configurable

from gglib_nb.settings import SETTINGS

_TRAITS: "Final[dict[type, type[TraitType[Any, Any]]]]" = {str: Unicode, int: Integer, bool: Bool}


class _Settings(Configurable):
    def given(self) -> dict[str, Any]:
        """What the profile sets, by name."""
        return {name: value for name in self.trait_names(config=True) if (value := getattr(self, name)) is not None}


def _trait(name: str) -> "TraitType[Any, Any]":
    setting = SETTINGS[name]
    return _TRAITS[setting.type](None, allow_none=True, help=setting.summary).tag(config=True)


Gglib: Final[type[_Settings]] = type("Gglib", (_Settings,), {name: _trait(name) for name in SETTINGS})
"""The settings of `DownloadManagerConfig`, by the same names; None leaves one open."""
