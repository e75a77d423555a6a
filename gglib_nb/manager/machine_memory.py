"""How much memory this machine has for a model: RAM, and the largest GPU's.

Asks what is there anyway (psutil, `nvidia-smi`, sysfs) and needs no GPU library. Everything that cannot be asked is
None, never 0.
"""

import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_NVIDIA_TIMEOUT_S: Final = 3.0
"""A driver that has to wake up answers in about one; a broken one hangs."""
_APPLE_GPU_SHARE: Final = 0.75
"""Metal's default limit of the unified memory on machines of 36 GB and more; smaller ones have two thirds."""
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
    ram_bytes = min([psutil.virtual_memory().total, *_cgroup_limits(Path("/sys/fs/cgroup"))])
    gpus = [*_nvidia(), *_amd(Path("/sys/class/drm")), *_apple(ram_bytes)]
    return MachineMemory(ram_bytes, max(gpus, default=None))


def _cgroup_limits(root: Path) -> Iterable[int]:
    """Limits of a container, of cgroup v2 and v1; a host has none (`max`, or a number beyond all memory)."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        if (limit := _number_in(root / name)) is not None:
            yield limit


def _nvidia() -> list[int]:
    """One figure a GPU, from the driver's own tool."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            command, capture_output=True, text=True, timeout=_NVIDIA_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) * 1024**2 for line in answer.stdout.split() if line.isdigit()]


def _amd(root: Path) -> list[int]:
    """One figure a GPU, from the amdgpu driver's sysfs."""
    figures = (_number_in(path) for path in root.glob("card[0-9]*/device/mem_info_vram_total"))
    return [figure for figure in figures if figure]


def _apple(ram_bytes: int) -> list[int]:
    """The part of the unified memory that Metal lets a GPU have by default."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return []
    share = _APPLE_SMALL_SHARE if ram_bytes < _APPLE_SMALL_BYTES else _APPLE_GPU_SHARE
    return [int(ram_bytes * share)]


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
