"""Which files of this machine may hold tensors of a variant, and how much of it that comes to at most, before a byte is fetched.

The files in the repository's own folder are found by looking; the registered ones elsewhere by the model's name, since what
their headers say is compared once the wanted file's is there. For an estimate the Hub is asked for the ends of headers only.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import read_tensors, tensors_in_tail
from gglib_nb.domain.gguf_reuse import ReuseLimits, find_candidates, gain_bytes
from gglib_nb.domain.gguf_tensors import Tensor
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.model import Model
from gglib_nb.domain.places import target_path
from gglib_nb.domain.variants import Variant
from gglib_nb.engine.storage.donors import DonorFile, find_donors
from gglib_nb.errors import GgufError, HubError, InvalidConfigError, RequestError, TransferError
from gglib_nb.manager.model_headers import RangeReader
from gglib_nb.manager.thread_pool import DaemonThreadPool

_KIB: Final = 1024
# A shard but the first has its whole header in this; of others the description of the tensors is read, which some
# thousand bytes before and behind the place it has in a file that is here.
_BEGIN_BYTES: Final = 64 * _KIB
_BEFORE_BYTES: Final = 8 * _KIB
_BEHIND_BYTES: Final = 64 * _KIB
_COUNT: Final = slice(8, 16)
# Each file costs two short requests; a repository with more of them is shown without the figure.
_MOST_FILES: Final = 64
_MOST_DONORS: Final = 32
_AT_ONCE: Final = 8
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
            models_directory: Where the repositories' folders stand.
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
        return find_donors(target, listing.repo_id, registered_donors(models, path), least_bytes, _NEVER)

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
