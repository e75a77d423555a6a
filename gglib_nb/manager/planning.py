"""`plan`: what a repository offers and what each choice would cost, without queueing anything.

Asks the Hub (a listing, and the first bytes of a GGUF header for each model), the disk and the machine. Runs on a
worker thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.choosing import Choice, choose
from gglib_nb.domain.companions import COMPANION_KINDS, Companion
from gglib_nb.domain.download import PlannedFile, QueueSnapshot
from gglib_nb.domain.fit import MachineMemory, Placement, model_shape, place
from gglib_nb.domain.gguf import GgufHeader
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.memory import CacheType, MemoryEstimate, estimate_memory
from gglib_nb.domain.model import Model as RegisteredModel
from gglib_nb.domain.plan import PlannedCompanion, RepoPlan, VariantPlan
from gglib_nb.domain.references import check_repo_id
from gglib_nb.domain.variants import Variant, Variants, companion_for, variants_of
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    GatedRepoError,
    HubUnavailableError,
    IncompleteShardSetError,
    NoGgufFilesError,
)
from gglib_nb.manager.disk_space import DiskSpace, bytes_to_write, disk_space_at, files_of, queued_files
from gglib_nb.manager.donors import ReuseEstimator
from gglib_nb.manager.model_headers import Model, RangeReader, model_of, read_headers
from gglib_nb.manager.resolving import Hub, shard_files

DEFAULT_CONTEXT_TOKENS: Final = 8192


class ReadingHub(Hub, RangeReader, Protocol):
    """What is asked of a hub: listings, access, and parts of files."""


class Planner:
    """Finds the numbers of a plan."""

    def __init__(
        self,
        hub: ReadingHub,
        models_directory: Path,
        memory: Callable[[], MachineMemory],
        present_bytes: Callable[[Sequence[PlannedFile], str], int],
        models: Callable[[], Sequence[RegisteredModel]] = tuple,
    ) -> None:
        """Remembers whom to ask.

        Args:
            hub: The hub.
            models_directory: Where downloads go.
            memory: Asks the machine, at the first plan; takes its time.
            present_bytes: How much of these files of a commit is on the disk, finished or partial.
            models: The registered models, whose tensors a variant may have too.
        """
        self._hub: Final = hub
        self._models_directory: Final = models_directory
        self._memory: Final = memory
        self._present_bytes: Final = present_bytes
        self._models: Final = models
        self._estimator: Final = ReuseEstimator(hub, models_directory)

    def plan(
        self,
        repo_id: str,
        quantization: str | None,
        revision: str | None,
        context_tokens: int | None,
        snapshot: QueueSnapshot,
        cache_type: CacheType = "f16",
    ) -> RepoPlan:
        """The plan of a repository; of one variant where a quantization is given.

        Raises:
            RequestError: The quantization names no variant, several, or an incomplete one; or there is no model.
            HubError: The Hub's answer is no, or there is none.
        """
        check_repo_id(repo_id)
        listing = self._hub.list_files(repo_id, revision)
        variants = variants_of((file.path, file.size_bytes) for file in listing.files)
        choice, undecided = _choice(listing, variants, quantization, self.memory.ram_bytes)
        shown = variants.offered if quantization is None or choice is None else (choice.variant,)
        gate = self._gate(listing)
        headers = read_headers(self._hub, listing, shown) if gate is None else {}
        reusable = self._estimator.reusable_bytes(listing, shown, self._models()) if gate is None else {}
        context = context_tokens or DEFAULT_CONTEXT_TOKENS
        machine = self._memory()  # what is free changes
        disk = disk_space_at(self._models_directory.joinpath(*listing.repo_id.split("/")))
        queued_bytes = bytes_to_write(queued_files(snapshot, self._models_directory, disk.device))
        view = _View(
            listing=listing,
            variants=variants,
            choice=choice,
            headers=headers,
            reusable_bytes=reusable,
            context_tokens=context,
            cache_type=cache_type,
            machine=machine,
            disk=disk,
            queued_bytes=queued_bytes,
            queued_keys=_queued_keys(listing, snapshot),
            models_directory=self._models_directory,
            present_bytes=self._present_bytes,
        )
        return RepoPlan(
            repo_id=listing.repo_id,
            revision=revision,
            commit_sha=listing.commit_sha,
            gate=listing.gate,
            has_access=gate is None,
            accept_url=gate.accept_url if gate is not None else None,
            is_private=listing.is_private,
            variants=tuple(sorted(map(view.row, shown), key=lambda plan: (plan.size_bytes or 0, plan.key))),
            companions=tuple(map(_planned, variants.companions)),
            context_tokens=context if headers else None,
            models_directory=str(self._models_directory),
            free_bytes=disk.free_bytes,
            queued_bytes=queued_bytes,
            machine=machine,
            refusal=str(gate) if gate is not None else "",
            undecided=undecided,
        )

    @cached_property
    def memory(self) -> MachineMemory:
        """What this machine has; asked for once, which takes its time."""
        return self._memory()

    def _gate(self, listing: RepoListing) -> GatedRepoError | None:
        try:
            self._hub.check_access(listing)
        except GatedRepoError as error:
            return error
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """Everything that was found out; makes the rows of it."""

    listing: RepoListing
    variants: Variants
    choice: Choice | None
    headers: Mapping[Model, GgufHeader]
    reusable_bytes: Mapping[str, int]
    context_tokens: int
    cache_type: CacheType
    machine: MachineMemory
    disk: DiskSpace
    queued_bytes: int
    queued_keys: frozenset[str]
    models_directory: Path
    present_bytes: Callable[[Sequence[PlannedFile], str], int]

    def row(self, variant: Variant) -> VariantPlan:
        """What one variant would cost."""
        files = files_of(self.models_directory, self.listing.repo_id, zip(variant.files, variant.sizes, strict=True))
        companions = self._companions(variant)
        is_queued = variant.key in self.queued_keys
        is_chosen = self.choice is not None and variant is self.choice.variant
        return VariantPlan(
            key=variant.key,
            label=variant.quantization,
            size_bytes=variant.size_bytes,
            shard_count=variant.shards_expected,
            bits_per_weight=variant.quantization.bits_per_weight if variant.quantization else None,
            present_bytes=self._present(variant),
            free_bytes_after=self._free_after(variant, 0 if is_queued else bytes_to_write(files)),
            memory=self._memory(variant),
            placement=self._placement(variant),
            placement_with_projector=next(
                (self._placement(variant, one.size_bytes or 0) for one in companions if one.kind == "mmproj"), None
            ),
            name=variant.name,
            missing=variant.missing,
            is_queued=is_queued,
            is_recommended=is_chosen,
            why=self.choice.why if self.choice is not None and is_chosen else "",
            companions=companions,
            reusable_bytes=self.reusable_bytes.get(variant.key),
        )

    def _present(self, variant: Variant) -> int:
        try:
            files = shard_files(self.models_directory, self.listing, variant)
        except HubUnavailableError:  # parts of unknown length: nothing of them can be there
            return 0
        return self.present_bytes(files, self.listing.commit_sha)

    def _free_after(self, variant: Variant, own_bytes: int) -> int | None:
        """Free once all that is queued and this are there; what is queued itself is counted already."""
        if self.disk.free_bytes is None or variant.size_bytes is None:
            return None
        return self.disk.free_bytes - self.queued_bytes - own_bytes

    def _memory(self, variant: Variant) -> MemoryEstimate | None:
        header = self.headers.get(model_of(variant))
        if header is None or variant.size_bytes is None:
            return None
        return estimate_memory(header, variant.size_bytes, self.context_tokens, cache_type=self.cache_type)

    def _placement(self, variant: Variant, beside_bytes: int = 0) -> Placement:
        header = self.headers.get(model_of(variant))
        shape = None
        if header is not None and variant.size_bytes is not None:
            shape = model_shape(header, variant.size_bytes, beside_bytes)
        return place(shape, self.machine, self.context_tokens, self.cache_type)

    def _companions(self, variant: Variant) -> tuple[PlannedCompanion, ...]:
        found = (companion_for(self.variants, variant, kind) for kind in COMPANION_KINDS)
        return tuple(_planned(companion) for companion in found if companion is not None)


def _choice(
    listing: RepoListing, variants: Variants, quantization: str | None, ram_bytes: int
) -> tuple[Choice | None, str]:
    """What the rule takes; None, and why, where nothing was asked for and the rule takes nothing."""
    try:
        return choose(variants, quantization, ram_bytes, repository=listing.repo_id), ""
    except (AmbiguousQuantizationError, IncompleteShardSetError, NoGgufFilesError) as error:
        if quantization is not None or not variants.offered:
            raise
        return None, str(error)


def _queued_keys(listing: RepoListing, snapshot: QueueSnapshot) -> frozenset[str]:
    """The variants of this commit that are in the queue, under whatever revision they were asked for."""
    here = (listing.repo_id, listing.commit_sha)
    return frozenset(item.id.quantization or "" for item in snapshot.items if (item.repo_id, item.commit_sha) == here)


def _planned(companion: Companion) -> PlannedCompanion:
    return PlannedCompanion(companion.path, companion.kind, companion.size_bytes, companion.kind in COMPANION_KINDS)
