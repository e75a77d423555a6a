"""Whether two hosts see the same models folder: a small file in it names it.

Paths say nothing about that (two machines may mount one share at different places, or have different disks at one path),
device numbers differ from machine to machine. So the first who looks leaves a name there, once, and whoever reads the
same name sees the same folder.
"""

import os
import secrets
from pathlib import Path
from typing import Final

from gglib_nb.system import free_bytes as bytes_free_on_disk

_NAME: Final = ".gglib-nb-folder"


def folder_id(folder: Path) -> str | None:
    """The name of a folder, given to it now if it has none; None where it cannot be written or read."""
    path = folder / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _leave_name(path)
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def existing_folder_id(folder: Path) -> str | None:
    """The name of a folder; None where it has none, or cannot be read. Writes nothing."""
    try:
        return (folder / _NAME).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def free_bytes(folder: Path) -> int | None:
    """What this user may still write into a folder; None where that cannot be seen."""
    try:
        return bytes_free_on_disk(folder)
    except OSError:
        return None


def _leave_name(path: Path) -> None:
    # Written whole before it has its name, so that nobody reads half of it; of two who do so at once one wins.
    mine = path.with_name(f"{_NAME}.{secrets.token_hex(8)}")
    mine.write_text(secrets.token_hex(16), encoding="ascii")
    try:
        os.link(mine, path)
    except FileExistsError:
        pass
    except OSError:  # a filesystem without links
        if not path.exists():
            mine.replace(path)
    mine.unlink(missing_ok=True)
