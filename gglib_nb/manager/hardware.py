"""This machine's resources for models: memory, total and free, and disk space where downloads are stored.

Queries psutil, cgroups, `nvidia-smi`, sysfs and sysctl, and needs no GPU library; changes nothing. A value that
cannot be queried is None, never 0.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from gglib_nb.domain.download import PlannedDownload, PlannedFile, sizes_by_target
from gglib_nb.domain.fit import Gpu, MachineMemory
from gglib_nb.domain.text import without_tokens
from gglib_nb.engine.disk import missing_bytes
from gglib_nb.system import device_of, memory_bytes

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_DRM: Final = Path("/sys/class/drm")
_NODES: Final = Path("/dev/dri")
# Files with a group's limit and use, and the name of its file caches in `memory.stat`.
_CGROUP_2: Final = ("memory.max", "memory.current", "inactive_file")
_CGROUP_1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
# A driver that has to wake up answers in one to three seconds for each GPU; a broken one hangs.
_PROGRAM_TIMEOUT_S: Final = 20.0
# Drivers before MIG refuse the last field, and with it the query.
_NVIDIA_QUERIES: Final = tuple(f"index,uuid,name,memory.total,memory.free{mig}" for mig in (",mig.mode.current", ""))
# A line of `nvidia-smi -L` about an instance of a GPU (MIG), such as `MIG 1g.10gb  Device  0: (UUID: MIG-...)`.
_MIG: Final = re.compile(r"MIG (\S*?(\d+)gb\S*) .*\(UUID: (MIG-[^)]+)\)")
# Metal's default limit of the unified memory on machines of 36 GB and more; smaller ones have two thirds.
_APPLE_GPU_SHARE: Final = 0.75
_APPLE_SMALL_SHARE: Final = 2 / 3
_APPLE_SMALL_BYTES: Final = 36 * 1024**3
_AMD_FILES: Final = ("vram_total", "vram_used", "gtt_total", "gtt_used")
# An AMD GPU with less memory of its own is part of the processor and uses RAM as well (GTT).
_LEAST_OWN_BYTES: Final = 3 * 1024**3


def machine_memory() -> MachineMemory:
    """Queries the machine; takes seconds if an NVIDIA driver has to wake up, so not for the kernel's loop."""
    ram, free = _ram()
    gpus = [*_nvidia(ram, free), *_amd(_DRM, free)]
    # llama.cpp uses a processor's own GPU only if there is no other.
    own = [gpu for gpu in gpus if not gpu.is_shared]
    return MachineMemory(ram, tuple(own or gpus or _apple(ram, free)), free)


def memory_for(sizes: Iterable[int | None]) -> int:
    """Memory for a model of one of these sizes: RAM, and if one is larger, the GPUs', which takes time to query."""
    ram, _ = _ram()
    return ram if all((size or 0) <= ram for size in sizes) else machine_memory().all_bytes


def _ram() -> tuple[int, int]:
    """Memory this process may have, and the part that is available without swapping; file caches count as free."""
    total, available = memory_bytes()
    groups = [(limit, used) for limit, used in _cgroup_limits(_CGROUPS, _OWN_CGROUPS) if limit <= total]
    free = min([available, *(max(0, limit - used) for limit, used in groups)])
    return min([total, *(limit for limit, _ in groups)]), free


def _cgroup_limits(root: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of this process's control group and of those above it that have a limit, of cgroup v2 and v1.

    A group without a limit says `max`, or a number beyond all memory. `own` names the groups as `/proc/self/cgroup`
    does (cgroups(7)): `0::<path>` for v2, `<n>:memory:<path>` for v1. A container that sees its own group as the root
    finds the limit there, whatever the path.
    """
    lines = _text_in(own).splitlines() or ["0::/", "1:memory:/"]  # if the system does not name them, look at the roots
    for controllers, path in (line.split(":", 2)[1:] for line in lines if line.count(":") > 1):
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, (limits, uses, cached) = (root / "memory", _CGROUP_1) if controllers else (root, _CGROUP_2)
        parts = PurePosixPath(path.lstrip("/")).parts
        group = PurePosixPath(*(() if ".." in parts else parts))
        for place in (folder / one for one in (group, *group.parents)):
            if (limit := _number_in(place / limits)) is not None:
                used = _number_in(place / uses) or 0
                yield limit, max(0, used - (_number_in(place / "memory.stat", cached) or 0))


def _nvidia(ram: int, ram_free: int) -> list[Gpu]:
    """Every visible GPU, from the driver's own tool."""
    said = (_answer("nvidia-smi", f"--query-gpu={one}", "--format=csv,noheader,nounits") for one in _NVIDIA_QUERIES)
    lines = next((text for text in said if "not a valid field" not in text), "").splitlines()
    rows = [cells for line in lines if len(cells := [cell.strip() for cell in line.split(",")]) >= 5]
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = _visible([(cells[0], cells[1]) for cells in rows], stated)
    is_instance = (stated or "").strip().startswith("MIG-")
    is_divided = any("Enabled" in rows[row][5:] or not rows[row][3].isdecimal() for row in shown)
    if (is_instance or is_divided) and (instances := _instances()):
        named = _visible([("", uuid) for uuid, _ in instances], stated) if is_instance else shown and [0]
        return [instances[number][1] for number in named[:1]]  # CUDA uses only one
    found = []
    for row in shown:
        name, total, free = rows[row][2:5]
        if total.isdecimal():
            found.append(Gpu(name, int(total) * 1024**2, int(free) * 1024**2 if free.isdecimal() else None))
        elif total == "[N/A]" and name:  # NVIDIA Grace and Jetson use the machine's RAM
            found.append(Gpu(name, ram, ram_free, is_shared=True))
    return found


def _instances() -> list[tuple[str, Gpu]]:
    """The instances into which GPUs are divided (MIG), with their UUIDs; their free memory is unknown."""
    lines = _MIG.findall(_answer("nvidia-smi", "-L"))
    return [(uuid, Gpu(f"NVIDIA MIG {profile}", int(gigabytes) * 10**9, None)) for profile, gigabytes, uuid in lines]


def _visible(devices: Sequence[tuple[str, str]], stated: str | None) -> list[int]:
    """The indices of the devices in a variable such as `CUDA_VISIBLE_DEVICES`: by number or beginning of the UUID.

    The first entry that names no device ends the list (CUDA C Programming Guide, "Environment variables").
    """
    if stated is None:
        return list(range(len(devices)))
    places: list[int] = []
    for word in map(str.strip, stated.split(",")):
        is_uuid = word.startswith(("GPU-", "MIG-"))
        named = (at for at, (index, uuid) in enumerate(devices) if word == index or (is_uuid and uuid.startswith(word)))
        if (place := next(named, None)) is None:
            break
        places.append(place)
    return list(dict.fromkeys(places))


def _amd(root: Path, ram_free: int) -> list[Gpu]:
    """Every visible GPU, from the amdgpu driver's sysfs."""
    found: list[tuple[str, Gpu]] = []
    cards = root.glob("card[0-9]*/device/mem_info_vram_total")
    for path in sorted(cards, key=lambda path: (len(path.parts[-3]), path)):  # card10 is after card9
        total, used, mapped, in_use = (_number_in(path.with_name(f"mem_info_{name}")) for name in _AMD_FILES)
        # A container sees every GPU of the machine here, but opens only those that it was given.
        nodes = [_NODES / node.name for node in path.parent.glob("drm/renderD*")]
        if not total or (nodes and not any(os.access(node, os.R_OK | os.W_OK) for node in nodes)):
            continue
        free = None if used is None else max(0, total - used)
        is_shared = total < _LEAST_OWN_BYTES
        if is_shared and mapped:
            total, free = total + mapped, (free or 0) + min(mapped - (in_use or 0), ram_free)
        uuid = f"GPU-{_text_in(path.with_name('unique_id'))}"
        found.append((uuid, Gpu("AMD", total, free, is_shared=is_shared)))
    # HIP's variable, or CUDA's in its place, counts those that ROCR's leaves.
    rocr, hip, cuda = (os.environ.get(f"{name}_VISIBLE_DEVICES") or None for name in ("ROCR", "HIP", "CUDA"))
    for stated in (rocr, hip or cuda):
        devices = [(str(number), uuid) for number, (uuid, _) in enumerate(found)]
        found = [found[place] for place in _visible(devices, stated)]
    return [gpu for _, gpu in found]


def _apple(ram: int, ram_free: int) -> list[Gpu]:
    """The part of the unified memory that Metal gives a GPU: the configured limit, else the default one."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return []
    stated = _answer("sysctl", "-n", "iogpu.wired_limit_mb").strip()
    share = _APPLE_SMALL_SHARE if ram < _APPLE_SMALL_BYTES else _APPLE_GPU_SHARE
    limit = int(stated) * 1024**2 if stated.isdecimal() and int(stated) else int(ram * share)
    return [Gpu("Apple", min(limit, ram), min(limit, ram_free), is_shared=True)]


def _answer(program: str, *arguments: str) -> str:
    """The output of a system program; empty if it does not exist or hangs."""
    path = shutil.which(program)
    if path is None:
        return ""
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        running = subprocess.Popen(  # noqa: S603 - fixed commands
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=without_tokens(os.environ),
        )
        try:  # a GPU with a fault, such as a corrupt infoROM, does not hide the rows of the others
            return running.communicate(timeout=_PROGRAM_TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate(timeout=1)  # inside a broken driver it cannot be killed
    return ""


def _text_in(path: Path) -> str:
    """The text in a file; empty: there is none."""
    with suppress(OSError, ValueError):
        return path.read_text().strip()
    return ""


def _number_in(path: Path, name: str = "") -> int | None:
    """The number in a file, or in the line of that name; None: there is none."""
    text = _text_in(path)
    with suppress(ValueError, KeyError):
        return int(dict(line.split() for line in text.splitlines())[name] if name else text)
    return None


def bytes_to_write(files: Iterable[PlannedFile]) -> int:
    """The disk space that these files still need."""
    return sum(missing_bytes(Path(target), size_bytes) for target, size_bytes in sizes_by_target(files).items())


def queued_bytes(plans: Iterable[PlannedDownload], device: int | None) -> int:
    """The space on one filesystem that queued downloads still need; a file of several is counted once."""
    files = {(file.target, file.offset_bytes): file for plan in plans for file in plan.files}
    return bytes_to_write(one for one in files.values() if device_of(Path(one.target).parent) == device)
