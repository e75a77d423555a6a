"""How much disk space there is where downloads go, and how much of it the queue will take.

Looks at the disk and changes nothing. What a partial file has allocated is gone from the free space already, so
only the rest of each file counts; the engine, which refuses what does not fit, counts the same way.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.places import target_path
from gglib_nb.domain.values import Value
from gglib_nb.engine.storage.paths import part_path
from gglib_nb.errors import RequestError
from gglib_nb.system import allocated_bytes

Sizes = dict[Path, int]
"""Files by their final path, with the bytes of the whole."""


class DiskSpace(Value, frozen=True):
    """One filesystem.

    Attributes:
        device: Its number; None where nothing of the path can be looked at.
        free_bytes: What this user may still write on it; None unknown.
    """

    device: int | None
    free_bytes: int | None


def disk_space_at(folder: Path) -> DiskSpace:
    """The filesystem of a folder that need not exist yet; a link counts as where it leads, also when that is nothing yet."""
    real = Path(os.path.realpath(folder))
    there = next((path for path in (real, *real.parents) if os.path.exists(path)), None)  # noqa: PTH110 - never raises
    try:
        return DiskSpace(None, None) if there is None else DiskSpace(there.stat().st_dev, shutil.disk_usage(there).free)
    except OSError:
        return DiskSpace(None, None)


def files_of(models_directory: Path, repo_id: str, files: Iterable[tuple[str, int | None]]) -> Sizes:
    """What files of a repository become on the disk: the parts of a byte split one file; unknown sizes are left out.

    Raises:
        RequestError: A name that cannot be stored.
    """
    sizes: Sizes = {}
    for path, size_bytes in files:
        if size_bytes is not None:
            target = target_path(models_directory, repo_id, parse_path(path).place)
            sizes[target] = sizes.get(target, 0) + size_bytes
    return sizes


def bytes_to_write(files: Sizes) -> int:
    """What these files will still take of the disk."""
    return sum(_bytes_to_write(target, size_bytes) for target, size_bytes in files.items())


def queued_files(snapshot: QueueSnapshot, models_directory: Path, device: int | None) -> Sizes:
    """The files on a filesystem that the queue will write, each once."""
    found: Sizes = {}
    for item in snapshot.items:
        parts = ((file.path_in_repo, file.size_bytes) for file in (*item.shards, *item.companions))
        try:
            found |= files_of(models_directory, item.repo_id, parts)
        except RequestError:
            continue  # it was refused when it was queued
    return {target: size for target, size in found.items() if disk_space_at(target.parent).device == device}


def _bytes_to_write(target: Path, size_bytes: int) -> int:
    try:
        if target.stat().st_size == size_bytes:
            return 0
    except OSError:
        pass
    return max(0, size_bytes - allocated_bytes(part_path(target)))
