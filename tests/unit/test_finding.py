"""Search results rated for a machine: the likely size, and whether it fits."""

import pytest

from gglib_nb.domain.fit import Gpu, MachineMemory
from gglib_nb.domain.plan import RepoSummary, with_likely_fit

GIB = 1024**3


def found(parameter_count):
    return RepoSummary("Owner/Model-GGUF", 1, 1, parameter_count, "llama", None, None)


@pytest.mark.parametrize(
    ("parameters", "ram_gib", "gpu_gib", "fit"),
    [
        (8_030_261_248, 16, None, "ram"),
        (8_030_261_248, 7, None, "too_large"),  # the rest of the machine needs 2 GiB
        (8_030_261_248, 4, None, "too_large"),
        (8_030_261_248, 4, 8, "gpu"),
        (8_030_261_248, 16, 4, "ram"),
        (32_763_876_352, 13, 15, "gpu_partly"),
        (32_763_876_352, 13, 8, "too_large"),
        (None, 16, None, "unknown"),
    ],
)
def test_a_search_result_fits_the_best_memory_that_has_room(parameters, ram_gib, gpu_gib, fit):
    memory = MachineMemory(ram_gib * GIB, (Gpu("GPU", gpu_gib * GIB),) if gpu_gib else ())

    row = with_likely_fit(found(parameters), memory)

    assert row.fit == fit


def test_the_likely_size_is_that_of_the_preferred_variant():
    row = with_likely_fit(found(8_030_261_248), MachineMemory(16 * GIB))

    assert row.likely_size_bytes == pytest.approx(4.92e9, rel=0.02)
