"""How much memory this machine has for a model: RAM, and the largest GPU's.

Asks what is there anyway (psutil, cgroups, `nvidia-smi`, sysfs) and needs no GPU library. Everything that cannot be
asked is None, never 0.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import psutil

from gglib_nb.domain.secrets import without_tokens

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_DRM: Final = Path("/sys/class/drm")
# A driver that has to wake up answers in about one second; a broken one hangs.
_NVIDIA_TIMEOUT_S: Final = 3.0
# Metal's default limit of the unified memory on machines of 36 GB and more; smaller ones have two thirds.
_APPLE_GPU_SHARE: Final = 0.75
_APPLE_SMALL_SHARE: Final = 2 / 3
_APPLE_SMALL_BYTES: Final = 36 * 1024**3


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """What there is in all, whoever uses it now.

    Attributes:
        ram_bytes: Memory this process may have, a container's limit respected.
        vram_bytes: Of the largest GPU; None without one, or where it cannot be asked.
    """

    ram_bytes: int
    vram_bytes: int | None


def machine_memory() -> MachineMemory:
    """Asks the machine; takes up to 3 s where an NVIDIA driver has to wake up, so not for the kernel's loop."""
    ram = ram_bytes()
    gpus = [*_nvidia(), *_amd(_DRM), *_apple(ram)]
    return MachineMemory(ram, max(gpus, default=None))


def ram_bytes() -> int:
    """Memory this process may have: the machine's, or less where a container or a service manager sets a limit."""
    return min([psutil.virtual_memory().total, *_cgroup_limits(_CGROUPS, _OWN_CGROUPS)])


def _cgroup_limits(root: Path, own: Path) -> Iterator[int]:
    """The limits of this process's control group and of those above it, of cgroup v2 and v1.

    A group without a limit says `max`, or a number beyond all memory. `own` names the groups as `/proc/self/cgroup`
    does (cgroups(7)): `0::<path>` for v2, `<n>:memory:<path>` for v1. A container that sees its own group as the root
    finds the limit there, whatever the path says.
    """
    for controllers, group in _own_groups(own):
        if not controllers:
            folder, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        for path in (group, *group.parents):
            if (limit := _number_in(folder / path / name)) is not None:
                yield limit


def _own_groups(own: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Controllers (none for v2) and path below their root; where the system does not tell, the roots themselves."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        lines = ["0::/", "1:memory:/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = PurePosixPath(path.lstrip("/")).parts
        yield controllers, PurePosixPath(*(() if ".." in parts else parts))


def _nvidia() -> list[int]:
    """One figure a GPU, from the driver's own tool."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            command,
            capture_output=True,
            text=True,
            timeout=_NVIDIA_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
            env=without_tokens(os.environ),
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return [int(line) * 1024**2 for line in answer.stdout.split() if line.isdecimal()]


def _amd(root: Path) -> list[int]:
    """One figure a GPU, from the amdgpu driver's sysfs."""
    figures = (_number_in(path) for path in root.glob("card[0-9]*/device/mem_info_vram_total"))
    return [figure for figure in figures if figure]


def _apple(ram: int) -> list[int]:
    """The part of the unified memory that Metal lets a GPU have by default."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return []
    share = _APPLE_SMALL_SHARE if ram < _APPLE_SMALL_BYTES else _APPLE_GPU_SHARE
    return [int(ram * share)]


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
