"""What a model that was only found by a search would likely take: from its number of parameters alone.

A guess that costs no request: of the recommended quantization (Q4_K_M), with room for a usual context. `plan` has the
numbers.
"""

from typing import Final

_BITS_PER_WEIGHT: Final = 4.85
"""What Q4_K_M takes of llama.cpp's models in the middle."""
_CONTEXT_BYTES: Final = 1536 * 1024**2
"""Cache and buffers of some thousand tokens."""


def likely_size_bytes(parameter_count: int | None) -> int | None:
    """How large its Q4_K_M is, about; None where its number of parameters is unknown."""
    return None if parameter_count is None else int(parameter_count * _BITS_PER_WEIGHT / 8)


def likely_memory_bytes(parameter_count: int | None) -> int | None:
    """What it takes when loaded, about; None as above."""
    size = likely_size_bytes(parameter_count)
    return None if size is None else size + _CONTEXT_BYTES
