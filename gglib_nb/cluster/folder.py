"""Finds whether two hosts see the same models folder: a small file in the folder contains its name.

Paths cannot show that (two machines may mount one share at different places, or have different disks at one path),
and device numbers differ between machines. So the first host writes a random name into the folder, and hosts that read the
same name see the same folder.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from gglib_nb.engine.disk import read_small

_NAME: Final = ".gglib-nb-folder"


def folder_id(folder: Path) -> str | None:
    """The name of a folder, which is written now if it has none; None if it cannot be written or read."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(folder / _NAME):
            _leave_name(folder / _NAME)
    return existing_folder_id(folder)


def existing_folder_id(folder: Path) -> str | None:
    """The name of a folder; None if it has none, or cannot be read. Writes nothing."""
    return (read_small(folder / _NAME) or b"").decode("ascii", "replace").strip() or None


def _leave_name(path: Path) -> None:
    # Written completely before it gets its final name, so that no host reads half of it; if two hosts write at once, one wins.
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
