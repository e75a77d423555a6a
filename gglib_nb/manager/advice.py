"""The operations that look before anything is queued: what a repository offers and would cost, and which repositories there are.

Asks the Hub (a listing, and the first bytes of a GGUF header for each model), the disk and the machine.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.choosing import Choice, choose
from gglib_nb.domain.companions import COMPANION_KINDS, Companion
from gglib_nb.domain.download import PlannedFile, QueueSnapshot
from gglib_nb.domain.fit import MachineMemory, Placement, model_shape, place
from gglib_nb.domain.gguf import GgufHeader
from gglib_nb.domain.likely import likely_memory_bytes, likely_size_bytes
from gglib_nb.domain.listing import RepoListing, RepoSummary
from gglib_nb.domain.memory import CacheType, MemoryEstimate, estimate_memory
from gglib_nb.domain.model import Model
from gglib_nb.domain.plan import Fit, PlannedCompanion, RepoPlan, VariantPlan, fit_of
from gglib_nb.domain.references import check_repo_id
from gglib_nb.domain.variants import Variant, Variants, companion_for, variants_of
from gglib_nb.engine.local import present_bytes
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    CatalogError,
    GatedRepoError,
    GglibError,
    HubUnavailableError,
    IncompleteShardSetError,
    NoGgufFilesError,
    RequestError,
)
from gglib_nb.manager.headers import ModelWords, RangeReader, ReuseEstimator, model_of, read_headers
from gglib_nb.manager.machine import DiskSpace, bytes_to_write, disk_space_at, files_of, machine_memory, queued_files
from gglib_nb.manager.parts import Operations, operation
from gglib_nb.manager.resolving import Hub, shard_files


class AdviceOperations(Operations):
    """What can be asked before something is queued."""

    @operation
    def plan(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        context: int | None = None,
        cache_type: CacheType = "f16",
    ) -> RepoPlan:
        """What a repository offers and what each choice would cost; queues nothing.

        Args:
            repo_id: `owner/name`.
            quantization: Only this variant; None shows them all.
            revision: Branch, tag or commit; None is the default branch.
            context: Tokens for which memory is estimated; None is 8192.
            cache_type: How llama.cpp stores keys and values: `f16`, `q8_0` or `q4_0`.

        Raises:
            RequestError: The quantization names no variant, or several; or the context is not a positive whole number.
            HubError: The Hub's answer is no, or there is none.
        """
        if context is not None and (type(context) is not int or context < 1):
            raise RequestError(f"context is {context!r}; it must be a whole number of tokens, 1 or more.")

        def plan() -> RepoPlan:
            with pointing_to_children(parts.hub, repo_id):
                return self._planner.plan(repo_id, quantization, revision, context, parts.queue.snapshot, cache_type)

        parts = self._parts
        found = parts.at_hub(plan)
        limit_bytes = parts.config.storage_limit_bytes
        left_bytes = None if limit_bytes is None else limit_bytes - parts.storage_use_bytes()
        return replace(
            found,
            page_url=f"{parts.hub.endpoint}/{found.repo_id}",
            storage_limit_bytes=limit_bytes,
            storage_left_bytes=left_bytes,
        )

    @operation
    def search(
        self,
        words: str = "",
        *,
        max_parameters: int | None = None,
        licence: str | None = None,
        task: str | None = None,
        sort: str = "downloads",
        limit: int = 20,
    ) -> list[RepoSummary]:
        """The Hub's repositories with GGUF files that match the words, highest or newest first.

        With each, whether it likely fits this machine and whether a model of it is here. Arguments are those of
        `HubClient.search`.

        Raises:
            RequestError: There is no such order.
            HubError: The Hub's answer is no, or there is none.
        """
        parts = self._parts
        found = parts.at_hub(
            parts.hub.search, words, max_parameters=max_parameters, licence=licence, task=task, sort=sort, limit=limit
        )
        here = frozenset(model.id.repo_id.casefold() for model in self._registered())
        return judged(found, self._planner.memory, here, parts.hub.endpoint)

    @cached_property
    def _planner(self) -> "Planner":
        parts = self._parts
        return Planner(parts.hub, parts.config.models_directory, machine_memory, present_bytes, self._registered)

    def _registered(self) -> list[Model]:
        """The registered models; none where the database cannot be read, because advice needs no database."""
        with suppress(CatalogError):
            return self._parts.catalog.models()
        return []


DEFAULT_CONTEXT_TOKENS: Final = 8192
_NO_FINDING: Final = frozenset({"safe", "unscanned", "queued", "scanning", "pending"})


class ReadingHub(Hub, RangeReader, Protocol):
    """The part of the hub client that a plan uses."""

    def scan_states(self, repo_id: str, commit_sha: str, paths: Iterable[str]) -> Mapping[str, str]:
        """What the Hub's security scan says of files, by path."""


class Planner:
    """Finds the numbers of a plan."""

    def __init__(
        self,
        hub: ReadingHub,
        models_directory: Path,
        memory: Callable[[], MachineMemory],
        present_bytes: Callable[[Sequence[PlannedFile], str], int],
        models: Callable[[], Sequence[Model]] = tuple,
    ) -> None:
        """Nothing is asked yet.

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
        context = DEFAULT_CONTEXT_TOKENS if context_tokens is None else context_tokens
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
            unsafe_files=self._unsafe_files(listing, shown) if gate is None else (),
        )

    @cached_property
    def memory(self) -> MachineMemory:
        """What this machine has; asked for once, which takes its time."""
        return self._memory()

    def _unsafe_files(self, listing: RepoListing, variants: Iterable[Variant]) -> tuple[tuple[str, str], ...]:
        """What the Hub's scan warns of; a mirror without a scan says nothing."""
        paths = [path for variant in variants for path in variant.files]
        try:
            states = self._hub.scan_states(listing.repo_id, listing.commit_sha, paths)
        except GglibError:
            return ()
        return tuple((path, state) for path, state in states.items() if state not in _NO_FINDING)

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
    headers: Mapping[ModelWords, GgufHeader]
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


_MOST_CHILDREN: Final = 5


class SearchingHub(Protocol):
    """The part of the hub client that a search uses."""

    def search(self, words: str = "", *, quantized_from: str | None = None, limit: int = 20) -> list[RepoSummary]:
        """Repositories with GGUF files."""


def judged(
    found: Iterable[RepoSummary], memory: MachineMemory, repos_here: frozenset[str], endpoint: str
) -> list[RepoSummary]:
    """The same rows, with how large the recommended variant likely is, whether it fits, and whether it is here."""
    return [
        replace(
            row,
            likely_size_bytes=likely_size_bytes(row.parameter_count),
            fit=_fit(row.parameter_count, memory),
            is_here=row.repo_id.casefold() in repos_here,
            page_url=f"{endpoint}/{row.repo_id}",
        )
        for row in found
    ]


def _fit(parameter_count: int | None, memory: MachineMemory) -> Fit:
    """In the best place: what fits the GPU fits; else what the machine's memory says."""
    needed = likely_memory_bytes(parameter_count)
    in_gpu = fit_of(needed, memory.vram_bytes)
    return in_gpu if in_gpu in ("fits", "tight") else fit_of(needed, memory.ram_bytes)


@contextmanager
def pointing_to_children(hub: SearchingHub, repo_id: str) -> Iterator[None]:
    """Where a repository has no GGUF files, names those that were made of it.

    Raises:
        NoGgufFilesError: As the block raised it, or with `alternatives`.
    """
    try:
        yield
    except NoGgufFilesError:
        children: list[RepoSummary] = []
        # Where the hub has no such search, the first error says enough.
        with suppress(GglibError):
            children = hub.search(quantized_from=repo_id, limit=_MOST_CHILDREN)
        if not children:
            raise
        names = tuple(row.repo_id for row in children)
        raise NoGgufFilesError(
            f"{repo_id} has no GGUF files. GGUF versions of it, most used first: {', '.join(names)}. "
            f"Download one: %gguf queue {names[0]}",
            alternatives=names,
        ) from None
