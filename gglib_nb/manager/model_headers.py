"""The GGUF headers of a repository's models, read from the Hub with as few bytes and requests as will do.

The quantizations of one model differ in their weights only, so one header stands for all of them.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import GgufHeader, read_header
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.memory import estimate_memory
from gglib_nb.domain.variants import Variant
from gglib_nb.errors import GgufError, HubError, InvalidConfigError, TransferError
from gglib_nb.manager.thread_pool import DaemonThreadPool

Model = tuple[str, ...]
"""What the variants of one model have in common: the words of their folders and names without the label."""

_KIB: Final = 1024
_MIB: Final = 1024**2
# How much is read of a header and how much at once. Converters write what the estimate needs in the first kilobytes,
# before the vocabulary. mlx writes its keys in no order; then the vocabulary (up to some 16 MB) is read first.
_LOOKS: Final = ((256 * _KIB, 256 * _KIB), (32 * _MIB, 2 * _MIB))
# Repositories with more models are rare, and each further one costs two requests.
_MOST_MODELS: Final = 8
_AT_ONCE: Final = 4


class RangeReader(Protocol):
    """What is asked of a hub."""

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """A part of a file."""


def model_of(variant: Variant) -> Model:
    """Which model a variant is a quantization of."""
    return parse_path(variant.files[0]).model


def read_headers(hub: RangeReader, listing: RepoListing, variants: Iterable[Variant]) -> Mapping[Model, GgufHeader]:
    """The header of every model among the variants, of eight at most; those that cannot be read are left out.

    Whether a program can load such a file is not ours to say, and a plan is worth having without an estimate.
    """
    chosen = {model_of(variant): variant for variant in sorted(variants, key=_readability)}
    models = list(chosen)[:_MOST_MODELS]
    workers = DaemonThreadPool("gglib-header", _AT_ONCE)
    try:
        answers = [workers.submit(partial(_header, hub, listing, chosen[model])) for model in models]
        found = dict(zip(models, [answer.result() for answer in answers], strict=True))
    finally:
        workers.close()
    return {model: header for model, header in found.items() if header is not None}


def _readability(variant: Variant) -> tuple[bool, bool, int]:
    """The best comes last: whole, for this machine's byte order, small."""
    return variant.is_complete, not variant.is_big_endian, -(variant.size_bytes or 0)


def _header(hub: RangeReader, listing: RepoListing, variant: Variant) -> GgufHeader | None:
    path, size_bytes = variant.files[0], variant.sizes[0]
    if size_bytes is None:
        return None

    def read(offset: int, length: int) -> bytes:
        return hub.read_range(listing.repo_id, listing.commit_sha, path, offset, length)

    header: GgufHeader | None = None
    with suppress(GgufError, HubError, TransferError, InvalidConfigError):
        for limit_bytes, window_bytes in _LOOKS:
            header = read_header(read, size_bytes, limit_bytes=limit_bytes, window_bytes=window_bytes)
            if header.is_whole or _tells_enough(header):
                break
    return header


def _tells_enough(header: GgufHeader) -> bool:
    return estimate_memory(header, 0, 1).kv_cache_bytes is not None
