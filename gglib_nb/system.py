"""The operating system: every call that POSIX has and Windows does not, each with a portable implementation.

Only this module uses these calls; the others are type-checked for Linux, macOS and Windows alike. The interpreter's
functions decide which implementation is used, not the name of the system, so that the portable ones can be tested
anywhere (tests/support/portable.py removes the POSIX names).
"""

import contextlib
import errno
import glob
import os
import queue
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from io import FileIO
from pathlib import Path
from shutil import disk_usage
from typing import IO, Any, Final

# Of a whole path, without its closing NUL (Windows' MAX_PATH is 260); None: there is no limit worth checking.
LONGEST_PATH_CHARACTERS: Final[int | None] = 259 if sys.platform == "win32" else None
_READ_BYTES: Final = 64 * 1024
_BLOCK_BYTES: Final = 512  # of `st_blocks`, on every system that has it
# Answers of filesystems that cannot allocate cheaply, or not in this form.
_NO_ALLOCATION: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV, errno.EINTR}
)
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_MOST_FILES: Final = 4096  # macOS allows 256 unless asked
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


# --- Files: positioned reads and writes -------------------------------------------------------------------------------

_writing: Final = threading.Lock()
_LONGEST_WRITE_S: Final = 10.0  # a process that was stopped must not keep the others waiting
# A descriptor has one position, so without positioned calls a seek must not be separated from what follows it.
_seek_locks: Final = tuple(threading.Lock() for _ in range(64))


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Read up to `length` bytes at `offset`; empty at the end of the file. Safe from several threads."""
    if hasattr(os, "pread"):
        data: bytes = os.pread(fd, length, offset)
        return data
    with _at(fd, offset):
        return os.read(fd, length)


def read_into(fd: int, buffer: memoryview, offset: int) -> int:
    """Read into the buffer from `offset` on; the number of bytes read, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        count: int = os.preadv(fd, [buffer], offset)
        return count
    with _at(fd, offset), FileIO(fd, "rb", closefd=False) as file:
        return file.readinto(buffer) or 0


def write_at(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write at `offset`; the number of bytes written, which may be fewer than given."""
    if hasattr(os, "pwrite"):
        count: int = os.pwrite(fd, data, offset)
        return count
    with _at(fd, offset):
        return os.write(fd, data)


@contextlib.contextmanager
def _at(fd: int, offset: int) -> Iterator[None]:
    with _seek_locks[fd % len(_seek_locks)]:
        os.lseek(fd, offset, os.SEEK_SET)
        yield


# --- Files: opening, syncing, space -----------------------------------------------------------------------------------


if sys.platform == "win32":
    import _winapi
    import msvcrt

    _SHARE_ALL: Final = 7  # FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE
    _FILE_ATTRIBUTE_NORMAL: Final = 0x80
    # `dwCreationDisposition` of CreateFileW, by whether a file may be created, must be new, and is emptied.
    _DISPOSITIONS: Final = {
        (False, False): 3,  # OPEN_EXISTING
        (False, True): 5,  # TRUNCATE_EXISTING
        (True, False): 4,  # OPEN_ALWAYS
        (True, True): 2,  # CREATE_ALWAYS
    }

    def _open(path: Path, flags: int) -> int:
        """Open a file that can be renamed and deleted while it is open, as on POSIX; `os.open` does not allow that."""
        access = _winapi.GENERIC_WRITE if flags & (os.O_WRONLY | os.O_RDWR) else 0
        access |= 0 if flags & os.O_WRONLY else _winapi.GENERIC_READ
        disposition = _DISPOSITIONS[bool(flags & os.O_CREAT), bool(flags & os.O_TRUNC)]
        if flags & os.O_CREAT and flags & os.O_EXCL:
            disposition = 1  # CREATE_NEW
        handle = _winapi.CreateFile(str(path), access, _SHARE_ALL, 0, disposition, _FILE_ATTRIBUTE_NORMAL, 0)
        return msvcrt.open_osfhandle(handle, flags & os.O_APPEND | os.O_NOINHERIT | os.O_BINARY)

else:

    def _open(path: Path, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)


def open_file(path: Path, flags: int, *, follow_links: bool = True) -> int:
    """Open a file that others may rename or delete meanwhile; child processes do not inherit the descriptor.

    `flags` are only those that every system has. Without `follow_links`, a link as the last part of the path is
    an `OSError` with `errno.ELOOP`.
    """
    if follow_links:
        return _open(path, flags)
    if hasattr(os, "O_NOFOLLOW"):
        return _open(path, flags | os.O_NOFOLLOW)
    # Look before and after. The target of a link created in between is opened, but neither truncated nor returned.
    _refuse_link(path, None)
    fd = _open(path, flags & ~os.O_TRUNC)
    try:
        _refuse_link(path, os.fstat(fd))
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def lock_file(fd: int) -> bool:
    """Lock an open file until it is closed; False if it is locked. True where files cannot be locked."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN)
    return True


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Read a file of an existing folder and write it again without changes by others, also by other processes."""
    with _writing, contextlib.ExitStack() as stack:  # a lock of this process where folders cannot be locked
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            stack.callback(os.close, fd)
            deadline_s = time.monotonic() + _LONGEST_WRITE_S
            while not lock_file(fd) and time.monotonic() < deadline_s:
                time.sleep(0.01)
        yield


def _refuse_link(path: Path, opened: os.stat_result | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if is_link(found) or (opened is not None and not os.path.samestat(found, opened)):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def is_link(found: os.stat_result) -> bool:
    """Whether an `lstat` is of a symbolic link or a junction of Windows."""
    is_reparse_point = getattr(found, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    tag = getattr(found, "st_reparse_tag", 0)
    return stat.S_ISLNK(found.st_mode) or bool(
        is_reparse_point and tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    )


def sync_data(fd: int) -> None:
    """Bring a file's bytes to the disk, where the mount can do that; raises `OSError` if they cannot be written."""
    try:
        getattr(os, "fdatasync", os.fsync)(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Write a folder's names to the disk; does nothing if the system or the filesystem cannot."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a small file, of which others see the old content or the new one; raises `OSError` with this path."""
    new = path.with_name(f"{path.name}.{os.urandom(8).hex()}.new")
    try:
        try:
            new.touch(mode, exist_ok=False)
            new.write_bytes(data)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def existing_folder(folder: Path) -> Path:
    """The folder that a path leads to over its links, or the nearest parent that exists."""
    folder = Path(os.path.realpath(folder))
    while not exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def device_of(folder: Path) -> int | None:
    """The number of the filesystem of a folder, which need not exist yet; None if no part of its path is readable."""
    try:
        return existing_folder(folder).stat().st_dev
    except OSError:
        return None


def free_bytes(folder: Path) -> int | None:
    """What this user may still write on the filesystem of a folder, which need not exist yet; None if unknown."""
    try:
        usage = disk_usage(existing_folder(folder))
    except OSError:
        return None
    return usage.free if usage.total else None  # ramfs and some FUSE filesystems report no size at all


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """What matches a pattern below a folder; unlike `Path.glob` it skips folders that cannot be read."""
    for name in glob.iglob(pattern, root_dir=folder, include_hidden=True):  # noqa: PTH207 - as above
        yield folder / name


# Whether the path, or the target of its link, exists, is a regular file, or a folder; False also if that cannot be
# checked, as on a dead mount. (`Path.exists` raises in a folder that may not be searched, until Python 3.14.)
exists: Final = os.path.exists
is_file: Final = os.path.isfile
is_folder: Final = os.path.isdir


def others_may_write(path: Path) -> bool:
    """Whether another user owns a file or may write to it; False if the system has no such users, or no such file."""
    try:
        found = path.stat()
    except OSError:
        return False
    return hasattr(os, "getuid") and (found.st_uid not in (os.getuid(), 0) or bool(found.st_mode & 0o022))


def allocated_bytes(path: Path) -> int:
    """The space of a file on its filesystem, or its size if the system does not say; 0 without a file."""
    try:
        found = path.stat()
    except OSError:
        return 0
    blocks: int | None = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else blocks * _BLOCK_BYTES


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """Linux's own call: `posix_fallocate` of glibc writes every block where the filesystem has no allocation."""
    if not hasattr(os, "posix_fallocate"):
        return None
    import ctypes

    function: Any = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    typed: Callable[[int, int, int, int], int] | None = function
    return typed


def allocate(fd: int, size_bytes: int) -> None:
    """Reserve the space of a file if that is cheap, and give it its size in any case. Raises `OSError`."""
    before_bytes = os.fstat(fd).st_size
    if before_bytes == size_bytes:
        return
    function = _fallocate()
    if function is not None and size_bytes > 0 and function(fd, 0, 0, size_bytes) != 0:
        import ctypes

        code = ctypes.get_errno()
        if code not in _NO_ALLOCATION:
            os.ftruncate(fd, before_bytes)  # some filesystems keep what they could allocate, and the disk stays full
            raise OSError(code, os.strerror(code))
    os.ftruncate(fd, size_bytes)


def copy_range(source: int, source_offset: int, target: int, target_offset: int, length: int) -> int | None:
    """Have the system copy between two descriptors, maybe by sharing blocks; raises `OSError` if the disk is full.

    Returns the number of bytes copied, 0 at the end of the source; None: these files cannot be copied this way.
    """
    call: Callable[..., int] | None = getattr(os, "copy_file_range", None)
    if call is None:
        return None
    try:
        return call(source, target, length, source_offset, target_offset)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise
        return None


def drop_cached(fd: int, offset: int, length: int) -> None:
    """Let the system forget a cached range of a file; a length of 0 is to the end. A hint only."""
    advise: Callable[..., None] | None = getattr(os, "posix_fadvise", None)
    if advise is not None:
        with contextlib.suppress(OSError):
            advise(fd, offset, length, getattr(os, "POSIX_FADV_DONTNEED", 4))


def user_id() -> int | None:
    """The number by which `st_uid` names this user; None: files have no such owner."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def memory_bytes() -> tuple[int, int]:
    """The machine's memory, and the part that is available without swapping."""
    import psutil  # costs 10 ms, which would slow the import

    try:
        found = psutil.virtual_memory()
    except (OSError, KeyError):  # a sandbox without /proc/meminfo
        sysconf: Callable[[str], int] | None = getattr(os, "sysconf", None)
        if sysconf is None:
            raise
        page_bytes = sysconf("SC_PAGE_SIZE")
        return sysconf("SC_PHYS_PAGES") * page_bytes, sysconf("SC_AVPHYS_PAGES") * page_bytes
    return found.total, found.available


# --- Processes --------------------------------------------------------------------------------------------------------


def clock_s() -> float:
    """Monotonic seconds, including the time in which the machine sleeps if the system counts it."""
    kind: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    read: Callable[[int], float] | None = getattr(time, "clock_gettime", None)
    return time.monotonic() if kind is None or read is None else read(kind)


def boot_id() -> str:
    """Identifies this boot of this machine; empty: unknown."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def process_place() -> str:
    """Identifies where process ids mean the same as here: machine, boot and process namespace."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {boot_id()} {namespace}"


def is_running(pid: int) -> bool:
    """Whether a process of this place exists and was not killed; True if that cannot be seen."""
    with contextlib.suppress(OSError):
        # A killed process that its parent has not waited for still has its id.
        return _linux_stat(pid)[0] not in "ZX"
    import psutil  # not needed on Linux, and slow to import

    try:
        return bool(psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
    except psutil.NoSuchProcess:
        return _is_hidden(pid)
    except psutil.Error:
        return True


def _is_hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show: with its option `hidepid`, it hides those of other users."""
    if pid > 0 and hasattr(os, "getpgid"):
        try:
            os.getpgid(pid)
        except OSError as error:
            return error.errno != errno.ESRCH
        return True
    return False


def process_start(pid: int) -> str:
    """Distinguishes a process of this place from a later one with its id; empty: unknown."""
    with contextlib.suppress(OSError):
        return _linux_stat(pid)[19]
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


def _linux_stat(pid: int) -> list[str]:
    """The fields of a process from its state on (proc(5)), without its name, which may contain anything."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def is_orphaned(parent_pid: int) -> bool:
    """Whether the process that started this one has ended.

    POSIX gives an orphan another parent. Windows keeps the id of the ended parent, and puts a launcher between the two
    in a virtual environment, so there the parent itself is looked up.
    """
    return os.getppid() != parent_pid if hasattr(os, "fork") else not is_running(parent_pid)


def start_detached(
    command: Sequence[str], *, stdin: int, stdout: int, stderr: IO[Any] | int, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a child process, with unbuffered pipes, that an interrupt of this one does not reach; raises `OSError`.

    Jupyter interrupts the kernel's process group, so the child gets its own, by a session (POSIX) or a flag (Windows).
    """
    flags: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return subprocess.Popen(  # noqa: S603  # the caller's own command
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        bufsize=0,
        env=env,
        start_new_session=True,
        creationflags=flags,
    )


def lower_priority(niceness: int) -> None:
    """Let other processes use a core first; does nothing if the system cannot."""
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(niceness)
        return
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process().nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", niceness))


def allow_many_files() -> None:
    """Let this process open as many files and connections as the system permits, up to a few thousand."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < _MOST_FILES:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES if hard < 0 else min(hard, _MOST_FILES), hard))


def exit_reason(code: int) -> str:
    """How a child process ended, in words: "it ended with status 1", "it was ended by SIGKILL"."""
    if code >= 0:
        return f"it ended with status {code}"
    names = {one.value: one.name for one in signal.Signals}
    return f"it was ended by {names.get(-code, f'signal {-code}')}"


def log_path() -> str:
    """The file that standard error is written to; empty if the system does not say."""
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            import fcntl

            path = fcntl.fcntl(2, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0").decode()
        else:
            path = str(Path("/proc/self/fd/2").readlink())
        return path if path.startswith("/") else ""  # else a pipe
    return ""


def call_in_forked_children(callback: Callable[[], None]) -> None:
    """Call this in every process that is forked from this one from now on; without fork, never."""
    register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=callback)


# --- Pipes ------------------------------------------------------------------------------------------------------------


class PipeReader:
    """Reads the receiving end of a pipe with a time limit. For one thread.

    Pipes of Windows cannot be waited for with a time limit, so there a thread of its own reads them.
    """

    def __init__(self, fd: int) -> None:
        """The descriptor stays the caller's, to be closed after the last read."""
        self._fd = fd
        # Small, so that a sender is slowed down as by the pipe itself.
        self._chunks: queue.Queue[bytes | OSError] = queue.Queue(maxsize=4)
        self._poll = None
        if hasattr(select, "poll"):
            self._poll = select.poll()  # unlike `select`, not limited to the first 1024 descriptors
            self._poll.register(fd)  # the caller never waits to write: for POLLIN, or the end
        else:
            threading.Thread(target=self._read_all, name="gglib-pipe", daemon=True).start()

    def read(self, timeout_s: float) -> bytes | None:
        """The next bytes; empty at the end of the pipe, None: none came in time. Raises `OSError`."""
        if self._poll is not None:
            return os.read(self._fd, _READ_BYTES) if self._poll.poll(timeout_s * 1000) else None
        try:
            chunk = self._chunks.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(chunk, bytes) and chunk:
            return chunk
        self._chunks.put(chunk)  # later calls find the end, too
        if isinstance(chunk, OSError):
            raise chunk
        return chunk

    def _read_all(self) -> None:
        try:
            while chunk := os.read(self._fd, _READ_BYTES):
                self._chunks.put(chunk)
            self._chunks.put(b"")
        except OSError as error:
            self._chunks.put(error)
