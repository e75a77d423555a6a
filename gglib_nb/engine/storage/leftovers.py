"""What partial downloads lie about in a models folder; for the kernel's side, which lists and deletes them.

Looks at names, journals and leases and reads no content. Spares those that a process is at.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gglib_nb.domain.values import Value
from gglib_nb.engine.storage.journal import Journal
from gglib_nb.engine.storage.lease import read_lease
from gglib_nb.engine.storage.partial_file import delete_unowned
from gglib_nb.engine.storage.paths import journal_path, lease_path, part_path
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import StorageError
from gglib_nb.system import allocated_bytes, exists, matching

_SUFFIX: Final = ".part"
# `<owner>/<repo>/` and two folders below; without a bound a home folder would be walked.
_PATTERNS: Final = ("*/*/*.part", "*/*/*/*.part", "*/*/*/*/*.part")


class Leftover(Value, frozen=True):
    """One partial file.

    Attributes:
        target: Absolute path of the file it would have become.
        size_bytes: How long that would be; None where no journal says.
        downloaded_bytes: What a resume would not fetch again.
        disk_bytes: What deleting it frees.
        modified_s: Unix time of its last byte.
        is_in_use: A process is at it, as far as can be seen from here.
    """

    target: str
    size_bytes: int | None
    downloaded_bytes: int
    disk_bytes: int
    modified_s: float
    is_in_use: bool


def leftovers(models_directory: Path) -> list[Leftover]:
    """The partial files below a models folder, by path.

    Raises:
        StorageError: The folder cannot be read.
    """
    try:
        os.scandir(models_directory).close()
        return sorted(_found(models_directory), key=lambda one: one.target)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"The models folder {models_directory} cannot be read ({error.strerror or error}); check that its disk is "
            "connected."
        ) from error


def discard_leftovers(targets: Iterable[str]) -> frozenset[str]:
    """Deletes the partial files of these targets; the targets themselves stay.

    Returns:
        Those of which nothing is left: not the ones that a process is at, and not what cannot be deleted.
    """
    for target in targets:
        with contextlib.suppress(OSError):
            delete_unowned(Path(target), Timeouts().lease_s)
    return frozenset(target for target in targets if not exists(part_path(Path(target))))


def _found(folder: Path) -> Iterator[Leftover]:
    for pattern in _PATTERNS:
        for part in matching(folder.absolute(), pattern):
            target = part.with_name(part.name.removesuffix(_SUFFIX))
            state = Journal.read(journal_path(target))
            lease = read_lease(lease_path(target))
            try:
                modified_s = part.stat().st_mtime
            except OSError:
                continue  # it was finished or deleted meanwhile
            yield Leftover(
                target=str(target),
                size_bytes=None if state is None else sum(one.size_bytes for one in state.parts),
                downloaded_bytes=0 if state is None else state.done.total_bytes,
                disk_bytes=allocated_bytes(part),
                modified_s=modified_s,
                is_in_use=lease is not None and not lease.is_owner_dead(),
            )
