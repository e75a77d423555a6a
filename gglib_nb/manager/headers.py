"""GGUF headers of a repository, read from the Hub with as few bytes and requests as will do, and what they tell.

The quantizations of one model differ in their weights only, so one header is enough for all of them. What of a variant could be
copied from files of this machine is estimated from the ends of headers: files in the repository's own folder are found by
looking, registered ones elsewhere by the model's name, since what their headers say is compared later.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import GgufHeader, read_header, read_tensors, tensors_in_tail
from gglib_nb.domain.gguf_reuse import ReuseLimits, find_candidates, gain_bytes
from gglib_nb.domain.gguf_tensors import Tensor
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.memory import estimate_memory
from gglib_nb.domain.model import Model
from gglib_nb.domain.places import target_path
from gglib_nb.domain.variants import Variant
from gglib_nb.engine.reuse import DonorFile, DonorSearch, find_donors
from gglib_nb.errors import GgufError, HubError, InvalidConfigError, RequestError, TransferError
from gglib_nb.manager.calls import DaemonThreadPool

ModelWords = tuple[str, ...]
"""What the variants of one model have in common: the words of their folders and names without the label."""

_KIB: Final = 1024
_MIB: Final = 1024**2
# How much is read of a header and how much at once. Converters write what the estimate needs in the first kilobytes,
# before the vocabulary. mlx writes its keys in no order; then the vocabulary (up to some 16 MB) is read first.
_LOOKS: Final = ((256 * _KIB, 256 * _KIB), (32 * _MIB, 2 * _MIB))
# Repositories with more models are rare, and each further one costs two requests.
_MOST_MODELS: Final = 8
_AT_ONCE: Final = 8


class RangeReader(Protocol):
    """The part of the hub client that reads files."""

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """A part of a file."""


def model_of(variant: Variant) -> ModelWords:
    """Which model a variant is a quantization of."""
    return parse_path(variant.files[0]).model


def read_headers(
    hub: RangeReader, listing: RepoListing, variants: Iterable[Variant]
) -> Mapping[ModelWords, GgufHeader]:
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


# A shard but the first has its whole header in this; of others the description of the tensors is read, which some
# thousand bytes before and behind the place it has in a file that is here.
_BEGIN_BYTES: Final = 64 * _KIB
_BEFORE_BYTES: Final = 8 * _KIB
_BEHIND_BYTES: Final = 64 * _KIB
_COUNT: Final = slice(8, 16)
# Each file costs two short requests; a repository with more of them is shown without the figure.
_MOST_FILES: Final = 64
_MOST_DONORS: Final = 32
_NEVER: Final = threading.Event()


def registered_donors(models: Iterable[Model], wanted_path: str) -> tuple[str, ...]:
    """Paths of registered files that may be the same model as a file of a repository, by their names; the newest first.

    One name may have more in front than the other, as `Qwen_Qwen3-8B` has and `Qwen3-8B` has not.
    """
    wanted = parse_path(wanted_path).base_words
    files = (file for model in models for file in model.shards if file.size_bytes)
    found = [file.target for file in files if _ends_alike(parse_path(Path(file.path_in_repo).name).base_words, wanted)]
    return tuple(dict.fromkeys(found))[:_MOST_DONORS]


class ReuseEstimator:
    """Says how much of a repository's variants may be here, at most."""

    def __init__(self, hub: RangeReader, models_directory: Path, limits: ReuseLimits | None = None) -> None:
        """Nothing is asked yet.

        Args:
            hub: Where headers are read.
            models_directory: Where the repositories' folders are.
            limits: What is worth it; None: what the engine goes by.
        """
        self._hub: Final = hub
        self._models_directory: Final = models_directory
        self._limits: Final = limits or ReuseLimits()

    def reusable_bytes(
        self, listing: RepoListing, variants: Sequence[Variant], models: Iterable[Model]
    ) -> Mapping[str, int]:
        """How many bytes of each variant need not be fetched if all that looks the same is; by the variants' keys.

        Variants of which that is not known are left out. Without a file that could give something nothing is asked.
        """
        chosen = [one for one in variants if one.is_complete and one.split != "bytes"]
        if not chosen or sum(len(one.files) for one in chosen) > _MOST_FILES:
            return {}
        donors = self._donors(listing, chosen[0], models)
        if not donors:
            return {}
        workers = DaemonThreadPool("gglib-reuse", _AT_ONCE)
        try:
            answers = {
                one.key: [
                    workers.submit(partial(self._gain, listing, path, size_bytes, donors))
                    for path, size_bytes in zip(one.files, one.sizes, strict=True)
                ]
                for one in chosen
            }
            gains = {key: [answer.result() for answer in files] for key, files in answers.items()}
        finally:
            workers.close()
        sums = {key: sum(gain or 0 for gain in files) for key, files in gains.items() if None not in files}
        return {key: gain if gain >= self._limits.least_gain_bytes else 0 for key, gain in sums.items()}

    def _donors(self, listing: RepoListing, variant: Variant, models: Iterable[Model]) -> tuple[DonorFile, ...]:
        path = variant.files[0]
        try:
            target = target_path(self._models_directory, listing.repo_id, path)
        except RequestError:
            return ()
        least_bytes = self._limits.least_gain_bytes
        others = tuple(registered_donors(models, path))
        return find_donors(DonorSearch(target, listing.repo_id, others, least_bytes, _NEVER))

    def _gain(self, listing: RepoListing, path: str, size_bytes: int | None, donors: Sequence[DonorFile]) -> int | None:
        """Of one file; None where its header could not be read."""
        if size_bytes is None:
            return None
        with suppress(GgufError, HubError, TransferError, InvalidConfigError):
            tensors = self._tensors(listing, path, size_bytes, donors)
            if tensors is not None:
                return gain_bytes(find_candidates(tensors, [donor.table.tensors for donor in donors]))
        return None

    def _tensors(
        self, listing: RepoListing, path: str, size_bytes: int, donors: Sequence[DonorFile]
    ) -> Sequence[Tensor] | None:
        read = partial(self._hub.read_range, listing.repo_id, listing.commit_sha, path)
        begin = read(0, _BEGIN_BYTES)
        with suppress(GgufError):
            return read_tensors(lambda offset, length: begin[offset : offset + length], size_bytes).tensors
        count = int.from_bytes(begin[_COUNT], "little")
        like = max(donors, key=lambda donor: donor.table.header.header_bytes or 0).table
        start = max(0, like.infos_start - _BEFORE_BYTES)
        tail = read(start, (like.header.header_bytes or 0) + _BEHIND_BYTES - start)
        return tensors_in_tail(tail, start, size_bytes, like, count)


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    length = min(len(one), len(other))
    return length > 0 and tuple(one[-length:]) == tuple(other[-length:])
