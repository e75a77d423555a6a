"""Writes the `models.ini` of llama-server's router: what is in it is decided in `gglib_nb.domain.presets`."""

import os
from collections.abc import Iterable
from pathlib import Path

from gglib_nb.domain.model import Model
from gglib_nb.domain.presets import PresetFile, merged_preset
from gglib_nb.errors import StorageError


def write_preset(file: Path, models: Iterable[Model]) -> PresetFile:
    """Brings the file up to date with the models that are here; the old one stays whole until the new one is.

    Raises:
        StorageError: It cannot be read or written.
    """
    here = [model for model in models if _is_loadable(model)]
    try:
        target = Path(os.path.realpath(file))  # a link stays a link
        old = target.read_text(encoding="utf-8") if target.exists() else ""
        text, left_out = merged_preset(old, here)
        new = target.with_name(f"{target.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(target)
    except UnicodeError as error:
        raise StorageError(f"{file} is not text in UTF-8; name another file.") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror or error}. Name another file.") from error
    return PresetFile(str(target), len(here) - len(left_out), left_out)


def _is_loadable(model: Model) -> bool:
    """Whether it is a model, not a projector or the like, and all its files are on this machine."""
    return bool(model.paths) and "block_count" in model.facts and all(map(os.path.exists, model.targets))
