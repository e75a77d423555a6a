"""This machine's resources for models: memory, total and free, and disk space where downloads are stored.

Queries psutil, cgroups, `nvidia-smi`, sysfs and sysctl, and needs no GPU library; changes nothing. A value that
cannot be queried is None, never 0.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.fit import Gpu, MachineMemory
from gglib_nb.domain.references import target_path
from gglib_nb.domain.text import without_tokens
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import missing_bytes, status_of
from gglib_nb.errors import RequestError
from gglib_nb.system import existing_folder, free_bytes

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_DRM: Final = Path("/sys/class/drm")
# A driver that has to wake up answers in about one second; a broken one hangs.
_PROGRAM_TIMEOUT_S: Final = 3.0
_NVIDIA_QUERY: Final = "index,uuid,name,memory.total,memory.free"
# Metal's default limit of the unified memory on machines of 36 GB and more; smaller ones have two thirds.
_APPLE_GPU_SHARE: Final = 0.75
_APPLE_SMALL_SHARE: Final = 2 / 3
_APPLE_SMALL_BYTES: Final = 36 * 1024**3
# An AMD GPU with less memory of its own is part of the processor and uses RAM as well (GTT).
_LEAST_OWN_BYTES: Final = 3 * 1024**3


def machine_memory() -> MachineMemory:
    """Queries the machine; takes up to 3 s if an NVIDIA driver has to wake up, so not for the kernel's loop."""
    ram = ram_bytes()
    free = _ram_free_bytes(ram)
    gpus = [*_nvidia(ram, free), *_amd(_DRM, free)]
    # llama.cpp uses a processor's own GPU only if there is no other.
    own = [gpu for gpu in gpus if not gpu.is_shared]
    return MachineMemory(ram, tuple(own or gpus or _apple(ram, free)), free)


def ram_bytes() -> int:
    """Memory this process may have: the machine's, or less if a container or a service manager sets a limit."""
    import psutil  # costs 10 ms, which would slow the import

    return min([psutil.virtual_memory().total, *(limit for limit, _used in _cgroup_limits(_CGROUPS, _OWN_CGROUPS))])


def _ram_free_bytes(ram: int) -> int:
    """The part of it that is available without swapping; file caches count as free."""
    import psutil

    limits = ((limit, used) for limit, used in _cgroup_limits(_CGROUPS, _OWN_CGROUPS) if limit <= ram)
    return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in limits)])


def _cgroup_limits(root: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of this process's control group and of those above it that have a limit, of cgroup v2 and v1.

    A group without a limit says `max`, or a number beyond all memory. `own` names the groups as `/proc/self/cgroup`
    does (cgroups(7)): `0::<path>` for v2, `<n>:memory:<path>` for v1. A container that sees its own group as the root
    finds the limit there, whatever the path.
    """
    for controllers, group in _own_groups(own):
        if not controllers:
            folder, limits, uses, cached = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            folder, limits, uses = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        for path in (group, *group.parents):
            if (limit := _number_in(folder / path / limits)) is not None:
                used = _number_in(folder / path / uses) or 0
                yield limit, max(0, used - _stat_of(folder / path / "memory.stat", cached))


def _own_groups(own: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Controllers (none for v2) and path below their root; the roots themselves if the system does not state them."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        lines = ["0::/", "1:memory:/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = PurePosixPath(path.lstrip("/")).parts
        yield controllers, PurePosixPath(*(() if ".." in parts else parts))


def _nvidia(ram: int, ram_free: int) -> list[Gpu]:
    """Every visible GPU, from the driver's own tool."""
    lines = _answer("nvidia-smi", f"--query-gpu={_NVIDIA_QUERY}", "--format=csv,noheader,nounits").splitlines()
    rows = [cells for line in lines if len(cells := [cell.strip() for cell in line.split(",")]) == 5]
    shown = _visible([(index, uuid) for index, uuid, *_ in rows], os.environ.get("CUDA_VISIBLE_DEVICES"))
    found = []
    for row in shown:
        _, _, name, total, free = rows[row]
        if total.isdecimal():
            found.append(Gpu(name, int(total) * 1024**2, int(free) * 1024**2 if free.isdecimal() else None))
        elif total == "[N/A]" and name:  # NVIDIA Grace and Jetson use the machine's RAM
            found.append(Gpu(name, ram, ram_free, is_shared=True))
    return found


def _visible(devices: Sequence[tuple[str, str]], stated: str | None) -> list[int]:
    """The indices of the devices in a variable such as `CUDA_VISIBLE_DEVICES`: by number or beginning of the UUID.

    The first entry that names no device ends the list (CUDA C Programming Guide, "Environment variables").
    """
    if stated is None:
        return list(range(len(devices)))
    places: list[int] = []
    for word in map(str.strip, stated.split(",")):
        named = [
            place
            for place, (index, uuid) in enumerate(devices)
            if word and (word == index or (word.startswith("GPU-") and uuid.startswith(word)))
        ]
        if not named:
            break
        places.append(named[0])
    return list(dict.fromkeys(places))


def _amd(root: Path, ram_free: int) -> list[Gpu]:
    """Every visible GPU, from the amdgpu driver's sysfs."""
    folders = sorted(path.parent for path in root.glob("card[0-9]*/device/mem_info_vram_total"))
    found = [gpu for folder in folders if (gpu := _amd_gpu(folder, ram_free)) is not None]
    stated = next(
        (value for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES") if (value := os.environ.get(name))), None
    )
    return [found[place] for place in _visible([(str(number), "") for number in range(len(found))], stated)]


def _amd_gpu(folder: Path, ram_free: int) -> Gpu | None:
    total, used = _number_in(folder / "mem_info_vram_total"), _number_in(folder / "mem_info_vram_used")
    if not total:
        return None
    free = None if used is None else max(0, total - used)
    mapped = _number_in(folder / "mem_info_gtt_total") or 0
    if total < _LEAST_OWN_BYTES and mapped:
        in_use = _number_in(folder / "mem_info_gtt_used") or 0
        return Gpu("AMD", total + mapped, (free or 0) + min(mapped - in_use, ram_free), is_shared=True)
    return Gpu("AMD", total, free, is_shared=total < _LEAST_OWN_BYTES)


def _apple(ram: int, ram_free: int) -> list[Gpu]:
    """The part of the unified memory that Metal gives a GPU: the configured limit, else the default one."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return []
    stated = _answer("sysctl", "-n", "iogpu.wired_limit_mb").strip()
    share = _APPLE_SMALL_SHARE if ram < _APPLE_SMALL_BYTES else _APPLE_GPU_SHARE
    limit = int(stated) * 1024**2 if stated.isdecimal() and int(stated) else int(ram * share)
    return [Gpu("Apple", min(limit, ram), min(limit, ram_free), is_shared=True)]


def _answer(program: str, *arguments: str) -> str:
    """The output of a system program; empty if it does not exist, fails or hangs."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        answer = subprocess.run(  # noqa: S603 - fixed commands
            [path, *arguments],
            capture_output=True,
            text=True,
            timeout=_PROGRAM_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
            env=without_tokens(os.environ),
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _stat_of(path: Path, name: str) -> int:
    """One line of a file of names and numbers; 0 if it is missing."""
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return next((int(words[1]) for words in lines if words[:1] == [name]), 0)
    except (OSError, ValueError, IndexError):
        return 0


Sizes = dict[Path, int]
"""Files by their final path, with their full sizes."""


class DiskSpace(Value, frozen=True):
    """One filesystem."""

    device: int | None  # its number; None if nothing of the path can be read
    free_bytes: int | None  # what this user may still write on it; None if unknown


def disk_space_at(folder: Path) -> DiskSpace:
    """The filesystem of a folder that need not exist yet; links are followed, also to a folder that does not exist yet."""
    there = existing_folder(Path(os.path.realpath(folder)))
    found = status_of(there)
    return DiskSpace(None, None) if found is None else DiskSpace(found.st_dev, free_bytes(there))


def files_of(models_directory: Path, repo_id: str, files: Iterable[tuple[str, int | None]]) -> Sizes:
    """The files of a repository as stored on the disk: the parts of a byte split are one file; unknown sizes are left out."""
    sizes: Sizes = {}
    for path, size_bytes in files:
        if size_bytes is not None:
            target = target_path(models_directory, repo_id, parse_path(path).place)
            sizes[target] = sizes.get(target, 0) + size_bytes
    return sizes


def bytes_to_write(files: Sizes) -> int:
    """The disk space that these files still need."""
    return sum(missing_bytes(target, size_bytes) for target, size_bytes in files.items())


def queued_files(snapshot: QueueSnapshot, models_directory: Path, device: int | None) -> Sizes:
    """The files on a filesystem that the queue will write, each once."""
    found: Sizes = {}
    for item in snapshot.items:
        parts = ((file.path_in_repo, file.size_bytes) for file in (*item.shards, *item.companions))
        try:
            found |= files_of(models_directory, item.repo_id, parts)
        except RequestError:
            continue  # the queue refused it
    return {target: size for target, size in found.items() if disk_space_at(target.parent).device == device}
