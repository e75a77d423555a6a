"""How much memory the machine has: of the machine, of a container, of GPUs that answer and of those that do not."""

import platform
from pathlib import Path

import psutil
import pytest

from gglib_nb.manager import machine_memory as asked
from gglib_nb.manager.machine_memory import machine_memory, ram_bytes

GIB = 1024**3


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of one's own for what the system tells; no program on the path, and no GPU."""
    for name, place in (("_CGROUPS", "cgroup"), ("_OWN_CGROUPS", "own"), ("_DRM", "drm")):
        monkeypatch.setattr(asked, name, tmp_path / place)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def install(machine: Path, script: str) -> None:
    """An `nvidia-smi` that does this."""
    program = machine / "bin" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_without_a_limit_and_without_a_gpu_it_is_the_machine(machine: Path) -> None:
    found = machine_memory()

    assert found.ram_bytes == psutil.virtual_memory().total
    assert found.vram_bytes is None


# Containers and service managers


def test_a_container_sees_its_limit_at_the_root(machine: Path) -> None:
    write(machine / "own", "0::/\n")
    write(machine / "cgroup" / "memory.max", "2147483648\n")

    assert ram_bytes() == 2 * GIB


def test_the_lowest_limit_on_the_way_to_the_root_counts(machine: Path) -> None:
    write(machine / "own", "0::/user.slice/jupyter.service\n")
    write(machine / "cgroup" / "user.slice" / "memory.max", "1073741824\n")
    write(machine / "cgroup" / "user.slice" / "jupyter.service" / "memory.max", "2147483648\n")

    assert ram_bytes() == GIB


def test_cgroups_of_version_1_are_read_too(machine: Path) -> None:
    write(machine / "own", "9:cpu:/box\n4:blkio,memory:/box\n")
    write(machine / "cgroup" / "memory" / "box" / "memory.limit_in_bytes", "1073741824\n")
    write(machine / "cgroup" / "cpu" / "box" / "memory.limit_in_bytes", "1\n")

    assert ram_bytes() == GIB


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", "", "nonsense\n"])
def test_no_limit_is_no_limit(machine: Path, text: str) -> None:
    write(machine / "own", "0::/\n")
    write(machine / "cgroup" / "memory.max", text)

    assert ram_bytes() == psutil.virtual_memory().total


def test_a_system_that_does_not_tell_the_group_is_asked_at_the_root(machine: Path) -> None:
    write(machine / "cgroup" / "memory.max", "1073741824\n")

    assert ram_bytes() == GIB


def test_a_group_outside_of_what_is_seen_is_the_root(machine: Path) -> None:
    write(machine / "own", "0::/../../elsewhere\n")
    write(machine / "cgroup" / "memory.max", "1073741824\n")

    assert ram_bytes() == GIB


# GPUs


def test_nvidia_tells_the_largest_of_its_gpus(machine: Path) -> None:
    install(machine, 'test "$1" = --query-gpu=memory.total && echo 8192 && echo 24576')

    assert machine_memory().vram_bytes == 24 * GIB


@pytest.mark.parametrize(
    "script",
    ["exit 9", "echo '[N/A]'", "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 0", "kill -9 $$"],
)
def test_a_driver_that_fails_is_no_gpu(machine: Path, script: str) -> None:
    install(machine, script)

    assert machine_memory().vram_bytes is None


def test_a_driver_that_hangs_is_not_waited_for_long(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_NVIDIA_TIMEOUT_S", 0.1)
    install(machine, "exec /bin/sleep 30")

    assert machine_memory().vram_bytes is None


def test_a_file_that_is_no_program_is_no_gpu(machine: Path) -> None:
    (machine / "bin" / "nvidia-smi").write_bytes(b"\x7fELF nonsense")
    (machine / "bin" / "nvidia-smi").chmod(0o755)

    assert machine_memory().vram_bytes is None


def test_amd_tells_in_sysfs(machine: Path) -> None:
    write(machine / "drm" / "card0" / "device" / "mem_info_vram_total", "17163091968\n")
    write(machine / "drm" / "card1" / "device" / "mem_info_vram_total", "536870912\n")
    write(machine / "drm" / "card2" / "device" / "vendor", "0x8086\n")

    assert machine_memory().vram_bytes == 17163091968


def test_the_largest_of_all_makes_counts(machine: Path) -> None:
    install(machine, "echo 8192")
    write(machine / "drm" / "card1" / "device" / "mem_info_vram_total", f"{16 * GIB}\n")

    assert machine_memory().vram_bytes == 16 * GIB


@pytest.mark.parametrize(("ram_gib", "gpu_gib"), [(48, 36), (24, 16)])
def test_apples_gpu_may_have_a_part_of_the_unified_memory(
    machine: Path, monkeypatch: pytest.MonkeyPatch, ram_gib: int, gpu_gib: int
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": ram_gib * GIB}))

    assert machine_memory().vram_bytes == gpu_gib * GIB
