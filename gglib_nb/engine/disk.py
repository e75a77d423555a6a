"""The disk: the files beside a target, what filesystem errors mean, and the space that all downloads will take.

Every file beside a target is opened here. A link in such a place is refused, because in a shared folder another user
may have created it, and only regular files of at most 1 MiB are read, because others may never end.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Final, TypeVar

from gglib_nb.domain import units
from gglib_nb.errors import DiskFullError, StorageError, TransferError
from gglib_nb.system import (
    allocated_bytes,
    device_of,
    free_bytes,
    is_link,
    matching,
    open_file,
    read_at,
    user_id,
    write_at,
)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RANDOM_WRITES: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ESPIPE})
_NEVER_BLOCK: Final = getattr(os, "O_NONBLOCK", 0)  # not even for a pipe
_MOST_READ_BYTES: Final = 1024 * 1024
# A file may be readable again a moment later: a network disk, or a lack of descriptors.
_FOR_NOW: Final = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
# A name may have 255 bytes, and `.part.lease.` with 16 digits is the longest suffix.
_LONGEST_STEM_BYTES: Final = 255 - len(".part.lease.") - 16
# Of the journal, the lease and the folder; with less than that beyond a file's own bytes, the disk itself is full.
_BESIDE_BYTES: Final = 64 * 1024
# A search of a cache takes milliseconds, on a slow network disk perhaps seconds.
_SEARCH_S: Final = 10.0


# --- The files beside a target ----------------------------------------------------------------------------------------


def part_path(target: Path) -> Path:
    """The partial file of a target."""
    return _beside(target, ".part")


def journal_path(target: Path) -> Path:
    """The journal of its partial file."""
    return _beside(target, ".part.journal")


def lease_path(target: Path) -> Path:
    """The lease of its partial file."""
    return _beside(target, ".part.lease")


def _beside(target: Path, suffix: str) -> Path:
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST_STEM_BYTES:
        return target.with_name(target.name + suffix)
    mark = f"~{hashlib.sha256(name).hexdigest()[:16]}"
    stem = name[: _LONGEST_STEM_BYTES - len(mark)].decode(errors="ignore")
    return target.with_name(f"{stem}{mark}{suffix}")


def has_journal_or_lease(target: Path) -> bool:
    """Whether partial files of a target are ours: other programs' `.part` files have neither journal nor lease."""
    return any(map(os.path.lexists, (journal_path(target), lease_path(target))))


def delete_partial(target: Path, is_ours: Callable[[], bool]) -> None:
    """Delete the partial files of a target, as long as its lease is ours: a disk may take long for each of them."""
    journals = journal_path(target), _beside(target, ".part.journal.new")
    for path in (part_path(target), *journals, *_private_names(target), lease_path(target)):
        if is_ours():
            path.unlink(missing_ok=True)


def rescue_renamed(target: Path) -> None:
    """Restore a partial file's name after a kill during its last rename, and clean up. The caller holds the lease."""
    part = part_path(target)
    for path in list(_private_names(target)):  # one look: a frozen process may wake up and rename the file in between
        with contextlib.suppress(PermissionError):  # of another user, in a folder where only owners may delete
            if path.stem == part.name and not os.path.lexists(part):
                path.rename(part)
            else:
                path.unlink(missing_ok=True)


def renamed_parts(target: Path) -> list[Path]:
    """The partial file by the private name that it has during its last rename, if its process was killed then."""
    return [path for path in _private_names(target) if path.stem == part_path(target).name]


def _private_names(target: Path) -> Iterator[Path]:
    """Temporary names of the partial file and of its lease, left by killed processes."""
    for own in (part_path(target), lease_path(target)):
        for path in matching(target.parent, f"{escape(own.name)}.{'[0-9a-f]' * 16}"):
            if (found := status_of(path)) is not None and stat.S_ISREG(found.st_mode):
                yield path


def open_beside(path: Path, flags: int) -> int:
    """Open one of these files, without waiting for a pipe. Raises `OSError`; `StorageError` for a link."""
    try:
        return _open(path, flags, follow_links=False)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _link_at(path) from error


def _open(path: Path, flags: int, *, follow_links: bool) -> int:
    try:
        return open_file(path, flags | _NEVER_BLOCK, follow_links=follow_links)
    except BlockingIOError:  # a file server has a lease on it, which the system ends; a pipe has none
        return open_file(path, flags, follow_links=follow_links)


def _link_at(path: Path) -> StorageError:
    return StorageError(f"{path} is a link, which is not followed. Delete it, then retry.")


def create_beside(path: Path) -> int:
    """Create one of these files, replacing any file in its place; returns its descriptor. Raises as `open_beside`.

    The file is always a new one: a process that still has the old one open writes to a file that no process reads.
    """
    with contextlib.suppress(FileNotFoundError):
        if is_link(path.lstat()):
            raise _link_at(path)
        path.unlink()
    return open_beside(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


@contextlib.contextmanager
def opened(path: Path, *, follow_links: bool = True) -> Iterator[int]:
    """The descriptor of a regular file, for reading. Never blocks: another kind, as a pipe, is an `OSError`."""
    fd = _open(path, os.O_RDONLY, follow_links=follow_links)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        yield fd
    finally:
        os.close(fd)


def read_small(path: Path, *, must_know: bool = False) -> bytes | None:
    """The content of a small regular file; None if it cannot be read. Follows no link and never blocks.

    With `must_know`, a file that cannot be read for now is an `OSError`.
    """
    try:
        with opened(path, follow_links=False) as fd:
            return None if os.fstat(fd).st_size > _MOST_READ_BYTES else read_at(fd, _MOST_READ_BYTES, 0)
    except OSError as error:
        if must_know and error.errno in _FOR_NOW:
            raise
    return None


@contextlib.contextmanager
def reading(path: Path, reach: int | None = None) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
    """A function that reads (offset, length) of a regular file, up to `reach`, and its size. Raises `OSError`."""
    with opened(path) as fd:
        size_bytes = os.fstat(fd).st_size
        end = size_bytes if reach is None else reach
        yield lambda offset, length: read_at(fd, max(0, min(length, end - offset)), offset), size_bytes


def status_of(path: Path) -> os.stat_result | None:
    """The `stat` of a path; None if it does not exist or cannot be read (a dead mount, no permission)."""
    try:
        return path.stat()
    except OSError:
        return None


Identity = tuple[int, int, int, int]
"""Of a file with its content, from its status: another one means that a program changed or replaced it."""


def identity(found: os.stat_result) -> Identity:
    """The identity of a file with this status."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def is_at(fd: int, path: Path, size_bytes: int | None) -> bool:
    """Whether the path leads to this open file of this size (None: any); False if that cannot be determined."""
    try:
        found = os.fstat(fd)
        return os.path.samestat(found, path.lstat()) and size_bytes in (None, found.st_size)
    except OSError:
        return False


def check_way(target: Path) -> None:
    """Refuse, with a `StorageError`, a target that is reached through another user's link or a dangling link.

    The user's own links are followed, and those of root and of the folder's owner, who could also move the folder. (The
    rule of Linux' `protected_symlinks`.) Otherwise users who can write to a shared models folder could choose where
    files go.
    """
    me = user_id()
    for folder in target.parents:
        try:
            found = folder.lstat()
            is_trusted = me is None or found.st_uid in {me, 0, folder.parent.lstat().st_uid}
        except OSError:
            continue  # does not exist yet; creating it reports the error
        if is_link(found) and not is_trusted:
            raise StorageError(
                f"{folder} is a link that belongs to another user, which is not followed. Move it, then retry."
            )
        if is_link(found) and not os.path.exists(folder):  # noqa: PTH110  # `Path.exists` may raise
            raise StorageError(f"{folder} is a broken link; repair or delete it, then retry.")


_Found = TypeVar("_Found")
_hanging: Final[dict[str, threading.Thread]] = {}  # by place: a search that did not end in time


def found_in_time(searches: Mapping[str, Callable[[], Iterable[_Found]]], limit_s: float = _SEARCH_S) -> list[_Found]:
    """What searches, by their place, find at the same time; a place whose disk hangs is left out until it answers."""
    found: list[_Found] = []
    begun: dict[str, threading.Thread] = {}
    deadline_s = time.monotonic() + limit_s
    for place, search in searches.items():
        if (hanging := _hanging.get(place)) is None or not hanging.is_alive():
            thread = threading.Thread(
                target=lambda one: found.extend(one()), args=[search], name="gglib-search", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # there are too many threads
                thread.start()
                begun[place] = thread
    for place, thread in begun.items():
        thread.join(max(0.0, deadline_s - time.monotonic()))
        if thread.is_alive():
            _hanging[place] = thread
    return list(found)


# --- Reading, writing, syncing ----------------------------------------------------------------------------------------


def new_buffer(size_bytes: int) -> memoryview:
    """A read buffer whose memory is returned to the system with its last reference.

    Not a `bytearray`: once glibc has freed one of a megabyte, it allocates the next ones from its threads' arenas and
    keeps them (103 MB in an idle engine after a minute of broken connections, against 49).
    """
    return memoryview(mmap.mmap(-1, size_bytes, access=mmap.ACCESS_COPY))


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it at this offset. Raises `OSError`."""
    view = memoryview(data)
    while view:
        count = write_at(fd, view, offset)
        if count == 0:
            raise OSError(errno.EIO, "nothing was written")
        offset += count
        view = view[count:]


def storage_error(error: OSError, path: Path) -> TransferError:
    """The error that a failed write means: a full disk, or a problem that the user has to solve."""
    if error.errno in _FULL:
        return disk_full(path.parent, None, free_bytes(path.parent))
    if error.errno == errno.EFBIG:
        return StorageError(
            f"The disk of {path.parent} cannot store a file of that size (the limit of FAT is 4 GB). Move the models "
            "folder to another disk, then retry."
        )
    at = error.filename or path
    if error.errno in _NO_RANDOM_WRITES:
        return StorageError(
            f"The disk of {path.parent} writes files only from start to end ({error.strerror}); "
            "choose another models folder, then retry."
        )
    return StorageError(f"{at} cannot be written: {error.strerror or error}. Check the folder, then retry.")


@contextlib.contextmanager
def storage_errors(
    path: Path, problem: str = "cannot be used", advice: str = " Check the path and its permissions, then try again."
) -> Iterator[None]:
    """Turns an `OSError` into a `StorageError` that names the file and the problem, or into a `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.EFBIG, *_FULL}:
            raise storage_error(error, path) from error
        raise StorageError(f"{error.filename or path} {problem}: {error.strerror or error}.{advice}") from error


# --- Space ------------------------------------------------------------------------------------------------------------


def disk_full(folder: Path, needed_bytes: int | None, left_bytes: int | None) -> DiskFullError:
    """The error, with the missing space."""
    needed = f": {units.size(needed_bytes)} more is needed" if needed_bytes else ""
    left = "" if left_bytes is None else f"{', but only' if needed else ':'} {units.size(left_bytes)} is free"
    if left_bytes is not None and needed_bytes is not None and needed_bytes + _BESIDE_BYTES <= left_bytes:
        needed = f" although {units.size(left_bytes)} is free"
        left = ": a quota, or the number of files that it can store, is used up"
    return DiskFullError(
        f"The disk of {folder} is full{needed}{left}. Free up some space, then retry. Downloaded data is kept.",
        needed_bytes=needed_bytes,
        free_bytes=left_bytes,
    )


def missing_bytes(target: Path, size_bytes: int, is_replaced: bool = False) -> int:
    """The space that a file still needs beside its partial file; none if a file of its size is not to be replaced."""
    found = None if is_replaced else status_of(target)
    if found is not None and found.st_size == size_bytes:
        return 0
    return max(0, size_bytes - allocated_bytes(part_path(target)))


class DiskSpace:
    """The space that all transfers will still need; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By attempt: filesystem, path and size of each target, and whether a file there is to be replaced.
        self._reserved: dict[int, list[tuple[int | None, Path, int, bool]]] = {}

    def reserve(
        self, attempt: int, sizes: dict[Path, int], stop: threading.Event | None = None, *, are_replaced: bool
    ) -> None:
        """Reserve what an attempt will write, by target; a `DiskFullError` if other attempts leave too little.

        Does nothing if they are reserved already, or `stop` is set: then the attempt releases its space or has done so.
        """
        devices = {folder: device_of(folder) for folder in {target.parent for target in sizes}}
        own = [(devices[target.parent], target, size_bytes, are_replaced) for target, size_bytes in sizes.items()]
        with self._lock:
            before = {target for _, target, _, _ in self._reserved.get(attempt, ())}
            if (stop is not None and stop.is_set()) or (attempt in self._reserved and sizes.keys() <= before):
                return
            others = [one for number, files in self._reserved.items() if number != attempt for one in files]
            self._reserved[attempt] = own
        # Asks only the disks of this attempt, and without the lock: another disk may hang.
        for device, folder in {device: folder for folder, device in devices.items() if device is not None}.items():
            needed, others_need = (
                sum(missing_bytes(*one[1:]) for one in files if one[0] == device) for files in (own, others)
            )
            if (free := free_bytes(folder)) is not None and needed > (left := max(0, free - others_need)):
                raise disk_full(folder, needed, left)

    def release(self, attempt: int) -> None:
        """Free the space of an attempt that has ended."""
        with self._lock:
            self._reserved.pop(attempt, None)
