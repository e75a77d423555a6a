"""How much memory is available: of the machine, of a container, of GPUs that respond and of those that do not."""

import os
import platform
import subprocess
from pathlib import Path

import psutil
import pytest

from gglib_nb.manager import hardware as asked
from gglib_nb.manager.hardware import machine_memory

GIB = 1024**3


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake root for system files; no program on the path, and no GPU."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, place in (("_CGROUPS", "cgroup"), ("_OWN_CGROUPS", "own"), ("_DRM", "drm"), ("_NODES", "dri")):
        monkeypatch.setattr(asked, name, tmp_path / place)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def install(machine: Path, script: str, program: str = "nvidia-smi") -> None:
    """A program that does this."""
    path = machine / "bin" / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_a_limit_or_gpu_the_machines_memory_counts(machine: Path) -> None:
    found = machine_memory()

    assert found.ram_bytes == psutil.virtual_memory().total
    assert found.vram_bytes is None


def test_a_sandbox_without_proc_has_memory(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = psutil.virtual_memory().total

    def refuse() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", refuse)

    assert machine_memory().ram_bytes == pytest.approx(total, rel=0.05)


# Containers and service managers


def test_a_containers_limit_is_read_at_the_root(machine: Path) -> None:
    write(machine / "own", "0::/\n")
    write(machine / "cgroup" / "memory.max", "2147483648\n")

    assert machine_memory().ram_bytes == 2 * GIB


def test_the_lowest_limit_on_the_way_to_the_root_counts(machine: Path) -> None:
    write(machine / "own", "0::/user.slice/jupyter.service\n")
    write(machine / "cgroup" / "user.slice" / "memory.max", "1073741824\n")
    write(machine / "cgroup" / "user.slice" / "jupyter.service" / "memory.max", "2147483648\n")

    assert machine_memory().ram_bytes == GIB


def test_cgroups_version_1_is_supported(machine: Path) -> None:
    write(machine / "own", "9:cpu:/box\n4:blkio,memory:/box\n")
    write(machine / "cgroup" / "memory" / "box" / "memory.limit_in_bytes", "1073741824\n")
    write(machine / "cgroup" / "cpu" / "box" / "memory.limit_in_bytes", "1\n")

    assert machine_memory().ram_bytes == GIB


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", "", "nonsense\n"])
def test_an_unlimited_cgroup_sets_no_limit(machine: Path, text: str) -> None:
    write(machine / "own", "0::/\n")
    write(machine / "cgroup" / "memory.max", text)

    assert machine_memory().ram_bytes == psutil.virtual_memory().total


def test_without_a_known_group_the_root_is_read(machine: Path) -> None:
    write(machine / "cgroup" / "memory.max", "1073741824\n")

    assert machine_memory().ram_bytes == GIB


def test_a_group_outside_the_visible_hierarchy_counts_as_the_root(machine: Path) -> None:
    write(machine / "own", "0::/../../elsewhere\n")
    write(machine / "cgroup" / "memory.max", "1073741824\n")

    assert machine_memory().ram_bytes == GIB


def test_free_memory_is_what_the_limit_leaves_and_includes_file_caches(machine: Path) -> None:
    write(machine / "own", "0::/box\n")
    write(machine / "cgroup" / "box" / "memory.max", f"{2 * GIB}\n")
    write(machine / "cgroup" / "box" / "memory.current", f"{GIB}\n")
    write(machine / "cgroup" / "box" / "memory.stat", f"anon 5\ninactive_file {GIB // 2}\n")

    found = machine_memory()

    assert (found.ram_bytes, found.ram_free_bytes) == (2 * GIB, min(GIB + GIB // 2, psutil.virtual_memory().available))


# GPUs

TWO = "echo '0, GPU-aa1, NVIDIA RTX 4060, 8192, 8000, [N/A]'; echo '1, GPU-bb2, NVIDIA RTX 3090, 24576, 1024, [N/A]'"


def test_every_gpu_counts_with_its_free_memory(machine: Path) -> None:
    install(machine, f'test "$1" = --query-gpu=index,uuid,name,memory.total,memory.free,mig.mode.current && {TWO}')

    found = machine_memory()

    assert [(gpu.name, gpu.total_bytes, gpu.free_bytes) for gpu in found.gpus] == [
        ("NVIDIA RTX 4060", 8 * GIB, 8000 * 1024**2),
        ("NVIDIA RTX 3090", 24 * GIB, GIB),
    ]
    assert (found.vram_bytes, found.vram_free_bytes) == (32 * GIB, 9024 * 1024**2)
    assert not found.is_unified


def test_a_driver_older_than_divided_gpus_is_asked_again_without_them(machine: Path) -> None:
    asked_for = "--query-gpu=index,uuid,name,memory.total,memory.free"
    refusal = "echo 'Field \"mig.mode.current\" is not a valid field to query.'; echo; exit 2"
    install(machine, f'test "$1" = {asked_for} || {{ {refusal}; }}; echo "0, GPU-aa1, Tesla P100, 16384, 16000"')

    assert machine_memory().vram_bytes == 16 * GIB


@pytest.mark.parametrize(
    ("visible", "gib"),
    [("0", 8), ("1", 24), ("1,0", 32), ("GPU-bb", 24), ("", None), ("-1", None), ("0,-1,1", 8), ("7", None)],
)
def test_hidden_gpus_do_not_count(
    machine: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gib: int | None
) -> None:
    install(machine, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert machine_memory().vram_bytes == (gib and gib * GIB)


def test_a_gpu_without_memory_of_its_own_uses_ram(machine: Path) -> None:
    install(machine, "echo '0, GPU-aa1, NVIDIA GB10, [N/A], [N/A], [N/A]'")

    found = machine_memory()

    assert (found.is_unified, found.vram_bytes) == (True, found.ram_bytes)


DIVIDED = """
if test "$1" = -L; then
    echo 'GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aa1)'
    echo '  MIG 1g.10gb     Device  0: (UUID: MIG-cc1)'
    echo '  MIG 1c.3g.40gb+me  Device  1: (UUID: MIG-dd2)'
else
    echo '0, GPU-aa1, NVIDIA A100-SXM4-80GB, [N/A], [N/A], [N/A]'
fi
"""


@pytest.mark.parametrize(
    ("visible", "gigabytes"),
    [(None, 10), ("0", 10), ("MIG-cc1", 10), ("MIG-dd2,MIG-cc1", 40), ("MIG-ee", None), ("", None)],
)
def test_of_a_divided_gpu_only_one_instance_counts(
    machine: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, gigabytes: int | None
) -> None:
    """Its driver does not state the memory of the whole, as for GPUs that use RAM."""
    install(machine, DIVIDED)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    found = machine_memory()

    assert (found.vram_bytes, found.is_unified) == (gigabytes and gigabytes * 10**9, False)


def test_an_instance_counts_although_the_driver_states_the_memory_of_the_divided_gpu(machine: Path) -> None:
    """As on the machine itself, where CUDA uses the first instance."""
    install(machine, DIVIDED.replace("[N/A], [N/A], [N/A]", "81920, 81000, Enabled"))

    assert machine_memory().vram_bytes == 10 * 10**9


def test_a_whole_gpu_counts_although_a_hidden_one_is_divided(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = "    echo '1, GPU-bb2, NVIDIA A100-SXM4-80GB, 81920, 81000, Disabled'\n"
    install(machine, DIVIDED.replace("fi\n", f"{whole}fi\n"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    assert machine_memory().vram_bytes == 80 * GIB


@pytest.mark.parametrize(
    "script",
    ["exit 9", "echo '[N/A]'", "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 0", "kill -9 $$"],
)
def test_a_failing_driver_counts_as_no_gpu(machine: Path, script: str) -> None:
    install(machine, script)

    assert machine_memory().vram_bytes is None


def test_a_fault_of_one_gpu_does_not_hide_the_others(machine: Path) -> None:
    install(machine, f"{TWO}; echo 'WARNING: infoROM is corrupted at gpu 0000:01:00.0'; exit 14")

    assert machine_memory().vram_bytes == 32 * GIB


def test_a_hanging_driver_is_given_up_soon(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_PROGRAM_TIMEOUT_S", 0.1)
    install(machine, "exec /bin/sleep 30")

    assert machine_memory().vram_bytes is None


def test_a_driver_that_cannot_even_be_killed_is_given_up(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that waits inside a broken driver; this one waits for the end of the test."""
    stuck: list[subprocess.Popen[str]] = []

    def survive(process: subprocess.Popen[str]) -> None:
        stuck.append(process)

    monkeypatch.setattr(asked, "_PROGRAM_TIMEOUT_S", 0.1)
    monkeypatch.setattr(subprocess.Popen, "kill", survive)
    os.mkfifo(machine / "gate")
    install(machine, f"read line < {machine / 'gate'}")

    assert machine_memory().vram_bytes is None

    (machine / "gate").write_text("open\n")
    stuck[0].communicate()


def test_a_driver_file_that_is_not_executable_counts_as_no_gpu(machine: Path) -> None:
    (machine / "bin" / "nvidia-smi").write_bytes(b"\x7fELF nonsense")
    (machine / "bin" / "nvidia-smi").chmod(0o755)

    assert machine_memory().vram_bytes is None


def test_amd_gpus_are_read_from_sysfs_and_an_integrated_gpu_beside_another_is_ignored(machine: Path) -> None:
    write(machine / "drm" / "card0" / "device" / "mem_info_vram_total", "17163091968\n")
    write(machine / "drm" / "card0" / "device" / "mem_info_vram_used", "163091968\n")
    write(machine / "drm" / "card1" / "device" / "mem_info_vram_total", "536870912\n")
    write(machine / "drm" / "card2" / "device" / "vendor", "0x8086\n")

    found = machine_memory()

    assert (found.vram_bytes, found.vram_free_bytes) == (17163091968, 17_000_000_000)


def test_an_integrated_amd_gpu_uses_ram(machine: Path) -> None:
    write(machine / "drm" / "card0" / "device" / "mem_info_vram_total", f"{GIB // 2}\n")
    write(machine / "drm" / "card0" / "device" / "mem_info_gtt_total", f"{16 * GIB}\n")

    found = machine_memory()

    assert (found.is_unified, found.vram_bytes) == (True, 16 * GIB + GIB // 2)


def test_an_amd_gpu_that_a_container_was_not_given_does_not_count(machine: Path) -> None:
    for number, gib in enumerate((16, 24)):
        write(machine / "drm" / f"card{number}" / "device" / "mem_info_vram_total", f"{gib * GIB}\n")
        (machine / "drm" / f"card{number}" / "device" / "drm" / f"renderD{128 + number}").mkdir(parents=True)
    assert machine_memory().vram_bytes is None

    write(machine / "dri" / "renderD129", "")

    assert machine_memory().vram_bytes == 24 * GIB


@pytest.mark.parametrize(
    ("visible", "gib"), [("0", 4), ("10", 14), ("GPU-a10", 14), ("GPU-a2,GPU-a0", 10), ("GPU-b", None)]
)
def test_amd_gpus_are_named_by_number_or_uuid(
    machine: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gib: int | None
) -> None:
    for number in range(11):
        write(machine / "drm" / f"card{number}" / "device" / "mem_info_vram_total", f"{(number + 4) * GIB}\n")
        write(machine / "drm" / f"card{number}" / "device" / "unique_id", f"a{number}\n")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", visible)

    assert machine_memory().vram_bytes == (gib and gib * GIB)


def test_hip_counts_the_amd_gpus_that_rocr_leaves(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write(machine / "drm" / f"card{number}" / "device" / "mem_info_vram_total", f"{(number + 4) * GIB}\n")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2,1")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")

    assert machine_memory().vram_bytes == 6 * GIB


@pytest.mark.parametrize(("hip", "gib"), [("", 5), ("2", 6)])
def test_cudas_variable_hides_amd_gpus_unless_hips_is_set(
    machine: Path, monkeypatch: pytest.MonkeyPatch, hip: str, gib: int
) -> None:
    for number in range(3):
        write(machine / "drm" / f"card{number}" / "device" / "mem_info_vram_total", f"{(number + 4) * GIB}\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", hip)

    assert machine_memory().vram_bytes == gib * GIB


def test_gpus_of_two_vendors_are_added(machine: Path) -> None:
    install(machine, "echo '0, GPU-aa1, NVIDIA RTX 4060, 8192, 8000, [N/A]'")
    write(machine / "drm" / "card1" / "device" / "mem_info_vram_total", f"{16 * GIB}\n")

    assert machine_memory().vram_bytes == 24 * GIB


def test_a_memory_limit_set_for_apples_gpu_is_used(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    memory = type("Memory", (), {"total": 64 * GIB, "available": 40 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    install(machine, "echo 57344", "sysctl")

    found = machine_memory()

    assert (found.vram_bytes, found.vram_free_bytes, found.is_unified) == (56 * GIB, 40 * GIB, True)


@pytest.mark.parametrize(("ram_gib", "gpu_gib"), [(48, 36), (24, 16)])
def test_apples_gpu_gets_a_part_of_the_unified_memory(
    machine: Path, monkeypatch: pytest.MonkeyPatch, ram_gib: int, gpu_gib: int
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: type("Memory", (), {"total": ram_gib * GIB, "available": GIB})
    )

    assert machine_memory().vram_bytes == gpu_gib * GIB
