"""`plan`: what a repository offers and what each choice would cost, without queueing anything.

Asks the Hub (a listing, and the first bytes of a GGUF header for each model), the disk and the machine. Runs on a
worker thread.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.choosing import Choice, choose
from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import GgufHeader, read_header
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.memory import MemoryEstimate, estimate_memory
from gglib_nb.domain.places import target_path
from gglib_nb.domain.plan import PlannedCompanion, RepoPlan, VariantPlan, fit_of
from gglib_nb.domain.references import DownloadId, check_repo_id
from gglib_nb.domain.variants import Variant, Variants, variants_of
from gglib_nb.errors import AmbiguousQuantizationError, GatedRepoError, GgufError
from gglib_nb.manager.machine_memory import MachineMemory
from gglib_nb.manager.resolving import COMPANION_KINDS, Hub

_HEADER_BYTES: Final = 2 * 1024**2
"""What is read of a header at most: all that the estimate needs stands before the vocabulary."""
_HEADER_WINDOW_BYTES: Final = 256 * 1024
_MOST_HEADERS: Final = 4
"""Repositories with more than one model are rare, and each further model costs a request."""
DEFAULT_CONTEXT_TOKENS: Final = 8192


class ReadingHub(Hub, Protocol):
    """What is asked of a hub beyond its listing."""

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """A part of a file."""


class Planner:
    """Finds the numbers of a plan."""

    def __init__(
        self,
        hub: ReadingHub,
        models_directory: Path,
        memory: Callable[[], MachineMemory],
        present_bytes: Callable[[Path, int], int],
    ) -> None:
        """Remembers whom to ask.

        Args:
            hub: The hub.
            models_directory: Where downloads go.
            memory: Asks the machine; takes its time.
            present_bytes: How much of a file of that many bytes is on the disk, finished or partial.
        """
        self._hub: Final = hub
        self._models_directory: Final = models_directory
        self._memory: Final = memory
        self._present_bytes: Final = present_bytes

    def plan(
        self,
        repo_id: str,
        quantization: str | None,
        revision: str | None,
        context_tokens: int | None,
        snapshot: QueueSnapshot,
    ) -> RepoPlan:
        """The plan of a repository; of one variant where a quantization is given.

        Raises:
            RequestError: The quantization names no variant, or several.
            HubError: The Hub's answer is no, or there is none.
        """
        check_repo_id(repo_id)
        listing = self._hub.list_files(repo_id, revision)
        variants = variants_of((file.path, file.size_bytes) for file in listing.files)
        machine = self._memory()
        choice = _choice(variants, quantization, machine.ram_bytes)
        shown = variants.variants if quantization is None or choice is None else (choice.variant,)
        gate = self._gate(listing)
        context = context_tokens or DEFAULT_CONTEXT_TOKENS
        headers = self._headers(listing, shown) if gate is None else {}
        free_bytes, queued_bytes = self._free_bytes(), _queued_bytes(snapshot)
        queued = {item.id for item in snapshot.items}

        def row(variant: Variant) -> VariantPlan:
            present = self._present(listing.repo_id, variant)
            to_go = None if variant.size_bytes is None else max(0, variant.size_bytes - present)
            need = _need(variant, headers.get(_model_of(variant)), context)
            is_chosen = choice is not None and variant is choice.variant
            return VariantPlan(
                key=variant.key,
                label=variant.quantization,
                size_bytes=variant.size_bytes,
                shard_count=variant.shards_expected,
                bits_per_weight=variant.quantization.bits_per_weight if variant.quantization else None,
                present_bytes=present,
                free_bytes_after=None if None in (free_bytes, to_go) else free_bytes - queued_bytes - to_go,  # type: ignore[operator]
                memory=need,
                ram_fit=fit_of(need.total_bytes if need else None, machine.ram_bytes),
                vram_fit=fit_of(need.total_bytes if need else None, machine.vram_bytes),
                missing=variant.missing,
                is_queued=DownloadId(listing.repo_id, variant.key, revision) in queued,
                is_recommended=is_chosen,
                why=choice.why if choice is not None and is_chosen else "",
            )

        return RepoPlan(
            repo_id=listing.repo_id,
            revision=revision,
            commit_sha=listing.commit_sha,
            gate=listing.gate,
            has_access=gate is None,
            accept_url=gate.accept_url if gate is not None else None,
            is_private=listing.is_private,
            variants=tuple(sorted(map(row, shown), key=lambda plan: (plan.size_bytes or 0, plan.key))),
            companions=_companions(variants),
            context_tokens=context if headers else None,
            models_directory=str(self._models_directory),
            free_bytes=free_bytes,
            queued_bytes=queued_bytes,
            ram_bytes=machine.ram_bytes,
            vram_bytes=machine.vram_bytes,
        )

    def _gate(self, listing: RepoListing) -> GatedRepoError | None:
        try:
            self._hub.check_access(listing)
        except GatedRepoError as error:
            return error
        return None

    def _headers(self, listing: RepoListing, variants: Iterable[Variant]) -> dict[object, GgufHeader]:
        """One header a model: its quantizations differ in the weights only."""
        smallest = {_model_of(variant): variant for variant in sorted(variants, key=lambda v: -(v.size_bytes or 0))}
        headers = {}
        for model, variant in list(smallest.items())[:_MOST_HEADERS]:
            if (header := self._header(listing, variant)) is not None:
                headers[model] = header
        return headers

    def _header(self, listing: RepoListing, variant: Variant) -> GgufHeader | None:
        path, size = variant.files[0], variant.sizes[0]

        def read(offset: int, length: int) -> bytes:
            return self._hub.read_range(listing.repo_id, listing.commit_sha, path, offset, length)

        if size is None:
            return None
        try:
            return read_header(read, size, limit_bytes=_HEADER_BYTES, window_bytes=_HEADER_WINDOW_BYTES)
        except GgufError:
            return None  # the plan goes without an estimate; whether a program can load it is not ours to say

    def _present(self, repo_id: str, variant: Variant) -> int:
        if variant.split == "bytes":
            whole = "/".join(filter(None, (variant.folder, f"{variant.stem}.gguf")))
            return self._present_bytes(target_path(self._models_directory, repo_id, whole), variant.size_bytes or 0)
        pairs = zip(variant.files, variant.sizes, strict=True)
        return sum(
            self._present_bytes(target_path(self._models_directory, repo_id, path), size or 0) for path, size in pairs
        )

    def _free_bytes(self) -> int | None:
        """Free on the filesystem of the models folder, also before that folder exists."""
        folders = (self._models_directory, *self._models_directory.parents)
        try:
            return shutil.disk_usage(next(folder for folder in folders if folder.exists())).free
        except (OSError, StopIteration):
            return None


def _choice(variants: Variants, quantization: str | None, ram_bytes: int) -> Choice | None:
    """What the rule takes; None where nothing was asked for and no rule decides."""
    try:
        return choose(variants, quantization, ram_bytes)
    except AmbiguousQuantizationError:
        if quantization is not None:
            raise
        return None


def _model_of(variant: Variant) -> object:
    """What the variants of one model have in common."""
    return parse_path(variant.files[0]).base_words


def _need(variant: Variant, header: GgufHeader | None, context_tokens: int) -> MemoryEstimate | None:
    if header is None or variant.size_bytes is None:
        return None
    return estimate_memory(header, variant.size_bytes, context_tokens)


def _queued_bytes(snapshot: QueueSnapshot) -> int:
    """What the queue has still to write; where a size is unknown it does not count."""
    return sum(max(0, (item.total_bytes or 0) - item.downloaded_bytes) for item in snapshot.items)


def _companions(variants: Variants) -> tuple[PlannedCompanion, ...]:
    return tuple(
        PlannedCompanion(one.path, one.kind, one.size_bytes, one.kind in COMPANION_KINDS) for one in variants.companions
    )
