"""What stands beside a target while it is fetched: the names of its partial file, its journal and its lease.

Opening goes through `open_beside`: in a shared folder somebody may have put a link under one of these names, and what is
written must not end up where it leads.
"""

import errno
import hashlib
import os
from pathlib import Path
from typing import Final

from gglib_nb.errors import StorageError
from gglib_nb.system import is_link, open_file, user_id

# A name may have 255 bytes, and `.part.lease.` with 16 digits is the longest that is put behind it.
_LONGEST_STEM_BYTES: Final = 255 - len(".part.lease.") - 16


def part_path(target: Path) -> Path:
    """The partial file of a target."""
    return _beside(target, ".part")


def journal_path(target: Path) -> Path:
    """The journal of its partial file."""
    return _beside(target, ".part.journal")


def lease_path(target: Path) -> Path:
    """The lease of its partial file."""
    return _beside(target, ".part.lease")


def delete_partial(target: Path) -> None:
    """Delete what a partial download of the target left; the target itself stays."""
    for path in (part_path(target), journal_path(target), lease_path(target)):
        path.unlink(missing_ok=True)


def open_beside(path: Path, flags: int) -> int:
    """Open one of these files, never what a link in its place leads to; returns its descriptor.

    Raises:
        StorageError: A link stands there.
        OSError: It cannot be opened.
    """
    try:
        return open_file(path, flags, follow_links=False)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise StorageError(f"{path} is a link, and is not followed; delete it, then retry.") from error


def check_way(target: Path) -> None:
    """Refuse a place that is reached through somebody else's link.

    One's own links are followed, root's, and those of a folder's owner, who could move the folder as well. (The rule of Linux'
    `protected_symlinks`.) A models folder that others may write to would else let them choose where files go.

    Raises:
        StorageError: There is such a link on the way to the target's folder.
    """
    for folder in target.parents:
        try:
            found = folder.lstat()
            is_trusted = found.st_uid in {user_id(), 0, folder.parent.lstat().st_uid}
        except OSError:
            continue  # not there yet; whoever makes it gets the error
        if is_link(found) and not is_trusted:
            raise StorageError(f"{folder} is a link of another user, and is not followed; move it away, then retry.")


def _beside(target: Path, suffix: str) -> Path:
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST_STEM_BYTES:
        return target.with_name(target.name + suffix)
    mark = f"~{hashlib.sha256(name).hexdigest()[:16]}"
    stem = name[: _LONGEST_STEM_BYTES - len(mark)].decode(errors="ignore")
    return target.with_name(f"{stem}{mark}{suffix}")
