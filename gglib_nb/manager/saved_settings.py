"""Settings that were saved for good: one small JSON file in the user's configuration folder.

Only what somebody saved stands in it, by the names of `DownloadManagerConfig`; never a token. Names that this version does
not know are left alone, since another version may.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from gglib_nb.errors import InvalidConfigError
from gglib_nb.settings import ENVIRONMENT_VARIABLES, checked_setting, saved_settings_path

_NOTHING: Final[Mapping[str, Any]] = {}


def saved_settings() -> Mapping[str, Any]:
    """What is saved, checked, by name.

    Raises:
        InvalidConfigError: The file cannot be read, or holds a value that cannot work.
    """
    path = saved_settings_path(os.environ)
    try:
        changed = path.stat()
    except OSError:
        return _NOTHING
    return _checked(path, changed.st_mtime_ns, changed.st_size)


def save_setting(name: str, value: Any) -> Path:  # noqa: ANN401 - as the setting is
    """Saves one setting for every kernel to come; None takes it out of the file. Returns the file.

    Raises:
        InvalidConfigError: The file cannot be read or written; it is as it was.
    """
    path = saved_settings_path(os.environ)
    kept = _read(path) if path.exists() else {}
    kept.pop(name, None)
    if value is not None:
        kept[name] = value if isinstance(value, int) else str(value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InvalidConfigError(f"The setting was not saved: {path} cannot be written ({error.strerror}).") from error
    return path


def _replace(path: Path, text: str) -> None:
    """All of it or nothing, whoever reads meanwhile."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        file.write(text)
    try:
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink()
        raise


@lru_cache(maxsize=1)
def _checked(path: Path, _mtime_ns: int, _size: int) -> Mapping[str, Any]:
    known = {name: value for name, value in _read(path).items() if name in ENVIRONMENT_VARIABLES}
    try:
        return {name: checked_setting(name, value) for name, value in known.items()}
    except InvalidConfigError as error:
        raise InvalidConfigError(f"In the saved settings, {path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidConfigError(f"The saved settings cannot be read; mend or delete {path} ({error}).") from None
    if not isinstance(found, dict):
        raise InvalidConfigError(f"The saved settings are no JSON object; mend or delete {path}.")
    return found
